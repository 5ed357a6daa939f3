#![doc = include_str!("../README.md")]

use std::path::PathBuf;
use std::sync::Arc;

use flaghoist_proto::send::v1::conversation_service_server::{
    ConversationServiceServer, SERVICE_NAME as CONVERSATIONS,
};
use flaghoist_proto::send::v1::log_service_server::LogServiceServer;
use flaghoist_proto::send::v1::message_service_server::{MessageServiceServer, SERVICE_NAME as MESSAGES};
use flaghoist_proto::send::v1::subject_service_server::SubjectServiceServer;
use flaghoist_runtime::page::PageKey;
use flaghoist_runtime::place::SecretError;
use flaghoist_runtime::transfer::{Hear, Moved};
use flaghoist_runtime::{Context, Parts, Peer, Place, StoreAddress};
use sqlx::postgres::PgConnectOptions;
use tonic::service::Routes;

mod conversation;
mod directory;
mod dispatch;
mod erasure;
mod error;
mod event;
mod plan;
mod rate;
mod render;
mod rpc;
mod settings;
mod store;
mod writer;

pub use settings::{SETTINGS, Settings};
pub use store::postgres::StartError as DatabaseError;
pub use store::sqlite::StartError as StoreError;
pub use store::transfer::MigrateError;

use store::Store;
use store::postgres::PostgresStore;
use store::sqlite::SqliteStore;

/// The services that send asks.
#[derive(Clone, Debug)]
pub struct Peers {
    /// Knows who exists.
    pub login: Peer,
    /// Takes events toward live streams.
    pub receiver: Peer,
}

/// Why send does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The file of the store does not open.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The database of the store cannot be used.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The secret of the place cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

/// Starts send on the store that the settings name. Waits for a database that is not there yet; while one is away later the
/// service is not ready.
pub async fn start(settings: Settings, place: &Place, peers: Peers, context: &Context) -> Result<Parts, StartError> {
    let secret = place.secret()?;
    let store = open(&settings, place, context).await?;
    let dispatch = dispatch::Dispatch::start(peers.receiver, store.clone());
    let rpc = Arc::new(rpc::Rpc {
        writer: writer::Writer::start(&store, &dispatch, &settings),
        directory: directory::Directory::new(peers.login),
        rate: rate::Rate::start(settings.rate_per_second, settings.rate_burst),
        digests: event::DigestKey::new(&secret.derive("send request digests")),
        pages: PageKey::new(&secret.derive("send page tokens")),
        store,
        settings,
    });
    let public = Routes::new(ConversationServiceServer::from_arc(rpc.clone()))
        .add_service(MessageServiceServer::from_arc(rpc.clone()));
    let internal =
        Routes::new(LogServiceServer::from_arc(rpc.clone())).add_service(SubjectServiceServer::from_arc(rpc));
    Ok(Parts { public, internal, http: None, services: vec![CONVERSATIONS, MESSAGES] })
}

async fn open(settings: &Settings, place: &Place, context: &Context) -> Result<Arc<dyn Store>, StartError> {
    let limits =
        plan::Limits { group_members_max: settings.group_members_max, conversations_max: settings.conversations_max };
    match &settings.store {
        StoreAddress::Folder => Ok(Arc::new(SqliteStore::open(&file(place), limits).await?)),
        StoreAddress::Postgres(options) => {
            let store = PostgresStore::open(options, settings.store_connections, limits).await?;
            store.watch(context.readiness.dependency("send: PostgreSQL"));
            Ok(Arc::new(store))
        }
    }
}

/// Gives a store a new epoch, after a backup was put in its place: devices then start from what it holds. Answers the epoch. No
/// process may have a file open; pods that have a database open notice.
pub async fn renew_epoch(store: &StoreAddress, place: &Place) -> Result<u64, StartError> {
    match store {
        StoreAddress::Folder => Ok(SqliteStore::renew_epoch(&file(place)).await?),
        StoreAddress::Postgres(options) => Ok(PostgresStore::renew_epoch(options).await?),
    }
}

/// Moves the store of the data folder into a database: all of it, once, as `flaghoist_runtime::transfer` says.
///
/// Nobody may use either meanwhile.
pub async fn migrate_store(place: &Place, target: &PgConnectOptions, hear: Hear<'_>) -> Result<Moved, MigrateError> {
    let installation = place.secret()?.derive("store move");
    store::transfer::migrate(&file(place), target, installation, hear).await
}

fn file(place: &Place) -> PathBuf {
    place.data.join("send.db")
}

#[cfg(test)]
mod tests;
