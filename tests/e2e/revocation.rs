//! Promise 10: whoever is revoked loses their streams within 5 seconds, and their tokens.

use flaghoist_proto::auth::v1::{
    ListSessionsRequest, RevokeOtherSessionsRequest, RevokeSessionRequest, RevokeTokenRequest,
};
use flaghoist_proto::login::v1::{ChangePasswordRequest, GetAccountRequest, SetAccountDisabledRequest};
use flaghoist_tests::{PASSWORD, cli_asks, eventually_within, reason};
use tokio::time::Instant;

use crate::prelude::*;

async fn still_works(person: &Person) -> Result<(), Status> {
    person.calls().accounts().get_account(GetAccountRequest::default()).await.map(drop)
}

async fn gone_within_5_s(stream: &mut flaghoist_tests::Listening) {
    let end = stream.end_within(Duration::from_secs(5)).await.expect("the stream ends within 5 seconds");
    assert_eq!((end.code(), reason(&end)), (Code::Unauthenticated, Some(Reason::TokenRevoked)), "{end:?}");
}

#[tokio::test]
async fn promise_10_a_revoked_session_loses_its_streams_within_5_seconds() {
    let world = World::shared().await;
    let bob = world.person("bob").await;
    let other = bob.another_session().await;
    let mut lost = bob.listens_on("lost").await;
    let mut kept = other.listens_on("kept").await;
    lost.until_caught_up().await;
    kept.until_caught_up().await;

    let revoke = RevokeSessionRequest { name: bob.session.name.clone() };
    other.calls().sessions().revoke_session(revoke).await.expect("one's own session can be ended");
    gone_within_5_s(&mut lost).await;
    // Another pod may hear of it a moment later.
    let refusal = async || still_works(&bob).await.err();
    let answer = eventually_within(Duration::from_secs(5), "the token is refused", refusal).await;
    refused(Err::<(), _>(answer), Code::Unauthenticated, Reason::TokenRevoked);
    let mut bob = bob;
    refused(bob.refreshes().await, Code::Unauthenticated, Reason::GrantInvalid);
    still_works(&other).await.expect("the other session goes on");
    let dan = world.person("dan").await;
    dan.sends("hi").to(&other).await;
    kept.next_message("hi").await;
}

#[tokio::test]
async fn promise_10_holds_over_a_restart() {
    let world = World::start().await;
    let bob = world.person("bob").await;
    let other = bob.another_session().await;
    let revoke = RevokeSessionRequest { name: bob.session.name.clone() };
    other.calls().sessions().revoke_session(revoke).await.expect("ended");
    world.restart().await;
    let answer = eventually("the server is back", async || match still_works(&bob).await {
        Err(status) if status.code() == Code::Unavailable => None,
        answer => Some(answer),
    })
    .await;
    refused(answer, Code::Unauthenticated, Reason::TokenRevoked);
    still_works(&other).await.expect("the other session goes on");
}

#[tokio::test]
async fn promise_10_signing_out_everywhere_else_keeps_this_session_alone() {
    let world = World::shared().await;
    let mut bob = world.person("bob").await;
    let (mut other, mut third) = (bob.another_session().await, bob.another_session().await);
    let (mut kept, mut lost) = (bob.listens().await, other.listens_on("laptop").await);
    kept.until_caught_up().await;
    lost.until_caught_up().await;
    let answer = bob.calls().sessions().revoke_other_sessions(RevokeOtherSessionsRequest {}).await.expect("ended");
    assert_eq!(answer.into_inner().revoked_count, 2);
    gone_within_5_s(&mut lost).await;
    refused(other.refreshes().await, Code::Unauthenticated, Reason::GrantInvalid);
    refused(third.refreshes().await, Code::Unauthenticated, Reason::GrantInvalid);
    bob.refreshes().await.expect("this session goes on");
    let dan = world.person("dan").await;
    dan.sends("hi").to(&bob).await;
    kept.next_message("hi").await;
}

#[tokio::test]
async fn sessions_are_listed_newest_first_and_say_which_is_this_one() {
    let world = World::shared().await;
    let first = world.person("bob").await;
    let second = first.another_session().await;
    let request = ListSessionsRequest::default();
    let sessions = second.calls().sessions().list_sessions(request).await.expect("listed").into_inner().sessions;
    let seen: Vec<(&str, bool)> = sessions.iter().map(|session| (session.name.as_str(), session.current)).collect();
    assert_eq!(seen, [(second.session.name.as_str(), true), (first.session.name.as_str(), false)]);
    assert!(sessions.iter().all(|session| session.amr == ["pwd"] && session.label == "test"));
}

#[tokio::test]
async fn case_40_a_changed_password_ends_the_other_sessions_and_keeps_this_one() {
    let world = World::shared().await;
    let bob = world.person("bob").await;
    let mut other = bob.another_session().await;
    let mut stream = other.listens().await;
    stream.until_caught_up().await;
    let new_password = "seven slow lanterns drift";
    let change =
        |current: &str| ChangePasswordRequest { current_password: current.into(), new_password: new_password.into() };
    let wrong = bob.calls().credentials().change_password(change("not the password")).await;
    refused(wrong, Code::Unauthenticated, Reason::CredentialsInvalid);
    bob.calls().credentials().change_password(change(PASSWORD)).await.expect("changed");
    gone_within_5_s(&mut stream).await;
    still_works(&bob).await.expect("this session goes on");
    refused(other.refreshes().await, Code::Unauthenticated, Reason::GrantInvalid);
    let old = Person::try_sign_in(&world, &bob.handle, PASSWORD).await;
    refused(old, Code::Unauthenticated, Reason::CredentialsInvalid);
    Person::try_sign_in(&world, &bob.handle, new_password).await.expect("the new one is right");
}

#[tokio::test]
async fn a_revoked_refresh_token_ends_its_session() {
    let world = World::shared().await;
    let mut bob = world.person("bob").await;
    let mut stream = bob.listens().await;
    stream.until_caught_up().await;
    let client = cli_asks(flaghoist_proto::auth::v1::issue_token_request::Grant::ClientCredentials(Default::default()));
    let request = RevokeTokenRequest { client: client.client.clone(), token: bob.tokens.refresh_token.clone() };
    let mut tokens = world.anonymous().tokens();
    tokens.revoke_token(request).await.expect("revoked");
    gone_within_5_s(&mut stream).await;
    refused(bob.refreshes().await, Code::Unauthenticated, Reason::GrantInvalid);
    let unknown = RevokeTokenRequest { client: client.client, token: "nobody-knows-this-one".into() };
    tokens.revoke_token(unknown).await.expect("an unknown token is no error");
}

#[tokio::test]
async fn case_40_a_disabled_account_loses_everything_until_it_is_enabled() {
    let world = World::shared().await;
    let admin = world.admin("admin").await;
    let mut bob = world.person("bob").await;
    let mut stream = bob.listens().await;
    stream.until_caught_up().await;
    let name = bob.name.clone();
    let set = |disabled| SetAccountDisabledRequest { name: name.clone(), disabled };
    let not_admin = bob.calls().administration().set_account_disabled(set(true)).await;
    refused(not_admin, Code::PermissionDenied, Reason::ScopeMissing);
    admin.calls().administration().set_account_disabled(set(true)).await.expect("disabled");

    let began = Instant::now();
    gone_within_5_s(&mut stream).await;
    assert!(began.elapsed() < Duration::from_secs(5));
    refused(bob.refreshes().await, Code::Unauthenticated, Reason::GrantInvalid);
    let signing_in = Person::try_sign_in(&world, &bob.handle, PASSWORD).await;
    refused(signing_in, Code::Unauthenticated, Reason::CredentialsInvalid);
    admin.calls().administration().set_account_disabled(set(false)).await.expect("enabled");
    Person::try_sign_in(&world, &bob.handle, PASSWORD).await.expect("welcome back");
}
