//! Sessions in SQLite. A session that ends is deleted and its revocation recorded in the same transaction.

use std::time::Duration;

use flaghoist_runtime::names::{SessionId, UserId};
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{Row as _, Sqlite};
use uuid::Uuid;

use super::sign_in::forget;
use super::{SqliteStore, Transaction, audit, count, json, logout, unreadable};
use crate::audit::{Event, Origin, Why};
use crate::moment::Moment;
use crate::refresh_token::Digest;
use crate::scope::Scopes;
use crate::session::{Family, Lifetimes, Presentation, Session, Verdict};
use crate::store::judge::{Judgement, Moved, asked, judge};

/// `SELECT` with the columns that [`read`] takes, and the rest of the query.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT s.session_id, s.user_id, s.client_id, s.scopes, s.amr, s.label, s.authenticated_at, s.created_at, ",
            "s.last_use_at, s.last_address, s.current_sha256, s.previous_sha256, s.rotated_at, s.claims, s.key_thumbprint ",
            $rest
        )
    };
}

fn read(row: &SqliteRow) -> Result<Session, sqlx::Error> {
    let uuid = |index: usize| Uuid::from_slice(row.try_get(index)?).map_err(|_| unreadable("an id"));
    let digest = |bytes: &[u8]| Digest::kept(bytes).ok_or_else(|| unreadable("a digest"));
    Ok(Session {
        id: SessionId(uuid(0)?),
        user: UserId(uuid(1)?),
        client_id: row.try_get::<&str, _>(2)?.into(),
        scopes: Scopes::known_of(row.try_get(3)?),
        amr: row.try_get::<&str, _>(4)?.split_whitespace().map(str::to_owned).collect(),
        label: row.try_get(5)?,
        authenticated_at: Moment(row.try_get(6)?),
        created_at: Moment(row.try_get(7)?),
        last_use_at: Moment(row.try_get(8)?),
        last_address: row.try_get(9)?,
        family: Family {
            current: digest(row.try_get(10)?)?,
            previous: row.try_get::<Option<&[u8]>, _>(11)?.map(digest).transpose()?,
            rotated_at: Moment(row.try_get(12)?),
        },
        claims: row.try_get::<&str, _>(13)?.split_whitespace().map(str::to_owned).collect(),
        key_thumbprint: row.try_get(14)?,
    })
}

pub(super) async fn present(
    store: &SqliteStore,
    presentations: &[Presentation],
    lifetimes: &Lifetimes,
    now: Moment,
) -> Result<Vec<Verdict>, sqlx::Error> {
    let mut transaction = store.begin().await?;
    let found = load(&mut transaction, &asked(presentations)).await?;
    let judgement = judge(found, presentations, lifetimes, now);
    if judgement.idle() {
        return Ok(judgement.verdicts);
    }
    let Judgement { verdicts, moved, reused, reuses, expired } = judgement;
    rotate(&mut transaction, &moved, now).await?;
    note_use(&mut transaction, &moved).await?;
    bind_keys(&mut transaction, &moved).await?;
    audit::insert(&mut transaction, &reuses).await?;
    let by = Origin::system(now);
    end(&mut transaction, &[(&reused, Why::Reused), (&expired, Why::Expired)], &by).await?;
    transaction.commit().await?;
    Ok(verdicts)
}

async fn load(transaction: &mut Transaction, ids: &[SessionId]) -> Result<Vec<Session>, sqlx::Error> {
    let rows = sqlx::query(select!(
        "FROM json_each(?1) AS asked CROSS JOIN sessions AS s ON s.session_id = unhex(asked.value, '-')"
    ))
    .bind(json(&texts(ids))?)
    .fetch_all(&mut **transaction)
    .await?;
    rows.iter().map(read).collect()
}

/// Moves the families on, all by one statement, each only from where it was found.
async fn rotate(transaction: &mut Transaction, moved: &[Moved], now: Moment) -> Result<(), sqlx::Error> {
    let hex = |digest: &Digest| hex(&digest.0);
    let rows: Vec<_> = moved
        .iter()
        .map(|Moved { session, found, .. }| {
            let previous = session.family.previous.as_ref().map(hex);
            (session.id.to_string(), hex(&session.family.current), previous, hex(&found.current))
        })
        .collect();
    let rotated = sqlx::query(
        "UPDATE sessions SET current_sha256 = unhex(moved.value ->> 1), previous_sha256 = unhex(moved.value ->> 2), \
                rotated_at = ?2 \
         FROM json_each(?1) AS moved \
         WHERE session_id = unhex(moved.value ->> 0, '-') AND current_sha256 = unhex(moved.value ->> 3)",
    )
    .bind(json(&rows)?)
    .bind(now.0)
    .execute(&mut **transaction)
    .await?
    .rows_affected();
    if rotated == count(moved.len()) { Ok(()) } else { Err(unreadable("the state of a session")) }
}

/// Notes when and where sessions were used, for those of which it is another minute or address. Apart from [`rotate`], so that
/// the index over it is mostly left alone.
async fn note_use(transaction: &mut Transaction, moved: &[Moved]) -> Result<(), sqlx::Error> {
    let rows: Vec<_> = moved
        .iter()
        .filter(|moved| moved.used_otherwise())
        .map(|Moved { session, .. }| (session.id.to_string(), session.last_use_at.0, &session.last_address))
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "UPDATE sessions SET last_use_at = used.value ->> 1, last_address = used.value ->> 2 \
         FROM json_each(?1) AS used WHERE session_id = unhex(used.value ->> 0, '-')",
    )
    .bind(json(&rows)?)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// Binds the refresh tokens of those sessions to a key that were bound to none, which happens once in their life.
async fn bind_keys(transaction: &mut Transaction, moved: &[Moved]) -> Result<(), sqlx::Error> {
    for Moved { session, .. } in moved.iter().filter(|moved| moved.newly_bound()) {
        sqlx::query("UPDATE sessions SET key_thumbprint = ?2 WHERE session_id = ?1")
            .bind(session.id.0.as_bytes().as_slice())
            .bind(&session.key_thumbprint)
            .execute(&mut **transaction)
            .await?;
    }
    Ok(())
}

/// Ends sessions, each for its reason.
pub(super) async fn end(
    transaction: &mut Transaction,
    doomed: &[(&Vec<SessionId>, Why)],
    by: &Origin,
) -> Result<(), sqlx::Error> {
    for (ids, why) in doomed.iter().filter(|(ids, _)| !ids.is_empty()) {
        end_for(transaction, ids, *why, by).await?;
    }
    Ok(())
}

async fn end_for(transaction: &mut Transaction, ids: &[SessionId], why: Why, by: &Origin) -> Result<(), sqlx::Error> {
    let now = by.at;
    let ids = json(&texts(ids))?;
    let ended = sqlx::query(
        "DELETE FROM sessions WHERE session_id IN (SELECT unhex(value, '-') FROM json_each(?1)) \
         RETURNING session_id, user_id, client_id, scopes",
    )
    .bind(&ids)
    .fetch_all(&mut **transaction)
    .await?;
    let event = |row: &SqliteRow| -> Result<Event, sqlx::Error> {
        let uuid = |index: usize| Uuid::from_slice(row.try_get(index)?).map_err(|_| unreadable("an id"));
        Ok(Event::session_ended(by, why, UserId(uuid(1)?), SessionId(uuid(0)?), row.try_get(2)?))
    };
    audit::insert(transaction, &ended.iter().map(event).collect::<Result<Vec<_>, _>>()?).await?;
    logout::note_ends(transaction, &ended, now).await?;
    sqlx::query("INSERT INTO revocations (kind, target, revoked_at) SELECT 'session', value, ?2 FROM json_each(?1)")
        .bind(&ids)
        .bind(now.0)
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

pub(super) async fn get(readers: &SqlitePool, session: SessionId) -> Result<Option<Session>, sqlx::Error> {
    let row = sqlx::query(select!("FROM sessions AS s WHERE s.session_id = ?1"))
        .bind(session.0.as_bytes().as_slice())
        .fetch_optional(readers)
        .await?;
    row.as_ref().map(read).transpose()
}

pub(super) async fn list(
    readers: &SqlitePool,
    user: UserId,
    before: Option<SessionId>,
    limit: u32,
    lifetimes: &Lifetimes,
    now: Moment,
) -> Result<Vec<Session>, sqlx::Error> {
    let before = before.map_or(Uuid::max(), |session| session.0);
    let rows = sqlx::query(select!(
        "FROM sessions AS s WHERE s.user_id = ?1 AND s.session_id < ?2 AND s.rotated_at > ?3 AND s.created_at > ?4 \
         ORDER BY s.session_id DESC LIMIT ?5"
    ))
    .bind(user.0.as_bytes().as_slice())
    .bind(before.as_bytes().as_slice())
    .bind(now.minus(lifetimes.idle).0)
    .bind(now.minus(lifetimes.absolute).0)
    .bind(limit)
    .fetch_all(readers)
    .await?;
    rows.iter().map(read).collect()
}

pub(super) async fn end_one(
    store: &SqliteStore,
    user: UserId,
    session: SessionId,
    why: Why,
    by: &Origin,
) -> Result<bool, sqlx::Error> {
    let mut transaction = store.begin().await?;
    let found = sqlx::query("SELECT session_id FROM sessions WHERE session_id = ?1 AND user_id = ?2")
        .bind(session.0.as_bytes().as_slice())
        .bind(user.0.as_bytes().as_slice())
        .fetch_all(&mut *transaction)
        .await?;
    end(&mut transaction, &[(&ids(&found)?, why)], by).await?;
    transaction.commit().await?;
    Ok(!found.is_empty())
}

pub(super) async fn end_all(
    store: &SqliteStore,
    user: UserId,
    except: Option<SessionId>,
    by: &Origin,
) -> Result<u64, sqlx::Error> {
    let mut transaction = store.begin().await?;
    let mut found = of_user(&mut transaction, user).await?;
    found.retain(|session| Some(*session) != except);
    end(&mut transaction, &[(&found, Why::Revoked)], by).await?;
    forget(&mut transaction, user).await?;
    transaction.commit().await?;
    Ok(count(found.len()))
}

/// The sessions of a person. There are no more than the setting allows.
pub(super) async fn of_user(transaction: &mut Transaction, user: UserId) -> Result<Vec<SessionId>, sqlx::Error> {
    let rows = sqlx::query("SELECT session_id FROM sessions WHERE user_id = ?1")
        .bind(user.0.as_bytes().as_slice())
        .fetch_all(&mut **transaction)
        .await?;
    ids(&rows)
}

/// The ids in the first column.
pub(super) fn ids(rows: &[SqliteRow]) -> Result<Vec<SessionId>, sqlx::Error> {
    rows.iter().map(|row| Uuid::from_slice(row.try_get(0)?).map(SessionId).map_err(|_| unreadable("an id"))).collect()
}

pub(super) async fn purge(
    store: &SqliteStore,
    lifetimes: &Lifetimes,
    rows_max: u32,
    now: Moment,
) -> Result<bool, sqlx::Error> {
    // The last use is kept to the minute.
    let unused_before = now.minus(lifetimes.idle).minus(Duration::from_secs(60));
    let mut transaction = store.begin().await?;
    let unused = old("SELECT session_id FROM sessions WHERE last_use_at < ?1 LIMIT ?2", unused_before, rows_max)
        .fetch_all(&mut *transaction)
        .await?;
    let by = Origin::system(now);
    end(&mut transaction, &[(&ids(&unused)?, Why::Expired)], &by).await?;
    let created_before = now.minus(lifetimes.absolute);
    let aged = old("SELECT session_id FROM sessions WHERE created_at < ?1 LIMIT ?2", created_before, rows_max)
        .fetch_all(&mut *transaction)
        .await?;
    end(&mut transaction, &[(&ids(&aged)?, Why::Expired)], &by).await?;
    transaction.commit().await?;
    Ok(unused.len() >= rows_max as usize || aged.len() >= rows_max as usize)
}

/// The query `sql` with a time and a number of rows.
fn old<'q>(
    sql: &'static str,
    before: Moment,
    rows_max: u32,
) -> sqlx::query::Query<'q, Sqlite, sqlx::sqlite::SqliteArguments> {
    sqlx::query(sql).bind(before.0).bind(rows_max)
}

fn texts(ids: &[SessionId]) -> Vec<String> {
    ids.iter().map(SessionId::to_string).collect()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
