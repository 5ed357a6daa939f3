//! What people see of their account, and are told of.

use flaghoist_proto::login::v1::LoginEventKind as Kind;
use flaghoist_runtime::fault::Reason;

use super::world::*;

const NEW: &str = "other flowers in the sun";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_to_an_account_is_listed_for_its_owner_page_by_page() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let (app, _) = alice.with_app().await;
    let login = alice.half_signed_in("alice").await;
    assert_eq!(reason(alice.totp(&login, "000000").await), Reason::CredentialsInvalid);
    alice.moved_to("2001:db8::7").totp(&login, &app.code(0)).await.unwrap();
    alice.change_password(PASSWORD, NEW).await.unwrap();
    alice.delete_totp(true).await.unwrap();
    let all = alice.events(0, "").await.unwrap();
    let kinds: Vec<_> = all.login_events.iter().map(|event| event.kind()).collect();
    let expected = [
        Kind::FactorRemoved,
        Kind::PasswordChanged,
        Kind::SignedIn,
        Kind::FactorRefused,
        Kind::FactorAdded,
        Kind::SignedIn,
    ];
    assert_eq!(kinds, expected);
    let signed_in = &all.login_events[2];
    assert_eq!((signed_in.address.as_str(), signed_in.amr.join(" ").as_str()), ("2001:db8::/64", "pwd otp mfa"));
    assert_eq!((signed_in.client_id.as_str(), all.next_page_token.as_str()), ("flaghoist-cli", ""));
    let mut paged = Vec::new();
    let mut token = String::new();
    loop {
        let page = alice.events(4, &token).await.unwrap();
        paged.extend(page.login_events);
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(paged, all.login_events);
    // Nobody else sees them, nor goes on with this list.
    let token = alice.events(1, "").await.unwrap().next_page_token;
    let bob = world.person("bob").await;
    assert_eq!(reason(bob.events(1, &token).await), Reason::PageTokenInvalid);
    assert_eq!(bob.events(0, "").await.unwrap().login_events.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sign_in_from_a_new_place_is_told_and_one_from_a_known_place_is_not() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    alice.reached_at(&world, "alice@example.com").await;
    alice.login("alice", PASSWORD).await.unwrap();
    world.at("198.51.100.7").login("alice", PASSWORD).await.unwrap();
    let letter = world.letter("alice@example.com", 2).await;
    assert!(letter.contains("Address: 198.51.100.7") && letter.contains("@alice"), "{letter}");
    world.at("198.51.100.7").login("alice", PASSWORD).await.unwrap();
    alice.change_password(PASSWORD, NEW).await.unwrap();
    assert!(world.letter("alice@example.com", 3).await.contains("The password was changed"));
    assert_eq!(world.letters("alice@example.com").len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_81_who_knows_only_the_password_makes_no_address_known() {
    let world = World::with(|settings| settings.account_delay = std::time::Duration::from_secs(30)).await;
    let alice = world.person("alice").await;
    let (app, _) = alice.with_app().await;
    alice.reached_at(&world, "alice@example.com").await;
    let thief = world.at("198.51.100.7");
    thief.half_signed_in("alice").await;
    // Guesses from everywhere close the account to addresses that are not known: the thief's is none, the owner's is one.
    for number in 0..30 {
        let _refused = world.at(&format!("203.0.113.{number}")).login("alice", "guess").await.unwrap_err();
    }
    let login = thief.start("alice").await;
    assert_eq!(reason(thief.password(&login, PASSWORD).await), Reason::RateLimited);
    let login = alice.half_signed_in("alice").await;
    alice.totp(&login, &app.code(0)).await.unwrap();
    assert_eq!(world.letters("alice@example.com").len(), 1, "nobody got in from a new place");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_84_a_recovery_code_that_opened_nothing_is_given_back() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let (_, codes) = alice.with_app().await;
    let login = alice.half_signed_in("alice").await;
    world.issuer.set_down(true);
    assert_eq!(reason(alice.recover(&login, &codes[0]).await), Reason::Unavailable);
    world.issuer.set_down(false);
    assert_eq!(alice.factors().await.recovery_codes_left, 10);
    // Of fifty who bring it at once, each in a login of their own, one gets in.
    let mut logins = Vec::new();
    for _ in 0..4 {
        logins.push(alice.half_signed_in("alice").await);
    }
    let brought = logins.iter().cycle().take(50).map(|login| alice.recover(login, &codes[0]));
    let brought = futures_util::future::join_all(brought).await;
    assert_eq!(brought.iter().filter(|answer| answer.is_ok()).count(), 1);
    assert_eq!(alice.factors().await.recovery_codes_left, 9);
}

#[tokio::test]
async fn a_key_is_renamed_by_its_owner() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let (key, _) = alice.with_key(&mut Key::counting(), false).await;
    assert_eq!(alice.rename_key(&key.name, " The red one ").await.unwrap().display_name, "The red one");
    assert_eq!(alice.factors().await.security_keys[0].display_name, "The red one");
    assert_eq!(reason(bob.rename_key(&key.name, "mine").await), Reason::NotFound);
    assert_eq!(reason(alice.rename_key(&key.name, "a\0b").await), Reason::FieldViolation);
}
