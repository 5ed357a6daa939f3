//! The store for any number of pods: one PostgreSQL database that they share.
//!
//! Messages and watermarks, which are nearly all that is written, are a statement each (`quick.rs`). Every other batch is one
//! transaction that has its lanes alone (`commit.rs`), so of all pods one at a time writes to a conversation. What it is decided
//! from is read under these locks (`load.rs`), decided in memory by the same rules as everywhere (`plan.rs`) and written by a
//! statement for each kind of change (`write.rs`). Nothing that decides is kept between batches.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use flaghoist_runtime::fault::{chain, log_chain};
use flaghoist_runtime::names::{ConversationId, UserId};
use flaghoist_runtime::postgres::{self, OpenError, transient};
use flaghoist_runtime::ready::Dependency;
use parking_lot::Mutex;
use sqlx::PgPool;
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgConnection};

use super::{Change, HeadView, Messages, Page, Progress, Slice, Store};
use crate::conversation::{Member, View};
use crate::error::Error;
use crate::event::{Answer, Message, Op};
use crate::plan::Limits;

mod commit;
mod erase;
mod kept;
mod life;
mod lists;
mod load;
mod quick;
mod read;
mod rows;
mod sql;
mod write;

use kept::Kept;
use lists::Sweep;

pub(crate) static MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// How far apart a pod's commits begin. A flush to disk and three processes that are woken cost the same for one message as for ten: at
/// 2,000 messages a second on two busy cores these wait a third less in all than where each commit begins at once.
const PACE: Duration = Duration::from_millis(2);

/// How many lanes there are. Pods of all versions must agree: a lane's lock is what keeps them apart.
const LANES: usize = 64;

/// How the statements are planned. They are written for one plan each, by index, that suits any size of the tables, and it is kept
/// as long as the connection: one that was made while the tables were small must not be another. So only the rows that a plan
/// touches count, and not that a small table is quickly read from end to end. `tests/plans.rs` looks at them on empty
/// tables, and on those whose average is another than what matters.
const PLANNING: [(&str, &str); 10] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("jit", "off"),
    ("max_parallel_workers_per_gather", "0"),
    ("cpu_tuple_cost", "1"),
    ("cpu_index_tuple_cost", "1"),
    ("random_page_cost", "0.1"),
    ("seq_page_cost", "0.1"),
];

/// The store in a PostgreSQL database.
#[derive(Debug)]
pub(crate) struct PostgresStore {
    pool: PgPool,
    kept: Kept,
    epoch: Arc<AtomicU64>,
    limits: Limits,
    sweeps: Mutex<VecDeque<Sweep>>,
    /// Whether the database takes the statements of `quick.rs`.
    quick: AtomicBool,
}

/// Why the store does not open.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It was opened but cannot be read.
    #[error("cannot read the store of send")]
    Read(#[from] sqlx::Error),
}

impl PostgresStore {
    /// Opens the database; waits for one that is not there yet.
    pub(crate) async fn open(
        options: &PgConnectOptions,
        connections_max: u32,
        limits: Limits,
    ) -> Result<Self, StartError> {
        let pool = open(options, connections_max).await?;
        let epoch = Arc::new(AtomicU64::new(life::begin(&pool).await?));
        life::keep(&pool, &epoch);
        let kept = Kept::new(pool.clone());
        Ok(Self { pool, kept, epoch, limits, sweeps: Mutex::default(), quick: AtomicBool::new(true) })
    }

    /// Tells `dependency` whether the database is there, from now on.
    pub(crate) fn watch(&self, dependency: Dependency) {
        postgres::watch(&self.pool, dependency);
    }

    /// Gives the store in a database a new epoch, after a backup was put in its place. Pods that have it open notice.
    pub(crate) async fn renew_epoch(options: &PgConnectOptions) -> Result<u64, StartError> {
        let pool = open(options, 1).await?;
        let epoch = life::renew(&pool).await?;
        pool.close().await;
        Ok(epoch)
    }

    fn epoch_now(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }
}

/// Makes tables that were filled from another store its next home: its epoch goes on here, and new conversations get numbers beyond
/// those that are there.
pub(crate) async fn carry_on(connection: &mut PgConnection, epoch: u64) -> Result<(), sqlx::Error> {
    sqlx::query(sql::RENEW_LIFE).bind(rows::signed(epoch)).execute(&mut *connection).await?;
    // Nothing is set where there are no conversations.
    sqlx::query(sql::NUMBERS_BEYOND).execute(connection).await?;
    Ok(())
}

async fn open(options: &PgConnectOptions, connections_max: u32) -> Result<PgPool, OpenError> {
    let pool = postgres::open(options, "send", connections_max, &MIGRATIONS).await?;
    // It connects when it is first used.
    pool.set_connect_options((*pool.connect_options()).clone().options(PLANNING));
    Ok(pool)
}

/// An error of PostgreSQL in the words of the domain; one that is our fault is logged.
fn failed(doing: &'static str, error: &sqlx::Error) -> Error {
    if transient(error) {
        tracing::warn!(doing, error = %chain(error), "the store does not take this now");
        Error::Unavailable("the store does not answer")
    } else {
        log_chain(doing, error);
        Error::Internal
    }
}

/// Whether the connection was closed before it was used: a server that was restarted leaves as many of these as there were.
fn closed(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) => true,
        sqlx::Error::Database(ended) => ended.code().is_some_and(|code| code.starts_with("57P0")),
        _ => false,
    }
}

/// Reads, or writes what may be written twice, and once more for each connection that turns out to be closed.
macro_rules! reading {
    ($store:ident, $doing:literal, $read:expr) => {{
        let mut tries = $store.pool.options().get_max_connections();
        loop {
            match $read.await {
                Err(error) if tries > 0 && closed(&error) => tries -= 1,
                read => break read.map_err(|error| failed($doing, &error)),
            }
        }
    }};
}

#[async_trait]
impl Store for PostgresStore {
    fn pace(&self) -> Duration {
        PACE
    }

    fn epoch(&self) -> u64 {
        self.epoch_now()
    }

    async fn now(&self) -> Result<i64, Error> {
        reading!(self, "reading the time", self.read_clock())
    }

    async fn commit(&self, ops: Vec<Op>) -> Vec<Answer> {
        self.commit_batch(ops).await
    }

    async fn conversation(&self, person: UserId, id: ConversationId) -> Result<Option<View>, Error> {
        reading!(self, "reading a conversation", self.view(person, id))
    }

    async fn conversations(&self, person: UserId, after: i64, limit: usize) -> Result<Page<View>, Error> {
        reading!(self, "listing conversations", self.list_conversations(person, after, limit))
    }

    async fn members(
        &self,
        id: ConversationId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<(UserId, Member)>, Error> {
        reading!(self, "listing members", self.list_members(id, after, limit))
    }

    async fn message(&self, person: UserId, id: ConversationId, seq: u64) -> Result<Option<Message>, Error> {
        reading!(self, "reading a message", self.read_message(person, id, seq))
    }

    async fn messages(
        &self,
        person: UserId,
        id: ConversationId,
        from: u64,
        oldest_first: bool,
        limit: usize,
    ) -> Result<Option<Messages>, Error> {
        reading!(self, "reading messages", self.read_messages(person, id, from, oldest_first, limit))
    }

    async fn events(
        &self,
        person: UserId,
        id: ConversationId,
        after_seq: u64,
        limit: usize,
        bytes_max: usize,
    ) -> Result<Option<Slice>, Error> {
        reading!(self, "reading events", self.read_events(person, id, after_seq, limit, bytes_max))
    }

    async fn heads(
        &self,
        person: UserId,
        only: &[ConversationId],
        receipts_since: Option<i64>,
        after: i64,
        limit: usize,
    ) -> Result<Page<HeadView>, Error> {
        reading!(self, "listing heads", self.list_heads(person, only, receipts_since, after, limit))
    }

    async fn recent_changes(&self, since: i64, after: i64, limit: usize) -> Result<Page<Change>, Error> {
        reading!(self, "listing changes", self.list_recent_changes(since, after, limit))
    }

    async fn blank(&self, person: UserId, id: ConversationId, after_seq: u64, through_seq: u64) -> Result<(), Error> {
        reading!(self, "overwriting requests", self.blank_requests(person, id, after_seq, through_seq))
    }

    async fn forget(&self, person: UserId, ids: &[ConversationId], all: bool) -> Result<(), Error> {
        reading!(self, "forgetting a person", self.forget_person(person, ids, all))
    }

    async fn progress(&self, person: UserId, id: ConversationId, seq: u64) -> Result<Option<Progress>, Error> {
        reading!(self, "reading watermarks", self.read_progress(person, id, seq))
    }
}

#[cfg(test)]
mod tests;
