//! The table of links by which a password is set anew.

use async_trait::async_trait;
use sqlx::Row as _;

use super::{SqliteStore, failed, key, notices, outbox, user};
use crate::login_token::LoginDigest;
use crate::recovery_code::RecoveryDigest;
use crate::store::factors::Proven;
use crate::store::outbox::{Also, Outgoing};
use crate::store::resets::{Finished, ResetStore};
use crate::store::{Notice, StoreError};

#[async_trait]
impl ResetStore for SqliteStore {
    async fn begin_reset(
        &self,
        digest: LoginDigest,
        whose: Proven,
        expires_at: i64,
        message: &Outgoing,
        now: i64,
    ) -> Result<(), StoreError> {
        begin(self, digest, whose, expires_at, message, now).await.map_err(failed)
    }

    async fn reset(&self, digest: LoginDigest, now: i64) -> Result<Option<Proven>, StoreError> {
        find(self, digest, now).await.map_err(failed)
    }

    async fn finish_reset(
        &self,
        digest: LoginDigest,
        hash: &str,
        code: Option<RecoveryDigest>,
        also: &Also,
        now: i64,
    ) -> Result<Finished, StoreError> {
        finish(self, digest, hash, code, also, now).await.map_err(failed)
    }
}

async fn begin(
    store: &SqliteStore,
    digest: LoginDigest,
    whose: Proven,
    expires_at: i64,
    message: &Outgoing,
    now: i64,
) -> Result<(), sqlx::Error> {
    let mut transaction = store.write().await?;
    let kept = sqlx::query(
        "INSERT INTO password_resets (digest, user_id, credential_version, expires_at)
         SELECT ?1, user_id, ?3, ?4 FROM accounts WHERE user_id = ?2 AND credential_version = ?3 AND deleting_at IS NULL",
    )
    .bind(&digest.0[..])
    .bind(key(&whose.user))
    .bind(whose.version)
    .bind(expires_at)
    .execute(&mut *transaction)
    .await?;
    if kept.rows_affected() > 0 {
        outbox::put(&mut transaction, message, now).await?;
    }
    transaction.commit().await
}

async fn find(store: &SqliteStore, digest: LoginDigest, now: i64) -> Result<Option<Proven>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT accounts.user_id, accounts.credential_version FROM password_resets
         JOIN accounts ON accounts.user_id = password_resets.user_id
              AND accounts.credential_version = password_resets.credential_version
         WHERE digest = ?1 AND expires_at > ?2 AND disabled = 0 AND deleting_at IS NULL",
    )
    .bind(&digest.0[..])
    .bind(now)
    .fetch_optional(&store.database.readers)
    .await?;
    row.map(|row| Ok(Proven { user: user(row.try_get("user_id")?)?, version: row.try_get("credential_version")? }))
        .transpose()
}

/// The row of the link decides: of many who bring it one finds it.
async fn finish(
    store: &SqliteStore,
    digest: LoginDigest,
    hash: &str,
    code: Option<RecoveryDigest>,
    also: &Also,
    now: i64,
) -> Result<Finished, sqlx::Error> {
    let mut transaction = store.write().await?;
    let used = sqlx::query(
        "DELETE FROM password_resets WHERE digest = ?1 AND expires_at > ?2 RETURNING user_id, credential_version",
    )
    .bind(&digest.0[..])
    .bind(now)
    .fetch_optional(&mut *transaction)
    .await?;
    let Some(used) = used else {
        transaction.rollback().await?;
        return Ok(Finished::Over);
    };
    let whose = user(used.try_get("user_id")?)?;
    let changed = sqlx::query(
        "UPDATE accounts SET password_hash = ?3, credential_version = credential_version + 1
         WHERE user_id = ?1 AND credential_version = ?2 AND deleting_at IS NULL AND disabled = 0",
    )
    .bind(key(&whose))
    .bind(used.try_get::<i64, _>("credential_version")?)
    .bind(hash)
    .execute(&mut *transaction)
    .await?;
    if changed.rows_affected() == 0 {
        transaction.rollback().await?;
        return Ok(Finished::Over);
    }
    // Whoever began to enrol an app knows its secret, and may be the one against whom the password is changed.
    sqlx::query("DELETE FROM totp_enrolments WHERE user_id = ?1").bind(key(&whose)).execute(&mut *transaction).await?;
    if let Some(code) = code {
        let taken = sqlx::query("DELETE FROM recovery_codes WHERE user_id = ?1 AND digest = ?2")
            .bind(key(&whose))
            .bind(&code.0[..])
            .execute(&mut *transaction)
            .await?;
        if taken.rows_affected() == 0 {
            transaction.rollback().await?;
            return Ok(Finished::CodeUnknown);
        }
    }
    sqlx::query("DELETE FROM password_resets WHERE user_id = ?1").bind(key(&whose)).execute(&mut *transaction).await?;
    notices::note(&mut transaction, whose, &Notice::EndSessions { except: String::new() }, now).await?;
    outbox::put_also(&mut transaction, also, now).await?;
    transaction.commit().await?;
    Ok(Finished::Done)
}
