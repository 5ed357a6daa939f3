//! Logins in steps.

use flaghoist_proto::login::v1 as login;
use flaghoist_proto::login::v1::submit_password_response::Next;
use flaghoist_runtime::fault::Reason;
use tonic::Code;

use super::world::*;

const NEW: &str = "other flowers in the sun";

#[tokio::test]
async fn a_password_alone_signs_in_where_there_is_no_second_factor() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let request = login::StartLoginRequest { handle: "ALICE".into(), label: "Phone\0".into(), ..Default::default() };
    let started = alice.start_with(request).await.unwrap();
    assert!(started.expire_time.is_some() && started.login.len() == 43);
    // What is wrong takes no step.
    assert_eq!(reason(alice.password(&started.login, "wrong").await), Reason::CredentialsInvalid);
    let Next::SignedIn(welcome) = alice.password(&started.login, PASSWORD).await.unwrap() else { panic!("a factor") };
    assert!(welcome.tokens.is_some() && welcome.session.is_some());
    assert_eq!(welcome.account.unwrap().name, alice.name());
    let asked = world.issuer.last_request();
    assert_eq!((asked.amr.join(" ").as_str(), asked.label.as_str()), ("pwd", "Phone"));
    assert_eq!((asked.client_id.as_str(), asked.address.as_str()), ("flaghoist-cli", "192.0.2.1"));
    // Over is over, and one that was begun with another client says so at the end.
    assert_eq!(reason(alice.password(&started.login, PASSWORD).await), Reason::LoginOver);
    let request =
        login::StartLoginRequest { handle: "alice".into(), client_id: "unknown".into(), ..Default::default() };
    let elsewhere = alice.start_with(request).await.unwrap().login;
    assert_eq!(reason(alice.password(&elsewhere, PASSWORD).await), Reason::ClientInvalid);
    let request = login::StartLoginRequest { handle: "alice".into(), client_id: "a\0b".into(), ..Default::default() };
    assert_eq!(reason(alice.start_with(request).await), Reason::FieldViolation);
}

#[tokio::test]
async fn a_second_factor_is_asked_for_after_the_password_and_said_in_the_token() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let (app, codes) = alice.with_app().await;
    let login = alice.start("alice").await;
    let Next::SecondFactors(next) = alice.password(&login, PASSWORD).await.unwrap() else { panic!("signed in") };
    assert_eq!(next.factors().collect::<Vec<_>>(), [login::Factor::Totp, login::Factor::RecoveryCode]);
    let sessions = world.issuer.sessions(&alice.name()).len();
    let welcome = alice.totp(&login, &app.code(0)).await.unwrap();
    assert_eq!(welcome.account.unwrap().handle, "alice");
    assert_eq!(world.issuer.sessions(&alice.name()).len(), sessions + 1);
    assert_eq!(world.issuer.last_request().amr, ["pwd", "otp", "mfa"]);
    let login = alice.half_signed_in("alice").await;
    assert_eq!(alice.recover(&login, &codes[3].to_uppercase().replace('-', " ")).await.unwrap(), 9);
    assert_eq!(world.issuer.last_request().amr, ["pwd", "otp", "mfa"]);
}

#[tokio::test]
async fn the_call_with_the_password_alone_is_no_way_around_a_second_factor() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    alice.with_app().await;
    let sessions = world.issuer.sessions(&alice.name()).len();
    let refused = alice.login("alice", PASSWORD).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("StartLogin"), "{}", refused.message());
    assert_eq!(reason::<()>(Err(refused)), Reason::SecondFactorRequired);
    assert_eq!(reason(alice.login("alice", "wrong").await), Reason::CredentialsInvalid);
    assert_eq!(world.issuer.sessions(&alice.name()).len(), sessions);
}

#[tokio::test]
async fn case_75_a_login_begins_alike_whoever_it_is_for() {
    let world = World::new().await;
    let root = world.admin("root").await;
    let alice = world.person("alice").await;
    alice.with_app().await;
    let carol = world.person("carol").await;
    root.set_disabled(&carol.name(), true).await.unwrap();
    let someone = world.at("192.0.2.50");
    let mut refusals = Vec::new();
    for (handle, password) in
        [("nobody", PASSWORD), ("n\u{f6}t a\0handle", PASSWORD), ("alice", "wrong"), ("carol", PASSWORD)]
    {
        let login = someone.start(handle).await;
        let begun = world.accounts.pool().begun();
        let refused = someone.password(&login, password).await.unwrap_err();
        assert_eq!(world.accounts.pool().begun(), begun + 1, "{handle}: each costs one hash");
        refusals.push((refused.code(), refused.message().to_owned(), refused.details().to_owned()));
    }
    assert!(refusals.iter().all(|refusal| *refusal == refusals[0]), "{refusals:?}");
    assert_eq!(refusals[0].0, Code::Unauthenticated);
}

#[tokio::test]
async fn case_85_no_step_is_skipped_or_taken_twice_and_no_one_elses_login_is_finished() {
    let world = World::new().await;
    let (alice, mallory) = (world.person("alice").await, world.person("mallory").await);
    let (app, codes) = alice.with_app().await;
    let (her_app, _) = mallory.with_app().await;
    let over = |refused: tonic::Status, expected: Reason| {
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
        assert_eq!(reason::<()>(Err(refused)), expected);
    };
    let login = alice.start("alice").await;
    over(alice.totp(&login, &app.code(0)).await.unwrap_err(), Reason::LoginStep);
    over(alice.recover(&login, &codes[0]).await.unwrap_err(), Reason::LoginStep);
    alice.password(&login, PASSWORD).await.unwrap();
    over(alice.password(&login, PASSWORD).await.unwrap_err(), Reason::LoginStep);
    // Logins that were never begun.
    for unknown in ["x", &"A".repeat(43), &login.to_lowercase(), "a\0b", &format!("{login} ")] {
        over(alice.totp(unknown, &app.code(0)).await.unwrap_err(), Reason::LoginOver);
        over(alice.password(unknown, PASSWORD).await.unwrap_err(), Reason::LoginOver);
    }
    // Who has another login, another account and the factor of that gets nowhere with this one, nor the other way round.
    let hers = mallory.half_signed_in("mallory").await;
    assert_eq!(reason(mallory.totp(&login, &her_app.code(0)).await), Reason::CredentialsInvalid);
    assert_eq!(reason(mallory.recover(&hers, &codes[0]).await), Reason::CredentialsInvalid);
    assert_eq!(reason(mallory.totp(&hers, &app.code(0)).await), Reason::CredentialsInvalid);
    alice.totp(&login, &app.code(0)).await.unwrap();
    over(alice.totp(&login, &app.code(1)).await.unwrap_err(), Reason::LoginOver);
    mallory.totp(&hers, &her_app.code(0)).await.unwrap();
}

#[tokio::test]
async fn case_85_what_changes_after_the_first_step_ends_the_login() {
    let world = World::new().await;
    let root = world.admin("root").await;
    let alice = world.person("alice").await;
    let (app, codes) = alice.with_app().await;
    let login = alice.half_signed_in("alice").await;
    alice.change_password(PASSWORD, NEW).await.unwrap();
    assert_eq!(reason(alice.totp(&login, &app.code(0)).await), Reason::CredentialsInvalid);
    let login = alice.start("alice").await;
    alice.password(&login, NEW).await.unwrap();
    root.set_disabled(&alice.name(), true).await.unwrap();
    assert_eq!(reason(alice.recover(&login, &codes[0]).await), Reason::CredentialsInvalid);
    assert!(world.issuer.sessions(&alice.name()).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_85_of_many_who_take_a_step_at_once_one_does_on_every_pod_and_after_a_restart() {
    let mut worlds = vec![vec![World::new().await]];
    worlds.extend(World::pods(|_| ()).await.map(Vec::from));
    for pods in worlds {
        let alice = pods[0].person("alice").await;
        let login = alice.start("alice").await;
        let everywhere = pods.iter().cycle().take(4).map(|pod| alice.on(pod)).collect::<Vec<_>>();
        let signed_in = everywhere.iter().map(|alice| alice.password(&login, PASSWORD));
        let signed_in = futures_util::future::join_all(signed_in).await;
        assert_eq!(signed_in.iter().filter(|answer| answer.is_ok()).count(), 1);
        let (app, codes) = alice.with_app().await;
        let login = alice.half_signed_in("alice").await;
        let sessions = pods[0].issuer.sessions(&alice.name()).len();
        // A code of each kind, brought at once from everywhere: whatever is taken, one session is opened.
        let (codes, app) = (codes.iter().cycle(), app.code(0));
        let both = everywhere.iter().zip(codes).map(|(alice, code)| async {
            let (totp, recovery) = tokio::join!(alice.totp(&login, &app), alice.recover(&login, code));
            usize::from(totp.is_ok()) + usize::from(recovery.is_ok())
        });
        let opened: usize = futures_util::future::join_all(both).await.into_iter().sum();
        assert_eq!((opened, pods[0].issuer.sessions(&alice.name()).len()), (1, sessions + 1));
    }
    let world = World::new().await;
    let alice = world.person("alice").await;
    let (app, _) = alice.with_app().await;
    let login = alice.half_signed_in("alice").await;
    let world = world.restart(|_| ()).await;
    let alice = alice.on(&world);
    assert_eq!(reason(alice.password(&login, PASSWORD).await), Reason::LoginStep);
    alice.totp(&login, &app.code(0)).await.unwrap();
}

#[tokio::test]
async fn case_80_logins_that_one_address_begins_are_limited() {
    let world = World::with(|settings| settings.address_burst = 3).await;
    let someone = world.at("192.0.2.66");
    for _ in 0..3 {
        someone.start("alice").await;
    }
    let request = login::StartLoginRequest { handle: "alice".into(), ..Default::default() };
    let refused = someone.start_with(request).await.unwrap_err();
    assert!(retry_delay(&refused) > std::time::Duration::ZERO);
    assert_eq!(reason::<()>(Err(refused)), Reason::RateLimited);
    world.at("192.0.2.67").start("alice").await;
}
