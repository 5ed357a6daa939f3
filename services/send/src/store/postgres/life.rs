//! The life of the store: its epoch, and what is done every now and then for as long as it is open.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use flaghoist_runtime::fault::chain;
use flaghoist_runtime::postgres::silent;
use sqlx::PgPool;

use super::lists::SINCE_MAX_MS;
use super::sql;

/// How often it is looked whether the store has another epoch, or is another database.
const EPOCH_INTERVAL: Duration = Duration::from_secs(1);

/// How long the store may take to say which epoch it has, until it is asked again.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// How many of these intervals pass until old notes are dropped.
const FORGET_EVERY: u32 = 10;

/// How long notes are kept beyond what can be asked for, in milliseconds: transactions live less.
const GRACE_MS: i64 = 30_000;

/// The epoch: begun if there is none, renewed if this is another database than before.
pub(super) async fn begin(pool: &PgPool) -> Result<u64, sqlx::Error> {
    let epoch: i64 = sqlx::query_scalar(sql::BEGIN_LIFE).bind(fresh()).fetch_one(pool).await?;
    Ok(epoch.unsigned_abs())
}

/// Another epoch, from now on.
pub(super) async fn renew(pool: &PgPool) -> Result<u64, sqlx::Error> {
    let epoch: i64 = sqlx::query_scalar(sql::RENEW_LIFE).bind(fresh()).fetch_one(pool).await?;
    Ok(epoch.unsigned_abs())
}

fn fresh() -> i64 {
    rand::random_range(1..i64::MAX)
}

/// Watches over the epoch while somebody else holds it too, and keeps the store tidy.
pub(super) fn keep(pool: &PgPool, epoch: &Arc<AtomicU64>) {
    let (pool, epoch) = (pool.clone(), Arc::downgrade(epoch));
    tokio::spawn(async move {
        let mut turn = rand::random_range(0..FORGET_EVERY);
        loop {
            tokio::time::sleep(EPOCH_INTERVAL).await;
            let Some(epoch) = epoch.upgrade() else { return };
            match in_time(now(&pool)).await {
                Ok(read) if read != epoch.load(Ordering::Relaxed) => {
                    tracing::warn!("the store of send has another epoch than before: devices start from what it holds");
                    epoch.store(read, Ordering::Relaxed);
                }
                Ok(_) => {}
                // Whether the store is there is watched elsewhere.
                Err(error) => tracing::debug!(error = %chain(&error), "epoch not read"),
            }
            turn += 1;
            if turn.is_multiple_of(FORGET_EVERY) {
                let forget = sqlx::query(sql::FORGET_RECEIPTS).bind(SINCE_MAX_MS + GRACE_MS);
                if let Err(error) = in_time(forget.execute(&pool)).await {
                    tracing::debug!(error = %chain(&error), "old receipts not dropped, the next round will");
                }
            }
        }
    });
}

/// What is done beside all calls has no caller who gives up.
async fn in_time<T>(asking: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    tokio::time::timeout(ANSWER_MAX, asking).await.unwrap_or_else(|_late| Err(silent()))
}

async fn now(pool: &PgPool) -> Result<u64, sqlx::Error> {
    let epoch: Option<i64> = sqlx::query_scalar(sql::LIFE).fetch_optional(pool).await?;
    match epoch {
        Some(epoch) => Ok(epoch.unsigned_abs()),
        None => begin(pool).await,
    }
}
