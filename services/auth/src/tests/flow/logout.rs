//! Clients that are told of the ends of sessions, over a connection of their own (OpenID Connect Back-Channel Logout 1.0).

use std::sync::atomic::{AtomicU16, Ordering};

use axum::Router;
use axum::routing::post;
use parking_lot::Mutex;

use super::*;

/// An application that hears of logouts.
#[derive(Clone)]
struct Hearing {
    address: String,
    heard: Arc<Mutex<Vec<String>>>,
    /// What it answers.
    status: Arc<AtomicU16>,
}

impl Hearing {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/bye", listener.local_addr().unwrap());
        let hearing = Self { address, heard: Arc::default(), status: Arc::new(AtomicU16::new(200)) };
        let it = hearing.clone();
        let hear = post(move |body: String| async move {
            it.heard.lock().push(body);
            StatusCode::from_u16(it.status.load(Ordering::Relaxed)).unwrap()
        });
        let router = Router::new().route("/bye", hear);
        tokio::spawn(async move { axum::serve(listener, router).await });
        hearing
    }

    fn registration(&self) -> Registration {
        Registration { backchannel_logout_uri: self.address.clone(), ..first_party() }
    }

    /// The logout tokens so far.
    fn tokens(&self) -> Vec<String> {
        let heard = self.heard.lock();
        heard.iter().map(|body| body.strip_prefix("logout_token=").unwrap().to_owned()).collect()
    }

    async fn hears(&self, count: usize) {
        let enough = async || self.tokens().len() >= count;
        eventually("it is told", Duration::from_secs(10), enough).await;
        assert_eq!(self.tokens().len(), count);
    }
}

#[tokio::test]
async fn a_client_is_told_when_its_session_ends() {
    let world = World::new().await;
    let hearing = Hearing::start().await;
    world.app("wiki", false, hearing.registration()).await;
    let user = somebody();
    let tokens = world.redeem(credentials("wiki", ""), &world.code("wiki", user).await, VERIFIER).await.unwrap();
    world.revoke(credentials("wiki", ""), &tokens.refresh_token).await.unwrap();
    hearing.hears(1).await;
    let token = hearing.tokens().remove(0);
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    assert_eq!((&header["typ"], &header["alg"]), (&"logout+jwt".into(), &"RS256".into()));
    let said = claims(&token);
    assert_eq!((&said["iss"], &said["aud"], &said["sub"]), (&ISSUER.into(), &"wiki".into(), &user.to_string().into()));
    assert_eq!(said["sid"], claims(&tokens.id_token)["sid"]);
    assert!(said["events"]["http://schemas.openid.net/event/backchannel-logout"].is_object());
    assert!(said.get("nonce").is_none() && said["jti"].is_string() && said["exp"].as_i64() > said["iat"].as_i64());
    // It is none of the tokens that it could be taken for.
    assert!(world.context.verifier.verify(&token).is_err());
    assert!(world.issuer.hint(&token).unwrap().is_none());
}

#[tokio::test]
async fn a_client_that_was_away_is_told_later_also_after_a_restart() {
    let mut world = World::new().await;
    let hearing = Hearing::start().await;
    world.app("wiki", false, hearing.registration()).await;
    let code = world.code("wiki", somebody()).await;
    let tokens = world.redeem(credentials("wiki", ""), &code, VERIFIER).await.unwrap();
    hearing.status.store(503, Ordering::Relaxed);
    world.revoke(credentials("wiki", ""), &tokens.refresh_token).await.unwrap();
    hearing.hears(1).await;
    hearing.status.store(204, Ordering::Relaxed);
    world = world.restarted().await;
    world.wait(Duration::from_secs(31));
    hearing.hears(2).await;
    let [first, second] = [0, 1].map(|at| claims(&hearing.tokens()[at]));
    assert!(first["sid"] == second["sid"] && first["jti"] != second["jti"]);
    world.wait(Duration::from_secs(100_000));
    assert!(!world.issuer.tell_of_logouts().await.unwrap());
    assert_eq!(hearing.tokens().len(), 2, "it was told");
}

#[tokio::test]
async fn a_client_that_never_answers_is_given_up() {
    let world = World::new().await;
    let hearing = Hearing::start().await;
    hearing.status.store(400, Ordering::Relaxed);
    world.app("wiki", false, hearing.registration()).await;
    let code = world.code("wiki", somebody()).await;
    let tokens = world.redeem(credentials("wiki", ""), &code, VERIFIER).await.unwrap();
    world.revoke(credentials("wiki", ""), &tokens.refresh_token).await.unwrap();
    for tries in 1..=8 {
        hearing.hears(tries).await;
        world.wait(Duration::from_secs(30 << tries));
    }
    world.wait(Duration::from_secs(1_000_000));
    world.issuer.tell_of_logouts().await.unwrap();
    assert_eq!(hearing.tokens().len(), 8);
}

#[tokio::test]
async fn a_client_that_is_away_is_not_tried_for_each_of_its_sessions() {
    let world = World::with(Settings { sessions_max: 100, ..Settings::default() }).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/bye", listener.local_addr().unwrap());
    world.app("away", false, Registration { backchannel_logout_uri: address, ..first_party() }).await;
    let calls = Arc::new(AtomicU16::new(0));
    let counted = calls.clone();
    tokio::spawn(async move {
        // Somebody takes the connection, and says nothing.
        while let Ok((connection, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            drop(connection);
        }
    });
    let user = somebody();
    for _ in 0..30 {
        world.try_sign_in(user, "away", &["openid"]).await.unwrap();
    }
    let all = RevokeSubjectSessionsRequest { user: user.name(), except_session: String::new() };
    world.subjects().revoke_subject_sessions(all).await.unwrap();
    let tried = async || calls.load(Ordering::Relaxed) >= 20;
    eventually("it is tried", Duration::from_secs(10), tried).await;
    while world.issuer.tell_of_logouts().await.unwrap() {}
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(calls.load(Ordering::Relaxed), 20, "the other ten wait as well");
    world.wait(Duration::from_secs(61));
    let tried = async || calls.load(Ordering::Relaxed) > 20;
    eventually("it is tried again", Duration::from_secs(10), tried).await;
}

#[tokio::test]
async fn only_addresses_that_nobody_reads_along_with_are_registered() {
    let world = World::new().await;
    let admin = world.admin().await;
    for bad in ["http://app.example.com/bye", "https://app.example.com/bye#x", "ftp://app.example.com/", "/bye"] {
        let registration = Registration { backchannel_logout_uri: bad.into(), ..web() };
        let request = CreateClientRequest {
            display_name: "x".into(),
            registration: Some(registration),
            ..CreateClientRequest::default()
        };
        let answer = world.clients(&admin).create_client(request).await;
        refused(answer, Code::InvalidArgument, Reason::FieldViolation);
    }
}
