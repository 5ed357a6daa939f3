//! The table of what happened to accounts.

use async_trait::async_trait;
use flaghoist_runtime::names::UserId;
use flaghoist_runtime::time::from_millis;
use sqlx::{Row as _, SqliteConnection};

use super::{SqliteStore, attempts, failed, key, outbox};
use crate::history::{Event, EventKind, NewEvent};
use crate::store::StoreError;
use crate::store::history::{EVENTS_MAX, HistoryStore, REFUSAL, REFUSALS_MAX};
use crate::store::outbox::{Also, Outgoing};
use crate::throttle::AttemptKey;

#[async_trait]
impl HistoryStore for SqliteStore {
    async fn note(&self, also: &Also, now: i64) -> Result<(), StoreError> {
        note(self, also, now).await.map_err(failed)
    }

    async fn signed_in(
        &self,
        key: AttemptKey,
        known_max: u32,
        event: &NewEvent,
        message: Option<&Outgoing>,
        now: i64,
    ) -> Result<bool, StoreError> {
        signed_in(self, key, known_max, event, message, now).await.map_err(failed)
    }

    async fn events(&self, user: UserId, before: Option<i64>, max: u32) -> Result<Vec<Event>, StoreError> {
        events(self, user, before, max).await.map_err(failed)
    }
}

async fn note(store: &SqliteStore, also: &Also, now: i64) -> Result<(), sqlx::Error> {
    let mut transaction = store.write().await?;
    outbox::put_also(&mut transaction, also, now).await?;
    transaction.commit().await
}

async fn signed_in(
    store: &SqliteStore,
    attempts: AttemptKey,
    known_max: u32,
    event: &NewEvent,
    message: Option<&Outgoing>,
    now: i64,
) -> Result<bool, sqlx::Error> {
    let mut transaction = store.write().await?;
    let was_known = attempts::make_known(&mut transaction, attempts, known_max, now).await?;
    let (before, device): (bool, bool) = sqlx::query_as(
        "SELECT EXISTS (SELECT 1 FROM login_events WHERE user_id = ?1 AND kind = ?2),
                EXISTS (SELECT 1 FROM login_events WHERE user_id = ?1 AND kind = ?2 AND device = ?3)",
    )
    .bind(key(&event.user))
    .bind(EventKind::SignedIn.number())
    .bind(event.origin.device())
    .fetch_one(&mut *transaction)
    .await?;
    put(&mut transaction, event, now).await?;
    let new = before && !(was_known && device);
    if let Some(message) = message.filter(|_| new) {
        outbox::put(&mut transaction, message, now).await?;
    }
    transaction.commit().await?;
    Ok(new)
}

async fn events(store: &SqliteStore, user: UserId, before: Option<i64>, max: u32) -> Result<Vec<Event>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT id, kind, at, address, agent, amr, client_id FROM login_events WHERE user_id = ?1 AND id < ?2
         ORDER BY id DESC LIMIT ?3",
    )
    .bind(key(&user))
    .bind(before.unwrap_or(i64::MAX))
    .bind(max)
    .fetch_all(&store.database.readers)
    .await?;
    let read = rows.iter().map(|row| {
        let Some(kind) = EventKind::of_number(row.try_get("kind")?) else { return Ok(None) };
        Ok(Some(Event {
            id: row.try_get("id")?,
            kind,
            at: from_millis(row.try_get("at")?),
            address: row.try_get("address")?,
            agent: row.try_get("agent")?,
            amr: row.try_get::<&str, _>("amr")?.split_whitespace().map(str::to_owned).collect(),
            client_id: row.try_get("client_id")?,
        }))
    });
    read.filter_map(Result::transpose).collect()
}

/// Keeps an event within the transaction of `connection`, unless its person is gone, and removes the oldest beyond the bound.
pub(super) async fn put(connection: &mut SqliteConnection, event: &NewEvent, now: i64) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO login_events (user_id, kind, at, address, agent, device, amr, client_id)
         SELECT user_id, ?2, ?3, ?4, ?5, ?6, ?7, ?8 FROM accounts WHERE user_id = ?1",
    )
    .bind(key(&event.user))
    .bind(event.kind.number())
    .bind(now)
    .bind(event.origin.shown_address())
    .bind(event.origin.agent())
    .bind(event.origin.device())
    .bind(event.amr.join(" "))
    .bind(&event.client_id)
    .execute(&mut *connection)
    .await?;
    let (surplus, max) = if event.kind == REFUSAL {
        (
            "DELETE FROM login_events WHERE user_id = ?1 AND kind = ?2 AND id IN (
             SELECT id FROM login_events WHERE user_id = ?1 AND kind = ?2 ORDER BY id DESC LIMIT -1 OFFSET ?3)",
            REFUSALS_MAX,
        )
    } else {
        (
            "DELETE FROM login_events WHERE user_id = ?1 AND kind <> ?2 AND id IN (
             SELECT id FROM login_events WHERE user_id = ?1 AND kind <> ?2 ORDER BY id DESC LIMIT -1 OFFSET ?3)",
            EVENTS_MAX,
        )
    };
    sqlx::query(surplus).bind(key(&event.user)).bind(REFUSAL.number()).bind(max).execute(connection).await?;
    Ok(())
}
