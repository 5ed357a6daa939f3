//! What is served on each port: gRPC to clients, the OAuth endpoints, and the figures for operators.

use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use flaghoist_runtime::server::{GrpcOptions, serve_grpc, serve_http};
use flaghoist_runtime::telemetry::Telemetry;
use flaghoist_runtime::{Context, Readiness};
use tokio::task::JoinSet;

use super::bound::Bound;
use super::services::Started;
use super::settings::Settings;

/// Serves on all ports until the drain is over.
pub(super) fn serve(
    bound: Bound,
    started: Started,
    context: &Context,
    settings: &Settings,
    telemetry: &Arc<Telemetry>,
) -> JoinSet<()> {
    let options = GrpcOptions {
        readiness: Arc::clone(&context.readiness),
        services: started.names,
        trusted_hops: settings.trusted_hops,
        connections_max: settings.connections_max,
    };
    let http = started.http.route("/healthz", get(alive));
    let metrics = operators(Arc::clone(&context.readiness), Arc::clone(telemetry));
    let mut serving = JoinSet::new();
    serving.spawn(serve_grpc(bound.grpc, started.grpc, Arc::clone(&context.verifier), context.drain.clone(), options));
    serving.spawn(serve_http(bound.http, http, context.drain.clone()));
    serving.spawn(serve_http(bound.metrics, metrics, context.drain.clone()));
    serving
}

/// The pages for those who run the server.
fn operators(readiness: Arc<Readiness>, telemetry: Arc<Telemetry>) -> Router {
    let page = move || {
        let page = telemetry.metrics_page();
        std::future::ready(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page))
    };
    let ready = move || std::future::ready(ready_page(&readiness));
    Router::new().route("/metrics", get(page)).route("/healthz", get(alive)).route("/readyz", get(ready))
}

/// The process answers.
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
