//! The audit log in PostgreSQL.

use flaghoist_runtime::names::SessionId;
use sqlx::postgres::{PgPool, PgRow};
use sqlx::{Error, QueryBuilder, Row as _};
use uuid::Uuid;

use super::{PostgresStore, Transaction, unreadable};
use crate::audit::{Action, Event, Filter};
use crate::moment::Moment;

/// Writes events as a part of `transaction`.
pub(super) async fn insert(transaction: &mut Transaction, events: &[Event]) -> Result<(), Error> {
    if events.is_empty() {
        return Ok(());
    }
    let texts = |text: fn(&Event) -> &str| events.iter().map(text).collect::<Vec<_>>();
    sqlx::query(
        "INSERT INTO audit_events (event_id, at, actor, subject, session_id, client_id, address, action, refused, \
                event_count, detail) \
         SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::text[], $4::text[], $5::bytea[], $6::text[], $7::text[], \
                $8::text[], $9::boolean[], $10::bigint[], $11::text[])",
    )
    .bind(events.iter().map(|event| event.id.as_bytes().as_slice()).collect::<Vec<_>>())
    .bind(events.iter().map(|event| event.at.0).collect::<Vec<_>>())
    .bind(texts(|event| &event.actor))
    .bind(texts(|event| &event.subject))
    .bind(events.iter().map(|event| event.session.map(|session| session.0.as_bytes().to_vec())).collect::<Vec<_>>())
    .bind(texts(|event| &event.client_id))
    .bind(texts(|event| &event.address))
    .bind(texts(|event| event.action.name()))
    .bind(events.iter().map(|event| event.refused).collect::<Vec<_>>())
    .bind(events.iter().map(|event| i64::from(event.count)).collect::<Vec<_>>())
    .bind(texts(|event| &event.detail))
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

pub(super) async fn add(store: &PostgresStore, events: &[Event]) -> Result<(), Error> {
    let mut transaction = store.begin().await?;
    insert(&mut transaction, events).await?;
    transaction.commit().await
}

pub(super) async fn list(pool: &PgPool, filter: &Filter, limit: u32) -> Result<Vec<Event>, Error> {
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
    query.push(" ORDER BY event_id DESC LIMIT ").push_bind(i64::from(limit));
    query.build().fetch_all(pool).await?.iter().map(read).collect()
}

fn read(row: &PgRow) -> Result<Event, Error> {
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
        count: u32::try_from(row.try_get::<i64, _>(9)?).map_err(|_| unreadable("a count"))?,
        detail: row.try_get(10)?,
    })
}

/// Moves the horizon, before which a trigger lets events go, and removes some of those.
pub(super) async fn purge(store: &PostgresStore, before: Moment, rows_max: u32) -> Result<bool, Error> {
    let oldest: Option<i64> =
        sqlx::query_scalar("SELECT at FROM audit_events ORDER BY event_id LIMIT 1").fetch_optional(&store.pool).await?;
    if oldest.is_none_or(|oldest| oldest >= before.0) {
        return Ok(false);
    }
    let mut transaction = store.begin().await?;
    // Whoever throws away beside this waits here.
    sqlx::query("UPDATE audit_horizon SET remove_before = greatest(remove_before, $1)")
        .bind(before.0)
        .execute(&mut *transaction)
        .await?;
    let until = Filter { until: Some(before), ..Filter::default() }.bounds().1;
    let removed = sqlx::query(
        "DELETE FROM audit_events WHERE event_id IN \
         (SELECT event_id FROM audit_events WHERE event_id < $1 ORDER BY event_id LIMIT $2)",
    )
    .bind(until.as_bytes().as_slice())
    .bind(i64::from(rows_max))
    .execute(&mut *transaction)
    .await?
    .rows_affected();
    transaction.commit().await?;
    Ok(removed >= u64::from(rows_max))
}
