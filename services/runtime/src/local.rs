//! Calls between the parts: in the same process straight from the generated client to the generated server, between processes over
//! plain HTTP/2, which the mesh secures. Nothing here retries or balances.

use std::sync::{Arc, OnceLock};

use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tower::ServiceExt as _;
use tower::service_fn;
use tower::util::BoxCloneSyncService;

use crate::deadline;
use crate::fault::Fault;
use crate::telemetry;

/// What a generated client is given to call another part.
pub type Peer = BoxCloneSyncService<http::Request<Body>, http::Response<Body>, Status>;

/// A peer in the same process that is filled in later, since the parts need one another.
#[derive(Clone, Debug)]
pub struct Slot {
    name: &'static str,
    routes: Arc<OnceLock<Routes>>,
}

impl Slot {
    /// An empty slot for the part `name`. Calls are answered UNAVAILABLE until it is filled.
    pub fn new(name: &'static str) -> Self {
        Self { name, routes: Arc::default() }
    }

    /// The peer that calls what is in the slot.
    pub fn peer(&self) -> Peer {
        let slot = self.clone();
        BoxCloneSyncService::new(service_fn(move |request: http::Request<Body>| {
            let deadline = deadline::of(request.headers());
            let call = slot.routes.get().cloned().map(|routes| routes.oneshot(request));
            let name = slot.name;
            async move {
                let Some(call) = call else { return Ok(not_started(name)) };
                let answered = match deadline {
                    None => call.await,
                    Some(deadline) => {
                        tokio::time::timeout_at(deadline, call).await.map_err(|_| deadline::exceeded())?
                    }
                };
                Ok(answered.unwrap_or_else(|never| match never {}))
            }
        }))
    }

    /// Fills the slot. What was in it first stays.
    pub fn fill(&self, routes: Routes) {
        if self.routes.set(routes.prepare()).is_err() {
            tracing::error!(part = self.name, "slot filled twice");
        }
    }
}

#[cold]
fn not_started(name: &str) -> http::Response<Body> {
    Fault::unavailable(format!("{name} has not started yet")).into_status("runtime.flaghoist").into_http()
}

/// A peer in another process, connected at the first call.
pub fn remote(address: http::Uri) -> Peer {
    let channel = tonic::transport::Endpoint::from(address).tcp_nodelay(true).connect_lazy();
    let traced = channel.map_request(|mut request: http::Request<Body>| {
        if telemetry::exporting() {
            telemetry::inject(request.headers_mut());
        }
        request
    });
    BoxCloneSyncService::new(traced.map_err(|error| Status::from_error(Box::new(error))))
}
