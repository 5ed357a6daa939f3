//! What an operator does: keys out of turn, secrets of clients, the audit log. From one process or from any pod of a cluster.

use flaghoist_proto::auth::v1::issue_token_request::Grant;
use flaghoist_proto::auth::v1::{
    AuditAction, AuditEvent, ClientCredentials, ClientCredentialsGrant, IssueTokenRequest, KeyState,
    ListAuditEventsRequest, ListKeysRequest, RevokeKeyRequest, RotateClientSecretRequest, RotateKeysRequest,
    SigningKey,
};
use flaghoist_tests::http1::get;

use crate::prelude::*;
use crate::tokens::confidential_client;

/// A world in which a key may sign 2 seconds after it was published; the pods look at their keys every half second.
async fn hasty() -> World {
    let builder = World::builder().setting("FLAGHOIST_AUTH_KEY_LEAD", "2s");
    builder.setting("FLAGHOIST_AUTH_KEY_PERIOD", "1h").setting("FLAGHOIST_AUTH_KEY_KEEP", "1h").start().await
}

async fn keys(admin: &Person) -> Vec<SigningKey> {
    admin.calls().keys().list_keys(ListKeysRequest {}).await.expect("an admin may").into_inner().keys
}

async fn events(admin: &Person, action: AuditAction, subject: &str) -> Vec<AuditEvent> {
    let request = ListAuditEventsRequest { action: action.into(), subject: subject.into(), ..Default::default() };
    admin.calls().audit().list_audit_events(request).await.expect("an admin may").into_inner().audit_events
}

fn key_of(token: &str) -> String {
    let header = flaghoist_tests::forge::Parts::of(token).header;
    format!("keys/{}", header["kid"].as_str().expect("a key"))
}

/// The key that would sign if the signing one were revoked, once there is one.
async fn reserve(admin: &mut Person) -> SigningKey {
    eventually("there is a reserve", async || keys(admin).await.into_iter().find(|key| key.reserve)).await
}

#[tokio::test]
async fn a_key_that_is_revoked_is_good_for_nothing_within_seconds_and_people_stay_signed_in() {
    let world = hasty().await;
    let mut admin = world.admin("admin").await;
    let mut bob = world.person("bob").await;
    let mut phone = bob.listens().await;
    phone.until_caught_up().await;
    let token = bob.token();
    let revoked = key_of(&token);
    let next = reserve(&mut admin).await;
    let request = RevokeKeyRequest { name: revoked.clone(), force: false };
    let answer = admin.calls().keys().revoke_key(request).await.expect("revoked").into_inner();
    assert_eq!(answer.active.expect("a key signs").name, next.name);
    let began = std::time::Instant::now();
    // Every service refuses it, each by itself, and on every pod.
    let refuses = async |what: &str, answer: Result<(), Status>| {
        let refused = matches!(answer.as_ref().map_err(Status::code), Err(Code::Unauthenticated));
        assert!(refused || began.elapsed() < Duration::from_secs(5), "{what}: {answer:?}");
        refused
    };
    let mut in_a_row = 0;
    while in_a_row < 10 {
        let calls = world.with_token(token.clone());
        let list = flaghoist_proto::send::v1::ListConversationsRequest::default();
        let devices = flaghoist_proto::receiver::v1::ListDevicesRequest::default();
        let all = refuses("login", calls.whoami().await.map(drop)).await
            & refuses("send", calls.conversations().list_conversations(list).await.map(drop)).await
            & refuses("receiver", calls.receiver().list_devices(devices).await.map(drop)).await;
        in_a_row = if all { in_a_row + 1 } else { 0 };
    }
    let status = phone.end_within(Duration::from_secs(8)).await.expect("its stream was opened with such a token");
    assert_eq!(status.code(), Code::Unauthenticated);

    bob.refreshes().await.expect("the session goes on");
    assert_eq!(key_of(&bob.token()), next.name);
    world.with_token(bob.token()).whoami().await.expect("it is good");
    let jwks = get(world.http(), "/oauth2/jwks").await.text();
    assert!(!jwks.contains(revoked.trim_start_matches("keys/")), "{jwks}");
    admin.refreshes().await.expect("so does the admin's");
    let told = events(&admin, AuditAction::KeyRevoked, &revoked).await;
    assert_eq!((told.len(), told[0].actor.as_str()), (1, admin.name.as_str()));
}

#[tokio::test]
async fn a_rotation_that_is_asked_for_says_when_and_happens_then() {
    let world = hasty().await;
    let mut admin = world.admin("admin").await;
    let first = key_of(&admin.token());
    let answer = admin.calls().keys().rotate_keys(RotateKeysRequest {}).await.expect("asked for").into_inner();
    let (next, at) = (answer.next.expect("a key follows").name, answer.take_over_time.expect("a time"));
    assert_ne!(next, first);
    eventually("it signs", async || {
        admin.refreshes().await.expect("refreshed");
        (key_of(&admin.token()) == next).then_some(())
    })
    .await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("now").as_secs();
    assert!(i64::try_from(now).expect("seconds") >= at.seconds, "not before the time that was said");
    let keys = keys(&admin).await;
    assert_eq!((keys[0].name.as_str(), keys[0].state()), (next.as_str(), KeyState::Active));
    assert!(keys.iter().any(|key| key.name == first && key.state() == KeyState::Retiring));
}

#[tokio::test]
async fn a_clients_secret_is_replaced_without_a_gap() {
    let world = World::shared().await;
    let client = confidential_client(&world, "").await;
    let admin = world.admin("admin").await;
    let name = format!("clients/{}", client.client_id);
    let request = RotateClientSecretRequest { name: name.clone(), grace: None };
    let answer = admin.calls().clients().rotate_client_secret(request).await.expect("rotated").into_inner();
    let renewed = ClientCredentials { client_secret: answer.client_secret, ..client.clone() };
    for client in [&client, &renewed, &client, &renewed] {
        let grant = Some(Grant::ClientCredentials(ClientCredentialsGrant {}));
        let request = IssueTokenRequest { client: Some(client.clone()), grant, scope: String::new() };
        world.anonymous().tokens().issue_token(request).await.expect("both are good");
    }
    assert_eq!(events(&admin, AuditAction::ClientSecretRotated, &name).await.len(), 1);
}

#[tokio::test]
async fn case_35_45_98_what_was_refused_is_in_the_audit_log_and_no_secret_is() {
    let world = World::shared().await;
    let client = confidential_client(&world, "").await;
    let admin = world.admin("admin").await;
    let bob = world.person("bob").await;
    let opened = events(&admin, AuditAction::SessionOpened, &bob.name).await;
    assert_eq!((opened.len(), opened[0].actor.as_str()), (1, bob.name.as_str()));
    let known = |event: &AuditEvent| event.address.parse::<std::net::IpAddr>().is_ok();
    assert!(known(&opened[0]), "{:?}", opened[0]);

    let wrong = ClientCredentials { client_secret: "a-guess-at-a-secret".into(), ..client.clone() };
    let grant = Some(Grant::ClientCredentials(ClientCredentialsGrant {}));
    let request = IssueTokenRequest { client: Some(wrong), grant, scope: String::new() };
    world.anonymous().tokens().issue_token(request).await.expect_err("it is refused");
    let name = format!("clients/{}", client.client_id);
    let failed = eventually("the failure is told of", async || {
        events(&admin, AuditAction::ClientAuthenticationFailed, &name).await.pop()
    })
    .await;
    assert!(failed.actor.is_empty() && known(&failed), "{failed:?}");

    // Another client presents a refresh token that is not its own.
    let stolen = flaghoist_proto::auth::v1::RefreshTokenGrant { refresh_token: bob.tokens.refresh_token.clone() };
    let request = IssueTokenRequest {
        client: Some(client.clone()),
        grant: Some(Grant::RefreshToken(stolen)),
        scope: String::new(),
    };
    world.anonymous().tokens().issue_token(request).await.expect_err("it is refused");
    let reused = events(&admin, AuditAction::RefreshTokenReused, &bob.name).await;
    assert_eq!((reused.len(), &reused[0].client_id), (1, &client.client_id));
    let ended = events(&admin, AuditAction::SessionEnded, &bob.name).await;
    assert_eq!(ended[0].detail, "refresh_token_reused");
    let all = format!("{:?}", events(&admin, AuditAction::Unspecified, "").await);
    for secret in [&client.client_secret, &bob.tokens.refresh_token, &bob.tokens.access_token] {
        assert!(!all.contains(secret.as_str()));
    }
    assert!(!all.contains("a-guess-at-a-secret"));

    let people = bob.calls().audit().list_audit_events(ListAuditEventsRequest::default()).await;
    assert!(matches!(people.expect_err("for admins").code(), Code::PermissionDenied | Code::Unauthenticated));
}
