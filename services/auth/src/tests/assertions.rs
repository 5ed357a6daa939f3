//! Clients that sign assertions in place of keeping a secret (`private_key_jwt`), over gRPC and over HTTP.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::flow::{Browser, Page};
use super::*;
use crate::algorithm::{Algorithm, Pair};

const TOKEN_ENDPOINT: &str = "http://localhost:8080/oauth2/token";

/// A client's key.
struct Key {
    algorithm: Algorithm,
    pair: Pair,
}

impl Key {
    fn new(algorithm: Algorithm) -> Self {
        let pair = Pair::read(algorithm, &Pair::generate(algorithm).unwrap()).unwrap();
        Self { algorithm, pair }
    }

    fn jwk(&self, kid: &str) -> Value {
        self.algorithm.jwk(kid, self.pair.public().unwrap())
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.pair.sign(signed.as_bytes()).unwrap());
        format!("{signed}.{signature}")
    }

    /// A good assertion of `bot`, with these claims in place of its own; null leaves one out.
    fn asserts(&self, world: &World, changes: Value) -> String {
        let now = world.clock.now().seconds();
        let mut claims = json!({
            "iss": "bot", "sub": "bot", "aud": ISSUER, "iat": now, "exp": now + 60, "jti": Uuid::now_v7().to_string(),
        });
        let all = claims.as_object_mut().unwrap();
        all.extend(changes.as_object().unwrap().clone());
        all.retain(|_, value| !value.is_null());
        self.sign(&json!({"alg": self.algorithm.name(), "kid": "k1"}), &claims)
    }
}

fn signed(assertion: &str) -> ClientCredentials {
    let client_assertion = assertion.into();
    ClientCredentials { client_id: "bot".into(), client_assertion, ..ClientCredentials::default() }
}

impl World {
    /// Registers `bot` with these keys.
    async fn signing_bot(&self, keys: &[Value]) -> CreateClientResponse {
        let registration = Registration {
            token_endpoint_auth_method: "private_key_jwt".into(),
            jwks: json!({"keys": keys}).to_string(),
            ..Registration::default()
        };
        let request = CreateClientRequest {
            client_id: "bot".into(),
            display_name: "A bot".into(),
            confidential: true,
            scopes: vec!["chat.read".into()],
            registration: Some(registration),
        };
        self.clients(&self.admin().await).create_client(request).await.unwrap().into_inner()
    }

    async fn asserted_over_http(&self, path: &str, assertion: &str, more: &[(&str, &str)]) -> Page {
        let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
        let form = [&[("client_assertion_type", kind), ("client_assertion", assertion)], more].concat();
        Browser::default().post(self, path, &form).await
    }
}

#[tokio::test]
async fn a_client_proves_itself_by_a_signature_of_each_kind() {
    let world = World::new().await;
    let keys = Algorithm::ALL.map(Key::new);
    let made = world.signing_bot(&keys.each_ref().map(|key| key.jwk("k1"))).await;
    assert!(made.client_secret.is_empty());
    let shown = made.client.unwrap().registration.unwrap();
    assert!(shown.jwks.contains("\"kty\":\"RSA\"") && shown.token_endpoint_auth_method == "private_key_jwt");
    for key in &keys {
        for audience in [json!(ISSUER), json!(TOKEN_ENDPOINT), json!([ISSUER, TOKEN_ENDPOINT])] {
            let assertion = key.asserts(&world, json!({"aud": audience}));
            let tokens = world.client_token(signed(&assertion), "").await.unwrap();
            world.context.verifier.verify(&tokens.access_token).unwrap();
        }
    }
    let grant = [("grant_type", "client_credentials")];
    let answer = world.asserted_over_http("/oauth2/token", &keys[0].asserts(&world, json!({})), &grant).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
    let what = [("token", token.as_str()), ("client_id", "bot")];
    let told = world.asserted_over_http("/oauth2/introspect", &keys[1].asserts(&world, json!({})), &what).await;
    assert_eq!(told.json()["active"], true);
}

#[tokio::test]
async fn case_45_an_assertion_that_is_not_right_proves_nothing() {
    let world = World::new().await;
    let (key, stranger) = (Key::new(Algorithm::Es256), Key::new(Algorithm::Es256));
    world.signing_bot(&[key.jwk("k1")]).await;
    let now = world.clock.now().seconds();
    let mut bad: Vec<_> = [
        // For another audience, or for others too: whoever they are could bring it here.
        json!({"aud": "https://other.example.com"}),
        json!({"aud": [ISSUER, "https://other.example.com"]}),
        json!({"aud": []}),
        json!({"aud": "flaghoist"}),
        json!({"aud": null}),
        json!({"sub": null}),
        json!({"iss": null}),
        json!({"iss": "other"}),
        json!({"sub": "flaghoist-cli", "iss": "flaghoist-cli"}),
        json!({"sub": "nobody", "iss": "nobody"}),
        json!({"exp": null}),
        json!({"exp": now - 1}),
        json!({"exp": now + 7200}),
        json!({"exp": (now + 60).to_string()}),
        json!({"nbf": now + 600}),
        json!({"iat": now + 600}),
        json!({"jti": null}),
        json!({"jti": ""}),
        json!({"jti": "x".repeat(300)}),
    ]
    .into_iter()
    .map(|changes| key.asserts(&world, changes))
    .collect();
    let claims = json!({"iss": "bot", "sub": "bot", "aud": ISSUER, "exp": now + 60, "jti": "one"});
    let header = |changes: Value| {
        let mut header = json!({"alg": "ES256", "kid": "k1"});
        header.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        key.sign(&header, &claims)
    };
    bad.push(stranger.asserts(&world, json!({})));
    for changes in [
        json!({"alg": "none"}),
        json!({"alg": "HS256"}),
        json!({"alg": "EdDSA"}),
        json!({"kid": "other"}),
        json!({"typ": "at+jwt"}),
        json!({"crit": ["b64"]}),
        // A key that comes with the assertion is not one that is registered.
        json!({"alg": "ES384", "jwk": stranger.jwk("k1")}),
    ] {
        bad.push(header(changes));
    }
    let good = key.asserts(&world, json!({}));
    let (signed_part, _) = good.rsplit_once('.').unwrap();
    bad.extend([format!("{signed_part}."), signed_part.to_owned(), "garbage".into(), "x".repeat(8192)]);
    for assertion in &bad {
        let refusal = world.client_token(signed(assertion), "").await;
        refused(refusal, Code::Unauthenticated, Reason::ClientInvalid);
        let answer =
            world.asserted_over_http("/oauth2/token", assertion, &[("grant_type", "client_credentials")]).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["error"]), (401, &"invalid_client".into()), "{assertion}");
    }
    // Nor do the other ways prove that one is it, and nor does it prove that one is another.
    for secret in ["", "a-guess"] {
        refused(world.client_token(credentials("bot", secret), "").await, Code::Unauthenticated, Reason::ClientInvalid);
    }
    let as_other = ClientCredentials { client_id: "flaghoist-cli".into(), ..signed(&good) };
    refused(world.client_token(as_other, "").await, Code::Unauthenticated, Reason::ClientInvalid);
    let twice = ClientCredentials { client_secret: "x".into(), ..signed(&good) };
    refused(world.client_token(twice, "").await, Code::InvalidArgument, Reason::FieldViolation);
    let more = [("grant_type", "client_credentials"), ("client_secret", "x")];
    assert_eq!(world.asserted_over_http("/oauth2/token", &good, &more).await.json()["error"], "invalid_request");
    world.client_token(signed(&good), "").await.unwrap();
    world.issuer.write_tallies().await.unwrap();
    let events = world.audited(AuditAction::ClientAuthenticationFailed).await;
    assert!(events.iter().any(|event| event.subject == "clients/bot" && event.count > 1), "{events:?}");
}

#[tokio::test]
async fn case_33_an_assertion_is_good_once_also_after_a_restart() {
    let mut world = World::new().await;
    let key = Key::new(Algorithm::EdDsa);
    world.signing_bot(&[key.jwk("k1")]).await;
    let assertion = key.asserts(&world, json!({"jti": "one"}));
    let all = join_all((0..50).map(|_| world.client_token(signed(&assertion), ""))).await;
    assert_eq!(all.iter().filter(|answer| answer.is_ok()).count(), 1);
    world = world.restarted().await;
    refused(world.client_token(signed(&assertion), "").await, Code::Unauthenticated, Reason::ClientInvalid);
    // The id is what is used up, whatever else is said beside it.
    let again = key.asserts(&world, json!({"jti": "one", "aud": TOKEN_ENDPOINT}));
    refused(world.client_token(signed(&again), "").await, Code::Unauthenticated, Reason::ClientInvalid);
    world.client_token(signed(&key.asserts(&world, json!({"jti": "two"}))), "").await.unwrap();
}

#[tokio::test]
async fn what_is_no_set_of_public_keys_is_not_registered() {
    let world = World::new().await;
    let mut private = Key::new(Algorithm::EdDsa).jwk("k");
    private["d"] = "AAAA".into();
    let admin = world.admin().await;
    let registering = async |method: &str, jwks: String, confidential: bool| {
        let registration = Registration { token_endpoint_auth_method: method.into(), jwks, ..Registration::default() };
        let request = CreateClientRequest {
            display_name: "A bot".into(),
            confidential,
            registration: Some(registration),
            ..CreateClientRequest::default()
        };
        world.clients(&admin).create_client(request).await
    };
    let good = json!({"keys": [Key::new(Algorithm::EdDsa).jwk("k")]}).to_string();
    let many: Vec<_> = (0..11).map(|_| Key::new(Algorithm::EdDsa).jwk("k")).collect();
    for (method, jwks, confidential) in [
        ("private_key_jwt", String::new(), true),
        ("private_key_jwt", "[]".into(), true),
        ("private_key_jwt", json!({"keys": [private]}).to_string(), true),
        ("private_key_jwt", json!({"keys": many}).to_string(), true),
        ("private_key_jwt", good.clone(), false),
        ("client_secret_basic", good.clone(), true),
    ] {
        let answer = registering(method, jwks, confidential).await;
        refused(answer, Code::InvalidArgument, Reason::FieldViolation);
    }
    let made = registering("private_key_jwt", good, true).await.unwrap().into_inner();
    let rotate = RotateClientSecretRequest { name: made.client.unwrap().name, grace: None };
    let answer = world.clients(&admin).rotate_client_secret(rotate).await;
    refused(answer, Code::FailedPrecondition, Reason::ClientUnauthorized);
}

#[tokio::test]
async fn a_client_moves_from_a_secret_to_a_key_and_to_another_key() {
    let world = World::new().await;
    let secret = world.confidential("bot", &["chat.read"]).await;
    let mut clients = world.clients(&world.admin().await);
    let (first, second) = (Key::new(Algorithm::EdDsa), Key::new(Algorithm::EdDsa));
    let with_key = |key: &Key| Registration {
        token_endpoint_auth_method: "private_key_jwt".into(),
        jwks: json!({"keys": [key.jwk("k1")]}).to_string(),
        ..Registration::default()
    };
    let update = |registration: Registration| UpdateClientRequest {
        name: "clients/bot".into(),
        registration: Some(registration),
        ..UpdateClientRequest::default()
    };
    let answer = clients.update_client(update(with_key(&first))).await.unwrap().into_inner().client.unwrap();
    assert_eq!(answer.registration.unwrap().token_endpoint_auth_method, "private_key_jwt");
    assert_eq!(world.audited(AuditAction::ClientUpdated).await[0].detail, "registration");
    refused(world.client_token(credentials("bot", &secret), "").await, Code::Unauthenticated, Reason::ClientInvalid);
    world.client_token(signed(&first.asserts(&world, json!({}))), "").await.unwrap();
    clients.update_client(update(with_key(&second))).await.unwrap();
    let old = world.client_token(signed(&first.asserts(&world, json!({}))), "").await;
    refused(old, Code::Unauthenticated, Reason::ClientInvalid);
    world.client_token(signed(&second.asserts(&world, json!({}))), "").await.unwrap();
    // What makes no sense changes nothing.
    let nowhere = Registration { grant_types: vec!["authorization_code".into()], ..with_key(&first) };
    refused(clients.update_client(update(nowhere)).await, Code::InvalidArgument, Reason::FieldViolation);
    // Back to a secret: the old one is good no more, and a new one is asked for.
    clients.update_client(update(Registration::default())).await.unwrap();
    refused(world.client_token(credentials("bot", &secret), "").await, Code::Unauthenticated, Reason::ClientInvalid);
    refused(world.client_token(credentials("bot", ""), "").await, Code::Unauthenticated, Reason::ClientInvalid);
    let rotate = RotateClientSecretRequest { name: "clients/bot".into(), grace: None };
    let renewed = clients.rotate_client_secret(rotate).await.unwrap().into_inner().client_secret;
    world.client_token(credentials("bot", &renewed), "").await.unwrap();
}
