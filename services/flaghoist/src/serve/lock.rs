//! The lock on a data folder: one server at a time may use it, since two would each believe in their own caches. Services that run
//! by themselves may share a folder, each with its own store, and not with a server that has all. The locks are the kernel's
//! (flock), so they go with the process however that ends; the pids in the files are only told, each by who has that file alone.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::process;

use super::process::{Process, Service};
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
                let whole = lock_with(data, LOCK_FILE, File::try_lock_shared)?;
                // Whoever wrote there is gone: nobody has the file alone.
                let _kept = whole.set_len(0);
                Ok(Self { _files: vec![whole, lock(data, &file_of(service))?] })
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

/// The file that a single service locks for itself.
fn file_of(service: Service) -> String {
    format!("{service}.lock")
}

/// Who holds a file that is locked: who has written there, or the single services that hold it together.
fn holders(data: &Path, name: &str, file: &mut File) -> String {
    let mut holders: Vec<String> = written_pid(file).into_iter().map(|pid| format!("process {pid}")).collect();
    if name == LOCK_FILE {
        holders.extend(Service::ALL.into_iter().filter_map(|service| single(data, service)));
    }
    if holders.is_empty() { "another process".to_owned() } else { holders.join(" and ") }
}

/// The process of a single service in the folder, if there is one.
fn single(data: &Path, service: Service) -> Option<String> {
    let mut file = File::open(data.join(file_of(service))).ok()?;
    // What a process wrote that is gone is still there, its lock is not. Had for a moment, it is given back when the file is closed.
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Some(match written_pid(&mut file) {
            Some(pid) => format!("process {pid} ({service})"),
            None => format!("another process ({service})"),
        }),
        _ => None,
    }
}

fn written_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    let _read = file.take(32).read_to_string(&mut text);
    text.trim().parse().ok()
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
            let who = holders(data, name, &mut file);
            Err(Failure::new(
                Exit::Occupied,
                format!(
                    "the data folder {} is in use by {who}: stop that first, or name another folder with --data",
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
    fn a_folder_that_single_services_use_is_refused_with_their_pids_and_none_of_before() {
        let place = tempfile::tempdir().unwrap();
        let take = |process| DataLock::take(place.path(), process);
        // Pids that no process has: what a server and two services have left.
        for name in [LOCK_FILE, "send.lock", "receiver.lock"] {
            std::fs::write(place.path().join(name), "2147483647\n").unwrap();
        }
        let who = || {
            let message = take(Process::All).unwrap_err().message;
            let (_, who) = message.split_once("in use by ").unwrap();
            who.split_once(": ").unwrap().0.to_owned()
        };
        let own = process::id();
        let send = take(Process::One(Service::Send)).unwrap();
        assert_eq!(who(), format!("process {own} (send)"));
        let login = take(Process::One(Service::Login)).unwrap();
        assert_eq!(who(), format!("process {own} (login) and process {own} (send)"));
        drop(send);
        assert_eq!(who(), format!("process {own} (login)"));
        drop(login);
        let _whole = take(Process::All).unwrap();
        assert_eq!(who(), format!("process {own}"));
    }

    #[test]
    fn a_folder_that_cannot_be_made_says_so() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let refused = DataLock::take_or_make(&file.path().join("data"), Process::All).unwrap_err();
        assert_eq!(refused.exit, Exit::Occupied);
        assert!(refused.message.contains("--data"), "{}", refused.message);
    }
}
