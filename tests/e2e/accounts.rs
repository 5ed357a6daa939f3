//! Accounts and signing in: handles, passwords, throttles, the hash pool, registration, and what the log must not hold.

use std::collections::HashSet;
use std::time::Instant;

use flaghoist_proto::login::v1::{
    ChangePasswordRequest, CreateAccountRequest, CreateInvitationRequest, GetAccountRequest, LoginRequest,
    LookupAccountRequest, SetAccountAdminRequest, SetAccountDisabledRequest, UpdateAccountRequest,
};
use flaghoist_tests::{PASSWORD, unique};
use futures_util::future::join_all;

use crate::prelude::*;

async fn create(world: &World, handle: &str, password: &str) -> Result<String, Status> {
    let request = CreateAccountRequest { handle: handle.into(), password: password.into(), ..Default::default() };
    let answer = world.anonymous().accounts().create_account(request).await?.into_inner();
    Ok(answer.account.expect("the answer has the account").handle)
}

async fn login(world: &World, handle: &str, password: &str) -> Result<(), Status> {
    Person::try_sign_in(world, handle, password).await.map(drop)
}

#[tokio::test]
async fn a_handle_is_one_account_in_every_spelling() {
    let world = World::shared().await;
    let unique = unique();
    let handle = create(&world, &format!("John.{unique}"), PASSWORD).await.expect("new");
    assert_eq!(handle, format!("john.{unique}"));
    let full_width: String = format!("john.{unique}")
        .chars()
        .map(|letter| char::from_u32(letter as u32 - 0x21 + 0xFF01).expect("a full-width form"))
        .collect();
    for spelling in [format!("JOHN.{unique}"), handle.clone(), full_width.clone()] {
        refused(create(&world, &spelling, PASSWORD).await, Code::AlreadyExists, Reason::AlreadyExists);
        login(&world, &spelling, PASSWORD).await.expect("the same person");
    }
    let person = world.person("eve").await;
    let lookup = LookupAccountRequest { handle: format!("@{full_width}") };
    let found = person.calls().accounts().lookup_account(lookup).await.expect("found").into_inner();
    assert_eq!(found.account.expect("the answer has it").handle, handle);
    for bad in ["a", "with space", "sla/sh", "ümlaut", "tab\tbed", &"x".repeat(33), "nul\0nul", "а́", "🦆🦆"] {
        let status = create(&world, bad, PASSWORD).await.expect_err(bad);
        assert_eq!(status.code(), Code::InvalidArgument, "{bad:?}");
    }
}

#[tokio::test]
async fn the_same_handle_from_many_at_once_is_one_account() {
    let world = World::shared().await;
    let handle = format!("race-{}", unique());
    let answers = join_all((0..10).map(|_| create(&world, &handle, PASSWORD))).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    for answer in answers.into_iter().filter(Result::is_err) {
        refused(answer, Code::AlreadyExists, Reason::AlreadyExists);
    }
}

#[tokio::test]
async fn case_75_unknown_wrong_and_disabled_are_answered_alike() {
    let world = World::shared().await;
    let admin = world.admin("admin").await;
    let (bob, disabled) = (world.person("bob").await, world.person("gone").await);
    let request = SetAccountDisabledRequest { name: disabled.name.clone(), disabled: true };
    admin.calls().administration().set_account_disabled(request).await.expect("disabled");
    let mut answers = HashSet::new();
    for (handle, password) in [
        ("nobody-has-this", PASSWORD),
        (bob.handle.as_str(), "not the password"),
        (disabled.handle.as_str(), PASSWORD),
        ("!", PASSWORD),
    ] {
        let status = refused(login(&world, handle, password).await, Code::Unauthenticated, Reason::CredentialsInvalid);
        answers.insert((status.message().to_owned(), status.details().to_vec()));
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
}

#[tokio::test]
async fn case_75_an_unknown_handle_takes_as_long_as_a_wrong_password() {
    let world = World::builder()
        .setting("FLAGHOIST_LOGIN_HASH_MEMORY_KIB", "8192")
        .setting("FLAGHOIST_LOGIN_ACCOUNT_FREE", "1000")
        .start()
        .await;
    let bob = world.person("bob").await;
    // By turns, so that a busy moment of the machine meets both.
    let (mut unknown, mut wrong) = (Vec::new(), Vec::new());
    for _ in 0..25 {
        for (handle, times) in [("nobody-has-this", &mut unknown), (bob.handle.as_str(), &mut wrong)] {
            let began = Instant::now();
            login(&world, handle, "not the password").await.expect_err("wrong");
            times.push(began.elapsed());
        }
    }
    let median = |mut times: Vec<Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    let (unknown, wrong) = (median(unknown), median(wrong));
    let ratio = unknown.as_secs_f64() / wrong.as_secs_f64();
    assert!((0.5..2.0).contains(&ratio), "unknown {unknown:?}, wrong {wrong:?}");
}

#[tokio::test]
async fn case_76_a_password_that_is_too_long_is_refused_before_it_is_hashed() {
    let world = World::shared().await;
    let bob = world.person("bob").await;
    let long = "x".repeat(1_025);
    let status = login(&world, &bob.handle, &long).await.expect_err("too long");
    assert_eq!(status.code(), Code::InvalidArgument);
    let status = create(&world, "someone-else", &long).await.expect_err("too long");
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn case_77_every_byte_of_a_password_counts() {
    let world = World::shared().await;
    let unique = || format!("p-{}", unique());
    let long = "gentle otters paint nine moons ".repeat(33);
    for password in [&long[..1_000], "twelve 🦆 quack over walls", "nul\0in the middle of it", "  spaces kept around  "]
    {
        let handle = unique();
        create(&world, &handle, password).await.unwrap_or_else(|error| panic!("{password:?}: {error:?}"));
        login(&world, &handle, password).await.expect("the same password");
        let shorter: String = password.chars().take(password.chars().count() - 1).collect();
        for other in [shorter, format!("{password}x"), password.to_uppercase(), password.trim().to_owned()] {
            if other != password && other.len() <= 1_024 {
                login(&world, &handle, &other).await.expect_err("another password");
            }
        }
        let handle = unique();
        create(&world, &handle, password).await.expect("two people may have the same password");
    }
}

#[tokio::test]
async fn weak_passwords_are_refused_with_the_reason() {
    let world = World::shared().await;
    for weak in ["password", "12345678", "qwertyuiop", "aaaaaaaaaaaa", "password123", "iloveyou"] {
        let status = create(&world, "someone-weak", weak).await.expect_err(weak);
        assert_eq!(flaghoist_tests::reason(&status), Some(Reason::PasswordWeak), "{weak}: {status:?}");
        assert_eq!(status.code(), Code::InvalidArgument);
    }
    let status = create(&world, "someone-short", "x7#kQ!2").await.expect_err("seven characters");
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn case_80_a_hundred_parallel_guesses_are_not_a_hundred_guesses() {
    let world = World::start().await;
    let bob = world.person("bob").await;
    let answers = join_all((0..100).map(|number| {
        let (world, handle) = (&world, &bob.handle);
        async move { login(world, handle, &format!("guess number {number}")).await }
    }))
    .await;
    let mut tried = 0;
    for answer in answers {
        let status = answer.expect_err("all of them are wrong");
        match status.code() {
            Code::Unauthenticated => tried += 1,
            Code::ResourceExhausted => {
                assert!(retry_after(&status).is_some_and(|wait| wait > Duration::ZERO), "{status:?}");
            }
            other => panic!("{other:?}: {status:?}"),
        }
    }
    assert!(tried <= 10, "{tried} guesses were tried at once");

    // The current password of a session cannot be guessed this way either.
    let change =
        || ChangePasswordRequest { current_password: "guess".into(), new_password: "seven slow lanterns drift".into() };
    let answers = join_all((0..50).map(|_| {
        let calls = bob.calls().credentials();
        async move { calls.clone().change_password(change()).await }
    }))
    .await;
    let limited = answers.iter().flat_map(Result::as_ref).count();
    assert_eq!(limited, 0);
    let refusals = answers.into_iter().filter_map(Result::err);
    assert!(refusals.filter(|status| status.code() == Code::ResourceExhausted).count() >= 40);
}

#[tokio::test]
async fn case_96_and_fault_16_a_full_hash_pool_refuses_at_once_and_holds_nobody_up() {
    let world = World::builder()
        .setting("FLAGHOIST_LOGIN_HASH_MEMORY_KIB", "65536")
        .setting("FLAGHOIST_LOGIN_HASH_PASSES", "3")
        .setting("FLAGHOIST_LOGIN_HASH_THREADS", "1")
        .setting("FLAGHOIST_LOGIN_HASH_QUEUE", "4")
        .setting("FLAGHOIST_LOGIN_ACCOUNT_FREE", "1000")
        .start()
        .await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let conversation = alice.direct(&bob).await;
    let channel = world.anonymous();
    channel.login().login(LoginRequest::default()).await.expect_err("this only connects");
    let flood = join_all((0..40).map(|number| {
        let mut client = channel.login();
        async move {
            let began = Instant::now();
            let request = LoginRequest {
                handle: format!("nobody-{number}"),
                password: "not the password".into(),
                ..Default::default()
            };
            let status = client.login(request).await.expect_err("nobody");
            (status, began.elapsed())
        }
    }));
    let sends = async {
        let mut slowest = Duration::ZERO;
        for number in 0..20 {
            let began = Instant::now();
            alice.sends(number.to_string()).to(&conversation).await;
            slowest = slowest.max(began.elapsed());
        }
        slowest
    };
    let (refusals, slowest) = tokio::join!(flood, sends);
    let mut full = Vec::new();
    for (status, took) in refusals {
        if status.code() == Code::ResourceExhausted {
            assert!(retry_after(&status).is_some(), "fault 16: an overload says when to come back: {status:?}");
            full.push(took);
        }
    }
    full.sort();
    assert!(full.len() >= 20, "only {} of 40 were refused", full.len());
    // A test is no benchmark: this is far from the promised 50 ms and far below the seconds of a queue.
    assert!(full[full.len() / 2] < Duration::from_millis(500), "refused after {:?}", full[full.len() / 2]);
    assert!(slowest < Duration::from_secs(3), "a send took {slowest:?}");
}

#[tokio::test]
async fn registration_can_be_closed_or_by_invitation() {
    if only_embedded("it starts several servers on one data folder") {
        return;
    }
    let world = World::builder().start().await;
    let founder = world.admin("founder").await;
    world.stop().await;
    let by_invitation =
        World::builder().data(world.data()).setting("FLAGHOIST_LOGIN_REGISTRATION", "invitation").start().await;
    let founder = Person::signs_in(&by_invitation, &founder.handle).await;
    let without = create(&by_invitation, "stranger", PASSWORD).await.expect_err("no invitation");
    assert_eq!(flaghoist_tests::reason(&without), Some(Reason::InvitationInvalid));
    let made = founder.calls().administration().create_invitation(CreateInvitationRequest {}).await;
    let invitation = made.expect("an admin invites").into_inner().invitation;
    let request = |handle: &str| CreateAccountRequest {
        handle: handle.into(),
        password: PASSWORD.into(),
        invitation: invitation.clone(),
        ..Default::default()
    };
    let mut accounts = by_invitation.anonymous().accounts();
    accounts.create_account(request("guest")).await.expect("invited");
    let again = accounts.create_account(request("another-guest")).await;
    assert_eq!(flaghoist_tests::reason(&again.expect_err("used")), Some(Reason::InvitationInvalid));
    by_invitation.stop().await;

    let closed = World::builder().data(world.data()).setting("FLAGHOIST_LOGIN_REGISTRATION", "closed").start().await;
    let status = create(&closed, "stranger", PASSWORD).await.expect_err("closed");
    assert_eq!(flaghoist_tests::reason(&status), Some(Reason::RegistrationClosed));
    login(&closed, "guest", PASSWORD).await.expect("who is in stays in");
}

#[tokio::test]
async fn the_last_admin_stays() {
    let world = World::start().await;
    let admin = world.admin("admin").await;
    let bob = world.person("bob").await;
    let set = |name: &str, admin| SetAccountAdminRequest { name: name.into(), admin };
    let mut administration = admin.calls().administration();
    let alone = administration.set_account_admin(set(&admin.name, false)).await;
    refused(alone, Code::FailedPrecondition, Reason::LastAdmin);
    administration.set_account_admin(set(&bob.name, true)).await.expect("a second admin");
    let bob = bob.another_session().await;
    bob.calls().administration().set_account_admin(set(&admin.name, false)).await.expect("now there is another");
    // Another pod may not have heard yet; there bob is the last one, whoever asks.
    eventually("the scope is gone with the sessions", async || {
        let answer = administration.set_account_admin(set(&bob.name, false)).await;
        answer.err().filter(|status| status.code() == Code::Unauthenticated)
    })
    .await;
}

#[tokio::test]
async fn an_account_shows_what_its_person_wants_shown() {
    let world = World::shared().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let request = UpdateAccountRequest { display_name: Some("Alice 🦆".into()), ..Default::default() };
    alice.calls().accounts().update_account(request).await.expect("changed");
    let request = GetAccountRequest { name: alice.name.clone() };
    let account = bob.calls().accounts().get_account(request).await.expect("seen").into_inner().account;
    let account = account.expect("the answer has it");
    assert_eq!((account.display_name.as_str(), account.handle.as_str()), ("Alice 🦆", alice.handle.as_str()));
    assert!(!account.admin && !account.disabled);
}

#[tokio::test]
async fn case_98_the_log_has_no_password_token_or_text() {
    let world = World::builder().setting("RUST_LOG", "debug").start().await;
    let (alice, mut bob) = (world.person("alice").await, world.person("bob").await);
    let mut phone = bob.listens().await;
    alice.sends("wombat-in-a-hat").to(&bob).await;
    let event = phone.next_message("wombat-in-a-hat").await;
    phone.ack(&event).await;
    let (old_access, old_refresh) = (bob.token(), bob.tokens.refresh_token.clone());
    bob.refreshes().await.expect("refreshed");
    login(&world, &bob.handle, "a wrong password indeed").await.expect_err("wrong");
    login(&world, &"x".repeat(64), &"a".repeat(2_000)).await.expect_err("too long");
    alice.sends("wombat-again").request_id("y".repeat(70)).tries(&bob).await.expect_err("too long");
    let form = [("grant_type", "refresh_token"), ("refresh_token", "secret-garbage"), ("client_id", "flaghoist-cli")];
    flaghoist_tests::http1::post_form(world.http(), "/oauth2/token", &[], &form).await;
    let log = world.log();
    let secrets = [
        PASSWORD,
        "a wrong password indeed",
        "wombat",
        "secret-garbage",
        &old_access,
        &old_refresh,
        &bob.token(),
        &bob.tokens.refresh_token,
    ];
    for secret in secrets {
        assert!(!log.contains(secret), "{secret:?} is in the log:\n{log}");
    }
}
