//! What nearly every batch consists of, by one statement for each of the two kinds, which is a transaction of its own: messages to
//! conversations that nothing else in the batch touches, and watermarks that rise where nothing has to be looked up for them.
//!
//! Nothing is read first, so nothing can become untrue before it is written: a statement names what must be so, changes the rows
//! where it is, and tells which these were. It holds its lanes together with other such statements, so that these wait for one
//! another only where they write to the same conversation; a transaction that reads and decides (`commit.rs`) has its lanes alone.
//! All of them lock lanes first, in their order, and then rows in the order of the conversations.
//!
//! What does not fit is left to that transaction: a repeated request, a caller who is no member, several calls for one
//! conversation, a place in the middle of a log. So is a statement that failed, also one of which nobody knows whether it was
//! committed: requests are looked for there.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use flaghoist_runtime::fault::chain;
use flaghoist_runtime::names::{ConversationId, UserId};
use flaghoist_runtime::postgres::silent;
use sqlx::postgres::{PgBindIterExt as _, PgConnection};
use sqlx::{Error as SqlError, Row as _};

use super::commit::{ANSWER_MAX, LANE_LOCKS, lanes_of};
use super::rows::{self, Id, signed};
use super::{PostgresStore, closed, failed, sql};
use crate::error::Error;
use crate::event::{Action, Answer, Event, EventKind, Op, Watermark, Write, Written};
use crate::plan::RECEIPT_MEMBERS_MAX;

/// How many bytes of messages go into one statement: the server copies them a few times, in memory up to a point.
const BYTES_MAX: usize = 1 << 20;

/// A message with its place in the batch.
type Send<'o> = (usize, &'o Write, &'o Bytes);

/// A watermark with the place of its call in the batch.
type Raise = (usize, Watermark);

impl PostgresStore {
    /// Does the part of a batch that can be done so, and answers it; watermarks that rose are taken out of their calls. What is not
    /// answered, and calls that have watermarks left, are still to be done.
    pub(super) async fn commit_quickly(&self, ops: &mut [Op]) -> Vec<Option<Answer>> {
        let mut answers = vec![None; ops.len()];
        let (sends, raises) = quick(ops, self.epoch_now());
        for (place, written) in self.send_quickly(&sends).await {
            answers[place] = Some(Answer::Written(written));
        }
        for (place, raised) in self.raise_quickly(&raises).await {
            if let Op::Raise(wanted) = &mut ops[place]
                && let Answer::Raised(Ok(told)) = answers[place].get_or_insert(Answer::Raised(Ok(Vec::new())))
            {
                match raised {
                    Ok((watermark, members)) => {
                        let done = (watermark.conversation, watermark.member);
                        wanted.retain(|wanted| (wanted.conversation, wanted.member) != done);
                        // Of large groups nobody is told.
                        told.extend((members <= RECEIPT_MEMBERS_MAX).then_some(watermark));
                    }
                    Err(error) => {
                        wanted.clear();
                        answers[place] = Some(Answer::Raised(Err(error)));
                    }
                }
            }
        }
        answers
    }

    async fn send_quickly(&self, sends: &[Send<'_>]) -> Vec<(usize, Result<Written, Error>)> {
        if sends.is_empty() {
            return Vec::new();
        }
        let numbered = match self.at_once("sending messages", async |connection| send(connection, sends).await).await {
            Ok(numbered) => numbered,
            Err(error) => return sends.iter().map(|(place, ..)| (*place, Err(error.clone()))).collect(),
        };
        let sent = sends.iter().filter_map(|(place, write, body)| {
            let numbers = numbered.get(&write.conversation)?;
            let event = Event {
                conversation: write.conversation,
                seq: numbers.seq,
                message_no: numbers.message_no,
                kind: EventKind::MessageCreated,
                actor: write.actor,
                request_id: write.request_id.clone(),
                digest: write.digest,
                target_seq: 0,
                only_for: None,
                body: (*body).clone(),
                created_at: numbers.created_at,
                deleted_at: None,
            };
            let written = Written { event: Some(Arc::new(event)), deduplicated: false, added: vec![], removed: vec![] };
            Some((*place, Ok(written)))
        });
        sent.collect()
    }

    async fn raise_quickly(&self, raises: &[Raise]) -> Vec<(usize, Result<(Watermark, u32), Error>)> {
        if raises.is_empty() {
            return Vec::new();
        }
        let mut risen =
            match self.at_once("raising watermarks", async |connection| raise(connection, raises).await).await {
                Ok(risen) => risen,
                Err(error) => return raises.iter().map(|(place, _)| (*place, Err(error.clone()))).collect(),
            };
        let raised = raises.iter().filter_map(|(place, wanted)| {
            let (delivered_seq, read_seq, members) = risen.remove(&(wanted.conversation, wanted.member))?;
            Some((*place, Ok((Watermark { delivered_seq, read_seq, ..*wanted }, members))))
        });
        raised.collect()
    }

    /// Carries out a statement. Nothing was done, or it is not known, where it answers with an empty default; an error says
    /// that the server is not heard of.
    async fn at_once<T: Default>(
        &self,
        doing: &'static str,
        statement: impl AsyncFnOnce(&mut PgConnection) -> Result<T, SqlError>,
    ) -> Result<T, Error> {
        // Who cannot connect says so in `commit.rs`.
        let Ok(mut connection) = self.kept.connection().await else { return Ok(T::default()) };
        let Ok(done) = tokio::time::timeout(ANSWER_MAX, statement(&mut connection)).await else {
            return Err(failed(doing, &silent()));
        };
        match done {
            Ok(done) => {
                self.kept.keep(connection);
                Ok(done)
            }
            Err(error) => {
                if let SqlError::Database(told) = &error
                    && !closed(&error)
                {
                    self.kept.keep(connection);
                    // Where tables are distributed over several servers, these statements are not supported (0A000).
                    if told.code().is_some_and(|code| code == "0A000") {
                        self.quick.store(false, Ordering::Relaxed);
                    }
                }
                tracing::debug!(doing, error = %chain(&error), "left to a transaction that looks first");
                Ok(T::default())
            }
        }
    }
}

/// What of a batch can be done so: each message, and each person's watermark, in conversations that no other call concerns; in the
/// order of the conversations.
fn quick(ops: &[Op], epoch: u64) -> (Vec<Send<'_>>, Vec<Raise>) {
    let mut concerned: HashMap<ConversationId, Option<usize>> = HashMap::with_capacity(ops.len());
    let mut concern = |id: ConversationId, place: usize| {
        let only = concerned.entry(id).or_insert(Some(place));
        *only = only.filter(|only| *only == place);
    };
    for (place, op) in ops.iter().enumerate() {
        match op {
            Op::Write(write) => concern(write.conversation, place),
            Op::Raise(watermarks) => watermarks.iter().for_each(|wanted| concern(wanted.conversation, place)),
        }
    }
    let alone = |id: &ConversationId| concerned.get(id).is_some_and(Option::is_some);
    let (mut sends, mut raises, mut bytes) = (Vec::new(), Vec::new(), 0);
    for (place, op) in ops.iter().enumerate() {
        match op {
            Op::Write(write) => {
                if let Action::Send { body } = &write.action
                    && alone(&write.conversation)
                    && bytes + body.len() <= BYTES_MAX
                {
                    bytes += body.len();
                    sends.push((place, write, body));
                }
            }
            Op::Raise(watermarks) => {
                let current = watermarks.iter().filter(|wanted| wanted.epoch == epoch && alone(&wanted.conversation));
                raises.extend(current.map(|wanted| (place, *wanted)));
            }
        }
    }
    sends.sort_unstable_by_key(|(_, write, _)| write.conversation);
    let whose = |wanted: &Watermark| (wanted.conversation, wanted.member);
    raises.sort_unstable_by_key(|(_, wanted)| whose(wanted));
    // One call may say something twice about a person.
    raises.dedup_by(|later, first| {
        let same = whose(&later.1) == whose(&first.1);
        if same {
            first.1.delivered_seq = first.1.delivered_seq.max(later.1.delivered_seq);
            first.1.read_seq = first.1.read_seq.max(later.1.read_seq);
        }
        same
    });
    (sends, raises)
}

/// The place of a message in its log.
#[derive(Debug)]
struct Numbers {
    seq: u64,
    message_no: u64,
    created_at: i64,
}

async fn send(connection: &mut PgConnection, sends: &[Send<'_>]) -> Result<HashMap<ConversationId, Numbers>, SqlError> {
    let writes = || sends.iter().map(|(_, write, _)| *write);
    let sent = sqlx::query(sql::SEND)
        .bind(LANE_LOCKS)
        .bind(lanes_of(writes().map(|write| write.conversation)))
        .bind(writes().map(|write| Id::from(write.conversation)).bind_iter())
        .bind(writes().map(|write| Id::from(write.actor)).bind_iter())
        .bind(writes().map(|write| write.request_id.as_bytes()).bind_iter())
        .bind(writes().map(|write| write.digest.0).bind_iter())
        .bind(sends.iter().map(|(.., body)| &body[..]).bind_iter())
        .fetch_all(connection)
        .await?;
    let numbers = sent.iter().map(|row| {
        let numbers =
            Numbers { seq: rows::unsigned(row, 1)?, message_no: rows::unsigned(row, 2)?, created_at: row.try_get(3)? };
        Ok((rows::conversation(row, 0)?, numbers))
    });
    numbers.collect()
}

/// By whose they are, the watermarks that rose, as they are now, and how many members there are.
type Risen = HashMap<(ConversationId, UserId), (u64, u64, u32)>;

async fn raise(connection: &mut PgConnection, raises: &[Raise]) -> Result<Risen, SqlError> {
    let wanted = || raises.iter().map(|(_, wanted)| wanted);
    let risen = sqlx::query(sql::RAISE)
        .bind(LANE_LOCKS)
        .bind(lanes_of(wanted().map(|wanted| wanted.conversation)))
        .bind(wanted().map(|wanted| Id::from(wanted.conversation)).bind_iter())
        .bind(wanted().map(|wanted| Id::from(wanted.member)).bind_iter())
        .bind(wanted().map(|wanted| signed(wanted.delivered_seq)).bind_iter())
        .bind(wanted().map(|wanted| signed(wanted.read_seq)).bind_iter())
        .bind(i32::try_from(RECEIPT_MEMBERS_MAX).unwrap_or(i32::MAX))
        .fetch_all(connection)
        .await?;
    let risen = risen.iter().map(|row| {
        let whose = (rows::conversation(row, 0)?, rows::person(row, 1)?);
        let members: i32 = row.try_get(4)?;
        Ok((whose, (rows::unsigned(row, 2)?, rows::unsigned(row, 3)?, members.unsigned_abs())))
    });
    risen.collect()
}
