//! A new password by a link, which is no way around anything else.

use flaghoist_proto::login::v1 as login;
use flaghoist_proto::login::v1::reset_password_request::SecondFactor;
use flaghoist_runtime::fault::Reason;

use super::world::*;

const NEW: &str = "other flowers in the sun";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_92_a_link_sets_a_password_once_and_ends_all_sessions() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    alice.reached_at(&world, "alice@example.com").await;
    let someone = world.at("192.0.2.50");
    someone.forgot("Alice@example.com").await.unwrap();
    let first = world.link("alice@example.com", 2).await;
    someone.forgot("@alice").await.unwrap();
    let link = world.link("alice@example.com", 3).await;
    assert!(first != link && link.len() == 43);
    let opened = someone.opens(&link).await.unwrap();
    assert_eq!((opened.handle.as_str(), opened.factors.len()), ("alice", 0));
    assert_eq!(reason(someone.reset(&link, "password123", None).await), Reason::PasswordWeak, "which costs no link");
    let world = world.restart(|_| ()).await;
    let someone = someone.on(&world);
    // Of fifty who bring it at once one sets the password.
    let brought = (0..50).map(|_| someone.reset(&link, NEW, None));
    let brought = futures_util::future::join_all(brought).await;
    assert_eq!(brought.iter().filter(|answer| answer.is_ok()).count(), 1);
    assert!(world.issuer.sessions(&alice.name()).is_empty());
    for used in [link.as_str(), &first, &"A".repeat(43), "x\0"] {
        assert_eq!(reason(someone.reset(used, NEW, None).await), Reason::ResetOver, "{used}");
        assert_eq!(reason(someone.opens(used).await), Reason::ResetOver, "{used}");
    }
    assert_eq!(reason(someone.login("alice", PASSWORD).await), Reason::CredentialsInvalid);
    someone.login("alice", NEW).await.unwrap();
    eventually("a notice", async || {
        world.letters("alice@example.com").iter().any(|letter| letter.contains("set anew"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_92_a_link_is_no_way_around_a_second_factor() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    alice.reached_at(&world, "alice@example.com").await;
    let (app, codes) = alice.with_app().await;
    let letters = world.letters("alice@example.com").len().max(2);
    let thief = world.at("198.51.100.7");
    thief.forgot("alice").await.unwrap();
    eventually("a link", async || world.letters("alice@example.com").iter().any(|letter| letter.contains("/reset?")))
        .await;
    let letter = world.letters("alice@example.com").into_iter().find(|letter| letter.contains("/reset?")).unwrap();
    let link = letter.split("token=").nth(1).unwrap().lines().next().unwrap().to_owned();
    let opened = thief.opens(&link).await.unwrap();
    assert_eq!(opened.factors().collect::<Vec<_>>(), [login::Factor::Totp, login::Factor::RecoveryCode], "{letters}");
    assert_eq!(reason(thief.reset(&link, NEW, None).await), Reason::SecondFactorRequired);
    let totp = |code: String| Some(SecondFactor::TotpCode(code));
    let recovery = |code: &str| Some(SecondFactor::RecoveryCode(code.into()));
    let mut outcomes = Vec::new();
    for _ in 0..6 {
        outcomes.push(reason(thief.reset(&link, NEW, recovery("0000-0000-0000-0000")).await));
    }
    assert_eq!(outcomes[..5], [Reason::CredentialsInvalid; 5]);
    assert_eq!(outcomes[5], Reason::RateLimited);
    assert_eq!(reason(thief.reset(&link, NEW, recovery(&codes[0])).await), Reason::RateLimited);
    assert_eq!(alice.factors().await.recovery_codes_left, 10);
    // The owner has it, and it is used up with the link.
    alice.reset(&link, NEW, totp(app.code(0))).await.unwrap();
    let login = alice.start("alice").await;
    alice.password(&login, NEW).await.unwrap();
    assert_eq!(reason(alice.totp(&login, &app.code(0)).await), Reason::CredentialsInvalid);
    assert_eq!(reason(alice.reset(&link, PASSWORD, totp(app.code(1))).await), Reason::ResetOver);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_92_a_security_key_goes_with_a_link() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    alice.reached_at(&world, "alice@example.com").await;
    let mut key = Key::counting();
    alice.with_key(&mut key, false).await;
    alice.forgot("alice").await.unwrap();
    eventually("a link", async || world.letters("alice@example.com").iter().any(|letter| letter.contains("/reset?")))
        .await;
    let letter = world.letters("alice@example.com").into_iter().find(|letter| letter.contains("/reset?")).unwrap();
    let link = letter.split("token=").nth(1).unwrap().lines().next().unwrap().to_owned();
    let answer = key.get(&alice.ask_reset_key(&link).await.unwrap(), ORIGIN).await;
    let with = |answer: &str| Some(SecondFactor::Credential(answer.into()));
    assert_eq!(reason(alice.reset(&link, NEW, with(&spoiled(&answer, "signature"))).await), Reason::CredentialsInvalid);
    assert_eq!(reason(alice.reset(&link, NEW, with(&answer)).await), Reason::LoginStep, "the challenge is used up");
    let answer = key.get(&alice.ask_reset_key(&link).await.unwrap(), ORIGIN).await;
    alice.reset(&link, NEW, with(&answer)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_75_who_asks_for_a_link_learns_nothing_and_is_limited() {
    let world = World::with(|settings| settings.registration_burst = 20).await;
    let root = world.admin("root").await;
    let (alice, carol) = (world.person("alice").await, world.person("carol").await);
    alice.reached_at(&world, "alice@example.com").await;
    carol.reached_at(&world, "carol@example.com").await;
    root.set_disabled(&carol.name(), true).await.unwrap();
    let someone = world.at("198.51.100.7");
    for unknown in ["nobody", "nobody@example.com", "carol", "root", "a\0b", "'; --"] {
        someone.forgot(unknown).await.unwrap();
    }
    // Five links in all are sent to one person.
    for _ in 0..14 {
        someone.forgot("alice").await.unwrap();
    }
    assert_eq!(reason(someone.forgot("alice").await), Reason::RateLimited);
    eventually("a code and five links", async || world.letters("alice@example.com").len() == 6).await;
    assert_eq!(world.letters("carol@example.com").len(), 1);
    // What strangers ask for takes nothing from what she has sent herself.
    for number in 0..4 {
        alice
            .set_contact(EMAIL, &format!("alice-{number}@example.com"))
            .await
            .expect("four codes, beside that of before");
    }
    assert_eq!(reason(alice.set_contact(EMAIL, "alice-4@example.com").await), Reason::RateLimited);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_80_requests_for_links_are_limited_by_network_whoever_is_named() {
    for (home, elsewhere) in [("2001:db8:7::", "2001:db8:8::1"), ("198.51.100.", "203.0.113.1")] {
        for named in ["alice", "nobody", "nobody@example.com"] {
            let world = World::with(|settings| settings.registration_burst = 5).await;
            world.at("192.0.2.1").register("alice", PASSWORD).await.unwrap();
            // An IPv6 subscriber has a /64 of addresses, one of IPv4 a single one.
            let at = |number| if home.contains(':') { format!("{home}{number}") } else { format!("{home}7") };
            for number in 1..=5 {
                world.at(&at(number)).forgot(named).await.unwrap();
            }
            let refused = world.at(&at(6)).forgot(named).await.unwrap_err();
            assert!(retry_delay(&refused) > std::time::Duration::ZERO, "{named}");
            assert_eq!(reason::<()>(Err(refused)), Reason::RateLimited, "{named}");
            world.at(elsewhere).forgot(named).await.expect("another network");
        }
    }
}
