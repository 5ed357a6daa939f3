//! Signing in by a browser, over the two services that take part in it: the issuer's endpoints, login's page, and the application that
//! wants to know who someone is.

use std::collections::BTreeMap;

use flaghoist_proto::auth::v1::{CreateClientRequest, ListConsentsRequest, Registration, RevokeConsentRequest};
use flaghoist_proto::login::v1::ChangePasswordRequest;
use flaghoist_tests::http1::{self, Answer, escape};
use flaghoist_tests::{PASSWORD, request_id as unique};
use futures_util::future::join_all;
use serde_json::Value;

use crate::prelude::*;

pub(crate) const ISSUER: &str = "http://localhost:8080";
const HERE: &str = "https://wiki.example.com/cb";
/// The example of RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// An application that people sign in to.
struct App {
    id: String,
}

/// A browser with its cookies.
pub(crate) struct Browser {
    world: World,
    cookies: BTreeMap<String, String>,
}

pub(crate) fn form(parameters: &[(&str, &str)]) -> String {
    let pairs: Vec<_> = parameters.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
    pairs.join("&")
}

/// A parameter of the address that an answer leads to.
#[track_caller]
fn parameter(answer: &Answer, name: &str) -> Option<String> {
    assert_eq!(answer.status, 303, "{}", answer.text());
    let (_, query) = answer.header("location").split_once('?')?;
    let value = query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}=")))?;
    Some(value.replace('+', " ").replace("%3A", ":").replace("%2F", "/"))
}

/// The value of a hidden field.
#[track_caller]
pub(crate) fn field(page: &Answer, name: &str) -> String {
    let text = page.text();
    let value = text.split(&format!("name=\"{name}\" value=\"")).nth(1).unwrap_or_else(|| panic!("no {name}: {text}"));
    value.split('"').next().expect("it ends").to_owned()
}

impl App {
    /// Registers one; people are asked for their consent unless it is the installation's own.
    async fn registered(world: &World, first_party: bool) -> Self {
        let registration = Registration {
            redirect_uris: vec![HERE.into()],
            post_logout_redirect_uris: vec!["https://wiki.example.com/bye".into()],
            first_party,
            ..Registration::default()
        };
        let request = CreateClientRequest {
            display_name: "Wiki".into(),
            scopes: ["openid", "profile", "email", "offline_access", "chat.read"].map(str::to_owned).to_vec(),
            registration: Some(registration),
            ..CreateClientRequest::default()
        };
        let admin = world.admin("admin").await;
        let made = admin.calls().clients().create_client(request).await.expect("an admin may").into_inner();
        let name = made.client.expect("the client").name;
        Self { id: name.strip_prefix("clients/").expect("its name").to_owned() }
    }

    /// A good request of it.
    fn request<'a>(&'a self, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        self.asks_for("openid profile chat.read", more)
    }

    /// A good request for a scope.
    fn asks_for<'a>(&'a self, scope: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let mut parameters = vec![
            ("client_id", self.id.as_str()),
            ("response_type", "code"),
            ("redirect_uri", HERE),
            ("scope", scope),
            ("state", "st"),
            ("nonce", "n"),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
        ];
        parameters.extend(more);
        parameters
    }

    async fn redeems(&self, world: &World, code: &str) -> Answer {
        let form = [
            ("grant_type", "authorization_code"),
            ("client_id", self.id.as_str()),
            ("code", code),
            ("redirect_uri", HERE),
            ("code_verifier", VERIFIER),
        ];
        http1::post_form(world.http(), "/oauth2/token", &[], &form).await
    }

    async fn refreshes(&self, world: &World, token: &Value) -> Answer {
        let token = token.as_str().expect("a refresh token");
        let form = [("grant_type", "refresh_token"), ("client_id", &self.id), ("refresh_token", token)];
        http1::post_form(world.http(), "/oauth2/token", &[], &form).await
    }
}

impl Browser {
    pub(crate) fn new(world: &World) -> Self {
        Self { world: world.clone(), cookies: BTreeMap::new() }
    }

    pub(crate) async fn send(&mut self, method: &str, address: &str, body: &str) -> Answer {
        let path = address.strip_prefix(ISSUER).unwrap_or(address);
        let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let cookies = cookies.join("; ");
        let mut headers = vec![("cookie", cookies.as_str())];
        if method == "POST" {
            headers.push(("content-type", "application/x-www-form-urlencoded"));
        }
        let answer = http1::request(self.world.http(), method, path, &headers, body.as_bytes()).await;
        let answer = answer.expect("the server answers");
        for (_, set) in answer.headers.iter().filter(|(name, _)| name == "set-cookie") {
            let pair = set.split(';').next().expect("a cookie");
            let (name, value) = pair.split_once('=').expect("a cookie");
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        answer
    }

    pub(crate) async fn get(&mut self, address: &str) -> Answer {
        self.send("GET", address, "").await
    }

    async fn authorize(&mut self, parameters: &[(&str, &str)]) -> Answer {
        self.get(&format!("/oauth2/authorize?{}", form(parameters))).await
    }

    /// Types handle and password into the page that an answer leads to.
    pub(crate) async fn types(&mut self, to_login: &Answer, handle: &str, password: &str) -> Answer {
        let page = self.get(to_login.header("location")).await;
        assert_eq!(page.status, 200, "{}", page.text());
        let (challenge, token) = (field(&page, "login_challenge"), field(&page, "token"));
        let typed = [
            ("login_challenge", challenge.as_str()),
            ("token", &token),
            ("handle", handle),
            ("password", password),
            ("decision", "sign_in"),
        ];
        self.send("POST", "/login", &form(&typed)).await
    }

    /// Signs in for the application and comes back to wherever that leads.
    async fn signs_in(&mut self, app: &App, person: &Person) -> Answer {
        self.signs_in_by(app.request(&[]), person).await
    }

    async fn signs_in_by(&mut self, request: Vec<(&str, &str)>, person: &Person) -> Answer {
        let to_login = self.authorize(&request).await;
        assert!(to_login.header("location").starts_with(&format!("{ISSUER}/login?")), "{to_login:?}");
        let on = self.types(&to_login, &person.handle, PASSWORD).await;
        assert_eq!(on.status, 303, "{}", on.text());
        self.get(on.header("location")).await
    }
}

/// What the token endpoint gives an application that a person has signed in to.
pub(crate) async fn tokens(world: &World, person: &Person) -> Value {
    let app = App::registered(world, true).await;
    let back = Browser::new(world).signs_in(&app, person).await;
    app.redeems(world, &parameter(&back, "code").expect("a code")).await.json()
}

/// What an application may know of a person.
pub(crate) struct Userinfo {
    world: World,
    bearer: String,
}

impl Userinfo {
    pub(crate) async fn ask(&self) -> Value {
        let headers = [("authorization", self.bearer.as_str())];
        http1::request(self.world.http(), "GET", "/userinfo", &headers, b"").await.expect("an answer").json()
    }
}

/// Has a person sign in to an application that asks for a scope.
pub(crate) async fn userinfo(world: &World, person: &Person, scope: &str) -> Userinfo {
    let app = App::registered(world, true).await;
    let back = Browser::new(world).signs_in_by(app.asks_for(scope, &[]), person).await;
    let tokens = app.redeems(world, &parameter(&back, "code").expect("a code")).await.json();
    let bearer = format!("Bearer {}", tokens["access_token"].as_str().unwrap_or_default());
    Userinfo { world: world.clone(), bearer }
}

#[tokio::test]
async fn a_person_signs_in_to_an_application_with_the_password_of_the_chat() {
    let world = World::shared().await;
    let (bob, app) = (world.person("bob").await, App::registered(&world, true).await);
    let mut browser = Browser::new(&world);
    let back = browser.signs_in(&app, &bob).await;
    assert!(back.header("location").starts_with(HERE));
    assert_eq!((parameter(&back, "iss").as_deref(), parameter(&back, "state").as_deref()), (Some(ISSUER), Some("st")));
    let tokens = app.redeems(&world, &parameter(&back, "code").expect("a code")).await;
    assert_eq!((tokens.status, tokens.header("cache-control")), (200, "no-store"), "{}", tokens.text());
    let tokens = tokens.json();
    let access = tokens["access_token"].as_str().expect("an access token");
    world.with_token(access).whoami().await.expect("the API takes it");
    let bearer = format!("Bearer {access}");
    let said = http1::request(world.http(), "GET", "/userinfo", &[("authorization", &bearer)], b"").await;
    let said = said.expect("an answer").json();
    assert_eq!((&said["sub"], &said["preferred_username"]), (&bob.id().into(), &bob.handle.as_str().into()));
    let id_token = flaghoist_tests::forge::Parts::of(tokens["id_token"].as_str().expect("an ID token"));
    assert_eq!((&id_token.header["alg"], &id_token.claims["sub"]), (&"RS256".into(), &bob.id().into()));
    let keys = http1::get(world.http(), "/oauth2/jwks").await.json();
    let keys = keys["keys"].as_array().expect("keys");
    assert!(keys.iter().any(|key| key["kid"] == id_token.header["kid"] && key["kty"] == "RSA"));
    // Case 69: an ID token opens nothing.
    let wrong = world.with_token(tokens["id_token"].as_str().expect("it")).whoami().await;
    assert!(wrong.is_err());
    let refreshed = app.refreshes(&world, &tokens["refresh_token"]).await;
    assert_eq!(refreshed.status, 200, "{}", refreshed.text());
    // Signed in once, in whichever pod.
    let again = browser.authorize(&app.request(&[("prompt", "none")])).await;
    assert!(parameter(&again, "code").is_some());
}

#[tokio::test]
async fn case_22_and_23_a_sign_in_is_finished_once_and_in_its_own_browser() {
    let world = World::shared().await;
    let (bob, app) = (world.person("bob").await, App::registered(&world, true).await);
    let (mut attacker, mut victim) = (Browser::new(&world), Browser::new(&world));
    let to_login = attacker.authorize(&app.request(&[])).await;
    // The page alone is not bound; what follows it is.
    let on = victim.types(&to_login, &bob.handle, PASSWORD).await;
    assert_eq!(victim.get(on.header("location")).await.status, 403);
    assert_eq!(attacker.get(on.header("location")).await.status, 403, "the request is unusable");
    assert_eq!(victim.get(to_login.header("location")).await.status, 403, "the challenge is answered");
    let to_login = victim.authorize(&app.request(&[])).await;
    let page = victim.get(to_login.header("location")).await;
    let (challenge, token) = (field(&page, "login_challenge"), field(&page, "token"));
    let typed =
        [("login_challenge", challenge.as_str()), ("token", &token), ("handle", &bob.handle), ("password", PASSWORD)];
    let forged = Browser::new(&world).send("POST", "/login", &form(&typed)).await;
    assert_eq!(forged.status, 403, "without the cookie");
}

#[tokio::test]
async fn case_1_2_and_21_nobody_is_sent_where_nobody_is_trusted() {
    let world = World::shared().await;
    let app = App::registered(&world, true).await;
    let mut browser = Browser::new(&world);
    let evil = [("client_id", app.id.as_str()), ("redirect_uri", "https://evil.test/")];
    for bad in [&evil[..], &[("client_id", "nobody")], &[]] {
        let page = browser.authorize(bad).await;
        assert_eq!(page.status, 400);
        assert!(page.header("content-type").starts_with("text/html"), "{page:?}");
        assert!(page.header("content-security-policy").contains("frame-ancestors 'none'"));
        assert_eq!((page.header("referrer-policy"), page.header("location")), ("no-referrer", ""));
    }
    let told = browser.authorize(&app.request(&[("prompt", "none")])).await;
    assert_eq!(parameter(&told, "error").as_deref(), Some("login_required"));
    assert_eq!(parameter(&told, "iss").as_deref(), Some(ISSUER));
}

#[tokio::test]
async fn case_32_and_33_a_code_is_good_once_however_many_bring_it_and_a_replay_takes_back_what_it_gave() {
    let world = World::shared().await;
    let (bob, app) = (world.person("bob").await, App::registered(&world, true).await);
    let mut browser = Browser::new(&world);
    let back = browser.signs_in(&app, &bob).await;
    let code = parameter(&back, "code").expect("a code");
    let all = join_all((0..50).map(|_| app.redeems(&world, &code))).await;
    let good: Vec<_> = all.iter().filter(|answer| answer.status == 200).collect();
    assert_eq!(good.len(), 1);
    for refused in all.iter().filter(|answer| answer.status != 200) {
        assert_eq!((refused.status, &refused.json()["error"]), (400, &"invalid_grant".into()), "{}", refused.text());
    }
    let refresh = app.refreshes(&world, &good[0].json()["refresh_token"]).await;
    assert_eq!((refresh.status, &refresh.json()["error"]), (400, &"invalid_grant".into()));
    let access = good[0].json()["access_token"].as_str().expect("a token").to_owned();
    eventually("the access token is dead", async || world.with_token(&*access).whoami().await.err().map(drop)).await;
}

#[tokio::test]
async fn case_32_a_code_stays_used_over_a_restart() {
    let world = World::start().await;
    let (bob, app) = (world.person("bob").await, App::registered(&world, true).await);
    let back = Browser::new(&world).signs_in(&app, &bob).await;
    let code = parameter(&back, "code").expect("a code");
    let tokens = app.redeems(&world, &code).await;
    assert_eq!(tokens.status, 200, "{}", tokens.text());
    world.kill().await;
    world.start_again().await;
    let again = app.redeems(&world, &code).await;
    assert_eq!((again.status, &again.json()["error"]), (400, &"invalid_grant".into()), "{}", again.text());
    let refresh = app.refreshes(&world, &tokens.json()["refresh_token"]).await;
    assert_eq!(refresh.status, 400, "the replay ended what the code gave");
}

#[tokio::test]
async fn case_15_consent_is_asked_for_remembered_and_taken_back() {
    let world = World::shared().await;
    let (bob, app) = (world.person("bob").await, App::registered(&world, false).await);
    let mut browser = Browser::new(&world);
    let question = browser.signs_in(&app, &bob).await;
    assert_eq!(question.status, 200, "{}", question.text());
    let challenge = field(&question, "login_challenge");
    let answer = form(&[("login_challenge", &challenge), ("decision", "allow")]);
    let back = browser.send("POST", "/oauth2/consent", &answer).await;
    let tokens = app.redeems(&world, &parameter(&back, "code").expect("a code")).await.json();
    let silent = browser.authorize(&app.request(&[("prompt", "none")])).await;
    assert!(parameter(&silent, "code").is_some());
    let listed = bob.calls().consents().list_consents(ListConsentsRequest::default()).await.expect("listed");
    let name = listed.into_inner().consents.remove(0).name;
    bob.calls().consents().revoke_consent(RevokeConsentRequest { name }).await.expect("taken back");
    let asked = browser.authorize(&app.request(&[("prompt", "none")])).await;
    assert_eq!(parameter(&asked, "error").as_deref(), Some("consent_required"));
    assert_eq!(app.refreshes(&world, &tokens["refresh_token"]).await.status, 400);
}

#[tokio::test]
async fn case_40_a_new_password_signs_every_browser_out() {
    let world = World::shared().await;
    let (bob, app) = (world.person("bob").await, App::registered(&world, true).await);
    let mut browser = Browser::new(&world);
    let back = browser.signs_in(&app, &bob).await;
    let code = parameter(&back, "code").expect("a code");
    let new = format!("{} {}", unique(), unique());
    let change = ChangePasswordRequest { current_password: PASSWORD.into(), new_password: new.clone() };
    bob.calls().credentials().change_password(change).await.expect("changed");
    assert_eq!(app.redeems(&world, &code).await.status, 400, "a code from before is worth nothing");
    let out = browser.authorize(&app.request(&[("prompt", "none")])).await;
    assert_eq!(parameter(&out, "error").as_deref(), Some("login_required"));
    let to_login = browser.authorize(&app.request(&[])).await;
    assert_eq!(browser.types(&to_login, &bob.handle, PASSWORD).await.status, 422);
    let to_login = browser.authorize(&app.request(&[])).await;
    assert_eq!(browser.types(&to_login, &bob.handle, &new).await.status, 303);
}

#[tokio::test]
async fn case_18_and_64_pushing_a_request_and_signing_out() {
    let world = World::shared().await;
    let (bob, app) = (world.person("bob").await, App::registered(&world, true).await);
    let mut browser = Browser::new(&world);
    let pushed = http1::post_form(world.http(), "/oauth2/par", &[], &app.request(&[])).await;
    assert_eq!(pushed.status, 201, "{}", pushed.text());
    let name = pushed.json()["request_uri"].as_str().expect("a name").to_owned();
    let by_name = [("client_id", app.id.as_str()), ("request_uri", &name)];
    let to_login = browser.authorize(&by_name).await;
    let on = browser.types(&to_login, &bob.handle, PASSWORD).await;
    let back = browser.get(on.header("location")).await;
    let tokens = app.redeems(&world, &parameter(&back, "code").expect("a code")).await.json();
    assert_eq!(browser.authorize(&by_name).await.status, 400, "good once");
    let hint = tokens["id_token"].as_str().expect("an ID token");
    let logout =
        |to: &str| format!("/oauth2/logout?{}", form(&[("id_token_hint", hint), ("post_logout_redirect_uri", to)]));
    assert_eq!(browser.get(&logout("https://evil.test/")).await.status, 400);
    let bye = browser.get(&logout("https://wiki.example.com/bye")).await;
    assert_eq!((bye.status, bye.header("location")), (303, "https://wiki.example.com/bye"));
    assert_eq!(app.refreshes(&world, &tokens["refresh_token"]).await.status, 400);
    let out = browser.authorize(&app.request(&[("prompt", "none")])).await;
    assert_eq!(parameter(&out, "error").as_deref(), Some("login_required"));
}
