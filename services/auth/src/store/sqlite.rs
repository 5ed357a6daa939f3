//! The store of one machine: one SQLite file. There is one writing connection, so transactions follow one another.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use flaghoist_runtime::names::{SessionId, UserId};
use flaghoist_runtime::sqlite::{self, Database, OpenError};
use flaghoist_runtime::token::RevocationTarget;
use sqlx::Sqlite;
use sqlx::migrate::Migrator;

use self::opening::{Opening, Openings};
use super::{Addition, Numbered, Opened, Purge, Resealed, Store, SubjectState};
use crate::audit::{Event, Filter, Origin, Why};
use crate::client::Client;
use crate::error::StoreError;
use crate::key::{KeyChange, KeyRefusal, KeyTimes, SigningKey};
use crate::moment::Moment;
use crate::session::{Lifetimes, Presentation, Session, Verdict};

mod audit;
mod client;
mod grants;
mod key;
mod logout;
mod opening;
mod revocation;
mod session;
mod sign_in;
mod subject;

pub(super) static MIGRATOR: Migrator = sqlx::migrate!("./migrations/sqlite");

type Transaction = sqlx::Transaction<'static, Sqlite>;

/// The tables of the issuer in one SQLite file.
#[derive(Debug)]
pub(crate) struct SqliteStore {
    database: Database,
    /// How often the clients changed since the start; nobody but this process changes them.
    client_changes: AtomicI64,
    openings: Openings,
}

impl SqliteStore {
    /// Opens, or makes, the file at `path`.
    pub(crate) async fn open(path: &Path) -> Result<Self, OpenError> {
        let database = sqlite::open(path, &MIGRATOR).await?;
        Ok(Self { openings: Openings::start(database.clone()), database, client_changes: AtomicI64::new(0) })
    }

    /// Begins to write. IMMEDIATE: the lock is taken now, not at the first write after a read.
    async fn begin(&self) -> Result<Transaction, sqlx::Error> {
        self.database.writer.begin_with("BEGIN IMMEDIATE").await
    }
}

/// The signing keys as they are kept.
pub(super) async fn signing_keys(readers: &sqlx::SqlitePool) -> Result<Vec<SigningKey>, sqlx::Error> {
    key::all(readers).await
}

/// Says what was being done when SQLite failed.
fn failed<E: Into<Arc<sqlx::Error>>>(doing: &'static str) -> impl Fn(E) -> StoreError {
    move |error| {
        let error = error.into();
        StoreError { doing, transient: sqlite::transient(&error), source: Box::new(error) }
    }
}

/// A value in the file that no version of the product has written.
fn unreadable(what: &'static str) -> sqlx::Error {
    sqlx::Error::Decode(format!("{what} is not readable").into())
}

/// A JSON list, as `json_each` takes it.
fn json(list: &impl serde::Serialize) -> Result<String, sqlx::Error> {
    serde_json::to_string(list).map_err(|error| sqlx::Error::Encode(error.into()))
}

fn count(rows: usize) -> u64 {
    rows as u64
}

#[async_trait]
impl Store for SqliteStore {
    async fn present(
        &self,
        presentations: &[Presentation],
        lifetimes: &Lifetimes,
        now: Moment,
    ) -> Result<Vec<Verdict>, StoreError> {
        session::present(self, presentations, lifetimes, now).await.map_err(failed("refresh sessions"))
    }

    async fn open_session(&self, session: &Session, sessions_max: u32, by: &Origin) -> Result<Opened, StoreError> {
        self.openings.submit(Opening { session: session.clone(), sessions_max, by: by.clone() }).await
    }

    async fn session(&self, session: SessionId) -> Result<Option<Session>, StoreError> {
        session::get(&self.database.readers, session).await.map_err(failed("read a session"))
    }

    async fn sessions_of(
        &self,
        user: UserId,
        before: Option<SessionId>,
        limit: u32,
        lifetimes: &Lifetimes,
        now: Moment,
    ) -> Result<Vec<Session>, StoreError> {
        session::list(&self.database.readers, user, before, limit, lifetimes, now)
            .await
            .map_err(failed("list sessions"))
    }

    async fn end_session(&self, user: UserId, session: SessionId, why: Why, by: &Origin) -> Result<bool, StoreError> {
        session::end_one(self, user, session, why, by).await.map_err(failed("end a session"))
    }

    async fn end_sessions_of(&self, user: UserId, except: Option<SessionId>, by: &Origin) -> Result<u64, StoreError> {
        session::end_all(self, user, except, by).await.map_err(failed("end the sessions of a person"))
    }

    async fn set_subject(&self, user: UserId, state: SubjectState, by: &Origin) -> Result<u64, StoreError> {
        subject::set(self, user, state, by).await.map_err(failed("set the state of a person"))
    }

    async fn erase_subject(&self, user: UserId, by: &Origin) -> Result<u64, StoreError> {
        subject::erase(self, user, by).await.map_err(failed("erase a person"))
    }

    async fn revoke(&self, target: &RevocationTarget, event: Option<&Event>, now: Moment) -> Result<(), StoreError> {
        revocation::add(self, target, event, now).await.map_err(failed("record a revocation"))
    }

    async fn revocations(&self, since: Moment, after: i64, limit: u32) -> Result<Vec<Numbered>, StoreError> {
        revocation::list(&self.database.readers, since, after, limit).await.map_err(failed("read revocations"))
    }

    async fn clients(&self, known: Option<i64>) -> Result<Option<(i64, Vec<Client>)>, StoreError> {
        // Read first: what changes meanwhile has another number, and is read again.
        let version = self.client_changes.load(Ordering::Acquire);
        if known == Some(version) {
            return Ok(None);
        }
        let clients = client::all(&self.database.readers).await.map_err(failed("read clients"))?;
        Ok(Some((version, clients)))
    }

    async fn client(&self, client_id: &str) -> Result<Option<Client>, StoreError> {
        client::get(&self.database.readers, client_id).await.map_err(failed("read a client"))
    }

    async fn add_client(&self, client: &Client, clients_max: u32, by: &Origin) -> Result<Addition, StoreError> {
        let added = client::add(self, client, clients_max, by).await.map_err(failed("add a client"));
        self.client_changes.fetch_add(1, Ordering::AcqRel);
        added
    }

    async fn replace_client(&self, before: &Client, client: &Client, event: &Event) -> Result<bool, StoreError> {
        let replaced = client::replace(self, before, client, event).await.map_err(failed("change a client"));
        self.client_changes.fetch_add(1, Ordering::AcqRel);
        replaced
    }

    async fn retire_client(&self, client_id: &str, by: &Origin) -> Result<bool, StoreError> {
        let retired = client::retire(self, client_id, by).await.map_err(failed("remove a client"));
        self.client_changes.fetch_add(1, Ordering::AcqRel);
        retired
    }

    async fn sweep_retired_clients(&self, sessions_max: u32, now: Moment) -> Result<bool, StoreError> {
        client::sweep(self, sessions_max, now).await.map_err(failed("end the sessions of a client"))
    }

    async fn advance_keys(
        &self,
        spare: Vec<SigningKey>,
        times: &KeyTimes,
        now: Moment,
    ) -> Result<Vec<SigningKey>, StoreError> {
        key::advance(self, spare, times, now).await.map_err(failed("advance the signing keys"))
    }

    async fn change_keys(
        &self,
        change: &KeyChange,
        spare: Vec<SigningKey>,
        times: &KeyTimes,
        by: &Origin,
    ) -> Result<Result<Vec<SigningKey>, KeyRefusal>, StoreError> {
        key::change(self, change, spare, times, by).await.map_err(failed("change the signing keys"))
    }

    async fn keys(&self) -> Result<Vec<SigningKey>, StoreError> {
        key::all(&self.database.readers).await.map_err(failed("read the signing keys"))
    }

    async fn reseal_keys(&self, resealed: &[Resealed], by: &Origin) -> Result<u64, StoreError> {
        key::reseal(self, resealed, by).await.map_err(failed("reseal the signing keys"))
    }

    async fn audit(&self, events: &[Event]) -> Result<(), StoreError> {
        audit::add(self, events).await.map_err(failed("write audit events"))
    }

    async fn audit_events(&self, filter: &Filter, limit: u32) -> Result<Vec<Event>, StoreError> {
        audit::list(&self.database.readers, filter, limit).await.map_err(failed("read audit events"))
    }

    async fn purge(&self, what: &Purge, rows_max: u32, now: Moment) -> Result<bool, StoreError> {
        let sessions = session::purge(self, &what.lifetimes, rows_max, now).await.map_err(failed("purge sessions"))?;
        let revocations =
            revocation::purge(self, what.revocations_before, rows_max).await.map_err(failed("purge revocations"))?;
        let subjects =
            subject::purge(self, what.erased_before, rows_max).await.map_err(failed("purge erased people"))?;
        let sign_ins = sign_in::purge(self, what.browsers, what.codes_before, rows_max, now);
        let sign_ins = sign_ins.await.map_err(failed("purge what was left of sign-ins"))?;
        let grants =
            grants::purge(self, what.codes_before, rows_max, now).await.map_err(failed("purge what was used"))?;
        let audited = audit::purge(self, what.audited_before, rows_max).await.map_err(failed("purge audit events"))?;
        Ok(sessions || revocations || subjects || sign_ins || grants || audited)
    }
}
