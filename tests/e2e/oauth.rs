//! The OAuth endpoints over HTTP, byte by byte.

use flaghoist_tests::http1::{self, Answer, get, post_form};

use crate::prelude::*;
use crate::tokens::confidential_client;

const CLI: (&str, &str) = ("client_id", "flaghoist-cli");

/// An OAuth error with this status and name, as RFC 6749 §5.2 writes it.
#[track_caller]
fn oauth_error(answer: &Answer, status: u16, error: &str) {
    assert_eq!((answer.status, answer.json()["error"].as_str()), (status, Some(error)), "{}", answer.text());
    assert!(answer.json()["error_description"].is_string(), "{}", answer.text());
    assert_eq!(answer.header("cache-control"), "no-store");
    assert!(answer.header("content-type").starts_with("application/json"));
}

#[tokio::test]
async fn case_66_metadata_and_keys_are_published_without_private_members() {
    let world = World::shared().await;
    let metadata = get(world.http(), "/.well-known/openid-configuration").await;
    assert_eq!(metadata.status, 200);
    let metadata = metadata.json();
    assert_eq!(metadata["issuer"], "http://localhost:8080");
    for endpoint in ["jwks_uri", "token_endpoint", "revocation_endpoint", "introspection_endpoint"] {
        let address = metadata[endpoint].as_str().expect(endpoint);
        assert!(address.starts_with("http://localhost:8080/oauth2/"), "{endpoint}: {address}");
    }
    let jwks = get(world.http(), "/oauth2/jwks").await;
    assert_eq!(jwks.status, 200);
    let jwks = jwks.json();
    let keys = jwks["keys"].as_array().expect("a list of keys");
    assert!(!keys.is_empty());
    for key in keys {
        for private in ["d", "p", "q", "dp", "dq", "qi", "k"] {
            assert!(key.get(private).is_none(), "{key}");
        }
        assert!(key["kid"].is_string() && key["kty"].is_string(), "{key}");
    }
    let header = flaghoist_tests::forge::Parts::of(&world.person("bob").await.token()).header;
    assert!(keys.iter().any(|key| key["kid"] == header["kid"]), "the signing key is among them");
}

#[tokio::test]
async fn keys_rotate_and_old_tokens_stay_good() {
    let world = World::builder()
        .setting("FLAGHOIST_AUTH_KEY_PERIOD", "3s")
        .setting("FLAGHOIST_AUTH_KEY_LEAD", "1s")
        .start()
        .await;
    let mut bob = world.person("bob").await;
    let old = bob.token();
    let key_of = |token: &str| flaghoist_tests::forge::Parts::of(token).header["kid"].clone();
    eventually("another key signs", async || {
        bob.refreshes().await.expect("refreshed");
        (key_of(&bob.token()) != key_of(&old)).then_some(())
    })
    .await;
    for token in [old, bob.token()] {
        let calls = world.with_token(token);
        calls.whoami().await.expect("both keys are published");
    }
    let jwks = get(world.http(), "/oauth2/jwks").await.json();
    assert!(jwks["keys"].as_array().expect("a list").len() >= 2);
}

#[tokio::test]
async fn a_refresh_over_http_is_the_same_as_over_grpc() {
    let world = World::shared().await;
    let bob = world.person("bob").await;
    let form = [("grant_type", "refresh_token"), ("refresh_token", &bob.tokens.refresh_token), CLI];
    let answer = post_form(world.http(), "/oauth2/token", &[], &form).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("cache-control"), "no-store");
    let tokens = answer.json();
    assert_eq!(tokens["token_type"], "Bearer");
    assert!(tokens["expires_in"].as_u64().expect("seconds") <= 300);
    let access = tokens["access_token"].as_str().expect("an access token");
    world.with_token(access).whoami().await.expect("it is good");
    // The lost answer, asked for over the other way, is the same branch.
    let again = post_form(world.http(), "/oauth2/token", &[], &form).await.json();
    assert_eq!(again["refresh_token"], tokens["refresh_token"]);
}

#[tokio::test]
async fn case_42_a_grant_type_is_needed_and_must_be_a_known_one() {
    let world = World::shared().await;
    let token = |form: Vec<(&'static str, &'static str)>| {
        let address = world.http();
        async move { post_form(address, "/oauth2/token", &[], &form).await }
    };
    oauth_error(&token(vec![CLI]).await, 400, "invalid_request");
    oauth_error(&token(vec![CLI, ("grant_type", "")]).await, 400, "invalid_request");
    let password = vec![CLI, ("grant_type", "password"), ("username", "bob"), ("password", "x")];
    oauth_error(&token(password).await, 400, "unsupported_grant_type");
    let unknown = vec![CLI, ("grant_type", "refresh_token"), ("refresh_token", "nobody-knows")];
    oauth_error(&token(unknown).await, 400, "invalid_grant");
    let none = vec![CLI, ("grant_type", "refresh_token")];
    oauth_error(&token(none).await, 400, "invalid_request");
    let public = vec![CLI, ("grant_type", "client_credentials")];
    oauth_error(&token(public).await, 400, "unauthorized_client");
}

#[tokio::test]
async fn case_45_client_authentication_fails_alike_and_asks_for_it() {
    let world = World::shared().await;
    let client = confidential_client(&world, "").await;
    let basic = |id: &str, secret: &str| {
        use base64::Engine as _;
        let pair = format!("{}:{}", http1::escape(id), http1::escape(secret));
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
    };
    let grant = [("grant_type", "client_credentials")];
    let right = basic(&client.client_id, &client.client_secret);
    let answer = post_form(world.http(), "/oauth2/token", &[("authorization", &right)], &grant).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.json().get("refresh_token").is_none());

    let mut bodies = std::collections::HashSet::new();
    for header in [basic(&client.client_id, "wrong"), basic("nobody", "wrong"), basic(&client.client_id, "")] {
        let answer = post_form(world.http(), "/oauth2/token", &[("authorization", &header)], &grant).await;
        oauth_error(&answer, 401, "invalid_client");
        assert!(answer.header("www-authenticate").starts_with("Basic"), "{answer:?}");
        bodies.insert(answer.text());
    }
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", &client.client_id),
        ("client_secret", &client.client_secret),
    ];
    assert_eq!(post_form(world.http(), "/oauth2/token", &[], &form).await.status, 200);
    let both = post_form(world.http(), "/oauth2/token", &[("authorization", &right)], &form).await;
    assert_eq!(both.status, 400, "one way of authentication at a time: {}", both.text());
}

#[tokio::test]
async fn case_47_the_form_must_be_one_form() {
    let world = World::shared().await;
    let json = http1::request(
        world.http(),
        "POST",
        "/oauth2/token",
        &[("content-type", "application/json")],
        br#"{"grant_type":"refresh_token"}"#,
    );
    assert_eq!(json.await.expect("answered").status, 400);
    let answer = get(world.http(), "/oauth2/token?grant_type=refresh_token").await;
    assert_eq!((answer.status, answer.header("allow")), (405, "POST"));
    let huge = "x".repeat(200 * 1024);
    let form = [CLI, ("grant_type", "refresh_token"), ("refresh_token", &huge)];
    assert_eq!(post_form(world.http(), "/oauth2/token", &[], &form).await.status, 413);
    let twice = [CLI, ("grant_type", "refresh_token"), ("grant_type", "refresh_token"), ("refresh_token", "x")];
    oauth_error(&post_form(world.http(), "/oauth2/token", &[], &twice).await, 400, "invalid_request");
    let nothing = post_form(world.http(), "/oauth2/token", &[], &[]).await;
    assert!(matches!(nothing.status, 400 | 401), "{}", nothing.text());
    // Parameters in the query are not taken: they end up in logs.
    let query =
        post_form(world.http(), "/oauth2/token?client_id=flaghoist-cli&grant_type=refresh_token", &[], &[]).await;
    assert!(matches!(query.status, 400 | 401), "{}", query.text());
}

#[tokio::test]
async fn case_58_60_61_introspection_and_revocation_over_http() {
    let world = World::shared().await;
    let client = confidential_client(&world, "").await;
    let bob = world.person("bob").await;
    let token = bob.token();
    let without = post_form(world.http(), "/oauth2/introspect", &[], &[("token", &token)]).await;
    assert!(matches!(without.status, 400 | 401), "{}", without.text());
    let public = post_form(world.http(), "/oauth2/introspect", &[], &[("token", &token), CLI]).await;
    assert!(matches!(public.status, 400 | 401), "{}", public.text());
    let ask = |token: &str| {
        let form = [
            ("token".to_owned(), token.to_owned()),
            ("client_id".to_owned(), client.client_id.clone()),
            ("client_secret".to_owned(), client.client_secret.clone()),
        ];
        let address = world.http();
        async move {
            let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            post_form(address, "/oauth2/introspect", &[], &form).await
        }
    };
    let alive = ask(&token).await.json();
    assert_eq!((&alive["active"], &alive["sub"]), (&true.into(), &bob.id().into()));
    assert_eq!(ask("garbage").await.json(), serde_json::json!({"active": false}));

    let revoke = |token: String| {
        let address = world.http();
        async move { post_form(address, "/oauth2/revoke", &[], &[("token", &token), CLI]).await }
    };
    assert_eq!(revoke("unknown".into()).await.status, 200);
    assert_eq!(revoke(bob.tokens.refresh_token.clone()).await.status, 200);
    eventually("the token is dead", async || {
        (ask(&token).await.json() == serde_json::json!({"active": false})).then_some(())
    })
    .await;
}

#[tokio::test]
async fn paths_that_do_not_exist_and_broken_requests_do_no_harm() {
    let world = World::shared().await;
    assert_eq!(get(world.http(), "/no/such/path").await.status, 404);
    assert_eq!(get(world.http(), "/../../etc/passwd").await.status, 404);
    for broken in [&b"GET\r\n\r\n"[..], b"\x00\x01\x02\x03\r\n\r\n", b"POST /oauth2/token HTTP/9.9\r\n\r\n"] {
        let _: std::io::Result<_> = http1::raw(world.http(), broken).await;
    }
    assert_eq!(get(world.http(), "/oauth2/jwks").await.status, 200);
}
