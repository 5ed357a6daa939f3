#![doc = include_str!("../README.md")]

use std::path::PathBuf;
use std::sync::Arc;

use flaghoist_proto::auth::v1::audit_service_server::{AuditServiceServer, SERVICE_NAME as AUDIT_SERVICE};
use flaghoist_proto::auth::v1::client_service_server::{ClientServiceServer, SERVICE_NAME as CLIENT_SERVICE};
use flaghoist_proto::auth::v1::consent_service_server::{ConsentServiceServer, SERVICE_NAME as CONSENT_SERVICE};
use flaghoist_proto::auth::v1::key_service_server::{KeyServiceServer, SERVICE_NAME as KEY_SERVICE};
use flaghoist_proto::auth::v1::login_request_service_server::LoginRequestServiceServer;
use flaghoist_proto::auth::v1::session_service_server::{SERVICE_NAME as SESSION_SERVICE, SessionServiceServer};
use flaghoist_proto::auth::v1::subject_service_server::SubjectServiceServer;
use flaghoist_proto::auth::v1::token_service_server::{SERVICE_NAME as TOKEN_SERVICE, TokenServiceServer};
use flaghoist_proto::auth::v1::verification_service_server::VerificationServiceServer;
use flaghoist_runtime::page::PageKey;
use flaghoist_runtime::place::SecretError;
use flaghoist_runtime::seal::SealerError;
use flaghoist_runtime::transfer::{Hear, Moved, TransferError};
use flaghoist_runtime::{Context, Parts, Place, StoreAddress, postgres, sqlite};
use sqlx::postgres::PgConnectOptions;
use tonic::service::Routes;

use crate::audit::{Actor, Origin};
use crate::client::{ACCOUNT_PAGES, Client};
use crate::clients::Clients;
use crate::error::StoreError;
use crate::feed::Feed;
use crate::http::Endpoints;
use crate::issuer::{Issuer, Makings, SWEEP_MAX};
use crate::key::{SealError, Sealer};
use crate::keyring::{Keyring, KeyringError};
use crate::moment::{Clock, Moment};
use crate::nonce::Nonces;
use crate::refresh_token::RefreshKeys;
use crate::store::{Addition, PostgresStore, Resealed, SqliteStore, Store};

mod access_token;
mod algorithm;
mod audit;
mod authorization;
mod client;
mod clients;
mod code;
mod error;
mod feed;
mod flow;
mod http;
mod id_token;
mod issuer;
mod key;
mod keyring;
mod moment;
mod nonce;
mod outgoing;
mod profile;
mod public_key;
mod redirect;
mod refresh_token;
mod rpc;
mod scope;
mod session;
mod settings;
mod store;
mod upkeep;

pub use settings::{SETTINGS, Settings};

/// The file in the place's folder that holds the tables of the issuer.
const STORE_FILE: &str = "auth.db";

/// The services that the issuer calls: none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Peers {}

/// Why the issuer cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The key file cannot be used.
    #[error("cannot start auth")]
    Secret(#[from] SecretError),
    /// The file of the store cannot be opened.
    #[error("cannot start auth")]
    Open(#[from] sqlite::OpenError),
    /// The database of the store cannot be used.
    #[error("cannot start auth")]
    Database(#[from] postgres::OpenError),
    /// An admin registered a client of the id that this version's own needs.
    #[error(
        "cannot start auth: an application is registered as the client `{0}`, an id that this version needs for its own pages. It was left \
         as it is. Start the version before again, register that application under another id, remove this client \
         (`flaghoist admin client delete {0}`), and start this version"
    )]
    ClientTaken(&'static str),
    /// The store cannot be read or written, or the signing keys cannot be made or decrypted.
    #[error("cannot start auth")]
    Keys(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<StoreError> for StartError {
    fn from(error: StoreError) -> Self {
        Self::Keys(error.into())
    }
}

impl From<SealError> for StartError {
    fn from(error: SealError) -> Self {
        Self::Keys(error.into())
    }
}

impl From<KeyringError> for StartError {
    fn from(error: KeyringError) -> Self {
        Self::Keys(error.into())
    }
}

/// Starts the issuer: opens its store, makes the first keys if there are none, and starts its background work.
///
/// The keys and the revocations are in the verifier of this process when it answers. Waits for a database that is not there yet; while one is
/// away later the service is not ready.
pub async fn start(settings: Settings, place: &Place, peers: Peers, context: &Context) -> Result<Parts, StartError> {
    let Peers {} = peers;
    let ready = context.readiness.token("auth");
    let clock = Clock::default();
    let issuer = open(settings, place, context, clock).await?;
    upkeep::start(&issuer, &context.drain);
    let pages = Arc::new(PageKey::new(&place.secret()?.derive("auth page tokens")));
    drop(ready);
    Ok(parts(&issuer, &pages, context))
}

/// Why the store was not moved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MigrateError {
    /// The key file cannot be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The key file does not open the signing keys.
    #[error("the key file does not belong to the store of auth")]
    Keys(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It cannot be moved.
    #[error(transparent)]
    Transfer(#[from] TransferError),
}

impl From<SealError> for MigrateError {
    fn from(error: SealError) -> Self {
        Self::Keys(error.into())
    }
}

/// Moves the store of the data folder into a database: all of it, once, as `flaghoist_runtime::transfer` says.
///
/// Nobody may use either meanwhile. Pods need the place's key file, in which the signing keys are sealed.
///
/// `seal_files` are those of the setting of that name.
pub async fn migrate_store(
    place: &Place,
    seal_files: &[PathBuf],
    target: &PgConnectOptions,
    hear: Hear<'_>,
) -> Result<Moved, MigrateError> {
    let secret = place.secret()?;
    let sealer = sealer(place, seal_files)?;
    let path = place.data.join(STORE_FILE);
    store::transfer::migrate(&path, target, secret.derive("store move"), &sealer, hear).await
}

/// What became of the private keys in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reseal {
    /// The id of the key that they are sealed with now.
    pub sealed_with: String,
    /// How many were sealed anew.
    pub resealed: u64,
    /// How many there are.
    pub keys: usize,
}

/// Seals the private keys in a store with the newest of the sealing keys, so that the older ones are not needed any more. Servers may
/// be running on it, if they know the newest one too.
pub async fn reseal_keys(store: &StoreAddress, place: &Place, seal_files: &[PathBuf]) -> Result<Reseal, StartError> {
    let sealer = sealer(place, seal_files)?;
    let store: Box<dyn Store> = match store {
        StoreAddress::Folder => Box::new(SqliteStore::open(&place.data.join(STORE_FILE)).await?),
        StoreAddress::Postgres(address) => Box::new(PostgresStore::open(address, 1).await?),
    };
    let keys = store.keys().await?;
    let mut resealed = Vec::new();
    for key in &keys {
        if let Some(sealed) = sealer.reseal(key)? {
            resealed.push(Resealed { kid: key.kid.clone(), before: key.sealed.with.clone(), sealed });
        }
    }
    let by = Origin::new(Actor::Operator, Clock::default().now());
    let resealed = store.reseal_keys(&resealed, &by).await?;
    Ok(Reseal { sealed_with: sealer.id().to_owned(), resealed, keys: keys.len() })
}

/// What seals private keys: the newest of the sealing keys, the older ones for what they sealed, and the key file as the oldest.
fn sealer(place: &Place, seal_files: &[PathBuf]) -> Result<Sealer, SealerError> {
    let sealer = flaghoist_runtime::seal::Sealer::of(place, seal_files, "auth signing keys");
    sealer.map(Sealer::from)
}

impl From<SealerError> for StartError {
    fn from(error: SealerError) -> Self {
        match error {
            SealerError::Secret(error) => error.into(),
            SealerError::Seal(error) => SealError::from(error).into(),
        }
    }
}

impl From<SealerError> for MigrateError {
    fn from(error: SealerError) -> Self {
        match error {
            SealerError::Secret(error) => error.into(),
            SealerError::Seal(error) => SealError::from(error).into(),
        }
    }
}

/// Opens the store that the settings name.
async fn open_store(settings: &Settings, place: &Place, context: &Context) -> Result<Arc<dyn Store>, StartError> {
    match &settings.store {
        StoreAddress::Folder => Ok(Arc::new(SqliteStore::open(&place.data.join(STORE_FILE)).await?)),
        StoreAddress::Postgres(address) => {
            let store = PostgresStore::open(address, settings.store_connections).await?;
            store.watch(context.readiness.dependency("auth: PostgreSQL"));
            Ok(Arc::new(store))
        }
    }
}

/// Makes an issuer on the store of a place.
async fn open(settings: Settings, place: &Place, context: &Context, clock: Clock) -> Result<Arc<Issuer>, StartError> {
    let secret = place.secret()?;
    let store = open_store(&settings, place, context).await?;
    let now = clock.now();
    store.add_client(&Client::built_in(now), u32::MAX, &Origin::system(now)).await?;
    add_account_pages(&*store, &context.issuer, now).await?;
    let clients = Clients::new(store.clone(), clock.clone(), context.issuer.clone());
    clients.refresh().await?;
    let sealer = sealer(place, &settings.seal_files)?;
    let verifier = context.verifier.clone();
    let keyring = Keyring::new(store.clone(), sealer, settings.key_times(), clock.clone(), verifier.clone());
    keyring.begin().await?;
    // The verifier of this process learns of every revocation that is kept; watchers ask for what they missed.
    let feed = Arc::new(Feed::new(store.clone(), verifier.clone(), 0));
    feed.publish().await?;
    let refresh_keys =
        RefreshKeys::new(&secret.derive("auth refresh token tags"), &secret.derive("auth refresh token successors"));
    let nonces = Nonces::new(&secret.derive("auth proof nonces"));
    let url = context.issuer.clone();
    Ok(Arc::new(Issuer::new(Makings {
        url,
        settings,
        store,
        clients,
        keyring,
        feed,
        clock,
        refresh_keys,
        nonces,
        verifier,
    })))
}

/// Registers the client of the account pages, which came with 0.2.0: before, any application may have been called so. Its people and its
/// tokens are not handed over to the pages, nor are what the pages may do to it.
async fn add_account_pages(store: &dyn Store, issuer: &str, now: Moment) -> Result<(), StartError> {
    let pages = Client::account_pages(issuer, now);
    while store.add_client(&pages, u32::MAX, &Origin::system(now)).await? == Addition::Exists {
        match store.client(ACCOUNT_PAGES).await? {
            Some(stored) if stored.is_account_pages() => break,
            Some(_) => return Err(StartError::ClientTaken(ACCOUNT_PAGES)),
            // It is being removed.
            None => _ = store.sweep_retired_clients(SWEEP_MAX, now).await?,
        }
    }
    Ok(())
}

fn parts(issuer: &Arc<Issuer>, pages: &Arc<PageKey>, context: &Context) -> Parts {
    let trusted_hops = context.trusted_hops;
    let public = Routes::new(TokenServiceServer::new(rpc::TokenRpc { issuer: issuer.clone(), trusted_hops }))
        .add_service(SessionServiceServer::new(rpc::Sessions {
            issuer: issuer.clone(),
            pages: pages.clone(),
            trusted_hops,
        }))
        .add_service(ClientServiceServer::new(rpc::Clients {
            issuer: issuer.clone(),
            pages: pages.clone(),
            trusted_hops,
        }))
        .add_service(ConsentServiceServer::new(rpc::Consents { issuer: issuer.clone(), pages: pages.clone() }))
        .add_service(KeyServiceServer::new(rpc::Keys { issuer: issuer.clone(), trusted_hops }))
        .add_service(AuditServiceServer::new(rpc::Audit { issuer: issuer.clone(), pages: pages.clone() }));
    let verification = rpc::Verification { issuer: issuer.clone(), drain: context.drain.clone() };
    let internal = Routes::new(SubjectServiceServer::new(rpc::Subjects { issuer: issuer.clone() }))
        .add_service(LoginRequestServiceServer::new(rpc::LoginRequests { issuer: issuer.clone() }))
        .add_service(VerificationServiceServer::new(verification));
    let http = http::router(Endpoints { issuer: issuer.clone(), trusted_hops });
    let services = vec![TOKEN_SERVICE, SESSION_SERVICE, CLIENT_SERVICE, CONSENT_SERVICE, KEY_SERVICE, AUDIT_SERVICE];
    Parts { public, internal, http: Some(http), services }
}

#[cfg(test)]
mod tests;
