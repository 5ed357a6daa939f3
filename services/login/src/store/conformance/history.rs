//! What every store must do with what happened to accounts.

use super::contacts::message;
use super::*;
use crate::history::{EventKind, NewEvent, Origin};
use crate::store::history::EVENTS_FOR_MS;
use crate::store::outbox::Also;

fn event(user: UserId, kind: EventKind, agent: &str) -> NewEvent {
    let origin = Origin::new(std::net::IpAddr::from([192, 0, 2, 1]), agent);
    NewEvent { amr: vec!["pwd".into(), "otp".into()], client_id: "wiki".into(), ..NewEvent::change(user, kind, origin) }
}

pub(crate) async fn a_sign_in_from_a_new_place_is_noticed_and_makes_it_known(world: World) {
    let store = world.open().await;
    let user = register(&*store, "alice").await;
    let (home, cafe) = (attempt(1, 1), attempt(1, 2));
    let notice = message(user, NOW + 100);
    let sign_in = |key, agent, now| {
        let (store, notice, event) = (&store, &notice, event(user, EventKind::SignedIn, agent));
        async move { store.signed_in(key, 8, &event, Some(notice), now).await.unwrap() }
    };
    assert!(!sign_in(home, "Wolf/1.0", NOW).await, "the first of all is no news");
    assert!(!sign_in(home, "Wolf/2.0", NOW).await, "a newer version is the same program");
    assert!(sign_in(cafe, "Wolf/2.0", NOW).await, "another address");
    assert!(sign_in(home, "Fox/1.0", NOW).await, "another program");
    assert!(!sign_in(cafe, "Fox/1.0", NOW).await);
    assert_eq!(store.claim_messages(NOW, NOW + 1, 10).await.unwrap().len(), 2);
    // Both are known: whoever hammers the account from elsewhere holds up neither.
    for address in 100..150 {
        let _answer = store.reserve_attempt(attempt(1, address), Delays { free: 1, ..DELAYS }, NOW).await.unwrap();
    }
    for key in [home, cafe] {
        assert_eq!(store.reserve_attempt(key, Delays { free: 1, ..DELAYS }, NOW).await.unwrap(), None);
    }
    assert!(store.reserve_attempt(attempt(1, 99), Delays { free: 1, ..DELAYS }, NOW).await.unwrap().is_some());
    // A right password alone makes no address known.
    let half = attempt(2, 1);
    store.reserve_attempt(half, DELAYS, NOW).await.unwrap();
    store.attempt_succeeded(half, None, NOW).await.unwrap();
    for address in 100..150 {
        let _answer = store.reserve_attempt(attempt(2, address), Delays { free: 1, ..DELAYS }, NOW).await.unwrap();
    }
    assert!(store.reserve_attempt(half, Delays { free: 1, ..DELAYS }, NOW).await.unwrap().is_some());
    assert!(store.events(user, None, 1).await.unwrap()[0].agent == "Fox/1.0");
}

pub(crate) async fn events_are_bounded_and_refusals_push_out_nothing_else(world: World) {
    let store = world.open().await;
    let user = register(&*store, "alice").await;
    let note = |kind, now| {
        let (store, event) = (&store, event(user, kind, "Wolf/1.0"));
        async move { store.note(&Also { event: Some(event), messages: Vec::new() }, now).await.unwrap() }
    };
    note(EventKind::PasswordChanged, NOW).await;
    for _ in 0..60 {
        note(EventKind::FactorRefused, NOW + 1).await;
    }
    for number in 0..149 {
        note(EventKind::SignedIn, NOW + 2 + number).await;
    }
    let all = store.events(user, None, 1000).await.unwrap();
    assert_eq!(all.len(), 200);
    assert_eq!(all.iter().filter(|event| event.kind == EventKind::FactorRefused).count(), 50);
    assert_eq!(all.last().unwrap().kind, EventKind::PasswordChanged, "the oldest is here yet");
    note(EventKind::SignedIn, NOW + 200).await;
    let all = store.events(user, None, 1000).await.unwrap();
    assert_eq!((all.len(), all.last().unwrap().kind), (200, EventKind::FactorRefused));
    // Page by page, the newest first.
    let first = store.events(user, None, 3).await.unwrap();
    assert_eq!((first.len(), millis(first[0].at), first[0].amr.join(" ").as_str()), (3, NOW + 200, "pwd otp"));
    assert_eq!((first[0].address.as_str(), first[0].client_id.as_str()), ("192.0.2.1", "wiki"));
    assert_eq!(store.events(user, Some(first[2].id), 3).await.unwrap()[..], all[3..6]);
    assert!(store.events(register(&*store, "bob").await, None, 10).await.unwrap().is_empty());
    store.forget(NOW + 199 + EVENTS_FOR_MS, 1000).await.unwrap();
    assert_eq!(store.events(user, None, 1000).await.unwrap().len(), 1);
}
