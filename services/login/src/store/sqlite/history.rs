//! The table of what happened to accounts.

use async_trait::async_trait;
use flaghoist_runtime::names::UserId;
use flaghoist_runtime::time::from_millis;
use sqlx::{Row as _, SqliteConnection};

use super::commit::{Write, Written};
use super::{SqliteStore, failed, hex, json, key, outbox};
use crate::history::{Event, EventKind, NewEvent};
use crate::store::StoreError;
use crate::store::history::{EVENTS_MAX, FinishedSignIn, HistoryStore, REFUSAL, REFUSALS_MAX};
use crate::store::outbox::Also;

#[async_trait]
impl HistoryStore for SqliteStore {
    async fn note(&self, also: &Also, now: i64) -> Result<(), StoreError> {
        note(self, also, now).await.map_err(failed)
    }

    async fn signed_in(&self, sign_in: &FinishedSignIn, known_max: u32, now: i64) -> Result<bool, StoreError> {
        let written =
            self.commits.submit(Write::SignedIn { sign_in: Box::new(sign_in.clone()), known_max, now }).await?;
        Ok(matches!(written, Written::NewPlace))
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

/// What was seen of a sign-in before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// Whether the person has signed in before.
    pub(super) person: bool,
    /// Whether they did so with the same device.
    pub(super) device: bool,
}

/// What was seen of each sign-in before.
pub(super) async fn seen_before(
    connection: &mut SqliteConnection,
    sign_ins: &[(&NewEvent, i64)],
) -> Result<Vec<Seen>, sqlx::Error> {
    let asked: Vec<_> = sign_ins.iter().map(|(event, _)| (hex(&event.user), event.origin.device())).collect();
    let rows = sqlx::query(
        "SELECT EXISTS (SELECT 1 FROM login_events WHERE user_id = unhex(j.value ->> 0) AND kind = ?2),
                EXISTS (SELECT 1 FROM login_events WHERE user_id = unhex(j.value ->> 0) AND kind = ?2 AND device = j.value ->> 1)
         FROM json_each(?1) AS j ORDER BY j.key",
    )
    .bind(json(&asked)?)
    .bind(EventKind::SignedIn.number())
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Ok(Seen { person: row.try_get(0)?, device: row.try_get(1)? })).collect()
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

/// Keeps events, each of its time, within the transaction of `connection`, unless their people are gone, and removes the oldest beyond the
/// bounds.
pub(super) async fn put(connection: &mut SqliteConnection, events: &[(&NewEvent, i64)]) -> Result<(), sqlx::Error> {
    let rows: Vec<_> = events
        .iter()
        .map(|(event, at)| {
            let origin = &event.origin;
            let program = (origin.shown_address(), origin.agent(), origin.device());
            let what = (hex(&event.user), event.kind.number(), at);
            (what, program, event.amr.join(" "), &event.client_id)
        })
        .collect();
    sqlx::query(
        "INSERT INTO login_events (user_id, kind, at, address, agent, device, amr, client_id)
         SELECT a.user_id, j.value ->> '$[0][1]', j.value ->> '$[0][2]', j.value ->> '$[1][0]', j.value ->> '$[1][1]',
                j.value ->> '$[1][2]', j.value ->> 2, j.value ->> 3
         FROM json_each(?1) AS j CROSS JOIN accounts AS a ON a.user_id = unhex(j.value ->> '$[0][0]')
         ORDER BY j.key",
    )
    .bind(json(&rows)?)
    .execute(&mut *connection)
    .await?;
    for (refusals, max) in [(true, REFUSALS_MAX), (false, EVENTS_MAX)] {
        let of_kind = events.iter().filter(|(event, _)| (event.kind == REFUSAL) == refusals);
        let people: Vec<_> = of_kind.map(|(event, _)| hex(&event.user)).collect();
        if !people.is_empty() {
            remove_surplus(connection, &people, refusals, max).await?;
        }
    }
    Ok(())
}

/// Removes the oldest events of people beyond so many.
async fn remove_surplus(
    connection: &mut SqliteConnection,
    people: &[String],
    refusals: bool,
    max: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "DELETE FROM login_events WHERE id IN (
             SELECT e.id FROM json_each(?1) AS j CROSS JOIN login_events AS e ON e.user_id = unhex(j.value)
             WHERE (e.kind = ?2) = ?3 AND e.id <= (
                 SELECT id FROM login_events WHERE user_id = unhex(j.value) AND (kind = ?2) = ?3
                 ORDER BY id DESC LIMIT 1 OFFSET ?4))",
    )
    .bind(json(&people)?)
    .bind(REFUSAL.number())
    .bind(refusals)
    .bind(max)
    .execute(connection)
    .await?;
    Ok(())
}
