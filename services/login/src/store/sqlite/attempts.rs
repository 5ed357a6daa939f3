//! The table of attempts at passwords.

use std::time::Duration;

use sqlx::{Row as _, SqliteConnection};

use super::SqliteStore;
use crate::throttle::{AttemptKey, Attempts, Decision, Delays, FORGET_AFTER, KNOWN_FOR, STRANGERS, millis};

pub(super) async fn reserve(
    store: &SqliteStore,
    key: AttemptKey,
    delays: Delays,
    now: i64,
) -> Result<Option<Duration>, sqlx::Error> {
    let mut transaction = store.write().await?;
    let rows = sqlx::query(
        "SELECT address, count, next_at, known_at, updated_at FROM attempts WHERE account = ?1 AND address IN (?2, ?3)",
    )
    .bind(&key.account[..])
    .bind(&key.address[..])
    .bind(&STRANGERS[..])
    .fetch_all(&mut *transaction)
    .await?;
    let (mut here, mut strangers) = (None, None);
    for row in &rows {
        let attempts = Attempts {
            count: row.try_get("count")?,
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
        Decision::Wait(wait) => Ok(Some(wait)),
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

async fn keep(connection: &mut SqliteConnection, key: AttemptKey, attempts: Attempts) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO attempts (account, address, count, next_at, known_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (account, address) DO UPDATE
         SET count = excluded.count, next_at = excluded.next_at, known_at = excluded.known_at, updated_at = excluded.updated_at",
    )
    .bind(&key.account[..])
    .bind(&key.address[..])
    .bind(attempts.count)
    .bind(attempts.next_at)
    .bind(attempts.known_at)
    .bind(attempts.updated_at)
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn succeeded(
    store: &SqliteStore,
    key: AttemptKey,
    known_max: Option<u32>,
    now: i64,
) -> Result<(), sqlx::Error> {
    let mut transaction = store.write().await?;
    let known_at = known_at(&mut transaction, key).await?;
    let kept_at = known_max.map(|_| now).or(known_at);
    keep(&mut transaction, key, Attempts { count: 0, next_at: 0, known_at: kept_at, updated_at: now }).await?;
    if !still_known(known_at, now) {
        sqlx::query("UPDATE attempts SET count = max(count - 1, 0) WHERE account = ?1 AND address = ?2")
            .bind(&key.account[..])
            .bind(&STRANGERS[..])
            .execute(&mut *transaction)
            .await?;
        if let Some(known_max) = known_max {
            forget_known(&mut transaction, key, known_max).await?;
        }
    }
    transaction.commit().await
}

/// Makes an address known within the transaction of `connection`; answers whether it was.
pub(super) async fn make_known(
    connection: &mut SqliteConnection,
    key: AttemptKey,
    known_max: u32,
    now: i64,
) -> Result<bool, sqlx::Error> {
    let known_at = known_at(connection, key).await?;
    sqlx::query(
        "INSERT INTO attempts (account, address, count, next_at, known_at, updated_at) VALUES (?1, ?2, 0, 0, ?3, ?3)
         ON CONFLICT (account, address) DO UPDATE SET known_at = excluded.known_at, updated_at = excluded.updated_at",
    )
    .bind(&key.account[..])
    .bind(&key.address[..])
    .bind(now)
    .execute(&mut *connection)
    .await?;
    let was_known = still_known(known_at, now);
    if !was_known {
        forget_known(connection, key, known_max).await?;
    }
    Ok(was_known)
}

async fn known_at(connection: &mut SqliteConnection, key: AttemptKey) -> Result<Option<i64>, sqlx::Error> {
    let known: Option<Option<i64>> =
        sqlx::query_scalar("SELECT known_at FROM attempts WHERE account = ?1 AND address = ?2")
            .bind(&key.account[..])
            .bind(&key.address[..])
            .fetch_optional(connection)
            .await?;
    Ok(known.flatten())
}

fn still_known(known_at: Option<i64>, now: i64) -> bool {
    known_at.is_some_and(|known_at| now - known_at < millis(KNOWN_FOR))
}

/// Forgets the oldest known addresses of an account beyond so many.
async fn forget_known(connection: &mut SqliteConnection, key: AttemptKey, known_max: u32) -> Result<(), sqlx::Error> {
    sqlx::query(
        "DELETE FROM attempts WHERE account = ?1 AND address IN
            (SELECT address FROM attempts WHERE account = ?1 AND known_at IS NOT NULL
             ORDER BY known_at DESC, address LIMIT -1 OFFSET ?2)",
    )
    .bind(&key.account[..])
    .bind(known_max)
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn forget(store: &SqliteStore, now: i64, rows_max: u32) -> Result<(), sqlx::Error> {
    let mut transaction = store.write().await?;
    sqlx::query("DELETE FROM attempts WHERE updated_at < ?1 AND (known_at IS NULL OR known_at < ?2)")
        .bind(now - millis(FORGET_AFTER))
        .bind(now - millis(KNOWN_FOR))
        .execute(&mut *transaction)
        .await?;
    // Addresses that nobody ever signed in from go first.
    sqlx::query(
        "DELETE FROM attempts WHERE (account, address) IN
            (SELECT account, address FROM attempts ORDER BY known_at IS NULL, updated_at DESC LIMIT -1 OFFSET ?1)",
    )
    .bind(rows_max)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await
}
