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

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tonic::service::Routes;
use tower_layer::Layer as _;

use crate::access::AccessLayer;
use crate::drain::Drain;
use crate::ready::{Readiness, ReadyToken};

pub use address::{ClientAddress, client_address, forwarded_address};
pub use process::prepare_process;

/// How many connections an HTTP listener takes beyond the file limit's share.
const SPARE_HTTP: usize = 8;

/// How many connections an internal listener takes beyond the file limit's share: clients must not keep the services apart.
const SPARE_INTERNAL: usize = 64;

/// How long a client may say nothing at all, not even that it is there, before its connection is closed.
pub const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Whom a gRPC listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Everyone: programs and browsers.
    Public,
    /// The other services.
    Internal,
}

/// How a gRPC listener behaves.
#[derive(Clone, Debug)]
pub struct GrpcOptions {
    /// Whom it is for.
    pub audience: Audience,
    /// What health answers follow.
    pub readiness: Arc<Readiness>,
    /// The full names of the proto services that are offered.
    pub services: Vec<&'static str>,
    /// How many proxies in front are trusted to add to `X-Forwarded-For`.
    pub trusted_hops: u8,
    /// How many connections are kept at most; 0 leaves it to the file limit of the process.
    pub connections_max: usize,
    /// How long a client may say nothing; [`SILENCE_MAX`] but in tests.
    pub silence_max: Duration,
}

/// Serves gRPC, with health and reflection, until the drain is over; browsers' gRPC-Web too where everyone may call.
///
/// Ends once the drain has started and the last connection is closed, or the grace period is over.
/// Health is answered at once, everything else when `routes` are there; until then it is UNAVAILABLE, and the process not ready.
pub fn serve_grpc(
    listener: TcpListener,
    routes: impl Future<Output = axum::Router> + Send + 'static,
    access: AccessLayer,
    drain: Drain,
    options: GrpcOptions,
) -> impl Future<Output = ()> + Send {
    let starting = options.readiness.token(match options.audience {
        Audience::Public => "public port",
        Audience::Internal => "internal port",
    });
    serve_once_started(listener, routes, starting, access, drain, options)
}

async fn serve_once_started(
    listener: TcpListener,
    routes: impl Future<Output = axum::Router> + Send + 'static,
    starting: ReadyToken,
    access: AccessLayer,
    drain: Drain,
    options: GrpcOptions,
) {
    let GrpcOptions { audience, readiness, services, trusted_hops, connections_max, silence_max } = options;
    let (name, spare) = match audience {
        Audience::Public => ("grpc", 0),
        Audience::Internal => ("internal", SPARE_INTERNAL),
    };
    let (health, statuses) = health::service(&services).await;
    let offer = {
        let (health, services) = (health.clone(), services.clone());
        move |routes: axum::Router| {
            let routes = health::with_reflection(Routes::from(routes).add_service(health.clone()), &services);
            access.layer(routes.prepare())
        }
    };
    let calls = call::Calls::new(offer(axum::Router::new().fallback(call::starting)));
    let front = web::Front::new(calls.clone(), audience == Audience::Public, trusted_hops);
    let start = tokio::spawn(async move {
        let routes = routes.await.reset_fallback().fallback(call::unimplemented);
        calls.start(offer(routes));
        drop(starting);
    });
    let follow = tokio::spawn(health::follow(statuses, services, readiness, drain.clone()));
    let limits = accept::Limits { max: connections_max, spare, silence_max };
    accept::run(name, listener, drain, limits, move |stream, peer, drain, place| {
        connection::serve(stream, front.of(peer), silence_max, drain, place)
    })
    .await;
    start.abort();
    follow.abort();
}

/// Serves plain HTTP until the drain is over; requests carry the [`ClientAddress`] of the socket's peer.
pub async fn serve_http(listener: TcpListener, router: axum::Router, drain: Drain) {
    let router = router.with_state(());
    let limits = accept::Limits { max: 0, spare: SPARE_HTTP, silence_max: SILENCE_MAX };
    accept::run("http", listener, drain, limits, move |stream, peer, drain, place| {
        connection::serve(stream, web::Pages::new(router.clone(), peer), SILENCE_MAX, drain, place)
    })
    .await;
}

/// The routes of several parts as one.
pub fn merge(parts: impl IntoIterator<Item = Routes>) -> axum::Router {
    parts.into_iter().fold(axum::Router::new(), |all, part| all.merge(part.into_axum_router().reset_fallback()))
}

#[cfg(test)]
mod tests;
