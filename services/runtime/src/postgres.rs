//! PostgreSQL as the store of a service that runs in several pods: where it is, how it is opened so that an answered write is on
//! disk, and which of its errors allow the same call again.

use std::str::FromStr as _;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
pub use sqlx::postgres::PgConnectOptions;
use sqlx::postgres::{PgConnection, PgPool, PgPoolOptions};
use sqlx::{Connection as _, Executor as _};

use crate::fault::{Fault, chain, log_chain};
use crate::ready::Dependency;
use crate::settings::{Reader, Setting};

mod statement;

pub use statement::{By, Statement};

/// How long a call waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long one statement may take, and a transaction that does nothing may hold its locks: a frozen pod then holds up nobody.
const STATEMENT_TIMEOUT: &str = "5000";

/// How long a connection may take to answer when it comes back to the pool: longer than a statement, which may still be running
/// because its caller went away.
const RETURN_WITHIN: Duration = Duration::from_secs(6);

/// How long a transaction may be silent, in milliseconds: what a frozen pod holds is free before the statements that wait for it
/// give up.
const SILENCE_TIMEOUT: &str = "4000";

/// How long a start waits between two attempts at a database that is not there yet.
const START_INTERVAL: Duration = Duration::from_secs(1);

/// How often a store is asked whether it is there.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// The oldest server that is taken.
const VERSION_MIN: i32 = 150_000;

/// Where a service keeps what is its own.
#[derive(Clone)]
pub enum StoreAddress {
    /// In a file of the data folder.
    Folder,
    /// In a database that pods share.
    Postgres(Box<PgConnectOptions>),
}

impl std::fmt::Debug for StoreAddress {
    /// Without the password.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Folder => out.write_str("Folder"),
            Self::Postgres(options) => write!(out, "Postgres({})", place(options)),
        }
    }
}

impl StoreAddress {
    /// Reads a setting that is `sqlite`, or `postgres://USER:PASSWORD@HOST:PORT/DATABASE`. What is wrong with it is noted without
    /// repeating it, for it may hold a password.
    pub fn read(reader: &mut Reader<'_>, setting: &Setting) -> Self {
        let text = reader.text(setting);
        match text.trim() {
            "sqlite" => Self::Folder,
            address if address.starts_with("postgres://") || address.starts_with("postgresql://") => {
                match PgConnectOptions::from_str(address) {
                    Ok(options) if options.get_database().is_some() => return Self::Postgres(Box::new(options)),
                    Ok(_) => reader.mistake(setting.name, "names no database: postgres://HOST/DATABASE"),
                    Err(_) => reader
                        .mistake(setting.name, "is not an address like postgres://USER:PASSWORD@HOST:5432/DATABASE"),
                }
                Self::Folder
            }
            _ => {
                reader.mistake(
                    setting.name,
                    "is neither `sqlite` nor an address like postgres://USER:PASSWORD@HOST:5432/DATABASE",
                );
                Self::Folder
            }
        }
    }
}

/// A database as an operator knows it: without user and password.
pub fn place(options: &PgConnectOptions) -> String {
    format!("{}:{}/{}", options.get_host(), options.get_port(), options.get_database().unwrap_or("postgres"))
}

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It refuses the connection.
    #[error("cannot use the PostgreSQL database {place}: is it there, and may this user connect and create a schema?")]
    Open {
        /// The database.
        place: String,
        /// What it says.
        source: sqlx::Error,
    },
    /// It does not keep what it has answered.
    #[error("the PostgreSQL server at {place} has {setting} = {value}: it would lose answered writes; set it to on")]
    Forgetful {
        /// The database.
        place: String,
        /// The server's setting.
        setting: &'static str,
        /// What it is.
        value: String,
    },
    /// It cannot hold every text.
    #[error("the PostgreSQL database {place} has the encoding {encoding}; make it anew with ENCODING 'UTF8'")]
    Encoding {
        /// The database.
        place: String,
        /// Its encoding.
        encoding: String,
    },
    /// It is too old.
    #[error("the PostgreSQL server at {place} has version {version}; 15 is the oldest that can be used")]
    Old {
        /// The database.
        place: String,
        /// Its version.
        version: String,
    },
    /// A move into it is not over.
    #[error(
        "a move of {service} into the PostgreSQL database {place} has begun and is not over: call `flaghoist admin migrate-store` \
         again, which carries it on"
    )]
    HalfMoved {
        /// The database.
        place: String,
        /// The service.
        service: &'static str,
    },
    /// The tables cannot be brought up to date.
    #[error("cannot bring the tables in the PostgreSQL database {place} up to date")]
    Migrate {
        /// The database.
        place: String,
        /// What went wrong.
        source: MigrateError,
    },
}

/// Opens the database for `service` (its tables are in the schema of that name) and brings its tables up to date, one pod after
/// another. Waits for a server that is not there yet.
///
/// A schema that is newer than this version is used as it is: each version of the schema serves the version before it too.
pub async fn open(
    address: &PgConnectOptions,
    service: &'static str,
    connections_max: u32,
    migrator: &Migrator,
) -> Result<PgPool, OpenError> {
    let options = options(address, service).application_name(&application_name(service));
    let mut connection = first_connection(&options).await?;
    prepare(&mut connection, &options, service, migrator).await?;
    refuse_half_moved(&mut connection, &options, service).await?;
    // An unclean end of this connection frees its lock all the same.
    let _closed = connection.close().await;
    let serving = options
        .options([("statement_timeout", STATEMENT_TIMEOUT), ("idle_in_transaction_session_timeout", SILENCE_TIMEOUT)]);
    Ok(PgPoolOptions::new()
        .max_connections(connections_max)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .after_release(|connection, _| Box::pin(answers(connection)))
        .connect_lazy_with(serving))
}

/// Whether a connection that comes back to the pool answers. The pool asks it too, but waits without a limit: where a network went
/// silent without a word, a connection whose caller had given up would hold its place until the system gives it up, a quarter of an
/// hour later. An error makes the pool drop it without a farewell.
///
/// What is left is the pool's own question, which follows this one: a network that goes silent in that one round trip still costs a
/// place until the system notices (<https://github.com/transact-rs/sqlx/issues/4349>, whose mending makes this function superfluous).
async fn answers(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    match tokio::time::timeout(RETURN_WITHIN, connection.ping()).await {
        Ok(answered) => answered.map(|()| true),
        Err(_late) => Err(silent()),
    }
}

/// The error of a server that is not heard of.
pub fn silent() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "the server is not heard of"))
}

/// Opens the database for work that may take long and is done while no pod is there, over one connection. Waits for nobody.
pub(crate) async fn open_alone(
    address: &PgConnectOptions,
    service: &'static str,
    migrator: &Migrator,
) -> Result<PgConnection, OpenError> {
    let options = options(address, service).application_name("flaghoist-admin");
    let mut connection = PgConnection::connect_with(&options)
        .await
        .map_err(|source| OpenError::Open { place: place(&options), source })?;
    prepare(&mut connection, &options, service, migrator).await?;
    Ok(connection)
}

/// What the connections of a service's pods are called in the list of the server.
pub(crate) fn application_name(service: &str) -> String {
    format!("flaghoist-{service}")
}

fn options(address: &PgConnectOptions, service: &str) -> PgConnectOptions {
    address.clone().options([
        ("search_path", service),
        ("synchronous_commit", "on"),
        ("client_min_messages", "warning"),
    ])
}

async fn prepare(
    connection: &mut PgConnection,
    options: &PgConnectOptions,
    service: &str,
    migrator: &Migrator,
) -> Result<(), OpenError> {
    durable(connection, options).await?;
    migrate(connection, service, migrator).await.map_err(|source| OpenError::Migrate { place: place(options), source })
}

/// A store that is being moved here (`transfer.rs`) is not whole yet, and what pods wrote would be in its way.
async fn refuse_half_moved(
    connection: &mut PgConnection,
    options: &PgConnectOptions,
    service: &'static str,
) -> Result<(), OpenError> {
    let failed = |source| OpenError::Open { place: place(options), source };
    let moved: bool = sqlx::query_scalar("SELECT to_regclass($1 || '.store_move') IS NOT NULL")
        .bind(service)
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    if !moved {
        return Ok(());
    }
    let half: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM store_move WHERE finished_at IS NULL)")
        .fetch_one(connection)
        .await
        .map_err(failed)?;
    if half { Err(OpenError::HalfMoved { place: place(options), service }) } else { Ok(()) }
}

async fn first_connection(options: &PgConnectOptions) -> Result<PgConnection, OpenError> {
    loop {
        match PgConnection::connect_with(options).await {
            Ok(connection) => return Ok(connection),
            Err(error) if transient(&error) => {
                tracing::warn!(store = %place(options), error = %chain(&error), "waiting for PostgreSQL");
                tokio::time::sleep(START_INTERVAL).await;
            }
            Err(source) => return Err(OpenError::Open { place: place(options), source }),
        }
    }
}

/// Refuses a server that would lose what it has answered, and one that is too old.
async fn durable(connection: &mut PgConnection, options: &PgConnectOptions) -> Result<(), OpenError> {
    let (number, version, fsync, synchronous_commit, encoding): (i32, String, String, String, String) = sqlx::query_as(
        "SELECT current_setting('server_version_num')::int, current_setting('server_version'), current_setting('fsync'), \
         current_setting('synchronous_commit'), current_setting('server_encoding')",
    )
    .fetch_one(connection)
    .await
    .map_err(|source| OpenError::Open { place: place(options), source })?;
    if number < VERSION_MIN {
        return Err(OpenError::Old { place: place(options), version });
    }
    if encoding != "UTF8" {
        return Err(OpenError::Encoding { place: place(options), encoding });
    }
    let forgetful = |setting, value| OpenError::Forgetful { place: place(options), setting, value };
    if fsync != "on" {
        return Err(forgetful("fsync", fsync));
    }
    if synchronous_commit != "on" {
        return Err(forgetful("synchronous_commit", synchronous_commit));
    }
    Ok(())
}

async fn migrate(connection: &mut PgConnection, service: &str, migrator: &Migrator) -> Result<(), MigrateError> {
    // One pod at a time; the lock is this session's and ends with it. The schema is made under it too.
    sqlx::query("SELECT pg_advisory_lock(hashtext('flaghoist schema ' || $1))")
        .bind(service)
        .execute(&mut *connection)
        .await?;
    let schema = format!("CREATE SCHEMA IF NOT EXISTS {service}");
    connection.execute(sqlx::AssertSqlSafe(schema)).await?;
    let mut migrator = Migrator { migrations: migrator.migrations.clone(), ..Migrator::DEFAULT };
    migrator.set_ignore_missing(true).set_locking(false);
    migrator.run_direct(None, connection, false).await
}

/// Asks the database every second whether it is there, for as long as the pool is open.
pub fn watch(pool: &PgPool, dependency: Dependency) {
    let pool = pool.clone();
    tokio::spawn(async move {
        while !pool.is_closed() {
            match tokio::time::timeout(ACQUIRE_TIMEOUT, sqlx::query("SELECT 1").execute(&pool)).await {
                Ok(Ok(_)) => dependency.up(),
                Ok(Err(error)) => dependency.down(&chain(&error)),
                Err(late) => dependency.down(&late),
            }
            tokio::time::sleep(WATCH_INTERVAL).await;
        }
    });
}

/// May the same call go well when it is made again: is the server away, restarting, or was the transaction in another's way?
pub fn transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::Io(_)
        | sqlx::Error::Protocol(_) => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            // Connections, rollbacks (serialisation, deadlocks), resources, operator intervention (shutdown, timeouts, starting
            // up), failures of its system, a lock that is not to be had, a server that only reads (a failover).
            ["08", "40", "53", "57", "58"].iter().any(|class| code.starts_with(class))
                || matches!(&*code, "55P03" | "25006" | "25P03")
        }),
        _ => false,
    }
}

/// Was the transaction in the way of another, so that it was undone and may be made again at once?
pub fn conflicted(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.code().is_some_and(|code| code.starts_with("40")))
}

/// What an error of the store is on the wire; it is logged here, `doing` says what was tried.
pub fn fault(doing: &'static str, error: &sqlx::Error) -> Fault {
    if transient(error) {
        tracing::warn!(doing, error = %chain(error), "store not available");
        Fault::unavailable("the store is not available")
    } else {
        log_chain(doing, error);
        Fault::internal()
    }
}
