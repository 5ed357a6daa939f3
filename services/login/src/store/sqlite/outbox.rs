//! The table of messages on their way.

use async_trait::async_trait;
use flaghoist_runtime::seal::Sealed;
use sqlx::{Row as _, SqliteConnection};

use super::{SqliteStore, failed, history, key, user};
use crate::store::StoreError;
use crate::store::outbox::{Also, Claimed, OutboxStore, Outgoing, WAITING_MAX};

#[async_trait]
impl OutboxStore for SqliteStore {
    async fn claim_messages(&self, now: i64, until: i64, max: u32) -> Result<Vec<Claimed>, StoreError> {
        claim(self, now, until, max).await.map_err(failed)
    }

    async fn message_done(&self, id: i64) -> Result<(), StoreError> {
        done(self, id).await.map_err(failed)
    }

    async fn put_off_message(&self, id: i64, next_at: i64) -> Result<(), StoreError> {
        put_off(self, id, next_at).await.map_err(failed)
    }
}

/// One statement, so no message is given out twice.
async fn claim(store: &SqliteStore, now: i64, until: i64, max: u32) -> Result<Vec<Claimed>, sqlx::Error> {
    // Most of the time there is nothing to write.
    let due: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM outbox WHERE next_at <= ?1 AND expires_at > ?1)")
        .bind(now)
        .fetch_one(&store.database.readers)
        .await?;
    if !due {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(
        "UPDATE outbox SET tries = tries + 1, next_at = ?2 WHERE id IN (
             SELECT id FROM outbox WHERE next_at <= ?1 AND expires_at > ?1 ORDER BY next_at, id LIMIT ?3)
         RETURNING id, user_id, message, sealed_with, tries",
    )
    .bind(now)
    .bind(until)
    .bind(max)
    .fetch_all(&store.database.writer)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Claimed {
                id: row.try_get("id")?,
                user: user(row.try_get("user_id")?)?,
                sealed: Sealed { bytes: row.try_get("message")?, with: row.try_get("sealed_with")? },
                tries: u32::try_from(row.try_get::<i64, _>("tries")?).unwrap_or(u32::MAX),
            })
        })
        .collect()
}

async fn done(store: &SqliteStore, id: i64) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM outbox WHERE id = ?1").bind(id).execute(&store.database.writer).await?;
    Ok(())
}

async fn put_off(store: &SqliteStore, id: i64, next_at: i64) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE outbox SET next_at = ?2 WHERE id = ?1")
        .bind(id)
        .bind(next_at)
        .execute(&store.database.writer)
        .await?;
    Ok(())
}

/// Keeps a message within the transaction of `connection`, unless too many wait for the person, or they are gone.
pub(super) async fn put(connection: &mut SqliteConnection, message: &Outgoing, now: i64) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO outbox (user_id, message, sealed_with, next_at, expires_at) SELECT user_id, ?2, ?3, ?4, ?5 FROM accounts
         WHERE user_id = ?1 AND (SELECT count(*) FROM outbox WHERE user_id = ?1 AND expires_at > ?4) < ?6",
    )
    .bind(key(&message.user))
    .bind(&message.sealed.bytes)
    .bind(&message.sealed.with)
    .bind(now)
    .bind(message.expires_at)
    .bind(WAITING_MAX)
    .execute(connection)
    .await?;
    Ok(())
}

/// Keeps what comes with a change, within its transaction.
pub(super) async fn put_also(connection: &mut SqliteConnection, also: &Also, now: i64) -> Result<(), sqlx::Error> {
    if let Some(event) = &also.event {
        history::put(connection, &[(event, now)]).await?;
    }
    for message in &also.messages {
        put(connection, message, now).await?;
    }
    Ok(())
}
