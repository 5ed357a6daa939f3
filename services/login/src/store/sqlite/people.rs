//! What every login reads of its person: those that come while one reading is under way are read together in the next. On a machine whose
//! cores hash passwords a turn of a thread that reads costs more than what it does there.

use std::sync::Arc;

use flaghoist_runtime::batch::Batcher;
use flaghoist_runtime::names::UserId;
use flaghoist_runtime::sqlite::Database;
use sqlx::SqlitePool;

use super::contacts::KeptContacts;
use super::{accounts, failed};
use crate::account::Credentials;
use crate::handle::Handle;
use crate::store::StoreError;

/// How many are read together.
const BATCH_MAX: usize = 256;
/// How many may wait; more are refused.
const QUEUE_MAX: usize = 16_384;

type Reading<Key, Found> = Batcher<Key, Result<Found, Arc<sqlx::Error>>>;

/// Reads what is submitted.
#[derive(Clone, Debug)]
pub(super) struct People {
    by_handle: Reading<Handle, Option<Credentials>>,
    by_user: Reading<UserId, Option<(Credentials, KeptContacts)>>,
}

fn reading<Key, Found, Read>(
    name: &'static str,
    readers: &SqlitePool,
    read: impl Fn(SqlitePool, Vec<Key>) -> Read + Send + 'static,
) -> Reading<Key, Found>
where
    Key: Send + 'static,
    Found: Send + 'static,
    Read: Future<Output = Result<Vec<Found>, sqlx::Error>> + Send + 'static,
{
    let readers = readers.clone();
    Batcher::whole(name, QUEUE_MAX, BATCH_MAX, move |keys| read(readers.clone(), keys))
}

async fn found<Key, Found>(reading: &Reading<Key, Found>, key: Key) -> Result<Found, StoreError>
where
    Key: Send + 'static,
    Found: Send + 'static,
{
    match reading.submit(key).await {
        Ok(found) => found.map_err(failed),
        Err(refused) => Err(StoreError::Unavailable(Box::new(refused))),
    }
}

impl People {
    pub(super) fn start(database: &Database) -> Self {
        let readers = &database.readers;
        Self {
            by_handle: reading("login_read_handles", readers, accounts::by_handles),
            by_user: reading("login_read_people", readers, accounts::people),
        }
    }

    pub(super) async fn by_handle(&self, handle: &Handle) -> Result<Option<Credentials>, StoreError> {
        found(&self.by_handle, handle.clone()).await
    }

    pub(super) async fn by_user(&self, user: UserId) -> Result<Option<(Credentials, KeptContacts)>, StoreError> {
        found(&self.by_user, user).await
    }
}
