//! The table of logins in steps.

use async_trait::async_trait;
use sqlx::Row as _;

use super::{PostgresStore, in_time, key, user};
use crate::handle::Handle;
use crate::login_token::LoginDigest;
use crate::store::StoreError;
use crate::store::factors::{Login, LoginStore, Proven, Step};

#[async_trait]
impl LoginStore for PostgresStore {
    async fn begin_login(&self, digest: LoginDigest, login: &Login, expires_at: i64) -> Result<(), StoreError> {
        settled!(begin(self, digest, login, expires_at))
    }

    async fn login(&self, digest: LoginDigest, now: i64) -> Result<Option<Login>, StoreError> {
        in_time(find(self, digest, now)).await
    }

    async fn password_proven(&self, digest: LoginDigest, proven: Proven, now: i64) -> Result<bool, StoreError> {
        settled!(password_proven(self, digest, proven, now))
    }

    async fn end_login(&self, digest: LoginDigest, step: Step, now: i64) -> Result<bool, StoreError> {
        settled!(end(self, digest, step, now))
    }
}

async fn begin(store: &PostgresStore, digest: LoginDigest, login: &Login, expires_at: i64) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO logins (digest, step, handle, client_id, label, bound_to, user_id, credential_version, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
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
    .execute(&store.pool)
    .await?;
    Ok(())
}

async fn find(store: &PostgresStore, digest: LoginDigest, now: i64) -> Result<Option<Login>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT handle, client_id, label, bound_to, user_id, credential_version FROM logins
         WHERE digest = $1 AND expires_at > $2",
    )
    .bind(&digest.0[..])
    .bind(now)
    .fetch_optional(&store.pool)
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
    store: &PostgresStore,
    digest: LoginDigest,
    proven: Proven,
    now: i64,
) -> Result<bool, sqlx::Error> {
    let taken = sqlx::query(
        "UPDATE logins SET step = 2, user_id = $3, credential_version = $4
         WHERE digest = $1 AND step = 1 AND expires_at > $2",
    )
    .bind(&digest.0[..])
    .bind(now)
    .bind(key(&proven.user))
    .bind(proven.version)
    .execute(&store.pool)
    .await?;
    Ok(taken.rows_affected() > 0)
}

async fn end(store: &PostgresStore, digest: LoginDigest, step: Step, now: i64) -> Result<bool, sqlx::Error> {
    let ended = sqlx::query("DELETE FROM logins WHERE digest = $1 AND step = $2 AND expires_at > $3")
        .bind(&digest.0[..])
        .bind(step.number())
        .bind(now)
        .execute(&store.pool)
        .await?;
    Ok(ended.rows_affected() > 0)
}
