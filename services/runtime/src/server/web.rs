//! What comes in by HTTP, and the way each request takes: gRPC straight to the calls, gRPC-Web of browsers through its translation,
//! pages to their router.

use std::convert::Infallible;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Map};
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::service::Service;
use tonic::body::Body;
use tonic_web::{GrpcWebLayer, GrpcWebService};
use tower_http::cors::{AllowHeaders, Any, Cors, CorsLayer};
use tower_layer::Layer as _;
use tower_service::Service as _;

use super::address::{ClientAddress, forwarded_address};
use super::call::Calls;

/// How long a browser may rely on the answer to a preflight.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_secs(7200);

/// What the text of an answer to anything but gRPC says.
const NOT_GRPC: &str = "this port speaks gRPC and gRPC-Web\n";

/// What stands before the calls of a gRPC listener.
#[derive(Clone)]
pub(super) struct Front {
    calls: Calls,
    browsers: bool,
    trusted_hops: u8,
    peer: IpAddr,
}

impl Front {
    /// The front of `calls`, which `browsers` may make or not.
    pub(super) fn new(calls: Calls, browsers: bool, trusted_hops: u8) -> Self {
        Self { calls, browsers, trusted_hops, peer: IpAddr::from([0, 0, 0, 0]) }
    }

    /// The front for one connection.
    pub(super) fn of(&self, peer: IpAddr) -> Self {
        Self { peer, ..self.clone() }
    }

    /// The way of browsers: CORS, then gRPC-Web to gRPC. A token is sent by the page itself, never by the browser on its own, so
    /// any page may call.
    fn browsers(&self) -> Cors<GrpcWebService<Calls>> {
        let exposed =
            ["grpc-status", "grpc-message", "grpc-status-details-bin", "dpop-nonce"].map(HeaderName::from_static);
        CorsLayer::new()
            .allow_origin(Any)
            .allow_methods([Method::POST])
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers(exposed)
            .max_age(PREFLIGHT_MAX_AGE)
            .layer(GrpcWebLayer::new().layer(self.calls.clone()))
    }
}

impl Service<Request<Incoming>> for Front {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Map<BoxFuture<'static, Response<Body>>, fn(Response<Body>) -> Result<Response<Body>, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let mut request = request.map(Body::new);
        let address = forwarded_address(request.headers(), self.peer, self.trusted_hops);
        request.extensions_mut().insert(ClientAddress(address));
        let from_browser = grpc_web(request.headers()) || request.method() == Method::OPTIONS;
        let answer = if from_browser && self.browsers {
            let mut browsers = self.browsers();
            async move { browsers.call(request).await.unwrap_or_else(|never| match never {}) }.boxed()
        } else if !from_browser && request.version() == Version::HTTP_2 && grpc(request.headers()) {
            self.calls.answer(request)
        } else {
            std::future::ready(not_grpc()).boxed()
        };
        answer.map(Ok)
    }
}

fn content_type(headers: &HeaderMap) -> &[u8] {
    headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default()
}

fn grpc(headers: &HeaderMap) -> bool {
    content_type(headers).starts_with(b"application/grpc")
}

fn grpc_web(headers: &HeaderMap) -> bool {
    content_type(headers).starts_with(b"application/grpc-web")
}

#[cold]
fn not_grpc() -> Response<Body> {
    let mut response = Response::new(Body::new(http_body_util::Full::from(NOT_GRPC)));
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// The pages and endpoints of an HTTP listener.
#[derive(Clone)]
pub(super) struct Pages {
    router: axum::Router,
    peer: IpAddr,
}

impl Pages {
    pub(super) fn new(router: axum::Router, peer: IpAddr) -> Self {
        Self { router, peer }
    }
}

impl Service<Request<Incoming>> for Pages {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let mut request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(ClientAddress(self.peer));
        let call = self.router.clone().call(request);
        async move { Ok(call.await?.map(Body::new)) }.boxed()
    }
}
