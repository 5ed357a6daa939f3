//! Listeners: gRPC and gRPC-Web on one port, plain HTTP on others. Connections cost little while they are idle, are refused
//! clearly when there are too many, and end politely when the process does.

mod accept;
mod address;
mod body;
mod call;
mod connection;
mod figures;
mod health;
mod process;
mod web;

use std::sync::Arc;

use tokio::net::TcpListener;
use tonic::service::Routes;
use tower_layer::Layer as _;

use crate::access::AccessLayer;
use crate::drain::Drain;
use crate::ready::Readiness;
use crate::token::Verifier;

pub use address::{ClientAddress, client_address, forwarded_address};
pub use process::prepare_process;

/// How many connections an HTTP listener takes beyond the file limit's share.
const SPARE_CONNECTIONS: usize = 8;

/// How a gRPC listener behaves.
#[derive(Clone, Debug)]
pub struct GrpcOptions {
    /// What health answers follow.
    pub readiness: Arc<Readiness>,
    /// The full names of the proto services that are offered.
    pub services: Vec<&'static str>,
    /// How many proxies in front are trusted to add to `X-Forwarded-For`.
    pub trusted_hops: u8,
    /// How many connections are kept at most; 0 leaves it to the file limit of the process.
    pub connections_max: usize,
}

/// Serves gRPC and gRPC-Web, with health and reflection, until the drain is over. Ends once the drain has started and the last
/// connection is closed, or the grace period is over.
pub async fn serve_grpc(
    listener: TcpListener,
    routes: axum::Router,
    verifier: Arc<Verifier>,
    drain: Drain,
    options: GrpcOptions,
) {
    let (health, statuses) = health::service(&options.services).await;
    let routes = Routes::from(routes.reset_fallback().fallback(call::unimplemented)).add_service(health);
    let routes = health::with_reflection(routes, &options.services).prepare();
    let calls = call::Calls::new(AccessLayer::public(verifier).layer(routes));
    let front = web::Front::new(calls, options.trusted_hops);
    let follow = tokio::spawn(health::follow(statuses, options.services, options.readiness, drain.clone()));
    let limits = accept::Limits { max: options.connections_max, spare: 0 };
    accept::run("grpc", listener, drain, limits, move |stream, peer, drain, place| {
        connection::serve(stream, front.of(peer), drain, place)
    })
    .await;
    follow.abort();
}

/// Serves plain HTTP until the drain is over; requests carry the [`ClientAddress`] of the socket's peer.
pub async fn serve_http(listener: TcpListener, router: axum::Router, drain: Drain) {
    let router = router.with_state(());
    let limits = accept::Limits { max: 0, spare: SPARE_CONNECTIONS };
    accept::run("http", listener, drain, limits, move |stream, peer, drain, place| {
        connection::serve(stream, web::Pages::new(router.clone(), peer), drain, place)
    })
    .await;
}

/// The routes of several parts as one.
pub fn merge(parts: impl IntoIterator<Item = Routes>) -> axum::Router {
    parts.into_iter().fold(axum::Router::new(), |all, part| all.merge(part.into_axum_router().reset_fallback()))
}

#[cfg(test)]
mod tests;
