//! How many exports are made at once: each compresses, and reads what three other services have. One of each person, so that nobody takes
//! the places of all others.

use std::collections::HashSet;
use std::sync::Arc;

use flaghoist_runtime::names::UserId;
use parking_lot::Mutex;

use crate::error::Error;

/// How many a process makes at once.
const AT_ONCE: usize = 4;

/// Whose exports are being made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exports(Arc<Mutex<HashSet<UserId>>>);

impl Exports {
    /// Takes a place for an export of a person, which is free again when what is answered is dropped.
    pub(crate) fn begin(&self, user: UserId) -> Result<Running, Error> {
        let mut running = self.0.lock();
        if running.contains(&user) {
            return Err(Error::ExportRunning);
        }
        if running.len() >= AT_ONCE {
            return Err(Error::ExportsLimit);
        }
        running.insert(user);
        drop(running);
        Ok(Running { exports: self.clone(), user })
    }
}

/// The place of an export.
#[derive(Debug)]
pub(crate) struct Running {
    exports: Exports,
    user: UserId,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.exports.0.lock().remove(&self.user);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn each_person_has_one_and_all_together_four() {
        let exports = Exports::default();
        let begin = |number| exports.begin(UserId(Uuid::from_u128(number)));
        let mut running: Vec<Running> = (0..4).map(|number| begin(number).unwrap()).collect();
        assert!(matches!(begin(0), Err(Error::ExportRunning)));
        assert!(matches!(begin(4), Err(Error::ExportsLimit)));
        running.remove(0);
        assert!(matches!(begin(1), Err(Error::ExportRunning)), "a place is free, but not for a second one");
        running.push(begin(4).unwrap());
        assert!(matches!(begin(0), Err(Error::ExportsLimit)));
        running.clear();
        begin(0).unwrap();
    }
}
