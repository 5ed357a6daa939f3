//! The lock on a data folder: one server at a time may use it, since two would each believe in their own caches. Services that run
//! by themselves may share a folder, each with its own store, and not with a server that has all. The locks are the kernel's
//! (flock), so they go with the process however that ends; the pid in the file is only told.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::process;

use super::process::Process;
use crate::exit::{Exit, Failure};

/// The file in the data folder that is locked: by a server with all services for itself, by single services together.
const LOCK_FILE: &str = "flaghoist.lock";

/// The right to use a data folder, until it is dropped.
#[derive(Debug)]
pub(crate) struct DataLock {
    _files: Vec<File>,
}

impl DataLock {
    /// Locks `data` for a process, and makes it if it is not there.
    pub(crate) fn take_or_make(data: &Path, process: Process) -> Result<Self, Failure> {
        DirBuilder::new().recursive(true).mode(0o700).create(data).map_err(|error| {
            Failure::new(
                Exit::Occupied,
                format!("cannot make the data folder {}: {error}; name another with --data", data.display()),
            )
        })?;
        Self::take(data, process)
    }

    /// Locks `data` for a process, or says who uses it.
    pub(crate) fn take(data: &Path, process: Process) -> Result<Self, Failure> {
        match process {
            Process::All => Ok(Self { _files: vec![lock(data, LOCK_FILE)?] }),
            Process::One(service) => {
                let together = File::try_lock_shared;
                let whole = lock_with(data, LOCK_FILE, together)?;
                Ok(Self { _files: vec![whole, lock(data, &format!("{service}.lock"))?] })
            }
        }
    }
}

/// Locks a file for this process alone, and writes its pid there.
fn lock(data: &Path, name: &str) -> Result<File, Failure> {
    let mut file = lock_with(data, name, File::try_lock)?;
    let written = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| file.write_all(format!("{}\n", process::id()).as_bytes()));
    if let Err(error) = written {
        // The lock holds without it: a full disk must not keep a server from starting to answer reads.
        eprintln!("flaghoist: cannot write {}: {error}", data.join(name).display());
    }
    Ok(file)
}

fn lock_with(data: &Path, name: &str, take: fn(&File) -> Result<(), TryLockError>) -> Result<File, Failure> {
    let unusable = |error: std::io::Error| {
        Failure::new(
            Exit::Occupied,
            format!("cannot use the data folder {}: {error}; may this user write to it?", data.display()),
        )
    };
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = options.open(data.join(name)).map_err(unusable)?;
    match take(&file) {
        Ok(()) => Ok(file),
        Err(TryLockError::Error(error)) => Err(unusable(error)),
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = (&mut file).take(32).read_to_string(&mut pid);
            let who = match pid.trim() {
                "" => "another process".to_owned(),
                pid => format!("process {pid}"),
            };
            Err(Failure::new(
                Exit::Occupied,
                format!(
                    "the data folder {} is in use by {who}: stop it first, or name another folder with --data",
                    data.display()
                ),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::process::Service;
    use super::*;

    #[test]
    fn a_folder_in_use_is_refused_with_the_pid_of_its_user() {
        let place = tempfile::tempdir().unwrap();
        let data = place.path().join("a/b");
        let first = DataLock::take_or_make(&data, Process::All).unwrap();
        let refused = DataLock::take(&data, Process::All).unwrap_err();
        assert_eq!(refused.exit, Exit::Occupied);
        assert!(refused.message.contains(&format!("in use by process {}", process::id())), "{}", refused.message);
        drop(first);
        DataLock::take(&data, Process::All).unwrap();
    }

    #[test]
    fn single_services_share_a_folder_but_not_with_one_another_of_their_kind_nor_with_a_whole_server() {
        let place = tempfile::tempdir().unwrap();
        let take = |process| DataLock::take(place.path(), process);
        let send = take(Process::One(Service::Send)).unwrap();
        let login = take(Process::One(Service::Login)).unwrap();
        let refused = take(Process::One(Service::Send)).unwrap_err();
        assert!(refused.message.contains(&format!("in use by process {}", process::id())), "{}", refused.message);
        assert_eq!(take(Process::All).unwrap_err().exit, Exit::Occupied);
        drop((send, login));
        let _whole = take(Process::All).unwrap();
        assert_eq!(take(Process::One(Service::Send)).unwrap_err().exit, Exit::Occupied);
    }

    #[test]
    fn a_folder_that_cannot_be_made_says_so() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let refused = DataLock::take_or_make(&file.path().join("data"), Process::All).unwrap_err();
        assert_eq!(refused.exit, Exit::Occupied);
        assert!(refused.message.contains("--data"), "{}", refused.message);
    }
}
