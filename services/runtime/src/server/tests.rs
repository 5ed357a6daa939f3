//! Listeners, tried with real clients over real sockets.

use std::net::SocketAddr;
use std::time::Duration;

use flaghoist_proto::auth::v1::session_service_client::SessionServiceClient;
use flaghoist_proto::auth::v1::session_service_server::{SessionService, SessionServiceServer};
use flaghoist_proto::auth::v1::token_service_client::TokenServiceClient;
use flaghoist_proto::auth::v1::token_service_server::{TokenService, TokenServiceServer};
use flaghoist_proto::auth::v1::{
    AuthorizeDeviceRequest, AuthorizeDeviceResponse, IntrospectTokenRequest, IntrospectTokenResponse,
    IssueTokenRequest, IssueTokenResponse, ListSessionsRequest, ListSessionsResponse, RevokeOtherSessionsRequest,
    RevokeOtherSessionsResponse, RevokeSessionRequest, RevokeSessionResponse, RevokeTokenRequest, RevokeTokenResponse,
};
use flaghoist_proto::receiver::v1::SubscribeRequest;
use flaghoist_proto::receiver::v1::receiver_service_client::ReceiverServiceClient;
use http_body_util::BodyExt as _;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use super::*;
use crate::drain::DrainTrigger;
use crate::token::Caller;
use crate::token::tests::{Issuer, claims};

const SERVICES: &[&str] = &["flaghoist.auth.v1.TokenService", "flaghoist.auth.v1.SessionService"];

/// How long a client may say nothing here.
const SILENCE: Duration = Duration::from_secs(2);

/// Answers the client's address, panics or takes its time, as the method's name would not suggest.
struct Parts;

#[tonic::async_trait]
impl TokenService for Parts {
    async fn issue_token(&self, _: Request<IssueTokenRequest>) -> Result<Response<IssueTokenResponse>, Status> {
        panic!("a fault of the service");
    }

    async fn revoke_token(&self, _: Request<RevokeTokenRequest>) -> Result<Response<RevokeTokenResponse>, Status> {
        tokio::time::sleep(Duration::from_millis(300)).await;
        Ok(Response::new(RevokeTokenResponse {}))
    }

    async fn introspect_token(
        &self,
        request: Request<IntrospectTokenRequest>,
    ) -> Result<Response<IntrospectTokenResponse>, Status> {
        let address = ClientAddress::of(&request).to_string();
        Ok(Response::new(IntrospectTokenResponse { sub: address, ..Default::default() }))
    }

    async fn authorize_device(
        &self,
        _: Request<AuthorizeDeviceRequest>,
    ) -> Result<Response<AuthorizeDeviceResponse>, Status> {
        Ok(Response::new(AuthorizeDeviceResponse::default()))
    }
}

#[tonic::async_trait]
impl SessionService for Parts {
    async fn list_sessions(
        &self,
        request: Request<ListSessionsRequest>,
    ) -> Result<Response<ListSessionsResponse>, Status> {
        let (user, _) = Caller::user_of(&request)?;
        Ok(Response::new(ListSessionsResponse { next_page_token: user.name(), ..Default::default() }))
    }

    async fn revoke_session(
        &self,
        _: Request<RevokeSessionRequest>,
    ) -> Result<Response<RevokeSessionResponse>, Status> {
        Err(crate::fault::Fault::not_found("session", "x").into_status("test"))
    }

    async fn revoke_other_sessions(
        &self,
        _: Request<RevokeOtherSessionsRequest>,
    ) -> Result<Response<RevokeOtherSessionsResponse>, Status> {
        Ok(Response::new(RevokeOtherSessionsResponse::default()))
    }
}

/// A stream that says nothing and never ends.
async fn silent_stream() -> http::Response<axum::body::Body> {
    let body = http_body_util::StreamBody::new(futures_util::stream::pending::<
        Result<http_body::Frame<bytes::Bytes>, Status>,
    >());
    let mut response = http::Response::new(axum::body::Body::new(body.boxed_unsync()));
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/grpc"));
    response
}

fn parts() -> axum::Router {
    merge([
        Routes::new(TokenServiceServer::new(Parts)),
        Routes::new(SessionServiceServer::new(Parts)),
        axum::Router::new()
            .route("/flaghoist.receiver.v1.ReceiverService/Subscribe", axum::routing::post(silent_stream))
            .route("/flaghoist.auth.v1.VerificationService/WatchRevocations", axum::routing::post(endless_stream))
            .into(),
    ])
}

/// A stream that says more than anyone reads.
async fn endless_stream() -> http::Response<axum::body::Body> {
    let frame = || http_body::Frame::data(bytes::Bytes::from(vec![0; 64 * 1024]));
    let body = http_body_util::StreamBody::new(futures_util::stream::repeat_with(move || Ok::<_, Status>(frame())));
    let mut response = http::Response::new(axum::body::Body::new(body.boxed_unsync()));
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/grpc"));
    response
}

struct World {
    address: SocketAddr,
    issuer: Issuer,
    readiness: Arc<Readiness>,
    trigger: DrainTrigger,
    server: JoinHandle<()>,
}

impl World {
    async fn new(trusted_hops: u8, connections_max: usize) -> Self {
        Self::with(trusted_hops, connections_max, Readiness::new()).await
    }

    async fn with(trusted_hops: u8, connections_max: usize, readiness: Readiness) -> Self {
        let routes = std::future::ready(parts());
        Self::offering(Audience::Public, trusted_hops, connections_max, readiness, routes).await
    }

    async fn offering(
        audience: Audience,
        trusted_hops: u8,
        connections_max: usize,
        readiness: Readiness,
        routes: impl Future<Output = axum::Router> + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let issuer = Issuer::new("k1");
        let readiness = Arc::new(readiness);
        let (trigger, drain) = Drain::new();
        let services = SERVICES.to_vec();
        let options = GrpcOptions {
            audience,
            readiness: Arc::clone(&readiness),
            services,
            trusted_hops,
            connections_max,
            silence_max: SILENCE,
        };
        let access = match audience {
            Audience::Public => AccessLayer::public(issuer.verifier()),
            Audience::Internal => AccessLayer::internal(None),
        };
        let server = tokio::spawn(serve_grpc(listener, routes, access, drain, options));
        Self { address, issuer, readiness, trigger, server }
    }

    async fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    fn authorized<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let token = format!("Bearer {}", self.issuer.token(claims(json!({}))));
        request.metadata_mut().insert("authorization", token.parse().unwrap());
        request
    }

    /// Sends an HTTP/1.1 request by hand and answers everything that comes back.
    async fn http1(&self, head: &str, body: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let head = format!("{head}\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }
}

const WEB: &str = "Origin: https://app.example\r\nContent-Type: application/grpc-web+proto";
const EMPTY: &[u8] = &[0, 0, 0, 0, 0];

#[tokio::test]
async fn health_follows_readiness_and_the_drain() {
    let world = World::new(0, 0).await;
    let mut health = HealthClient::new(world.channel().await);
    let check = |service: &str| HealthCheckRequest { service: service.to_owned() };
    assert_eq!(health.check(check("unknown.Service")).await.unwrap_err().code(), Code::NotFound);
    for service in ["", SERVICES[0]] {
        let mut watched = health.watch(check(service)).await.unwrap().into_inner();
        // Nothing holds a token, so it serves at once.
        while watched.message().await.unwrap().unwrap().status() != ServingStatus::Serving {}
    }
    assert!(world.readiness.is_ready());
    let mut watched = health.watch(check("")).await.unwrap().into_inner();
    assert_eq!(watched.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    world.trigger.start();
    assert_eq!(watched.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert!(watched.message().await.unwrap().is_none(), "watching ends so that the connection can");
    timeout(Duration::from_secs(5), world.server).await.expect("the server ends").unwrap();
}

#[tokio::test]
async fn a_part_that_is_not_ready_keeps_health_from_serving() {
    let readiness = Readiness::new();
    let waiting = readiness.token("store");
    let world = World::with(0, 0, readiness).await;
    let mut health = HealthClient::new(world.channel().await);
    let request = HealthCheckRequest { service: SERVICES[0].to_owned() };
    let mut watched = health.watch(request.clone()).await.unwrap().into_inner();
    assert_eq!(watched.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert_eq!(health.check(request).await.unwrap().into_inner().status(), ServingStatus::NotServing);
    drop(waiting);
    assert_eq!(watched.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
}

#[tokio::test]
async fn health_tells_of_each_service_what_it_is_missing() {
    let readiness = Readiness::new();
    let (auth, send) = (readiness.dependency("auth: PostgreSQL"), readiness.dependency("send: PostgreSQL"));
    let world = World::with(0, 0, readiness).await;
    let mut health = HealthClient::new(world.channel().await);
    let check = |service: &str| HealthCheckRequest { service: service.to_owned() };
    let mut service = health.watch(check(SERVICES[0])).await.unwrap().into_inner();
    let mut whole = health.watch(check("")).await.unwrap().into_inner();
    assert_eq!(service.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert_eq!(whole.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    auth.up();
    assert_eq!(service.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    assert_eq!(health.check(check("")).await.unwrap().into_inner().status(), ServingStatus::NotServing);
    send.up();
    assert_eq!(whole.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    // Also later, and without a word to the services that do not need it.
    auth.down(&"gone");
    assert_eq!(service.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert_eq!(world.readiness.waiting_for(), ["auth: PostgreSQL"]);
    auth.up();
    send.down(&"gone");
    assert_eq!(service.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    assert_eq!(health.check(check(SERVICES[0])).await.unwrap().into_inner().status(), ServingStatus::Serving);
}

#[tokio::test]
async fn health_is_answered_before_the_services_have_started() {
    let readiness = Readiness::new();
    let starting = readiness.token("auth");
    let (started, routes) = tokio::sync::oneshot::channel();
    let routes = async { routes.await.unwrap() };
    let world = World::offering(Audience::Public, 0, 0, readiness, routes).await;
    let mut health = HealthClient::new(world.channel().await);
    let request = HealthCheckRequest { service: SERVICES[0].to_owned() };
    assert_eq!(health.check(request).await.unwrap().into_inner().status(), ServingStatus::NotServing);
    let mut tokens = TokenServiceClient::new(world.channel().await);
    let early = tokens.introspect_token(IntrospectTokenRequest::default()).await.unwrap_err();
    assert_eq!((early.code(), early.message()), (Code::Unavailable, "the service is starting"));
    started.send(parts()).unwrap();
    drop(starting);
    let answered = async { while tokens.introspect_token(IntrospectTokenRequest::default()).await.is_err() {} };
    timeout(Duration::from_secs(5), answered).await.expect("the connection goes on to the services");
}

#[tokio::test]
async fn no_browser_reaches_the_internal_port() {
    let routes = std::future::ready(parts());
    let world = World::offering(Audience::Internal, 0, 0, Readiness::new(), routes).await;
    let path = "/flaghoist.auth.v1.VerificationService/WatchRevocations";
    for head in
        [format!("POST {path} HTTP/1.1\r\n{WEB}"), format!("OPTIONS {path} HTTP/1.1\r\nOrigin: https://app.example")]
    {
        let answer = world.http1(&head, EMPTY).await.to_lowercase();
        assert!(answer.starts_with("http/1.1 415") && !answer.contains("access-control"), "{answer}");
    }
    let mut tokens = TokenServiceClient::new(world.channel().await);
    let refused = tokens.introspect_token(IntrospectTokenRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}

/// What begins an HTTP/2 connection: the preface, settings and, with a header block, a call of stream 1.
fn http2_beginning(path: &str) -> Vec<u8> {
    let mut block = vec![0x83, 0x86, 0x41, 0x01, b'x', 0x04, u8::try_from(path.len()).unwrap()];
    block.extend_from_slice(path.as_bytes());
    block.extend_from_slice(&[0x0f, 0x10, 16]);
    block.extend_from_slice(b"application/grpc");
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    // Settings: a window per stream as large as there is; then as much for the connection.
    bytes.extend_from_slice(&[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff]);
    bytes.extend_from_slice(&[0, 0, 4, 8, 0, 0, 0, 0, 0, 0x7f, 0xff, 0, 0]);
    bytes.extend_from_slice(&[0, 0, u8::try_from(block.len()).unwrap(), 1, 0x5, 0, 0, 0, 1]);
    bytes.extend_from_slice(&block);
    bytes
}

#[tokio::test]
async fn a_client_that_says_nothing_and_one_that_never_reads_are_dropped_in_time() {
    let routes = std::future::ready(parts());
    let world = World::offering(Audience::Internal, 0, 0, Readiness::new(), routes).await;
    // The one reads and never answers a ping.
    let mut silent = TcpStream::connect(world.address).await.unwrap();
    silent.write_all(&http2_beginning("/other.Service/Method")).await.unwrap();
    let ended = async { while silent.read(&mut [0; 4096]).await.is_ok_and(|count| count > 0) {} };
    timeout(SILENCE * 3, ended).await.expect("the silent one is dropped");
    // The other is sent a stream without end and takes nothing of it.
    let mut full = TcpStream::connect(world.address).await.unwrap();
    full.write_all(&http2_beginning("/flaghoist.auth.v1.VerificationService/WatchRevocations")).await.unwrap();
    tokio::time::sleep(SILENCE * 3).await;
    // What its system holds for it is still there; after that there is an end.
    let mut read = 0;
    let ended = async {
        let mut buffer = vec![0; 1024 * 1024];
        loop {
            match full.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(count) => read += count,
            }
        }
    };
    timeout(SILENCE, ended).await.expect("the one that never reads is dropped");
    assert!(read > 64 * 1024, "it had been sent something: {read}");
}

#[tokio::test]
async fn calls_are_answered_with_their_caller_and_refused_without() {
    let world = World::new(0, 0).await;
    let mut sessions = SessionServiceClient::new(world.channel().await);
    let answer = sessions.list_sessions(world.authorized(ListSessionsRequest::default())).await.unwrap().into_inner();
    assert_eq!(answer.next_page_token, crate::names::UserId(uuid::Uuid::from_u128(1)).name());
    let refused = sessions.list_sessions(ListSessionsRequest::default()).await.unwrap_err();
    assert_eq!(crate::fault::reason_of(&refused), Some(crate::Reason::TokenMissing));
    let missing = sessions.revoke_session(world.authorized(RevokeSessionRequest::default())).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
}

#[tokio::test]
async fn a_panic_is_an_internal_error_and_the_connection_goes_on() {
    let world = World::new(0, 0).await;
    let mut tokens = TokenServiceClient::new(world.channel().await);
    let failed = tokens.issue_token(IssueTokenRequest::default()).await.unwrap_err();
    assert_eq!((failed.code(), failed.message()), (Code::Internal, "internal error"));
    assert!(tokens.introspect_token(IntrospectTokenRequest::default()).await.is_ok());
}

#[tokio::test]
async fn the_clients_address_is_the_peer_or_what_trusted_hops_say() {
    for (hops, expected) in [(0, "127.0.0.1"), (1, "2.2.2.2")] {
        let world = World::new(hops, 0).await;
        let mut tokens = TokenServiceClient::new(world.channel().await);
        let mut request = Request::new(IntrospectTokenRequest::default());
        request.metadata_mut().insert("x-forwarded-for", "1.1.1.1, 2.2.2.2".parse().unwrap());
        assert_eq!(tokens.introspect_token(request).await.unwrap().into_inner().sub, expected);
    }
}

#[tokio::test]
async fn browsers_are_served_over_http1_with_cors() {
    let world = World::new(0, 0).await;
    let answer =
        world.http1(&format!("POST /flaghoist.auth.v1.TokenService/IntrospectToken HTTP/1.1\r\n{WEB}"), EMPTY).await;
    let lower = answer.to_lowercase();
    assert!(lower.starts_with("http/1.1 200") && lower.contains("access-control-allow-origin: *"), "{answer}");
    assert!(
        lower.contains("access-control-expose-headers: grpc-status,grpc-message,grpc-status-details-bin"),
        "{answer}"
    );
    assert!(answer.contains("127.0.0.1") && answer.contains("grpc-status:0"), "{answer}");
    let preflight = world
        .http1(
            "OPTIONS /flaghoist.auth.v1.TokenService/IntrospectToken HTTP/1.1\r\nOrigin: https://app.example\r\n\
             Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization,x-grpc-web",
            b"",
        )
        .await
        .to_lowercase();
    assert!(preflight.starts_with("http/1.1 200"), "{preflight}");
    assert!(preflight.contains("access-control-allow-headers: authorization,x-grpc-web"), "{preflight}");
    let refused =
        world.http1(&format!("POST /flaghoist.auth.v1.SessionService/ListSessions HTTP/1.1\r\n{WEB}"), EMPTY).await;
    assert!(refused.contains("grpc-status: 16"), "{refused}");
    assert!(world.http1("GET / HTTP/1.1", b"").await.starts_with("HTTP/1.1 415"));
}

#[tokio::test]
async fn a_callers_deadline_is_kept_for_calls_and_streams() {
    let world = World::new(0, 0).await;
    let head = format!("POST /flaghoist.auth.v1.TokenService/RevokeToken HTTP/1.1\r\n{WEB}\r\ngrpc-timeout: 30m");
    let answer = world.http1(&head, EMPTY).await;
    assert!(answer.contains("grpc-status: 4"), "{answer}");
    let token = world.issuer.token(claims(json!({})));
    let head = format!(
        "POST /flaghoist.receiver.v1.ReceiverService/Subscribe HTTP/1.1\r\n{WEB}\r\nAuthorization: Bearer {token}"
    );
    let answer =
        timeout(Duration::from_secs(5), world.http1(&format!("{head}\r\ngrpc-timeout: 50m"), EMPTY)).await.unwrap();
    assert!(answer.contains("grpc-status:4"), "{answer}");
    assert!(
        timeout(Duration::from_millis(200), world.http1(&head, EMPTY)).await.is_err(),
        "else a stream just goes on"
    );
}

#[tokio::test]
async fn reflection_names_what_is_offered_and_knows_the_errors_details() {
    let world = World::new(0, 0).await;
    let mut client = ServerReflectionClient::new(world.channel().await);
    let ask =
        |what| tonic_reflection::pb::v1::ServerReflectionRequest { host: String::new(), message_request: Some(what) };
    let asked = [
        MessageRequest::ListServices(String::new()),
        MessageRequest::FileContainingSymbol("google.rpc.ErrorInfo".into()),
        MessageRequest::FileContainingSymbol(SERVICES[1].into()),
        MessageRequest::FileContainingSymbol("buf.validate.FieldRules".into()),
    ]
    .map(ask);
    let mut answers = client.server_reflection_info(tokio_stream::iter(asked)).await.unwrap().into_inner();
    let listed = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(listed) = listed else { panic!("{listed:?}") };
    let mut names = listed.service.into_iter().map(|service| service.name).collect::<Vec<_>>();
    names.retain(|name| name.starts_with("flaghoist."));
    names.sort();
    assert_eq!(names, [SERVICES[1], SERVICES[0]]);
    for _ in 0..3 {
        let found = answers.message().await.unwrap().unwrap().message_response.unwrap();
        assert!(matches!(found, MessageResponse::FileDescriptorResponse(_)), "{found:?}");
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_and_those_within_go_on() {
    let world = World::new(0, 1).await;
    let mut tokens = TokenServiceClient::new(world.channel().await);
    assert!(tokens.introspect_token(IntrospectTokenRequest::default()).await.is_ok());
    let mut refused = TcpStream::connect(world.address).await.unwrap();
    assert_eq!(refused.read(&mut [0; 16]).await.unwrap_or(0), 0);
    assert!(tokens.introspect_token(IntrospectTokenRequest::default()).await.is_ok());
    drop(tokens);
    let again = async {
        loop {
            let endpoint = Endpoint::from_shared(format!("http://{}", world.address)).unwrap();
            let mut tokens = TokenServiceClient::new(endpoint.connect_lazy());
            if tokens.introspect_token(IntrospectTokenRequest::default()).await.is_ok() {
                break;
            }
        }
    };
    timeout(Duration::from_secs(5), again).await.expect("a place that was given back is used again");
}

#[tokio::test]
async fn a_drain_takes_nothing_new_finishes_what_runs_and_ends_with_the_grace() {
    let world = World::new(0, 0).await;
    let channel = world.channel().await;
    let mut receiver = ReceiverServiceClient::new(channel.clone());
    let mut stream = receiver.subscribe(world.authorized(SubscribeRequest::default())).await.unwrap().into_inner();
    let running =
        tokio::spawn(async move { TokenServiceClient::new(channel).revoke_token(RevokeTokenRequest::default()).await });
    // The call is on its way once another one on the same connection could have been answered.
    tokio::time::sleep(Duration::from_millis(100)).await;
    world.trigger.start();
    assert!(running.await.unwrap().is_ok(), "a running call finishes");
    assert!(timeout(Duration::from_millis(50), stream.message()).await.is_err(), "a stream is left to its service");
    assert!(TcpStream::connect(world.address).await.is_err(), "new clients are refused");
    assert!(!world.server.is_finished());
    world.trigger.end();
    timeout(Duration::from_secs(5), world.server).await.expect("the grace is over").unwrap();
    assert!(timeout(Duration::from_secs(5), stream.message()).await.unwrap().is_err());
}

#[tokio::test]
async fn pages_are_served_over_http_and_end_with_the_drain() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (trigger, drain) = Drain::new();
    let router = axum::Router::new().route(
        "/",
        axum::routing::get(|request: axum::extract::Request| async move { client_address(&request, 0).to_string() }),
    );
    let server = tokio::spawn(serve_http(listener, router, drain));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = vec![0; 1024];
    let mut read = 0;
    while !String::from_utf8_lossy(&answer[..read]).contains("127.0.0.1") {
        let more = stream.read(&mut answer[read..]).await.unwrap();
        assert!(more > 0, "{}", String::from_utf8_lossy(&answer[..read]));
        read += more;
    }
    trigger.start();
    timeout(Duration::from_secs(5), server).await.expect("idle connections do not hold the drain up").unwrap();
}
