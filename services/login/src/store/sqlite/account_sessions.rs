//! The table of sessions of the account pages.

use async_trait::async_trait;
use flaghoist_runtime::seal::Sealed;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{SqliteStore, failed, key, user};
use crate::login_token::LoginDigest;
use crate::store::StoreError;
use crate::store::account_sessions::{AccountSession, AccountSessionStore, Limits};

#[async_trait]
impl AccountSessionStore for SqliteStore {
    async fn open_account_session(&self, session: &AccountSession, now: i64) -> Result<(), StoreError> {
        open(self, session, now).await.map_err(failed)
    }

    async fn account_session(
        &self,
        digest: LoginDigest,
        limits: Limits,
        now: i64,
    ) -> Result<Option<AccountSession>, StoreError> {
        using(self, digest, limits, now).await.map_err(failed)
    }

    async fn renew_account_session(&self, digest: LoginDigest, tokens: &Sealed) -> Result<(), StoreError> {
        renew(self, digest, tokens).await.map_err(failed)
    }

    async fn end_account_session(&self, digest: LoginDigest) -> Result<Option<AccountSession>, StoreError> {
        end(self, digest).await.map_err(failed)
    }
}

fn read(row: &SqliteRow, digest: LoginDigest) -> Result<AccountSession, sqlx::Error> {
    let tokens = Sealed { bytes: row.try_get("tokens")?, with: row.try_get("sealed_with")? };
    Ok(AccountSession { digest, user: user(row.try_get("user_id")?)?, tokens })
}

async fn open(store: &SqliteStore, session: &AccountSession, now: i64) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO account_sessions (digest, user_id, tokens, sealed_with, created_at, used_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?5)",
    )
    .bind(&session.digest.0[..])
    .bind(key(&session.user))
    .bind(&session.tokens.bytes)
    .bind(&session.tokens.with)
    .bind(now)
    .execute(&store.database.writer)
    .await?;
    Ok(())
}

async fn using(
    store: &SqliteStore,
    digest: LoginDigest,
    limits: Limits,
    now: i64,
) -> Result<Option<AccountSession>, sqlx::Error> {
    let row = sqlx::query(
        "UPDATE account_sessions SET used_at = max(used_at, ?2)
         WHERE digest = ?1 AND used_at > ?3 AND created_at > ?4 RETURNING user_id, tokens, sealed_with",
    )
    .bind(&digest.0[..])
    .bind(now)
    .bind(now - crate::throttle::millis(limits.idle))
    .bind(now - crate::throttle::millis(limits.absolute))
    .fetch_optional(&store.database.writer)
    .await?;
    row.as_ref().map(|row| read(row, digest)).transpose()
}

async fn renew(store: &SqliteStore, digest: LoginDigest, tokens: &Sealed) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE account_sessions SET tokens = ?2, sealed_with = ?3 WHERE digest = ?1")
        .bind(&digest.0[..])
        .bind(&tokens.bytes)
        .bind(&tokens.with)
        .execute(&store.database.writer)
        .await?;
    Ok(())
}

async fn end(store: &SqliteStore, digest: LoginDigest) -> Result<Option<AccountSession>, sqlx::Error> {
    let row = sqlx::query("DELETE FROM account_sessions WHERE digest = ?1 RETURNING user_id, tokens, sealed_with")
        .bind(&digest.0[..])
        .fetch_optional(&store.database.writer)
        .await?;
    row.as_ref().map(|row| read(row, digest)).transpose()
}
