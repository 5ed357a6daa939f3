//! Browsers that are signed in to the account pages, without an issuer that would exchange a code: the test puts the session into the store
//! and signs its token. What is typed there costs and is limited like every other guess, and a full hash pool stops nothing else.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flaghoist_runtime::fault::Reason;
use flaghoist_runtime::names::UserId;
use flaghoist_runtime::server::ClientAddress;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use uuid::Uuid;

use super::guessing::occupy;
use super::known_browsers::known_by;
use super::pages::{Browser, FORM, Page, encoded};
use super::world::*;
use crate::relying_party::Tokens;

/// Longer than all guesses of a test take: none is free again meanwhile.
const DELAY: Duration = Duration::from_secs(60);

const NEW: &str = "other flowers in the sun";

/// How fast a refusal has to be at its fastest of a few: a machine may be busy, and the store's disk too.
const AT_ONCE: Duration = Duration::from_millis(50);

/// So many, and more than the guesses that are free: what is refused for want of room is no guess.
const TRIES: usize = 8;

/// A browser whose person is signed in to the account pages.
struct Member<'a> {
    world: &'a World,
    cookie: String,
    address: &'static str,
}

impl<'a> Member<'a> {
    /// Signs a person in with two factors, a moment ago.
    async fn of(world: &'a World, person: &Person) -> Self {
        let user = UserId::parse(&person.name()).unwrap();
        let key = Ed25519KeyPair::generate().unwrap();
        let x = URL_SAFE_NO_PAD.encode(key.public_key());
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "kid": "k1", "alg": "EdDSA", "use": "sig", "x": x});
        world.verifier.set_keys(&json!({ "keys": [jwk] }).to_string()).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let header = json!({"alg": "EdDSA", "typ": "at+jwt", "kid": "k1"});
        let claims = json!({
            "iss": ORIGIN, "sub": user.to_string(), "aud": ["flaghoist"], "iat": now, "exp": now + 300, "auth_time": now,
            "jti": Uuid::now_v7().to_string(), "sid": Uuid::now_v7().to_string(), "client_id": "flaghoist-account",
            "scope": "openid chat.read chat.send", "amr": ["pwd", "otp", "mfa"],
        });
        let signed = [header, claims].map(|part: Value| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
        let access_token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes())));
        let tokens = json!({
            "access_token": access_token, "refresh_token": "r", "id_token": "i", "expires_at": (now + 300) * 1000,
        });
        let tokens = Tokens::read(tokens.to_string().as_bytes()).unwrap();
        let secret = world.accounts.open_account_session(user, &tokens).await.unwrap();
        Self { world, cookie: format!("__Host-flaghoist-account={}", secret.text()), address: "192.0.2.1" }
    }

    /// The same cookie elsewhere: it was stolen.
    fn moved_to(&self, address: &'static str) -> Self {
        Self { world: self.world, cookie: self.cookie.clone(), address }
    }

    /// The same with another cookie.
    fn with_cookie(&self, cookie: &str) -> Self {
        Self { cookie: format!("{}; {cookie}", self.cookie), ..*self }
    }

    async fn sends(&self, mut request: Request<Body>) -> Page {
        request.extensions_mut().insert(ClientAddress(self.address.parse().unwrap()));
        request.headers_mut().insert("cookie", self.cookie.parse().unwrap());
        let (head, body) = self.world.pages.clone().oneshot(request).await.unwrap().into_parts();
        let body = String::from_utf8(to_bytes(body, usize::MAX).await.unwrap().to_vec()).unwrap();
        Page { status: head.status, headers: head.headers, body }
    }

    async fn looks_at(&self, path: &str) -> Page {
        self.sends(Request::get(path).body(Body::empty()).unwrap()).await
    }

    /// What proves that a form of this page is the browser's own.
    async fn form_of(&self, path: &str) -> String {
        token_in(&self.looks_at(path).await)
    }

    async fn posts(&self, path: &str, fields: &[(&str, &str)]) -> Page {
        let form: Vec<_> = fields.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        self.sends(Request::post(path).header("content-type", FORM).body(form.join("&").into()).unwrap()).await
    }
}

#[track_caller]
fn token_in(page: &Page) -> String {
    assert_eq!(page.status, StatusCode::OK, "{}", page.body);
    page.body.split("name=\"token\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
}

/// How long the page asks to wait before the next attempt.
#[track_caller]
fn seconds_to_wait(page: &Page) -> u64 {
    let said = page.headers.get("retry-after").unwrap_or_else(|| panic!("{}: {}", page.status, page.body));
    said.to_str().unwrap().parse().unwrap()
}

/// How many of the pages say that it was wrong, and how many that nothing more is looked at for now.
fn counted(pages: &[Page]) -> (usize, usize) {
    let (mut wrong, mut limited) = (0, 0);
    for page in pages {
        match page.status {
            StatusCode::UNPROCESSABLE_ENTITY => wrong += 1,
            StatusCode::TOO_MANY_REQUESTS => {
                assert!(seconds_to_wait(page) > 0);
                limited += 1;
            }
            status => panic!("{status}: {}", page.body),
        }
    }
    (wrong, limited)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_80_a_hundred_passwords_at_once_on_the_account_pages_are_five() {
    let world = World::with(|settings| settings.account_delay = DELAY).await;
    let alice = world.person("alice").await;
    let member = Member::of(&world, &alice).await;
    let thief = member.moved_to("198.51.100.7");
    let token = thief.form_of("/account/password").await;
    let begun = world.accounts.pool().begun();
    let guesses = (0..100).map(|number| {
        let (thief, token, guess) = (&thief, &token, format!("guess number {number}"));
        async move { thief.posts("/account/password", &[("token", token), ("current", &guess), ("new", NEW)]).await }
    });
    assert_eq!(counted(&join_all(guesses).await), (5, 95));
    assert_eq!(world.accounts.pool().begun(), begun + 5, "nothing else was hashed");
    // The right one is not looked at either, and it is the same count as over gRPC.
    let right = [("token", token.as_str()), ("current", PASSWORD), ("new", NEW)];
    assert_eq!(counted(&[thief.posts("/account/password", &right).await]), (0, 1));
    assert_eq!(reason(alice.moved_to("198.51.100.7").change_password(PASSWORD, NEW).await), Reason::RateLimited);
    assert_eq!(world.accounts.pool().begun(), begun + 5);
    // Case 81: its owner still may, from where they have signed in before.
    let done = member.posts("/account/password", &right).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.body);
}

#[tokio::test]
async fn case_81_a_known_browser_changes_the_password_in_the_very_network_that_hammers() {
    let world = World::with(|settings| settings.account_delay = DELAY).await;
    let alice = world.person("alice").await;
    let browser = Browser::comes(&world, "c1").await;
    let known = known_by(&browser.signs_in_from("203.0.113.9", "alice", PASSWORD, "x=y").await);
    for _ in 0..8 {
        let _refused = world.at("198.51.100.7").login("alice", "guess").await.unwrap_err();
    }
    let unknown = Member::of(&world, &alice).await.moved_to("198.51.100.7");
    let token = unknown.form_of("/account/password").await;
    let change = [("token", token.as_str()), ("current", PASSWORD), ("new", NEW)];
    assert_eq!(counted(&[unknown.posts("/account/password", &change).await]), (0, 1));
    let done = unknown.with_cookie(&known).posts("/account/password", &change).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_80_a_hundred_codes_at_once_for_an_authenticator_are_five() {
    let world = World::with(|settings| settings.account_delay = DELAY).await;
    let alice = world.person("alice").await;
    let member = Member::of(&world, &alice).await;
    let thief = member.moved_to("198.51.100.7");
    let app = App::with(&alice.enroll().await.unwrap().secret);
    let token = thief.form_of("/account/authenticator").await;
    let shown = [-2, -1, 0, 1, 2].map(|steps| app.code(steps));
    let begun = world.accounts.pool().begun();
    let guesses = (0..).map(|number| format!("{number:06}")).filter(|guess| !shown.contains(guess)).take(100);
    let guesses = guesses.map(|guess| {
        let (thief, token) = (&thief, &token);
        async move { thief.posts("/account/authenticator", &[("token", token), ("code", &guess)]).await }
    });
    assert_eq!(counted(&join_all(guesses).await), (5, 95));
    let right = [("token", token.as_str()), ("code", shown[2].as_str())];
    assert_eq!(counted(&[thief.posts("/account/authenticator", &right).await]), (0, 1), "nor is the right one");
    assert_eq!(world.accounts.pool().begun(), begun, "a code costs no hash");
    assert!(alice.factors().await.totp.is_none(), "nothing was enrolled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_96_a_full_hash_pool_refuses_on_every_page_at_once_and_no_other_page_waits() {
    let world = World::with(|settings| (settings.hash_threads, settings.hash_queue) = (1, 1)).await;
    let alice = world.person("alice").await;
    alice.reached_at(&world, "alice@example.com").await;
    alice.forgot("alice@example.com").await.unwrap();
    let link = world.link("alice@example.com", 2).await;
    let member = Member::of(&world, &alice).await;
    let token = member.form_of("/account/password").await;
    let browser = Browser::comes(&world, "c1").await;
    let reset = member.looks_at(&format!("/reset?token={link}")).await;
    let visitor = reset.headers["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let visitor = Member { world: &world, cookie: visitor, address: "192.0.2.1" };
    let reset = token_in(&reset);

    let (release, occupied) = occupy(&world).await;
    let waiting = tokio::spawn({
        let alice = alice.clone();
        async move { alice.login("alice", PASSWORD).await }
    });
    eventually("a full queue", async || world.accounts.pool().place().is_err()).await;
    // Whatever is answered from here on was answered while the only thread is occupied.
    let mut fastest = [Duration::MAX; 3];
    for _ in 0..TRIES {
        for (way, fastest) in fastest.iter_mut().enumerate() {
            let began = Instant::now();
            let page = match way {
                0 => browser.types("alice", PASSWORD).await,
                1 => {
                    let fields = [("link", link.as_str()), ("token", &reset), ("password", NEW), ("code", "")];
                    visitor.posts("/reset", &fields).await
                }
                _ => {
                    let fields = [("token", token.as_str()), ("current", PASSWORD), ("new", NEW)];
                    member.posts("/account/password", &fields).await
                }
            };
            *fastest = began.elapsed().min(*fastest);
            assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE, "{way}: {}", page.body);
            assert!(seconds_to_wait(&page) > 0 && !page.body.contains(PASSWORD), "{}", page.body);
        }
    }
    assert!(fastest.iter().all(|time| *time < AT_ONCE), "{fastest:?}");
    for path in
        ["/account", "/account/security", "/account/password", "/account/authenticator", "/reset", "/login/keys.js"]
    {
        let mut fastest = Duration::MAX;
        for _ in 0..TRIES {
            let began = Instant::now();
            assert_eq!(member.looks_at(path).await.status, StatusCode::OK, "{path}");
            fastest = fastest.min(began.elapsed());
        }
        assert!(fastest < AT_ONCE, "{path}: {fastest:?}");
    }
    drop(release);
    occupied.await.unwrap();
    waiting.await.unwrap().unwrap();
    // Nobody's attempt was spent, and the link is as good as it was.
    let fields = [("link", link.as_str()), ("token", &reset), ("password", NEW), ("code", "")];
    let done = visitor.posts("/reset", &fields).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.body);
    world.at("192.0.2.1").login("alice", NEW).await.unwrap();
}
