//! What one statement does by itself, and what it leaves alone.

use super::*;
use crate::event::Watermark;
use crate::store::conformance::{remove, text};

/// A call that raises one person's watermarks.
fn raise(world: &World, who: UserId, id: ConversationId, delivered_seq: u64, read_seq: u64) -> Op {
    let epoch = world.store.epoch();
    Op::Raise(vec![Watermark { conversation: id, member: who, epoch, delivered_seq, read_seq }])
}

/// Whether nothing of a call is left to do.
fn done(op: &Op, answer: Option<&Answer>) -> bool {
    answer.is_some() && if let Op::Raise(watermarks) = op { watermarks.is_empty() } else { true }
}

/// Which calls of a batch are done by themselves.
async fn quickly(pod: &PostgresStore, mut ops: Vec<Op>) -> Vec<bool> {
    let answers = pod.commit_quickly(&mut ops).await;
    ops.iter().zip(&answers).map(|(op, answer)| done(op, answer.as_ref())).collect()
}

#[tokio::test]
async fn messages_and_watermarks_of_many_conversations_are_one_statement_each() {
    let Some(place) = Place::fresh().await else { return };
    let pod = place.pod().await;
    let world = on(&pod).await;
    let people: Vec<UserId> = (1..=30).map(person).collect();
    let mut ids = Vec::new();
    for pair in people.chunks(2) {
        ids.push(world.direct(pair[0], pair[1]).await);
    }
    for round in 0..3_u64 {
        let mut ops: Vec<Op> = ids[..10]
            .iter()
            .zip(people.chunks(2))
            .map(|(id, pair)| world.op(pair[0], *id, &round.to_string(), send(&format!("{round}"))))
            .collect();
        let rest = ids[10..].iter().zip(people.chunks(2).skip(10));
        ops.extend(rest.map(|(id, pair)| raise(&world, pair[round as usize % 2], *id, 1, round / 2)));
        assert_eq!(quickly(&pod, ops).await, [true; 15], "round {round}");
    }
    let log = world.store.messages(people[1], ids[0], 0, true, 10).await.unwrap().unwrap().messages;
    let texts: Vec<_> = log.iter().map(|message| (message.event.seq, text(&message.event.body))).collect();
    assert_eq!(texts, [(2, "0".to_owned()), (3, "1".to_owned()), (4, "2".to_owned())]);
    // Three messages that the other one has not read; the watermarks as they were raised.
    assert_eq!(world.counts(people[1], ids[0]).await, (3, 0, 0, 4));
    assert_eq!(world.counts(people[20], ids[10]).await, (0, 1, 1, 1));
}

#[tokio::test]
async fn what_does_not_fit_is_left_and_leaves_no_trace() {
    let Some(place) = Place::fresh().await else { return };
    let pod = place.pod().await;
    let world = on(&pod).await;
    let (alice, bob, eve) = (person(1), person(2), person(3));
    let id = world.direct(alice, bob).await;
    for number in 0..4 {
        world.sends(alice, id, &number.to_string()).await;
    }
    let left = [
        vec![world.op(alice, id, "send 0", send("0"))],
        vec![world.op(eve, id, "stranger", send("x"))],
        vec![world.op(alice, id, "one", send("x")), world.op(bob, id, "another", send("x"))],
        vec![world.op(alice, id, "with", send("x")), raise(&world, bob, id, 1, 0)],
        vec![world.op(alice, id, "other", remove(bob))],
        // Beyond the end; in the middle of the log; of one who is no member; nothing that rises.
        vec![raise(&world, bob, id, 9, 0)],
        vec![raise(&world, bob, id, 0, 3)],
        vec![raise(&world, eve, id, 1, 0)],
        vec![raise(&world, bob, id, 0, 0)],
    ];
    for ops in left {
        let (told, count) = (format!("{ops:?}"), ops.len());
        assert_eq!(quickly(&pod, ops).await, vec![false; count], "{told}");
    }
    assert_eq!(world.counts(bob, id).await, (4, 0, 0, 5));
    let seqs: Vec<u64> = world.log(bob, id, 10).await.iter().map(|(seq, ..)| *seq).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5]);
    // The longer way does it.
    assert_eq!(world.raise(bob, id, 0, 3).await.len(), 1);
    assert_eq!(world.counts(bob, id).await, (2, 3, 3, 5));
    assert_eq!(world.sends(bob, id, "next").await.seq, 6);
}

/// Lets somebody change rows and commit while a batch waits for them; says which of its calls were done by themselves.
async fn beside(place: &Place, change: &str, pod: &Arc<PostgresStore>, ops: Vec<Op>) -> Vec<bool> {
    let mut other = sqlx::PgPool::connect(&place.url).await.unwrap().begin().await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("SET LOCAL search_path = send; {change}")))
        .execute(&mut *other)
        .await
        .unwrap();
    let (pod, waiting) = (pod.clone(), ops);
    let batch = tokio::spawn(async move { quickly(&pod, waiting).await });
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    while place.sql(waits).await != "1" {
        assert!(!batch.is_finished(), "it waits");
        tokio::task::yield_now().await;
    }
    other.commit().await.unwrap();
    batch.await.unwrap()
}

#[tokio::test]
async fn promise_3_who_is_removed_while_a_statement_waits_leaves_no_gap() {
    let Some(place) = Place::fresh().await else { return };
    let pod = place.pod().await;
    let world = on(&pod).await;
    let (alice, bob) = (person(1), person(2));
    let id = world.group(alice, &[bob]).await;
    let lane = commit::lanes_of(std::iter::once(id))[0];
    let removes = format!(
        "SELECT pg_advisory_xact_lock({}, {lane}); UPDATE members SET role = 0 WHERE user_id = '{}'",
        commit::LANE_LOCKS,
        bob.0
    );
    let late = vec![world.op(bob, id, "late", send("x"))];
    assert_eq!(beside(&place, &removes, &pod, late).await, [false]);
    assert_eq!(world.sends(alice, id, "next").await.seq, 2);
}

#[tokio::test]
async fn fault_7_a_message_that_is_sent_while_its_sender_reads_is_not_unread() {
    let Some(place) = Place::fresh().await else { return };
    let pod = place.pod().await;
    let world = on(&pod).await;
    let (alice, bob) = (person(1), person(2));
    let id = world.direct(alice, bob).await;
    world.sends(alice, id, "hello").await;
    // What a statement of another pod does for a message of bob's.
    let sends = format!(
        "UPDATE members SET sent_no = sent_no + 1 WHERE user_id = '{}'; UPDATE conversations SET last_seq = 3, \
         last_public_seq = 3, last_message_no = 2; INSERT INTO events (conversation_id, sender_id, seq, message_no, sent_no, \
         created_at, kind, request_id, request_digest, body) VALUES ('{}', '{}', 3, 2, 1, 1, 1, 'r', '0123456789abcdef', '')",
        bob.0, id.0, bob.0
    );
    assert_eq!(beside(&place, &sends, &pod, vec![raise(&world, bob, id, 0, 2)]).await, [false]);
    assert_eq!(world.raise(bob, id, 0, 2).await.len(), 1);
    assert_eq!(world.counts(bob, id).await, (0, 2, 2, 3));
}

#[tokio::test]
async fn a_database_that_does_not_take_these_statements_is_served_without_them() {
    let Some(place) = Place::fresh().await else { return };
    let pod = place.pod().await;
    let world = on(&pod).await;
    let (alice, bob) = (person(1), person(2));
    let id = world.direct(alice, bob).await;
    place
        .sql(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 IF current_query() LIKE 'WITH lanes%' THEN RAISE feature_not_supported; END IF; RETURN NULL; END $$;
             CREATE TRIGGER refuse AFTER INSERT ON events EXECUTE FUNCTION refuse();
             GRANT EXECUTE ON FUNCTION refuse() TO PUBLIC",
        )
        .await;
    assert_eq!(world.sends(alice, id, "first").await.seq, 2);
    assert!(!pod.quick.load(Ordering::Relaxed), "one refusal is enough");
    assert_eq!(world.sends(bob, id, "second").await.seq, 3);
}
