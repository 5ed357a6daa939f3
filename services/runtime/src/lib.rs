#![doc = include_str!("../README.md")]

pub mod access;
pub mod batch;
mod deadline;
pub mod drain;
pub mod fault;
pub mod html;
pub mod local;
pub mod names;
pub mod page;
pub mod place;
pub mod postgres;
pub mod ready;
pub mod seal;
pub mod server;
pub mod settings;
pub mod sqlite;
pub mod telemetry;
pub mod time;
pub mod token;
pub mod transfer;

use std::sync::Arc;

pub use access::AccessLayer;
pub use batch::Batcher;
pub use drain::{Drain, DrainTrigger};
pub use fault::{Fault, Reason};
pub use local::Peer;
pub use place::{Place, Secret};
pub use postgres::StoreAddress;
pub use ready::{Dependency, Readiness, ReadyToken};
pub use token::{Caller, Verifier};

/// What every service is given at its start.
#[derive(Clone, Debug)]
pub struct Context {
    /// Verifies access tokens.
    pub verifier: Arc<Verifier>,
    /// Says when to stop.
    pub drain: Drain,
    /// Takes note of what is not ready yet.
    pub readiness: Arc<Readiness>,
    /// The issuer of the access tokens, an address.
    pub issuer: String,
    /// How many proxies in front are trusted to add to `X-Forwarded-For`.
    pub trusted_hops: u8,
}

/// What a started service offers.
#[derive(Debug)]
pub struct Parts {
    /// Its public proto services.
    pub public: tonic::service::Routes,
    /// Its internal proto services.
    pub internal: tonic::service::Routes,
    /// Its HTTP pages and endpoints.
    pub http: Option<axum::Router>,
    /// The full names of its public proto services, for health.
    pub services: Vec<&'static str>,
}
