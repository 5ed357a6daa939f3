//! The store in one SQLite file, which one process owns; `flaghoist admin` may have it open beside that one.

mod account_sessions;
mod accounts;
mod attempts;
mod commit;
mod contacts;
mod erasures;
mod factors;
mod history;
mod keys;
mod logins;
mod memory;
mod notices;
mod outbox;
mod people;
mod resets;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use flaghoist_runtime::names::UserId;
use flaghoist_runtime::sqlite::{self, Database, OpenError};
use sqlx::migrate::Migrator;
use sqlx::{Sqlite, Transaction};

use self::commit::{Commits, Write, Written};
use self::memory::Memory;
use self::people::People;
use super::{Changed, Created, Holder, Notice, Store, StoreError};
use crate::account::{Account, AccountChange, Credentials, NewAccount};
use crate::contact::Contacts;
use crate::handle::Handle;
use crate::invitation::InvitationDigest;
use crate::throttle::quota::{BucketKey, Quota};
use crate::throttle::{AttemptKey, Delays};

pub(super) static MIGRATOR: Migrator = sqlx::migrate!("migrations/sqlite");

/// The store in one SQLite file.
#[derive(Clone, Debug)]
pub(crate) struct SqliteStore {
    database: Database,
    memory: Arc<Memory>,
    commits: Commits,
    people: People,
}

impl SqliteStore {
    /// Opens, or makes, the file at `path`. Another process may have it open, too.
    pub(crate) async fn open(path: &Path) -> Result<Self, OpenError> {
        let database = sqlite::open(path, &MIGRATOR).await?;
        let (commits, people) = (Commits::start(database.clone()), People::start(&database));
        Ok(Self { database, memory: Arc::default(), commits, people })
    }

    /// Closes all connections.
    pub(crate) async fn close(&self) {
        self.database.close().await;
    }

    /// A transaction that may write from its beginning, so that what it reads stays true until its commit.
    async fn write(&self) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
        self.database.writer.begin_with("BEGIN IMMEDIATE").await
    }
}

fn failed(error: impl Into<Arc<sqlx::Error>>) -> StoreError {
    let error = error.into();
    let transient = sqlite::transient(&error);
    if transient { StoreError::Unavailable(Box::new(error)) } else { StoreError::Failed(Box::new(error)) }
}

/// A JSON list, as `json_each` takes it.
fn json(list: &impl serde::Serialize) -> Result<String, sqlx::Error> {
    serde_json::to_string(list).map_err(|error| sqlx::Error::Encode(Box::new(error)))
}

/// The bytes by which a person is kept.
fn key(user: &UserId) -> &[u8] {
    user.0.as_bytes()
}

/// The same in hexadecimal, as `unhex` takes it from JSON.
fn hex(user: &UserId) -> String {
    user.0.simple().to_string()
}

/// The person that bytes of the store stand for.
fn user(bytes: &[u8]) -> Result<UserId, sqlx::Error> {
    uuid::Uuid::from_slice(bytes).map(UserId).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

#[async_trait]
impl Store for SqliteStore {
    async fn create_account(
        &self,
        new: &NewAccount,
        invitation: Option<InvitationDigest>,
    ) -> Result<Created, StoreError> {
        accounts::create(self, new, invitation).await.map_err(failed)
    }

    async fn account(&self, user: UserId) -> Result<Option<Account>, StoreError> {
        let found = self.people.by_user(user).await?.map(|(found, _)| found);
        Ok(found.filter(|found| !found.deleting).map(|found| found.account))
    }

    async fn account_by_handle(&self, handle: &Handle) -> Result<Option<Account>, StoreError> {
        let found = self.people.by_handle(handle).await?;
        Ok(found.filter(|found| !found.deleting).map(|found| found.account))
    }

    async fn users(&self, users: &[UserId]) -> Result<Vec<(UserId, Handle)>, StoreError> {
        accounts::users(self, users).await.map_err(failed)
    }

    async fn credentials(&self, handle: &Handle) -> Result<Option<Credentials>, StoreError> {
        self.people.by_handle(handle).await
    }

    async fn credentials_of(&self, user: UserId) -> Result<Option<Credentials>, StoreError> {
        Ok(self.people.by_user(user).await?.map(|(found, _)| found))
    }

    async fn person(&self, user: UserId, now: i64) -> Result<Option<(Credentials, Contacts)>, StoreError> {
        Ok(self.people.by_user(user).await?.map(|(found, kept)| (found, kept.at(now))))
    }

    async fn change_account(&self, user: UserId, change: &AccountChange) -> Result<Option<Account>, StoreError> {
        accounts::change_said(self, user, change).await.map_err(failed)
    }

    async fn renew_password_hash(&self, user: UserId, old: &str, new: &str) -> Result<(), StoreError> {
        accounts::renew_password_hash(self, user, old, new).await.map_err(failed)
    }

    async fn change_password(
        &self,
        user: UserId,
        version: i64,
        hash: &str,
        kept_session: &str,
        now: i64,
    ) -> Result<bool, StoreError> {
        accounts::change_password(self, user, version, hash, kept_session, now).await.map_err(failed)
    }

    async fn set_disabled(&self, user: UserId, disabled: bool, by: &str, now: i64) -> Result<Changed, StoreError> {
        accounts::change(self, user, accounts::Change::Disabled(disabled), by, now).await.map_err(failed)
    }

    async fn set_admin(&self, user: UserId, admin: bool, by: &str, now: i64) -> Result<Changed, StoreError> {
        accounts::change(self, user, accounts::Change::Admin(admin), by, now).await.map_err(failed)
    }

    async fn begin_deletion(&self, user: UserId, now: i64) -> Result<Changed, StoreError> {
        accounts::change(self, user, accounts::Change::Deleting, "", now).await.map_err(failed)
    }

    async fn finish_deletion(&self, user: UserId, attempts_at: &[[u8; 16]]) -> Result<(), StoreError> {
        accounts::finish_deletion(self, user, attempts_at).await.map_err(failed)
    }

    async fn create_invitation(
        &self,
        digest: InvitationDigest,
        now: i64,
        expires_at: i64,
        outstanding_max: u32,
    ) -> Result<bool, StoreError> {
        accounts::create_invitation(self, digest, now, expires_at, outstanding_max).await.map_err(failed)
    }

    async fn invitation_usable(&self, digest: InvitationDigest, now: i64) -> Result<bool, StoreError> {
        accounts::invitation_usable(self, digest, now).await.map_err(failed)
    }

    async fn reserve_attempt(&self, key: AttemptKey, delays: Delays, now: i64) -> Result<Option<Duration>, StoreError> {
        match self.commits.submit(Write::Reserve { key, delays, now }).await? {
            Written::Wait(wait) => Ok(Some(wait)),
            Written::Done | Written::NewPlace => Ok(None),
        }
    }

    async fn attempt_succeeded(&self, key: AttemptKey, known_max: Option<u32>, now: i64) -> Result<(), StoreError> {
        self.commits.submit(Write::Succeeded { key, known_max, now }).await.map(drop)
    }

    async fn take(&self, bucket: BucketKey, quota: Quota, now: i64) -> Result<Option<Duration>, StoreError> {
        Ok(self.memory.take(bucket, quota, now))
    }

    async fn forget(&self, now: i64, rows_max: u32) -> Result<(), StoreError> {
        self.memory.forget(now);
        accounts::forget_invitations(self, now).await.map_err(failed)?;
        logins::forget(self, now, rows_max).await.map_err(failed)?;
        attempts::forget(self, now, rows_max).await.map_err(failed)
    }

    async fn take_lane(&self, user: UserId, holder: Holder, hold: Duration) -> Result<bool, StoreError> {
        Ok(self.memory.take_lane(user, holder, hold))
    }

    async fn keep_lane(&self, user: UserId, holder: Holder, hold: Duration) -> Result<bool, StoreError> {
        Ok(self.memory.keep_lane(user, holder, hold))
    }

    async fn leave_lane(&self, user: UserId, holder: Holder) -> Result<(), StoreError> {
        self.memory.leave_lane(user, holder);
        Ok(())
    }

    async fn note_state(&self, user: UserId, now: i64) -> Result<(), StoreError> {
        notices::note_state(self, user, now).await.map_err(failed)
    }

    async fn notices(&self, user: UserId) -> Result<Vec<(i64, Notice)>, StoreError> {
        notices::of(self, user).await.map_err(failed)
    }

    async fn users_with_notices(&self, max: u32) -> Result<Vec<UserId>, StoreError> {
        notices::users(self, max).await.map_err(failed)
    }

    async fn told(&self, id: i64) -> Result<(), StoreError> {
        notices::told(self, id).await.map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::World;

    crate::store::conformance::suite!(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("login.db");
        // One process owns the file, so its pods are one.
        Some(World::of_one(folder, move || {
            let path = path.clone();
            async move { SqliteStore::open(&path).await.unwrap() }
        }))
    });
}
