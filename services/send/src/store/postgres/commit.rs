//! One batch: its lanes are locked, what it needs to know is read under the lock, it is decided, written and committed. Whoever
//! else writes to one of its conversations, on this pod or another, waits at the lane.
//!
//! What becomes of a failure: a transaction that the server undid because others were in the way is repeated in smaller pieces,
//! and so is one that holds something the server does not take. Where the connection was lost, and above all where the answer
//! to COMMIT was lost, nobody here knows what happened: that is UNAVAILABLE, and the repeated call finds its event or makes it.

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::time::Duration;

use flaghoist_runtime::fault::log_chain;
use flaghoist_runtime::names::ConversationId;
use flaghoist_runtime::postgres::{conflicted, silent, transient};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};

use super::{LANES, PostgresStore, failed, load, write};
use crate::conversation::lane;
use crate::error::Error;
use crate::event::{Answer, Op};
use crate::plan;

/// The kind of the lanes' locks, among all locks of the database: "send" in bytes.
pub(super) const LANE_LOCKS: i32 = 0x7365_6e64;

/// How old the time of a batch may be when it is committed. With the 5 s that a server lets a silent transaction live, what is
/// committed is younger than the 15 s that receivers look back.
const AGE_MAX: Duration = Duration::from_secs(5);

/// How long a transaction may take in all. The server ends a statement sooner; this is for a server that is not heard of, which
/// would otherwise hold up its lanes for as long as the system hopes.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(10);

/// How often parts of one batch may fail until what is left of it is refused.
const FAILURES_MAX: u32 = 64;

/// How long to leave others alone before a transaction is repeated that was in their way.
const CONFLICT_PAUSE: Duration = Duration::from_millis(5);

/// Why a transaction was not committed.
#[derive(Debug)]
pub(super) enum Failure {
    /// It did not begin: nothing can have happened.
    Before(sqlx::Error),
    /// It did. Unless the server says that it was undone, what happened is unknown.
    During(sqlx::Error),
    /// It was undone here, because somebody took its numbers or because it took too long.
    Undone(&'static str),
}

/// What to do about a failure.
enum Remedy {
    Refuse(Error),
    /// Nothing that comes after will go better.
    RefuseAll(Error),
    Again,
    Smaller(Error),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::During(error)
    }
}

impl PostgresStore {
    /// Commits what can be done at once, then the rest.
    pub(super) async fn commit_batch(&self, mut ops: Vec<Op>) -> Vec<Answer> {
        if !self.quick.load(Ordering::Relaxed) {
            return self.commit_pieces(&ops).await;
        }
        let mut answers = self.commit_quickly(&mut ops).await;
        let left = |(place, op): &(usize, Op)| match op {
            Op::Write(_) => answers[*place].is_none(),
            // A call without any watermark is answered as well.
            Op::Raise(watermarks) => answers[*place].is_none() || !watermarks.is_empty(),
        };
        let (places, left): (Vec<usize>, Vec<Op>) = ops.into_iter().enumerate().filter(left).unzip();
        if !left.is_empty() {
            for (place, answer) in places.into_iter().zip(self.commit_pieces(&left).await) {
                let before = answers[place].replace(answer);
                if let (Some(Answer::Raised(Ok(told))), Some(Answer::Raised(Ok(risen)))) = (&mut answers[place], before)
                {
                    told.extend(risen);
                }
            }
        }
        answers.into_iter().map(|answer| answer.unwrap_or(Answer::Written(Err(Error::Internal)))).collect()
    }

    async fn commit_pieces(&self, ops: &[Op]) -> Vec<Answer> {
        let mut answers = Vec::with_capacity(ops.len());
        let mut pieces = VecDeque::from([ops]);
        let mut failures = 0;
        while let Some(piece) = pieces.pop_front() {
            let failure = match self.commit_piece(piece).await {
                Ok(done) => {
                    answers.extend(done);
                    continue;
                }
                Err(failure) => failure,
            };
            failures += 1;
            match self.remedy(&failure, failures) {
                Remedy::Again => pieces.push_front(piece),
                Remedy::Smaller(_) if piece.len() > 1 && failures < FAILURES_MAX => {
                    let (first, second) = piece.split_at(piece.len() / 2);
                    pieces.push_front(second);
                    pieces.push_front(first);
                }
                Remedy::Smaller(Error::Unavailable(_)) if failures < FAILURES_MAX => {
                    tokio::time::sleep(CONFLICT_PAUSE * failures.min(20)).await;
                    pieces.push_front(piece);
                }
                Remedy::Refuse(error) | Remedy::Smaller(error) => answers.extend(refuse(piece, &error)),
                Remedy::RefuseAll(error) => {
                    answers.extend(refuse(piece, &error));
                    pieces.drain(..).for_each(|piece| answers.extend(refuse(piece, &error)));
                }
            }
        }
        answers
    }

    fn remedy(&self, failure: &Failure, failures: u32) -> Remedy {
        const BUSY: Error = Error::Unavailable("others are in the way");
        match failure {
            // A connection that the server has closed is noticed only when it is used; there may be as many as there are at all.
            Failure::Before(error) if transient(error) => match error {
                sqlx::Error::PoolTimedOut => Remedy::RefuseAll(failed("connecting to the store", error)),
                // Somebody holds a lane and does not go on; the server ends what is silent for 5 s.
                sqlx::Error::Database(late) if late.code().is_some_and(|code| code == "57014") => {
                    if failures < 3 {
                        Remedy::Again
                    } else {
                        Remedy::Refuse(failed("waiting for a lane", error))
                    }
                }
                _ if failures <= self.pool.options().get_max_connections() + 1 => Remedy::Again,
                _ => Remedy::RefuseAll(failed("beginning a transaction", error)),
            },
            Failure::Before(error) => Remedy::RefuseAll(failed("beginning a transaction", error)),
            Failure::During(error) if conflicted(error) => {
                tracing::info!(error = %flaghoist_runtime::fault::chain(error), "a batch was in others' way");
                Remedy::Smaller(BUSY)
            }
            Failure::During(error) if transient(error) => Remedy::Refuse(failed("committing a batch", error)),
            Failure::During(error) => {
                log_chain("committing a batch, which is now tried in smaller pieces", error);
                Remedy::Smaller(Error::Internal)
            }
            Failure::Undone(why) => {
                tracing::warn!(why, "a batch was undone");
                Remedy::Smaller(BUSY)
            }
        }
    }

    async fn commit_piece(&self, ops: &[Op]) -> Result<Vec<Answer>, Failure> {
        let mut connection = self.kept.connection().await.map_err(Failure::Before)?;
        let transacted = tokio::time::timeout(ANSWER_MAX, self.transact(&mut connection, ops)).await;
        let answers = transacted.unwrap_or_else(|_late| Err(Failure::During(silent())))?;
        // Only now: after a failure it is closed instead.
        self.kept.keep(connection);
        Ok(answers)
    }

    async fn transact(&self, connection: &mut PgConnection, ops: &[Op]) -> Result<Vec<Answer>, Failure> {
        let begin = AssertSqlSafe(begin_text(ops));
        let mut transaction = connection.begin_with(begin).await.map_err(Failure::Before)?;
        let loaded = load::load(&mut transaction, ops, self.epoch_now()).await?;
        let (now, timed_at, known) = (loaded.facts.now, loaded.timed_at, loaded.known);
        let plan = plan::plan(ops, loaded.facts, self.limits, |id| known.get(&id));
        if write::nothing(&plan) {
            transaction.rollback().await?;
            return Ok(plan.answers);
        }
        write::write(&mut transaction, &plan, &known, now).await?;
        if timed_at.elapsed() > AGE_MAX {
            return Err(Failure::Undone("it took too long"));
        }
        transaction.commit().await?;
        Ok(plan.answers)
    }
}

/// Begins a transaction and locks the lanes of a batch, the lower ones first: of two who want the same lanes one waits for all of
/// them. Both in one message; the statements that follow see what was committed before the lock was had.
pub(super) fn begin_text(ops: &[Op]) -> String {
    let conversations = ops.iter().flat_map(|op| match op {
        Op::Write(write) => vec![write.conversation],
        Op::Raise(watermarks) => watermarks.iter().map(|raised| raised.conversation).collect(),
    });
    let mut text = String::from("BEGIN ISOLATION LEVEL READ COMMITTED");
    for lane in lanes_of(conversations) {
        // Writing to a string does not fail.
        let _ok = write!(text, "; SELECT pg_advisory_xact_lock({LANE_LOCKS}, {lane})");
    }
    text
}

/// The lanes of some conversations in the order in which they are locked.
pub(super) fn lanes_of(conversations: impl Iterator<Item = ConversationId>) -> Vec<i32> {
    let lanes: BTreeSet<usize> = conversations.map(|id| lane(id, LANES)).collect();
    lanes.into_iter().map(|lane| i32::try_from(lane).unwrap_or(0)).collect()
}

/// The same error for every call.
fn refuse(ops: &[Op], error: &Error) -> Vec<Answer> {
    let refused = |op: &Op| match op {
        Op::Write(_) => Answer::Written(Err(error.clone())),
        Op::Raise(_) => Answer::Raised(Err(error.clone())),
    };
    ops.iter().map(refused).collect()
}
