//! The table of logins in steps.

use async_trait::async_trait;
use sqlx::Row as _;

use super::{SqliteStore, failed, key, user};
use crate::handle::Handle;
use crate::login_token::LoginDigest;
use crate::store::StoreError;
use crate::store::account_sessions::LIFETIME_MAX;
use crate::store::factors::{Login, LoginStore, Proven, Step};
use crate::store::history::EVENTS_FOR_MS;

/// How many events go in one round, so that nobody waits long for the one writer.
const EVENTS_AT_ONCE: i64 = 5000;

#[async_trait]
impl LoginStore for SqliteStore {
    async fn begin_login(&self, digest: LoginDigest, login: &Login, expires_at: i64) -> Result<(), StoreError> {
        begin(self, digest, login, expires_at).await.map_err(failed)
    }

    async fn login(&self, digest: LoginDigest, now: i64) -> Result<Option<Login>, StoreError> {
        find(self, digest, now).await.map_err(failed)
    }

    async fn password_proven(&self, digest: LoginDigest, proven: Proven, now: i64) -> Result<bool, StoreError> {
        password_proven(self, digest, proven, now).await.map_err(failed)
    }

    async fn end_login(&self, digest: LoginDigest, step: Step, now: i64) -> Result<bool, StoreError> {
        end(self, digest, step, now).await.map_err(failed)
    }
}

async fn begin(store: &SqliteStore, digest: LoginDigest, login: &Login, expires_at: i64) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO logins (digest, step, handle, client_id, label, bound_to, user_id, credential_version, expires_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )
    .bind(&digest.0[..])
    .bind(login.step().number())
    .bind(login.handle.as_str())
    .bind(&login.client_id)
    .bind(&login.label)
    .bind(&login.bound_to)
    .bind(login.proven.as_ref().map(|proven| key(&proven.user)))
    .bind(login.proven.map(|proven| proven.version))
    .bind(expires_at)
    .execute(&store.database.writer)
    .await?;
    Ok(())
}

async fn find(store: &SqliteStore, digest: LoginDigest, now: i64) -> Result<Option<Login>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT handle, client_id, label, bound_to, user_id, credential_version FROM logins
         WHERE digest = ?1 AND expires_at > ?2",
    )
    .bind(&digest.0[..])
    .bind(now)
    .fetch_optional(&store.database.readers)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let proven = match (row.try_get::<Option<Vec<u8>>, _>("user_id")?, row.try_get("credential_version")?) {
        (Some(whose), Some(version)) => Some(Proven { user: user(&whose)?, version }),
        _ => None,
    };
    Ok(Some(Login {
        handle: Handle::stored(row.try_get("handle")?),
        client_id: row.try_get("client_id")?,
        label: row.try_get("label")?,
        bound_to: row.try_get("bound_to")?,
        proven,
    }))
}

async fn password_proven(
    store: &SqliteStore,
    digest: LoginDigest,
    proven: Proven,
    now: i64,
) -> Result<bool, sqlx::Error> {
    let taken = sqlx::query(
        "UPDATE logins SET step = 2, user_id = ?3, credential_version = ?4
         WHERE digest = ?1 AND step = 1 AND expires_at > ?2",
    )
    .bind(&digest.0[..])
    .bind(now)
    .bind(key(&proven.user))
    .bind(proven.version)
    .execute(&store.database.writer)
    .await?;
    Ok(taken.rows_affected() > 0)
}

async fn end(store: &SqliteStore, digest: LoginDigest, step: Step, now: i64) -> Result<bool, sqlx::Error> {
    let ended = sqlx::query("DELETE FROM logins WHERE digest = ?1 AND step = ?2 AND expires_at > ?3")
        .bind(&digest.0[..])
        .bind(step.number())
        .bind(now)
        .execute(&store.database.writer)
        .await?;
    Ok(ended.rows_affected() > 0)
}

/// Forgets what has expired and, beyond `rows_max`, the oldest of the rest.
pub(super) async fn forget(store: &SqliteStore, now: i64, rows_max: u32) -> Result<(), sqlx::Error> {
    let mut transaction = store.write().await?;
    for statement in [
        "DELETE FROM logins WHERE expires_at <= ?1",
        "DELETE FROM totp_enrolments WHERE expires_at <= ?1",
        "DELETE FROM ceremonies WHERE expires_at <= ?1",
        "DELETE FROM contact_changes WHERE expires_at <= ?1",
        "DELETE FROM password_resets WHERE expires_at <= ?1",
        "DELETE FROM outbox WHERE expires_at <= ?1",
    ] {
        sqlx::query(statement).bind(now).execute(&mut *transaction).await?;
    }
    sqlx::query("DELETE FROM account_sessions WHERE used_at <= ?1")
        .bind(now - crate::throttle::millis(LIFETIME_MAX))
        .execute(&mut *transaction)
        .await?;
    sqlx::query("DELETE FROM login_events WHERE id IN (SELECT id FROM login_events WHERE at <= ?1 LIMIT ?2)")
        .bind(now - EVENTS_FOR_MS)
        .bind(EVENTS_AT_ONCE)
        .execute(&mut *transaction)
        .await?;
    sqlx::query(
        "DELETE FROM logins WHERE digest IN (SELECT digest FROM logins ORDER BY expires_at DESC LIMIT -1 OFFSET ?1)",
    )
    .bind(rows_max)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await
}
