//! One batch: what it needs to know is gathered, it is decided, written in one transaction, and then shown to readers.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::SystemTime;

use flaghoist_runtime::sqlite::transient;
use flaghoist_runtime::time::millis;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqlitePool};
use sqlx::{Arguments as _, Connection as _, Sqlite};

use super::fold::{Backlog, Unfolded, settle};
use super::live::TailEvent;
use super::rows::{LOG, LOG_IF_NEW, MEMBERS, ROWS_MAX, hex, json, signed};
use super::{SqliteStore, failed};
use crate::conversation::Role;
use crate::error::Error;
use crate::event::{Action, Answer, Op};
use crate::plan::{self, Facts, NewEvent, Plan};

/// The largest batch that is committed by one statement. It costs a little more for each row, which the way to SQLite's thread that it
/// saves makes up for where there are few. (Tried without a bound: 28,000 sends a second instead of 31,500.)
const ALONE_MAX: usize = 64;

/// Conversation and request in 16 bytes.
pub(super) type RequestKey = [u8; 16];

/// What only the writer knows.
#[derive(Debug)]
pub(super) struct Writer {
    next_log_no: i64,
    next_conversation_no: i64,
    /// The time of the last batch: times do not run backwards in a log.
    pub(super) now: i64,
    /// The requests that the indexes do not know yet.
    pub(super) requests: HashMap<RequestKey, Vec<i64>>,
    backlog: Backlog,
    /// Kept from commit to commit.
    pub(super) connection: Option<PoolConnection<Sqlite>>,
}

pub(super) fn request_key(conversation_no: i64, hash: [u8; 8]) -> RequestKey {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&conversation_no.to_be_bytes());
    key[8..].copy_from_slice(&hash);
    key
}

impl Writer {
    /// Folds what is left from the process before.
    pub(super) async fn open(pool: &SqlitePool) -> Result<Self, sqlx::Error> {
        let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
        settle(&mut transaction).await?;
        let (last_log_no, last_conversation_no, now): (i64, i64, i64) = sqlx::query_as(
            "SELECT coalesce((SELECT max(no) FROM log), 0), coalesce((SELECT max(no) FROM conversations), 0),
                 coalesce((SELECT created_at FROM log ORDER BY no DESC LIMIT 1), 0)",
        )
        .fetch_one(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(Self {
            next_log_no: last_log_no + 1,
            next_conversation_no: last_conversation_no + 1,
            now,
            requests: HashMap::new(),
            backlog: Backlog::default(),
            connection: None,
        })
    }

    /// What a batch is decided from that needs no looking.
    fn facts(&self, epoch: u64, now: i64) -> Facts {
        let (next_log_no, next_conversation_no) = (self.next_log_no, self.next_conversation_no);
        Facts { epoch, now, next_log_no, next_conversation_no, ..Facts::default() }
    }
}

impl SqliteStore {
    pub(super) async fn commit_batch(&self, ops: &[Op]) -> Vec<Answer> {
        let mut writer = self.writer.lock().await;
        match self.try_commit(&mut writer, ops).await {
            Ok(answers) => answers,
            Err(error) if ops.len() > 1 && !transient(&error) => {
                // Something in the batch is not to SQLite's liking; it should not take the others with it.
                flaghoist_runtime::fault::log_chain("committing a batch, whose calls are now tried one by one", &error);
                let mut answers = Vec::with_capacity(ops.len());
                for op in ops {
                    let one = std::slice::from_ref(op);
                    match self.try_commit(&mut writer, one).await {
                        Ok(answered) => answers.extend(answered),
                        Err(error) => answers.extend(refuse(one, &failed("committing a call", &error))),
                    }
                }
                answers
            }
            Err(error) => refuse(ops, &failed("committing a batch", &error)),
        }
    }

    async fn try_commit(&self, writer: &mut Writer, ops: &[Op]) -> Result<Vec<Answer>, sqlx::Error> {
        // A connection that is given back is asked whether it lives, which is a way to its thread and back. One that failed is not
        // kept: the pool looks after it.
        let mut connection = match writer.connection.take() {
            Some(kept) => kept,
            None => self.database.writer.acquire().await?,
        };
        self.load_conversations(&mut connection, ops).await?;
        let now = millis(SystemTime::now()).max(writer.now);
        let fold_count = writer.backlog.due(now, ops.len());
        let answers = match self.append_only(&mut connection, writer, ops, now, fold_count).await? {
            Some(answers) => answers,
            None => self.commit_any(&mut connection, writer, ops, now, fold_count).await?,
        };
        writer.connection = Some(connection);
        Ok(answers)
    }

    /// Commits a batch that is most likely nothing but new messages by a single statement, which is one way to SQLite's thread and
    /// back instead of four: it appends all of them, or none if the indexes know one of the requests. `None` if it wrote nothing.
    async fn append_only(
        &self,
        connection: &mut SqliteConnection,
        writer: &mut Writer,
        ops: &[Op],
        now: i64,
        fold_count: usize,
    ) -> Result<Option<Vec<Answer>>, sqlx::Error> {
        if fold_count > 0 || ops.len() > ALONE_MAX || !self.look_new(writer, ops) {
            return Ok(None);
        }
        let plan = self.decide(ops, writer.facts(self.epoch, now));
        if plan.events.is_empty() || !only_appends(&plan) {
            return Ok(None);
        }
        let keys = keys(&plan);
        let values = log_values(&plan.events, &keys, writer.next_log_no)?;
        if LOG_IF_NEW.write(connection, plan.events.len(), values).await? == 0 {
            return Ok(None);
        }
        Ok(Some(self.show(writer, plan, &keys, now, 0)))
    }

    /// Whether all calls of a batch are messages whose requests are in nobody's memory.
    fn look_new(&self, writer: &Writer, ops: &[Op]) -> bool {
        let shared = self.live.read();
        ops.iter().all(|op| {
            let Op::Write(write) = op else { return false };
            let entry = shared.conversations.get(&write.conversation);
            matches!(write.action, Action::Send { .. })
                && entry.is_some_and(|entry| {
                    !writer.requests.contains_key(&request_key(entry.known.head.no, write.request_hash))
                })
        })
    }

    fn decide(&self, ops: &[Op], facts: Facts) -> Plan {
        let shared = self.live.read();
        plan::plan(ops, facts, self.limits, |id| shared.conversations.get(&id).map(|entry| &entry.known))
    }

    async fn commit_any(
        &self,
        connection: &mut SqliteConnection,
        writer: &mut Writer,
        ops: &[Op],
        now: i64,
        fold_count: usize,
    ) -> Result<Vec<Answer>, sqlx::Error> {
        let facts = Facts {
            repeated: self.repeated(connection, writer, ops).await?,
            targets: self.targets(connection, ops).await?,
            people: self.people(connection, ops).await?,
            read_points: self.read_points(connection, ops).await?,
            ..writer.facts(self.epoch, now)
        };
        let plan = self.decide(ops, facts);
        if plan
            .drafts
            .values()
            .all(|draft| draft.events.is_empty() && !draft.members.values().any(|(_, stored)| *stored))
        {
            return Ok(plan.answers);
        }
        let keys = keys(&plan);
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        let mut no = writer.next_log_no;
        for (events, keys) in plan.events.chunks(ROWS_MAX).zip(keys.chunks(ROWS_MAX)) {
            LOG.write(&mut transaction, events.len(), log_values(events, keys, no)?).await?;
            no += signed(events.len() as u64);
        }
        self.write_rest(&mut transaction, &plan, now).await?;
        writer.backlog.fold(&mut transaction, fold_count).await?;
        transaction.commit().await?;

        if !plan.erasures.is_empty() {
            self.scrub.notify_one();
        }
        Ok(self.show(writer, plan, &keys, now, fold_count))
    }

    /// What a batch of messages does not need: conversations, members, edits, deletions.
    async fn write_rest(&self, connection: &mut SqliteConnection, plan: &Plan, now: i64) -> Result<(), sqlx::Error> {
        let heads: Vec<_> = plan
            .drafts
            .values()
            .filter(|draft| draft.created || draft.changed)
            .map(|draft| {
                let head = &draft.head;
                let row = (head.no, hex(&head.id.0), head.kind.number(), &*head.title);
                (row, head.member_count, i64::from(head.deleted), head.created_at)
            })
            .collect();
        if !heads.is_empty() {
            sqlx::query(
                "INSERT INTO conversations (no, id, kind, title, last_seq, last_public_seq, last_message_no, member_count,
                     deleted, created_at)
                 SELECT j.value ->> '$[0][0]', unhex(j.value ->> '$[0][1]'), j.value ->> '$[0][2]', j.value ->> '$[0][3]',
                     0, 0, 0, j.value ->> 1, j.value ->> 2, j.value ->> 3
                 FROM json_each(?1) j WHERE true
                 ON CONFLICT (no) DO UPDATE SET title = excluded.title, member_count = excluded.member_count,
                     deleted = excluded.deleted",
            )
            .bind(json(&heads))
            .execute(&mut *connection)
            .await?;
        }
        self.write_members(connection, plan).await?;
        let people: Vec<_> =
            plan.people.iter().filter(|(_, by)| **by != 0).map(|(person, by)| (hex(&person.0), by)).collect();
        if !people.is_empty() {
            sqlx::query(
                "INSERT INTO people (user_id, conversation_count)
                 SELECT unhex(j.value ->> 0), j.value ->> 1 FROM json_each(?1) j WHERE true
                 ON CONFLICT (user_id) DO UPDATE SET conversation_count = conversation_count + excluded.conversation_count",
            )
            .bind(json(&people))
            .execute(&mut *connection)
            .await?;
        }
        if !plan.edits.is_empty() {
            // Of two edits of one message the later one is its newest.
            let newest: HashMap<i64, i64> = plan.edits.iter().copied().collect();
            let newest: Vec<_> = newest.into_iter().collect();
            sqlx::query(
                "UPDATE log SET edit_no = t.edit_no
                 FROM (SELECT value ->> 0 AS no, value ->> 1 AS edit_no FROM json_each(?1)) AS t WHERE log.no = t.no",
            )
            .bind(json(&newest))
            .execute(&mut *connection)
            .await?;
        }
        write_erasures(connection, plan, now).await
    }

    async fn write_members(&self, connection: &mut SqliteConnection, plan: &Plan) -> Result<(), sqlx::Error> {
        let stored: Vec<_> = plan
            .drafts
            .values()
            .flat_map(|draft| {
                draft.members.iter().map(move |(person, (member, stored))| (draft, person, member, stored))
            })
            .filter(|(.., stored)| **stored)
            .collect();
        for chunk in stored.chunks(ROWS_MAX) {
            let mut values = MEMBERS.arguments(chunk.len());
            for (draft, person, member, _) in chunk {
                let past = if member.past.is_empty() { "[]".to_owned() } else { json(&member.past) };
                bind(&mut values, draft.head.no)?;
                bind(&mut values, person.0.as_bytes().to_vec())?;
                bind(&mut values, member.role.map_or(0, Role::number))?;
                bind(&mut values, signed(member.joined_seq))?;
                bind(&mut values, member.joined_at)?;
                bind(&mut values, past)?;
                bind(&mut values, signed(member.delivered_seq))?;
                bind(&mut values, signed(member.read_seq))?;
                bind(&mut values, signed(member.read_message_no))?;
                bind(&mut values, signed(member.sent_no))?;
                bind(&mut values, signed(member.read_sent_no))?;
                bind(&mut values, member.watermark_at)?;
                bind(&mut values, signed(member.hidden_seq))?;
            }
            MEMBERS.write(connection, chunk.len(), values).await?;
        }
        let joined: Vec<_> = {
            let shared = self.live.read();
            let before =
                |draft: &plan::Draft| shared.conversations.get(&draft.head.id).map(|entry| &entry.known.members);
            // Also of who comes back: an erasure may have taken the row away.
            let new = stored.iter().filter(|(draft, person, member, _)| {
                let before = before(draft).and_then(|members| members.get(person));
                before.is_none_or(|before| before.role.is_none() && member.role.is_some())
            });
            new.map(|(draft, person, ..)| (hex(&person.0), draft.head.no)).collect()
        };
        if !joined.is_empty() {
            sqlx::query(
                "INSERT OR IGNORE INTO memberships (user_id, conversation_no)
                 SELECT unhex(j.value ->> 0), j.value ->> 1 FROM json_each(?1) j",
            )
            .bind(json(&joined))
            .execute(connection)
            .await?;
        }
        Ok(())
    }

    /// Shows readers what was committed.
    fn show(&self, writer: &mut Writer, plan: Plan, keys: &[RequestKey], now: i64, fold_count: usize) -> Vec<Answer> {
        writer.now = now;
        let first = writer.next_log_no;
        let mut shared = self.live.write();
        for (id, draft) in plan.drafts {
            let head = draft.head;
            if draft.created {
                let members = HashMap::new();
                shared.insert(crate::conversation::Known { head: head.clone(), members });
            }
            let Some(entry) = shared.conversations.get_mut(&id) else { continue };
            let before = entry.known.members.len();
            entry.known.head = head.clone();
            let stored = draft.members.iter().any(|(_, (_, stored))| *stored);
            let raised: Vec<_> = if stored && head.member_count <= plan::RECEIPT_MEMBERS_MAX {
                let raised = draft.members.iter().filter(|(_, (member, _))| member.watermark_at == now);
                raised.map(|(person, (member, _))| plan::watermark(id, *person, member, self.epoch)).collect()
            } else {
                Vec::new()
            };
            for (person, (member, _)) in draft.members {
                entry.known.members.insert(person, member);
            }
            for place in &draft.events {
                let log_no = first + signed(*place as u64);
                entry.tail.push_back(TailEvent { log_no, event: plan.events[*place].event.clone() });
            }
            let grown = entry.known.members.len() - before;
            shared.grow(grown);
            if !draft.events.is_empty() || !raised.is_empty() {
                let recent = shared.changed(head.no, id, head.last_seq, now);
                recent.receipts.extend(raised.into_iter().map(|watermark| (watermark.member, (now, watermark))));
            }
        }
        for answer in &plan.answers {
            let Answer::Written(Ok(written)) = answer else { continue };
            if written.added.is_empty() && written.removed.is_empty() {
                continue;
            }
            let Some(id) = written.event.as_ref().map(|event| event.conversation) else { continue };
            let Some(head) = shared.conversations.get(&id).map(|entry| entry.known.head.clone()) else { continue };
            let recent = shared.changed(head.no, id, head.last_seq, now);
            recent.added.extend(written.added.iter().map(|person| (now, *person)));
            recent.removed.extend(written.removed.iter().map(|person| (now, *person)));
        }
        for row in writer.backlog.folded(fold_count) {
            if let Entry::Occupied(mut numbers) = writer.requests.entry(row.key) {
                // The oldest one comes first, as in the log.
                numbers.get_mut().remove(0);
                if numbers.get().is_empty() {
                    numbers.remove();
                }
            }
            if let Some(entry) = shared.conversations.get_mut(&row.conversation) {
                entry.tail.pop_front();
            }
        }
        for (new, key) in plan.events.iter().zip(keys) {
            let event = &new.event;
            writer.requests.entry(*key).or_default().push(writer.next_log_no);
            writer.backlog.push(Unfolded {
                log_no: writer.next_log_no,
                conversation: event.conversation,
                conversation_no: new.conversation_no,
                seq: event.seq,
                message_no: event.message_no,
                sent_no: new.sent_no,
                sender: event.actor,
                public: event.only_for.is_none(),
                key: *key,
                created_at: event.created_at,
                bytes: event.body.len(),
            });
            writer.next_log_no += 1;
            writer.next_conversation_no = writer.next_conversation_no.max(new.conversation_no + 1);
        }
        shared.shrink();
        plan.answers
    }
}

/// Whether a batch brings events and changes nothing else: then there is nothing for `write_rest`.
fn only_appends(plan: &Plan) -> bool {
    let unchanged =
        |draft: &plan::Draft| !draft.created && !draft.changed && !draft.members.values().any(|(_, stored)| *stored);
    plan.people.is_empty() && plan.edits.is_empty() && plan.erasures.is_empty() && plan.drafts.values().all(unchanged)
}

/// The requests of a plan's events.
fn keys(plan: &Plan) -> Vec<RequestKey> {
    plan.events.iter().map(|new| request_key(new.conversation_no, new.request_hash)).collect()
}

/// The rows of events, beginning with number `first`.
fn log_values(events: &[NewEvent], keys: &[RequestKey], first: i64) -> Result<SqliteArguments, sqlx::Error> {
    let mut values = LOG.arguments(events.len());
    for ((new, key), no) in events.iter().zip(keys).zip(first..) {
        let event = &new.event;
        bind(&mut values, no)?;
        bind(&mut values, new.conversation_no)?;
        bind(&mut values, signed(event.seq))?;
        bind(&mut values, signed(event.message_no))?;
        bind(&mut values, signed(new.sent_no))?;
        bind(&mut values, event.kind as i64)?;
        bind(&mut values, event.actor.0.as_bytes().to_vec())?;
        bind(&mut values, key.to_vec())?;
        bind(&mut values, event.request_id.clone())?;
        bind(&mut values, event.digest.0.to_vec())?;
        bind(&mut values, signed(event.target_seq))?;
        bind(&mut values, new.previous_edit_no)?;
        bind(&mut values, event.only_for.map(|person| person.0.as_bytes().to_vec()))?;
        bind(&mut values, event.body.to_vec())?;
        bind(&mut values, event.created_at)?;
    }
    Ok(values)
}

/// Overwrites messages and every edit of each: the edits of a message are a chain, from the newest back.
async fn write_erasures(connection: &mut SqliteConnection, plan: &Plan, now: i64) -> Result<(), sqlx::Error> {
    if plan.erasures.is_empty() {
        return Ok(());
    }
    let messages = plan.erasures.iter().map(|erasure| (erasure.log_no, String::new()));
    let edits = plan.erasures.iter().filter_map(|erasure| {
        let tombstone = erasure.tombstone.iter().map(|byte| format!("{byte:02x}")).collect();
        Some((erasure.edit_no?, tombstone))
    });
    let erased: Vec<(i64, String)> = messages.chain(edits).collect();
    sqlx::query(
        "WITH RECURSIVE chain (no, body) AS (
             SELECT j.value ->> 0, unhex(j.value ->> 1) FROM json_each(?1) j
             UNION ALL
             SELECT l.previous_edit_no, chain.body FROM chain CROSS JOIN log l ON l.no = chain.no
             WHERE l.previous_edit_no IS NOT NULL)
         UPDATE log SET body = chain.body, deleted_at = ?2 FROM chain WHERE log.no = chain.no",
    )
    .bind(json(&erased))
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

/// Adds a value to those of a statement.
pub(super) fn bind<'t, T>(values: &mut SqliteArguments, value: T) -> Result<(), sqlx::Error>
where
    T: sqlx::Encode<'t, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
{
    values.add(value).map_err(sqlx::Error::Encode)
}

/// The same error for every call.
fn refuse(ops: &[Op], error: &Error) -> Vec<Answer> {
    let refused = |op: &Op| match op {
        Op::Write(_) => Answer::Written(Err(error.clone())),
        Op::Raise(_) => Answer::Raised(Err(error.clone())),
    };
    ops.iter().map(refused).collect()
}
