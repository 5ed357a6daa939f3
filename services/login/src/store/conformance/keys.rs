//! What every store must do with security keys and with ceremonies.

use super::factors::first;
use super::*;
use crate::login_token::LoginToken;
use crate::recovery_code::RecoveryCode;
use crate::security_key::StoredKey;
use crate::store::keys::{Added, KeyRemoved};

fn stored(user: UserId, credential_id: &[u8]) -> StoredKey {
    StoredKey {
        id: Uuid::now_v7(),
        user,
        credential_id: credential_id.to_vec(),
        name: "The blue one".into(),
        passkey: true,
        credential: "{}".into(),
        counter: 0,
        created_at: flaghoist_runtime::time::from_millis(NOW),
        used_at: None,
    }
}

pub(crate) async fn a_credential_is_one_key_of_one_account(world: World) {
    let pods = world.pods().await;
    let (alice, bob) = (register(&*pods[0], "alice").await, register(&*pods[0], "bob").await);
    let keys = [stored(alice, b"one"), stored(bob, b"one"), stored(alice, b"one"), stored(bob, b"one")];
    let codes = RecoveryCode::generate(alice).1;
    let added = keys.iter().zip(pods.iter().cycle()).map(|(key, pod)| pod.add_key(key, first(&codes), 3));
    let added = futures_util::future::try_join_all(added).await.unwrap();
    let winner = added.iter().position(|added| *added == Added::Done { first: true }).unwrap();
    assert_eq!(added.iter().filter(|added| **added == Added::Known).count(), 3, "{added:?}");
    assert_eq!(pods[1].key(b"one").await.unwrap(), Some(keys[winner].clone()));
    assert_eq!(pods[1].key(b"two").await.unwrap(), None);
    let owner = keys[winner].user;
    assert!(pods[0].credentials_of(owner).await.unwrap().unwrap().second_factor);
    // No more than may be, of many at once too; who has a strong factor gets no other codes.
    let more: Vec<_> = (0..6).map(|number: u8| stored(owner, &[number])).collect();
    let added = more.iter().zip(pods.iter().cycle()).map(|(key, pod)| pod.add_key(key, first(&codes), 3));
    let added = futures_util::future::try_join_all(added).await.unwrap();
    assert_eq!(added.iter().filter(|added| **added == Added::Done { first: false }).count(), 2, "{added:?}");
    assert_eq!(added.iter().filter(|added| **added == Added::Full).count(), 4);
    assert_eq!(pods[0].keys(owner).await.unwrap().len(), 3);
}

pub(crate) async fn the_count_of_a_key_only_rises(world: World) {
    let pods = world.pods().await;
    let user = register(&*pods[0], "alice").await;
    let key = stored(user, b"one");
    pods[0].add_key(&key, first(&[]), 3).await.unwrap();
    let used = |counter| StoredKey { counter, credential: format!("{{\"counter\":{counter}}}"), ..key.clone() };
    // One that does not count says 0 again and again.
    assert!(pods[0].use_key(&used(0), NOW).await.unwrap() && pods[1].use_key(&used(0), NOW).await.unwrap());
    let five = used(5);
    let taken = pods.iter().cycle().take(8).map(|pod| pod.use_key(&five, NOW + 1));
    let taken = futures_util::future::try_join_all(taken).await.unwrap();
    assert_eq!(taken.iter().filter(|taken| **taken).count(), 1);
    for back in [0, 4, 5] {
        assert!(!pods[1].use_key(&used(back), NOW + 2).await.unwrap(), "{back}");
    }
    let kept = pods[0].key(b"one").await.unwrap().unwrap();
    assert_eq!((kept.counter, kept.credential.as_str()), (5, "{\"counter\":5}"));
    assert_eq!(kept.used_at.map(millis), Some(NOW + 1));
    assert!(pods[0].use_key(&used(u32::MAX), NOW).await.unwrap());
}

pub(crate) async fn the_last_of_the_keys_is_removed_only_on_purpose(world: World) {
    let pods = world.pods().await;
    let (alice, bob) = (register(&*pods[0], "alice").await, register(&*pods[0], "bob").await);
    for _ in 0..5 {
        let (one, two) = (stored(alice, b"one"), stored(alice, b"two"));
        pods[0].add_key(&one, first(&RecoveryCode::generate(alice).1), 3).await.unwrap();
        pods[0].add_key(&two, first(&[]), 3).await.unwrap();
        assert_eq!(pods[0].remove_key(bob, one.id, true).await.unwrap(), KeyRemoved::Unknown);
        // Of two that are removed at once one is the last.
        let (first, second) =
            tokio::join!(pods[0].remove_key(alice, one.id, false), pods[1].remove_key(alice, two.id, false));
        let removed = [first.unwrap(), second.unwrap()];
        assert_eq!(removed.iter().filter(|removed| **removed == KeyRemoved::Last).count(), 1, "{removed:?}");
        let left = pods[0].keys(alice).await.unwrap().remove(0);
        assert_eq!(pods[1].remove_key(alice, left.id, true).await.unwrap(), KeyRemoved::Done);
        assert_eq!(pods[0].factors(alice).await.unwrap(), crate::factor::Factors::default());
    }
}

pub(crate) async fn a_ceremony_is_taken_once(world: World) {
    let pods = world.pods().await;
    let digest = LoginToken::generate().digest();
    pods[0].begin_ceremony(digest, "first", NOW + 10).await.unwrap();
    pods[1].begin_ceremony(digest, "second", NOW + 10).await.unwrap();
    assert_eq!(pods[0].take_ceremony(digest, NOW + 10).await.unwrap(), None, "expired");
    let taken = pods.iter().cycle().take(16).map(|pod| pod.take_ceremony(digest, NOW));
    let taken = futures_util::future::try_join_all(taken).await.unwrap();
    assert_eq!(taken.into_iter().flatten().collect::<Vec<_>>(), ["second"]);
    pods[0].begin_ceremony(digest, "third", NOW + 1).await.unwrap();
    pods[0].forget(NOW + 1, 10).await.unwrap();
    assert_eq!(pods[1].take_ceremony(digest, NOW).await.unwrap(), None, "forgotten");
}

pub(crate) async fn a_key_is_renamed_by_its_owner(world: World) {
    let store = world.open().await;
    let (alice, bob) = (register(&*store, "alice").await, register(&*store, "bob").await);
    let key = stored(alice, b"one");
    store.add_key(&key, first(&[]), 3).await.unwrap();
    assert!(store.rename_key(bob, key.id, "Mine").await.unwrap().is_none(), "another's key is none");
    assert!(store.rename_key(alice, key.id, "The green one").await.unwrap().is_some());
    assert_eq!(store.keys(alice).await.unwrap()[0].name, "The green one");
}
