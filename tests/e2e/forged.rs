//! Tokens that nobody issued, in every way in which others took them, are refused the same way: `UNAUTHENTICATED`.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flaghoist_proto::login::v1::GetAccountRequest;
use flaghoist_tests::{forge, http1};

use crate::prelude::*;

async fn try_token(world: &World, token: &str) -> Result<(), Status> {
    world.with_token(token).accounts().get_account(GetAccountRequest::default()).await.map(drop)
}

#[track_caller]
fn invalid(answer: Result<(), Status>, what: &str) {
    let status = answer.expect_err(what);
    let reason = flaghoist_tests::reason(&status);
    assert_eq!((status.code(), reason), (Code::Unauthenticated, Some(Reason::TokenInvalid)), "{what}: {status:?}");
}

#[tokio::test]
async fn case_67_forged_and_tampered_tokens_are_refused() {
    let world = World::shared().await;
    let bob = world.person("bob").await;
    let jwks = http1::get(world.http(), "/oauth2/jwks").await;
    let tokens = forge::bad_tokens(&bob.token(), &jwks.json());
    for (what, token) in &tokens {
        invalid(try_token(&world, token).await, what);
    }
    try_token(&world, &bob.token()).await.expect("the real one is good all the while");
}

#[tokio::test]
async fn garbage_is_refused_whatever_it_is() {
    let world = World::shared().await;
    let bob = world.person("bob").await;
    let token = bob.token();
    let digest = digest::digest(&digest::SHA256, token.as_bytes());
    let long = "x".repeat(9_000);
    for garbage in [
        "x",
        ".",
        "..",
        "...",
        "a.b.c",
        "a.b",
        &format!("{token}."),
        &format!(".{token}"),
        &format!("{token}.x"),
        &token[1..],
        &token[..token.len() - 4],
        &token.replace('.', ""),
        &URL_SAFE_NO_PAD.encode(digest.as_ref()),
        &bob.tokens.refresh_token,
        &long,
        "eyJhbGciOiJFZERTQSJ9.e30.",
        "e30.e30.e30",
    ] {
        invalid(try_token(&world, garbage).await, garbage);
    }
    refused(try_token(&world, "").await, Code::Unauthenticated, Reason::TokenMissing);
}

#[tokio::test]
async fn every_bit_of_the_signature_counts() {
    let world = World::shared().await;
    let token = world.person("bob").await.token();
    let start = token.rfind('.').expect("a JWT") + 1;
    for place in (start..token.len() - 1).step_by(7) {
        let mut bytes = token.clone().into_bytes();
        bytes[place] = if bytes[place] == b'A' { b'Q' } else { b'A' };
        let altered = String::from_utf8(bytes).expect("ASCII");
        invalid(try_token(&world, &altered).await, "an altered signature");
    }
}

#[tokio::test]
async fn a_missing_token_is_said_to_be_missing_and_other_schemes_are_not_taken() {
    let world = World::shared().await;
    let token = world.person("bob").await.token();
    let answer = world.anonymous().accounts().get_account(GetAccountRequest::default()).await;
    refused(answer, Code::Unauthenticated, Reason::TokenMissing);
    for (name, value) in [
        ("authorization", format!("Basic {token}")),
        ("authorization", token.clone()),
        ("x-authorization", format!("Bearer {token}")),
        ("cookie", format!("access_token={token}")),
    ] {
        let mut request = tonic::Request::new(GetAccountRequest::default());
        request.metadata_mut().insert(name, value.parse().expect("ASCII"));
        let mut client = flaghoist_proto::login::v1::account_service_client::AccountServiceClient::new(world.channel());
        let status = client.get_account(request).await.expect_err("that is no bearer token");
        assert_eq!(status.code(), Code::Unauthenticated, "{name}");
    }
}

#[tokio::test]
async fn case_71_a_token_in_the_address_is_not_taken() {
    let world = World::shared().await;
    let token = world.person("bob").await.token();
    let path = format!("/flaghoist.login.v1.AccountService/GetAccount?access_token={token}");
    let headers = [("content-type", "application/grpc-web+proto"), ("x-grpc-web", "1")];
    let answer = http1::request(world.grpc().expect("it runs"), "POST", &path, &headers, &[0; 5]).await;
    let answer = answer.expect("answered");
    let said = answer.text() + &format!("{:?}", answer.headers);
    assert!(said.contains("16"), "UNAUTHENTICATED is 16: {said}");
}

#[tokio::test]
async fn case_73_an_expired_token_is_refused_as_expired() {
    let world = World::builder().setting("FLAGHOIST_AUTH_ACCESS_TOKEN_LIFETIME", "1s").start().await;
    let mut bob = world.person("bob").await;
    let stale = bob.token();
    eventually("it expires", async || try_token(&world, &stale).await.err()).await;
    refused(try_token(&world, &stale).await, Code::Unauthenticated, Reason::TokenExpired);
    bob.refreshes().await.expect("refreshed");
    try_token(&world, &bob.token()).await.expect("a fresh one is good");
}

#[tokio::test]
async fn a_token_of_another_installation_is_refused() {
    let (world, other) = tokio::join!(World::shared(), World::start());
    let theirs = other.person("bob").await.token();
    invalid(try_token(&world, &theirs).await, "signed by another issuer's key");
}

#[tokio::test]
async fn case_74_internal_methods_are_not_offered_on_the_public_port() {
    let world = World::shared().await;
    let admin = world.admin("admin").await;
    let mut seen = 0;
    for method in flaghoist_proto::METHODS {
        if matches!(method.access, flaghoist_proto::Access::Service(_)) {
            seen += 1;
            for calls in [&world.anonymous(), admin.calls()] {
                let status = calls.raw(method.path, Vec::new()).await.expect_err(method.path);
                let refused = [Code::Unimplemented, Code::PermissionDenied, Code::Unauthenticated];
                assert!(refused.contains(&status.code()), "{}: {status:?}", method.path);
            }
        }
    }
    assert!(seen >= 10, "only {seen} internal methods are known");
}
