//! Traces over several services: what one caused in another has the same trace, and hangs below it. The collector is a listener that
//! keeps what the services export.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use tonic::{Request, Response, Status};

use crate::pods::Site;
use crate::talk::Person;

/// The trace that a caller outside has begun.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// A span as far as these tests look at it.
#[derive(Clone, Debug)]
struct Span {
    service: String,
    name: String,
    trace: String,
    id: Vec<u8>,
    parent: Vec<u8>,
}

/// Keeps every span that is exported to it.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut kept = self.0.lock().unwrap();
        for resource in request.into_inner().resource_spans {
            let service = format!("{:?}", resource.resource);
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                let trace = span.trace_id.iter().map(|byte| format!("{byte:02x}")).collect();
                let (id, parent) = (span.span_id, span.parent_span_id);
                kept.push(Span { service: service.clone(), name: span.name, trace, id, parent });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Waits for the span `name` of the trace.
    async fn has(&self, name: &str) -> Span {
        let found = async {
            loop {
                let found =
                    self.0.lock().unwrap().iter().find(|span| span.name == name && span.trace == TRACE).cloned();
                match found {
                    Some(span) => return span,
                    None => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        let seen = || self.0.lock().unwrap().clone();
        tokio::time::timeout(Duration::from_secs(30), found).await.unwrap_or_else(|_| panic!("no {name}: {:?}", seen()))
    }
}

#[tokio::test]
async fn a_call_over_two_services_is_one_trace() {
    let collector = Collector::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let routes = tonic::service::Routes::new(TraceServiceServer::new(collector.clone())).into_axum_router();
    tokio::spawn(async move { axum::serve(listener, routes).await });

    let site = Site::new();
    let _pods = site.starts_all(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint), ("OTEL_BSP_SCHEDULE_DELAY", "100")]);
    Person::registers(&site, "alice").await;
    let traced = Person::signs_in(&site, "alice", |mut request| {
        let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
        request.metadata_mut().insert("traceparent", parent.parse().unwrap());
        request
    });
    traced.await.unwrap();

    let login = collector.has("flaghoist.login.v1.LoginService/Login").await;
    assert_eq!(login.parent, [0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7], "it hangs below the caller's span");
    assert!(login.service.contains("flaghoist-login"), "{}", login.service);
    let auth = collector.has("flaghoist.auth.v1.SubjectService/CreateSession").await;
    assert_eq!(auth.parent, login.id, "what login asked of auth hangs below its own span");
    assert!(auth.service.contains("flaghoist-auth"), "{}", auth.service);
}
