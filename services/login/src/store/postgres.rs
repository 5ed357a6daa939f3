//! The store in a PostgreSQL database that several pods share.
//!
//! Every decision falls in the database: by one statement where that is possible, else under a lock that lasts as long as its
//! transaction. Transactions are READ COMMITTED, so a statement sees what was committed before it began, also by those for whom a
//! lock was waited.

/// Does a transaction again that was undone because it was in another's way.
macro_rules! settled {
    ($transaction:expr) => {
        $crate::store::postgres::in_time(async {
            let mut repeats = 0;
            loop {
                match $transaction.await {
                    Err(error)
                        if flaghoist_runtime::postgres::conflicted(&error)
                            && repeats < $crate::store::postgres::REPEATS_MAX =>
                    {
                        repeats += 1
                    }
                    outcome => break outcome,
                }
            }
        })
        .await
    };
}

mod account_sessions;
mod accounts;
mod attempts;
mod contacts;
mod erasures;
mod factors;
mod history;
mod invitations;
mod keys;
mod lanes;
mod logins;
mod notices;
mod outbox;
mod resets;
mod upkeep;

use std::time::Duration;

use async_trait::async_trait;
use flaghoist_runtime::names::UserId;
use flaghoist_runtime::postgres::{self, OpenError};
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool};

use super::{Changed, Created, Holder, Notice, Store, StoreError};
use crate::account::{Account, AccountChange, Credentials, NewAccount};
use crate::handle::Handle;
use crate::invitation::InvitationDigest;
use crate::throttle::quota::{BucketKey, Quota};
use crate::throttle::{AttemptKey, Delays};

pub(super) static MIGRATOR: Migrator = sqlx::migrate!("migrations/postgres");

/// How often a transaction that was in another's way is made again.
const REPEATS_MAX: u32 = 5;

/// How long an answer may take in all. The server ends a statement sooner; this is for a server that is not heard of.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// The store in a PostgreSQL database.
#[derive(Clone, Debug)]
pub(crate) struct PostgresStore {
    pool: PgPool,
}

impl PostgresStore {
    /// Opens the database and brings the tables up to date.
    pub(crate) async fn open(address: &PgConnectOptions, connections_max: u32) -> Result<Self, OpenError> {
        Ok(Self { pool: postgres::open(address, "login", connections_max, &MIGRATOR).await? })
    }

    /// Whether this pod has the key file that the others have, by a value that is derived from it. The first one to ask decides.
    pub(crate) async fn agrees(&self, derived: &[u8; 32]) -> Result<bool, StoreError> {
        settled!(upkeep::agree(self, derived))
    }

    /// The connections.
    pub(crate) fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Closes all connections.
    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }
}

/// Waits for an answer of the database, but not for ever: what login does beside all calls has no caller who gives up.
async fn in_time<T>(asking: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, StoreError> {
    tokio::time::timeout(ANSWER_MAX, asking).await.unwrap_or_else(|_late| Err(postgres::silent())).map_err(failed)
}

fn failed(error: sqlx::Error) -> StoreError {
    let transient = postgres::transient(&error);
    if transient { StoreError::Unavailable(Box::new(error)) } else { StoreError::Failed(Box::new(error)) }
}

/// The bytes by which a person is kept.
fn key(user: &UserId) -> &[u8] {
    user.0.as_bytes()
}

/// The person that bytes of the store stand for.
fn user(bytes: &[u8]) -> Result<UserId, sqlx::Error> {
    uuid::Uuid::from_slice(bytes).map(UserId).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

/// Milliseconds as PostgreSQL counts them.
fn milliseconds(time: Duration) -> i64 {
    crate::throttle::millis(time)
}

/// Waits for a lock that ends with the transaction of `connection`. What it protects must be read by a later statement.
async fn lock(connection: &mut PgConnection, number: i64) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(number).execute(connection).await?;
    Ok(())
}

/// The number of a lock by its name. Two that meet by chance wait for one another and do no harm.
const fn lock_number(name: &[u8; 8]) -> i64 {
    i64::from_be_bytes(*name)
}

#[async_trait]
impl Store for PostgresStore {
    async fn create_account(
        &self,
        new: &NewAccount,
        invitation: Option<InvitationDigest>,
    ) -> Result<Created, StoreError> {
        settled!(accounts::create(self, new, invitation))
    }

    async fn account(&self, user: UserId) -> Result<Option<Account>, StoreError> {
        let found = in_time(accounts::by_user(&self.pool, user)).await?;
        Ok(found.filter(|found| !found.deleting).map(|found| found.account))
    }

    async fn account_by_handle(&self, handle: &Handle) -> Result<Option<Account>, StoreError> {
        let found = in_time(accounts::by_handle(&self.pool, handle)).await?;
        Ok(found.filter(|found| !found.deleting).map(|found| found.account))
    }

    async fn users(&self, users: &[UserId]) -> Result<Vec<(UserId, Handle)>, StoreError> {
        in_time(accounts::users(self, users)).await
    }

    async fn credentials(&self, handle: &Handle) -> Result<Option<Credentials>, StoreError> {
        in_time(accounts::by_handle(&self.pool, handle)).await
    }

    async fn credentials_of(&self, user: UserId) -> Result<Option<Credentials>, StoreError> {
        in_time(accounts::by_user(&self.pool, user)).await
    }

    async fn change_account(&self, user: UserId, change: &AccountChange) -> Result<Option<Account>, StoreError> {
        settled!(accounts::change_said(self, user, change))
    }

    async fn renew_password_hash(&self, user: UserId, old: &str, new: &str) -> Result<(), StoreError> {
        settled!(accounts::renew_password_hash(self, user, old, new))
    }

    async fn change_password(
        &self,
        user: UserId,
        version: i64,
        hash: &str,
        kept_session: &str,
        now: i64,
    ) -> Result<bool, StoreError> {
        settled!(accounts::change_password(self, user, version, hash, kept_session, now))
    }

    async fn set_disabled(&self, user: UserId, disabled: bool, by: &str, now: i64) -> Result<Changed, StoreError> {
        settled!(accounts::change(self, user, accounts::Change::Disabled(disabled), by, now))
    }

    async fn set_admin(&self, user: UserId, admin: bool, by: &str, now: i64) -> Result<Changed, StoreError> {
        settled!(accounts::change(self, user, accounts::Change::Admin(admin), by, now))
    }

    async fn begin_deletion(&self, user: UserId, now: i64) -> Result<Changed, StoreError> {
        settled!(accounts::change(self, user, accounts::Change::Deleting, "", now))
    }

    async fn finish_deletion(&self, user: UserId, attempts_at: &[[u8; 16]]) -> Result<(), StoreError> {
        settled!(accounts::finish_deletion(self, user, attempts_at))
    }

    async fn create_invitation(
        &self,
        digest: InvitationDigest,
        now: i64,
        expires_at: i64,
        outstanding_max: u32,
    ) -> Result<bool, StoreError> {
        settled!(invitations::create(self, digest, now, expires_at, outstanding_max))
    }

    async fn invitation_usable(&self, digest: InvitationDigest, now: i64) -> Result<bool, StoreError> {
        in_time(invitations::usable(self, digest, now)).await
    }

    async fn reserve_attempt(&self, key: AttemptKey, delays: Delays, now: i64) -> Result<Option<Duration>, StoreError> {
        settled!(attempts::reserve(self, key, delays, now))
    }

    async fn attempt_succeeded(&self, key: AttemptKey, known_max: Option<u32>, now: i64) -> Result<(), StoreError> {
        settled!(attempts::forget_succeeded(self, key, known_max, now))
    }

    async fn take(&self, bucket: BucketKey, quota: Quota, now: i64) -> Result<Option<Duration>, StoreError> {
        settled!(attempts::take(self, bucket, quota, now))
    }

    async fn forget(&self, now: i64, rows_max: u32) -> Result<(), StoreError> {
        in_time(upkeep::forget(self, now, rows_max)).await
    }

    async fn take_lane(&self, user: UserId, holder: Holder, hold: Duration) -> Result<bool, StoreError> {
        settled!(lanes::take(self, user, holder, hold))
    }

    async fn keep_lane(&self, user: UserId, holder: Holder, hold: Duration) -> Result<bool, StoreError> {
        settled!(lanes::keep(self, user, holder, hold))
    }

    async fn leave_lane(&self, user: UserId, holder: Holder) -> Result<(), StoreError> {
        settled!(lanes::leave(self, user, holder))
    }

    async fn note_state(&self, user: UserId, now: i64) -> Result<(), StoreError> {
        settled!(notices::note_state(self, user, now))
    }

    async fn notices(&self, user: UserId) -> Result<Vec<(i64, Notice)>, StoreError> {
        in_time(notices::of(self, user)).await
    }

    async fn users_with_notices(&self, max: u32) -> Result<Vec<UserId>, StoreError> {
        in_time(notices::users(self, max)).await
    }

    async fn told(&self, id: i64) -> Result<(), StoreError> {
        in_time(notices::told(self, id)).await
    }
}

#[cfg(test)]
mod tests;
