//! One SQLite file per service, opened so that an answered write is on disk and deleted text is gone.
//!
//! One connection writes, a few read beside it, and one moves what was written from the log into the file without holding the writer up.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::Connection as _;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

use crate::fault::{Fault, log_chain};

mod copy;

pub use copy::{CopyError, copy};

/// How many connections read.
const READERS: u32 = 4;

/// How long a connection waits for a lock of another one.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a call waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// How many prepared statements a connection keeps.
const STATEMENTS_MAX: usize = 256;

/// How large the log may grow, in pages, before a commit moves it into the file itself. Usually the checkpointer was there before.
const WAL_MAX_PAGES: &str = "16384";

/// How often the checkpointer moves the log into the file.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);

/// One SQLite file: one connection that writes, a few that read.
#[derive(Clone, Debug)]
pub struct Database {
    /// The one connection that writes.
    pub writer: SqlitePool,
    /// The connections that read.
    pub readers: SqlitePool,
    /// The connection that moves the log into the file.
    pub mover: SqlitePool,
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file cannot be opened.
    #[error("cannot open {}: does the folder exist, may this user write to it, and is there space?", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: sqlx::Error,
    },
    /// The file was written by a newer version.
    #[error("{} was written by a newer version of flaghoist: start that version, or restore a backup of this one's", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
    },
    /// The tables cannot be brought up to date.
    #[error("cannot bring the tables in {} up to date", path.display())]
    Migrate {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: MigrateError,
    },
}

/// Opens, or makes, the file at `path` and brings its tables up to date. Refuses a file from a newer version.
pub async fn open(path: &Path, migrator: &Migrator) -> Result<Database, OpenError> {
    let failed = |source| OpenError::Open { path: path.to_owned(), source };
    let options = SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(true)
        .statement_cache_capacity(STATEMENTS_MAX)
        .pragma("temp_store", "MEMORY");
    let writing = options
        .clone()
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("secure_delete", "ON")
        .pragma("cache_size", "-65536")
        .pragma("wal_autocheckpoint", WAL_MAX_PAGES)
        .thread_name(|number| format!("sqlite-writer-{number}"));
    let reading = options
        .clone()
        .pragma("query_only", "ON")
        .pragma("cache_size", "-8192")
        .thread_name(|number| format!("sqlite-reader-{number}"));
    let moving = options
        .synchronous(SqliteSynchronous::Full)
        .pragma("cache_size", "-2048")
        .thread_name(|number| format!("sqlite-checkpoint-{number}"));

    let writer = pool(1).connect_with(writing).await.map_err(failed)?;
    let migrated = migrator.run(&writer).await;
    migrated.map_err(|source| match source {
        MigrateError::VersionMissing(_) | MigrateError::VersionTooNew(..) => OpenError::Newer { path: path.to_owned() },
        source => OpenError::Migrate { path: path.to_owned(), source },
    })?;
    let readers = pool(READERS).connect_with(reading).await.map_err(failed)?;
    let mover = pool(1).connect_with(moving).await.map_err(failed)?;
    tokio::spawn(checkpoint(mover.clone(), writer.close_event()));
    Ok(Database { writer, readers, mover })
}

impl Database {
    /// Closes all connections once what they do is done; the last one moves the log into the file.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// Connections that stay open, `count` at most.
fn pool(count: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(count)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .before_acquire(|connection, _| Box::pin(usable(connection)))
}

/// Whether a connection has no transaction open. SQLite ends one by itself when the disk is full, the rollback after that
/// fails, and the connection would count a transaction for ever that is not there: it is replaced.
async fn usable(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    if !connection.is_in_transaction() {
        return Ok(true);
    }
    // The rollback of a dropped transaction may still be on its way; commands are done in order.
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
}

/// Moves the log into the file every second, until the writer is closed or dropped. A passive checkpoint waits for nobody and makes nobody
/// wait, so commits go on beside it.
async fn checkpoint(mover: SqlitePool, closed: impl Future) {
    let mut closed = std::pin::pin!(closed);
    while tokio::time::timeout(CHECKPOINT_INTERVAL, &mut closed).await.is_err() {
        if let Err(error) = sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(&mover).await {
            // A full disk stops this too; it is tried again, and the writer's own limit holds meanwhile.
            tracing::warn!(error = %error, "cannot move the log into the store: is the disk full?");
        }
    }
    mover.close().await;
}

/// Moves the logs of the stores of `services` in `folder` into their files, at the end of a process.
///
/// What is deleted is then in no file any more, and a copy of the `.db` files is whole. A store that cannot be settled keeps
/// its log, which the next start reads.
pub async fn settle(folder: &Path, services: &[&str]) {
    let files = services.iter().map(|service| folder.join(format!("{service}.db")));
    for path in files.filter(|path| path.is_file()) {
        let options = SqliteConnectOptions::new().filename(&path).busy_timeout(BUSY_TIMEOUT);
        let settled = async {
            let mut connection = SqliteConnection::connect_with(&options).await?;
            sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await?;
            connection.close().await
        };
        if let Err(error) = settled.await {
            tracing::warn!(path = %path.display(), error = %error, "store keeps its log: the next start moves it");
        }
    }
}

/// Is it the disk that is full or read-only, or a lock (try again), rather than a fault of ours?
pub fn transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed | sqlx::Error::Io(_) => true,
        sqlx::Error::Database(error) => {
            let code = error.code().and_then(|code| code.parse::<u32>().ok());
            // The last byte is the kind: BUSY, LOCKED, READONLY, IOERR, FULL, CANTOPEN, PROTOCOL.
            matches!(code.map(|code| code & 0xff), Some(5 | 6 | 8 | 10 | 13 | 14 | 15))
        }
        _ => false,
    }
}

/// What an error of the store is on the wire; it is logged here, `doing` says what was tried.
pub fn fault(doing: &'static str, error: &sqlx::Error) -> Fault {
    if transient(error) {
        tracing::warn!(doing, error = %crate::fault::chain(error), "store not available: is the disk full or read-only?");
        Fault::unavailable("the store is not available")
    } else {
        log_chain(doing, error);
        Fault::internal()
    }
}

#[cfg(test)]
mod tests;
