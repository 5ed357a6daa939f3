//! A copy of a store as it is at one moment, while its server goes on writing.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use super::BUSY_TIMEOUT;

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The store cannot be read, or the copy not written.
    #[error("cannot copy {} to {}: is the disk full, and may this user read the one and write the other?", from.display(), to.display())]
    Copy {
        /// The store.
        from: PathBuf,
        /// The copy.
        to: PathBuf,
        /// What SQLite says.
        source: sqlx::Error,
    },
    /// The copy was written, but it is not known to be on disk.
    #[error("the copy {} does not get to the disk", to.display())]
    Sync {
        /// The copy.
        to: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// SQLite takes file names only as text.
    #[error("{} is no text in UTF-8: name another folder", to.display())]
    Name {
        /// The copy.
        to: PathBuf,
    },
}

/// Copies the store in the file at `from` into a new file at `to`, as it is at this moment.
///
/// All that was committed when it began is in it, and nothing that came later. The copy is on disk when this answers. Whoever writes to the store meanwhile is not held up.
pub async fn copy(from: &Path, to: &Path) -> Result<(), CopyError> {
    let name = to.to_str().ok_or_else(|| CopyError::Name { to: to.to_owned() })?;
    let options = SqliteConnectOptions::new().filename(from).busy_timeout(BUSY_TIMEOUT);
    let copied = async {
        let mut connection = SqliteConnection::connect_with(&options).await?;
        // It reads in one transaction, and leaves out what was deleted and the free pages.
        sqlx::query("VACUUM INTO ?1").bind(name).execute(&mut connection).await?;
        connection.close().await
    };
    copied.await.map_err(|source| CopyError::Copy { from: from.to_owned(), to: to.to_owned(), source })?;
    let synced = File::open(to).and_then(|file| file.sync_all());
    synced.map_err(|source| CopyError::Sync { to: to.to_owned(), source })
}
