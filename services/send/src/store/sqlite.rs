//! The store for one machine: one SQLite file, owned by one process.
//!
//! A commit appends to the log and to nothing else; everything that could be looked up by conversation or request follows in
//! rounds (`fold.rs`). What is not folded yet, and the conversations in use, are in memory (`live.rs`), where readers find it.
//! The writer is the only one that changes either, so what it decides in memory (`plan.rs`) is what the file says.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use flaghoist_runtime::fault::log_chain;
use flaghoist_runtime::names::{ConversationId, UserId};
use flaghoist_runtime::sqlite::{Database, OpenError, transient};
use sqlx::SqlitePool;
use sqlx::migrate::Migrator;
use tokio::sync::{Mutex, Notify};

use super::{Change, HeadView, Messages, Page, Progress, Slice, Store};
use crate::conversation::{Member, View};
use crate::error::Error;
use crate::event::{Answer, Message, Op};
use crate::plan::Limits;

mod commit;
mod erase;
mod fold;
mod lists;
mod live;
mod load;
mod read;
mod rows;

use commit::Writer;
use live::Live;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// How long after a deletion the write-ahead log is emptied, in which the deleted text still lies.
const SCRUB_DELAY: Duration = Duration::from_secs(1);

/// The store in a SQLite file.
#[derive(Debug)]
pub(crate) struct SqliteStore {
    epoch: u64,
    /// In milliseconds; changes before it are not in memory.
    started_at: i64,
    limits: Limits,
    database: Database,
    live: Arc<Live>,
    writer: Mutex<Writer>,
    scrub: Arc<Notify>,
}

/// Why the store does not open.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The file cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The file was opened but cannot be read.
    #[error("cannot read the store of send")]
    Read(#[from] sqlx::Error),
    /// The file has no metadata.
    #[error("cannot see which file the store of send is")]
    Identity(#[from] std::io::Error),
}

impl SqliteStore {
    /// Opens the file at `path`, or makes it, and folds what the process before left unfolded.
    pub(crate) async fn open(path: &Path, limits: Limits) -> Result<Self, StartError> {
        let database = flaghoist_runtime::sqlite::open(path, &MIGRATIONS).await?;
        let epoch = epoch_of(&database.writer, &identity(path)?).await?;
        let writer = Writer::open(&database.writer).await?;
        let scrub = Arc::new(Notify::new());
        tokio::spawn(scrub_after_deletions(Arc::downgrade(&scrub), database.mover.clone()));
        let started_at = flaghoist_runtime::time::millis(std::time::SystemTime::now());
        Ok(Self { epoch, started_at, limits, database, live: Arc::new(Live::new()), writer: Mutex::new(writer), scrub })
    }

    /// The connections that read the file. What the indexes do not know yet is not there, of what was written since the opening.
    pub(crate) fn readers(&self) -> &SqlitePool {
        &self.database.readers
    }

    /// Closes all connections.
    pub(crate) async fn close(&self) {
        self.database.close().await;
    }

    /// Gives the store in the file at `path` a new epoch, after a backup was put in its place.
    pub(crate) async fn renew_epoch(path: &Path) -> Result<u64, StartError> {
        let database = flaghoist_runtime::sqlite::open(path, &MIGRATIONS).await?;
        let epoch = write_epoch(&database.writer, &identity(path)?).await?;
        database.close().await;
        Ok(epoch)
    }
}

/// What tells one file from another: the number that the file system gave it, and when. A copy that is put in its place has
/// another one; a volume that moves to another machine keeps both.
fn identity(path: &Path) -> Result<String, std::io::Error> {
    use std::os::unix::fs::MetadataExt as _;
    let file = std::fs::metadata(path)?;
    // Not every file system knows when a file was made.
    let born = file.created().map(flaghoist_runtime::time::millis).unwrap_or(0);
    Ok(format!("{}-{born}", file.ino()))
}

async fn epoch_of(pool: &SqlitePool, identity: &str) -> Result<u64, sqlx::Error> {
    let kept: Option<(i64, String)> =
        sqlx::query_as("SELECT e.value, f.value FROM meta e JOIN meta f WHERE e.key = 'epoch' AND f.key = 'file'")
            .fetch_optional(pool)
            .await?;
    match kept {
        Some((epoch, file)) if file == identity => Ok(epoch.unsigned_abs()),
        Some(_) => {
            tracing::warn!("the store of send is another file than before: devices start from what it holds");
            write_epoch(pool, identity).await
        }
        None => write_epoch(pool, identity).await,
    }
}

async fn write_epoch(pool: &SqlitePool, identity: &str) -> Result<u64, sqlx::Error> {
    let epoch = rand::random_range(1..i64::MAX);
    sqlx::query("INSERT OR REPLACE INTO meta (key, value) VALUES ('epoch', ?1), ('file', ?2)")
        .bind(epoch)
        .bind(identity)
        .execute(pool)
        .await?;
    Ok(epoch.unsigned_abs())
}

/// Empties the write-ahead log a little after each deletion: what was overwritten in the tables still lies there.
async fn scrub_after_deletions(asked: std::sync::Weak<Notify>, pool: SqlitePool) {
    loop {
        let Some(notify) = asked.upgrade() else { return };
        // Woken now and then to see whether the store is gone.
        let woken = tokio::time::timeout(Duration::from_secs(5), notify.notified()).await;
        drop(notify);
        if woken.is_err() {
            continue;
        }
        for _ in 0..60 {
            tokio::time::sleep(SCRUB_DELAY).await;
            let emptied: Result<(i64, i64, i64), _> =
                sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&pool).await;
            // A reader may be in the way; then once more.
            match emptied {
                Ok((0, ..)) => break,
                Ok(_) => {}
                Err(error) => tracing::warn!(error = %error, "cannot empty the write-ahead log after a deletion yet"),
            }
        }
    }
}

/// An error of SQLite in the words of the domain; one that is our fault is logged.
fn failed(doing: &'static str, error: &sqlx::Error) -> Error {
    if transient(error) {
        tracing::warn!(doing, error = %flaghoist_runtime::fault::chain(error), "the store does not take this now");
        Error::Unavailable("the store does not answer")
    } else {
        log_chain(doing, error);
        Error::Internal
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn epoch(&self) -> u64 {
        self.epoch
    }

    async fn commit(&self, ops: Vec<Op>) -> Vec<Answer> {
        self.commit_batch(&ops).await
    }

    async fn conversation(&self, person: UserId, id: ConversationId) -> Result<Option<View>, Error> {
        self.view(person, id).await.map_err(|error| failed("reading a conversation", &error))
    }

    async fn conversations(&self, person: UserId, after: i64, limit: usize) -> Result<Page<View>, Error> {
        self.list_conversations(person, after, limit).await.map_err(|error| failed("listing conversations", &error))
    }

    async fn members(
        &self,
        id: ConversationId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<(UserId, Member)>, Error> {
        self.list_members(id, after, limit).await.map_err(|error| failed("listing members", &error))
    }

    async fn message(&self, person: UserId, id: ConversationId, seq: u64) -> Result<Option<Message>, Error> {
        self.read_message(person, id, seq).await.map_err(|error| failed("reading a message", &error))
    }

    async fn messages(
        &self,
        person: UserId,
        id: ConversationId,
        from: u64,
        oldest_first: bool,
        limit: usize,
    ) -> Result<Option<Messages>, Error> {
        let read = self.read_messages(person, id, from, oldest_first, limit).await;
        read.map_err(|error| failed("reading messages", &error))
    }

    async fn events(
        &self,
        person: UserId,
        id: ConversationId,
        after_seq: u64,
        limit: usize,
        bytes_max: usize,
    ) -> Result<Option<Slice>, Error> {
        let read = self.read_events(person, id, after_seq, limit, bytes_max).await;
        read.map_err(|error| failed("reading events", &error))
    }

    async fn heads(
        &self,
        person: UserId,
        only: &[ConversationId],
        receipts_since: Option<i64>,
        after: i64,
        limit: usize,
    ) -> Result<Page<HeadView>, Error> {
        let listed = self.list_heads(person, only, receipts_since, after, limit).await;
        listed.map_err(|error| failed("listing heads", &error))
    }

    async fn recent_changes(&self, since: i64, after: i64, limit: usize) -> Result<Page<Change>, Error> {
        let listed = self.list_recent_changes(since, after, limit).await;
        listed.map_err(|error| failed("listing changes", &error))
    }

    async fn blank(&self, person: UserId, id: ConversationId, after_seq: u64, through_seq: u64) -> Result<(), Error> {
        let blanked = self.blank_requests(person, id, after_seq, through_seq).await;
        blanked.map_err(|error| failed("overwriting requests", &error))
    }

    async fn forget(&self, person: UserId, ids: &[ConversationId], all: bool) -> Result<(), Error> {
        self.forget_person(person, ids, all).await.map_err(|error| failed("forgetting a person", &error))
    }

    async fn progress(&self, person: UserId, id: ConversationId, seq: u64) -> Result<Option<Progress>, Error> {
        self.read_progress(person, id, seq).await.map_err(|error| failed("reading watermarks", &error))
    }
}

#[cfg(test)]
mod tests;
