//! Contacts on the account page, by a browser that is signed in to it.

use std::time::{Duration, SystemTime};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use axum::body::Body;
use axum::http::{Request, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flaghoist_runtime::names::UserId;
use flaghoist_runtime::time::millis;
use serde_json::json;
use uuid::Uuid;

use super::pages::{FORM, Page, encoded, send};
use super::world::*;
use crate::relying_party::{CLIENT_ID, Tokens};

/// A browser that is signed in.
#[derive(Clone)]
pub(super) struct Visitor<'a> {
    world: &'a World,
    cookie: String,
    /// What the forms of this browser carry.
    pub(super) token: String,
    /// The session that its tokens are of.
    pub(super) session: String,
}

impl<'a> Visitor<'a> {
    /// Someone who has signed in so long ago, with an access token for so long; and the keys of the issuer that they have it of.
    pub(super) async fn comes(world: &'a World, person: &Person, ago: Duration, good_for: Duration) -> (Self, String) {
        let key = Ed25519KeyPair::generate().unwrap();
        let x = URL_SAFE_NO_PAD.encode(key.public_key());
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "kid": "k", "alg": "EdDSA", "use": "sig", "x": x});
        let user = UserId(person.name().strip_prefix("users/").unwrap().parse().unwrap());
        let now = millis(SystemTime::now()) / 1000;
        let ends = now + i64::try_from(good_for.as_secs()).unwrap();
        let session = Uuid::now_v7().to_string();
        let claims = json!({
            "iss": ORIGIN, "sub": user.to_string(), "aud": ["flaghoist"], "exp": ends, "iat": now,
            "jti": Uuid::now_v7().to_string(), "client_id": CLIENT_ID, "scope": "openid chat.read chat.send",
            "sid": session, "auth_time": now - i64::try_from(ago.as_secs()).unwrap(), "amr": ["pwd"],
        });
        let header = json!({"alg": "EdDSA", "typ": "at+jwt", "kid": "k"});
        let signed = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
        let access_token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes())));
        let tokens = json!({
            "access_token": access_token, "refresh_token": "r", "id_token": "i", "expires_at": ends * 1000,
        });
        let tokens = Tokens::read(tokens.to_string().as_bytes()).unwrap();
        let secret = world.accounts.open_account_session(user, &tokens).await.unwrap();
        let cookie = format!("__Host-flaghoist-account={}", secret.text());
        let visitor = Self { world, cookie, token: String::new(), session };
        (visitor, json!({"keys": [jwk]}).to_string())
    }

    /// The same, once this pod has fetched the keys.
    pub(super) async fn is(world: &'a World, person: &Person, ago: Duration) -> Self {
        let (mut visitor, keys) = Self::comes(world, person, ago, Duration::from_secs(300)).await;
        world.verifier.set_keys(&keys).unwrap();
        let page = visitor.looks("/account").await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.body);
        page.body
            .split("name=\"token\" value=\"")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap()
            .clone_into(&mut visitor.token);
        visitor
    }

    pub(super) async fn looks(&self, path: &str) -> Page {
        send(self.world, Request::get(path).header("cookie", &self.cookie).body(Body::empty()).unwrap()).await
    }

    async fn posts(&self, decision: &str, kind: &str, more: &[(&str, &str)]) -> Page {
        self.sends("/account", &[&[("decision", decision), ("kind", kind)], more].concat()).await
    }

    /// Sends a form of a page.
    pub(super) async fn sends(&self, path: &str, fields: &[(&str, &str)]) -> Page {
        let fields = [&[("token", self.token.as_str())], fields].concat();
        let form: Vec<_> = fields.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let request = Request::post(path).header("content-type", FORM).header("cookie", &self.cookie);
        send(self.world, request.body(form.join("&").into()).unwrap()).await
    }

    /// Where a form leads that was taken, and what is said there.
    pub(super) async fn done(&self, page: Page) -> String {
        assert_eq!(page.status, StatusCode::SEE_OTHER, "{}", page.body);
        self.looks(page.headers["location"].to_str().unwrap()).await.body
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_has_yet_to_fetch_the_keys_signs_nobody_out() {
    let world = World::new().await;
    let (visitor, keys) =
        Visitor::comes(&world, &world.person("alice").await, Duration::ZERO, Duration::from_secs(300)).await;
    for _ in 0..2 {
        assert_eq!(visitor.looks("/account").await.status, StatusCode::SERVICE_UNAVAILABLE);
    }
    world.verifier.set_keys(&keys).unwrap();
    assert_eq!(visitor.looks("/account").await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contacts_are_set_verified_changed_and_removed_on_the_page() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let visitor = Visitor::is(&world, &alice, Duration::ZERO).await;
    for (kind, address, next) in
        [("email", "alice@example.com", "alice@example.org"), ("phone", "+49301234567", "+49301234568")]
    {
        let sent = visitor.done(visitor.posts("set_contact", kind, &[("value", address)]).await).await;
        assert!(sent.contains("A code is on its way") && sent.contains("not verified yet"), "{sent}");
        let code = world.code(address, 1).await;
        let wrong = if code == "00000000" { "00000001" } else { "00000000" };
        for wrong in [wrong, "", "<b>"] {
            let refused = visitor.posts("verify_contact", kind, &[("code", wrong)]).await;
            assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
            assert!(refused.body.contains("This code is wrong") && refused.body.contains("not verified yet"));
        }
        let shown = format!("{} {}", &code[..4], &code[4..]);
        let verified = visitor.done(visitor.posts("verify_contact", kind, &[("code", &shown)]).await).await;
        let has = |page: &str, address: &str| page.contains(&format!("{address} <span class=\"tag good\">"));
        assert!(has(&verified, address) && !verified.contains("not verified yet"), "{verified}");
        // The next one waits beside it.
        let both = visitor.done(visitor.posts("set_contact", kind, &[("value", next)]).await).await;
        assert!(has(&both, address) && both.contains("not verified yet"), "{both}");
        let removed = visitor.done(visitor.posts("remove_contact", kind, &[]).await).await;
        assert!(removed.contains("Removed.") && !has(&removed, address), "{removed}");
    }
    assert!(alice.get("").await.unwrap().contacts.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_contact_is_said_to_be_none_and_messages_are_limited() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let visitor = Visitor::is(&world, &alice, Duration::ZERO).await;
    for (kind, typed, why) in [("email", "\"><b>", "not an email address"), ("phone", "030123", "not a phone number")] {
        let refused = visitor.posts("set_contact", kind, &[("value", typed)]).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(refused.body.contains(why) && !refused.body.contains("<b>"), "{}", refused.body);
    }
    for _ in 0..5 {
        let sent = visitor.posts("set_contact", "email", &[("value", "alice@example.com")]).await;
        assert_eq!(sent.status, StatusCode::SEE_OTHER);
    }
    let limited = visitor.posts("set_contact", "email", &[("value", "alice@example.com")]).await;
    assert_eq!(limited.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(limited.headers.contains_key("retry-after"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_22_a_contact_is_changed_by_a_form_of_this_browser_after_a_sign_in_of_the_last_minutes() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let address = [("value", "alice@example.com")];
    let visitor = Visitor::is(&world, &alice, Duration::ZERO).await;
    let other = Visitor::is(&world, &world.person("bob").await, Duration::ZERO).await;
    let forged = Visitor { token: visitor.token, ..other };
    assert_eq!(forged.posts("set_contact", "email", &address).await.status, StatusCode::FORBIDDEN);
    let stale = Visitor::is(&world, &alice, Duration::from_secs(601)).await;
    for decision in ["set_contact", "remove_contact"] {
        let anew = stale.posts(decision, "email", &address).await;
        assert_eq!(anew.status, StatusCode::SEE_OTHER);
        let to = anew.headers["location"].to_str().unwrap();
        assert!(to.contains("/oauth2/authorize?") && to.contains("prompt=login"), "{to}");
    }
    assert!(world.letters("alice@example.com").is_empty());
}
