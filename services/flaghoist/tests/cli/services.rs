//! The four services as processes of their own: they find one another, ask for the credential, and tell the truth about what they
//! are missing.

use flaghoist_proto::auth::v1::subject_service_client::SubjectServiceClient;
use flaghoist_proto::auth::v1::token_service_client::TokenServiceClient;
use flaghoist_proto::auth::v1::verification_service_client::VerificationServiceClient;
use flaghoist_proto::auth::v1::{CreateSessionRequest, GetJwksRequest, IntrospectTokenRequest};
use flaghoist_runtime::access::Credential;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::pods::{SERVICES, Site, get};
use crate::stage::{Server, flaghoist, stderr, within_patience};
use crate::talk::Person;

// More than one thread: waiting for a process must not keep connections from ending that nobody needs any more.
#[tokio::test(flavor = "multi_thread")]
async fn four_processes_hold_a_conversation_and_stop_without_a_loss() {
    let site = Site::new();
    let mut pods = site.starts_all(&[]);
    let (alice, bob) = (Person::registers(&site, "alice").await, Person::registers(&site, "bob").await);
    let mut bobs = bob.listens(&site).await;
    alice.sends(&site, &bob, "over four processes").await.unwrap();
    bobs.hears("over four processes").await;
    drop(bobs);
    for service in SERVICES {
        let pod = pods.get_mut(service).unwrap();
        assert_eq!(pod.stops().code(), Some(0), "{service}: {}", pod.log());
        assert!(pod.log().contains("stopped"), "{service}: {}", pod.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_internal_port_is_for_services_that_show_the_credential() {
    let site = Site::new();
    let _auth = site.starts("auth", &[]);
    within_patience(|| site.ready("auth").starts_with("HTTP/1.1 200").then_some(()));
    let channel = site.channel("auth", "internal");
    let credential = Credential::read(&site.folder.path().join("credential")).unwrap();
    let mut keys = VerificationServiceClient::new(channel.clone());
    let stranger = keys.get_jwks(GetJwksRequest {}).await.unwrap_err();
    assert_eq!(stranger.code(), Code::Unauthenticated);
    let shows = |name: &str| credential.of(name).unwrap().to_str().unwrap().parse().unwrap();
    let mut request = Request::new(GetJwksRequest {});
    request.metadata_mut().insert("authorization", shows("send"));
    assert!(keys.get_jwks(request).await.unwrap().into_inner().jwks.contains("keys"));
    let mut request = Request::new(CreateSessionRequest::default());
    request.metadata_mut().insert("authorization", shows("send"));
    let denied = SubjectServiceClient::new(channel.clone()).create_session(request).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied, "it is for login only");
    let public = TokenServiceClient::new(channel).introspect_token(IntrospectTokenRequest::default()).await;
    assert_eq!(public.unwrap_err().code(), Code::PermissionDenied);
    let outside = VerificationServiceClient::new(site.channel("auth", "grpc")).get_jwks(GetJwksRequest {}).await;
    assert_eq!(outside.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_jwks_has_a_port_with_nothing_else() {
    let site = Site::new();
    let _auth = site.starts("auth", &[]);
    within_patience(|| site.ready("auth").starts_with("HTTP/1.1 200").then_some(()));
    let answer = |port, path| get(site.address("auth", port), path).unwrap();
    for port in ["http", "jwks"] {
        let jwks = answer(port, "/oauth2/jwks");
        assert!(jwks.starts_with("HTTP/1.1 200") && jwks.contains("\"keys\""), "{port}: {jwks}");
    }
    assert!(answer("http", "/.well-known/openid-configuration").starts_with("HTTP/1.1 200"));
    for path in ["/.well-known/openid-configuration", "/oauth2/token", "/healthz", "/"] {
        assert!(answer("jwks", path).starts_with("HTTP/1.1 404"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_says_what_it_waits_for_and_a_peer_that_goes_does_not_take_it_along() {
    let site = Site::new();
    let mut login = site.starts("login", &[]);
    let alive = || get(site.address("login", "metrics"), "/livez").is_some_and(|answer| answer.contains("200 OK"));
    within_patience(|| alive().then_some(()));
    within_patience(|| site.ready("login").contains("waiting for token keys").then_some(()));
    within_patience(|| login.log().contains("peer does not answer").then_some(()));
    within_patience(|| login.log().contains("waiting_for=[\"token keys\"]").then_some(()));
    let healthy = || serves(&site, "login", "flaghoist.login.v1.LoginService");
    assert!(!healthy().await);

    let mut auth = site.starts("auth", &[]);
    within_patience(|| site.ready("login").starts_with("HTTP/1.1 200").then_some(()));
    assert!(healthy().await);
    Person::registers(&site, "alice").await;

    auth.process.kill().unwrap();
    auth.process.wait().unwrap();
    let lost = Person::signs_in(&site, "alice", |request| request).await.unwrap_err();
    assert_eq!(lost.code(), Code::Unavailable, "{lost:?}");
    assert!(site.ready("login").starts_with("HTTP/1.1 200") && alive());
    assert!(healthy().await);
    let _again = site.starts("auth", &[]);
    within_patience(|| site.ready("auth").starts_with("HTTP/1.1 200").then_some(()));
    Person::signs_in(&site, "alice", |request| request).await.unwrap();
    assert_eq!(login.stops().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_its_database_is_alive_not_ready_and_stops_when_told() {
    let site = Site::new();
    let key = site.folder.path().join("key");
    std::fs::write(&key, [7; 32]).unwrap();
    let mut auth = site.starts(
        "auth",
        &[
            ("FLAGHOIST_AUTH_STORE", "postgres://auth:hidden@127.0.0.1:1/flaghoist"),
            ("FLAGHOIST_AUTH_SECRET_FILE", key.to_str().unwrap()),
        ],
    );
    within_patience(|| site.ready("auth").contains("waiting for auth").then_some(()));
    within_patience(|| auth.log().contains("waiting for PostgreSQL").then_some(()));
    assert!(get(site.address("auth", "metrics"), "/livez").unwrap().contains("200 OK"));
    assert!(!serves(&site, "auth", "flaghoist.auth.v1.TokenService").await);
    assert!(!auth.log().contains("hidden"), "{}", auth.log());
    assert!(!site.folder.path().join("data").exists(), "it needs no folder");
    assert_eq!(auth.stops().code(), Some(0));
}

#[test]
fn a_data_folder_that_a_single_service_uses_is_refused_to_others_with_its_pid() {
    let site = Site::new();
    let data = site.folder.path().join("data");
    // A server was there before and has left its pid.
    let mut before = Server::start(&data, &[]);
    before.signal(rustix::process::Signal::TERM);
    assert_eq!(before.ends().code(), Some(0));
    let mut send = site.starts("send", &[]);
    within_patience(|| get(site.address("send", "metrics"), "/livez").map(drop));
    for command in [&["serve"][..], &["admin", "restored"]] {
        let refused = flaghoist().args(command).arg("--data").arg(&data).output().unwrap();
        assert_eq!(refused.status.code(), Some(73), "{command:?}: {}", stderr(&refused));
        let who = format!("in use by process {} (send):", send.process.id());
        assert!(stderr(&refused).contains(&who), "{command:?}: {}", stderr(&refused));
    }
    assert_eq!(send.stops().code(), Some(0));
}

#[test]
fn a_service_with_settings_that_cannot_be_used_ends_with_64() {
    let output = flaghoist()
        .args(["service", "send", "--grpc-addr", "nowhere"])
        .env("FLAGHOIST_SEND_LOGIN_ADDR", "https://login:9001")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64));
    for part in ["--grpc-addr", "FLAGHOIST_SEND_LOGIN_ADDR"] {
        assert!(stderr(&output).contains(part), "{part} is missing: {}", stderr(&output));
    }
}

/// Whether a proto service says that it may be called.
async fn serves(site: &Site, service: &'static str, proto_service: &str) -> bool {
    let mut health = HealthClient::new(site.channel(service, "grpc"));
    let request = HealthCheckRequest { service: proto_service.to_owned() };
    health.check(request).await.unwrap().into_inner().status() == ServingStatus::Serving
}
