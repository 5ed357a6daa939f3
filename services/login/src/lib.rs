#![doc = include_str!("../README.md")]

mod account;
mod accounts;
mod admin;
mod contact;
mod erasure;
mod error;
mod export;
mod factor;
mod handle;
mod hashing;
mod history;
mod http;
mod invitation;
mod issuer;
mod letters;
mod login_token;
mod notify;
mod others;
mod password;
mod recovery_code;
mod relying_party;
mod rpc;
mod security_key;
mod settings;
mod store;
mod throttle;
mod totp;

use std::sync::Arc;

use flaghoist_runtime::page::PageKey;
use flaghoist_runtime::place::SecretError;
use flaghoist_runtime::seal::{Sealer, SealerError};
use flaghoist_runtime::transfer::{Hear, Moved, TransferError};
use flaghoist_runtime::{Context, Parts, Peer, Place, StoreAddress, postgres, sqlite};
use sqlx::postgres::PgConnectOptions;

pub use admin::{GrantError, Granted, ResealError, Resealed, grant_admin, reseal_factors};
pub use hashing::Cost;
pub use notify::{NotifierError, SmtpSettings, Tls, Way};
pub use settings::{Registration, SETTINGS, Settings};

use crate::accounts::{Accounts, Makings};
use crate::issuer::Issuer;
use crate::notify::{FOLDER, Notifier, Smtp};
use crate::others::Others;
use crate::relying_party::RelyingParty;
use crate::rpc::Rpc;
use crate::security_key::Keys;
use crate::store::Store;
use crate::store::account_sessions::Limits;
use crate::store::postgres::PostgresStore;
use crate::store::sqlite::SqliteStore;

/// The file in the place's folder that holds the accounts.
const STORE_FILE: &str = "login.db";

/// For what the key is that seals the secrets of factors.
const SEALING: &str = "login factors";

/// For what pods derive the value by which they see that they have the same key file.
const KEY_CHECK: &str = "login/key check";

/// The parts that login calls.
#[derive(Clone, Debug)]
pub struct Peers {
    /// The issuer, as its services are offered to login.
    pub auth: Peer,
    /// The issuer, as it is offered to every client: the account pages are one.
    pub auth_public: Peer,
    /// Has the devices of people. It need not be there for login to work.
    pub receiver: Peer,
    /// Has the messages of people. It need not be there either.
    pub send: Peer,
}

/// Why login did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its file cannot be opened.
    #[error(transparent)]
    Sqlite(#[from] sqlite::OpenError),
    /// Its database cannot be used.
    #[error(transparent)]
    Postgres(#[from] postgres::OpenError),
    /// There is no secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// There is nothing to seal secrets with.
    #[error(transparent)]
    Seal(#[from] SealerError),
    /// Messages to people cannot leave.
    #[error(transparent)]
    Notifier(#[from] NotifierError),
    /// The database does not answer.
    #[error(transparent)]
    Store(#[from] store::StoreError),
    /// It was given another key file than the pods that it shares the database with, and would count attempts apart from them.
    #[error(
        "this key file is not the one that the other pods of login have: give all of them the same; if it was changed on purpose, \
         stop them and empty the table login.key_check"
    )]
    OtherKey,
    /// Its hash pool cannot be started.
    #[error("starting the password hashing: {0}")]
    Hashing(String),
}

/// Starts login: opens its store, starts the hash threads, and carries on with what an earlier run left unfinished.
pub async fn start(settings: Settings, place: &Place, peers: Peers, context: &Context) -> Result<Parts, StartError> {
    let not_ready = context.readiness.token("login");
    let secret = place.secret()?;
    let store: Arc<dyn Store> = match &settings.store {
        StoreAddress::Folder => Arc::new(SqliteStore::open(&place.data.join(STORE_FILE)).await?),
        StoreAddress::Postgres(address) => {
            let store = PostgresStore::open(address, settings.store_connections).await?;
            if !store.agrees(&secret.derive(KEY_CHECK)).await? {
                return Err(StartError::OtherKey);
            }
            postgres::watch(store.pool(), context.readiness.dependency("login: PostgreSQL"));
            Arc::new(store)
        }
    };
    let makings = Makings {
        attempts_key: secret.derive("login/attempts"),
        sealer: Sealer::of(place, &settings.seal_files, SEALING)?,
        host: host_of(&context.issuer).to_owned(),
        issuer_address: context.issuer.clone(),
        notifier: notifier(&settings, place)?,
        keys: Keys::of(&context.issuer),
        others: Others::new(peers.auth.clone(), peers.receiver, peers.send),
    };
    let limits = Limits { idle: settings.account_idle, absolute: settings.account_absolute };
    let accounts = Accounts::start(settings, store, Issuer::new(peers.auth), makings)
        .map_err(|error| StartError::Hashing(flaghoist_runtime::fault::chain(&error)))?;
    let accounts = Arc::new(accounts);
    tokio::spawn(accounts.teller().keep_telling(context.drain.clone()));
    for _ in 0..erasure::WORKERS {
        tokio::spawn(accounts.eraser().keep_erasing(context.drain.clone()));
    }
    tokio::spawn(accounts.post().keep_sending(context.drain.clone()));
    let form_key = Arc::new(http::FormKey::new(&secret.derive("login/page forms")));
    let pages = http::Pages {
        accounts: Arc::clone(&accounts),
        form_key,
        trusted_hops: context.trusted_hops,
        issuer: RelyingParty::new(peers.auth_public, &context.issuer),
        verifier: Arc::clone(&context.verifier),
        limits,
    };
    let http = Some(http::router(pages));
    let rpc = Rpc::new(accounts, PageKey::new(&secret.derive("login/pages")));
    drop(not_ready);
    Ok(Parts { public: rpc.public(), internal: rpc.internal(), http, services: rpc::PUBLIC.to_vec() })
}

/// How messages to people leave.
fn notifier(settings: &Settings, place: &Place) -> Result<Notifier, NotifierError> {
    Ok(match (settings.notifier, &settings.smtp.from) {
        (Way::Folder, _) => {
            let folder = place.data.join(FOLDER);
            tracing::warn!(folder = %folder.display(), "messages to people are files: whoever reads them can open accounts");
            Notifier::Folder(folder)
        }
        (Way::Smtp, Some(from)) => Notifier::Smtp(Arc::new(Smtp::new(&settings.smtp, from.clone())?)),
        (Way::Smtp, None) | (Way::Log, _) => Notifier::Log,
    })
}

/// The host, and port, of an address.
fn host_of(address: &str) -> &str {
    let after_scheme = address.split_once("://").map_or(address, |(_, rest)| rest);
    after_scheme.split('/').next().unwrap_or_default()
}

/// Why the store was not moved.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// There is no secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// It cannot be moved.
    #[error(transparent)]
    Transfer(#[from] TransferError),
}

/// Moves the store of the data folder into a database: all of it, once, as `flaghoist_runtime::transfer` says.
///
/// Nobody may use either meanwhile. Pods that are given another key file than the place's do not start on it.
pub async fn migrate_store(place: &Place, target: &PgConnectOptions, hear: Hear<'_>) -> Result<Moved, MigrateError> {
    let secret = place.secret()?;
    let (installation, key_check) = (secret.derive("store move"), secret.derive(KEY_CHECK));
    Ok(store::transfer::migrate(&place.data.join(STORE_FILE), target, installation, key_check, hear).await?)
}

#[cfg(test)]
mod tests;
