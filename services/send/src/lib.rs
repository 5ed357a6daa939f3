#![doc = include_str!("../README.md")]

use std::path::PathBuf;
use std::sync::Arc;

use flaghoist_proto::send::v1::conversation_service_server::{
    ConversationServiceServer, SERVICE_NAME as CONVERSATIONS,
};
use flaghoist_proto::send::v1::log_service_server::LogServiceServer;
use flaghoist_proto::send::v1::message_service_server::{MessageServiceServer, SERVICE_NAME as MESSAGES};
use flaghoist_runtime::page::PageKey;
use flaghoist_runtime::place::SecretError;
use flaghoist_runtime::{Context, Parts, Peer, Place};
use tonic::service::Routes;

mod conversation;
mod directory;
mod dispatch;
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
pub use store::sqlite::StartError as StoreError;

use store::Store;
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
    /// The store does not open.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The secret of the place cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

/// Starts send on the store in `place`.
pub async fn start(settings: Settings, place: &Place, peers: Peers, _context: &Context) -> Result<Parts, StartError> {
    let secret = place.secret()?;
    let limits =
        plan::Limits { group_members_max: settings.group_members_max, conversations_max: settings.conversations_max };
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&file(place), limits).await?);
    let dispatch = dispatch::Dispatch::start(peers.receiver, store.epoch());
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
    let internal = Routes::new(LogServiceServer::from_arc(rpc));
    Ok(Parts { public, internal, http: None, services: vec![CONVERSATIONS, MESSAGES] })
}

/// Gives the store in `place` a new epoch, after a backup was put in its place: devices then start from what it holds. Answers
/// the epoch. No process may have the store open.
pub async fn renew_epoch(place: &Place) -> Result<u64, StartError> {
    Ok(SqliteStore::renew_epoch(&file(place)).await?)
}

fn file(place: &Place) -> PathBuf {
    place.data.join("send.db")
}

#[cfg(test)]
mod tests;
