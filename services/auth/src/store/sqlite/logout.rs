//! Clients that have to be told of the ends of sessions, in SQLite.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use flaghoist_runtime::names::{SessionId, UserId};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use super::session::hex;
use super::{SqliteStore, Transaction, failed, json, unreadable};
use crate::error::StoreError;
use crate::moment::Moment;
use crate::scope::Scopes;
use crate::store::logout::{LogoutNotice, LogoutStore, wants_to_be_told};

/// Writes the notices of sessions that have ended: rows of id, person, client and scopes.
pub(super) async fn note_ends(
    transaction: &mut Transaction,
    ended: &[SqliteRow],
    now: Moment,
) -> Result<(), sqlx::Error> {
    let mut candidates = Vec::new();
    for row in ended {
        if Scopes::known_of(row.try_get(3)?).includes(Scopes::OPENID) {
            candidates.push((hex(row.try_get(0)?), hex(row.try_get(1)?), row.try_get::<&str, _>(2)?));
        }
    }
    if candidates.is_empty() {
        return Ok(());
    }
    let clients: BTreeSet<_> = candidates.iter().map(|(_, _, client)| *client).collect();
    let registered: Vec<(String, String)> = sqlx::query_as(
        "SELECT client_id, registration FROM clients WHERE client_id IN (SELECT value FROM json_each(?1)) \
         AND deleted_at IS NULL",
    )
    .bind(json(&clients)?)
    .fetch_all(&mut **transaction)
    .await?;
    candidates.retain(|(_, _, id)| registered.iter().any(|(client, kept)| client == id && wants_to_be_told(kept)));
    if candidates.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO logout_notices (session_id, client_id, user_id, next_try_at) \
         SELECT unhex(e.value ->> 0), e.value ->> 2, unhex(e.value ->> 1), ?2 FROM json_each(?1) AS e \
         WHERE TRUE ON CONFLICT DO NOTHING",
    )
    .bind(json(&candidates)?)
    .bind(now.0)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

async fn take(
    store: &SqliteStore,
    limit: u32,
    but: &[String],
    pause: Duration,
    now: Moment,
) -> Result<Vec<LogoutNotice>, sqlx::Error> {
    // Most of the time there is none, and nobody has to wait for the writer to learn that.
    let due: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM logout_notices WHERE next_try_at <= ?1)")
        .bind(now.0)
        .fetch_one(&store.database.readers)
        .await?;
    if !due {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(
        "UPDATE logout_notices SET tries = tries + 1, next_try_at = ?1 + ?2 * (1 << tries) WHERE session_id IN \
         (SELECT session_id FROM logout_notices WHERE next_try_at <= ?1 AND client_id NOT IN (SELECT value FROM json_each(?4)) \
         ORDER BY next_try_at LIMIT ?3) \
         RETURNING session_id, client_id, user_id, tries",
    )
    .bind(now.0)
    .bind(i64::try_from(pause.as_millis()).unwrap_or(i64::MAX))
    .bind(i64::from(limit))
    .bind(json(&but)?)
    .fetch_all(&store.database.writer)
    .await?;
    rows.iter().map(read).collect()
}

fn read(row: &SqliteRow) -> Result<LogoutNotice, sqlx::Error> {
    let uuid = |index: usize| Uuid::from_slice(row.try_get(index)?).map_err(|_| unreadable("an id"));
    Ok(LogoutNotice {
        session: SessionId(uuid(0)?),
        client_id: row.try_get(1)?,
        user: UserId(uuid(2)?),
        tries: u32::try_from(row.try_get::<i64, _>(3)?).unwrap_or(u32::MAX),
    })
}

async fn put_off(store: &SqliteStore, client_id: &str, until: Moment, now: Moment) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE logout_notices SET next_try_at = ?1 WHERE client_id = ?2 AND next_try_at <= ?3")
        .bind(until.0)
        .bind(client_id)
        .bind(now.0)
        .execute(&store.database.writer)
        .await?;
    Ok(())
}

async fn forget(store: &SqliteStore, session: SessionId) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM logout_notices WHERE session_id = ?1")
        .bind(session.0.as_bytes().as_slice())
        .execute(&store.database.writer)
        .await?;
    Ok(())
}

#[async_trait]
impl LogoutStore for SqliteStore {
    async fn take_logout_notices(
        &self,
        limit: u32,
        but: &[String],
        pause: Duration,
        now: Moment,
    ) -> Result<Vec<LogoutNotice>, StoreError> {
        take(self, limit, but, pause, now).await.map_err(failed("take notices of logouts"))
    }

    async fn put_off_logout_notices(&self, client_id: &str, until: Moment, now: Moment) -> Result<(), StoreError> {
        put_off(self, client_id, until, now).await.map_err(failed("put off notices of logouts"))
    }

    async fn drop_logout_notice(&self, session: SessionId) -> Result<(), StoreError> {
        forget(self, session).await.map_err(failed("forget a notice of a logout"))
    }
}
