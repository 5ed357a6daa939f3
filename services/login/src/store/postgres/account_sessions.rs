//! The table of sessions of the account pages.

use async_trait::async_trait;
use flaghoist_runtime::seal::Sealed;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::{PostgresStore, key, user};
use crate::login_token::LoginDigest;
use crate::store::StoreError;
use crate::store::account_sessions::{AccountSession, AccountSessionStore, Limits};

#[async_trait]
impl AccountSessionStore for PostgresStore {
    async fn open_account_session(&self, session: &AccountSession, now: i64) -> Result<(), StoreError> {
        settled!(open(self, session, now))
    }

    async fn account_session(
        &self,
        digest: LoginDigest,
        limits: Limits,
        now: i64,
    ) -> Result<Option<AccountSession>, StoreError> {
        settled!(using(self, digest, limits, now))
    }

    async fn renew_account_session(&self, digest: LoginDigest, tokens: &Sealed) -> Result<(), StoreError> {
        settled!(renew(self, digest, tokens))
    }

    async fn end_account_session(&self, digest: LoginDigest) -> Result<Option<AccountSession>, StoreError> {
        settled!(end(self, digest))
    }
}

fn read(row: &PgRow, digest: LoginDigest) -> Result<AccountSession, sqlx::Error> {
    let tokens = Sealed { bytes: row.try_get("tokens")?, with: row.try_get("sealed_with")? };
    Ok(AccountSession { digest, user: user(row.try_get("user_id")?)?, tokens })
}

async fn open(store: &PostgresStore, session: &AccountSession, now: i64) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO account_sessions (digest, user_id, tokens, sealed_with, created_at, used_at)
         VALUES ($1, $2, $3, $4, $5, $5)",
    )
    .bind(&session.digest.0[..])
    .bind(key(&session.user))
    .bind(&session.tokens.bytes)
    .bind(&session.tokens.with)
    .bind(now)
    .execute(&store.pool)
    .await?;
    Ok(())
}

async fn using(
    store: &PostgresStore,
    digest: LoginDigest,
    limits: Limits,
    now: i64,
) -> Result<Option<AccountSession>, sqlx::Error> {
    let row = sqlx::query(
        "UPDATE account_sessions SET used_at = greatest(used_at, $2)
         WHERE digest = $1 AND used_at > $3 AND created_at > $4 RETURNING user_id, tokens, sealed_with",
    )
    .bind(&digest.0[..])
    .bind(now)
    .bind(now - crate::throttle::millis(limits.idle))
    .bind(now - crate::throttle::millis(limits.absolute))
    .fetch_optional(&store.pool)
    .await?;
    row.as_ref().map(|row| read(row, digest)).transpose()
}

async fn renew(store: &PostgresStore, digest: LoginDigest, tokens: &Sealed) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE account_sessions SET tokens = $2, sealed_with = $3 WHERE digest = $1")
        .bind(&digest.0[..])
        .bind(&tokens.bytes)
        .bind(&tokens.with)
        .execute(&store.pool)
        .await?;
    Ok(())
}

async fn end(store: &PostgresStore, digest: LoginDigest) -> Result<Option<AccountSession>, sqlx::Error> {
    let row = sqlx::query("DELETE FROM account_sessions WHERE digest = $1 RETURNING user_id, tokens, sealed_with")
        .bind(&digest.0[..])
        .fetch_optional(&store.pool)
        .await?;
    row.as_ref().map(|row| read(row, digest)).transpose()
}
