//! A forgotten password, set anew by the link in a message: case 92.

use std::time::{SystemTime, UNIX_EPOCH};

use flaghoist_proto::login::v1::reset_password_request::SecondFactor;
use flaghoist_proto::login::v1::{
    ConfirmTotpRequest, EnrollTotpRequest, GetPasswordResetRequest, RequestPasswordResetRequest, ResetPasswordRequest,
};
use flaghoist_tests::letters::Letters;
use flaghoist_tests::{PASSWORD, Service};
use futures_util::future::join_all;
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use crate::contacts::{address, sets, verifies, world_with_letters};
use crate::prelude::*;

const NEW: &str = "eleven quiet foxes read maps";

/// Someone with a verified address.
async fn reachable(world: &World, letters: &Letters, name: &str) -> (Person, String) {
    let (person, address) = (world.person(name).await, address(name));
    sets(&person, &address).await;
    verifies(&person, &letters.code(&address, 1).await).await.expect("the code that was sent");
    (person, address)
}

async fn forgets(world: &World, identifier: &str) {
    let request = RequestPasswordResetRequest { identifier: identifier.into() };
    world.anonymous().login().request_password_reset(request).await.expect("whoever asks is answered");
}

async fn opens(world: &World, link: &str) -> Result<(), Status> {
    let request = GetPasswordResetRequest { token: link.into() };
    world.anonymous().login().get_password_reset(request).await.map(drop)
}

async fn resets(world: &World, link: &str, second_factor: Option<SecondFactor>) -> Result<(), Status> {
    let request = ResetPasswordRequest { token: link.into(), new_password: NEW.into(), second_factor };
    world.anonymous().login().reset_password(request).await.map(drop)
}

/// Until when the newest link is good, in milliseconds since 1970, after all links were made older by so many milliseconds.
async fn age_links(world: &World, by_ms: i64) -> i64 {
    let age = format!("UPDATE password_resets SET expires_at = expires_at - {by_ms}");
    let look = "SELECT max(expires_at) FROM password_resets";
    if let Some(cluster) = world.cluster() {
        let (postgres, url) = (cluster.postgres(), cluster.database(Service::Login));
        let schema = "SET search_path = login;";
        postgres.sql(url, &format!("{schema} {age}")).await;
        let said = postgres.sql(url, &format!("{schema} {look}")).await;
        return said.lines().filter_map(|line| line.trim().parse().ok()).next_back().expect("a time");
    }
    // One process owns the file.
    world.stop().await;
    let path = world.data().join("login.db");
    let mut store = SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(path)).await.expect("opened");
    sqlx::query(sqlx::AssertSqlSafe(age)).execute(&mut store).await.expect("made older");
    let until: i64 = sqlx::query_scalar(look).fetch_one(&mut store).await.expect("a time");
    store.close().await.expect("closed");
    world.start_again().await;
    until
}

#[tokio::test]
async fn case_92_a_link_is_good_once_and_ends_all_sessions() {
    let (world, letters) = world_with_letters().await;
    let (mut bob, address) = reachable(&world, &letters, "bob").await;
    let mut elsewhere = bob.another_session().await;
    let mut stream = elsewhere.listens().await;
    stream.until_caught_up().await;
    for nobody in ["nobody", "nobody@example.com"] {
        forgets(&world, nobody).await;
    }
    forgets(&world, &address).await;
    let older = letters.reset(&address, 1).await;
    forgets(&world, &bob.handle).await;
    let link = letters.reset(&address, 2).await;
    // Looking at it does not use it up, and of many who bring it at once, to whichever pod, one sets the password.
    opens(&world, &link).await.expect("it is good");
    let brought = join_all((0..20).map(|_| resets(&world, &link, None))).await;
    assert_eq!(brought.iter().filter(|answer| answer.is_ok()).count(), 1, "{brought:?}");
    for used in [&link, &older] {
        refused(resets(&world, used, None).await, Code::FailedPrecondition, Reason::ResetOver);
        refused(opens(&world, used).await, Code::FailedPrecondition, Reason::ResetOver);
    }
    stream.end_within(Duration::from_secs(5)).await.expect("its streams end");
    refused(elsewhere.refreshes().await, Code::Unauthenticated, Reason::GrantInvalid);
    refused(bob.refreshes().await, Code::Unauthenticated, Reason::GrantInvalid);
    let old = Person::try_sign_in(&world, &bob.handle, PASSWORD).await;
    refused(old, Code::Unauthenticated, Reason::CredentialsInvalid);
    Person::try_sign_in(&world, &bob.handle, NEW).await.expect("the new one is right");
    letters.with("set anew", &address, 1).await;
}

#[tokio::test]
async fn case_92_a_link_is_good_for_thirty_minutes_also_over_a_restart() {
    let (world, letters) = world_with_letters().await;
    let (bob, address) = reachable(&world, &letters, "bob").await;
    forgets(&world, &bob.handle).await;
    let link = letters.reset(&address, 1).await;
    let until = age_links(&world, 0).await;
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis());
    let left = until - now.expect("milliseconds");
    assert!((25 * 60_000..=30 * 60_000).contains(&left), "{left} ms");
    age_links(&world, left - 60_000).await;
    opens(&world, &link).await.expect("a minute is left");
    age_links(&world, 61_000).await;
    refused(opens(&world, &link).await, Code::FailedPrecondition, Reason::ResetOver);
    refused(resets(&world, &link, None).await, Code::FailedPrecondition, Reason::ResetOver);
    Person::try_sign_in(&world, &bob.handle, PASSWORD).await.expect("the password is what it was");
}

#[tokio::test]
async fn case_92_a_link_is_no_way_around_a_second_factor() {
    let (world, letters) = world_with_letters().await;
    let (bob, address) = reachable(&world, &letters, "bob").await;
    let mut credentials = bob.calls().credentials();
    let enrolled = credentials.enroll_totp(EnrollTotpRequest {}).await.expect("fresh from the sign-in").into_inner();
    let secret = totp_rs::Secret::try_from_base32(&enrolled.secret).expect("base 32");
    let app = totp_rs::Builder::new().with_secret(secret).with_account_name("bob").build_noncompliant();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let code = |steps: i64| app.generate(now.checked_add_signed(30 * steps).expect("a time")).to_string();
    let confirmed = credentials.confirm_totp(ConfirmTotpRequest { code: code(-1) }).await.expect("its first code");
    let recovery_codes = confirmed.into_inner().recovery_codes;
    forgets(&world, &bob.handle).await;
    let link = letters.reset(&address, 1).await;
    refused(resets(&world, &link, None).await, Code::FailedPrecondition, Reason::SecondFactorRequired);
    let recovery = |code: &str| Some(SecondFactor::RecoveryCode(code.into()));
    let totp = |code: String| Some(SecondFactor::TotpCode(code));
    let wrong = resets(&world, &link, recovery("0000-0000-0000-0000")).await;
    refused(wrong, Code::Unauthenticated, Reason::CredentialsInvalid);
    let used = resets(&world, &link, totp(code(-1))).await;
    refused(used, Code::Unauthenticated, Reason::CredentialsInvalid);
    Person::try_sign_in(&world, &bob.handle, NEW).await.expect_err("nothing was set");
    resets(&world, &link, recovery(&recovery_codes[0])).await.expect("a recovery code is one");
    refused(resets(&world, &link, recovery(&recovery_codes[1])).await, Code::FailedPrecondition, Reason::ResetOver);
    // The new password alone signs nobody in.
    let half = Person::try_sign_in(&world, &bob.handle, NEW).await;
    refused(half, Code::FailedPrecondition, Reason::SecondFactorRequired);
}
