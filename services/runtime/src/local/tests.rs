//! Calls to another process, tried against listeners that answer as they should, as they should not, or not at all.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use flaghoist_proto::auth::v1::verification_service_client::VerificationServiceClient;
use flaghoist_proto::auth::v1::{GetJwksRequest, WatchRevocationsRequest};
use http::HeaderMap;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::Code;

use super::*;
use crate::access::{AccessLayer, Credential};
use crate::drain::{Drain, DrainTrigger};
use crate::fault::reason_of;
use crate::ready::Readiness;
use crate::server::{Audience, GrpcOptions, SILENCE_MAX, serve_grpc};

/// A listener that stands for another service: counts what it is asked, keeps the headers, and answers `code` and nothing else.
struct Other {
    address: http::Uri,
    asked: Arc<AtomicUsize>,
    headers: Arc<Mutex<HeaderMap>>,
    _trigger: DrainTrigger,
    server: JoinHandle<()>,
}

impl Other {
    async fn answering(code: Code, credential: Option<Credential>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let (asked, headers) = (Arc::<AtomicUsize>::default(), Arc::<Mutex<HeaderMap>>::default());
        let (count, keep) = (Arc::clone(&asked), Arc::clone(&headers));
        let path = "/flaghoist.auth.v1.VerificationService/{method}";
        let routes = axum::Router::new().route(
            path,
            axum::routing::post(async move |request: axum::extract::Request| {
                count.fetch_add(1, Ordering::SeqCst);
                *keep.lock() = request.headers().clone();
                Status::new(code, "as the test has it").into_http::<axum::body::Body>()
            }),
        );
        let (trigger, drain) = Drain::new();
        let options = GrpcOptions {
            audience: Audience::Internal,
            readiness: Arc::new(Readiness::new()),
            services: Vec::new(),
            trusted_hops: 0,
            connections_max: 0,
            silence_max: SILENCE_MAX,
        };
        let access = AccessLayer::internal(credential);
        let server = tokio::spawn(serve_grpc(listener, std::future::ready(routes), access, drain, options));
        Self { address, asked, headers, _trigger: trigger, server }
    }

    fn client(&self, identity: Option<HeaderValue>) -> VerificationServiceClient<Peer> {
        VerificationServiceClient::new(remote("auth", self.address.clone(), identity))
    }
}

#[tokio::test]
async fn promise_9_nothing_is_asked_twice() {
    for code in [Code::Unavailable, Code::ResourceExhausted, Code::Aborted, Code::DeadlineExceeded] {
        let other = Other::answering(code, None).await;
        let refused = other.client(None).get_jwks(GetJwksRequest {}).await.unwrap_err();
        assert_eq!(refused.code(), code);
        let refused = other.client(None).watch_revocations(WatchRevocationsRequest::default()).await.unwrap_err();
        assert_eq!(refused.code(), code);
        assert_eq!(other.asked.load(Ordering::SeqCst), 2, "each call was made once");
    }
}

#[tokio::test]
async fn promise_9_a_connection_that_breaks_under_a_call_is_not_made_again_for_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap()).parse::<http::Uri>().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            // Once the call is there.
            let mut read = 0;
            while read < 200 {
                read += stream.read(&mut [0; 4096]).await.unwrap();
            }
        }
    });
    let mut client = VerificationServiceClient::new(remote("auth", address, None));
    for calls in 1..=3 {
        let lost = client.get_jwks(GetJwksRequest {}).await.unwrap_err();
        assert_eq!((lost.code(), lost.message()), (Code::Unavailable, "auth cannot be reached"));
        assert_eq!(reason_of(&lost), Some(crate::Reason::Unavailable));
        assert_eq!(connections.load(Ordering::SeqCst), calls);
    }
}

#[tokio::test]
async fn a_peer_that_is_not_there_is_unavailable_and_found_when_it_comes() {
    let other = Other::answering(Code::Ok, None).await;
    let address = other.address.clone();
    let mut client = other.client(None);
    assert_eq!(client.get_jwks(GetJwksRequest {}).await.unwrap_err().code(), Code::Internal, "it sends no message");
    other.server.abort();
    drop(other);
    let lost = async { while client.get_jwks(GetJwksRequest {}).await.unwrap_err().code() != Code::Unavailable {} };
    tokio::time::timeout(Duration::from_secs(5), lost).await.expect("its end is noticed");
    let _again = TcpListener::bind(address.authority().unwrap().as_str()).await.unwrap();
}

#[tokio::test]
async fn a_call_without_a_deadline_is_given_one_and_a_stream_only_the_callers() {
    let other = Other::answering(Code::Aborted, None).await;
    let mut client = other.client(None);
    let asked = || other.headers.lock().get("grpc-timeout").map(|value| value.to_str().unwrap().to_owned());
    client.get_jwks(GetJwksRequest {}).await.unwrap_err();
    let given = asked().unwrap().strip_suffix('m').unwrap().parse::<u64>().unwrap();
    assert!((9_000..=10_000).contains(&given), "{given}");
    client.watch_revocations(WatchRevocationsRequest::default()).await.unwrap_err();
    assert_eq!(asked(), None);
    let deadline = Instant::now() + Duration::from_secs(2);
    let call = async { client.watch_revocations(WatchRevocationsRequest::default()).await.unwrap_err() };
    deadline::within(deadline, call).await.unwrap();
    let given = asked().unwrap().strip_suffix('m').unwrap().parse::<u64>().unwrap();
    assert!((1_000..=2_000).contains(&given), "{given}");
}

#[tokio::test]
async fn a_peer_that_does_not_answer_is_waited_for_as_long_as_the_caller_says() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap()).parse::<http::Uri>().unwrap();
    let mut client = VerificationServiceClient::new(remote("auth", address, None));
    for _ in 0..2 {
        let mut request = tonic::Request::new(GetJwksRequest {});
        request.set_timeout(Duration::from_millis(50));
        let late = tokio::time::timeout(Duration::from_secs(5), client.get_jwks(request)).await.unwrap().unwrap_err();
        assert_eq!(late.code(), Code::DeadlineExceeded);
    }
}

#[tokio::test]
async fn a_peer_is_shown_who_calls() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "the secret of this place").unwrap();
    let credential = Credential::read(file.path()).unwrap();
    let other = Other::answering(Code::Aborted, Some(credential.clone())).await;
    let stranger = other.client(None).get_jwks(GetJwksRequest {}).await.unwrap_err();
    assert_eq!(stranger.code(), Code::Unauthenticated);
    assert_eq!(other.asked.load(Ordering::SeqCst), 0);
    let known = other.client(credential.of("send")).get_jwks(GetJwksRequest {}).await.unwrap_err();
    assert_eq!(known.code(), Code::Aborted);
    assert_eq!(other.asked.load(Ordering::SeqCst), 1);
}

/// Every file below `folder` that ends as asked.
fn files(folder: &Path, ending: &str, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            files(&path, ending, found);
        } else if path.to_string_lossy().ends_with(ending) {
            found.push((path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
        }
    }
}

#[test]
fn promise_9_no_tls_retry_balancing_or_circuit_breaking_between_services_is_in_the_source() {
    let services = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let (mut sources, mut manifests) = (Vec::new(), Vec::new());
    files(services, ".rs", &mut sources);
    files(services, "Cargo.toml", &mut manifests);
    assert!(sources.len() > 50 && manifests.len() >= 6);
    // The command line calls from outside the mesh, so it speaks TLS and repeats calls; auth tells applications outside of it of logouts;
    // login hands mail to a relay, which may be anybody's.
    let outside = |path: &str| {
        let places = ["/flaghoist/src/client/", "/auth/src/outgoing.rs", "/login/src/notify/smtp.rs", "/tests"];
        places.iter().any(|place| path.contains(place))
    };
    let absent = [
        "tls_config",
        "TlsAcceptor",
        "TlsConnector",
        "ServerTlsConfig",
        "rustls::",
        "TlsParameters",
        "lettre::",
        "tower::retry",
        "tower::balance",
        "tower::load",
        "RetryLayer",
        "balance_list",
        "balance_channel",
        "circuit",
    ];
    for (path, source) in sources.iter().filter(|(path, _)| !outside(path)) {
        for word in absent {
            assert!(!source.contains(word), "{word} in {path}");
        }
    }
    for (path, manifest) in &manifests {
        let tower = manifest.lines().filter(|line| line.starts_with("tower")).collect::<String>();
        assert!(!["retry", "balance", "load", "limit"].iter().any(|word| tower.contains(word)), "{path}");
        // What tonic is given to speak TLS with.
        assert!(!manifest.contains("\"tls-") || path.ends_with("/flaghoist/Cargo.toml"), "{path}");
    }
}

#[test]
fn a_peer_that_nobody_has_called_is_neither_reachable_nor_away() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let page = recorder.handle();
    metrics::with_local_recorder(&recorder, || {
        let reach = Reach::new("auth", "http://auth:9001".parse().unwrap());
        assert!(!page.render().contains("flaghoist_peer_reachable"), "{}", page.render());
        reach.fails("connection refused");
        assert!(page.render().contains("flaghoist_peer_reachable{peer=\"auth\"} 0"), "{}", page.render());
        reach.answers();
        assert!(page.render().contains("flaghoist_peer_reachable{peer=\"auth\"} 1"), "{}", page.render());
    });
}
