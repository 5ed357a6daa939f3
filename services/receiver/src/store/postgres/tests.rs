//! The suite that every backend passes, on a real PostgreSQL, and what holds between two pods that share one.

use flaghoist_backends::{Postgres as Server, Stop};
use sqlx::postgres::PgConnectOptions;

use super::*;

mod plans;

async fn pods(count: usize) -> Option<(&'static Server, String, Vec<PostgresStore>)> {
    let server = Server::shared().await?;
    let url = server.database().await;
    let address = url.parse::<PgConnectOptions>().unwrap();
    let opened = (0..count).map(|_| PostgresStore::open(&address, 10, 3));
    let pods = futures_util::future::try_join_all(opened).await.unwrap();
    Some((server, url, pods))
}

async fn store() -> Option<((), PostgresStore)> {
    pods(1).await.map(|(_, _, mut pods)| ((), pods.remove(0)))
}

crate::store::conformance::suite!(store);

fn phone() -> DeviceKey {
    DeviceKey { user: UserId(Uuid::now_v7()), device: DeviceId::from_id("phone").unwrap() }
}

fn ack(key: &DeviceKey, stream: Uuid, conversation: ConversationId, seq: u64) -> Write {
    let positions = vec![Position { conversation, epoch: 1, seq }];
    Write::Acknowledge { key: key.clone(), stream: Some(stream), positions }
}

async fn one(store: &PostgresStore, write: Write) -> Written {
    store.write(&[write], SystemTime::now()).await.unwrap()[0]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_pods_that_write_the_same_devices_never_deadlock_and_lose_nothing() {
    let Some((_, _, pods)) = pods(2).await else { return };
    let hall = ConversationId(Uuid::now_v7());
    let keys = (0..60).map(|_| phone()).collect::<Vec<_>>();
    let stream = Uuid::now_v7();
    let opens = keys.iter().map(|key| Write::Open { key: key.clone(), stream }).collect::<Vec<_>>();
    pods[0].write(&opens, SystemTime::now()).await.unwrap();
    let writers = (0..6_u64).map(|number| {
        let (store, mut keys) = (pods[usize::from(number % 2 == 1)].clone(), keys.clone());
        tokio::spawn(async move {
            for round in 0..20 {
                // Each in another order.
                keys.rotate_left(7);
                if number % 3 == 0 {
                    keys.reverse();
                }
                let batch = keys.iter().map(|key| ack(key, stream, hall, round * 6 + number + 1)).collect::<Vec<_>>();
                let answers = store.write(&batch, SystemTime::now()).await.unwrap();
                assert!(answers.iter().all(|answer| *answer == Written::Done));
            }
        })
    });
    futures_util::future::try_join_all(writers).await.unwrap();
    for key in &keys {
        let positions = pods[1].positions(key).await.unwrap();
        assert_eq!(positions, [Position { conversation: hall, epoch: 1, seq: 120 }]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_streams_that_open_at_once_on_two_pods_one_is_named_and_the_other_notices() {
    let Some((_, _, pods)) = pods(2).await else { return };
    let hall = ConversationId(Uuid::now_v7());
    for _ in 0..20 {
        let (key, streams) = (phone(), [Uuid::now_v7(), Uuid::now_v7()]);
        let opens = streams.map(|stream| Write::Open { key: key.clone(), stream });
        let [left, right] = opens;
        let (left, right) = tokio::join!(one(&pods[0], left), one(&pods[1], right));
        let first = [left, right].into_iter().filter(|opened| *opened == Written::Opened(None)).count();
        assert_eq!(first, 1, "one has made the device: {left:?}, {right:?}");
        let named = pods[0].streams(std::slice::from_ref(&key)).await.unwrap()[0].unwrap();
        for (pod, stream) in pods.iter().zip(streams) {
            let expected = if stream == named { Written::Done } else { Written::Replaced };
            assert_eq!(one(pod, ack(&key, stream, hall, 1)).await, expected);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_4_a_stream_that_opens_sees_every_acknowledgement_that_was_answered() {
    let Some((_, _, pods)) = pods(2).await else { return };
    let (key, hall, mut stream) = (phone(), ConversationId(Uuid::now_v7()), Uuid::now_v7());
    one(&pods[0], Write::Open { key: key.clone(), stream }).await;
    let mut seq = 0;
    for round in 0..30 {
        let (old, new) = (&pods[round % 2], &pods[(round + 1) % 2]);
        let newer = Uuid::now_v7();
        let opening = async {
            one(new, Write::Open { key: key.clone(), stream: newer }).await;
            new.positions(&key).await.unwrap()
        };
        seq += 1;
        let (answer, seen) = tokio::join!(one(old, ack(&key, stream, hall, seq)), opening);
        let seen = seen.first().map_or(0, |position| position.seq);
        match answer {
            Written::Done => assert_eq!(seen, seq, "answered, and not seen by the opening"),
            Written::Replaced => seq = seen,
            other => panic!("{other:?}"),
        }
        stream = newer;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_have_no_more_devices_than_they_may_whichever_pod_they_ask() {
    let Some((_, _, pods)) = pods(2).await else { return };
    let user = UserId(Uuid::now_v7());
    let opens = (0..12).map(|number| {
        let key = DeviceKey { user, device: DeviceId::from_id(&format!("d{number}")).unwrap() };
        one(&pods[number % 2], Write::Open { key, stream: Uuid::now_v7() })
    });
    let answers = futures_util::future::join_all(opens).await;
    assert_eq!(answers.iter().filter(|answer| **answer == Written::Opened(None)).count(), 3);
    assert_eq!(pods[0].devices(user).await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_device_is_online_while_the_stream_it_names_is_open_on_any_pod() {
    let Some((_, _, pods)) = pods(2).await else { return };
    let (key, old, new) = (phone(), Uuid::now_v7(), Uuid::now_v7());
    let online = async || pods[1].devices(key.user).await.unwrap()[0].online_until.unwrap() > SystemTime::now();
    one(&pods[0], Write::Open { key: key.clone(), stream: old }).await;
    assert!(online().await);
    one(&pods[1], Write::Open { key: key.clone(), stream: new }).await;
    let of_one = |stream, open| Write::Present { streams: vec![(key.clone(), stream)], open };
    one(&pods[0], of_one(old, false)).await;
    assert!(online().await, "the newer one is");
    one(&pods[1], of_one(new, false)).await;
    assert!(!online().await);
    one(&pods[0], of_one(old, true)).await;
    assert!(!online().await, "it is not the device's any more");
    one(&pods[0], of_one(new, true)).await;
    assert!(online().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_1_a_crash_of_the_server_loses_nothing_answered_and_is_survived() {
    // A server of its own: the others go on.
    let Some(server) = Server::start().await else { return };
    let url = server.database().await;
    let store = PostgresStore::open(&url.parse().unwrap(), 4, 3).await.unwrap();
    let (key, stream, hall) = (phone(), Uuid::now_v7(), ConversationId(Uuid::now_v7()));
    one(&store, Write::Open { key: key.clone(), stream }).await;
    let mut answered = 0;
    for seq in 1..=40 {
        if seq == 20 {
            server.crash().await;
            let error = store.write(&[ack(&key, stream, hall, seq)], SystemTime::now()).await.unwrap_err();
            assert!(error.transient, "{error:?}");
            server.start_again().await;
        }
        assert_eq!(one(&store, ack(&key, stream, hall, seq)).await, Written::Done);
        answered = seq;
    }
    server.stop(Stop::Fast).await;
    server.start_again().await;
    assert_eq!(store.positions(&key).await.unwrap(), [Position { conversation: hall, epoch: 1, seq: answered }]);
}

/// The places in a batch that one statement stores.
async fn at_once(pod: &PostgresStore, writes: &[Write]) -> Vec<usize> {
    let mut stored = Acknowledgements::of(writes).store(&pod.pool).await.unwrap();
    stored.sort_unstable();
    stored
}

#[tokio::test]
async fn acknowledgements_are_one_statement_and_what_does_not_fit_is_left() {
    let Some((_, _, pods)) = pods(1).await else { return };
    let pod = &pods[0];
    let (here, there) = (ConversationId(Uuid::now_v7()), ConversationId(Uuid::now_v7()));
    let (phone, stream, older) = (phone(), Uuid::now_v7(), Uuid::now_v7());
    let tablet = DeviceKey { device: DeviceId::from_id("tablet").unwrap(), ..phone.clone() };
    let gone = DeviceKey { device: DeviceId::from_id("gone").unwrap(), ..phone.clone() };
    for key in [&phone, &tablet] {
        assert_eq!(one(pod, Write::Open { key: key.clone(), stream }).await, Written::Opened(None));
    }
    let by_call = Write::Acknowledge {
        key: tablet.clone(),
        stream: None,
        positions: vec![Position { conversation: here, epoch: 1, seq: 4 }],
    };
    let batch = [
        ack(&phone, stream, here, 2),
        Write::Touch { keys: vec![phone.clone()] },
        ack(&phone, stream, there, 9),
        ack(&gone, stream, here, 1),
        ack(&phone, stream, here, 3),
        by_call,
    ];
    assert_eq!(at_once(pod, &batch).await, [0, 2, 4, 5], "not the touch, nor the device that is not there");
    let at = |conversation, seq| Position { conversation, epoch: 1, seq };
    let mut positions = pod.positions(&phone).await.unwrap();
    positions.sort_by_key(|position| position.seq);
    assert_eq!(positions, [at(here, 3), at(there, 9)]);
    assert_eq!(pod.positions(&tablet).await.unwrap(), [at(here, 4)]);
    // A lower one changes nothing; one of another stream, of two streams, of two epochs, and beside another wish is left.
    assert_eq!(at_once(pod, &[ack(&phone, stream, here, 1)]).await, [0]);
    assert_eq!(at_once(pod, &[ack(&phone, older, here, 20)]).await, [0; 0]);
    assert_eq!(at_once(pod, &[ack(&phone, stream, here, 20), ack(&phone, older, here, 21)]).await, [0; 0]);
    let next = vec![Position { conversation: here, epoch: 2, seq: 1 }];
    let next = Write::Acknowledge { key: phone.clone(), stream: Some(stream), positions: next };
    assert_eq!(at_once(pod, &[ack(&phone, stream, here, 20), next]).await, [0; 0]);
    let forget = Write::Forget { key: phone.clone(), stream, conversations: None };
    assert_eq!(at_once(pod, &[ack(&phone, stream, here, 20), forget]).await, [0; 0]);
    assert_eq!(pod.positions(&phone).await.unwrap().len(), 2);
    assert!(pod.positions(&phone).await.unwrap().contains(&at(here, 3)));
}

#[tokio::test]
async fn a_server_that_only_reads_is_unavailable_and_the_pod_goes_on_when_it_writes_again() {
    let Some((server, url, pods)) = pods(1).await else { return };
    let pod = &pods[0];
    let (phone, stream, hall) = (phone(), Uuid::now_v7(), ConversationId(Uuid::now_v7()));
    one(pod, Write::Open { key: phone.clone(), stream }).await;
    one(pod, ack(&phone, stream, hall, 1)).await;
    server.only_reads(&url, true).await;
    // By the one statement, and by the longer way.
    for write in [ack(&phone, stream, hall, 2), Write::Delete { key: phone.clone() }] {
        let error = pod.write(&[write], SystemTime::now()).await.unwrap_err();
        assert!(error.transient, "{error:?}");
    }
    let at = |seq| [Position { conversation: hall, epoch: 1, seq }];
    assert_eq!(pod.positions(&phone).await.unwrap(), at(1), "it is read, and nothing is there");
    server.only_reads(&url, false).await;
    assert_eq!(one(pod, ack(&phone, stream, hall, 2)).await, Written::Done);
    assert_eq!(pod.positions(&phone).await.unwrap(), at(2));
}

#[tokio::test]
async fn a_database_that_does_not_take_the_one_statement_is_served_without_it() {
    let Some((server, url, pods)) = pods(1).await else { return };
    let pod = &pods[0];
    let (phone, stream, hall) = (phone(), Uuid::now_v7(), ConversationId(Uuid::now_v7()));
    one(pod, Write::Open { key: phone.clone(), stream }).await;
    // As Citus does: one statement does not change rows of several shards.
    let refuse = "SET search_path = receiver; CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF current_query() LIKE 'WITH lanes%' THEN RAISE feature_not_supported; END IF; RETURN NULL; END $$;
         CREATE TRIGGER refuse AFTER INSERT OR UPDATE ON positions EXECUTE FUNCTION refuse();
         GRANT EXECUTE ON FUNCTION refuse() TO PUBLIC";
    server.sql(&url, refuse).await;
    assert_eq!(one(pod, ack(&phone, stream, hall, 1)).await, Written::Done);
    assert!(!pod.at_once.load(Ordering::Relaxed), "one refusal is enough");
    let older = Uuid::now_v7();
    let batch = [ack(&phone, stream, hall, 2), ack(&phone, older, hall, 9)];
    assert_eq!(pod.write(&batch, SystemTime::now()).await.unwrap(), [Written::Done, Written::Replaced]);
    assert_eq!(pod.positions(&phone).await.unwrap(), [Position { conversation: hall, epoch: 1, seq: 2 }]);
}

#[tokio::test]
async fn promise_5_an_acknowledgement_that_waited_while_its_device_was_taken_over_or_removed_is_not_stored() {
    let Some((server, url, pods)) = pods(1).await else { return };
    let pod = &pods[0];
    let (phone, stream, hall) = (phone(), Uuid::now_v7(), ConversationId(Uuid::now_v7()));
    let newer = format!("UPDATE devices SET stream_id = '\\x{}'", Uuid::now_v7().simple());
    for change in [newer.as_str(), "DELETE FROM positions; DELETE FROM devices"] {
        one(pod, Write::Open { key: phone.clone(), stream }).await;
        let mut other = pod.begin(&lanes_of(std::iter::once(phone.user))).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(change.to_owned())).execute(&mut *other).await.unwrap();
        let (store, writes) = (pod.clone(), [ack(&phone, stream, hall, 7)]);
        let waiting = tokio::spawn(async move { at_once(&store, &writes).await });
        let waits =
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        while server.sql(&url, waits).await != "1" {
            assert!(!waiting.is_finished(), "it waits for the lane");
            tokio::task::yield_now().await;
        }
        other.commit().await.unwrap();
        assert_eq!(waiting.await.unwrap(), [0; 0], "{change}");
        assert_eq!(pod.positions(&phone).await.unwrap(), [], "{change}");
    }
}
