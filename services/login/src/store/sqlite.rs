//! The store in one SQLite file.

mod accounts;
mod attempts;
mod notices;

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use flaghoist_runtime::names::UserId;
use flaghoist_runtime::sqlite::{self, Database, OpenError};
use sqlx::migrate::Migrator;
use sqlx::{Sqlite, Transaction};

use super::{Changed, Created, Notice, Store, StoreError};
use crate::account::{Account, Credentials, DisplayName, NewAccount};
use crate::handle::Handle;
use crate::invitation::InvitationDigest;
use crate::throttle::{AttemptKey, Delays};

static MIGRATOR: Migrator = sqlx::migrate!("migrations/sqlite");

/// The store in one SQLite file.
#[derive(Clone, Debug)]
pub(crate) struct SqliteStore {
    database: Database,
}

impl SqliteStore {
    /// Opens, or makes, the file at `path`. Another process may have it open, too.
    pub(crate) async fn open(path: &Path) -> Result<Self, OpenError> {
        Ok(Self { database: sqlite::open(path, &MIGRATOR).await? })
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

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        if sqlite::transient(&error) { Self::Unavailable(Box::new(error)) } else { Self::Failed(Box::new(error)) }
    }
}

/// The bytes by which a person is kept.
fn key(user: &UserId) -> &[u8] {
    user.0.as_bytes()
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
        Ok(accounts::create(self, new, invitation).await?)
    }

    async fn account(&self, user: UserId) -> Result<Option<Account>, StoreError> {
        let found = accounts::by_user(&self.database.readers, user).await?;
        Ok(found.filter(|found| !found.deleting).map(|found| found.account))
    }

    async fn account_by_handle(&self, handle: &Handle) -> Result<Option<Account>, StoreError> {
        let found = accounts::by_handle(&self.database.readers, handle).await?;
        Ok(found.filter(|found| !found.deleting).map(|found| found.account))
    }

    async fn users(&self, users: &[UserId]) -> Result<Vec<(UserId, Handle)>, StoreError> {
        Ok(accounts::users(self, users).await?)
    }

    async fn credentials(&self, handle: &Handle) -> Result<Option<Credentials>, StoreError> {
        Ok(accounts::by_handle(&self.database.readers, handle).await?)
    }

    async fn credentials_of(&self, user: UserId) -> Result<Option<Credentials>, StoreError> {
        Ok(accounts::by_user(&self.database.readers, user).await?)
    }

    async fn set_display_name(&self, user: UserId, name: &DisplayName) -> Result<Option<Account>, StoreError> {
        Ok(accounts::set_display_name(self, user, name).await?)
    }

    async fn renew_password_hash(&self, user: UserId, old: &str, new: &str) -> Result<(), StoreError> {
        Ok(accounts::renew_password_hash(self, user, old, new).await?)
    }

    async fn change_password(
        &self,
        user: UserId,
        version: i64,
        hash: &str,
        kept_session: &str,
        now: i64,
    ) -> Result<bool, StoreError> {
        Ok(accounts::change_password(self, user, version, hash, kept_session, now).await?)
    }

    async fn set_disabled(&self, user: UserId, disabled: bool, now: i64) -> Result<Changed, StoreError> {
        Ok(accounts::change(self, user, accounts::Change::Disabled(disabled), now).await?)
    }

    async fn set_admin(&self, user: UserId, admin: bool, now: i64) -> Result<Changed, StoreError> {
        Ok(accounts::change(self, user, accounts::Change::Admin(admin), now).await?)
    }

    async fn begin_deletion(&self, user: UserId, now: i64) -> Result<Changed, StoreError> {
        Ok(accounts::change(self, user, accounts::Change::Deleting, now).await?)
    }

    async fn finish_deletion(&self, user: UserId, attempts_at: [u8; 16]) -> Result<(), StoreError> {
        Ok(accounts::finish_deletion(self, user, attempts_at).await?)
    }

    async fn create_invitation(
        &self,
        digest: InvitationDigest,
        now: i64,
        expires_at: i64,
        outstanding_max: u32,
    ) -> Result<bool, StoreError> {
        Ok(accounts::create_invitation(self, digest, now, expires_at, outstanding_max).await?)
    }

    async fn invitation_usable(&self, digest: InvitationDigest, now: i64) -> Result<bool, StoreError> {
        Ok(accounts::invitation_usable(self, digest, now).await?)
    }

    async fn reserve_attempt(&self, key: AttemptKey, delays: Delays, now: i64) -> Result<Option<Duration>, StoreError> {
        Ok(attempts::reserve(self, key, delays, now).await?)
    }

    async fn attempt_succeeded(&self, key: AttemptKey, known_max: u32, now: i64) -> Result<(), StoreError> {
        Ok(attempts::succeeded(self, key, known_max, now).await?)
    }

    async fn forget_attempts(&self, now: i64, rows_max: u32) -> Result<(), StoreError> {
        Ok(attempts::forget(self, now, rows_max).await?)
    }

    async fn notices(&self, user: UserId) -> Result<Vec<(i64, Notice)>, StoreError> {
        Ok(notices::of(self, user).await?)
    }

    async fn users_with_notices(&self, max: u32) -> Result<Vec<UserId>, StoreError> {
        Ok(notices::users(self, max).await?)
    }

    async fn told(&self, id: i64) -> Result<(), StoreError> {
        Ok(notices::told(self, id).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::store::conformance::suite!(|folder: &Path| {
        let path = folder.join("login.db");
        async move { SqliteStore::open(&path).await.unwrap() }
    });
}
