//! The HTTP endpoints, request by request.

use std::fmt::Write as _;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tower::ServiceExt as _;

use super::*;
use crate::tests::{ISSUER, World, somebody};

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

async fn call(world: &World, request: Request<Body>) -> Answer {
    let router = world.parts.http.clone().unwrap();
    let response = router.oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let text = String::from_utf8(body.to_vec()).unwrap();
    let body = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap_or(text.into()) };
    Answer { status: head.status.as_u16(), headers: head.headers, body }
}

fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut text, byte| {
        write!(text, "%{byte:02X}").unwrap();
        text
    })
}

fn form(path: &str, parameters: &[(&str, &str)]) -> Request<Body> {
    let body: Vec<_> = parameters.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
    Request::post(path).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body.join("&").into()).unwrap()
}

fn basic(mut request: Request<Body>, id: &str, secret: &str) -> Request<Body> {
    let credentials = STANDARD.encode(format!("{}:{}", encode(id), encode(secret)));
    request.headers_mut().insert("authorization", format!("Basic {credentials}").parse().unwrap());
    request
}

#[track_caller]
fn refused(answer: &Answer, status: u16, error: &str) {
    assert_eq!((answer.status, answer.body["error"].as_str()), (status, Some(error)), "{}", answer.body);
    assert!(answer.body["error_description"].is_string());
    assert_eq!(answer.headers[CACHE_CONTROL], "no-store");
}

#[tokio::test]
async fn a_refresh_over_http_gives_what_rfc_6749_says() {
    let world = World::new().await;
    let (_, tokens) = world.sign_in(somebody()).await;
    let parameters = [
        ("grant_type", "refresh_token"),
        ("client_id", "flaghoist-cli"),
        ("refresh_token", tokens.refresh_token.as_str()),
        ("scope", "chat.read"),
    ];
    let answer = call(&world, form("/oauth2/token", &parameters)).await;
    assert_eq!((answer.status, &answer.headers[CACHE_CONTROL]), (200, &HeaderValue::from_static("no-store")));
    assert_eq!((&answer.body["token_type"], &answer.body["expires_in"]), (&"Bearer".into(), &300.into()));
    assert_eq!(answer.body["scope"], "chat.read");
    world.refresh(answer.body["refresh_token"].as_str().unwrap()).await.unwrap();
}

#[tokio::test]
async fn case_39_and_40_are_refused_over_http_too() {
    let world = World::new().await;
    let (_, tokens) = world.sign_in(somebody()).await;
    let refresh = |token: &str, scope: &str| {
        let client = ("client_id", "flaghoist-cli");
        form("/oauth2/token", &[("grant_type", "refresh_token"), client, ("refresh_token", token), ("scope", scope)])
    };
    refused(&call(&world, refresh(&tokens.refresh_token, "admin")).await, 400, "invalid_scope");
    refused(&call(&world, refresh("garbage", "")).await, 400, "invalid_grant");
    let revocation = [("token", tokens.refresh_token.as_str()), ("client_id", "flaghoist-cli")];
    assert_eq!(call(&world, form("/oauth2/revoke", &revocation)).await.status, 200);
    refused(&call(&world, refresh(&tokens.refresh_token, "")).await, 400, "invalid_grant");
}

#[tokio::test]
async fn case_42_grant_types_that_do_not_exist() {
    let world = World::new().await;
    let client = ("client_id", "flaghoist-cli");
    refused(&call(&world, form("/oauth2/token", &[client])).await, 400, "invalid_request");
    refused(&call(&world, form("/oauth2/token", &[client, ("grant_type", "")])).await, 400, "invalid_request");
    for grant in ["password", "implicit", "urn:ietf:params:oauth:grant-type:saml2-bearer"] {
        let answer = call(&world, form("/oauth2/token", &[client, ("grant_type", grant)])).await;
        refused(&answer, 400, "unsupported_grant_type");
    }
}

#[tokio::test]
async fn case_43_client_credentials_over_http() {
    let world = World::new().await;
    let grant = ("grant_type", "client_credentials");
    let public = form("/oauth2/token", &[grant, ("client_id", "flaghoist-cli")]);
    refused(&call(&world, public).await, 400, "unauthorized_client");
    let secret = world.confidential("bot", &["chat.read"]).await;
    let post = form("/oauth2/token", &[grant, ("client_id", "bot"), ("client_secret", &secret)]);
    let header = basic(form("/oauth2/token", &[grant]), "bot", &secret);
    for request in [post, header] {
        let answer = call(&world, request).await;
        assert_eq!((answer.status, &answer.body["refresh_token"]), (200, &Value::Null));
    }
}

#[tokio::test]
async fn case_45_bad_secret_and_unknown_client_are_answered_alike_over_http() {
    let world = World::new().await;
    world.confidential("bot", &["chat.read"]).await;
    let grant = ("grant_type", "client_credentials");
    let mut bodies = std::collections::BTreeSet::new();
    for request in [
        form("/oauth2/token", &[grant, ("client_id", "bot"), ("client_secret", "bad")]),
        form("/oauth2/token", &[grant, ("client_id", "nobody"), ("client_secret", "bad")]),
        form("/oauth2/token", &[grant, ("client_id", "bot")]),
        form("/oauth2/token", &[grant]),
        basic(form("/oauth2/token", &[grant]), "bot", "bad"),
        basic(form("/oauth2/token", &[grant]), "nobody", "bad"),
    ] {
        let answer = call(&world, request).await;
        refused(&answer, 401, "invalid_client");
        assert!(answer.headers["www-authenticate"].to_str().unwrap().starts_with("Basic "));
        bodies.insert(answer.body.to_string());
    }
    assert_eq!(bodies.len(), 1);
    let (secret, client) = (("client_secret", "x"), ("client_id", "other"));
    let both = basic(form("/oauth2/token", &[grant, secret]), "bot", "bad");
    refused(&call(&world, both).await, 400, "invalid_request");
    let two = basic(form("/oauth2/token", &[grant, client]), "bot", "bad");
    refused(&call(&world, two).await, 400, "invalid_request");
}

#[tokio::test]
async fn case_47_requests_in_the_wrong_form() {
    let world = World::new().await;
    for path in ["/oauth2/token", "/oauth2/revoke", "/oauth2/introspect"] {
        let json = Request::post(path).header(CONTENT_TYPE, "application/json").body("{}".into()).unwrap();
        refused(&call(&world, json).await, 400, "invalid_request");
        for method in ["GET", "PUT", "DELETE"] {
            let other = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
            let answer = call(&world, other).await;
            refused(&answer, 405, "invalid_request");
            assert_eq!(answer.headers[ALLOW], "POST");
        }
        let large = form(path, &[("grant_type", &"x".repeat(200_000))]);
        refused(&call(&world, large).await, 413, "invalid_request");
        let twice = form(path, &[("grant_type", "refresh_token"), ("grant_type", "refresh_token")]);
        refused(&call(&world, twice).await, 400, "invalid_request");
        let malformed = Request::post(path)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded; charset=UTF-8")
            .body("grant_type=%zz".into())
            .unwrap();
        refused(&call(&world, malformed).await, 400, "invalid_request");
    }
}

#[tokio::test]
async fn case_58_60_introspection_over_http() {
    let world = World::new().await;
    let secret = world.resource_server("bot", &["flaghoist"]).await;
    let user = somebody();
    let (_, tokens) = world.sign_in(user).await;
    let token = ("token", tokens.access_token.as_str());
    refused(&call(&world, form("/oauth2/introspect", &[token])).await, 401, "invalid_client");
    let public = form("/oauth2/introspect", &[token, ("client_id", "flaghoist-cli")]);
    refused(&call(&world, public).await, 401, "invalid_client");
    let answer = call(&world, basic(form("/oauth2/introspect", &[token]), "bot", &secret)).await;
    assert_eq!((answer.status, &answer.body["active"]), (200, &true.into()));
    assert_eq!((&answer.body["sub"], &answer.body["iss"]), (&user.to_string().into(), &ISSUER.into()));
    let garbage = basic(form("/oauth2/introspect", &[("token", "garbage")]), "bot", &secret);
    assert_eq!(call(&world, garbage).await.body, serde_json::json!({"active": false}));
}

#[tokio::test]
async fn case_61_revocation_over_http() {
    let world = World::new().await;
    let secret = world.confidential("bot", &["chat.read"]).await;
    let (_, tokens) = world.sign_in(somebody()).await;
    let client = ("client_id", "flaghoist-cli");
    let unknown = form("/oauth2/revoke", &[("token", "unknown"), client]);
    assert_eq!(call(&world, unknown).await.status, 200);
    for token in [&tokens.refresh_token, &tokens.access_token] {
        let another = basic(form("/oauth2/revoke", &[("token", token)]), "bot", &secret);
        refused(&call(&world, another).await, 400, "invalid_grant");
    }
    world.refresh(&tokens.refresh_token).await.unwrap();
    refused(&call(&world, form("/oauth2/revoke", &[client])).await, 400, "invalid_request");
}

#[tokio::test]
async fn the_metadata_names_only_what_exists() {
    let world = World::new().await;
    for path in ["/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"] {
        let answer = call(&world, Request::get(path).body(Body::empty()).unwrap()).await;
        assert_eq!((answer.status, &answer.body["issuer"]), (200, &ISSUER.into()));
        assert_eq!(answer.body["authorization_endpoint"], format!("{ISSUER}/oauth2/authorize"));
        assert_eq!(answer.body["code_challenge_methods_supported"], serde_json::json!(["S256"]));
        for (name, value) in answer.body.as_object().unwrap() {
            let Some(path) = value.as_str().and_then(|url| url.strip_prefix(ISSUER)).filter(|path| !path.is_empty())
            else {
                continue;
            };
            let request = Request::get(path).body(Body::empty()).unwrap();
            assert_ne!(call(&world, request).await.status, 404, "{name} exists");
        }
    }
}

#[tokio::test]
async fn case_66_the_jwk_set_is_there_or_503() {
    let world = World::new().await;
    let answer = call(&world, Request::get("/oauth2/jwks").body(Body::empty()).unwrap()).await;
    assert_eq!((answer.status, answer.body["keys"].as_array().unwrap().len()), (200, 6));
    for key in answer.body["keys"].as_array().unwrap() {
        assert!(["d", "p", "q", "dp", "dq", "qi", "k"].iter().all(|private| key.get(private).is_none()), "{key}");
    }
    let head = Request::head("/oauth2/jwks").body(Body::empty()).unwrap();
    assert_eq!(call(&world, head).await.status, 200);
    let post = call(&world, Request::post("/oauth2/jwks").body(Body::empty()).unwrap()).await;
    refused(&post, 405, "invalid_request");
    // Before the first keys are there.
    let mut world = world;
    let issuer = crate::tests::keyless(&world).await;
    world.parts.http = Some(router(Endpoints { issuer, trusted_hops: 0 }));
    let early = call(&world, Request::get("/oauth2/jwks").body(Body::empty()).unwrap()).await;
    refused(&early, 503, "temporarily_unavailable");
}
