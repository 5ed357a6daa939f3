//! `grpc.health.v1`, which says per proto service whether it may be called, and reflection, which lets grpcurl and the like call
//! without files.

use std::sync::Arc;
use std::time::Duration;

use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use crate::drain::Drain;
use crate::ready::Readiness;

/// How long watchers of health have to learn that the process stops, before their streams end.
const FAREWELL: Duration = Duration::from_millis(200);

/// The health service, and what sets its answers: nothing serves yet.
pub(super) async fn service(services: &[&'static str]) -> (HealthServer<HealthService>, HealthReporter) {
    let statuses = HealthReporter::new();
    set(&statuses, services, ServingStatus::NotServing).await;
    (HealthServer::new(HealthService::from_health_reporter(statuses.clone())), statuses)
}

/// Lets health follow readiness, each service its own, and the drain.
pub(super) async fn follow(
    mut statuses: HealthReporter,
    services: Vec<&'static str>,
    readiness: Arc<Readiness>,
    drain: Drain,
) {
    let mut changes = readiness.changes();
    let mut serving = vec![false; services.len() + 1];
    loop {
        // Before looking, so that nothing that changes meanwhile is missed.
        changes.borrow_and_update();
        for (service, serving) in all(&services).zip(&mut serving) {
            let serves = if service.is_empty() { readiness.is_ready() } else { readiness.serves(service) };
            if serves != *serving {
                *serving = serves;
                let status = if serves { ServingStatus::Serving } else { ServingStatus::NotServing };
                statuses.set_service_status(service, status).await;
            }
        }
        tokio::select! {
            biased;
            () = drain.started() => break,
            // The sender lives as long as `readiness`.
            _ = changes.changed() => {}
        }
    }
    set(&statuses, &services, ServingStatus::NotServing).await;
    tokio::time::sleep(FAREWELL).await;
    // A status that is gone ends the streams that watch it, which would otherwise keep their connections open.
    for service in all(&services) {
        statuses.clear_service_status(service).await;
    }
}

async fn set(statuses: &HealthReporter, services: &[&'static str], status: ServingStatus) {
    for service in all(services) {
        statuses.set_service_status(service, status).await;
    }
}

/// The services by name; the empty name stands for the whole process.
fn all<'a>(services: &'a [&'static str]) -> impl Iterator<Item = &'static str> + 'a {
    std::iter::once("").chain(services.iter().copied())
}

/// Adds reflection, in both versions that clients ask for, of the services that are offered here.
pub(super) fn with_reflection(routes: Routes, services: &[&'static str]) -> Routes {
    let builder = || {
        let builder = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(flaghoist_proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .with_service_name("grpc.health.v1.Health");
        services.iter().fold(builder, |builder, service| builder.with_service_name(*service))
    };
    match (builder().build_v1(), builder().build_v1alpha()) {
        (Ok(v1), Ok(v1alpha)) => routes.add_service(v1).add_service(v1alpha),
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(error = %error, "no reflection: the descriptors cannot be read");
            routes
        }
    }
}
