#![doc = include_str!("../README.md")]

mod drive;
mod error;
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
mod unread;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use flaghoist_runtime::page::PageKey;
use flaghoist_runtime::place::SecretError;
use flaghoist_runtime::sqlite::OpenError;
use flaghoist_runtime::{Context, Parts, Peer, Place};

pub use settings::{SETTINGS, Settings};

/// Whom the receiver calls.
#[derive(Clone, Debug)]
pub struct Peers {
    /// The internal port of `send`.
    pub send: Peer,
}

/// Why the receiver did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be used.
    #[error("the store of devices cannot be used")]
    Store(#[from] OpenError),
    /// There is no key for page tokens.
    #[error("there is no key for page tokens")]
    Secret(#[from] SecretError),
}

/// Starts the receiver: opens its store and begins the work that goes on beside calls, until the drain of `context` is over.
pub async fn start(settings: Settings, place: &Place, peers: Peers, context: &Context) -> Result<Parts, StartError> {
    let store = store::sqlite::SqliteStore::open(&place.data.join("receiver.db"), settings.devices_max).await?;
    let receiver = service::Receiver::start(
        settings,
        Arc::new(store),
        log::Log::new(peers.send),
        Arc::clone(&context.verifier),
        context.drain.clone(),
        PageKey::new(&place.secret()?.derive("receiver/pages")),
    );
    Ok(rpc::parts(receiver))
}
