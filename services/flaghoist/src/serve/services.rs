//! Starts the services of a process and gives each the peers it calls. In one process they need one another, so each gets a slot
//! that is filled when the other has started; a call that comes before that is answered UNAVAILABLE and made again. A service that
//! is elsewhere is called over the network instead.

use flaghoist_runtime::local::{Slot, remote};
use flaghoist_runtime::server::merge;
use flaghoist_runtime::{AccessLayer, Context, Parts, Peer, Place, fault};

use super::process::{Process, Service};
use super::settings::Settings;
use crate::exit::{Exit, Failure};

/// What the started services offer to the outside.
#[derive(Debug)]
pub(super) struct Started {
    /// All public proto services.
    pub(super) public: axum::Router,
    /// All internal proto services.
    pub(super) internal: axum::Router,
    /// The HTTP endpoints.
    pub(super) http: axum::Router,
}

/// The four services as peers, wherever they are.
struct Peers([(Slot, Option<Peer>); 4]);

impl Peers {
    fn new(settings: &Settings) -> Self {
        let identity = match settings.process {
            Process::All => None,
            Process::One(service) => settings.credential.as_ref().and_then(|credential| credential.of(service.name())),
        };
        Self(Service::ALL.map(|service| {
            let address = settings.peers.get(&service).filter(|_| !settings.process.runs(service));
            let elsewhere = address.map(|address| remote(service.name(), address.clone(), identity.clone()));
            (Slot::new(service.name()), elsewhere)
        }))
    }

    fn get(&self, service: Service) -> Peer {
        let (slot, elsewhere) = &self.0[service as usize];
        elsewhere.clone().unwrap_or_else(|| slot.peer())
    }

    /// Fills the slot of a service that has started, or says why it has not.
    fn started<E>(&self, service: Service, parts: Result<Parts, E>) -> Result<Option<Parts>, Failure>
    where
        E: std::error::Error + 'static,
    {
        let parts = parts.map_err(|error| Failure::new(Exit::Failed, fault::chain(&error)))?;
        self.0[service as usize].0.fill(parts.internal.clone());
        Ok(Some(parts))
    }
}

/// Starts all services of the process, at the same time.
pub(super) async fn start(settings: &Settings, place: &Place, context: &Context) -> Result<Started, Failure> {
    let services = settings.services.clone();
    let peers = Peers::new(settings);
    // Login's account pages ask auth as every client does, with the tokens of people.
    let auth_public = Slot::new("auth");
    let asked_as_a_client = match &settings.auth_public {
        Some(address) => remote("auth", address.clone(), None),
        None => auth_public.peer(),
    };
    let keys = context.readiness.token("token keys");
    context.verifier.watch(peers.get(Service::Auth), context.drain.clone(), keys);
    let (auth, login, send, receiver) = tokio::try_join!(
        async {
            let Some(settings) = services.auth else { return Ok(None) };
            let asks = flaghoist_auth::Peers {};
            let parts = peers.started(Service::Auth, flaghoist_auth::start(settings, place, asks, context).await)?;
            if let Some(parts) = &parts {
                let access = AccessLayer::public(context.verifier.clone());
                auth_public.fill(access.around(parts.public.clone()));
            }
            Ok(parts)
        },
        async {
            let Some(settings) = services.login else { return Ok(None) };
            let asks = flaghoist_login::Peers {
                auth: peers.get(Service::Auth),
                auth_public: asked_as_a_client,
                receiver: peers.get(Service::Receiver),
                send: peers.get(Service::Send),
            };
            peers.started(Service::Login, flaghoist_login::start(settings, place, asks, context).await)
        },
        async {
            let Some(settings) = services.send else { return Ok(None) };
            let asks =
                flaghoist_send::Peers { login: peers.get(Service::Login), receiver: peers.get(Service::Receiver) };
            peers.started(Service::Send, flaghoist_send::start(settings, place, asks, context).await)
        },
        async {
            let Some(settings) = services.receiver else { return Ok(None) };
            let asks = flaghoist_receiver::Peers { send: peers.get(Service::Send) };
            peers.started(Service::Receiver, flaghoist_receiver::start(settings, place, asks, context).await)
        },
    )?;

    let (mut public, mut internal) = (Vec::new(), Vec::new());
    let mut http = axum::Router::new();
    for parts in [auth, login, send, receiver].into_iter().flatten() {
        public.push(parts.public);
        internal.push(parts.internal);
        if let Some(pages) = parts.http {
            http = http.merge(pages);
        }
    }
    Ok(Started { public: merge(public), internal: merge(internal), http })
}
