//! The audit log in SQLite.

use flaghoist_runtime::names::SessionId;
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{QueryBuilder, Row as _};
use uuid::Uuid;

use super::session::hex;
use super::{SqliteStore, Transaction, json, unreadable};
use crate::audit::{Action, Event, Filter};
use crate::moment::Moment;

/// Writes events as a part of `transaction`.
pub(super) async fn insert(transaction: &mut Transaction, events: &[Event]) -> Result<(), sqlx::Error> {
    if events.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = events
        .iter()
        .map(|event| {
            let session = event.session.map(|session| hex(session.0.as_bytes()));
            let what = (event.action.name(), event.refused, event.count, &event.detail);
            let who = (&event.actor, &event.subject, session, &event.client_id, &event.address);
            (hex(event.id.as_bytes()), event.at.0, who, what)
        })
        .collect();
    sqlx::query(
        "INSERT INTO audit_events (event_id, at, actor, subject, session_id, client_id, address, action, refused, \
                event_count, detail) \
         SELECT unhex(value ->> 0), value ->> 1, value ->> '$[2][0]', value ->> '$[2][1]', unhex(value ->> '$[2][2]'), \
                value ->> '$[2][3]', value ->> '$[2][4]', value ->> '$[3][0]', value ->> '$[3][1]', value ->> '$[3][2]', \
                value ->> '$[3][3]' \
         FROM json_each(?1)",
    )
    .bind(json(&rows)?)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

pub(super) async fn add(store: &SqliteStore, events: &[Event]) -> Result<(), sqlx::Error> {
    let mut transaction = store.begin().await?;
    insert(&mut transaction, events).await?;
    transaction.commit().await
}

pub(super) async fn list(readers: &SqlitePool, filter: &Filter, limit: u32) -> Result<Vec<Event>, sqlx::Error> {
    let (from, below) = filter.bounds();
    let mut query = QueryBuilder::new(
        "SELECT event_id, at, actor, subject, session_id, client_id, address, action, refused, event_count, detail \
         FROM audit_events WHERE event_id >= ",
    );
    query.push_bind(from.as_bytes().to_vec()).push(" AND event_id < ").push_bind(below.as_bytes().to_vec());
    let texts = [("actor", filter.actor.as_deref()), ("subject", filter.subject.as_deref())];
    for (column, text) in texts.into_iter().chain([("action", filter.action.map(Action::name))]) {
        if let Some(text) = text {
            query.push(format!(" AND {column} = ")).push_bind(text.to_owned());
        }
    }
    query.push(" ORDER BY event_id DESC LIMIT ").push_bind(limit);
    query.build().fetch_all(readers).await?.iter().map(read).collect()
}

fn read(row: &SqliteRow) -> Result<Event, sqlx::Error> {
    let uuid = |bytes: &[u8]| Uuid::from_slice(bytes).map_err(|_| unreadable("an id"));
    Ok(Event {
        id: uuid(row.try_get(0)?)?,
        at: Moment(row.try_get(1)?),
        actor: row.try_get(2)?,
        subject: row.try_get(3)?,
        session: row.try_get::<Option<&[u8]>, _>(4)?.map(uuid).transpose()?.map(SessionId),
        client_id: row.try_get(5)?,
        address: row.try_get(6)?,
        action: Action::named(row.try_get(7)?).unwrap_or(Action::Unknown),
        refused: row.try_get(8)?,
        count: row.try_get(9)?,
        detail: row.try_get(10)?,
    })
}

/// Moves the horizon, before which a trigger lets events go, and removes some of those.
pub(super) async fn purge(store: &SqliteStore, before: Moment, rows_max: u32) -> Result<bool, sqlx::Error> {
    let mut transaction = store.begin().await?;
    let oldest: Option<i64> = sqlx::query_scalar("SELECT at FROM audit_events ORDER BY event_id LIMIT 1")
        .fetch_optional(&mut *transaction)
        .await?;
    if oldest.is_none_or(|oldest| oldest >= before.0) {
        return Ok(false);
    }
    sqlx::query("UPDATE audit_horizon SET remove_before = max(remove_before, ?1)")
        .bind(before.0)
        .execute(&mut *transaction)
        .await?;
    let until = Filter { until: Some(before), ..Filter::default() }.bounds().1;
    let removed = sqlx::query(
        "DELETE FROM audit_events WHERE event_id IN \
         (SELECT event_id FROM audit_events WHERE event_id < ?1 ORDER BY event_id LIMIT ?2)",
    )
    .bind(until.as_bytes().as_slice())
    .bind(rows_max)
    .execute(&mut *transaction)
    .await?
    .rows_affected();
    transaction.commit().await?;
    Ok(removed >= u64::from(rows_max))
}
