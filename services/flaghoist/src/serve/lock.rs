//! The lock on a data folder: one server at a time may use it, since two would each believe in their own caches. The lock
//! is the kernel's (flock), so it goes with the process however that ends; the pid in the file is only told.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::process;

use crate::exit::{Exit, Failure};

/// The file in the data folder that is locked.
const LOCK_FILE: &str = "flaghoist.lock";

/// The right to use a data folder, until it is dropped.
#[derive(Debug)]
pub(crate) struct DataLock {
    _file: File,
}

impl DataLock {
    /// Locks `data`, and makes it if it is not there.
    pub(crate) fn take_or_make(data: &Path) -> Result<Self, Failure> {
        DirBuilder::new().recursive(true).mode(0o700).create(data).map_err(|error| {
            Failure::new(
                Exit::Occupied,
                format!("cannot make the data folder {}: {error}; name another with --data", data.display()),
            )
        })?;
        Self::take(data)
    }

    /// Locks `data`, or says who uses it.
    pub(crate) fn take(data: &Path) -> Result<Self, Failure> {
        let path = data.join(LOCK_FILE);
        let unusable = |error: std::io::Error| {
            Failure::new(
                Exit::Occupied,
                format!("cannot use the data folder {}: {error}; may this user write to it?", data.display()),
            )
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let _ = (&mut file).take(32).read_to_string(&mut pid);
                let who = match pid.trim() {
                    "" => "another process".to_owned(),
                    pid => format!("process {pid}"),
                };
                return Err(Failure::new(
                    Exit::Occupied,
                    format!(
                        "the data folder {} is in use by {who}: stop it first, or name another folder with --data",
                        data.display()
                    ),
                ));
            }
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(format!("{}\n", process::id()).as_bytes()));
        if let Err(error) = written {
            // The lock holds without it: a full disk must not keep a server from starting to answer reads.
            eprintln!("flaghoist: cannot write {}: {error}", path.display());
        }
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_in_use_is_refused_with_the_pid_of_its_user() {
        let place = tempfile::tempdir().unwrap();
        let data = place.path().join("a/b");
        let first = DataLock::take_or_make(&data).unwrap();
        let refused = DataLock::take(&data).unwrap_err();
        assert_eq!(refused.exit, Exit::Occupied);
        assert!(refused.message.contains(&format!("in use by process {}", process::id())), "{}", refused.message);
        drop(first);
        DataLock::take(&data).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_made_says_so() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let refused = DataLock::take_or_make(&file.path().join("data")).unwrap_err();
        assert_eq!(refused.exit, Exit::Occupied);
        assert!(refused.message.contains("--data"), "{}", refused.message);
    }
}
