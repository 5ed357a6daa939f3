//! The table of invitations.

use sqlx::postgres::PgConnection;

use super::{PostgresStore, lock, lock_number};
use crate::invitation::InvitationDigest;

/// Whoever makes an invitation counts them first.
const COUNTING: i64 = lock_number(b"invitati");

pub(super) async fn create(
    store: &PostgresStore,
    digest: InvitationDigest,
    now: i64,
    expires_at: i64,
    outstanding_max: u32,
) -> Result<bool, sqlx::Error> {
    let mut transaction = store.pool.begin().await?;
    lock(&mut transaction, COUNTING).await?;
    let kept = sqlx::query(
        "INSERT INTO invitations (digest, created_at, expires_at) SELECT $1, $2, $3
         WHERE (SELECT count(*) FROM invitations WHERE used_at IS NULL AND expires_at > $2) < $4",
    )
    .bind(&digest.0[..])
    .bind(now)
    .bind(expires_at)
    .bind(i64::from(outstanding_max))
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(kept.rows_affected() > 0)
}

pub(super) async fn usable(store: &PostgresStore, digest: InvitationDigest, now: i64) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM invitations WHERE digest = $1 AND used_at IS NULL AND expires_at > $2)",
    )
    .bind(&digest.0[..])
    .bind(now)
    .fetch_one(&store.pool)
    .await
}

/// Uses an invitation within the transaction of `connection`. Who comes second waits for the first and finds it used.
pub(super) async fn use_up(
    connection: &mut PgConnection,
    digest: InvitationDigest,
    now: i64,
) -> Result<bool, sqlx::Error> {
    let used =
        sqlx::query("UPDATE invitations SET used_at = $2 WHERE digest = $1 AND used_at IS NULL AND expires_at > $2")
            .bind(&digest.0[..])
            .bind(now)
            .execute(connection)
            .await?;
    Ok(used.rows_affected() > 0)
}
