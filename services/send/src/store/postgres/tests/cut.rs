//! Connections that are cut at the worst moment, and servers that go away.

use std::net::SocketAddr;
use std::sync::atomic::AtomicU8;

use flaghoist_backends::{Link, Stop};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const PASSES: u8 = 0;
/// The next COMMIT reaches the server, its answer does not come back.
const CUTS_ANSWER: u8 = 1;
/// The next COMMIT does not reach the server.
const CUTS_COMMIT: u8 = 2;

/// Stands between a pod and its server.
struct Wire {
    address: SocketAddr,
    mood: Arc<AtomicU8>,
}

impl Wire {
    async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mood = Arc::new(AtomicU8::new(PASSES));
        let moods = mood.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, port, moods.clone()));
            }
        });
        Self { address, mood }
    }

    fn will(&self, mood: u8) {
        self.mood.store(mood, Ordering::SeqCst);
    }
}

/// Carries bytes both ways until one side closes or the wire is cut.
async fn carry(mut client: TcpStream, port: u16, mood: Arc<AtomicU8>) {
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let (mut asked, mut told) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        tokio::select! {
            count = client.read(&mut asked) => {
                let Ok(count @ 1..) = count else { return };
                let commits = asked[..count].windows(7).any(|word| word == b"COMMIT\0");
                let cut = if commits { mood.swap(PASSES, Ordering::SeqCst) } else { PASSES };
                if cut == CUTS_COMMIT || server.write_all(&asked[..count]).await.is_err() {
                    return;
                }
                if cut == CUTS_ANSWER {
                    // It is committed when the server says so; nobody hears it.
                    let _answer = server.read(&mut told).await;
                    return;
                }
            }
            count = server.read(&mut told) => {
                let Ok(count @ 1..) = count else { return };
                if client.write_all(&told[..count]).await.is_err() {
                    return;
                }
            }
        }
    }
}

#[tokio::test]
async fn promise_2_a_commit_whose_answer_was_lost_is_unavailable_and_its_repetition_has_the_one_effect() {
    let Some(place) = Place::fresh().await else { return };
    let wire = Wire::to(place.postgres.port()).await;
    let options = place.options().host("127.0.0.1").port(wire.address.port());
    let world = on(&pod(&options).await).await;
    let (alice, bob) = (person(1), person(2));
    let id = world.direct(alice, bob).await;
    for (round, (mood, happened)) in
        [(CUTS_ANSWER, true), (CUTS_COMMIT, false), (CUTS_ANSWER, true)].into_iter().enumerate()
    {
        let ops = || (0..5).map(|call| world.op(alice, id, &format!("{round} {call}"), send("x"))).collect();
        wire.will(mood);
        let lost = world.commit(ops()).await;
        assert!(lost.iter().all(|answer| matches!(answer, Err(Error::Unavailable(_)))), "{lost:?}");
        let again = world.commit(ops()).await;
        for (call, answer) in again.iter().enumerate() {
            let written = answer.as_ref().unwrap();
            assert_eq!(written.deduplicated, happened, "round {round}");
            assert_eq!(written.event.as_ref().unwrap().seq, (round * 5 + call + 2) as u64);
        }
    }
    assert_eq!(world.log(bob, id, 100).await.len(), 16, "each request had one effect");
}

#[tokio::test]
async fn what_was_answered_survives_a_crash_of_the_server_and_the_pod_goes_on_by_itself() {
    let Some(postgres) = Postgres::start().await else { return };
    let options: PgConnectOptions = postgres.database().await.parse().unwrap();
    let world = Arc::new(on(&pod(&options).await).await);
    let (alice, bob) = (person(1), person(2));
    let id = world.direct(alice, bob).await;
    let sender = {
        let world = world.clone();
        tokio::spawn(async move {
            let mut answered = Vec::new();
            for number in 0..150 {
                // As a client does: the same request until it is answered.
                for attempt in 0.. {
                    match world.one(alice, id, &number.to_string(), send("x")).await {
                        Ok(written) => {
                            answered.push(written.event.unwrap().seq);
                            break;
                        }
                        Err(Error::Unavailable(_)) if attempt < 500 => {
                            tokio::time::sleep(Duration::from_millis(20)).await
                        }
                        Err(error) => panic!("{error:?}"),
                    }
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            answered
        })
    };
    for mode in [Stop::Immediate, Stop::Fast] {
        tokio::time::sleep(Duration::from_millis(200)).await;
        postgres.stop(mode).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        postgres.start_again().await;
    }
    let answered = sender.await.unwrap();
    assert_eq!(answered, (2..=151).collect::<Vec<_>>(), "one effect each, in order");
    assert_eq!(world.log(bob, id, 50).await.len(), 151);
}

#[tokio::test]
async fn promise_2_a_network_that_goes_silent_is_unavailable_in_time_and_the_repetition_has_the_one_effect() {
    let Some(place) = Place::fresh().await else { return };
    let link = Link::new(([127, 0, 0, 1], place.postgres.port()).into());
    let world = on(&pod(&place.options().host("127.0.0.1").port(link.address().port())).await).await;
    let (alice, bob) = (person(1), person(2));
    let id = world.direct(alice, bob).await;
    world.sends(alice, id, "before").await;
    link.cut();
    let waited = std::time::Instant::now();
    let lost = world.one(alice, id, "silent", send("x")).await;
    assert!(matches!(lost, Err(Error::Unavailable(_))), "{lost:?}");
    assert!(waited.elapsed() < Duration::from_secs(15), "{:?}", waited.elapsed());
    // What had been sent arrives late; the new connection finds what it did, or does it.
    link.mend();
    let written = world.one(alice, id, "silent", send("x")).await.unwrap();
    assert_eq!(written.event.unwrap().seq, 3);
    assert_eq!(world.log(bob, id, 10).await.len(), 3);
}

#[tokio::test]
async fn a_server_that_only_reads_is_unavailable_and_the_pod_goes_on_when_it_writes_again() {
    let Some(place) = Place::fresh().await else { return };
    let world = on(&place.pod().await).await;
    let (alice, bob) = (person(1), person(2));
    let id = world.direct(alice, bob).await;
    place.postgres.only_reads(&place.url, true).await;
    // Alone by the one statement; with another for the same conversation by the longer way.
    for calls in [1, 2] {
        let ops = (0..calls).map(|call| world.op(alice, id, &format!("{calls} {call}"), send("x"))).collect();
        let refused = world.commit(ops).await;
        assert!(refused.iter().all(|answer| matches!(answer, Err(Error::Unavailable(_)))), "{refused:?}");
    }
    assert_eq!(world.log(bob, id, 10).await.len(), 1, "it is read, and nothing is there");
    place.postgres.only_reads(&place.url, false).await;
    let written = world.one(alice, id, "1 0", send("x")).await.unwrap();
    assert_eq!((written.deduplicated, written.event.unwrap().seq), (false, 2));
}

#[tokio::test]
async fn promise_2_a_batch_in_the_way_of_others_goes_on_in_smaller_pieces_and_each_call_has_one_effect() {
    // Serialisation failure, deadlock.
    for code in ["40001", "40P01"] {
        let Some(place) = Place::fresh().await else { return };
        let world = on(&place.pod().await).await;
        let (alice, bob) = (person(1), person(2));
        let (id, other) = (world.direct(alice, bob).await, world.direct(alice, person(3)).await);
        // Several messages at once are always in the way, one alone three times. What a sequence counted is not undone.
        place
            .sql(&format!(
                "CREATE SEQUENCE pieces; CREATE SEQUENCE single;
                 CREATE FUNCTION conflict() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                     IF NOT EXISTS (SELECT FROM added) THEN RETURN NULL;
                     ELSIF (SELECT count(*) FROM added) > 1 THEN PERFORM nextval('pieces');
                     ELSIF nextval('single') > 3 THEN RETURN NULL; END IF;
                     RAISE EXCEPTION 'in the way' USING ERRCODE = '{code}'; END $$;
                 CREATE TRIGGER conflict AFTER INSERT ON events REFERENCING NEW TABLE AS added
                     FOR EACH STATEMENT EXECUTE FUNCTION conflict()"
            ))
            .await;
        let ops = || {
            let mut ops: Vec<Op> = (0..8).map(|call| world.op(alice, id, &format!("{call}"), send("x"))).collect();
            // The same call twice in one batch, and one for another conversation.
            ops.push(world.op(alice, id, "3", send("x")));
            ops.push(world.op(alice, other, "3", send("x")));
            ops
        };
        for again in [false, true] {
            let answers = world.commit(ops()).await;
            let answers: Vec<(bool, u64)> = answers
                .iter()
                .map(|answer| answer.as_ref().unwrap_or_else(|error| panic!("{code}: {error:?}")))
                .map(|written| (written.deduplicated, written.event.as_ref().unwrap().seq))
                .collect();
            let mut expected: Vec<(bool, u64)> = (2..10).map(|seq| (again, seq)).collect();
            expected.extend([(true, 5), (again, 2)]);
            assert_eq!(answers, expected, "{code}");
        }
        assert_eq!((world.log(bob, id, 50).await.len(), world.log(alice, other, 50).await.len()), (9, 2), "{code}");
        let conflicts = place.sql("SELECT p.last_value > 3, s.last_value - 9 FROM pieces p, single s").await;
        assert_eq!(conflicts, "t|3", "{code}: nine messages got through, after three that did not");
    }
}

#[tokio::test]
async fn a_pod_that_freezes_within_a_transaction_holds_up_others_for_five_seconds_at_most() {
    let Some(place) = Place::fresh().await else { return };
    let pod = place.pod().await;
    let world = on(&pod).await;
    let (alice, bob) = (person(1), person(2));
    let id = world.direct(alice, bob).await;
    let frozen = place.pod().await;
    let mut connection = frozen.kept.connection().await.unwrap();
    let begun = commit::begin_text(&[world.op(alice, id, "frozen", send("x"))]);
    sqlx::raw_sql(sqlx::AssertSqlSafe(begun)).execute(&mut *connection).await.unwrap();
    let waited = std::time::Instant::now();
    // As a client does: on a busy machine the statement that waits may give up a moment before the lock is free.
    while let Err(error) = world.one(alice, id, "through", send("through")).await {
        assert!(matches!(error, Error::Unavailable(_)), "{error:?}");
        assert!(waited.elapsed() < Duration::from_secs(12), "{:?}", waited.elapsed());
    }
    assert!(waited.elapsed() < Duration::from_secs(12), "{:?}", waited.elapsed());
    assert!(waited.elapsed() > Duration::from_secs(2), "the lane was locked");
}
