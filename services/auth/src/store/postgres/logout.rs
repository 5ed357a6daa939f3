//! Clients that have to be told of the ends of sessions, in PostgreSQL.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use flaghoist_runtime::names::{SessionId, UserId};
use sqlx::postgres::PgRow;
use sqlx::{Error, Row as _};
use uuid::Uuid;

use super::{PostgresStore, Transaction, read, unreadable, write};
use crate::error::StoreError;
use crate::moment::Moment;
use crate::scope::Scopes;
use crate::store::logout::{LogoutNotice, LogoutStore, wants_to_be_told};

/// Writes the notices of sessions that have ended: rows of id, person, client and scopes.
pub(super) async fn note_ends(transaction: &mut Transaction, ended: &[PgRow], now: Moment) -> Result<(), Error> {
    let mut candidates = Vec::new();
    for row in ended {
        if Scopes::known_of(row.try_get(3)?).includes(Scopes::OPENID) {
            candidates.push((row.try_get::<&[u8], _>(0)?, row.try_get::<&[u8], _>(1)?, row.try_get::<&str, _>(2)?));
        }
    }
    if candidates.is_empty() {
        return Ok(());
    }
    let clients: BTreeSet<_> = candidates.iter().map(|(_, _, client)| *client).collect();
    let registered: Vec<(String, String)> =
        sqlx::query_as("SELECT client_id, registration FROM clients WHERE client_id = ANY($1) AND deleted_at IS NULL")
            .bind(clients.into_iter().collect::<Vec<_>>())
            .fetch_all(&mut **transaction)
            .await?;
    let told = |id: &str| registered.iter().any(|(client, kept)| client == id && wants_to_be_told(kept));
    let (mut sessions, mut users, mut clients) = (Vec::new(), Vec::new(), Vec::new());
    for (session, user, client) in candidates.into_iter().filter(|(_, _, client)| told(client)) {
        sessions.push(session);
        users.push(user);
        clients.push(client);
    }
    if sessions.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO logout_notices (session_id, user_id, client_id, next_try_at) \
         SELECT session_id, user_id, client_id, $4 FROM unnest($1::bytea[], $2::bytea[], $3::text[]) \
         AS e (session_id, user_id, client_id) ON CONFLICT DO NOTHING",
    )
    .bind(sessions)
    .bind(users)
    .bind(clients)
    .bind(now.0)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

async fn take(
    store: &PostgresStore,
    limit: u32,
    but: &[String],
    pause: Duration,
    now: Moment,
) -> Result<Vec<LogoutNotice>, Error> {
    let rows = sqlx::query(
        "UPDATE logout_notices SET tries = tries + 1, next_try_at = $1 + $2 * (1::bigint << tries::int) WHERE session_id IN \
         (SELECT session_id FROM logout_notices WHERE next_try_at <= $1 AND client_id <> ALL($4) \
         ORDER BY next_try_at LIMIT $3 FOR UPDATE SKIP LOCKED) \
         RETURNING session_id, client_id, user_id, tries",
    )
    .bind(now.0)
    .bind(i64::try_from(pause.as_millis()).unwrap_or(i64::MAX))
    .bind(i64::from(limit))
    .bind(but)
    .fetch_all(&store.pool)
    .await?;
    rows.iter().map(read_notice).collect()
}

fn read_notice(row: &PgRow) -> Result<LogoutNotice, Error> {
    let uuid = |index: usize| Uuid::from_slice(row.try_get(index)?).map_err(|_| unreadable("an id"));
    Ok(LogoutNotice {
        session: SessionId(uuid(0)?),
        client_id: row.try_get(1)?,
        user: UserId(uuid(2)?),
        tries: u32::try_from(row.try_get::<i64, _>(3)?).unwrap_or(u32::MAX),
    })
}

async fn put_off(store: &PostgresStore, client_id: &str, until: Moment, now: Moment) -> Result<(), Error> {
    sqlx::query(
        "UPDATE logout_notices SET next_try_at = $1 WHERE session_id IN (SELECT session_id FROM logout_notices \
         WHERE client_id = $2 AND next_try_at <= $3 ORDER BY session_id FOR UPDATE SKIP LOCKED)",
    )
    .bind(until.0)
    .bind(client_id)
    .bind(now.0)
    .execute(&store.pool)
    .await?;
    Ok(())
}

async fn forget(store: &PostgresStore, session: SessionId) -> Result<(), Error> {
    sqlx::query("DELETE FROM logout_notices WHERE session_id = $1")
        .bind(session.0.as_bytes().as_slice())
        .execute(&store.pool)
        .await?;
    Ok(())
}

#[async_trait]
impl LogoutStore for PostgresStore {
    async fn take_logout_notices(
        &self,
        limit: u32,
        but: &[String],
        pause: Duration,
        now: Moment,
    ) -> Result<Vec<LogoutNotice>, StoreError> {
        write("take notices of logouts", || take(self, limit, but, pause, now)).await
    }

    async fn put_off_logout_notices(&self, client_id: &str, until: Moment, now: Moment) -> Result<(), StoreError> {
        write("put off notices of logouts", || put_off(self, client_id, until, now)).await
    }

    async fn drop_logout_notice(&self, session: SessionId) -> Result<(), StoreError> {
        read("forget a notice of a logout", || forget(self, session)).await
    }
}
