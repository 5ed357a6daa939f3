//! What every store must do with contacts, profiles and messages.

use flaghoist_runtime::seal::Sealed;

use super::*;
use crate::contact::{Contact, ContactKind};
use crate::history::{EventKind, NewEvent, Origin};
use crate::login_token::LoginToken;
use crate::store::contacts::{CodeDigest, PendingContact};
use crate::store::factors::Proven;
use crate::store::outbox::{Also, Outgoing};

pub(super) fn message(user: UserId, expires_at: i64) -> Outgoing {
    Outgoing { user, sealed: Sealed { bytes: b"sealed".to_vec(), with: "key".into() }, expires_at }
}

fn email(value: &str) -> Contact {
    Contact::read(ContactKind::Email, value).unwrap()
}

fn pending(value: &str, code: u8) -> PendingContact {
    PendingContact { contact: email(value), code: CodeDigest([code; 32]), expires_at: NOW + 10 }
}

/// A change of a contact, as it is noted, and told.
fn also(user: UserId) -> Also {
    let origin = Origin::from(std::net::IpAddr::from([192, 0, 2, 1]));
    let event = NewEvent::change(user, EventKind::ContactChanged, origin);
    Also { event: Some(event), messages: vec![message(user, NOW + 100)] }
}

/// Makes `value` the verified address of a person.
pub(super) async fn verified(store: &dyn Store, user: UserId, value: &str) {
    assert!(store.begin_contact(user, &pending(value, 1), &message(user, NOW + 100), NOW).await.unwrap());
    let code = CodeDigest([1; 32]);
    assert!(store.verify_contact(user, ContactKind::Email, code, &Also::default(), NOW).await.unwrap());
}

pub(crate) async fn a_contact_is_the_persons_once_its_code_is_brought(world: World) {
    let store = world.open().await;
    let user = register(&*store, "alice").await;
    let nobody = UserId(Uuid::now_v7());
    assert!(!store.begin_contact(nobody, &pending("x@example.com", 1), &message(nobody, NOW + 9), NOW).await.unwrap());
    assert!(store.begin_contact(user, &pending("a@example.com", 1), &message(user, NOW + 10), NOW).await.unwrap());
    let found = store.contacts(user, NOW).await.unwrap();
    assert_eq!((found.verified.len(), &found.pending[..]), (0, &[email("a@example.com")][..]));
    assert!(
        store.people_of_contact(&email("a@example.com"), 5).await.unwrap().is_empty(),
        "nobody has shown to read it"
    );
    let none = Also::default();
    let verify = |kind, code, now| store.verify_contact(user, kind, CodeDigest([code; 32]), &none, now);
    assert!(!verify(ContactKind::Email, 2, NOW).await.unwrap(), "another code");
    assert!(!verify(ContactKind::Phone, 1, NOW).await.unwrap(), "of another contact");
    assert!(!verify(ContactKind::Email, 1, NOW + 10).await.unwrap(), "too late");
    assert!(verify(ContactKind::Email, 1, NOW).await.unwrap());
    assert!(!verify(ContactKind::Email, 1, NOW).await.unwrap(), "it was brought");
    // Another one is awaited, and this one stays until its code comes.
    assert!(store.begin_contact(user, &pending("b@example.com", 3), &message(user, NOW + 10), NOW).await.unwrap());
    let found = store.contacts(user, NOW).await.unwrap();
    assert_eq!(found.verified, [(email("a@example.com"), NOW)]);
    assert_eq!((found.pending.len(), store.contacts(user, NOW + 10).await.unwrap().pending.len()), (1, 0));
    assert_eq!(store.people_of_contact(&email("a@example.com"), 5).await.unwrap(), [user]);
    let world = world.open().await;
    assert!(world.verify_contact(user, ContactKind::Email, CodeDigest([3; 32]), &also(user), NOW + 1).await.unwrap());
    assert_eq!(world.contacts(user, NOW).await.unwrap().verified, [(email("b@example.com"), NOW + 1)]);
    assert!(world.people_of_contact(&email("a@example.com"), 5).await.unwrap().is_empty());
    assert_eq!(world.events(user, None, 10).await.unwrap()[0].kind, EventKind::ContactChanged);
    // One address may be that of several accounts, of those who may sign in.
    let other = register(&*world, "bob").await;
    verified(&*world, other, "b@example.com").await;
    assert_eq!(world.people_of_contact(&email("b@example.com"), 5).await.unwrap().len(), 2);
    assert_eq!(world.people_of_contact(&email("b@example.com"), 1).await.unwrap().len(), 1);
    world.set_disabled(other, true, "", NOW).await.unwrap();
    assert_eq!(world.people_of_contact(&email("b@example.com"), 5).await.unwrap(), [user]);
    world.begin_deletion(user, NOW).await.unwrap();
    assert!(world.people_of_contact(&email("b@example.com"), 5).await.unwrap().is_empty());
    world.finish_deletion(user, &[]).await.unwrap();
    assert_eq!(world.contacts(user, NOW).await.unwrap(), crate::contact::Contacts::default());
    assert!(world.events(user, None, 10).await.unwrap().is_empty());
}

pub(crate) async fn of_many_who_bring_a_code_one_verifies(world: World) {
    let pods = world.pods().await;
    let user = register(&*pods[0], "alice").await;
    assert!(pods[0].begin_contact(user, &pending("a@example.com", 1), &message(user, NOW + 10), NOW).await.unwrap());
    let (code, also) = (CodeDigest([1; 32]), also(user));
    let brought = pods.iter().cycle().take(50);
    let brought = brought.map(|pod| pod.verify_contact(user, ContactKind::Email, code, &also, NOW));
    let brought = futures_util::future::try_join_all(brought).await.unwrap();
    assert_eq!(brought.iter().filter(|done| **done).count(), 1);
    assert_eq!(pods[1].events(user, None, 100).await.unwrap().len(), 1);
}

pub(crate) async fn a_contact_that_goes_takes_its_links_along(world: World) {
    let store = world.open().await;
    let user = register(&*store, "alice").await;
    assert!(!store.remove_contact(user, ContactKind::Email, &also(user), NOW).await.unwrap());
    assert!(store.events(user, None, 10).await.unwrap().is_empty(), "nothing happened");
    let proven = Proven { user, version: 1 };
    for replaced in [false, true] {
        verified(&*store, user, "a@example.com").await;
        let link = LoginToken::generate().digest();
        store.begin_reset(link, proven, NOW + 100, &message(user, NOW + 100), NOW).await.unwrap();
        assert_eq!(store.reset(link, NOW).await.unwrap(), Some(proven));
        if replaced {
            verified(&*store, user, "b@example.com").await;
        } else {
            assert!(store.remove_contact(user, ContactKind::Email, &also(user), NOW).await.unwrap());
        }
        assert_eq!(store.reset(link, NOW).await.unwrap(), None);
    }
}

pub(crate) async fn what_applications_may_know_is_told_once_for_each_change(world: World) {
    let store = world.open().await;
    let user = register(&*store, "alice").await;
    assert!(store.people_with_untold_profile(10).await.unwrap().is_empty());
    let change =
        AccountChange { postal_address: Some("1 Lane\nTown".into()), language: Some("zh-CN".into()), ..named("A") };
    store.change_account(user, &change).await.unwrap().unwrap();
    verified(&*store, user, "a@example.com").await;
    assert_eq!(store.people_with_untold_profile(10).await.unwrap(), [user]);
    let (profile, version) = store.profile(user).await.unwrap().unwrap();
    assert_eq!((profile.account.postal_address.as_str(), profile.account.language.as_str()), ("1 Lane\nTown", "zh-CN"));
    assert_eq!(profile.contacts.verified(ContactKind::Email), Some(&email("a@example.com")));
    store.remove_contact(user, ContactKind::Email, &Also::default(), NOW).await.unwrap();
    // Who tells the older one late leaves the newer one to be told.
    store.profile_told(user, version).await.unwrap();
    assert_eq!(store.people_with_untold_profile(10).await.unwrap(), [user]);
    let (profile, version) = store.profile(user).await.unwrap().unwrap();
    assert!(profile.contacts.verified.is_empty());
    store.profile_told(user, version).await.unwrap();
    store.profile_told(user, version - 1).await.unwrap();
    assert!(store.people_with_untold_profile(10).await.unwrap().is_empty());
    assert!(store.profile(UserId(Uuid::now_v7())).await.unwrap().is_none());
}

pub(crate) async fn a_message_is_given_out_to_one_at_a_time(world: World) {
    let pods = world.pods().await;
    let mut people = Vec::new();
    for number in 0..10 {
        let user = register(&*pods[0], &format!("p{number}")).await;
        pods[0].note(&Also { event: None, messages: vec![message(user, NOW + 1000)] }, NOW).await.unwrap();
        people.push(user);
    }
    let claimed = pods.iter().cycle().take(8).map(|pod| pod.claim_messages(NOW, NOW + 100, 3));
    let claimed: Vec<_> = futures_util::future::try_join_all(claimed).await.unwrap().into_iter().flatten().collect();
    let mut whose: Vec<_> = claimed.iter().map(|claimed| claimed.user).collect();
    whose.sort_unstable_by_key(|user| user.0);
    people.sort_unstable_by_key(|user| user.0);
    assert_eq!(whose, people, "each is given out once");
    assert_eq!((claimed[0].tries, claimed[0].sealed.bytes.as_slice()), (1, b"sealed".as_slice()));
    pods[0].message_done(claimed[0].id).await.unwrap();
    pods[0].put_off_message(claimed[1].id, NOW + 200).await.unwrap();
    // Whoever had the others has died.
    let store = world.open().await;
    let again = store.claim_messages(NOW + 100, NOW + 150, 100).await.unwrap();
    assert_eq!((again.len(), again[0].tries), (8, 2));
    assert!(store.claim_messages(NOW + 149, NOW + 300, 100).await.unwrap().is_empty());
    assert_eq!(store.claim_messages(NOW + 200, NOW + 300, 100).await.unwrap().len(), 9);
}

pub(crate) async fn messages_that_wait_are_bounded_and_end(world: World) {
    let store = world.open().await;
    let user = register(&*store, "alice").await;
    for _ in 0..40 {
        store.note(&Also { event: None, messages: vec![message(user, NOW + 10)] }, NOW).await.unwrap();
    }
    let gone = UserId(Uuid::now_v7());
    store.note(&Also { messages: vec![message(gone, NOW + 10)], ..also(gone) }, NOW).await.unwrap();
    assert_eq!(store.claim_messages(NOW, NOW, 100).await.unwrap().len(), 20);
    assert!(store.claim_messages(NOW + 10, NOW + 10, 100).await.unwrap().is_empty(), "of no use any more");
    store.forget(NOW + 10, 100).await.unwrap();
    assert!(store.claim_messages(NOW, NOW, 100).await.unwrap().is_empty());
}
