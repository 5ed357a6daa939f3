//! Moving a service's store from one machine to many: from its SQLite file into its schema of a PostgreSQL database.
//!
//! A service says what its tables are ([`Table`]) and how a row of SQLite reads as a row of PostgreSQL; how they are moved is the same
//! for all and is here. Rows go over in batches, each in one transaction with the note how far it came, so a move that was killed goes
//! on where it was. At the end both sides are read as a whole and compared: as many rows, and the same digest over them. Only then
//! is the move over, and until then no pod starts on the tables (`postgres.rs`).

mod row;
mod target;
#[cfg(test)]
mod tests;

use std::fmt;

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::sqlite::SqlitePool;

pub use self::row::{Column, Kind, Table, Tally};
use self::target::Target;
use crate::{postgres, sqlite};

/// How many rows go over in one transaction.
const BATCH_ROWS: usize = if cfg!(test) { 3 } else { 1000 };

/// What is moved, and where.
#[derive(Debug)]
pub struct Transfer<'a> {
    /// The service; its tables are in the schema of that name.
    pub service: &'static str,
    /// All tables that are moved.
    pub tables: &'static [Table],
    /// The SQLite file, which nobody else may have open.
    pub source: &'a SqlitePool,
    /// The database.
    pub target: &'a PgConnectOptions,
    /// What makes the tables there.
    pub migrator: &'a Migrator,
    /// Tells one installation from another: a value that is derived from its key file for this purpose.
    pub installation: [u8; 32],
}

/// How far a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The service.
    pub service: &'static str,
    /// Its table.
    pub table: &'static str,
    /// What is being done with the rows.
    pub step: Step,
    /// With how many of them it was done.
    pub rows_done: u64,
    /// How many there are.
    pub rows: u64,
}

/// What is being done with rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// They go over.
    Copied,
    /// They are read in SQLite once more.
    Read,
    /// They are read in PostgreSQL, and compared.
    Compared,
}

/// What was moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Whether it had been moved before, and nothing was left to do.
    pub before: bool,
    /// Each table with what it holds.
    pub tables: Vec<(&'static str, Tally)>,
}

/// Hears how far a move is.
pub type Hear<'a> = &'a mut (dyn FnMut(Progress) + Send);

/// Moves all tables of a service; what a killed move left begun is carried on. Fails if both sides are not the same at the end.
///
/// `finish` writes what is no row, such as the place of a sequence, in the transaction with which the move is over.
pub async fn transfer(
    transfer: &Transfer<'_>,
    hear: Hear<'_>,
    finish: impl AsyncFnOnce(&mut PgConnection) -> Result<(), sqlx::Error>,
) -> Result<Moved, TransferError> {
    let mut target = Target::open(transfer).await?;
    let before = target.finished;
    if !before {
        target.copy(hear).await?;
    }
    let tables = target.compare(hear).await?;
    if !before {
        target.finish(&tables, finish).await?;
    }
    target.close().await;
    Ok(Moved { before, tables })
}

/// Why a store was not moved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// The SQLite file cannot be used.
    #[error(transparent)]
    Source(#[from] sqlite::OpenError),
    /// The database cannot be used.
    #[error(transparent)]
    Target(#[from] postgres::OpenError),
    /// Pods run on the database.
    #[error("pods of {service} are connected to the database: stop them first (connections: {connections})")]
    Pods {
        /// The service.
        service: &'static str,
        /// How many connections they have.
        connections: i64,
    },
    /// Somebody else moves something into it.
    #[error("another move of {service} into this database is running: wait for it")]
    Busy {
        /// The service.
        service: &'static str,
    },
    /// It holds something already.
    #[error(
        "the database is not empty: {service}.{table} has rows that this did not put there. Name an empty database; or, if nobody \
         needs what it holds, `DROP SCHEMA {service} CASCADE`, and call this again"
    )]
    Filled {
        /// The service.
        service: &'static str,
        /// The first table that has rows.
        table: &'static str,
    },
    /// It holds another installation.
    #[error("the database holds {service} of another installation, which has another key file: name an empty database")]
    Another {
        /// The service.
        service: &'static str,
    },
    /// Both sides differ.
    #[error(
        "{service}.{table} is not the same on both sides: {source_tally} in SQLite, {target_tally} in PostgreSQL. One of them was \
         written to since the move began. See that nobody uses them, `DROP SCHEMA {service} CASCADE`, and call this again"
    )]
    Differs {
        /// The service.
        service: &'static str,
        /// Its table.
        table: &'static str,
        /// What is in SQLite.
        source_tally: Tally,
        /// What is in PostgreSQL.
        target_tally: Tally,
    },
    /// The old store was used after it had been moved.
    #[error(
        "{service}.{table} was written to in SQLite after it had been moved: {source_tally}, then it was {moved_tally}. If nobody \
         has used the database yet, `DROP SCHEMA {service} CASCADE` and call this again; else what was written there stays behind"
    )]
    UsedSince {
        /// The service.
        service: &'static str,
        /// Its table.
        table: &'static str,
        /// What is in SQLite.
        source_tally: Tally,
        /// What was moved.
        moved_tally: Tally,
    },
    /// SQLite failed.
    #[error("cannot read the SQLite store of {service}: {table}")]
    Read {
        /// The service.
        service: &'static str,
        /// What was being read.
        table: &'static str,
        /// What it says.
        source: sqlx::Error,
    },
    /// PostgreSQL failed.
    #[error("PostgreSQL did not take {service}: {table}; call this again, and it goes on where it was")]
    Write {
        /// The service.
        service: &'static str,
        /// What was being read or written.
        table: &'static str,
        /// What it says.
        source: sqlx::Error,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Copied => "copied",
            Self::Read => "read again",
            Self::Compared => "compared",
        })
    }
}
