#![doc = include_str!("../README.md")]

mod bus;
mod drive;
mod error;
mod hearing;
mod hub;
mod live;
mod log;
mod opening;
mod receipts;
mod rpc;
mod service;
mod settings;
mod store;
mod stream;
mod sweep;
mod telling;
mod unread;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use flaghoist_runtime::page::PageKey;
use flaghoist_runtime::place::SecretError;
use flaghoist_runtime::transfer::{Hear, Moved, TransferError};
use flaghoist_runtime::{Context, Parts, Peer, Place, StoreAddress, postgres, sqlite};
use sqlx::postgres::PgConnectOptions;

use bus::Bus;
use store::Store;

pub use bus::BusAddress;
pub use settings::{SETTINGS, Settings};

/// The file in the place's folder that holds the devices.
const STORE_FILE: &str = "receiver.db";

/// Whom the receiver calls.
#[derive(Clone, Debug)]
pub struct Peers {
    /// The internal port of `send`.
    pub send: Peer,
}

/// Why the receiver did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The file of the store cannot be used.
    #[error("the store of devices cannot be used")]
    Sqlite(#[from] sqlite::OpenError),
    /// The database of the store cannot be used.
    #[error("the store of devices cannot be used")]
    Postgres(#[from] postgres::OpenError),
    /// There is no key for page tokens.
    #[error("there is no key for page tokens")]
    Secret(#[from] SecretError),
}

/// Starts the receiver: opens its store and begins the work that goes on beside calls, until the drain of `context` is over.
pub async fn start(settings: Settings, place: &Place, peers: Peers, context: &Context) -> Result<Parts, StartError> {
    Ok(rpc::parts(assemble(settings, place, peers, context).await?))
}

/// Why the store was not moved.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The secret of the place cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// It cannot be moved.
    #[error(transparent)]
    Transfer(#[from] TransferError),
}

/// Moves the store of the data folder into a database: all of it, once, as `flaghoist_runtime::transfer` says.
///
/// Nobody may use either meanwhile.
pub async fn migrate_store(place: &Place, target: &PgConnectOptions, hear: Hear<'_>) -> Result<Moved, MigrateError> {
    let installation = place.secret()?.derive("store move");
    Ok(store::transfer::migrate(&place.data.join(STORE_FILE), target, installation, hear).await?)
}

/// Puts the receiver together and has it work.
async fn assemble(
    settings: Settings,
    place: &Place,
    peers: Peers,
    context: &Context,
) -> Result<Arc<service::Receiver>, StartError> {
    let store: Arc<dyn Store> = match &settings.store {
        StoreAddress::Folder => {
            Arc::new(store::sqlite::SqliteStore::open(&place.data.join(STORE_FILE), settings.devices_max).await?)
        }
        StoreAddress::Postgres(address) => {
            let (connections_max, devices_max) = (settings.store_connections, settings.devices_max);
            let store = store::postgres::PostgresStore::open(address, connections_max, devices_max).await?;
            store.watch(context.readiness.dependency("receiver: PostgreSQL"));
            Arc::new(store)
        }
    };
    // The bus is a hint: without it the receiver is ready all the same.
    let bus: Arc<dyn Bus> = match &settings.bus {
        BusAddress::Local => {
            if store.shared() {
                tracing::warn!(
                    "no bus: other pods on this store hear of events late; set FLAGHOIST_RECEIVER_BUS if there are any"
                );
            }
            Arc::new(bus::LocalBus::new(!store.shared()))
        }
        BusAddress::Nats(servers) => Arc::new(bus::NatsBus::new(servers.clone())),
    };
    Ok(service::Receiver::start(
        settings,
        service::Parts { store, bus, log: log::Log::new(peers.send) },
        Arc::clone(&context.verifier),
        context.drain.clone(),
        PageKey::new(&place.secret()?.derive("receiver/pages")),
    ))
}
