//! The store that several pods share: tables in one PostgreSQL database.
//!
//! Transactions are READ COMMITTED, and what has to hold across pods holds by locks, always taken in this order so that no two
//! pods wait for each other: the signing keys (the table), the person (an advisory lock), the counter of clients, the client, the sessions
//! by their ids, the horizon of the audit log, the counter of revocations. The last one is held from the numbering of a revocation to its commit, which makes the numbers follow
//! the order of the commits.

use std::time::Duration;

use async_trait::async_trait;
use flaghoist_runtime::Dependency;
use flaghoist_runtime::names::{SessionId, UserId};
use flaghoist_runtime::postgres::{self, OpenError};
use flaghoist_runtime::token::RevocationTarget;
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPool};
use sqlx::{Error, Postgres};

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
mod revocation;
mod session;
mod sign_in;
mod subject;

pub(super) static MIGRATOR: Migrator = sqlx::migrate!("./migrations/postgres");

/// How long a call may take in all. The server ends a statement after half of it; this is for a server that is not heard of.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// How often a transaction is tried that was in another's way.
const TRIES_MAX: u32 = 5;

/// How many connections in a row may turn out to be broken. A restart of the server breaks all of them.
const BROKEN_MAX: u32 = 300;

/// How long to wait for a server that is starting or stopping before the next try.
const STARTING_PAUSE: Duration = Duration::from_millis(50);

/// The first half of the advisory locks of this service, `auth` in ASCII. Those of other services in the same database differ.
const LOCKS: i32 = 0x6175_7468;

type Transaction = sqlx::Transaction<'static, Postgres>;

/// The tables of the issuer in a PostgreSQL database.
#[derive(Debug)]
pub(crate) struct PostgresStore {
    pool: PgPool,
}

impl PostgresStore {
    /// Opens the database and brings its tables up to date. Waits for a server that is not there yet.
    pub(crate) async fn open(address: &PgConnectOptions, connections_max: u32) -> Result<Self, OpenError> {
        Ok(Self { pool: postgres::open(address, "auth", connections_max, &MIGRATOR).await? })
    }

    /// Says whether the database is there, from now on.
    pub(crate) fn watch(&self, dependency: Dependency) {
        postgres::watch(&self.pool, dependency);
    }

    /// Begins a transaction. A connection that broke while nobody used it is noticed here, before anything is done, and replaced.
    async fn begin(&self) -> Result<Transaction, Error> {
        for _ in 0..BROKEN_MAX {
            match self.pool.begin().await {
                Err(error) if lost(&error) => pause_if_starting(&error).await,
                begun => return begun,
            }
        }
        self.pool.begin().await
    }
}

/// Was the connection lost?
fn lost(error: &Error) -> bool {
    match error {
        Error::Io(_) => true,
        Error::Database(error) => {
            // The server ends, crashed, or is not up yet.
            error.code().is_some_and(|code| matches!(&*code, "57P01" | "57P02" | "57P03"))
        }
        _ => false,
    }
}

async fn pause_if_starting(error: &Error) {
    if matches!(error, Error::Database(_)) {
        tokio::time::sleep(STARTING_PAUSE).await;
    }
}

/// Does one transaction, and again if it was undone because another was in its way.
async fn write<T, Fut>(doing: &'static str, work: impl Fn() -> Fut) -> Result<T, StoreError>
where
    Fut: Future<Output = Result<T, Error>>,
{
    repeat(doing, TRIES_MAX, postgres::conflicted, work).await
}

/// Does what changes nothing when it is done twice, and again if the connection was lost.
async fn read<T, Fut>(doing: &'static str, work: impl Fn() -> Fut) -> Result<T, StoreError>
where
    Fut: Future<Output = Result<T, Error>>,
{
    repeat(doing, BROKEN_MAX, |error| lost(error) || postgres::conflicted(error), work).await
}

async fn repeat<T, Fut>(
    doing: &'static str,
    tries_max: u32,
    again: impl Fn(&Error) -> bool,
    work: impl Fn() -> Fut,
) -> Result<T, StoreError>
where
    Fut: Future<Output = Result<T, Error>>,
{
    let tried = async {
        let mut tries = 1;
        loop {
            match work().await {
                Err(error) if again(&error) && tries < tries_max => {
                    tries += 1;
                    pause_if_starting(&error).await;
                }
                answer => return answer,
            }
        }
    };
    match tokio::time::timeout(ANSWER_MAX, tried).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(StoreError { doing, transient: postgres::transient(&error), source: Box::new(error) }),
        Err(late) => Err(StoreError { doing, transient: true, source: Box::new(late) }),
    }
}

/// A value in the tables that no version of the product has written.
fn unreadable(what: &'static str) -> Error {
    Error::Decode(format!("{what} is not readable").into())
}

fn count(rows: usize) -> u64 {
    rows as u64
}

#[async_trait]
impl Store for PostgresStore {
    async fn present(
        &self,
        presentations: &[Presentation],
        lifetimes: &Lifetimes,
        now: Moment,
    ) -> Result<Vec<Verdict>, StoreError> {
        // Done twice, the second finds the tokens that the first has exchanged, and answers what that would have answered.
        read("refresh sessions", || session::present(self, presentations, lifetimes, now)).await
    }

    async fn open_session(&self, session: &Session, sessions_max: u32, by: &Origin) -> Result<Opened, StoreError> {
        write("open a session", || session::open(self, session, sessions_max, by)).await
    }

    async fn session(&self, session: SessionId) -> Result<Option<Session>, StoreError> {
        read("read a session", || session::get(&self.pool, session)).await
    }

    async fn sessions_of(
        &self,
        user: UserId,
        before: Option<SessionId>,
        limit: u32,
        lifetimes: &Lifetimes,
        now: Moment,
    ) -> Result<Vec<Session>, StoreError> {
        read("list sessions", || session::list(&self.pool, user, before, limit, lifetimes, now)).await
    }

    async fn end_session(&self, user: UserId, session: SessionId, why: Why, by: &Origin) -> Result<bool, StoreError> {
        write("end a session", || session::end_one(self, user, session, why, by)).await
    }

    async fn end_sessions_of(&self, user: UserId, except: Option<SessionId>, by: &Origin) -> Result<u64, StoreError> {
        write("end the sessions of a person", || session::end_all(self, user, except, by)).await
    }

    async fn set_subject(&self, user: UserId, state: SubjectState, by: &Origin) -> Result<u64, StoreError> {
        write("set the state of a person", || subject::set(self, user, state, by)).await
    }

    async fn erase_subject(&self, user: UserId, by: &Origin) -> Result<u64, StoreError> {
        write("erase a person", || subject::erase(self, user, by)).await
    }

    async fn revoke(&self, target: &RevocationTarget, event: Option<&Event>, now: Moment) -> Result<(), StoreError> {
        write("record a revocation", || revocation::add(self, target, event, now)).await
    }

    async fn revocations(&self, since: Moment, after: i64, limit: u32) -> Result<Vec<Numbered>, StoreError> {
        read("read revocations", || revocation::list(&self.pool, since, after, limit)).await
    }

    async fn clients(&self, known: Option<i64>) -> Result<Option<(i64, Vec<Client>)>, StoreError> {
        read("read clients", || client::all(&self.pool, known)).await
    }

    async fn client(&self, client_id: &str) -> Result<Option<Client>, StoreError> {
        read("read a client", || client::get(&self.pool, client_id)).await
    }

    async fn add_client(&self, client: &Client, clients_max: u32, by: &Origin) -> Result<Addition, StoreError> {
        write("add a client", || client::add(self, client, clients_max, by)).await
    }

    async fn replace_client(&self, before: &Client, client: &Client, event: &Event) -> Result<bool, StoreError> {
        write("change a client", || client::replace(self, before, client, event)).await
    }

    async fn retire_client(&self, client_id: &str, by: &Origin) -> Result<bool, StoreError> {
        write("remove a client", || client::retire(self, client_id, by)).await
    }

    async fn sweep_retired_clients(&self, sessions_max: u32, now: Moment) -> Result<bool, StoreError> {
        write("end the sessions of a client", || client::sweep(self, sessions_max, now)).await
    }

    async fn advance_keys(
        &self,
        spare: Vec<SigningKey>,
        times: &KeyTimes,
        now: Moment,
    ) -> Result<Vec<SigningKey>, StoreError> {
        write("advance the signing keys", || key::advance(self, &spare, times, now)).await
    }

    async fn change_keys(
        &self,
        change: &KeyChange,
        spare: Vec<SigningKey>,
        times: &KeyTimes,
        by: &Origin,
    ) -> Result<Result<Vec<SigningKey>, KeyRefusal>, StoreError> {
        write("change the signing keys", || key::change(self, change, &spare, times, by)).await
    }

    async fn keys(&self) -> Result<Vec<SigningKey>, StoreError> {
        read("read the signing keys", || key::all(&self.pool)).await
    }

    async fn reseal_keys(&self, resealed: &[Resealed], by: &Origin) -> Result<u64, StoreError> {
        write("reseal the signing keys", || key::reseal(self, resealed, by)).await
    }

    async fn audit(&self, events: &[Event]) -> Result<(), StoreError> {
        write("write audit events", || audit::add(self, events)).await
    }

    async fn audit_events(&self, filter: &Filter, limit: u32) -> Result<Vec<Event>, StoreError> {
        read("read audit events", || audit::list(&self.pool, filter, limit)).await
    }

    async fn purge(&self, what: &Purge, rows_max: u32, now: Moment) -> Result<bool, StoreError> {
        let sessions = write("purge sessions", || session::purge(self, &what.lifetimes, rows_max, now)).await?;
        let revocations =
            write("purge revocations", || revocation::purge(self, what.revocations_before, rows_max)).await?;
        let subjects = write("purge erased people", || subject::purge(self, what.erased_before, rows_max)).await?;
        let sign_ins = write("purge what was left of sign-ins", || {
            sign_in::purge(self, what.browsers, what.codes_before, rows_max, now)
        });
        let sign_ins = sign_ins.await?;
        let grants = write("purge what was used", || grants::purge(self, what.codes_before, rows_max, now)).await?;
        let audited = write("purge audit events", || audit::purge(self, what.audited_before, rows_max)).await?;
        Ok(sessions || revocations || subjects || sign_ins || grants || audited)
    }
}
