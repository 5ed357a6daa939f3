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
async fn who_signs_out_is_signed_out_of_every_client_of_that_browser_and_all_are_told() {
    let world = World::new().await;
    let bye = "https://app.example.com/bye";
    let hearing = [Hearing::start().await, Hearing::start().await, Hearing::start().await];
    for (id, hearing) in ["wiki", "mail", "sync"].into_iter().zip(&hearing) {
        let registration = Registration { post_logout_redirect_uris: vec![bye.into()], ..hearing.registration() };
        world.app(id, false, registration).await;
    }
    let user = somebody();
    let mut browser = Browser::default();
    let redeem = async |id: &str, page: Page| {
        world.redeem(credentials(id, ""), &page.parameter("code").unwrap(), VERIFIER).await.unwrap()
    };
    let mail = redeem("mail", browser.signs_in(&world, "mail", user).await).await;
    // Signed in anew in between, and nobody has to sign in again for what follows.
    let again = browser.authorize(&world, &but("wiki", &[("prompt", "login")])).await;
    let wiki = redeem("wiki", browser.continues(&world, &again, user).await).await;
    let offline = but("sync", &[("scope", "openid offline_access")]);
    let sync = redeem("sync", browser.authorize(&world, &offline).await).await;
    let elsewhere = redeem("wiki", Browser::default().signs_in(&world, "wiki", user).await).await;
    let asked = [("id_token_hint", wiki.id_token.as_str()), ("post_logout_redirect_uri", bye)];
    let out = browser.get(&world, &format!("/oauth2/logout?{}", encoded(&asked))).await;
    assert_eq!(out.location(), bye);
    for (tokens, hearing) in [&wiki, &mail, &sync].into_iter().zip([&hearing[0], &hearing[1], &hearing[2]]) {
        hearing.hears(1).await;
        assert_eq!(claims(&hearing.tokens()[0])["sid"], claims(&tokens.id_token)["sid"]);
    }
    for (id, tokens) in [("wiki", wiki), ("mail", mail)] {
        let refreshed = world.refresh_as(credentials(id, ""), &tokens.refresh_token, "").await;
        refused(refreshed, Code::Unauthenticated, Reason::GrantInvalid);
    }
    for (id, tokens) in [("wiki", elsewhere), ("sync", sync)] {
        world.refresh_as(credentials(id, ""), &tokens.refresh_token, "").await.unwrap();
    }
}

#[tokio::test]
async fn a_client_that_is_slow_holds_up_no_other() {
    let world = World::with(Settings { sessions_max: 100, ..Settings::default() }).await;
    let slow = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    // The system takes the connections, and nobody ever answers.
    let address = format!("http://{}/bye", slow.local_addr().unwrap());
    world.app("slow", false, Registration { backchannel_logout_uri: address, ..first_party() }).await;
    let hearing = Hearing::start().await;
    world.app("wiki", false, hearing.registration()).await;
    let (user, other) = (somebody(), somebody());
    for _ in 0..50 {
        world.try_sign_in(user, "slow", &["openid"]).await.unwrap();
    }
    let end = async |user: UserId| {
        let all = RevokeSubjectSessionsRequest { user: user.name(), except_session: String::new() };
        world.subjects().revoke_subject_sessions(all).await.unwrap();
    };
    end(user).await;
    let (_connection, _) = slow.accept().await.unwrap();
    world.try_sign_in(other, "wiki", &["openid"]).await.unwrap();
    let ended_at = std::time::Instant::now();
    end(other).await;
    hearing.hears(1).await;
    assert!(ended_at.elapsed() < Duration::from_secs(6), "the slow one has ten seconds");
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
