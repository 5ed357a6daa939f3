//! What is served on each port: gRPC to people and to services, the OAuth endpoints, the JWKS by itself, and the pages of operators.
//! Health and readiness are answered from the beginning, the rest once the services have started.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use flaghoist_runtime::server::{Audience, GrpcOptions, SILENCE_MAX, serve_grpc, serve_http};
use flaghoist_runtime::telemetry::Telemetry;
use flaghoist_runtime::{AccessLayer, Context, Readiness};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::bound::Bound;
use super::process::Offered;
use super::services::Started;
use super::settings::Settings;

/// The path of the JWKS, the same on every port.
const JWKS_PATH: &str = "/oauth2/jwks";

/// Ports on which the services are still missing.
pub(super) struct Waiting {
    public: oneshot::Sender<Router>,
    internal: oneshot::Sender<Router>,
    http: oneshot::Sender<Router>,
    jwks: oneshot::Sender<Router>,
}

impl Waiting {
    /// Gives each port what is to be served there.
    pub(super) fn start(self, started: Started) {
        // A port that the process does not have takes nothing.
        let _ = self.public.send(started.public);
        let _ = self.internal.send(started.internal);
        let _ = self.jwks.send(started.http.clone().layer(from_fn(only_the_jwks)));
        let _ = self.http.send(started.http.route("/healthz", get(alive)));
    }
}

/// Lets nothing through but the JWKS.
async fn only_the_jwks(request: Request, next: Next) -> Response {
    if request.uri().path() == JWKS_PATH { next.run(request).await } else { StatusCode::NOT_FOUND.into_response() }
}

/// Serves on all ports until the drain is over.
pub(super) fn serve(
    bound: Bound,
    context: &Context,
    settings: &Settings,
    telemetry: &Arc<Telemetry>,
) -> (JoinSet<()>, Waiting) {
    let drain = &context.drain;
    let mut serving = JoinSet::new();
    let pages = operators(Arc::clone(&context.readiness), Arc::clone(telemetry));
    serving.spawn(serve_http(bound.metrics, pages, drain.clone()));

    let options = |audience| GrpcOptions {
        audience,
        readiness: Arc::clone(&context.readiness),
        services: settings.process.offers(match audience {
            Audience::Public => Offered::ToPeople,
            Audience::Internal => Offered::ToServices,
        }),
        trusted_hops: settings.trusted_hops,
        connections_max: settings.connections_max,
        silence_max: SILENCE_MAX,
    };
    let (public, routes) = oneshot::channel();
    let access = AccessLayer::public(Arc::clone(&context.verifier));
    serving.spawn(serve_grpc(bound.grpc, started(routes), access, drain.clone(), options(Audience::Public)));
    let (internal, routes) = oneshot::channel();
    if let Some(listener) = bound.internal {
        let access = AccessLayer::internal(settings.credential.clone());
        serving.spawn(serve_grpc(listener, started(routes), access, drain.clone(), options(Audience::Internal)));
    }

    let (http, router) = oneshot::channel();
    if let Some(listener) = bound.http {
        let drain = drain.clone();
        serving.spawn(async move { serve_http(listener, started(router).await, drain).await });
    }
    let (jwks, router) = oneshot::channel();
    if let Some(listener) = bound.jwks {
        let drain = drain.clone();
        serving.spawn(async move { serve_http(listener, started(router).await, drain).await });
    }
    (serving, Waiting { public, internal, http, jwks })
}

/// What the services offer, once they have started.
async fn started(routes: oneshot::Receiver<Router>) -> Router {
    match routes.await {
        Ok(routes) => routes,
        // They will not: the process ends.
        Err(_) => std::future::pending().await,
    }
}

/// The pages for those who run the server.
fn operators(readiness: Arc<Readiness>, telemetry: Arc<Telemetry>) -> Router {
    let page = move || {
        let page = telemetry.metrics_page();
        std::future::ready(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page))
    };
    let ready = move || std::future::ready(ready_page(&readiness));
    Router::new()
        .route("/metrics", get(page))
        .route("/livez", get(alive))
        .route("/healthz", get(alive))
        .route("/readyz", get(ready))
}

/// The process answers, so it makes progress. What it waits for outside is no reason to start it anew, and is not asked here.
async fn alive() -> &'static str {
    "ok\n"
}

fn ready_page(readiness: &Readiness) -> impl IntoResponse + use<> {
    let waiting_for = readiness.waiting_for();
    if waiting_for.is_empty() {
        (StatusCode::OK, "ready\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for {}\n", waiting_for.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_says_what_is_missing() {
        let readiness = Readiness::new();
        let token = readiness.token("token keys");
        assert_eq!(ready_page(&readiness).into_response().status(), StatusCode::SERVICE_UNAVAILABLE);
        drop(token);
        assert_eq!(ready_page(&readiness).into_response().status(), StatusCode::OK);
    }
}
