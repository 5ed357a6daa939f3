//! The tables of accounts and invitations.

use std::collections::HashMap;

use flaghoist_runtime::names::UserId;
use flaghoist_runtime::time::{from_millis, millis};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection, SqliteExecutor, SqlitePool};

use super::contacts::KeptContacts;
use super::{SqliteStore, erasures, hex, json, key, notices, user};
use crate::account::{Account, AccountChange, Credentials, DisplayName, NewAccount};
use crate::handle::Handle;
use crate::invitation::InvitationDigest;
use crate::store::{Changed, Created, Notice};

fn read(row: &SqliteRow) -> Result<Credentials, sqlx::Error> {
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

/// `SELECT` with the columns that [`read`] takes of the accounts `a`, and the rest of the query.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT a.*, a.deleting_at IS NOT NULL AS deleting,
                    EXISTS (SELECT 1 FROM notices WHERE notices.user_id = a.user_id) AS untold,
                    (EXISTS (SELECT 1 FROM totp WHERE totp.user_id = a.user_id)
                     OR EXISTS (SELECT 1 FROM security_keys WHERE security_keys.user_id = a.user_id)) AS second_factor,
                    EXISTS (SELECT 1 FROM security_keys WHERE security_keys.user_id = a.user_id) AS security_key ",
            $rest
        )
    };
}

pub(super) async fn by_user(
    executor: impl SqliteExecutor<'_>,
    user: UserId,
) -> Result<Option<Credentials>, sqlx::Error> {
    let row = sqlx::query(select!("FROM accounts AS a WHERE a.user_id = ?1"))
        .bind(key(&user))
        .fetch_optional(executor)
        .await?;
    row.as_ref().map(read).transpose()
}

/// People with their contacts and, of those to which a code was sent, until when it is good; in their order.
pub(super) async fn people(
    readers: SqlitePool,
    users: Vec<UserId>,
) -> Result<Vec<Option<(Credentials, KeptContacts)>>, sqlx::Error> {
    let ids: Vec<_> = users.iter().map(hex).collect();
    let rows = sqlx::query(select!(
        ", (SELECT json_group_array(json_array(kind, value, verified_at)) FROM contacts AS c
            WHERE c.user_id = a.user_id) AS verified,
           (SELECT json_group_array(json_array(kind, value, expires_at)) FROM contact_changes AS c
            WHERE c.user_id = a.user_id) AS pending
         FROM json_each(?1) AS j CROSS JOIN accounts AS a ON a.user_id = unhex(j.value)"
    ))
    .bind(json(&ids)?)
    .fetch_all(&readers)
    .await?;
    let mut found = HashMap::new();
    for row in &rows {
        let contacts = KeptContacts::read(row.try_get("verified")?, row.try_get("pending")?)?;
        let credentials = read(row)?;
        found.insert(credentials.account.user, (credentials, contacts));
    }
    Ok(users.iter().map(|user| found.get(user).cloned()).collect())
}

/// The accounts with handles, in their order.
pub(super) async fn by_handles(
    readers: SqlitePool,
    handles: Vec<Handle>,
) -> Result<Vec<Option<Credentials>>, sqlx::Error> {
    let texts: Vec<_> = handles.iter().map(Handle::as_str).collect();
    let rows = sqlx::query(select!("FROM json_each(?1) AS j CROSS JOIN accounts AS a ON a.handle = j.value"))
        .bind(json(&texts)?)
        .fetch_all(&readers)
        .await?;
    let found = rows.iter().map(|row| read(row).map(|found| (found.account.handle.clone(), found)));
    let found = found.collect::<Result<HashMap<_, _>, _>>()?;
    Ok(handles.iter().map(|handle| found.get(handle).cloned()).collect())
}

pub(super) async fn users(store: &SqliteStore, users: &[UserId]) -> Result<Vec<(UserId, Handle)>, sqlx::Error> {
    // One statement whatever the number.
    let ids: Vec<_> = users.iter().map(hex).collect();
    let rows = sqlx::query(
        "SELECT user_id, handle FROM accounts
         WHERE user_id IN (SELECT unhex(value) FROM json_each(?1)) AND disabled = 0 AND deleting_at IS NULL",
    )
    .bind(json(&ids)?)
    .fetch_all(&store.database.readers)
    .await?;
    rows.iter().map(|row| Ok((user(row.try_get("user_id")?)?, Handle::stored(row.try_get("handle")?)))).collect()
}

pub(super) async fn create(
    store: &SqliteStore,
    new: &NewAccount,
    invitation: Option<InvitationDigest>,
) -> Result<Created, sqlx::Error> {
    let now = millis(new.created_at);
    let mut transaction = store.write().await?;
    let inserted = sqlx::query(
        "INSERT INTO accounts (user_id, handle, display_name, password_hash, created_at) VALUES (?1, ?2, ?3, ?4, ?5)
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
        return Ok(Created::HandleTaken);
    }
    if let Some(digest) = invitation {
        let used = sqlx::query(
            "UPDATE invitations SET used_at = ?2 WHERE digest = ?1 AND used_at IS NULL AND expires_at > ?2",
        )
        .bind(&digest.0[..])
        .bind(now)
        .execute(&mut *transaction)
        .await?;
        if used.rows_affected() == 0 {
            return Ok(Created::InvitationInvalid);
        }
    }
    transaction.commit().await?;
    Ok(Created::Done)
}

pub(super) async fn change_said(
    store: &SqliteStore,
    user: UserId,
    change: &AccountChange,
) -> Result<Option<Account>, sqlx::Error> {
    let mut transaction = store.write().await?;
    let changed = sqlx::query(
        "UPDATE accounts SET display_name = coalesce(?2, display_name), postal_address = coalesce(?3, postal_address),
                             language = coalesce(?4, language), profile_version = profile_version + 1
         WHERE user_id = ?1 AND deleting_at IS NULL",
    )
    .bind(key(&user))
    .bind(change.display_name.as_ref().map(DisplayName::as_str))
    .bind(&change.postal_address)
    .bind(&change.language)
    .execute(&mut *transaction)
    .await?;
    if changed.rows_affected() == 0 {
        return Ok(None);
    }
    let account = by_user(&mut *transaction, user).await?.map(|found| found.account);
    transaction.commit().await?;
    Ok(account)
}

pub(super) async fn renew_password_hash(
    store: &SqliteStore,
    user: UserId,
    old: &str,
    new: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE accounts SET password_hash = ?3 WHERE user_id = ?1 AND password_hash = ?2")
        .bind(key(&user))
        .bind(old)
        .bind(new)
        .execute(&store.database.writer)
        .await?;
    Ok(())
}

pub(super) async fn change_password(
    store: &SqliteStore,
    user: UserId,
    version: i64,
    hash: &str,
    kept_session: &str,
    now: i64,
) -> Result<bool, sqlx::Error> {
    let mut transaction = store.write().await?;
    let changed = sqlx::query(
        "UPDATE accounts SET password_hash = ?3, credential_version = credential_version + 1
         WHERE user_id = ?1 AND credential_version = ?2 AND deleting_at IS NULL AND disabled = 0",
    )
    .bind(key(&user))
    .bind(version)
    .bind(hash)
    .execute(&mut *transaction)
    .await?;
    if changed.rows_affected() == 0 {
        return Ok(false);
    }
    // Whoever began to enrol an app knows its secret, and may be the one against whom the password is changed.
    sqlx::query("DELETE FROM totp_enrolments WHERE user_id = ?1").bind(key(&user)).execute(&mut *transaction).await?;
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
    store: &SqliteStore,
    user: UserId,
    change: Change,
    by: &str,
    now: i64,
) -> Result<Changed, sqlx::Error> {
    let mut transaction = store.write().await?;
    let Some(found) = by_user(&mut *transaction, user).await? else { return Ok(Changed::Unknown) };
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
    if loses_admin && account.admin && !account.disabled && !other_admin(&mut transaction, user).await? {
        return Ok(Changed::LastAdmin);
    }
    let by = by.to_owned();
    let (query, notice) = match change {
        Change::Disabled(true) => (
            sqlx::query(
                "UPDATE accounts SET disabled = 1, credential_version = credential_version + 1 WHERE user_id = ?1",
            ),
            Notice::State { by },
        ),
        Change::Disabled(false) => {
            (sqlx::query("UPDATE accounts SET disabled = 0 WHERE user_id = ?1"), Notice::State { by })
        }
        Change::Admin(true) => (sqlx::query("UPDATE accounts SET admin = 1 WHERE user_id = ?1"), Notice::State { by }),
        // A sign-in under way might otherwise get a session of an admin.
        Change::Admin(false) => (
            sqlx::query(
                "UPDATE accounts SET admin = 0, credential_version = credential_version + 1 WHERE user_id = ?1",
            ),
            Notice::State { by },
        ),
        Change::Deleting => (
            sqlx::query(
                "UPDATE accounts SET deleting_at = ?2, credential_version = credential_version + 1 WHERE user_id = ?1",
            ),
            Notice::Erase,
        ),
    };
    let query = query.bind(key(&user));
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

async fn other_admin(connection: &mut SqliteConnection, user: UserId) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM accounts
                        WHERE admin = 1 AND disabled = 0 AND deleting_at IS NULL AND user_id <> ?1)",
    )
    .bind(key(&user))
    .fetch_one(connection)
    .await
}

pub(super) async fn finish_deletion(
    store: &SqliteStore,
    user: UserId,
    attempts_at: &[[u8; 16]],
) -> Result<(), sqlx::Error> {
    let mut transaction = store.write().await?;
    let removed = sqlx::query("DELETE FROM accounts WHERE user_id = ?1 AND deleting_at IS NOT NULL")
        .bind(key(&user))
        .execute(&mut *transaction)
        .await?;
    // A row that is not there does not say whose the handle is by now.
    if removed.rows_affected() > 0 {
        for account in attempts_at {
            sqlx::query("DELETE FROM attempts WHERE account = ?1")
                .bind(&account[..])
                .execute(&mut *transaction)
                .await?;
        }
    }
    transaction.commit().await
}

pub(super) async fn create_invitation(
    store: &SqliteStore,
    digest: InvitationDigest,
    now: i64,
    expires_at: i64,
    outstanding_max: u32,
) -> Result<bool, sqlx::Error> {
    let mut transaction = store.write().await?;
    sqlx::query("DELETE FROM invitations WHERE expires_at <= ?1").bind(now).execute(&mut *transaction).await?;
    let kept = sqlx::query(
        "INSERT INTO invitations (digest, created_at, expires_at) SELECT ?1, ?2, ?3
         WHERE (SELECT count(*) FROM invitations WHERE used_at IS NULL) < ?4",
    )
    .bind(&digest.0[..])
    .bind(now)
    .bind(expires_at)
    .bind(outstanding_max)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(kept.rows_affected() > 0)
}

pub(super) async fn forget_invitations(store: &SqliteStore, now: i64) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM invitations WHERE expires_at <= ?1").bind(now).execute(&store.database.writer).await?;
    Ok(())
}

pub(super) async fn invitation_usable(
    store: &SqliteStore,
    digest: InvitationDigest,
    now: i64,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM invitations WHERE digest = ?1 AND used_at IS NULL AND expires_at > ?2)",
    )
    .bind(&digest.0[..])
    .bind(now)
    .fetch_one(&store.database.readers)
    .await
}
