//! One call: measured, traced, within its caller's deadline, and only if its caller may make it. A fault in a service becomes an
//! answer, not a broken connection.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tower_service::Service;
use tracing::Instrument as _;

use super::body::{Watched, code};
use super::figures::Meter;
use crate::access::Access;
use crate::deadline;
use crate::fault::Fault;
use crate::telemetry;
use crate::token::DOMAIN;

/// The calls of one listener.
#[derive(Clone)]
pub(super) struct Calls(Arc<Offered>);

/// What is offered on a listener: until the services have started their health, then all.
struct Offered {
    starting: Access<Routes>,
    started: OnceLock<Access<Routes>>,
}

impl Calls {
    /// Calls that are answered by `starting` until there is more.
    pub(super) fn new(starting: Access<Routes>) -> Self {
        Self(Arc::new(Offered { starting, started: OnceLock::new() }))
    }

    /// From now on `routes` answer.
    pub(super) fn start(&self, routes: Access<Routes>) {
        if self.0.started.set(routes).is_err() {
            tracing::error!("listener started twice");
        }
    }

    /// Answers one call.
    pub(super) fn answer(&self, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        let routes = self.0.started.get().unwrap_or(&self.0.starting).clone();
        if telemetry::exporting() {
            let span = telemetry::server_span(request.uri().path(), request.headers());
            return Box::pin(answer(routes, request).instrument(span));
        }
        Box::pin(answer(routes, request))
    }
}

impl Service<Request<Body>> for Calls {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.answer(request).map(Ok).boxed()
    }
}

async fn answer(mut routes: Access<Routes>, request: Request<Body>) -> Response<Body> {
    let meter = Meter::start(request.uri().path());
    let deadline = deadline::of(request.headers());
    let call = AssertUnwindSafe(async { routes.call(request).await }).catch_unwind();
    let answered = match deadline {
        None => call.await,
        Some(deadline) => match deadline::within(deadline, call).await {
            Ok(answered) => answered,
            Err(_) => Ok(Ok(deadline::exceeded().into_http())),
        },
    };
    let response = match answered {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        // The panic hook has logged it.
        Err(_) => Fault::internal().into_status(DOMAIN).into_http(),
    };
    if let Some(code) = code(response.headers()) {
        if let Some(meter) = meter {
            meter.end(code);
        }
        return response;
    }
    let deadline = deadline.map(|deadline| Box::pin(tokio::time::sleep_until(deadline)));
    response.map(|body| Body::new(Watched::new(body, meter, deadline)))
}

/// What a path is answered that no part offers.
pub(super) async fn unimplemented() -> Response<axum::body::Body> {
    Status::unimplemented("there is no such method here").into_http()
}

/// What every path is answered while the services start.
pub(super) async fn starting() -> Response<axum::body::Body> {
    Fault::unavailable("the service is starting").into_status(DOMAIN).into_http()
}
