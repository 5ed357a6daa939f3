//! Sessions in PostgreSQL. A session that ends is deleted and its revocation recorded in the same transaction; whoever locks several
//! sessions does so in the order of their ids.

use std::time::Duration;

use flaghoist_runtime::names::{SessionId, UserId};
use sqlx::postgres::{PgPool, PgRow};
use sqlx::{Error, Row as _};
use uuid::Uuid;

use super::sign_in::forget;
use super::{LOCKS, PostgresStore, Transaction, audit, count, logout, revocation, unreadable};
use crate::audit::{Event, Origin, Why};
use crate::moment::Moment;
use crate::refresh_token::Digest;
use crate::scope::Scopes;
use crate::session::{Family, Lifetimes, Presentation, Session, Verdict};
use crate::store::Opened;
use crate::store::judge::{Judgement, Moved, asked, judge, opened};

/// `SELECT` with the columns that [`read`] takes, and the rest of the query.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT session_id, user_id, client_id, scopes, amr, label, authenticated_at, created_at, last_use_at, ",
            "last_address, current_sha256, previous_sha256, rotated_at, claims, key_thumbprint ",
            $rest
        )
    };
}

fn read(row: &PgRow) -> Result<Session, Error> {
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
    store: &PostgresStore,
    presentations: &[Presentation],
    lifetimes: &Lifetimes,
    now: Moment,
) -> Result<Vec<Verdict>, Error> {
    let mut transaction = store.begin().await?;
    // Whoever presents a token of one of these on another pod waits here, and then sees what this batch has made of it.
    let rows = sqlx::query(select!("FROM sessions WHERE session_id = ANY($1) ORDER BY session_id FOR UPDATE"))
        .bind(bytes(&asked(presentations)))
        .fetch_all(&mut *transaction)
        .await?;
    let found = rows.iter().map(read).collect::<Result<_, _>>()?;
    let judgement = judge(found, presentations, lifetimes, now);
    if judgement.idle() {
        return Ok(judgement.verdicts);
    }
    let Judgement { verdicts, moved, reused, reuses, expired } = judgement;
    rotate(&mut transaction, &moved, now).await?;
    bind_keys(&mut transaction, &moved).await?;
    audit::insert(&mut transaction, &reuses).await?;
    let by = Origin::system(now);
    end(&mut transaction, &[(&reused, Why::Reused), (&expired, Why::Expired)], &by).await?;
    transaction.commit().await?;
    Ok(verdicts)
}

/// Moves the families on, all by one statement, each only from where it was found.
async fn rotate(transaction: &mut Transaction, moved: &[Moved], now: Moment) -> Result<(), Error> {
    if moved.is_empty() {
        return Ok(());
    }
    let rotated = sqlx::query(
        "UPDATE sessions AS s SET current_sha256 = m.current, previous_sha256 = m.previous, rotated_at = $7, \
                last_use_at = m.last_use_at, last_address = m.last_address \
         FROM unnest($1::bytea[], $2::bytea[], $3::bytea[], $4::bytea[], $5::bigint[], $6::text[]) \
                AS m (session_id, found, current, previous, last_use_at, last_address) \
         WHERE s.session_id = m.session_id AND s.current_sha256 = m.found",
    )
    .bind(moved.iter().map(|moved| moved.session.id.0.as_bytes().as_slice()).collect::<Vec<_>>())
    .bind(moved.iter().map(|moved| moved.found.current.0.as_slice()).collect::<Vec<_>>())
    .bind(moved.iter().map(|moved| moved.session.family.current.0.as_slice()).collect::<Vec<_>>())
    .bind(moved.iter().map(|moved| moved.session.family.previous.map(|digest| digest.0.to_vec())).collect::<Vec<_>>())
    .bind(moved.iter().map(|moved| moved.session.last_use_at.0).collect::<Vec<_>>())
    .bind(moved.iter().map(|moved| moved.session.last_address.as_str()).collect::<Vec<_>>())
    .bind(now.0)
    .execute(&mut **transaction)
    .await?
    .rows_affected();
    if rotated == count(moved.len()) { Ok(()) } else { Err(unreadable("the state of a session")) }
}

/// Binds the refresh tokens of those sessions to a key that were bound to none, which happens once in their life.
async fn bind_keys(transaction: &mut Transaction, moved: &[Moved]) -> Result<(), Error> {
    for Moved { session, .. } in moved.iter().filter(|moved| moved.newly_bound()) {
        sqlx::query("UPDATE sessions SET key_thumbprint = $2 WHERE session_id = $1")
            .bind(session.id.0.as_bytes().as_slice())
            .bind(&session.key_thumbprint)
            .execute(&mut **transaction)
            .await?;
    }
    Ok(())
}

/// Ends those of the sessions that are still there, each for its reason, as the last part of `transaction`. Answers which.
pub(super) async fn end(
    transaction: &mut Transaction,
    doomed: &[(&Vec<SessionId>, Why)],
    by: &Origin,
) -> Result<Vec<SessionId>, Error> {
    let ids: Vec<SessionId> = doomed.iter().flat_map(|(ids, _)| ids.iter().copied()).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let why = |id: &SessionId| doomed.iter().find(|(ids, _)| ids.contains(id)).map_or(Why::Revoked, |(_, why)| *why);
    let rows = sqlx::query(
        "WITH doomed AS MATERIALIZED \
             (SELECT session_id FROM sessions WHERE session_id = ANY($1) ORDER BY session_id FOR UPDATE) \
         DELETE FROM sessions USING doomed WHERE sessions.session_id = doomed.session_id \
         RETURNING sessions.session_id, sessions.user_id, sessions.client_id, sessions.scopes",
    )
    .bind(bytes(&ids))
    .fetch_all(&mut **transaction)
    .await?;
    let mut ended = ids_in(&rows)?;
    let event = |(row, session): (&PgRow, &SessionId)| -> Result<Event, Error> {
        let user = Uuid::from_slice(row.try_get(1)?).map_err(|_| unreadable("an id"))?;
        Ok(Event::session_ended(by, why(session), UserId(user), *session, row.try_get(2)?))
    };
    let events = rows.iter().zip(&ended).map(event).collect::<Result<Vec<_>, _>>()?;
    audit::insert(transaction, &events).await?;
    logout::note_ends(transaction, &rows, by.at).await?;
    ended.sort_unstable();
    if !ended.is_empty() {
        revocation::record_ends(transaction, &ended, by.at).await?;
    }
    Ok(ended)
}

/// Waits until no other transaction opens sessions of the person, or ends all of them, and keeps others from it until the end of
/// this one. What is read after that is up to date.
pub(super) async fn alone_with(transaction: &mut Transaction, user: UserId) -> Result<(), Error> {
    // The last bytes of an id are random. Two people who share them only wait for each other now and then.
    let mut last = [0; 4];
    last.copy_from_slice(&user.0.as_bytes()[12..]);
    sqlx::query("SELECT pg_advisory_xact_lock($1, $2)")
        .bind(LOCKS)
        .bind(i32::from_be_bytes(last))
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

pub(super) async fn open(
    store: &PostgresStore,
    session: &Session,
    sessions_max: u32,
    by: &Origin,
) -> Result<Opened, Error> {
    let mut transaction = store.begin().await?;
    let opened = open_within(&mut transaction, session, sessions_max, by).await?;
    transaction.commit().await?;
    Ok(opened)
}

/// Opens a session as part of `transaction`. Nothing is written unless it is open.
pub(super) async fn open_within(
    transaction: &mut Transaction,
    session: &Session,
    sessions_max: u32,
    by: &Origin,
) -> Result<Opened, Error> {
    let user = session.user.0.as_bytes().as_slice();
    alone_with(transaction, session.user).await?;
    // The lock makes a removal of the client wait, so that it finds this session.
    let registered = sqlx::query("SELECT 1 FROM clients WHERE client_id = $1 AND deleted_at IS NULL FOR SHARE")
        .bind(&*session.client_id)
        .fetch_optional(&mut **transaction)
        .await?;
    if registered.is_none() {
        return Ok(Opened::ClientUnknown);
    }
    let state: Option<(bool, bool)> = sqlx::query_as("SELECT enabled, admin FROM subjects WHERE user_id = $1")
        .bind(user)
        .fetch_optional(&mut **transaction)
        .await?;
    let scopes = match state {
        Some((false, _)) => return Ok(Opened::SubjectDisabled),
        Some((true, false)) => session.scopes - Scopes::ADMIN,
        Some((true, true)) | None => session.scopes,
    };
    let oldest = sqlx::query("SELECT session_id FROM sessions WHERE user_id = $1 ORDER BY session_id DESC OFFSET $2")
        .bind(user)
        .bind(i64::from(sessions_max) - 1)
        .fetch_all(&mut **transaction)
        .await?;
    sqlx::query(
        "INSERT INTO sessions (session_id, user_id, client_id, scopes, amr, label, authenticated_at, created_at, \
                last_use_at, last_address, current_sha256, previous_sha256, rotated_at, claims, key_thumbprint) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
    )
    .bind(session.id.0.as_bytes().as_slice())
    .bind(user)
    .bind(&*session.client_id)
    .bind(scopes.to_string())
    .bind(session.amr.join(" "))
    .bind(&session.label)
    .bind(session.authenticated_at.0)
    .bind(session.created_at.0)
    .bind(session.last_use_at.0)
    .bind(&session.last_address)
    .bind(session.family.current.0.as_slice())
    .bind(session.family.previous.as_ref().map(|digest| digest.0.as_slice()))
    .bind(session.family.rotated_at.0)
    .bind(session.claims.join(" "))
    .bind(&session.key_thumbprint)
    .execute(&mut **transaction)
    .await?;
    audit::insert(transaction, &[opened(session, scopes, by)]).await?;
    let ended = end(transaction, &[(&ids_in(&oldest)?, Why::TooMany)], by).await?;
    Ok(Opened::Open { scopes, ended })
}

pub(super) async fn get(pool: &PgPool, session: SessionId) -> Result<Option<Session>, Error> {
    let row = sqlx::query(select!("FROM sessions WHERE session_id = $1"))
        .bind(session.0.as_bytes().as_slice())
        .fetch_optional(pool)
        .await?;
    row.as_ref().map(read).transpose()
}

pub(super) async fn list(
    pool: &PgPool,
    user: UserId,
    before: Option<SessionId>,
    limit: u32,
    lifetimes: &Lifetimes,
    now: Moment,
) -> Result<Vec<Session>, Error> {
    let before = before.map_or(Uuid::max(), |session| session.0);
    let rows = sqlx::query(select!(
        "FROM sessions WHERE user_id = $1 AND session_id < $2 AND rotated_at > $3 AND created_at > $4 \
         ORDER BY session_id DESC LIMIT $5"
    ))
    .bind(user.0.as_bytes().as_slice())
    .bind(before.as_bytes().as_slice())
    .bind(now.minus(lifetimes.idle).0)
    .bind(now.minus(lifetimes.absolute).0)
    .bind(i64::from(limit))
    .fetch_all(pool)
    .await?;
    rows.iter().map(read).collect()
}

pub(super) async fn end_one(
    store: &PostgresStore,
    user: UserId,
    session: SessionId,
    why: Why,
    by: &Origin,
) -> Result<bool, Error> {
    let mut transaction = store.begin().await?;
    let found = sqlx::query("SELECT session_id FROM sessions WHERE session_id = $1 AND user_id = $2")
        .bind(session.0.as_bytes().as_slice())
        .bind(user.0.as_bytes().as_slice())
        .fetch_all(&mut *transaction)
        .await?;
    let ended = end(&mut transaction, &[(&ids_in(&found)?, why)], by).await?;
    transaction.commit().await?;
    Ok(!ended.is_empty())
}

pub(super) async fn end_all(
    store: &PostgresStore,
    user: UserId,
    except: Option<SessionId>,
    by: &Origin,
) -> Result<u64, Error> {
    let mut transaction = store.begin().await?;
    alone_with(&mut transaction, user).await?;
    let mut found = of_user(&mut transaction, user).await?;
    found.retain(|session| Some(*session) != except);
    forget(&mut transaction, user).await?;
    let ended = end(&mut transaction, &[(&found, Why::Revoked)], by).await?;
    transaction.commit().await?;
    Ok(count(ended.len()))
}

/// The sessions of a person. There are no more than the setting allows.
pub(super) async fn of_user(transaction: &mut Transaction, user: UserId) -> Result<Vec<SessionId>, Error> {
    let rows = sqlx::query("SELECT session_id FROM sessions WHERE user_id = $1")
        .bind(user.0.as_bytes().as_slice())
        .fetch_all(&mut **transaction)
        .await?;
    ids_in(&rows)
}

pub(super) async fn purge(
    store: &PostgresStore,
    lifetimes: &Lifetimes,
    rows_max: u32,
    now: Moment,
) -> Result<bool, Error> {
    let mut transaction = store.begin().await?;
    // The last use is kept to the minute.
    let unused_before = now.minus(lifetimes.idle).minus(Duration::from_secs(60));
    let unused = old(&mut transaction, UNUSED, unused_before, rows_max).await?;
    let aged = old(&mut transaction, AGED, now.minus(lifetimes.absolute), rows_max).await?;
    let old = [unused.as_slice(), &aged].concat();
    end(&mut transaction, &[(&old, Why::Expired)], &Origin::system(now)).await?;
    transaction.commit().await?;
    Ok(unused.len() >= rows_max as usize || aged.len() >= rows_max as usize)
}

const UNUSED: &str =
    "SELECT session_id FROM sessions WHERE last_use_at < $1 ORDER BY last_use_at LIMIT $2 FOR UPDATE SKIP LOCKED";

const AGED: &str =
    "SELECT session_id FROM sessions WHERE created_at < $1 ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED";

/// Locks sessions by their age. One that is locked already is in use, or another pod throws it away: it is passed over. One that was
/// refreshed a moment ago is not old any more when its lock is had.
async fn old(
    transaction: &mut Transaction,
    query: &'static str,
    before: Moment,
    rows_max: u32,
) -> Result<Vec<SessionId>, Error> {
    let rows = sqlx::query(query).bind(before.0).bind(i64::from(rows_max)).fetch_all(&mut **transaction).await?;
    ids_in(&rows)
}

/// The ids in the first column.
pub(super) fn ids_in(rows: &[PgRow]) -> Result<Vec<SessionId>, Error> {
    rows.iter().map(|row| Uuid::from_slice(row.try_get(0)?).map(SessionId).map_err(|_| unreadable("an id"))).collect()
}

fn bytes(ids: &[SessionId]) -> Vec<&[u8]> {
    ids.iter().map(|id| id.0.as_bytes().as_slice()).collect()
}
