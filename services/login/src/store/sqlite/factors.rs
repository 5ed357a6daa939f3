//! The tables of second factors.

use async_trait::async_trait;
use flaghoist_runtime::names::UserId;
use flaghoist_runtime::seal::Sealed;
use flaghoist_runtime::time::from_millis;
use sqlx::Row as _;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::{SqliteStore, failed, key, notices, user};
use crate::factor::{Factors, Totp, TotpTimes};
use crate::recovery_code::RecoveryDigest;
use crate::store::factors::{Confirmed, FactorStore, FirstFactor, Removed, TakenCode};
use crate::store::{Notice, StoreError};

#[async_trait]
impl FactorStore for SqliteStore {
    async fn factors(&self, user: UserId) -> Result<Factors, StoreError> {
        factors(self, user).await.map_err(failed)
    }

    async fn begin_totp(&self, user: UserId, secret: &Sealed, expires_at: i64) -> Result<bool, StoreError> {
        begin_totp(self, user, secret, expires_at).await.map_err(failed)
    }

    async fn totp_enrolment(&self, user: UserId, now: i64) -> Result<Option<Sealed>, StoreError> {
        totp_enrolment(self, user, now).await.map_err(failed)
    }

    async fn confirm_totp(
        &self,
        user: UserId,
        secret: &Sealed,
        step: i64,
        first: FirstFactor<'_>,
        now: i64,
    ) -> Result<Confirmed, StoreError> {
        confirm_totp(self, user, secret, step, first, now).await.map_err(failed)
    }

    async fn totp(&self, user: UserId) -> Result<Option<Totp>, StoreError> {
        totp(self, user).await.map_err(failed)
    }

    async fn take_totp(
        &self,
        user: UserId,
        secret: &Sealed,
        anew: Option<&Sealed>,
        step: i64,
        now: i64,
    ) -> Result<bool, StoreError> {
        take_totp(self, user, secret, anew, step, now).await.map_err(failed)
    }

    async fn remove_totp(&self, user: UserId, allow_last: bool) -> Result<Removed, StoreError> {
        remove_totp(self, user, allow_last).await.map_err(failed)
    }

    async fn replace_recovery_codes(
        &self,
        user: UserId,
        codes: &[RecoveryDigest],
        now: i64,
    ) -> Result<bool, StoreError> {
        replace_recovery_codes(self, user, codes, now).await.map_err(failed)
    }

    async fn totp_secrets(&self, after: Option<UserId>, max: u32) -> Result<Vec<(UserId, Sealed)>, StoreError> {
        totp_secrets(self, after, max).await.map_err(failed)
    }

    async fn reseal_totp(&self, user: UserId, before: &Sealed, anew: &Sealed) -> Result<bool, StoreError> {
        reseal_totp(self, user, before, anew).await.map_err(failed)
    }

    async fn give_back_recovery_code(&self, user: UserId, taken: TakenCode) -> Result<(), StoreError> {
        give_back_recovery_code(self, user, taken).await.map_err(failed)
    }

    async fn take_recovery_code(&self, user: UserId, code: RecoveryDigest) -> Result<Option<TakenCode>, StoreError> {
        take_recovery_code(self, user, code).await.map_err(failed)
    }
}

fn sealed(row: &SqliteRow) -> Result<Sealed, sqlx::Error> {
    Ok(Sealed { bytes: row.try_get("secret")?, with: row.try_get("sealed_with")? })
}

async fn factors(store: &SqliteStore, user: UserId) -> Result<Factors, sqlx::Error> {
    let row = sqlx::query(
        "SELECT (SELECT count(*) FROM recovery_codes WHERE user_id = ?1) AS codes,
                (SELECT count(*) FROM security_keys WHERE user_id = ?1) AS keys, totp.created_at AS created_at,
                totp.used_at AS used_at
         FROM (SELECT 1) AS one LEFT JOIN totp ON totp.user_id = ?1",
    )
    .bind(key(&user))
    .fetch_one(&store.database.readers)
    .await?;
    let totp = match (row.try_get::<Option<i64>, _>("created_at")?, row.try_get::<Option<i64>, _>("used_at")?) {
        (Some(created_at), Some(used_at)) => {
            Some(TotpTimes { created_at: from_millis(created_at), used_at: from_millis(used_at) })
        }
        _ => None,
    };
    let keys = u32::try_from(row.try_get::<i64, _>("keys")?).unwrap_or(u32::MAX);
    Ok(Factors { totp, keys, recovery_codes: u32::try_from(row.try_get::<i64, _>("codes")?).unwrap_or(u32::MAX) })
}

async fn begin_totp(store: &SqliteStore, user: UserId, secret: &Sealed, expires_at: i64) -> Result<bool, sqlx::Error> {
    let kept = sqlx::query(
        "INSERT INTO totp_enrolments (user_id, secret, sealed_with, expires_at)
         SELECT user_id, ?2, ?3, ?4 FROM accounts WHERE user_id = ?1 AND deleting_at IS NULL
         ON CONFLICT (user_id) DO UPDATE
         SET secret = excluded.secret, sealed_with = excluded.sealed_with, expires_at = excluded.expires_at",
    )
    .bind(key(&user))
    .bind(&secret.bytes)
    .bind(&secret.with)
    .bind(expires_at)
    .execute(&store.database.writer)
    .await?;
    Ok(kept.rows_affected() > 0)
}

async fn totp_enrolment(store: &SqliteStore, user: UserId, now: i64) -> Result<Option<Sealed>, sqlx::Error> {
    let row = sqlx::query("SELECT secret, sealed_with FROM totp_enrolments WHERE user_id = ?1 AND expires_at > ?2")
        .bind(key(&user))
        .bind(now)
        .fetch_optional(&store.database.readers)
        .await?;
    row.as_ref().map(sealed).transpose()
}

async fn confirm_totp(
    store: &SqliteStore,
    user: UserId,
    secret: &Sealed,
    step: i64,
    first: FirstFactor<'_>,
    now: i64,
) -> Result<Confirmed, sqlx::Error> {
    let mut transaction = store.write().await?;
    let confirmed = sqlx::query("DELETE FROM totp_enrolments WHERE user_id = ?1 AND secret = ?2 AND expires_at > ?3")
        .bind(key(&user))
        .bind(&secret.bytes)
        .bind(now)
        .execute(&mut *transaction)
        .await?;
    if confirmed.rows_affected() == 0 {
        transaction.rollback().await?;
        return Ok(Confirmed::Gone);
    }
    let is_first = strong_factors(&mut transaction, user).await? == 0;
    sqlx::query(
        "INSERT INTO totp (user_id, secret, sealed_with, last_step, created_at, used_at) VALUES (?1, ?2, ?3, ?4, ?5, ?5)
         ON CONFLICT (user_id) DO UPDATE
         SET secret = excluded.secret, sealed_with = excluded.sealed_with, last_step = excluded.last_step,
             created_at = excluded.created_at, used_at = excluded.used_at",
    )
    .bind(key(&user))
    .bind(&secret.bytes)
    .bind(&secret.with)
    .bind(step)
    .bind(now)
    .execute(&mut *transaction)
    .await?;
    if is_first {
        keep_first(&mut transaction, user, first, now).await?;
    }
    transaction.commit().await?;
    Ok(Confirmed::Done { first: is_first })
}

async fn totp(store: &SqliteStore, user: UserId) -> Result<Option<Totp>, sqlx::Error> {
    let row = sqlx::query("SELECT secret, sealed_with, last_step FROM totp WHERE user_id = ?1")
        .bind(key(&user))
        .fetch_optional(&store.database.readers)
        .await?;
    row.map(|row| Ok(Totp { secret: sealed(&row)?, last_step: row.try_get("last_step")? })).transpose()
}

/// One statement decides: who comes second waits for the first and finds the step taken.
async fn take_totp(
    store: &SqliteStore,
    user: UserId,
    secret: &Sealed,
    anew: Option<&Sealed>,
    step: i64,
    now: i64,
) -> Result<bool, sqlx::Error> {
    let taken = sqlx::query(
        "UPDATE totp SET last_step = ?3, used_at = ?4, secret = ?5, sealed_with = ?6
         WHERE user_id = ?1 AND secret = ?2 AND last_step < ?3",
    )
    .bind(key(&user))
    .bind(&secret.bytes)
    .bind(step)
    .bind(now)
    .bind(&anew.unwrap_or(secret).bytes)
    .bind(&anew.unwrap_or(secret).with)
    .execute(&store.database.writer)
    .await?;
    Ok(taken.rows_affected() > 0)
}

async fn remove_totp(store: &SqliteStore, user: UserId, allow_last: bool) -> Result<Removed, sqlx::Error> {
    let mut transaction = store.write().await?;
    let removed =
        sqlx::query("DELETE FROM totp WHERE user_id = ?1").bind(key(&user)).execute(&mut *transaction).await?;
    if removed.rows_affected() == 0 {
        transaction.rollback().await?;
        return Ok(Removed::Absent);
    }
    if strong_factors(&mut transaction, user).await? == 0 {
        if !allow_last {
            transaction.rollback().await?;
            return Ok(Removed::Last);
        }
        keep_recovery_codes(&mut transaction, user, &[], 0).await?;
    }
    transaction.commit().await?;
    Ok(Removed::Done)
}

async fn replace_recovery_codes(
    store: &SqliteStore,
    user: UserId,
    codes: &[RecoveryDigest],
    now: i64,
) -> Result<bool, sqlx::Error> {
    let mut transaction = store.write().await?;
    if strong_factors(&mut transaction, user).await? == 0 {
        transaction.rollback().await?;
        return Ok(false);
    }
    keep_recovery_codes(&mut transaction, user, codes, now).await?;
    transaction.commit().await?;
    Ok(true)
}

async fn take_recovery_code(
    store: &SqliteStore,
    user: UserId,
    code: RecoveryDigest,
) -> Result<Option<TakenCode>, sqlx::Error> {
    let created_at: Option<i64> =
        sqlx::query_scalar("DELETE FROM recovery_codes WHERE user_id = ?1 AND digest = ?2 RETURNING created_at")
            .bind(key(&user))
            .bind(&code.0[..])
            .fetch_optional(&store.database.writer)
            .await?;
    Ok(created_at.map(|created_at| TakenCode { code, created_at }))
}

async fn give_back_recovery_code(store: &SqliteStore, user: UserId, taken: TakenCode) -> Result<(), sqlx::Error> {
    let mut transaction = store.write().await?;
    if strong_factors(&mut transaction, user).await? > 0 {
        sqlx::query(
            "INSERT INTO recovery_codes (user_id, digest, created_at) SELECT user_id, ?2, ?3 FROM accounts
             WHERE user_id = ?1 AND NOT EXISTS (SELECT 1 FROM recovery_codes WHERE user_id = ?1 AND created_at <> ?3)
             ON CONFLICT DO NOTHING",
        )
        .bind(key(&user))
        .bind(&taken.code.0[..])
        .bind(taken.created_at)
        .execute(&mut *transaction)
        .await?;
    }
    transaction.commit().await
}

async fn totp_secrets(
    store: &SqliteStore,
    after: Option<UserId>,
    max: u32,
) -> Result<Vec<(UserId, Sealed)>, sqlx::Error> {
    let rows =
        sqlx::query("SELECT user_id, secret, sealed_with FROM totp WHERE user_id > ?1 ORDER BY user_id LIMIT ?2")
            .bind(after.as_ref().map(key).unwrap_or_default())
            .bind(max)
            .fetch_all(&store.database.readers)
            .await?;
    rows.iter().map(|row| Ok((user(row.try_get("user_id")?)?, sealed(row)?))).collect()
}

async fn reseal_totp(store: &SqliteStore, user: UserId, before: &Sealed, anew: &Sealed) -> Result<bool, sqlx::Error> {
    let resealed = sqlx::query("UPDATE totp SET secret = ?3, sealed_with = ?4 WHERE user_id = ?1 AND secret = ?2")
        .bind(key(&user))
        .bind(&before.bytes)
        .bind(&anew.bytes)
        .bind(&anew.with)
        .execute(&store.database.writer)
        .await?;
    Ok(resealed.rows_affected() > 0)
}

/// How many strong factors a person has; recovery codes are none.
pub(super) async fn strong_factors(connection: &mut SqliteConnection, user: UserId) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM totp WHERE user_id = ?1) + (SELECT count(*) FROM security_keys WHERE user_id = ?1)",
    )
    .bind(key(&user))
    .fetch_one(connection)
    .await
}

/// Keeps what a first strong factor brings.
pub(super) async fn keep_first(
    connection: &mut SqliteConnection,
    user: UserId,
    first: FirstFactor<'_>,
    now: i64,
) -> Result<(), sqlx::Error> {
    keep_recovery_codes(connection, user, first.codes, now).await?;
    let notice = Notice::EndSessions { except: first.kept_session.to_owned() };
    notices::note(connection, user, &notice, now).await
}

/// Keeps these recovery codes and no others.
pub(super) async fn keep_recovery_codes(
    connection: &mut SqliteConnection,
    user: UserId,
    codes: &[RecoveryDigest],
    now: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM recovery_codes WHERE user_id = ?1").bind(key(&user)).execute(&mut *connection).await?;
    for code in codes {
        sqlx::query("INSERT INTO recovery_codes (user_id, digest, created_at) VALUES (?1, ?2, ?3)")
            .bind(key(&user))
            .bind(&code.0[..])
            .bind(now)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}
