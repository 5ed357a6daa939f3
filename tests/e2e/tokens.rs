//! Tokens over gRPC: refreshing, reuse, clients of their own, introspection.

use std::collections::HashSet;

use flaghoist_proto::auth::v1::issue_token_request::Grant;
use flaghoist_proto::auth::v1::{
    ClientCredentials, ClientCredentialsGrant, CreateClientRequest, DeleteClientRequest, IntrospectTokenRequest,
    IntrospectTokenResponse, IssueTokenRequest, RefreshTokenGrant, Registration, RevokeTokenRequest, TokenSet,
};
use flaghoist_proto::login::v1::GetAccountRequest;
use flaghoist_tests::{cli_asks, eventually_within};
use futures_util::future::join_all;

use crate::prelude::*;

fn refresh(token: &str) -> Grant {
    Grant::RefreshToken(RefreshTokenGrant { refresh_token: token.into() })
}

async fn issue(world: &World, request: IssueTokenRequest) -> Result<TokenSet, Status> {
    let answer = world.anonymous().tokens().issue_token(request).await?.into_inner();
    Ok(answer.tokens.expect("an answer has tokens"))
}

/// A confidential client with the scope to send.
pub(crate) async fn confidential_client(world: &World, id: &str) -> ClientCredentials {
    // It may look at the tokens that people bring to the API.
    let registration = Registration { audiences: vec!["flaghoist".into()], ..Registration::default() };
    registered(world, id, Some(registration)).await
}

async fn registered(world: &World, id: &str, registration: Option<Registration>) -> ClientCredentials {
    let admin = world.admin("admin").await;
    let request = CreateClientRequest {
        client_id: id.into(),
        display_name: "a bot".into(),
        confidential: true,
        scopes: vec!["chat.read".into(), "chat.send".into()],
        registration,
    };
    let made = admin.calls().clients().create_client(request).await.expect("an admin may").into_inner();
    let name = made.client.expect("the answer has the client").name;
    let client_id = name.strip_prefix("clients/").expect("its name").to_owned();
    ClientCredentials { client_id, client_secret: made.client_secret, ..ClientCredentials::default() }
}

async fn introspect(world: &World, client: &ClientCredentials, token: &str) -> IntrospectTokenResponse {
    let request = IntrospectTokenRequest { client: Some(client.clone()), token: token.into() };
    world.anonymous().tokens().introspect_token(request).await.expect("introspected").into_inner()
}

#[tokio::test]
async fn case_36_fifty_parallel_refreshes_have_one_successor() {
    let world = World::shared().await;
    let bob = world.person("bob").await;
    let answers = join_all((0..50).map(|_| issue(&world, cli_asks(refresh(&bob.tokens.refresh_token))))).await;
    let successors: HashSet<String> = answers.into_iter().flatten().map(|tokens| tokens.refresh_token).collect();
    assert_eq!(successors.len(), 1, "one live branch");
    let successor = successors.into_iter().next().expect("one");
    issue(&world, cli_asks(refresh(&successor))).await.expect("the branch is alive");
}

#[tokio::test]
async fn case_35_a_used_refresh_token_ends_its_family_once_its_grace_is_over() {
    let world = World::builder().setting("FLAGHOIST_AUTH_REFRESH_GRACE", "1s").start().await;
    let bob = world.person("bob").await;
    let first = bob.tokens.refresh_token.clone();
    let second = issue(&world, cli_asks(refresh(&first))).await.expect("refreshed").refresh_token;
    // A lost answer can be asked for again.
    let again = issue(&world, cli_asks(refresh(&first))).await.expect("within the grace").refresh_token;
    assert_eq!(again, second);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    refused(issue(&world, cli_asks(refresh(&first))).await, Code::Unauthenticated, Reason::GrantInvalid);
    refused(issue(&world, cli_asks(refresh(&second))).await, Code::Unauthenticated, Reason::GrantInvalid);
    let account = eventually("the session's access token is refused", async || {
        bob.calls().accounts().get_account(GetAccountRequest::default()).await.err()
    })
    .await;
    assert_eq!(account.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn case_37_a_used_refresh_token_is_known_after_a_restart_and_a_crash() {
    let world = World::builder().setting("FLAGHOIST_AUTH_REFRESH_GRACE", "0s").start().await;
    for kill in [false, true] {
        let bob = world.person("bob").await;
        let first = bob.tokens.refresh_token.clone();
        let second = issue(&world, cli_asks(refresh(&first))).await.expect("refreshed").refresh_token;
        if kill {
            world.kill().await;
            world.start_again().await;
        } else {
            world.restart().await;
        }
        let third = issue(&world, cli_asks(refresh(&second))).await.expect("the branch outlives it").refresh_token;
        refused(issue(&world, cli_asks(refresh(&first))).await, Code::Unauthenticated, Reason::GrantInvalid);
        refused(issue(&world, cli_asks(refresh(&third))).await, Code::Unauthenticated, Reason::GrantInvalid);
    }
}

#[tokio::test]
async fn case_39_a_refresh_cannot_widen_the_scope() {
    let world = World::shared().await;
    let bob = world.person("bob").await;
    let request =
        |scope: &str| IssueTokenRequest { scope: scope.into(), ..cli_asks(refresh(&bob.tokens.refresh_token)) };
    refused(issue(&world, request("admin")).await, Code::InvalidArgument, Reason::ScopeInvalid);
    refused(issue(&world, request("no.such.scope")).await, Code::InvalidArgument, Reason::ScopeInvalid);
    let narrowed = issue(&world, request("chat.read")).await.expect("less is allowed");
    assert_eq!(narrowed.scope, "chat.read");
}

#[tokio::test]
async fn case_43_a_public_client_has_no_tokens_of_its_own() {
    let world = World::shared().await;
    let grant = Grant::ClientCredentials(ClientCredentialsGrant {});
    refused(issue(&world, cli_asks(grant)).await, Code::PermissionDenied, Reason::ClientUnauthorized);
}

#[tokio::test]
async fn case_44_a_client_whose_id_is_a_users_id_does_not_become_that_user() {
    let world = World::shared().await;
    let victim = world.person("victim").await;
    let dan = world.person("dan").await;
    victim.sends("mine").to(&dan).await;
    // Such a client cannot even be made.
    let admin = world.admin("admin").await;
    let request = CreateClientRequest { client_id: victim.id().into(), display_name: "x".into(), ..Default::default() };
    let answer = admin.calls().clients().create_client(request).await;
    refused(answer, Code::InvalidArgument, Reason::FieldViolation);
    // And a client's own token is nobody's.
    let client = confidential_client(&world, "").await;
    let grant = Some(Grant::ClientCredentials(ClientCredentialsGrant {}));
    let request = IssueTokenRequest { client: Some(client), grant, scope: String::new() };
    let tokens = issue(&world, request).await.expect("a token of the client's own");
    assert_eq!(tokens.refresh_token, "");
    let calls = world.with_token(tokens.access_token);
    let account = calls.accounts().get_account(GetAccountRequest::default()).await;
    assert!(matches!(account.expect_err("no person").code(), Code::Unauthenticated | Code::PermissionDenied));
    let listed =
        calls.conversations().list_conversations(flaghoist_proto::send::v1::ListConversationsRequest::default()).await;
    assert!(matches!(listed.expect_err("no person").code(), Code::Unauthenticated | Code::PermissionDenied));
}

#[tokio::test]
async fn case_45_an_unknown_client_and_a_wrong_secret_are_answered_alike() {
    let world = World::shared().await;
    let client = confidential_client(&world, "").await;
    let grant = || Some(Grant::ClientCredentials(ClientCredentialsGrant {}));
    let with =
        |client: ClientCredentials| IssueTokenRequest { client: Some(client), grant: grant(), scope: String::new() };
    issue(&world, with(client.clone())).await.expect("the secret is right");
    let wrong_secret = ClientCredentials { client_secret: "wrong".into(), ..client.clone() };
    let unknown = ClientCredentials { client_id: "nobody".into(), ..client.clone() };
    let no_secret = ClientCredentials { client_secret: String::new(), ..client };
    let mut messages = HashSet::new();
    for bad in [wrong_secret, unknown, no_secret] {
        let status = refused(issue(&world, with(bad)).await, Code::Unauthenticated, Reason::ClientInvalid);
        messages.insert(status.message().to_owned());
    }
    assert_eq!(messages.len(), 1, "{messages:?}");
}

#[tokio::test]
async fn case_58_and_60_introspection_needs_a_client_and_tells_nothing_about_worthless_tokens() {
    let world = World::shared().await;
    let client = confidential_client(&world, "").await;
    let bob = world.person("bob").await;
    let anonymous = IntrospectTokenRequest { client: None, token: bob.token() };
    let answer = world.anonymous().tokens().introspect_token(anonymous).await;
    assert!(matches!(answer.expect_err("no client").code(), Code::InvalidArgument | Code::Unauthenticated));
    let wrong = ClientCredentials { client_secret: "wrong".into(), ..client.clone() };
    let wrong = IntrospectTokenRequest { client: Some(wrong), token: bob.token() };
    let answer = world.anonymous().tokens().introspect_token(wrong).await;
    refused(answer, Code::Unauthenticated, Reason::ClientInvalid);

    let stranger = registered(&world, "", None).await;
    let nothing = introspect(&world, &stranger, &bob.token()).await;
    assert_eq!(nothing, IntrospectTokenResponse::default(), "the token is none of its business");
    let alive = introspect(&world, &client, &bob.token()).await;
    assert!(alive.active && alive.sub == bob.id() && alive.token_type == "access_token", "{alive:?}");
    assert_eq!((alive.aud, alive.iss.as_str()), (vec!["flaghoist".to_owned()], "http://localhost:8080"));

    let request = RevokeTokenRequest { client: cli_asks(refresh("x")).client, token: bob.tokens.refresh_token.clone() };
    world.anonymous().tokens().revoke_token(request).await.expect("revoked");
    // Another pod may learn of it a moment later.
    let limit = if world.cluster().is_some() { Duration::from_secs(5) } else { Duration::ZERO };
    for worthless in ["garbage", "a.b.c", &bob.token(), &bob.tokens.refresh_token] {
        eventually_within(limit, "it is worth nothing and nothing is told of it", async || {
            (introspect(&world, &client, worthless).await == IntrospectTokenResponse::default()).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn case_61_another_clients_token_stays_valid() {
    let world = World::shared().await;
    let client = confidential_client(&world, "").await;
    let mut bob = world.person("bob").await;
    let request = RevokeTokenRequest { client: Some(client), token: bob.tokens.refresh_token.clone() };
    let _: Result<_, _> = world.anonymous().tokens().revoke_token(request).await;
    bob.refreshes().await.expect("it was not theirs to revoke");
}

#[tokio::test]
async fn only_an_admin_keeps_clients_and_the_built_in_one_stays() {
    let world = World::shared().await;
    let bob = world.person("bob").await;
    let request = CreateClientRequest { display_name: "x".into(), ..Default::default() };
    let answer = bob.calls().clients().create_client(request.clone()).await;
    refused(answer, Code::PermissionDenied, Reason::ScopeMissing);
    let answer = world.anonymous().clients().create_client(request).await;
    refused(answer, Code::Unauthenticated, Reason::TokenMissing);
    let admin = world.admin("admin").await;
    let built_in = DeleteClientRequest { name: "clients/flaghoist-cli".into() };
    let answer = admin.calls().clients().delete_client(built_in).await;
    assert_eq!(answer.expect_err("people sign in with it").code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn a_deleted_client_loses_its_tokens() {
    let world = World::shared().await;
    let client = confidential_client(&world, "").await;
    let other = confidential_client(&world, "").await;
    let grant = Some(Grant::ClientCredentials(ClientCredentialsGrant {}));
    let request = IssueTokenRequest { client: Some(client.clone()), grant, scope: String::new() };
    let token = issue(&world, request).await.expect("issued").access_token;
    assert!(introspect(&world, &other, &token).await.active);
    let admin = world.admin("admin").await;
    let request = DeleteClientRequest { name: format!("clients/{}", client.client_id) };
    admin.calls().clients().delete_client(request).await.expect("deleted");
    eventually("its token is worth nothing", async || (!introspect(&world, &other, &token).await.active).then_some(()))
        .await;
}
