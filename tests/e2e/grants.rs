//! Further ways to tokens: a device whose person signs in by a browser elsewhere, and a program that signs in place of keeping a secret.

use flaghoist_proto::auth::v1::issue_token_request::Grant;
use flaghoist_proto::auth::v1::{
    AuthorizeDeviceRequest, AuthorizeDeviceResponse, ClientCredentials, CreateClientRequest,
    CreateRegistrationTokenRequest, DeviceCodeGrant, ListConsentsRequest, Registration, RevokeConsentRequest, TokenSet,
};
use flaghoist_tests::forge::{Key, Parts};
use flaghoist_tests::http1::{self, Answer};
use flaghoist_tests::{PASSWORD, cli_asks, request_id as unique};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::prelude::*;
use crate::sign_in::{Browser, ISSUER, field, form};

const EXCHANGE_GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

async fn codes(world: &World) -> AuthorizeDeviceResponse {
    let client = ClientCredentials { client_id: "flaghoist-cli".into(), ..ClientCredentials::default() };
    let request = AuthorizeDeviceRequest { client: Some(client), scope: "chat.read chat.send".into() };
    world.anonymous().tokens().authorize_device(request).await.expect("anyone may").into_inner()
}

async fn polls(world: &World, device_code: &str) -> Result<TokenSet, Status> {
    let grant = Grant::DeviceCode(DeviceCodeGrant { device_code: device_code.into() });
    let answer = world.anonymous().tokens().issue_token(cli_asks(grant)).await?;
    Ok(answer.into_inner().tokens.expect("tokens"))
}

/// Types the code, signs in, and comes to the question.
async fn asked(browser: &mut Browser, person: &Person, address: &str) -> Answer {
    let page = browser.get(address).await;
    let typed = [("token", field(&page, "token")), ("user_code", field(&page, "user_code"))];
    let typed = typed.each_ref().map(|(name, value)| (*name, value.as_str()));
    let to_login = browser.send("POST", "/device", &form(&typed)).await;
    let on = browser.types(&to_login, &person.handle, PASSWORD).await;
    browser.get(on.header("location")).await
}

async fn answers(browser: &mut Browser, question: &Answer, decision: &str) -> Answer {
    let challenge = field(question, "login_challenge");
    browser.send("POST", "/oauth2/consent", &form(&[("login_challenge", &challenge), ("decision", decision)])).await
}

/// Registers an application that is a device, and has a person connect it; answers its id and its tokens.
async fn connected(world: &World, person: &Person, scope: &str, registration: Registration) -> (String, Value) {
    let request = CreateClientRequest {
        display_name: "Television".into(),
        scopes: vec![scope.into()],
        registration: Some(registration),
        ..CreateClientRequest::default()
    };
    let admin = world.admin("admin").await;
    let made = admin.calls().clients().create_client(request).await.expect("an admin may").into_inner();
    let id = made.client.expect("the client").name.replace("clients/", "");
    let begun = http1::post_form(world.http(), "/oauth2/device_authorization", &[], &[("client_id", &id)]).await.json();
    let mut browser = Browser::new(world);
    let complete = begun["verification_uri_complete"].as_str().expect("an address");
    let question = asked(&mut browser, person, complete).await;
    answers(&mut browser, &question, "allow").await;
    let code = begun["device_code"].as_str().expect("a code");
    let asks = [("grant_type", DEVICE_GRANT), ("client_id", id.as_str()), ("device_code", code)];
    let tokens = http1::post_form(world.http(), "/oauth2/token", &[], &asks).await;
    assert_eq!(tokens.status, 200, "{}", tokens.text());
    (id, tokens.json())
}

#[tokio::test]
async fn a_device_without_a_browser_is_signed_in_from_another() {
    let world = World::shared().await;
    let bob = world.person("bob").await;
    let codes = codes(&world).await;
    refused(polls(&world, &codes.device_code).await, Code::FailedPrecondition, Reason::AuthorizationPending);
    let mut browser = Browser::new(&world);
    let question = asked(&mut browser, &bob, &codes.verification_uri_complete).await;
    assert!(question.text().contains(&codes.user_code), "{}", question.text());
    let done = answers(&mut browser, &question, "allow").await;
    assert!(done.text().contains("The device is connected"), "{}", done.text());
    let all = join_all((0..20).map(|_| polls(&world, &codes.device_code))).await;
    let good: Vec<_> = all.into_iter().filter_map(Result::ok).collect();
    assert_eq!(good.len(), 1, "case 33: it is good once");
    // And the others, who could have been a thief, have ended what it gave.
    let access = good[0].access_token.clone();
    eventually("the tokens are dead", async || world.with_token(&*access).whoami().await.err().map(drop)).await;
}

#[tokio::test]
async fn a_device_writes_as_the_person_who_agreed() {
    let world = World::shared().await;
    let bob = world.person("bob").await;
    let codes = codes(&world).await;
    let mut browser = Browser::new(&world);
    let question = asked(&mut browser, &bob, &codes.verification_uri_complete).await;
    answers(&mut browser, &question, "allow").await;
    let tokens = polls(&world, &codes.device_code).await.expect("it was allowed");
    let account = world.with_token(&*tokens.access_token).whoami().await.expect("the API takes it");
    assert_eq!(account.handle, bob.handle);
}

#[tokio::test]
async fn case_53_54_and_55_what_a_device_and_its_person_are_refused() {
    let world = World::shared().await;
    let registration = Registration { grant_types: vec![DEVICE_GRANT.into()], ..Registration::default() };
    let request = CreateClientRequest {
        display_name: "Television".into(),
        scopes: vec!["openid".into(), "chat.read".into()],
        registration: Some(registration),
        ..CreateClientRequest::default()
    };
    let admin = world.admin("admin").await;
    let made = admin.calls().clients().create_client(request).await.expect("an admin may").into_inner();
    let id = made.client.expect("the client").name.replace("clients/", "");
    let begun = http1::post_form(world.http(), "/oauth2/device_authorization", &[], &[("client_id", &id)]).await.json();
    let (code, complete) = (begun["device_code"].as_str(), begun["verification_uri_complete"].as_str());
    let (code, complete) = (code.expect("a code").to_owned(), complete.expect("an address").to_owned());
    let says = async |client_id: &str, code: &str| {
        let asked = [("grant_type", DEVICE_GRANT), ("client_id", client_id), ("device_code", code)];
        let answer = http1::post_form(world.http(), "/oauth2/token", &[], &asked).await;
        assert_eq!((answer.status, answer.header("cache-control")), (400, "no-store"));
        answer.json()["error"].as_str().expect("an error").to_owned()
    };
    assert_eq!(says(&id, &code).await, "authorization_pending");
    assert_eq!(says(&id, &code).await, "slow_down");
    assert_eq!(says("flaghoist-cli", &code).await, "invalid_grant");
    assert_eq!(says(&id, &unique()).await, "invalid_grant");
    let bob = world.person("bob").await;
    let mut browser = Browser::new(&world);
    let question = asked(&mut browser, &bob, &complete).await;
    answers(&mut browser, &question, "deny").await;
    assert_eq!(says(&id, &code).await, "access_denied");
    let mut guesser = Browser::new(&world);
    let page = guesser.get("/device").await;
    let guess = form(&[("token", &field(&page, "token")), ("user_code", "BCDF-GHJK")]);
    let mut last = 0;
    for _ in 0..6 {
        last = guesser.send("POST", "/device", &guess).await.status;
    }
    assert_eq!(last, 429);
}

#[tokio::test]
async fn a_consent_that_is_taken_back_ends_the_device_that_it_let_in() {
    let world = World::shared().await;
    let registration =
        Registration { grant_types: vec![DEVICE_GRANT.into(), "refresh_token".into()], ..Registration::default() };
    let bob = world.person("bob").await;
    let (id, tokens) = connected(&world, &bob, "chat.read", registration).await;
    let refresh_token = tokens["refresh_token"].as_str().expect("a token");
    let listed = bob.calls().consents().list_consents(ListConsentsRequest::default()).await.expect("listed");
    let name = listed.into_inner().consents.remove(0).name;
    bob.calls().consents().revoke_consent(RevokeConsentRequest { name }).await.expect("taken back");
    let refresh = [("grant_type", "refresh_token"), ("client_id", &id), ("refresh_token", refresh_token)];
    let answer = http1::post_form(world.http(), "/oauth2/token", &[], &refresh).await;
    assert_eq!(answer.json()["error"], "invalid_grant");
}

#[tokio::test]
async fn a_program_that_signs_needs_no_secret_and_signs_for_one_use() {
    let world = World::shared().await;
    let key = Key::new();
    let registration = Registration {
        token_endpoint_auth_method: "private_key_jwt".into(),
        jwks: json!({"keys": [key.jwk("k1")]}).to_string(),
        ..Registration::default()
    };
    let request = CreateClientRequest {
        display_name: "Nightly".into(),
        confidential: true,
        scopes: vec!["chat.read".into()],
        registration: Some(registration),
        ..CreateClientRequest::default()
    };
    let admin = world.admin("admin").await;
    let made = admin.calls().clients().create_client(request).await.expect("an admin may").into_inner();
    assert!(made.client_secret.is_empty());
    let id = made.client.expect("the client").name.replace("clients/", "");
    let assertion = |audience: &str| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_secs();
        let (header, claims) = (
            json!({"alg": "EdDSA", "kid": "k1"}),
            json!({"iss": id, "sub": id, "aud": audience, "exp": now + 60, "jti": unique()}),
        );
        Parts { header, claims, signature: String::new() }.signed_by(&key)
    };
    let asks = async |assertion: &str| {
        let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
        let asked =
            [("grant_type", "client_credentials"), ("client_assertion_type", kind), ("client_assertion", assertion)];
        http1::post_form(world.http(), "/oauth2/token", &[], &asked).await
    };
    let good = assertion(&format!("{ISSUER}/oauth2/token"));
    let all = join_all((0..20).map(|_| asks(&good))).await;
    assert_eq!(all.iter().filter(|answer| answer.status == 200).count(), 1);
    for answer in all.iter().filter(|answer| answer.status != 200) {
        assert_eq!((answer.status, &answer.json()["error"]), (401, &"invalid_client".into()));
    }
    assert_eq!(asks(&assertion("https://other.example.com")).await.status, 401);
}

#[tokio::test]
async fn case_57_a_service_reads_as_the_person_whose_token_it_got_and_as_nobody_else() {
    let world = World::shared().await;
    let registration = Registration {
        grant_types: vec![EXCHANGE_GRANT.into()],
        exchange_clients: vec!["flaghoist-cli".into()],
        exchange_audiences: vec!["flaghoist".into(), "https://reports.example.com/".into()],
        ..Registration::default()
    };
    let request = CreateClientRequest {
        display_name: "Gateway".into(),
        confidential: true,
        scopes: vec!["chat.read".into()],
        registration: Some(registration),
        ..CreateClientRequest::default()
    };
    let admin = world.admin("admin").await;
    let made = admin.calls().clients().create_client(request).await.expect("an admin may").into_inner();
    let (id, secret) = (made.client.expect("the client").name.replace("clients/", ""), made.client_secret);
    let bob = world.person("bob").await;
    let asks = async |token: &str, audience: &str| {
        let asked = [
            ("grant_type", EXCHANGE_GRANT),
            ("client_id", id.as_str()),
            ("client_secret", &secret),
            ("subject_token", token),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:access_token"),
            ("audience", audience),
        ];
        http1::post_form(world.http(), "/oauth2/token", &[], &asked).await
    };
    let given = asks(&bob.tokens.access_token, "flaghoist").await;
    assert_eq!(given.status, 200, "{}", given.text());
    let given = given.json()["access_token"].as_str().expect("a token").to_owned();
    let account = world.with_token(&*given).whoami().await.expect("it reads");
    assert_eq!(account.handle, bob.handle);
    let elsewhere = asks(&bob.tokens.access_token, "https://reports.example.com/").await.json();
    let elsewhere = elsewhere["access_token"].as_str().expect("a token").to_owned();
    assert!(world.with_token(&*elsewhere).whoami().await.is_err(), "it is for another service");
    for (token, audience, error) in [
        (elsewhere.as_str(), "flaghoist", "invalid_request"),
        ("garbage", "flaghoist", "invalid_request"),
        (&bob.tokens.access_token, "https://evil.test/", "invalid_target"),
    ] {
        assert_eq!(asks(token, audience).await.json()["error"], error);
    }
}

#[tokio::test]
async fn case_7_a_program_registers_itself_with_a_token_for_that() {
    let world = World::shared().await;
    let admin = world.admin("admin").await;
    let request = CreateRegistrationTokenRequest { scopes: vec!["openid".into()], uses: 2, lifetime: None };
    let made = admin.calls().clients().create_registration_token(request).await.expect("an admin may").into_inner();
    let bearer = format!("Bearer {}", made.registration_token);
    let registers = async |bearer: &str, redirect_uri: &str| {
        let headers = [("authorization", bearer), ("content-type", "application/json")];
        let body = json!({"redirect_uris": [redirect_uri], "client_name": "Wiki"}).to_string();
        let answer = http1::request(world.http(), "POST", "/oauth2/register", &headers, body.as_bytes()).await;
        answer.expect("an answer")
    };
    let evil = registers(&bearer, "http://localhost.evil.test/cb").await;
    assert_eq!((evil.status, &evil.json()["error"]), (400, &"invalid_redirect_uri".into()));
    let all = join_all((0..10).map(|_| registers(&bearer, "https://wiki.example.com/cb"))).await;
    let made: Vec<_> = all.iter().filter(|answer| answer.status == 201).collect();
    assert_eq!(made.len(), 2);
    assert!(made[0].json()["client_secret"].is_string());
    assert_eq!(registers("Bearer x", "https://wiki.example.com/cb").await.status, 401);
}

#[tokio::test]
async fn an_application_is_told_when_a_session_of_it_ends() {
    if only_embedded("the application listens on this machine") {
        return;
    }
    let world = World::shared().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let registration = Registration {
        redirect_uris: vec!["https://wiki.example.com/cb".into()],
        first_party: true,
        grant_types: vec![DEVICE_GRANT.into(), "authorization_code".into(), "refresh_token".into()],
        backchannel_logout_uri: format!("http://{}/bye", listener.local_addr().expect("its address")),
        ..Registration::default()
    };
    let bob = world.person("bob").await;
    let (id, tokens) = connected(&world, &bob, "openid", registration).await;
    let refresh_token = tokens["refresh_token"].as_str().expect("a token");
    http1::post_form(world.http(), "/oauth2/revoke", &[], &[("client_id", &id), ("token", refresh_token)]).await;
    let hearing = async {
        let (mut stream, _) = listener.accept().await.expect("it calls");
        let mut heard = vec![0; 8192];
        let mut filled = 0;
        while !String::from_utf8_lossy(&heard[..filled]).contains("logout_token=") {
            filled += stream.read(&mut heard[filled..]).await.expect("it sends");
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.expect("it reads");
        String::from_utf8_lossy(&heard[..filled]).into_owned()
    };
    let heard = tokio::time::timeout(Duration::from_secs(20), hearing).await.expect("it is told");
    let token = Parts::of(heard.split("logout_token=").nth(1).expect("a token").trim());
    let id_token = Parts::of(tokens["id_token"].as_str().expect("an ID token"));
    assert_eq!((&token.header["typ"], &token.claims["sid"]), (&"logout+jwt".into(), &id_token.claims["sid"]));
    assert_eq!(token.claims["sub"], bob.id());
}
