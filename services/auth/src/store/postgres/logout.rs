//! Clients that have to be told of the ends of sessions, in PostgreSQL.

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
use crate::store::logout::{LogoutNotice, LogoutStore};

/// Writes the notices of sessions that have ended: rows of id, person, client and scopes.
pub(super) async fn note_ends(transaction: &mut Transaction, ended: &[PgRow], now: Moment) -> Result<(), Error> {
    let (mut sessions, mut users, mut clients) = (Vec::new(), Vec::new(), Vec::new());
    for row in ended {
        if Scopes::known_of(row.try_get(3)?).includes(Scopes::OPENID) {
            sessions.push(row.try_get::<Vec<u8>, _>(0)?);
            users.push(row.try_get::<Vec<u8>, _>(1)?);
            clients.push(row.try_get::<String, _>(2)?);
        }
    }
    if sessions.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO logout_notices (session_id, client_id, user_id, next_try_at) \
         SELECT e.session_id, c.client_id, e.user_id, $4 \
         FROM unnest($1::bytea[], $2::bytea[], $3::text[]) AS e (session_id, user_id, client_id) \
         JOIN clients AS c ON c.client_id = e.client_id \
         WHERE c.deleted_at IS NULL AND c.registration::jsonb ->> 'backchannel_logout_uri' <> '' ON CONFLICT DO NOTHING",
    )
    .bind(sessions)
    .bind(users)
    .bind(clients)
    .bind(now.0)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

async fn take(store: &PostgresStore, limit: u32, pause: Duration, now: Moment) -> Result<Vec<LogoutNotice>, Error> {
    let rows = sqlx::query(
        "UPDATE logout_notices SET tries = tries + 1, next_try_at = $1 + $2 * (1::bigint << tries::int) WHERE session_id IN \
         (SELECT session_id FROM logout_notices WHERE next_try_at <= $1 ORDER BY next_try_at LIMIT $3 FOR UPDATE SKIP LOCKED) \
         RETURNING session_id, client_id, user_id, tries",
    )
    .bind(now.0)
    .bind(i64::try_from(pause.as_millis()).unwrap_or(i64::MAX))
    .bind(i64::from(limit))
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
        pause: Duration,
        now: Moment,
    ) -> Result<Vec<LogoutNotice>, StoreError> {
        write("take notices of logouts", || take(self, limit, pause, now)).await
    }

    async fn drop_logout_notice(&self, session: SessionId) -> Result<(), StoreError> {
        read("forget a notice of a logout", || forget(self, session)).await
    }
}
