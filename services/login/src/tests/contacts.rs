//! Contacts: set, verified, replaced and removed.

use std::time::Duration;

use flaghoist_proto::login::v1 as login;
use flaghoist_runtime::fault::Reason;
use tonic::Code;

use super::world::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_is_the_persons_once_they_bring_the_code_that_was_sent_to_it() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let set = alice.set_contact(EMAIL, " Alice@Example.com ").await.unwrap();
    assert!(set.expire_time.is_some() && !set.contact.unwrap().verified);
    let code = world.code("alice@example.com", 1).await;
    let shown = alice.get("").await.unwrap().contacts;
    assert_eq!((shown.len(), shown[0].value.as_str(), shown[0].verified), (1, "alice@example.com", false));
    let wrong = if code == "00000000" { "00000001" } else { "00000000" };
    assert_eq!(reason(alice.verify_contact(EMAIL, wrong).await), Reason::CredentialsInvalid);
    assert_eq!(reason(alice.verify_contact(PHONE, &code).await), Reason::CredentialsInvalid);
    // A restart later it is as good.
    let world = world.restart(|_| ()).await;
    let alice = alice.on(&world);
    let account = alice.verify_contact(EMAIL, &format!("{} {}", &code[..4], &code[4..])).await.unwrap();
    assert!(account.contacts[0].verified && account.contacts[0].verify_time.is_some());
    assert_eq!(reason(alice.verify_contact(EMAIL, &code).await), Reason::CredentialsInvalid, "it is used up");
    eventually("what applications may know", async || {
        world.issuer.profile(&alice.name()).is_some_and(|told| told.email == "alice@example.com" && told.email_verified)
    })
    .await;
    assert_eq!(alice.set_contact(EMAIL, "alice@example.com").await.unwrap().expire_time, None, "it is known");
    // Nobody else is shown it.
    let bob = world.person("bob").await;
    assert!(bob.get(&alice.name()).await.unwrap().contacts.is_empty());
    assert!(bob.lookup("alice").await.unwrap().contacts.is_empty());
    // An application that may write for alice is told by the scopes for that, and changes nothing that others are told.
    let wiki = alice.through_an_application();
    assert!(wiki.get("").await.unwrap().contacts.is_empty());
    let name = login::UpdateAccountRequest { display_name: Some("Alice".into()), ..Default::default() };
    assert!(wiki.update(name).await.unwrap().contacts.is_empty());
    let moved = login::UpdateAccountRequest { postal_address: Some("Elsewhere 1".into()), ..Default::default() };
    assert_eq!(reason(wiki.update(moved).await), Reason::CallerNotAllowed);
    assert_eq!(reason(wiki.events(10, "").await), Reason::CallerNotAllowed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_stays_until_the_next_one_is_verified_and_is_told() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    alice.reached_at(&world, "old@example.com").await;
    alice.update(login::UpdateAccountRequest { language: Some("zh-CN".into()), ..Default::default() }).await.unwrap();
    alice.set_contact(EMAIL, "new@example.com").await.unwrap();
    let contacts = alice.get("").await.unwrap().contacts;
    let shown: Vec<_> = contacts.iter().map(|contact| (contact.value.as_str(), contact.verified)).collect();
    assert_eq!(shown, [("old@example.com", true), ("new@example.com", false)]);
    let letter = world.letter("new@example.com", 1).await;
    let code =
        letter.split("\u{9a8c}\u{8bc1}\u{7801}\u{662f} ").nth(1).and_then(|rest| rest.get(..8)).unwrap().to_owned();
    alice.verify_contact(EMAIL, &code).await.unwrap();
    assert_eq!(alice.get("").await.unwrap().contacts[0].value, "new@example.com");
    assert!(world.letter("old@example.com", 2).await.contains("\u{5df2}\u{66f4}\u{6362}"));
    alice.remove_contact(EMAIL).await.unwrap();
    assert!(alice.get("").await.unwrap().contacts.is_empty());
    assert!(world.letter("new@example.com", 2).await.contains("\u{5df2}\u{79fb}\u{9664}"));
    assert_eq!(reason(alice.remove_contact(EMAIL).await), Reason::NotFound);
    eventually("that there is none", async || {
        world.issuer.profile(&alice.name()).is_some_and(|told| told.email.is_empty())
    })
    .await;
}

#[tokio::test]
async fn who_changes_a_contact_has_signed_in_lately_and_to_nothing_else() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let stale = alice.signed_in_ago(Duration::from_secs(601));
    assert_eq!(reason(stale.set_contact(EMAIL, "a@example.com").await), Reason::LoginNotFresh);
    assert_eq!(reason(stale.remove_contact(EMAIL).await), Reason::LoginNotFresh);
    let wiki = alice.through_an_application();
    assert_eq!(reason(wiki.set_contact(EMAIL, "a@example.com").await), Reason::CallerNotAllowed);
    assert_eq!(reason(wiki.verify_contact(EMAIL, "12345678").await), Reason::CallerNotAllowed);
    alice.with_app().await;
    let one = alice.by_password_alone();
    assert_eq!(reason(one.set_contact(EMAIL, "a@example.com").await), Reason::LoginNotFresh);
    for (kind, value) in [
        (EMAIL, "nobody"),
        (EMAIL, "a\0@example.com"),
        (EMAIL, "+49301234567"),
        (PHONE, "030123"),
        (PHONE, "a@example.com"),
    ] {
        assert_eq!(alice.set_contact(kind, value).await.unwrap_err().code(), Code::InvalidArgument, "{value:?}");
    }
    let unset = login::ContactKind::Unspecified;
    assert_eq!(alice.set_contact(unset, "a@example.com").await.unwrap_err().code(), Code::InvalidArgument);
    alice.set_contact(PHONE, "+49 30 1234567").await.unwrap();
    assert!(world.code("+49301234567", 1).await.len() == 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_80_guesses_at_a_code_and_messages_are_limited() {
    let slow = |settings: &mut crate::settings::Settings| settings.account_delay = Duration::from_secs(30);
    let mut worlds = vec![vec![World::with(slow).await]];
    worlds.extend(World::pods(slow).await.map(Vec::from));
    for pods in worlds {
        let world = &pods[0];
        let alice = world.person("alice").await;
        alice.set_contact(EMAIL, "a@example.com").await.unwrap();
        let code = world.code("a@example.com", 1).await;
        // Of fifty who bring it at once one verifies; the others count as guesses.
        let everywhere: Vec<_> = pods.iter().cycle().take(50).map(|pod| alice.on(pod)).collect();
        let brought = everywhere.iter().map(|alice| alice.verify_contact(EMAIL, &code));
        let brought = futures_util::future::join_all(brought).await;
        assert_eq!(brought.iter().filter(|answer| answer.is_ok()).count(), 1);
        let thief = alice.moved_to("198.51.100.7");
        thief.set_contact(EMAIL, "b@example.com").await.unwrap();
        let code = world.code("b@example.com", 1).await;
        let guesses = (0..30).map(|number| {
            let thief = thief.clone();
            async move { reason(thief.verify_contact(EMAIL, &format!("{number:08}")).await) }
        });
        let guesses = futures_util::future::join_all(guesses).await;
        assert!(guesses.iter().filter(|guess| **guess == Reason::CredentialsInvalid).count() <= 5, "{guesses:?}");
        assert_eq!(
            reason(thief.verify_contact(EMAIL, &code).await),
            Reason::RateLimited,
            "the right one is not looked at"
        );
        // Two were sent; three more may be.
        for _ in 0..3 {
            alice.set_contact(EMAIL, "c@example.com").await.unwrap();
        }
        assert_eq!(reason(alice.set_contact(EMAIL, "c@example.com").await), Reason::RateLimited);
        // Nobody's mailbox is filled by many accounts either.
        let bob = world.person("bob").await;
        for _ in 0..2 {
            bob.set_contact(EMAIL, "c@example.com").await.unwrap();
        }
        assert_eq!(reason(bob.set_contact(EMAIL, "c@example.com").await), Reason::RateLimited);
    }
}

#[tokio::test]
async fn what_a_person_says_of_themselves_is_told_to_them_and_to_applications() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let change = |address: &str, language: &str| login::UpdateAccountRequest {
        postal_address: Some(address.into()),
        language: Some(language.into()),
        ..Default::default()
    };
    let account = alice.update(change("1 Lane\r\nTown ", "zh-CN")).await.unwrap();
    assert_eq!((account.postal_address.as_str(), account.language.as_str()), ("1 Lane\nTown", "zh-CN"));
    assert_eq!(account.display_name, "alice");
    eventually("the address", async || {
        world.issuer.profile(&alice.name()).is_some_and(|told| told.address == "1 Lane\nTown" && told.handle == "alice")
    })
    .await;
    for bad in [change("a\0b", ""), change(&"x".repeat(513), ""), change("", "zh_CN"), change("", "-")] {
        assert_eq!(alice.update(bad).await.unwrap_err().code(), Code::InvalidArgument);
    }
    // The issuer may be away: it is told later.
    world.issuer.set_down(true);
    alice.update(change("", "")).await.unwrap();
    world.issuer.set_down(false);
    eventually("none", async || world.issuer.profile(&alice.name()).is_some_and(|told| told.address.is_empty())).await;
}
