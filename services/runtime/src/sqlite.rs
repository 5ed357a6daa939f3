//! One SQLite file per service, opened so that an answered write is on disk and deleted text is gone.

use std::path::{Path, PathBuf};

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::SqlitePool;

/// One SQLite file: one connection that writes, a few that read.
#[derive(Clone, Debug)]
pub struct Database {
    /// The one connection that writes.
    pub writer: SqlitePool,
    /// The connections that read.
    pub readers: SqlitePool,
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file cannot be opened.
    #[error("cannot open {}: does the folder exist, and may this user write to it?", path.display())]
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

/// Opens, or makes, the file at `path` and brings its tables up to date.
pub async fn open(path: &Path, migrator: &Migrator) -> Result<Database, OpenError> {
    let failed = |source| OpenError::Open { path: path.to_owned(), source };
    let writer = SqlitePool::connect(&format!("sqlite://{}?mode=rwc", path.display())).await.map_err(failed)?;
    migrator.run(&writer).await.map_err(|source| OpenError::Migrate { path: path.to_owned(), source })?;
    Ok(Database { readers: writer.clone(), writer })
}

/// Is it the disk that is full or read-only, or a lock (try again), rather than a fault of ours?
pub fn transient(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::Io(_))
}
