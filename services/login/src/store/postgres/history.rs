//! The table of what happened to accounts.

use std::collections::BTreeSet;

use async_trait::async_trait;
use flaghoist_runtime::names::UserId;
use flaghoist_runtime::time::from_millis;
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::{PostgresStore, attempts, in_time, key, outbox};
use crate::history::{Event, EventKind, NewEvent};
use crate::store::StoreError;
use crate::store::history::{EVENTS_MAX, FinishedSignIn, HistoryStore, REFUSAL, REFUSALS_MAX};
use crate::store::outbox::Also;

#[async_trait]
impl HistoryStore for PostgresStore {
    async fn note(&self, also: &Also, now: i64) -> Result<(), StoreError> {
        settled!(note(self, also, now))
    }

    async fn signed_in(&self, sign_in: &FinishedSignIn, known_max: u32, now: i64) -> Result<bool, StoreError> {
        settled!(signed_in(self, sign_in, known_max, now))
    }

    async fn events(&self, user: UserId, before: Option<i64>, max: u32) -> Result<Vec<Event>, StoreError> {
        in_time(events(self, user, before, max)).await
    }
}

async fn note(store: &PostgresStore, also: &Also, now: i64) -> Result<(), sqlx::Error> {
    let mut transaction = store.pool.begin().await?;
    outbox::put_also(&mut transaction, also, now).await?;
    transaction.commit().await
}

async fn signed_in(
    store: &PostgresStore,
    sign_in: &FinishedSignIn,
    known_max: u32,
    now: i64,
) -> Result<bool, sqlx::Error> {
    let FinishedSignIn { address, succeeded, event, message } = sign_in;
    let mut transaction = store.pool.begin().await?;
    // Always in the same order, so that no two wait for one another.
    let accounts: BTreeSet<_> = succeeded.iter().chain([address]).map(|key| key.account).collect();
    for account in accounts {
        attempts::lock_account(&mut transaction, account).await?;
    }
    let was_known = attempts::known(&mut transaction, *address, now).await?;
    for key in succeeded {
        attempts::succeeded(&mut transaction, *key, Some(known_max), now).await?;
    }
    if !succeeded.contains(address) {
        attempts::make_known(&mut transaction, *address, now).await?;
        if !was_known {
            attempts::forget_known(&mut transaction, *address, known_max).await?;
        }
    }
    let (before, device): (bool, bool) = sqlx::query_as(
        "SELECT EXISTS (SELECT 1 FROM login_events WHERE user_id = $1 AND kind = $2),
                EXISTS (SELECT 1 FROM login_events WHERE user_id = $1 AND kind = $2 AND device = $3)",
    )
    .bind(key(&event.user))
    .bind(EventKind::SignedIn.number())
    .bind(event.origin.device())
    .fetch_one(&mut *transaction)
    .await?;
    put(&mut transaction, event, now).await?;
    let new = before && !(was_known && device);
    if let Some(message) = message.as_ref().filter(|_| new) {
        outbox::put(&mut transaction, message, now).await?;
    }
    transaction.commit().await?;
    Ok(new)
}

async fn events(store: &PostgresStore, user: UserId, before: Option<i64>, max: u32) -> Result<Vec<Event>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT id, kind, at, address, agent, amr, client_id FROM login_events WHERE user_id = $1 AND id < $2
         ORDER BY id DESC LIMIT $3",
    )
    .bind(key(&user))
    .bind(before.unwrap_or(i64::MAX))
    .bind(i64::from(max))
    .fetch_all(&store.pool)
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
pub(super) async fn put(connection: &mut PgConnection, event: &NewEvent, now: i64) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO login_events (user_id, kind, at, address, agent, device, amr, client_id)
         SELECT user_id, $2, $3, $4, $5, $6, $7, $8 FROM accounts WHERE user_id = $1",
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
            "DELETE FROM login_events WHERE user_id = $1 AND kind = $2 AND id IN (
             SELECT id FROM login_events WHERE user_id = $1 AND kind = $2 ORDER BY id DESC OFFSET $3)",
            REFUSALS_MAX,
        )
    } else {
        (
            "DELETE FROM login_events WHERE user_id = $1 AND kind <> $2 AND id IN (
             SELECT id FROM login_events WHERE user_id = $1 AND kind <> $2 ORDER BY id DESC OFFSET $3)",
            EVENTS_MAX,
        )
    };
    sqlx::query(surplus).bind(key(&event.user)).bind(REFUSAL.number()).bind(max).execute(connection).await?;
    Ok(())
}
