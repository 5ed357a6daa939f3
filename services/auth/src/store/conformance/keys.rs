//! The promises about signing keys and clients that admins change.

use super::*;
use crate::key::{KeyChange, KeyRefusal};

const DAY: Duration = Duration::from_secs(24 * 3600);
const TIMES: KeyTimes = KeyTimes { period: Duration::from_secs(30 * 24 * 3600), lead: DAY, keep: DAY };

fn sealer() -> Sealer {
    Sealer::new(&[7; 32]).unwrap()
}

fn spare(now: Moment) -> Vec<SigningKey> {
    vec![sealer().generate(now).unwrap(), sealer().generate(now).unwrap()]
}

async fn change(store: &dyn Store, change: KeyChange, now: Moment) -> Result<Vec<SigningKey>, KeyRefusal> {
    store.change_keys(&change, spare(now), &TIMES, by(now)).await.unwrap()
}

fn in_state(keys: &[SigningKey], state: KeyState, now: Moment) -> Vec<String> {
    keys.iter().filter(|key| key.state(now) == state).map(|key| key.kid.clone()).collect()
}

pub(super) async fn keys_change_when_asked_to_and_all_pods_read_the_same(store: &dyn Store) {
    store.advance_keys(spare(NOW), &TIMES, NOW).await.unwrap();
    let first = in_state(&store.keys().await.unwrap(), KeyState::Active, NOW);
    let asked = join_all((0..6).map(|_| change(store, KeyChange::Rotate, NOW))).await;
    let keys = asked.into_iter().map(Result::unwrap).next_back().unwrap();
    assert_eq!(
        in_state(&keys, KeyState::Pending, NOW).len(),
        2,
        "the next one and the reserve, however often it is asked for"
    );
    let mut read = store.keys().await.unwrap();
    let mut answered = keys.clone();
    for list in [&mut read, &mut answered] {
        list.sort_by_key(|key| key.kid.clone());
    }
    assert_eq!(read, answered);
    let just_before = Moment(NOW.plus(TIMES.ready_after()).0 - 1);
    let keys = store.advance_keys(spare(just_before), &TIMES, just_before).await.unwrap();
    assert_eq!(in_state(&keys, KeyState::Active, just_before), first);
    let then = NOW.plus(TIMES.ready_after());
    let keys = store.advance_keys(spare(then), &TIMES, then).await.unwrap();
    assert_eq!(in_state(&keys, KeyState::Retiring, then), first);
    assert_eq!(in_state(&keys, KeyState::Active, then).len(), 1);
    assert_eq!(in_state(&keys, KeyState::Pending, then).len(), 1);
}

pub(super) async fn a_revoked_key_is_gone_and_among_the_revocations(store: &dyn Store) {
    store.advance_keys(spare(NOW), &TIMES, NOW).await.unwrap();
    let keys = store.keys().await.unwrap();
    let (active, reserve) = (in_state(&keys, KeyState::Active, NOW), in_state(&keys, KeyState::Pending, NOW));
    let revoke = |kid: &str, force| KeyChange::Revoke { kid: kid.to_owned(), force };
    let early = change(store, revoke(&active[0], false), NOW).await;
    assert!(matches!(early, Err(KeyRefusal::NoReserve { .. })), "the reserve is not known yet: {early:?}");
    assert_eq!(change(store, revoke("nobody", false), NOW).await.unwrap_err(), KeyRefusal::Unknown);
    assert_eq!(store.keys().await.unwrap().len(), 2, "what is refused changes nothing");
    assert!(revoked(store).await.is_empty());

    let later = NOW.plus(TIMES.ready_after());
    let asked = join_all((0..4).map(|_| change(store, revoke(&active[0], false), later))).await;
    assert_eq!(asked.iter().filter(|answer| answer.is_ok()).count(), 1, "a key is revoked once");
    let keys = store.keys().await.unwrap();
    assert_eq!(in_state(&keys, KeyState::Active, later), reserve);
    assert!(keys.len() == 2 && keys.iter().all(|key| key.kid != active[0]));
    assert_eq!(revoked(store).await, [RevocationTarget::Key(active[0].clone())]);
    // The next reserve is new: in an emergency it may do, once every pod knows it.
    let soon = later.plus(Duration::from_secs(120));
    assert!(change(store, revoke(&reserve[0], false), soon).await.is_err());
    let keys = change(store, revoke(&reserve[0], true), soon).await.unwrap();
    assert_eq!(in_state(&keys, KeyState::Active, soon).len(), 1);
    // One that waits may be revoked at any time.
    let waiting = in_state(&keys, KeyState::Pending, soon);
    let keys = change(store, revoke(&waiting[0], false), soon).await.unwrap();
    let left = in_state(&keys, KeyState::Pending, soon);
    assert!(left.len() == 1 && left != waiting);

    let tells = store.audit_events(&Filter::default(), 100).await.unwrap();
    let of = |action| tells.iter().filter(move |event| event.action == action).map(|event| event.subject.clone());
    let names = [&waiting[0], &reserve[0], &active[0]].map(|kid| format!("keys/{kid}"));
    assert_eq!(of(Action::KeyRevoked).collect::<Vec<_>>(), names);
    assert!(tells.iter().filter(|event| event.action == Action::KeyRevoked).all(|event| event.address == "192.0.2.3"));
    assert_eq!((of(Action::KeyActivated).count(), of(Action::KeyPublished).count()), (3, 5));
}

pub(super) async fn private_keys_are_sealed_anew_once(store: &dyn Store) {
    store.advance_keys(spare(NOW), &TIMES, NOW).await.unwrap();
    let newer = Sealer::new(&[7; 32]).unwrap().renewed(&[8; 32]).unwrap();
    let resealed: Vec<_> = store
        .keys()
        .await
        .unwrap()
        .iter()
        .map(|key| Resealed {
            kid: key.kid.clone(),
            before: key.sealed.with.clone(),
            sealed: newer.reseal(key).unwrap().expect("it was sealed with the older one"),
        })
        .collect();
    let done = join_all((0..4).map(|_| store.reseal_keys(&resealed, by(NOW)))).await;
    assert_eq!(done.into_iter().map(Result::unwrap).sum::<u64>(), 2);
    let alone = Sealer::new(&[8; 32]).unwrap();
    for key in store.keys().await.unwrap() {
        assert_eq!(alone.open(&key).unwrap().kid(), key.kid);
        assert_eq!(alone.reseal(&key).unwrap(), None);
        assert!(sealer().open(&key).is_err());
    }
    let filter = Filter { action: Some(Action::KeyResealed), ..Filter::default() };
    let tells = store.audit_events(&filter, 10).await.unwrap();
    assert!(tells.len() == 2 && tells.iter().all(|event| event.detail == alone.id()));
}

pub(super) async fn a_client_is_replaced_as_it_was_read_or_not_at_all(store: &dyn Store) {
    let bot = Client { id: "bot".into(), secret: Some(Digest::of(b"one")), ..Client::built_in(NOW) };
    store.add_client(&bot, MAX, by(NOW)).await.unwrap();
    let (version, _) = store.clients(None).await.unwrap().unwrap();
    let event = |detail: &str| Event::new(by(NOW), Action::ClientUpdated, "clients/bot").detail(detail);
    let changed: Vec<_> = (0..6)
        .map(|no| {
            let previous_secret = Some((Digest::of(b"one"), NOW.plus(DAY)));
            let display_name = format!("bot {no}");
            Client {
                display_name,
                secret: Some(Digest::of(b"two")),
                scopes: Scopes::NONE,
                previous_secret,
                ..bot.clone()
            }
        })
        .collect();
    let event = event("display_name");
    let replaced = join_all(changed.iter().map(|client| store.replace_client(&bot, client, &event))).await;
    let won: Vec<_> = replaced.into_iter().map(Result::unwrap).collect();
    assert_eq!(won.iter().filter(|won| **won).count(), 1);
    let winner = &changed[won.iter().position(|won| *won).unwrap()];
    assert_eq!(store.client("bot").await.unwrap().as_ref(), Some(winner));
    let (_, clients) = store.clients(Some(version)).await.unwrap().expect("the list has another version");
    assert_eq!(&clients[0], winner);
    store.retire_client("bot", by(NOW)).await.unwrap();
    assert!(!store.replace_client(winner, &bot, &event).await.unwrap(), "what is being removed is not changed");
    let filter = Filter { action: Some(Action::ClientUpdated), ..Filter::default() };
    assert_eq!(store.audit_events(&filter, 10).await.unwrap(), [event]);
}
