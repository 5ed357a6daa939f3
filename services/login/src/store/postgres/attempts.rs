//! The tables of attempts at passwords and of buckets.

use std::time::Duration;

use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::{PostgresStore, lock};
use crate::throttle::quota::{BucketKey, Quota};
use crate::throttle::{AttemptKey, Attempts, Decision, Delays, STRANGERS, still_known};

/// Whoever decides about attempts at an account does so alone. The two rows it decides by may not be there yet, so it is not they
/// that are locked.
pub(super) async fn lock_account(connection: &mut PgConnection, account: [u8; 16]) -> Result<(), sqlx::Error> {
    let [first @ .., _, _, _, _, _, _, _, _] = account;
    lock(connection, i64::from_be_bytes(first)).await
}

pub(super) async fn reserve(
    store: &PostgresStore,
    key: AttemptKey,
    delays: Delays,
    now: i64,
) -> Result<Option<Duration>, sqlx::Error> {
    let mut transaction = store.pool.begin().await?;
    lock_account(&mut transaction, key.account).await?;
    let rows = sqlx::query(
        "SELECT address, count, next_at, known_at, updated_at FROM attempts WHERE account = $1 AND address IN ($2, $3)",
    )
    .bind(&key.account[..])
    .bind(&key.address[..])
    .bind(&STRANGERS[..])
    .fetch_all(&mut *transaction)
    .await?;
    let (mut here, mut strangers) = (None, None);
    for row in &rows {
        let attempts = Attempts {
            count: u32::try_from(row.try_get::<i64, _>("count")?).unwrap_or(u32::MAX),
            next_at: row.try_get("next_at")?,
            known_at: row.try_get("known_at")?,
            updated_at: row.try_get("updated_at")?,
        };
        if row.try_get::<&[u8], _>("address")? == STRANGERS {
            strangers = Some(attempts)
        } else {
            here = Some(attempts)
        }
    }
    match delays.decide(here, strangers, now) {
        Decision::Wait(wait) => {
            transaction.rollback().await?;
            Ok(Some(wait))
        }
        Decision::Go { here, strangers } => {
            keep(&mut transaction, key, here).await?;
            if let Some(strangers) = strangers {
                keep(&mut transaction, AttemptKey { address: STRANGERS, ..key }, strangers).await?;
            }
            transaction.commit().await?;
            Ok(None)
        }
    }
}

async fn keep(connection: &mut PgConnection, key: AttemptKey, attempts: Attempts) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO attempts (account, address, count, next_at, known_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (account, address) DO UPDATE
         SET count = excluded.count, next_at = excluded.next_at, known_at = excluded.known_at, updated_at = excluded.updated_at",
    )
    .bind(&key.account[..])
    .bind(&key.address[..])
    .bind(i64::from(attempts.count))
    .bind(attempts.next_at)
    .bind(attempts.known_at)
    .bind(attempts.updated_at)
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn forget_succeeded(
    store: &PostgresStore,
    key: AttemptKey,
    known_max: Option<u32>,
    now: i64,
) -> Result<(), sqlx::Error> {
    let mut transaction = store.pool.begin().await?;
    lock_account(&mut transaction, key.account).await?;
    succeeded(&mut transaction, key, known_max, now).await?;
    transaction.commit().await
}

/// Forgets attempts within the transaction of `connection`, whose account is locked.
pub(super) async fn succeeded(
    connection: &mut PgConnection,
    key: AttemptKey,
    known_max: Option<u32>,
    now: i64,
) -> Result<(), sqlx::Error> {
    let known_at = known_at(connection, key).await?;
    let kept_at = known_max.map(|_| now).or(known_at);
    keep(connection, key, Attempts { count: 0, next_at: 0, known_at: kept_at, updated_at: now }).await?;
    if !still_known(known_at, now) {
        sqlx::query("UPDATE attempts SET count = greatest(count - 1, 0) WHERE account = $1 AND address = $2")
            .bind(&key.account[..])
            .bind(&STRANGERS[..])
            .execute(&mut *connection)
            .await?;
        if let Some(known_max) = known_max {
            forget_known(connection, key, known_max).await?;
        }
    }
    Ok(())
}

/// Makes an address known within the transaction of `connection`, whose account is locked.
pub(super) async fn make_known(connection: &mut PgConnection, key: AttemptKey, now: i64) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO attempts (account, address, count, next_at, known_at, updated_at) VALUES ($1, $2, 0, 0, $3, $3)
         ON CONFLICT (account, address) DO UPDATE SET known_at = excluded.known_at, updated_at = excluded.updated_at",
    )
    .bind(&key.account[..])
    .bind(&key.address[..])
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

/// Whether an address is known.
pub(super) async fn known(connection: &mut PgConnection, key: AttemptKey, now: i64) -> Result<bool, sqlx::Error> {
    Ok(still_known(known_at(connection, key).await?, now))
}

async fn known_at(connection: &mut PgConnection, key: AttemptKey) -> Result<Option<i64>, sqlx::Error> {
    let known: Option<Option<i64>> =
        sqlx::query_scalar("SELECT known_at FROM attempts WHERE account = $1 AND address = $2")
            .bind(&key.account[..])
            .bind(&key.address[..])
            .fetch_optional(connection)
            .await?;
    Ok(known.flatten())
}

/// Forgets the oldest known addresses of an account beyond so many.
pub(super) async fn forget_known(
    connection: &mut PgConnection,
    key: AttemptKey,
    known_max: u32,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "DELETE FROM attempts WHERE account = $1 AND address IN
            (SELECT address FROM attempts WHERE account = $1 AND known_at IS NOT NULL
             ORDER BY known_at DESC, address OFFSET $2)",
    )
    .bind(&key.account[..])
    .bind(i64::from(known_max))
    .execute(connection)
    .await?;
    Ok(())
}

/// Decides as [`Quota::take`] does, in one statement: who comes second waits for the first and counts from what it left.
pub(super) async fn take(
    store: &PostgresStore,
    bucket: BucketKey,
    quota: Quota,
    now: i64,
) -> Result<Option<Duration>, sqlx::Error> {
    let taken = sqlx::query(
        "INSERT INTO buckets (bucket, full_at) VALUES ($1, $2::bigint + $3)
         ON CONFLICT (bucket) DO UPDATE
         SET full_at = $3 + CASE WHEN buckets.full_at - $2 > $5 THEN $2 ELSE greatest(buckets.full_at, $2) END
         WHERE $3 + CASE WHEN buckets.full_at - $2 > $5 THEN $2 ELSE greatest(buckets.full_at, $2) END - $2 <= $4",
    )
    .bind(&bucket.0[..])
    .bind(now)
    .bind(quota.refill_ms())
    .bind(quota.depth_ms())
    .bind(quota.full_within_ms())
    .execute(&store.pool)
    .await?;
    if taken.rows_affected() > 0 {
        return Ok(None);
    }
    let full_at: Option<i64> = sqlx::query_scalar("SELECT full_at FROM buckets WHERE bucket = $1")
        .bind(&bucket.0[..])
        .fetch_optional(&store.pool)
        .await?;
    // It may have got a call, or have been forgotten, since: the next attempt will tell.
    Ok(Some(quota.take(full_at.unwrap_or(now), now).err().unwrap_or(Duration::from_millis(1))))
}
