//! The table of accounts.

use std::collections::BTreeSet;

use flaghoist_runtime::names::UserId;
use flaghoist_runtime::time::{from_millis, millis};
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgExecutor, PgRow};

use super::{PostgresStore, attempts, erasures, invitations, key, lock, lock_number, notices, user};
use crate::account::{Account, AccountChange, Credentials, DisplayName, NewAccount};
use crate::handle::Handle;
use crate::invitation::InvitationDigest;
use crate::store::{Changed, Created, Notice};

/// Whoever ends an admin looks for another one first, alone.
const ENDING_ADMINS: i64 = lock_number(b"endadmin");

fn read(row: &PgRow) -> Result<Credentials, sqlx::Error> {
    Ok(Credentials {
        account: Account {
            user: user(row.try_get("user_id")?)?,
            handle: Handle::stored(row.try_get("handle")?),
            display_name: DisplayName::stored(row.try_get("display_name")?),
            admin: row.try_get("admin")?,
            disabled: row.try_get("disabled")?,
            created_at: from_millis(row.try_get("created_at")?),
            postal_address: row.try_get("postal_address")?,
            language: row.try_get("language")?,
        },
        password_hash: row.try_get("password_hash")?,
        version: row.try_get("credential_version")?,
        deleting: row.try_get("deleting")?,
        untold: row.try_get("untold")?,
        second_factor: row.try_get("second_factor")?,
        security_key: row.try_get("security_key")?,
    })
}

/// What [`read`] reads.
macro_rules! select {
    ($condition:literal) => {
        concat!(
            "SELECT user_id, handle, display_name, password_hash, credential_version, admin, disabled, created_at,
                    postal_address, language,
                    deleting_at IS NOT NULL AS deleting,
                    EXISTS (SELECT 1 FROM notices WHERE notices.user_id = accounts.user_id) AS untold,
                    (EXISTS (SELECT 1 FROM totp WHERE totp.user_id = accounts.user_id)
                 OR EXISTS (SELECT 1 FROM security_keys WHERE security_keys.user_id = accounts.user_id)) AS second_factor,
                EXISTS (SELECT 1 FROM security_keys WHERE security_keys.user_id = accounts.user_id) AS security_key
             FROM accounts WHERE ",
            $condition
        )
    };
}

pub(super) async fn by_user(executor: impl PgExecutor<'_>, user: UserId) -> Result<Option<Credentials>, sqlx::Error> {
    let row = sqlx::query(select!("user_id = $1")).bind(key(&user)).fetch_optional(executor).await?;
    row.as_ref().map(read).transpose()
}

pub(super) async fn by_handle(
    executor: impl PgExecutor<'_>,
    handle: &Handle,
) -> Result<Option<Credentials>, sqlx::Error> {
    let row = sqlx::query(select!("handle = $1")).bind(handle.as_str()).fetch_optional(executor).await?;
    row.as_ref().map(read).transpose()
}

/// The account, which nobody else changes before the transaction of `connection` ends.
async fn locked(connection: &mut PgConnection, user: UserId) -> Result<Option<Credentials>, sqlx::Error> {
    let row =
        sqlx::query(select!("user_id = $1 FOR UPDATE OF accounts")).bind(key(&user)).fetch_optional(connection).await?;
    row.as_ref().map(read).transpose()
}

pub(super) async fn users(store: &PostgresStore, users: &[UserId]) -> Result<Vec<(UserId, Handle)>, sqlx::Error> {
    let ids: Vec<&[u8]> = users.iter().map(key).collect();
    let rows = sqlx::query(
        "SELECT user_id, handle FROM accounts WHERE user_id = ANY ($1) AND NOT disabled AND deleting_at IS NULL",
    )
    .bind(ids)
    .fetch_all(&store.pool)
    .await?;
    rows.iter().map(|row| Ok((user(row.try_get("user_id")?)?, Handle::stored(row.try_get("handle")?)))).collect()
}

/// The row itself decides who has a handle: who comes second waits for the first, and does nothing if that one commits.
pub(super) async fn create(
    store: &PostgresStore,
    new: &NewAccount,
    invitation: Option<InvitationDigest>,
) -> Result<Created, sqlx::Error> {
    let now = millis(new.created_at);
    let mut transaction = store.pool.begin().await?;
    let inserted = sqlx::query(
        "INSERT INTO accounts (user_id, handle, display_name, password_hash, created_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (handle) DO NOTHING",
    )
    .bind(key(&new.user))
    .bind(new.handle.as_str())
    .bind(new.display_name.as_str())
    .bind(&new.password_hash)
    .bind(now)
    .execute(&mut *transaction)
    .await?;
    if inserted.rows_affected() == 0 {
        transaction.rollback().await?;
        return Ok(Created::HandleTaken);
    }
    if let Some(digest) = invitation
        && !invitations::use_up(&mut transaction, digest, now).await?
    {
        transaction.rollback().await?;
        return Ok(Created::InvitationInvalid);
    }
    transaction.commit().await?;
    Ok(Created::Done)
}

pub(super) async fn change_said(
    store: &PostgresStore,
    user: UserId,
    change: &AccountChange,
) -> Result<Option<Account>, sqlx::Error> {
    let mut transaction = store.pool.begin().await?;
    let changed = sqlx::query(
        "UPDATE accounts SET display_name = coalesce($2, display_name), postal_address = coalesce($3, postal_address),
                             language = coalesce($4, language), profile_version = profile_version + 1
         WHERE user_id = $1 AND deleting_at IS NULL",
    )
    .bind(key(&user))
    .bind(change.display_name.as_ref().map(DisplayName::as_str))
    .bind(&change.postal_address)
    .bind(&change.language)
    .execute(&mut *transaction)
    .await?;
    if changed.rows_affected() == 0 {
        transaction.rollback().await?;
        return Ok(None);
    }
    let account = by_user(&mut *transaction, user).await?.map(|found| found.account);
    transaction.commit().await?;
    Ok(account)
}

pub(super) async fn renew_password_hash(
    store: &PostgresStore,
    user: UserId,
    old: &str,
    new: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE accounts SET password_hash = $3 WHERE user_id = $1 AND password_hash = $2")
        .bind(key(&user))
        .bind(old)
        .bind(new)
        .execute(&store.pool)
        .await?;
    Ok(())
}

/// Of two changes at once the second waits for the first and finds another version.
pub(super) async fn change_password(
    store: &PostgresStore,
    user: UserId,
    version: i64,
    hash: &str,
    kept_session: &str,
    now: i64,
) -> Result<bool, sqlx::Error> {
    let mut transaction = store.pool.begin().await?;
    let changed = sqlx::query(
        "UPDATE accounts SET password_hash = $3, credential_version = credential_version + 1
         WHERE user_id = $1 AND credential_version = $2 AND deleting_at IS NULL AND NOT disabled",
    )
    .bind(key(&user))
    .bind(version)
    .bind(hash)
    .execute(&mut *transaction)
    .await?;
    if changed.rows_affected() == 0 {
        transaction.rollback().await?;
        return Ok(false);
    }
    // Whoever began to enrol an app knows its secret, and may be the one against whom the password is changed.
    sqlx::query("DELETE FROM totp_enrolments WHERE user_id = $1").bind(key(&user)).execute(&mut *transaction).await?;
    notices::note(&mut transaction, user, &Notice::EndSessions { except: kept_session.to_owned() }, now).await?;
    transaction.commit().await?;
    Ok(true)
}

/// A change that the issuer is to be told of and that the last admin must survive.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    Disabled(bool),
    Admin(bool),
    Deleting,
}

pub(super) async fn change(
    store: &PostgresStore,
    user: UserId,
    change: Change,
    by: &str,
    now: i64,
) -> Result<Changed, sqlx::Error> {
    let mut transaction = store.pool.begin().await?;
    // What is not committed is rolled back when it is dropped.
    let Some(found) = locked(&mut transaction, user).await? else { return Ok(Changed::Unknown) };
    let Credentials { account, deleting, .. } = found;
    let (done, loses_admin) = match change {
        Change::Disabled(disabled) => (account.disabled == disabled, disabled),
        Change::Admin(admin) => (account.admin == admin, !admin),
        Change::Deleting => (deleting, true),
    };
    if deleting && !matches!(change, Change::Deleting) {
        return Ok(Changed::Unknown);
    }
    if done {
        return Ok(Changed::Done(account));
    }
    if loses_admin && account.admin && !account.disabled {
        // Of two admins who are ended at once both hold their own row; the second looks when the first has committed.
        lock(&mut transaction, ENDING_ADMINS).await?;
        if !other_admin(&mut transaction, user).await? {
            return Ok(Changed::LastAdmin);
        }
    }
    let by = by.to_owned();
    let (statement, notice) = match change {
        Change::Disabled(true) => (
            "UPDATE accounts SET disabled = true, credential_version = credential_version + 1 WHERE user_id = $1",
            Notice::State { by },
        ),
        Change::Disabled(false) => ("UPDATE accounts SET disabled = false WHERE user_id = $1", Notice::State { by }),
        Change::Admin(true) => ("UPDATE accounts SET admin = true WHERE user_id = $1", Notice::State { by }),
        // A sign-in under way might otherwise get a session of an admin.
        Change::Admin(false) => (
            "UPDATE accounts SET admin = false, credential_version = credential_version + 1 WHERE user_id = $1",
            Notice::State { by },
        ),
        Change::Deleting => (
            "UPDATE accounts SET deleting_at = $2, credential_version = credential_version + 1 WHERE user_id = $1",
            Notice::Erase,
        ),
    };
    let query = sqlx::query(statement).bind(key(&user));
    let query = if matches!(change, Change::Deleting) { query.bind(now) } else { query };
    query.execute(&mut *transaction).await?;
    notices::note(&mut transaction, user, &notice, now).await?;
    if matches!(change, Change::Deleting) {
        erasures::begin(&mut transaction, user, now).await?;
    }
    let account = by_user(&mut *transaction, user).await?.map_or(account, |found| found.account);
    transaction.commit().await?;
    Ok(Changed::Done(account))
}

async fn other_admin(connection: &mut PgConnection, user: UserId) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM accounts
                        WHERE admin AND NOT disabled AND deleting_at IS NULL AND user_id <> $1)",
    )
    .bind(key(&user))
    .fetch_one(connection)
    .await
}

pub(super) async fn finish_deletion(
    store: &PostgresStore,
    user: UserId,
    attempts_at: &[[u8; 16]],
) -> Result<(), sqlx::Error> {
    let mut transaction = store.pool.begin().await?;
    // Before the account's row and always in the same order, as whoever notes a sign-in takes them.
    for account in BTreeSet::from_iter(attempts_at) {
        attempts::lock_account(&mut transaction, *account).await?;
    }
    let removed = sqlx::query("DELETE FROM accounts WHERE user_id = $1 AND deleting_at IS NOT NULL")
        .bind(key(&user))
        .execute(&mut *transaction)
        .await?;
    // A row that is not there does not say whose the handle is by now.
    if removed.rows_affected() > 0 {
        for account in attempts_at {
            sqlx::query("DELETE FROM attempts WHERE account = $1")
                .bind(&account[..])
                .execute(&mut *transaction)
                .await?;
        }
    }
    transaction.commit().await
}
