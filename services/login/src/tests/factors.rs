//! Second factors: enrolling, using and removing them, and whoever guesses at them.

use std::time::Duration;

use flaghoist_runtime::fault::Reason;
use tonic::Code;

use super::world::*;

#[tokio::test]
async fn an_authenticator_app_is_enrolled_listed_replaced_and_removed() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    assert_eq!((alice.factors().await.totp, alice.factors().await.recovery_codes_left), (None, 0));
    assert_eq!(reason(alice.confirm("123456").await), Reason::NotFound);
    let enrolment = alice.enroll().await.unwrap();
    let expected = format!("otpauth://totp/chat.example.com:alice?secret={}&issuer=chat.example.com", enrolment.secret);
    assert_eq!(enrolment.uri, expected);
    alice.login("alice", PASSWORD).await.expect("nothing depends on it before it is confirmed");
    // An enrolment that was begun anew is the one that counts.
    let app = App::with(&alice.enroll().await.unwrap().secret);
    assert_eq!(reason(alice.confirm(&App::with(&enrolment.secret).code(0)).await), Reason::CredentialsInvalid);
    let codes = alice.confirm(&app.code(-1)).await.unwrap();
    assert_eq!(codes.len(), 10);
    let factors = alice.factors().await;
    assert!(factors.totp.unwrap().create_time.is_some() && factors.recovery_codes_left == 10);
    let (newer, none) = alice.with_app().await;
    assert!(none.is_empty(), "the codes from before are good");
    let login = alice.half_signed_in("alice").await;
    assert_eq!(reason(alice.totp(&login, &app.code(0)).await), Reason::CredentialsInvalid);
    alice.totp(&login, &newer.code(0)).await.unwrap();
    let anew = alice.new_recovery_codes().await.unwrap();
    let login = alice.half_signed_in("alice").await;
    assert_eq!(reason(alice.recover(&login, &codes[0]).await), Reason::CredentialsInvalid);
    assert_eq!(alice.recover(&login, &anew[0]).await.unwrap(), 9);
    alice.delete_totp(true).await.unwrap();
    assert_eq!((alice.factors().await.totp, alice.factors().await.recovery_codes_left), (None, 0));
    alice.login("alice", PASSWORD).await.unwrap();
    assert_eq!(reason(alice.new_recovery_codes().await), Reason::FactorMissing);
}

#[tokio::test]
async fn who_adds_or_removes_a_factor_has_signed_in_lately() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let stale = alice.signed_in_ago(Duration::from_secs(601));
    let fresh = alice.signed_in_ago(Duration::from_secs(590));
    let refused = stale.enroll().await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("sign in again"), "{}", refused.message());
    assert_eq!(reason::<()>(Err(refused)), Reason::LoginNotFresh);
    let app = App::with(&fresh.enroll().await.unwrap().secret);
    assert_eq!(reason(stale.confirm(&app.code(0)).await), Reason::LoginNotFresh);
    fresh.confirm(&app.code(0)).await.unwrap();
    assert_eq!(reason(stale.new_recovery_codes().await), Reason::LoginNotFresh);
    assert_eq!(reason(stale.delete_totp(true).await), Reason::LoginNotFresh);
    assert_eq!(reason(stale.try_factors().await), Reason::LoginNotFresh);
    assert!(fresh.factors().await.totp.is_some());
}

#[tokio::test]
async fn who_has_two_factors_changes_them_by_both() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    // The first one is enrolled by who has no other.
    let thief = alice.by_password_alone();
    let begun = App::with(&thief.enroll().await.unwrap().secret);
    let codes = alice.with_app().await.1;
    assert_eq!(codes.len(), 10);
    let refused = thief.delete_totp(true).await.unwrap_err();
    assert!(refused.message().contains("two factors"), "{}", refused.message());
    assert_eq!(reason::<()>(Err(refused)), Reason::LoginNotFresh);
    assert_eq!(reason(thief.enroll().await), Reason::LoginNotFresh);
    assert_eq!(reason(thief.confirm(&begun.code(0)).await), Reason::LoginNotFresh);
    assert_eq!(reason(thief.new_recovery_codes().await), Reason::LoginNotFresh);
    assert_eq!(reason(thief.start_registration(true).await), Reason::LoginNotFresh);
    alice.delete_totp(true).await.unwrap();
}

#[tokio::test]
async fn a_first_second_factor_ends_the_sessions_that_a_password_alone_began() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    alice.signed_in("alice", PASSWORD).await;
    assert_eq!(world.issuer.sessions(&alice.name()).len(), 2);
    let (app, _) = alice.with_app().await;
    assert_eq!(world.issuer.sessions(&alice.name()), [alice.session()]);
    let login = alice.half_signed_in("alice").await;
    alice.totp(&login, &app.code(0)).await.unwrap();
    alice.with_app().await;
    assert_eq!(world.issuer.sessions(&alice.name()).len(), 2, "another app ends nothing");
}

#[tokio::test]
async fn an_application_cannot_give_itself_a_factor_of_the_person() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let wiki = alice.through_an_application();
    let refused = wiki.enroll().await.unwrap_err();
    assert_eq!((refused.code(), reason::<()>(Err(refused))), (Code::PermissionDenied, Reason::CallerNotAllowed));
    assert_eq!(reason(wiki.start_registration(true).await), Reason::CallerNotAllowed);
    alice.with_app().await;
    assert_eq!(reason(wiki.delete_totp(true).await), Reason::CallerNotAllowed);
    assert_eq!(reason(wiki.new_recovery_codes().await), Reason::CallerNotAllowed);
}

#[tokio::test]
async fn case_95_the_last_strong_factor_is_not_removed_by_mistake() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    alice.delete_totp(false).await.expect("there is none");
    let events = alice.events(0, "").await.unwrap().login_events;
    assert_eq!(events.len(), 1, "nothing changed since she signed in: {events:?}");
    alice.with_app().await;
    let refused = alice.delete_totp(false).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(reason::<()>(Err(refused)), Reason::LastFactor);
    assert_eq!(alice.factors().await.recovery_codes_left, 10);
    assert_eq!(reason(alice.login("alice", PASSWORD).await), Reason::SecondFactorRequired);
}

#[tokio::test]
async fn case_82_a_code_works_once_and_the_one_that_enrolled_the_app_did() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let app = App::with(&alice.enroll().await.unwrap().secret);
    alice.confirm(&app.code(0)).await.unwrap();
    let login = alice.half_signed_in("alice").await;
    for used in [0, -1] {
        assert_eq!(reason(alice.totp(&login, &app.code(used)).await), Reason::CredentialsInvalid, "{used}");
    }
    alice.totp(&login, &app.code(1)).await.unwrap();
    let login = alice.half_signed_in("alice").await;
    assert_eq!(reason(alice.totp(&login, &app.code(1)).await), Reason::CredentialsInvalid);
    let world = world.restart(|_| ()).await;
    let refused = alice.on(&world).totp(&login, &app.code(1)).await;
    assert_eq!(reason(refused), Reason::CredentialsInvalid, "nor after a restart");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_82_and_84_of_many_who_bring_one_code_at_once_one_gets_in() {
    let mut worlds = vec![vec![World::new().await]];
    worlds.extend(World::pods(|_| ()).await.map(Vec::from));
    for pods in worlds {
        let alice = pods[0].person("alice").await;
        let (app, codes) = alice.with_app().await;
        let everywhere = pods.iter().cycle().take(4).map(|pod| alice.on(pod)).collect::<Vec<_>>();
        let mut logins = Vec::new();
        for _ in 0..4 {
            logins.push(alice.half_signed_in("alice").await);
        }
        let code = app.code(0);
        let brought = everywhere.iter().zip(&logins).map(|(alice, login)| alice.totp(login, &code));
        let brought = futures_util::future::join_all(brought).await;
        assert_eq!(brought.iter().filter(|answer| answer.is_ok()).count(), 1);
        logins.push(alice.half_signed_in("alice").await);
        let brought = everywhere.iter().zip(logins.iter().rev()).map(|(alice, login)| alice.recover(login, &codes[0]));
        let brought = futures_util::future::join_all(brought).await;
        assert_eq!(brought.iter().filter(|answer| answer.is_ok()).count(), 1, "{brought:?}");
        assert_eq!(alice.factors().await.recovery_codes_left, 9);
    }
}

#[tokio::test]
async fn case_83_what_is_no_code_of_now_is_refused() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let (app, _) = alice.with_app().await;
    let login = alice.half_signed_in("alice").await;
    let arabic: String =
        app.code(0).bytes().map(|digit| char::from_u32(0x660 + u32::from(digit - b'0')).unwrap()).collect();
    let current = app.code(0);
    for typed in [&current[..5], &format!("{current}0"), &arabic, "", "+12345", "12 345", &format!("{current}\n"), "\0"]
    {
        let refused = alice.totp(&login, typed).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{typed:?}");
        assert_eq!(alice.confirm(typed).await.unwrap_err().code(), Code::InvalidArgument, "{typed:?}");
    }
    for steps in [-4, -3, 3, 4] {
        assert_eq!(reason(alice.totp(&login, &app.code(steps)).await), Reason::CredentialsInvalid, "{steps}");
    }
    alice.totp(&login, &app.code(0)).await.unwrap();
}

#[tokio::test]
async fn case_84_a_recovery_code_works_once_and_for_its_owner() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let (_, codes) = alice.with_app().await;
    let (_, bobs) = bob.with_app().await;
    let login = alice.half_signed_in("alice").await;
    for wrong in [&bobs[0], "0000-0000-0000-0000", "not a code", "\u{661}\0"] {
        assert_eq!(reason(alice.recover(&login, wrong).await), Reason::CredentialsInvalid, "{wrong:?}");
    }
    assert_eq!(alice.recover(&login, &codes[0]).await.unwrap(), 9);
    let login = alice.half_signed_in("alice").await;
    assert_eq!(reason(alice.recover(&login, &codes[0]).await), Reason::CredentialsInvalid);
    assert_eq!(bob.factors().await.recovery_codes_left, 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_80_guessing_at_a_second_factor_is_limited_like_guessing_at_a_password() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let (app, codes) = alice.with_app().await;
    let attacker = world.at("198.51.100.7");
    let login = attacker.half_signed_in("alice").await;
    let wrong = (0..30).map(|number| {
        let (attacker, login, shown) = (attacker.clone(), login.clone(), [-1, 0, 1].map(|steps| app.code(steps)));
        let guess =
            (0..).map(|more| format!("{:06}", number + 1000 * more)).find(|guess| !shown.contains(guess)).unwrap();
        async move { attacker.totp(&login, &guess).await.unwrap_err() }
    });
    let refused = futures_util::future::join_all(wrong).await;
    let limited = refused.iter().filter(|refused| refused.code() == Code::ResourceExhausted);
    let limited: Vec<_> = limited.map(retry_delay).collect();
    assert_eq!(limited.len(), 25, "five are free");
    assert!(limited.iter().all(|wait| *wait > Duration::ZERO));
    // The right code is not looked at either, nor after a restart; recovery codes are counted for themselves, and as strictly.
    let world = world.restart(|_| ()).await;
    let (attacker, alice) = (attacker.on(&world), alice.on(&world));
    assert_eq!(reason(attacker.totp(&login, &app.code(0)).await), Reason::RateLimited);
    let mut outcomes = Vec::new();
    for _ in 0..6 {
        outcomes.push(reason(attacker.recover(&login, "0000-0000-0000-0000").await));
    }
    assert_eq!(outcomes, [[Reason::CredentialsInvalid; 5].as_slice(), &[Reason::RateLimited]].concat());
    assert_eq!(reason(attacker.recover(&login, &codes[0]).await), Reason::RateLimited);
    // A stolen session guesses at an enrolment no faster.
    let thief = alice.moved_to("203.0.113.9");
    thief.enroll().await.unwrap();
    let mut outcomes = Vec::new();
    for _ in 0..7 {
        outcomes.push(reason(thief.confirm("000000").await));
    }
    assert_eq!(outcomes[6], Reason::RateLimited, "{outcomes:?}");
}

#[tokio::test]
async fn case_81_whoever_hammers_a_second_factor_keeps_no_known_address_out() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let (app, codes) = alice.with_app().await;
    let login = alice.half_signed_in("alice").await;
    alice.totp(&login, &app.code(0)).await.unwrap();
    // Someone who knows the password guesses from everywhere.
    for number in 0..40 {
        let attacker = world.at(&format!("198.51.100.{number}"));
        let login = attacker.half_signed_in("alice").await;
        let _refused = attacker.totp(&login, "000000").await.unwrap_err();
    }
    let elsewhere = world.at("203.0.113.1");
    let login = elsewhere.half_signed_in("alice").await;
    assert_eq!(reason(elsewhere.totp(&login, &app.code(1)).await), Reason::RateLimited);
    // From a new place she still has her recovery codes, and from where she was before everything.
    assert_eq!(elsewhere.recover(&login, &codes[0]).await.unwrap(), 9);
    let login = alice.half_signed_in("alice").await;
    alice.totp(&login, &app.code(1)).await.unwrap();
}

#[tokio::test]
async fn case_77_any_password_goes_through_a_login_in_steps_byte_for_byte() {
    let world = World::new().await;
    let someone = world.at("192.0.2.1");
    // Composed when it was set, decomposed when it is typed; with spaces, NUL and more than 64 characters.
    let words = "  Zo\u{eb} and\0the \u{1f980} sat on seventeen violet umbrellas, counting the trains to nowhere  ";
    someone.register("alice", words).await.unwrap();
    let login = someone.start("alice").await;
    for wrong in [words.trim(), &words[..64], &words.replace('\0', "")] {
        assert_eq!(reason(someone.password(&login, wrong).await), Reason::CredentialsInvalid, "{wrong:?}");
    }
    someone.password(&login, &words.replace('\u{eb}', "e\u{308}")).await.unwrap();
}
