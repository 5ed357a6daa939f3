//! Calls between the parts: in the same process straight from the generated client to the generated server, between processes over
//! plain HTTP/2, which the mesh secures.
//!
//! Nothing here retries or balances: a call is made once, and its end is told.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::HeaderValue;
use http::header::AUTHORIZATION;
use parking_lot::Mutex;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, TimeoutExpired};
use tower::ServiceExt as _;
use tower::service_fn;
use tower::util::BoxCloneSyncService;

use crate::deadline;
use crate::fault::{Fault, chain};
use crate::telemetry;

/// How long a call to another process may wait for an answer if nobody has set it a deadline.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// How long a connection may take to be made.
const CONNECT_WAIT: Duration = Duration::from_secs(2);

/// After what silence of a call the other side is asked whether it is there, where no sidecar does so, and how long it may take to
/// say yes.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_WAIT: Duration = Duration::from_secs(10);

/// The domain of what is answered in a peer's place.
const DOMAIN: &str = "runtime.flaghoist";

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
            let deadline = deadline::of_outgoing(request.headers());
            let call = slot.routes.get().cloned().map(|routes| routes.oneshot(request));
            let name = slot.name;
            async move {
                let Some(call) = call else { return Ok(not_started(name)) };
                let answered = match deadline {
                    None => call.await,
                    Some(deadline) => deadline::within(deadline, call).await.map_err(|_| deadline::exceeded())?,
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
    Fault::unavailable(format!("{name} has not started yet")).into_status(DOMAIN).into_http()
}

/// A peer in another process, connected at the first call; `identity` is what it is shown in `authorization`, where no sidecar
/// vouches for the caller.
///
/// Deadlines and the trace context go with each call. That the peer does not answer is said in the log and in
/// `flaghoist_peer_reachable`, and to the caller as UNAVAILABLE.
pub fn remote(peer: &'static str, address: http::Uri, identity: Option<HeaderValue>) -> Peer {
    let channel = Endpoint::from(address.clone())
        .tcp_nodelay(true)
        .connect_timeout(CONNECT_WAIT)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_WAIT)
        .connect_lazy();
    let remote = Arc::new(Remote { identity, reach: Reach::new(peer, address) });
    BoxCloneSyncService::new(service_fn(move |request| Arc::clone(&remote).call(channel.clone(), request)))
}

/// What is known about a peer in another process.
struct Remote {
    identity: Option<HeaderValue>,
    reach: Reach,
}

impl Remote {
    async fn call(
        self: Arc<Self>,
        channel: Channel,
        mut request: http::Request<Body>,
    ) -> Result<http::Response<Body>, Status> {
        let streaming = flaghoist_proto::method(request.uri().path()).is_some_and(|method| method.streaming);
        let deadline = deadline::of_outgoing(request.headers());
        let wait = deadline.unwrap_or_else(|| Instant::now() + ANSWER_WAIT);
        let headers = request.headers_mut();
        // A stream goes on for as long as it likes; only its beginning is waited for.
        if deadline.is_some() || !streaming {
            deadline::write(headers, wait);
        }
        if let Some(identity) = &self.identity {
            headers.insert(AUTHORIZATION, identity.clone());
        }
        if telemetry::exporting() {
            telemetry::inject(headers);
        }
        let problem = match tokio::time::timeout_at(wait, channel.oneshot(request)).await {
            Ok(Ok(response)) => {
                self.reach.answers();
                return Ok(response);
            }
            Ok(Err(error)) if expired(&error) => None,
            Ok(Err(error)) => Some(chain(&error)),
            Err(_) => None,
        };
        match problem {
            Some(problem) => {
                self.reach.fails(&problem);
                Err(Fault::unavailable(format!("{} cannot be reached", self.reach.peer)).into_status(DOMAIN))
            }
            None => {
                if deadline.is_none() {
                    self.reach.fails("no answer in time");
                }
                Err(deadline::exceeded())
            }
        }
    }
}

/// Whether it is the deadline that ended a call.
fn expired(error: &tonic::transport::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    std::iter::from_fn(|| {
        let this = cause?;
        cause = this.source();
        Some(this)
    })
    .any(|error| error.is::<TimeoutExpired>())
}

/// Whether a peer answers, told when that changes.
struct Reach {
    peer: &'static str,
    address: http::Uri,
    answering: Mutex<Option<bool>>,
}

impl Reach {
    fn new(peer: &'static str, address: http::Uri) -> Self {
        Self { peer, address, answering: Mutex::new(None) }
    }

    fn answers(&self) {
        if self.turns(true) {
            self.tells(1.0);
            tracing::info!(peer = self.peer, address = %self.address, "peer answers");
        }
    }

    fn fails(&self, problem: &str) {
        if self.turns(false) {
            self.tells(0.0);
            tracing::warn!(peer = self.peer, address = %self.address, error = problem, "peer does not answer: is it running at that address?");
        }
    }

    /// The figure is there once a call has shown it: a gauge that is made sooner says 0, which is an alert, of a peer nobody has called.
    fn tells(&self, reachable: f64) {
        metrics::gauge!("flaghoist_peer_reachable", "peer" => self.peer).set(reachable);
    }

    fn turns(&self, answering: bool) -> bool {
        self.answering.lock().replace(answering) != Some(answering)
    }
}

#[cfg(test)]
mod tests;
