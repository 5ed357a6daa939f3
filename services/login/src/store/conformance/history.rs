//! What every store must do with what happened to accounts.

use super::contacts::message;
use super::*;
use crate::history::{EventKind, NewEvent, Origin};
use crate::store::history::{EVENTS_FOR_MS, FinishedSignIn};
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
    let sign_in = |address, agent, now| {
        let (store, event) = (&store, event(user, EventKind::SignedIn, agent));
        let sign_in = FinishedSignIn { address, succeeded: Vec::new(), event, message: Some(notice.clone()) };
        async move { store.signed_in(&sign_in, 8, now).await.unwrap() }
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

pub(crate) async fn a_sign_in_forgets_the_attempts_before_it_and_no_others(world: World) {
    let store = world.open().await;
    let user = register(&*store, "alice").await;
    let once = Delays { free: 1, ..DELAYS };
    let held_up = async |key| store.reserve_attempt(key, once, NOW).await.unwrap().is_some();
    let (address, browser, other) = (attempt(1, 1), attempt(1, 7), attempt(2, 1));
    let sign_in = |succeeded: &[AttemptKey]| {
        let event = event(user, EventKind::SignedIn, "Wolf/1.0");
        FinishedSignIn { address, succeeded: succeeded.to_vec(), event, message: None }
    };
    for key in [address, browser, other] {
        assert!(!held_up(key).await && held_up(key).await);
    }
    // Where nothing was guessed at, nothing is forgotten: the address is known alone.
    store.signed_in(&sign_in(&[]), 8, NOW).await.unwrap();
    assert!(held_up(address).await);
    store.signed_in(&sign_in(&[address, browser]), 8, NOW).await.unwrap();
    assert!(!held_up(address).await && !held_up(browser).await);
    assert!(held_up(address).await && held_up(browser).await && held_up(other).await);
    // Both are known, so they are not counted with the strangers, who have a count that is free again.
    for number in 100..103 {
        assert!(!held_up(attempt(1, number)).await, "{number}");
    }
    assert!(held_up(attempt(1, 103)).await);
    store.signed_in(&sign_in(&[browser]), 8, NOW).await.unwrap();
    assert!(!held_up(browser).await);
}

pub(crate) async fn sign_ins_and_attempts_at_once_are_as_one_after_another(world: World) {
    let pods = world.pods().await;
    let mut people = Vec::new();
    for number in 0..20 {
        people.push(register(&*pods[0], &format!("person{number}")).await);
    }
    let notice = |user| message(user, NOW + 100);
    let signing_in = (0..80_u8).map(|number| {
        let (pod, user) = (&pods[usize::from(number) % 2], people[usize::from(number) % 20]);
        let address = attempt(number % 20, 1);
        // Each person comes four times at once: from one place, with two programs.
        let event = event(user, EventKind::SignedIn, if number < 40 { "Wolf/1.0" } else { "Fox/1.0" });
        let sign_in = FinishedSignIn { address, succeeded: vec![address], event, message: Some(notice(user)) };
        async move { pod.signed_in(&sign_in, 8, NOW).await.unwrap() }
    });
    let guessing = (0..80_u8).map(|number| {
        let pod = &pods[usize::from(number) % 2];
        async move { pod.reserve_attempt(attempt(200, 1 + number % 2), DELAYS, NOW).await.unwrap().is_none() }
    });
    let (new, let_through) =
        tokio::join!(futures_util::future::join_all(signing_in), futures_util::future::join_all(guessing));
    assert_eq!(let_through.into_iter().filter(|through| *through).count(), 2 * DELAYS.free as usize);
    // Of the four the first is no news, one is with another program, and none with what was seen before it.
    assert_eq!(new.into_iter().filter(|new| *new).count(), 20);
    for user in people {
        let events = pods[1].events(user, None, 10).await.unwrap();
        assert_eq!(events.len(), 4);
        assert!(events.windows(2).all(|pair| pair[0].id > pair[1].id));
    }
    assert_eq!(pods[0].claim_messages(NOW, NOW + 1, 100).await.unwrap().len(), 20);
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
