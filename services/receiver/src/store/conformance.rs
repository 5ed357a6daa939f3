//! What every backend must hold, one function per promise. A promise that is missing from the list below is an unused function.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flaghoist_runtime::names::{ConversationId, DeviceId, UserId};
use rand::{Rng as _, SeedableRng as _};
use uuid::Uuid;

use super::{DeviceKey, Store, Write, Written};
use crate::stream::Position;

/// Makes the tests of one backend: `$store` opens an empty one in which a person may have 3 devices, and answers it with what keeps
/// it alive, or nothing where this machine does not have the backend.
macro_rules! suite {
    ($store:ident) => {
        crate::store::conformance::suite!($store:
            positions_of_one_epoch_only_rise,
            a_position_of_another_epoch_replaces,
            the_last_of_many_in_one_batch_counts,
            only_the_stream_that_the_device_names_may_acknowledge,
            an_acknowledgement_without_a_stream_needs_only_the_device,
            changes_of_one_batch_see_each_other,
            a_person_has_a_bounded_number_of_devices,
            opening_again_keeps_the_positions,
            forgetting_is_for_the_named_stream,
            a_deleted_device_leaves_nothing,
            unused_devices_expire,
            epochs_use_all_their_bits,
            people_do_not_see_one_another,
            the_streams_of_devices_are_told,
            a_batch_may_be_of_nobody_and_of_many_people,
            random_batches_do_what_the_book_says,
        );
    };
    ($store:ident: $($promise:ident),* $(,)?) => {$(
        #[tokio::test]
        async fn $promise() {
            let Some((_place, store)) = $store().await else { return };
            crate::store::conformance::$promise(&store).await;
        }
    )*};
}
pub(crate) use suite;

const NOW: SystemTime = UNIX_EPOCH;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn device(user: UserId, id: &str) -> DeviceKey {
    DeviceKey { user, device: DeviceId::from_id(id).unwrap() }
}

fn phone() -> DeviceKey {
    device(UserId(Uuid::now_v7()), "phone")
}

fn conversation() -> ConversationId {
    ConversationId(Uuid::now_v7())
}

fn open(key: &DeviceKey, stream: Uuid) -> Write {
    Write::Open { key: key.clone(), stream }
}

fn ack(key: &DeviceKey, stream: Option<Uuid>, positions: &[(ConversationId, u64, u64)]) -> Write {
    let position = |&(conversation, epoch, seq): &_| Position { conversation, epoch, seq };
    Write::Acknowledge { key: key.clone(), stream, positions: positions.iter().map(position).collect() }
}

async fn one(store: &impl Store, write: Write) -> Written {
    let answers = store.write(&[write], NOW).await.unwrap();
    assert_eq!(answers.len(), 1);
    answers[0]
}

/// Makes changes one after the other.
async fn all(store: &impl Store, writes: &[Write], now: SystemTime) {
    for write in writes {
        store.write(std::slice::from_ref(write), now).await.unwrap();
    }
}

async fn positions(store: &impl Store, key: &DeviceKey) -> Vec<(ConversationId, u64, u64)> {
    let mut found = store.positions(key).await.unwrap();
    found.sort();
    found.into_iter().map(|position| (position.conversation, position.epoch, position.seq)).collect()
}

pub(crate) async fn positions_of_one_epoch_only_rise(store: &impl Store) {
    let (key, stream, hall) = (phone(), Uuid::now_v7(), conversation());
    one(store, open(&key, stream)).await;
    for (seq, kept) in [(5, 5), (3, 5), (9, 9), (9, 9)] {
        assert_eq!(one(store, ack(&key, Some(stream), &[(hall, 7, seq)])).await, Written::Done);
        assert_eq!(positions(store, &key).await, [(hall, 7, kept)]);
    }
}

pub(crate) async fn a_position_of_another_epoch_replaces(store: &impl Store) {
    let (key, stream, hall) = (phone(), Uuid::now_v7(), conversation());
    one(store, open(&key, stream)).await;
    one(store, ack(&key, Some(stream), &[(hall, 7, 100)])).await;
    one(store, ack(&key, Some(stream), &[(hall, 6, 2)])).await;
    assert_eq!(positions(store, &key).await, [(hall, 6, 2)]);
}

pub(crate) async fn the_last_of_many_in_one_batch_counts(store: &impl Store) {
    let (key, stream, hall, yard) = (phone(), Uuid::now_v7(), conversation(), conversation());
    one(store, open(&key, stream)).await;
    let batch = [3, 8, 5].map(|seq| ack(&key, Some(stream), &[(hall, 1, seq), (yard, 1, 10 - seq)]));
    assert_eq!(store.write(&batch, NOW).await.unwrap(), [Written::Done; 3]);
    assert_eq!(positions(store, &key).await, [(hall, 1, 8), (yard, 1, 7)]);
}

pub(crate) async fn only_the_stream_that_the_device_names_may_acknowledge(store: &impl Store) {
    let (key, old, new, hall) = (phone(), Uuid::now_v7(), Uuid::now_v7(), conversation());
    assert_eq!(one(store, ack(&key, Some(old), &[(hall, 1, 1)])).await, Written::NoDevice);
    one(store, open(&key, old)).await;
    one(store, open(&key, new)).await;
    let batch = [ack(&key, Some(old), &[(hall, 1, 9)]), ack(&key, Some(new), &[(hall, 1, 4)])];
    assert_eq!(store.write(&batch, NOW).await.unwrap(), [Written::Replaced, Written::Done]);
    assert_eq!(positions(store, &key).await, [(hall, 1, 4)]);
}

pub(crate) async fn an_acknowledgement_without_a_stream_needs_only_the_device(store: &impl Store) {
    let (key, hall) = (phone(), conversation());
    assert_eq!(one(store, ack(&key, None, &[(hall, 1, 1)])).await, Written::NoDevice);
    one(store, open(&key, Uuid::now_v7())).await;
    assert_eq!(one(store, ack(&key, None, &[(hall, 1, 1)])).await, Written::Done);
    assert_eq!(one(store, ack(&key, None, &[])).await, Written::Done);
    assert_eq!(positions(store, &key).await, [(hall, 1, 1)]);
}

pub(crate) async fn changes_of_one_batch_see_each_other(store: &impl Store) {
    let (key, old, new, hall) = (phone(), Uuid::now_v7(), Uuid::now_v7(), conversation());
    let batch = [
        open(&key, old),
        ack(&key, Some(old), &[(hall, 1, 2)]),
        open(&key, new),
        ack(&key, Some(old), &[(hall, 1, 5)]),
        Write::Delete { key: key.clone() },
        ack(&key, Some(new), &[(hall, 1, 6)]),
    ];
    let expected = [
        Written::Opened(None),
        Written::Done,
        Written::Opened(Some(NOW)),
        Written::Replaced,
        Written::Done,
        Written::NoDevice,
    ];
    assert_eq!(store.write(&batch, NOW).await.unwrap(), expected);
    assert_eq!(positions(store, &key).await, []);
}

pub(crate) async fn a_person_has_a_bounded_number_of_devices(store: &impl Store) {
    let user = UserId(Uuid::now_v7());
    for id in ["a", "b", "c"] {
        assert_eq!(one(store, open(&device(user, id), Uuid::now_v7())).await, Written::Opened(None));
    }
    assert_eq!(one(store, open(&device(user, "d"), Uuid::now_v7())).await, Written::LimitReached);
    assert_eq!(one(store, open(&device(user, "a"), Uuid::now_v7())).await, Written::Opened(Some(NOW)));
    assert_eq!(one(store, open(&phone(), Uuid::now_v7())).await, Written::Opened(None));
    one(store, Write::Delete { key: device(user, "b") }).await;
    assert_eq!(one(store, open(&device(user, "d"), Uuid::now_v7())).await, Written::Opened(None));
    let devices = store.devices(user).await.unwrap();
    assert_eq!(devices.iter().map(|device| device.device.as_str()).collect::<Vec<_>>(), ["a", "c", "d"]);
}

pub(crate) async fn opening_again_keeps_the_positions(store: &impl Store) {
    let (key, stream, hall) = (phone(), Uuid::now_v7(), conversation());
    store.write(&[open(&key, stream)], at(100)).await.unwrap();
    one(store, ack(&key, Some(stream), &[(hall, 1, 4)])).await;
    let again = store.write(&[open(&key, Uuid::now_v7())], at(200)).await.unwrap();
    assert_eq!(again, [Written::Opened(Some(at(100)))]);
    assert_eq!(positions(store, &key).await, [(hall, 1, 4)]);
    let kept = &store.devices(key.user).await.unwrap()[0];
    assert_eq!((kept.created_at, kept.last_seen_at), (at(100), at(200)));
}

pub(crate) async fn forgetting_is_for_the_named_stream(store: &impl Store) {
    let (key, stream, hall, yard) = (phone(), Uuid::now_v7(), conversation(), conversation());
    let forget = |stream, conversations| Write::Forget { key: key.clone(), stream, conversations };
    assert_eq!(one(store, forget(stream, None)).await, Written::NoDevice);
    one(store, open(&key, stream)).await;
    one(store, ack(&key, Some(stream), &[(hall, 1, 4), (yard, 1, 2)])).await;
    assert_eq!(one(store, forget(Uuid::now_v7(), None)).await, Written::Replaced);
    assert_eq!(one(store, forget(stream, Some(vec![hall]))).await, Written::Done);
    assert_eq!(positions(store, &key).await, [(yard, 1, 2)]);
    assert_eq!(one(store, forget(stream, Some(vec![]))).await, Written::Done);
    assert_eq!(positions(store, &key).await.len(), 1);
    assert_eq!(one(store, forget(stream, None)).await, Written::Done);
    assert_eq!(positions(store, &key).await, []);
}

pub(crate) async fn a_deleted_device_leaves_nothing(store: &impl Store) {
    let (key, stream, hall) = (phone(), Uuid::now_v7(), conversation());
    one(store, open(&key, stream)).await;
    one(store, ack(&key, Some(stream), &[(hall, 1, 4)])).await;
    assert_eq!(one(store, Write::Delete { key: key.clone() }).await, Written::Done);
    assert_eq!(one(store, Write::Delete { key: key.clone() }).await, Written::NoDevice);
    assert_eq!(positions(store, &key).await, []);
    assert_eq!(store.devices(key.user).await.unwrap(), []);
    assert_eq!(one(store, ack(&key, Some(stream), &[(hall, 1, 4)])).await, Written::NoDevice);
}

pub(crate) async fn unused_devices_expire(store: &impl Store) {
    let user = UserId(Uuid::now_v7());
    let (old, used, newer) = (device(user, "old"), device(user, "used"), device(user, "newer"));
    let stream = Uuid::now_v7();
    store.write(&[open(&old, stream), open(&used, stream)], at(100)).await.unwrap();
    store.write(&[open(&newer, stream)], at(300)).await.unwrap();
    one(store, ack(&old, None, &[(conversation(), 1, 1)])).await;
    store.write(&[Write::Touch { keys: vec![used.clone(), device(user, "never")] }], at(250)).await.unwrap();
    store.write(&[Write::Touch { keys: vec![used.clone()] }], at(150)).await.unwrap();
    assert_eq!(store.expire(at(200), 0).await.unwrap(), []);
    assert_eq!(store.expire(at(200), 10).await.unwrap(), std::slice::from_ref(&old));
    assert_eq!(positions(store, &old).await, []);
    assert_eq!(store.expire(at(251), 10).await.unwrap(), [used]);
    assert_eq!(store.devices(user).await.unwrap().len(), 1);
}

pub(crate) async fn epochs_use_all_their_bits(store: &impl Store) {
    let (key, stream, hall) = (phone(), Uuid::now_v7(), conversation());
    one(store, open(&key, stream)).await;
    let largest = i64::MAX.unsigned_abs();
    one(store, ack(&key, Some(stream), &[(hall, u64::MAX - 1, largest)])).await;
    assert_eq!(positions(store, &key).await, [(hall, u64::MAX - 1, largest)]);
}

pub(crate) async fn people_do_not_see_one_another(store: &impl Store) {
    let (alice, bob, hall, stream) = (phone(), phone(), conversation(), Uuid::now_v7());
    all(store, &[open(&alice, stream), open(&bob, stream)], NOW).await;
    one(store, ack(&alice, Some(stream), &[(hall, 1, 4)])).await;
    assert_eq!(positions(store, &bob).await, []);
    one(store, Write::Delete { key: bob.clone() }).await;
    assert_eq!(positions(store, &alice).await, [(hall, 1, 4)]);
}

pub(crate) async fn the_streams_of_devices_are_told(store: &impl Store) {
    let (alice, bob, old, new) = (phone(), phone(), Uuid::now_v7(), Uuid::now_v7());
    all(store, &[open(&alice, old), open(&alice, new), open(&bob, old)], NOW).await;
    let asked = [bob.clone(), phone(), alice.clone(), bob];
    assert_eq!(store.streams(&asked).await.unwrap(), [Some(old), None, Some(new), Some(old)]);
    assert_eq!(store.streams(&[]).await.unwrap(), []);
}

pub(crate) async fn a_batch_may_be_of_nobody_and_of_many_people(store: &impl Store) {
    assert_eq!(store.write(&[], NOW).await.unwrap(), []);
    let keys = (0..200).map(|_| phone()).collect::<Vec<_>>();
    let (stream, hall) = (Uuid::now_v7(), conversation());
    let opens = keys.iter().map(|key| open(key, stream)).collect::<Vec<_>>();
    assert_eq!(store.write(&opens, NOW).await.unwrap(), vec![Written::Opened(None); keys.len()]);
    let acks = (1..).zip(&keys).map(|(seq, key)| ack(key, Some(stream), &[(hall, 1, seq)])).collect::<Vec<_>>();
    assert_eq!(store.write(&acks, NOW).await.unwrap(), vec![Written::Done; keys.len()]);
    for (seq, key) in (1..).zip(&keys) {
        assert_eq!(positions(store, key).await, [(hall, 1, seq)]);
    }
}

/// Epochs and positions.
type Kept = BTreeMap<ConversationId, (u64, u64)>;

/// The devices of one person as the promises have them, with the streams that they name.
#[derive(Default)]
struct Book(BTreeMap<DeviceKey, (Uuid, Kept)>);

impl Book {
    fn make(&mut self, write: &Write) -> Written {
        let (Write::Open { key, .. }
        | Write::Acknowledge { key, .. }
        | Write::Forget { key, .. }
        | Write::Delete { key }) = write
        else {
            return Written::Done;
        };
        let count = self.0.len();
        if let Write::Open { stream, .. } = write {
            return match self.0.get_mut(key) {
                Some((named, _)) => {
                    *named = *stream;
                    Written::Opened(Some(NOW))
                }
                None if count >= 3 => Written::LimitReached,
                None => {
                    self.0.insert(key.clone(), (*stream, BTreeMap::new()));
                    Written::Opened(None)
                }
            };
        }
        let Some((named, kept)) = self.0.get_mut(key) else { return Written::NoDevice };
        match write {
            Write::Acknowledge { stream, positions, .. } => {
                if stream.is_some_and(|stream| stream != *named) {
                    return Written::Replaced;
                }
                for position in positions {
                    let (epoch, seq) = kept.entry(position.conversation).or_insert((position.epoch, 0));
                    *seq = if *epoch == position.epoch { position.seq.max(*seq) } else { position.seq };
                    *epoch = position.epoch;
                }
            }
            Write::Forget { stream, .. } if stream != named => return Written::Replaced,
            Write::Forget { conversations: Some(some), .. } => {
                kept.retain(|conversation, _| !some.contains(conversation))
            }
            Write::Forget { conversations: None, .. } => kept.clear(),
            _ => drop(self.0.remove(key)),
        }
        Written::Done
    }
}

pub(crate) async fn random_batches_do_what_the_book_says(store: &impl Store) {
    let (user, mut book) = (UserId(Uuid::now_v7()), Book::default());
    let conversations: [_; 4] = std::array::from_fn(|_| conversation());
    let streams: [_; 3] = std::array::from_fn(|_| Uuid::now_v7());
    let seed = rand::random::<u64>();
    let mut dice = rand::rngs::StdRng::seed_from_u64(seed);
    for number in 0..60 {
        let mut batch = Vec::new();
        for _ in 0..dice.random_range(1..20) {
            let key = device(user, ["a", "b", "c", "d"][dice.random_range(0..4)]);
            let stream = streams[dice.random_range(0..3)];
            batch.push(match dice.random_range(0..20) {
                0..3 => open(&key, stream),
                3 => Write::Delete { key },
                4 => Write::Forget { key, stream, conversations: None },
                5 => Write::Forget { key, stream, conversations: Some(vec![conversations[dice.random_range(0..4)]]) },
                6 => Write::Touch { keys: vec![key] },
                _ => {
                    let stream = Some(stream).filter(|_| dice.random_bool(0.5));
                    let mut random = || {
                        let epoch = if dice.random_bool(0.9) { 7 } else { 8 };
                        (conversations[dice.random_range(0..4)], epoch, dice.random_range(1..50))
                    };
                    let mut positions = vec![random(), random()];
                    positions.dedup_by_key(|position| position.0);
                    ack(&key, stream, &positions)
                }
            });
        }
        let expected = batch.iter().map(|write| book.make(write)).collect::<Vec<_>>();
        assert_eq!(store.write(&batch, NOW).await.unwrap(), expected, "seed {seed}, batch {number}: {batch:?}");
        for id in ["a", "b", "c", "d"] {
            let key = device(user, id);
            let kept = book.0.get(&key).map(|(_, kept)| kept.clone()).unwrap_or_default();
            let kept = kept.into_iter().map(|(conversation, (epoch, seq))| (conversation, epoch, seq));
            assert_eq!(
                positions(store, &key).await,
                kept.collect::<Vec<_>>(),
                "seed {seed}, batch {number}: {batch:?}"
            );
        }
    }
}
