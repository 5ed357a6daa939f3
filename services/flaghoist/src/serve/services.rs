//! Starts the four services in one process and gives each the peers it calls. They need one another, so each gets a slot
//! that is filled when the other has started; a call that comes before that is answered UNAVAILABLE and made again.

use flaghoist_runtime::local::Slot;
use flaghoist_runtime::server::merge;
use flaghoist_runtime::{Context, Parts, Place, fault};

use super::settings::Services;
use crate::exit::{Exit, Failure};

/// What the started services offer to the outside.
#[derive(Debug)]
pub(super) struct Started {
    /// All public proto services.
    pub(super) grpc: axum::Router,
    /// The HTTP endpoints.
    pub(super) http: axum::Router,
    /// The full names of the public proto services.
    pub(super) names: Vec<&'static str>,
}

/// Starts all services, at the same time.
pub(super) async fn start(settings: Services, place: &Place, context: &Context) -> Result<Started, Failure> {
    let (auth, login) = (Slot::new("auth"), Slot::new("login"));
    let (send, receiver) = (Slot::new("send"), Slot::new("receiver"));
    let parts = tokio::try_join!(
        async {
            let peers = flaghoist_auth::Peers {};
            let parts = started(flaghoist_auth::start(settings.auth, place, peers, context).await, &auth)?;
            let ready = context.readiness.token("token keys");
            context.verifier.watch(auth.peer(), context.drain.clone(), ready);
            Ok(parts)
        },
        async {
            let peers = flaghoist_login::Peers { auth: auth.peer() };
            started(flaghoist_login::start(settings.login, place, peers, context).await, &login)
        },
        async {
            let peers = flaghoist_send::Peers { login: login.peer(), receiver: receiver.peer() };
            started(flaghoist_send::start(settings.send, place, peers, context).await, &send)
        },
        async {
            let peers = flaghoist_receiver::Peers { send: send.peer() };
            started(flaghoist_receiver::start(settings.receiver, place, peers, context).await, &receiver)
        },
    )?;

    let mut grpc = Vec::new();
    let mut http = axum::Router::new();
    let mut names = Vec::new();
    for parts in [parts.0, parts.1, parts.2, parts.3] {
        grpc.push(parts.public);
        names.extend(parts.services);
        if let Some(pages) = parts.http {
            http = http.merge(pages);
        }
    }
    Ok(Started { grpc: merge(grpc), http, names })
}

/// Fills the slot of a service that has started, or says why it has not.
fn started<E: std::error::Error + 'static>(parts: Result<Parts, E>, slot: &Slot) -> Result<Parts, Failure> {
    let parts = parts.map_err(|error| Failure::new(Exit::Failed, fault::chain(&error)))?;
    slot.fill(parts.internal.clone());
    Ok(parts)
}
