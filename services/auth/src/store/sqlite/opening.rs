//! Sessions are opened in SQLite. Those that come while one commit is running go into the next one together, each statement about all of
//! them.

use std::collections::HashSet;
use std::sync::Arc;

use flaghoist_runtime::batch::Batcher;
use flaghoist_runtime::names::SessionId;
use flaghoist_runtime::sqlite::Database;
use sqlx::Row as _;

use super::session::{end, hex, ids};
use super::{Transaction, audit, failed, json};
use crate::audit::{Origin, Why};
use crate::error::StoreError;
use crate::scope::Scopes;
use crate::session::Session;
use crate::store::Opened;
use crate::store::judge::opened;

/// How many go into one commit.
const BATCH_MAX: usize = 256;
/// How many may wait; more are refused.
const QUEUE_MAX: usize = 16_384;

/// A session that is to be opened.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) session: Session,
    pub(super) sessions_max: u32,
    pub(super) by: Origin,
}

/// Commits sessions that are to be opened.
#[derive(Debug)]
pub(super) struct Openings(Batcher<Opening, Result<Opened, Arc<sqlx::Error>>>);

impl Openings {
    pub(super) fn start(database: Database) -> Self {
        Self(Batcher::whole("auth_sign_in", QUEUE_MAX, BATCH_MAX, move |openings| {
            let database = database.clone();
            async move { commit(&database, &openings).await }
        }))
    }

    pub(super) async fn submit(&self, opening: Opening) -> Result<Opened, StoreError> {
        const DOING: &str = "open a session";
        match self.0.submit(opening).await {
            Ok(opened) => opened.map_err(failed(DOING)),
            Err(refused) => Err(StoreError { doing: DOING, transient: true, source: Box::new(refused) }),
        }
    }
}

async fn commit(database: &Database, openings: &[Opening]) -> Result<Vec<Opened>, sqlx::Error> {
    let mut transaction = database.writer.begin_with("BEGIN IMMEDIATE").await?;
    let opened = open_all(&mut transaction, openings).await?;
    transaction.commit().await?;
    Ok(opened)
}

/// Opens a session as part of `transaction`. Nothing is written unless it is open.
pub(super) async fn open_within(transaction: &mut Transaction, opening: Opening) -> Result<Opened, sqlx::Error> {
    let mut opened = open_all(transaction, &[opening]).await?;
    opened.pop().ok_or(sqlx::Error::RowNotFound)
}

/// Opens sessions as part of `transaction`. Of those that do not open nothing is written.
async fn open_all(transaction: &mut Transaction, openings: &[Opening]) -> Result<Vec<Opened>, sqlx::Error> {
    let mut all = Vec::with_capacity(openings.len());
    // What is open of a person already is counted before each, so one person's are opened one after another.
    let mut rest = openings;
    while !rest.is_empty() {
        let mut people = HashSet::new();
        let apart = rest.iter().take_while(|opening| people.insert(opening.session.user)).count();
        let (next, later) = rest.split_at(apart);
        all.extend(open_apart(transaction, next).await?);
        rest = later;
    }
    Ok(all)
}

/// Opens sessions of as many people.
async fn open_apart(transaction: &mut Transaction, openings: &[Opening]) -> Result<Vec<Opened>, sqlx::Error> {
    let asked: Vec<_> = openings
        .iter()
        .map(|Opening { session, sessions_max, .. }| {
            (hex(session.user.0.as_bytes()), &*session.client_id, sessions_max)
        })
        .collect();
    let rows = sqlx::query(
        "SELECT EXISTS (SELECT 1 FROM clients AS c WHERE c.client_id = j.value ->> 1 AND c.deleted_at IS NULL), \
                s.enabled, s.admin, \
                (SELECT count(*) FROM sessions WHERE user_id = unhex(j.value ->> 0)) >= j.value ->> 2 \
         FROM json_each(?1) AS j LEFT JOIN subjects AS s ON s.user_id = unhex(j.value ->> 0) \
         ORDER BY j.key",
    )
    .bind(json(&asked)?)
    .fetch_all(&mut **transaction)
    .await?;
    let mut all = Vec::with_capacity(openings.len());
    let mut open = Vec::new();
    for (opening, row) in openings.iter().zip(&rows) {
        let registered: bool = row.try_get(0)?;
        if !registered {
            all.push(Opened::ClientUnknown);
            continue;
        }
        let scopes = match (row.try_get(1)?, row.try_get(2)?) {
            (Some(false), _) => {
                all.push(Opened::SubjectDisabled);
                continue;
            }
            (Some(true), Some(false)) => opening.session.scopes - Scopes::ADMIN,
            _ => opening.session.scopes,
        };
        let ended = if row.try_get(3)? { end_oldest(transaction, opening).await? } else { Vec::new() };
        open.push((opening, scopes));
        all.push(Opened::Open { scopes, ended });
    }
    if !open.is_empty() {
        insert(transaction, &open).await?;
    }
    Ok(all)
}

/// Ends the oldest sessions of a person, so that there is room for one more.
async fn end_oldest(transaction: &mut Transaction, opening: &Opening) -> Result<Vec<SessionId>, sqlx::Error> {
    let oldest =
        sqlx::query("SELECT session_id FROM sessions WHERE user_id = ?1 ORDER BY session_id DESC LIMIT -1 OFFSET ?2")
            .bind(opening.session.user.0.as_bytes().as_slice())
            .bind(i64::from(opening.sessions_max) - 1)
            .fetch_all(&mut **transaction)
            .await?;
    let ended = ids(&oldest)?;
    end(transaction, &[(&ended, Why::TooMany)], &opening.by).await?;
    Ok(ended)
}

async fn insert(transaction: &mut Transaction, open: &[(&Opening, Scopes)]) -> Result<(), sqlx::Error> {
    let rows: Vec<_> = open
        .iter()
        .map(|(Opening { session, .. }, scopes)| {
            let whose = (hex(session.id.0.as_bytes()), hex(session.user.0.as_bytes()), &*session.client_id);
            let times = (session.authenticated_at.0, session.created_at.0, session.last_use_at.0);
            let previous = session.family.previous.as_ref().map(|digest| hex(&digest.0));
            let family = (hex(&session.family.current.0), previous, session.family.rotated_at.0);
            let proof = (scopes.to_string(), session.amr.join(" "), session.claims.join(" "), &session.key_thumbprint);
            (whose, times, family, proof, &session.label, &session.last_address)
        })
        .collect();
    sqlx::query(
        "INSERT INTO sessions (session_id, user_id, client_id, authenticated_at, created_at, last_use_at, \
                current_sha256, previous_sha256, rotated_at, scopes, amr, claims, key_thumbprint, label, last_address) \
         SELECT unhex(value ->> '$[0][0]'), unhex(value ->> '$[0][1]'), value ->> '$[0][2]', \
                value ->> '$[1][0]', value ->> '$[1][1]', value ->> '$[1][2]', \
                unhex(value ->> '$[2][0]'), unhex(value ->> '$[2][1]'), value ->> '$[2][2]', \
                value ->> '$[3][0]', value ->> '$[3][1]', value ->> '$[3][2]', value ->> '$[3][3]', \
                value ->> 4, value ->> 5 \
         FROM json_each(?1)",
    )
    .bind(json(&rows)?)
    .execute(&mut **transaction)
    .await?;
    let events: Vec<_> = open.iter().map(|(opening, scopes)| opened(&opening.session, *scopes, &opening.by)).collect();
    audit::insert(transaction, &events).await
}
