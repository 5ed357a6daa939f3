//! The page on which people sign in by a browser.

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use flaghoist_runtime::server::ClientAddress;
use tower::ServiceExt as _;

use super::world::*;

pub(super) const FORM: &str = "application/x-www-form-urlencoded";

/// A page or a redirect.
pub(super) struct Page {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

/// A browser that came with a challenge, with the cookie and the token of the form it was shown.
pub(super) struct Browser<'a> {
    pub(super) world: &'a World,
    pub(super) challenge: &'static str,
    pub(super) cookie: String,
    pub(super) token: String,
}

pub(super) async fn send(world: &World, request: Request<Body>) -> Page {
    send_from(world, request, "192.0.2.1").await
}

pub(super) async fn send_from(world: &World, mut request: Request<Body>, address: &str) -> Page {
    request.extensions_mut().insert(ClientAddress(address.parse().unwrap()));
    let (head, body) = world.pages.clone().oneshot(request).await.unwrap().into_parts();
    let body = String::from_utf8(to_bytes(body, usize::MAX).await.unwrap().to_vec()).unwrap();
    Page { status: head.status, headers: head.headers, body }
}

pub(super) fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

impl<'a> Browser<'a> {
    pub(super) async fn comes(world: &'a World, challenge: &'static str) -> Self {
        world.issuer.challenge(challenge);
        let page = Self::look(world, challenge).await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.body);
        let set = page.headers["set-cookie"].to_str().unwrap();
        assert!(set.starts_with("__Host-") && set.contains("; Path=/; Secure; HttpOnly; SameSite=Lax"), "{set}");
        let cookie = set.split(';').next().unwrap().to_owned();
        let token = page.body.split("name=\"token\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        Self { world, challenge, cookie, token }
    }

    pub(super) async fn look(world: &World, challenge: &str) -> Page {
        let request = Request::get(format!("/login?login_challenge={challenge}"));
        send(world, request.body(Body::empty()).unwrap()).await
    }

    pub(super) async fn types(&self, handle: &str, password: &str) -> Page {
        self.answers(handle, password, "sign_in").await
    }

    async fn answers(&self, handle: &str, password: &str, decision: &str) -> Page {
        self.posts(&[("handle", handle), ("password", password), ("decision", decision)]).await
    }

    /// Types a code into the form of the second step.
    async fn types_code(&self, login: &str, code: &str) -> Page {
        self.posts(&[("login", login), ("code", code), ("decision", "sign_in")]).await
    }

    pub(super) async fn posts(&self, typed: &[(&str, &str)]) -> Page {
        let fields = [&[("login_challenge", self.challenge), ("token", self.token.as_str())], typed].concat();
        let form: Vec<_> = fields.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let request = Request::post("/login").header("content-type", FORM).header("cookie", &self.cookie);
        send(self.world, request.body(form.join("&").into()).unwrap()).await
    }
}

#[tokio::test]
async fn a_person_signs_in_and_goes_on() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let browser = Browser::comes(&world, "c1").await;
    let on = browser.types(" Alice", PASSWORD).await;
    assert_eq!(on.status, StatusCode::SEE_OTHER, "{}", on.body);
    assert_eq!(on.headers["location"], "http://localhost:8080/oauth2/continue?login_challenge=c1");
    assert_eq!(
        (on.headers["cache-control"].as_bytes(), on.headers["referrer-policy"].as_bytes()),
        (&b"no-store"[..], &b"no-referrer"[..])
    );
    let accepted = world.issuer.accepted();
    let said = &accepted[0];
    assert_eq!(
        (said.user.as_str(), said.handle.as_str(), said.amr.join(" ").as_str()),
        (alice.name().as_str(), "alice", "pwd")
    );
    assert!(said.auth_time.is_some() && said.display_name == "alice");
    // Case 23: what was answered is over, also for the form that is still open in another tab.
    let again = browser.types("alice", PASSWORD).await;
    assert_eq!(again.status, StatusCode::FORBIDDEN);
    assert_eq!(Browser::look(&world, "c1").await.status, StatusCode::FORBIDDEN);
}

/// The login that the form of the second step names.
pub(super) fn login_in(page: &Page) -> String {
    let named = page.body.split("name=\"login\" value=\"").nth(1);
    named.unwrap_or_else(|| panic!("{}", page.body)).split('"').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_second_factor_is_asked_for_on_the_page_and_the_issuer_is_told() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let (app, codes) = alice.with_app().await;
    let browser = Browser::comes(&world, "c1").await;
    let page = browser.types("alice", PASSWORD).await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.body.contains("Wiki &#60;script&#62;") && !page.body.contains("<script"), "{}", page.body);
    assert!(!page.body.contains(PASSWORD) && page.body.contains("one-time-code"));
    assert!(world.issuer.accepted().is_empty(), "the password alone is not enough");
    let login = login_in(&page);
    let wrong = browser.types_code(&login, "nothing like a code").await;
    assert_eq!((wrong.status, login_in(&wrong)), (StatusCode::UNPROCESSABLE_ENTITY, login.clone()));
    let code = app.code(0);
    let spaced = format!(" {} {} ", &code[..3], &code[3..]);
    let on = browser.types_code(&login, &spaced).await;
    assert_eq!(on.status, StatusCode::SEE_OTHER, "{}", on.body);
    let accepted = world.issuer.accepted();
    assert_eq!((accepted[0].user.clone(), accepted[0].amr.join(" ")), (alice.name(), "pwd otp mfa".to_owned()));
    // A recovery code does as well.
    let browser = Browser::comes(&world, "c2").await;
    let login = login_in(&browser.types("alice", PASSWORD).await);
    assert_eq!(browser.types_code(&login, &codes[0].to_uppercase()).await.status, StatusCode::SEE_OTHER);
    // And who changes their mind goes back.
    let browser = Browser::comes(&world, "c3").await;
    let login = login_in(&browser.types("alice", PASSWORD).await);
    let back = browser.posts(&[("login", &login), ("decision", "cancel")]).await;
    assert_eq!((back.status, world.issuer.accepted().len()), (StatusCode::SEE_OTHER, 2));
}

#[tokio::test]
async fn case_85_a_second_step_on_the_page_belongs_to_its_browser_its_request_and_its_password() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let mallory = world.person("mallory").await;
    let (app, _) = alice.with_app().await;
    let (her_app, _) = mallory.with_app().await;
    let browser = Browser::comes(&world, "c1").await;
    let login = login_in(&browser.types("alice", PASSWORD).await);
    // Another browser, with its own request and with this one, and another request of the same browser.
    let other = Browser::comes(&world, "c2").await;
    let token = {
        let page = send(
            &world,
            Request::get("/login?login_challenge=c1").header("cookie", &other.cookie).body(Body::empty()).unwrap(),
        );
        page.await.body.split("name=\"token\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
    };
    let planted = Browser { world: &world, challenge: "c1", cookie: other.cookie.clone(), token };
    for elsewhere in [&other, &planted] {
        let again = elsewhere.types_code(&login, &app.code(0)).await;
        assert_eq!(again.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(again.body.contains("Sign in once more") && again.body.contains("name=\"password\""), "{}", again.body);
    }
    // A login that was begun by gRPC is not finished here, nor this one there.
    let by_grpc = alice.half_signed_in("alice").await;
    assert_eq!(browser.types_code(&by_grpc, &app.code(0)).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(reason(alice.totp(&login, &app.code(0)).await), flaghoist_runtime::fault::Reason::LoginOver);
    // Another's factor is none of this account.
    let wrong = browser.types_code(&login, &her_app.code(0)).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(world.issuer.accepted().is_empty());
    // The password changes between the steps.
    alice.change_password(PASSWORD, "other flowers in the sun").await.unwrap();
    let again = browser.types_code(&login, &app.code(0)).await;
    assert!(again.body.contains("Sign in once more"), "{}", again.body);
    assert!(world.issuer.accepted().is_empty());
}

#[tokio::test]
async fn case_80_guessing_codes_on_the_page_is_limited_with_every_other_way() {
    let world = World::with(|settings| settings.account_free = 3).await;
    let alice = world.person("alice").await;
    let (app, _) = alice.with_app().await;
    let browser = Browser::comes(&world, "c1").await;
    let login = login_in(&browser.types("alice", PASSWORD).await);
    let wrong =
        (0..).map(|number| format!("{number:06}")).find(|code| ![-1, 0, 1].map(|step| app.code(step)).contains(code));
    let wrong = wrong.unwrap();
    for _ in 0..3 {
        assert_eq!(browser.types_code(&login, &wrong).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    }
    let limited = browser.types_code(&login, &app.code(0)).await;
    assert_eq!((limited.status, login_in(&limited)), (StatusCode::TOO_MANY_REQUESTS, login));
    assert!(limited.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() > 0);
    let by_grpc = alice.half_signed_in("alice").await;
    assert_eq!(reason(alice.totp(&by_grpc, &app.code(0)).await), flaghoist_runtime::fault::Reason::RateLimited);
}

#[tokio::test]
async fn case_22_a_form_that_was_not_made_for_this_browser_is_refused() {
    let world = World::new().await;
    world.person("alice").await;
    let browser = Browser::comes(&world, "c1").await;
    let other = Browser::comes(&world, "c2").await;
    let without = Browser { cookie: "x=y".into(), ..Browser::comes(&world, "c3").await };
    let swapped = Browser { token: other.token.clone(), ..Browser::comes(&world, "c4").await };
    let planted =
        Browser { cookie: other.cookie.clone(), challenge: "c1", world: &world, token: browser.token.clone() };
    for forged in [without, swapped, planted] {
        assert_eq!(forged.types("alice", PASSWORD).await.status, StatusCode::FORBIDDEN);
    }
    assert!(world.issuer.accepted().is_empty());
    assert_eq!(browser.types("alice", PASSWORD).await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn case_75_and_80_guessing_on_the_page_is_answered_alike_and_limited_with_every_other_way() {
    let world = World::with(|settings| settings.account_free = 3).await;
    let root = world.admin("root").await;
    world.person("alice").await;
    let carol = world.person("carol").await;
    root.set_disabled(&carol.name(), true).await.unwrap();
    let browser = Browser::comes(&world, "c1").await;
    let mut shown = std::collections::BTreeSet::new();
    for (handle, password) in
        [("alice", "wrong"), ("nobody", PASSWORD), ("carol", PASSWORD), ("n\u{f6}t a handle", "x")]
    {
        let page = browser.types(handle, password).await;
        assert_eq!(page.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(!page.body.contains(PASSWORD));
        shown.insert(page.body.replace(&format!("value=\"{handle}\""), ""));
    }
    assert_eq!(shown.len(), 1);
    for _ in 0..3 {
        browser.types("alice", "wrong").await;
    }
    let limited = browser.types("alice", PASSWORD).await;
    assert_eq!(limited.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(limited.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() > 0);
    let over_grpc = world.at("192.0.2.1").login("alice", PASSWORD).await;
    assert_eq!(reason(over_grpc), flaghoist_runtime::fault::Reason::RateLimited, "one count for all ways");
}

#[tokio::test]
async fn case_76_a_form_that_is_too_large_is_not_read() {
    let world = World::new().await;
    let browser = Browser::comes(&world, "c1").await;
    let huge = browser.types("alice", &"x".repeat(1024 * 1024)).await;
    assert_eq!(huge.status, StatusCode::PAYLOAD_TOO_LARGE);
    let long = browser.types("alice", &"x".repeat(1025)).await;
    assert_eq!(long.status, StatusCode::UNPROCESSABLE_ENTITY);
    for (kind, body) in [("application/json", "{}"), (FORM, "login_challenge=%zz&token=%ff")] {
        let request = Request::post("/login").header("content-type", kind).body(Body::from(body)).unwrap();
        assert!(send(&world, request).await.status.is_client_error());
    }
    let other = Request::builder().method("PUT").uri("/login").body(Body::empty()).unwrap();
    assert_eq!(send(&world, other).await.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn case_21_and_25_nothing_from_outside_becomes_part_of_the_page() {
    let world = World::new().await;
    world.issuer.challenge("c1");
    let page = Browser::look(&world, "c1").await;
    let scripts: Vec<_> = page.body.match_indices("<script").map(|(at, _)| &page.body[at..at + 28]).collect();
    assert_eq!(scripts, ["<script src=\"/login/keys.js\""], "{}", page.body);
    assert!(page.body.contains("Wiki &#60;script&#62;") && !page.body.contains("bob\"><b>"), "{}", page.body);
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("frame-ancestors 'none'") && policy.contains("https://wiki.example.com"), "{policy}");
    for unknown in ["", "unknown", "%3Cb%3E"] {
        let page = Browser::look(&world, unknown).await;
        assert_eq!(page.status, StatusCode::FORBIDDEN);
        assert!(!page.body.contains("<b>"));
    }
}

#[tokio::test]
async fn who_does_not_want_to_goes_back_without_a_password() {
    let world = World::new().await;
    let browser = Browser::comes(&world, "c1").await;
    let back = browser.answers("", "", "cancel").await;
    assert_eq!(back.status, StatusCode::SEE_OTHER);
    assert!(world.issuer.accepted().is_empty());
}

#[tokio::test]
async fn while_the_issuer_is_away_the_page_says_so() {
    let world = World::new().await;
    world.person("alice").await;
    let browser = Browser::comes(&world, "c1").await;
    world.issuer.set_down(true);
    let away = browser.types("alice", PASSWORD).await;
    assert_eq!(away.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(away.headers.contains_key("retry-after"));
    world.issuer.set_down(false);
    assert_eq!(browser.types("alice", PASSWORD).await.status, StatusCode::SEE_OTHER);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_96_a_full_hash_pool_is_said_on_the_page_and_the_form_is_good_once_there_is_room() {
    let world = World::new().await;
    world.person("alice").await;
    let browser = Browser::comes(&world, "c1").await;
    let held: Vec<_> = std::iter::from_fn(|| world.accounts.pool().place().ok()).collect();
    for handle in ["alice", "nobody"] {
        let full = browser.types(handle, PASSWORD).await;
        assert_eq!(full.status, StatusCode::SERVICE_UNAVAILABLE, "{}", full.body);
        assert!(full.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() > 0);
    }
    // The page itself needs no hash.
    assert_eq!(Browser::look(&world, "c1").await.status, StatusCode::OK);
    drop(held);
    assert_eq!(browser.types("alice", PASSWORD).await.status, StatusCode::SEE_OTHER);
}
