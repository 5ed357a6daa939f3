//! Two pods on one database, writing at the same time.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;

use super::*;
use crate::conversation::{direct_id, group_id};
use crate::event::Watermark;
use crate::store::conformance::{add, edit, remove};

/// Two pods, and a world on each.
async fn pods(place: &Place) -> [Arc<World>; 2] {
    [Arc::new(on(&place.pod().await).await), Arc::new(on(&place.pod().await).await)]
}

/// What must hold of the tables whatever was done.
async fn consistent(place: &Place) {
    let gaps = "SELECT c.conversation_id FROM conversations c JOIN events e USING (conversation_id) GROUP BY 1, c.last_seq, \
                c.last_message_no HAVING count(*) <> c.last_seq OR max(e.seq) <> c.last_seq OR max(e.message_no) <> \
                c.last_message_no OR count(*) FILTER (WHERE e.kind = 1) <> c.last_message_no";
    assert_eq!(place.sql(gaps).await, "", "logs are dense and counted");
    let sent = "SELECT m.conversation_id FROM members m WHERE m.sent_no <> (SELECT count(*) FROM events e WHERE \
                e.conversation_id = m.conversation_id AND e.sender_id = m.user_id AND e.kind = 1)";
    assert_eq!(place.sql(sent).await, "", "what each member sent is counted");
    let members = "SELECT c.conversation_id FROM conversations c WHERE c.member_count <> (SELECT count(*) FROM members m WHERE \
                   m.conversation_id = c.conversation_id AND m.role > 0)";
    assert_eq!(place.sql(members).await, "", "members are counted");
    let people = "SELECT p.user_id FROM people p WHERE p.conversation_count <> (SELECT count(*) FROM members m WHERE \
                  m.user_id = p.user_id AND m.role > 0)";
    assert_eq!(place.sql(people).await, "", "everyone's conversations are counted");
    let listed = "SELECT m.user_id FROM members m WHERE NOT EXISTS (SELECT FROM memberships s WHERE s.user_id = m.user_id AND \
                  s.conversation_id = m.conversation_id)";
    assert_eq!(place.sql(listed).await, "", "everyone finds their conversations");
    assert!(!place.postgres.log().contains("deadlock detected"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promises_2_and_3_two_pods_that_write_one_conversation_leave_neither_gap_nor_double() {
    let Some(place) = Place::fresh().await else { return };
    let pods = pods(&place).await;
    let (alice, bob) = (person(1), person(2));
    let id = pods[0].group(alice, &[bob]).await;
    // Every request comes to both pods, in batches of different sizes.
    let writer = |pod: Arc<World>, who, step: usize| async move {
        let mut answers = Vec::new();
        for first in (0..120_usize).step_by(step) {
            let numbers = first..(first + step).min(120);
            let ops = numbers.map(|number| pod.op(who, id, &number.to_string(), send(&number.to_string()))).collect();
            answers.extend(pod.commit(ops).await);
        }
        (who, answers)
    };
    let writers = [(0, alice, 1), (1, alice, 7), (0, bob, 5), (1, bob, 3)];
    let writers = writers.map(|(pod, who, step)| tokio::spawn(writer(pods[pod].clone(), who, step)));
    let mut seqs: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let mut first_answers = 0;
    for done in join_all(writers).await {
        let (who, answers) = done.unwrap();
        for (number, answer) in answers.into_iter().enumerate() {
            let written = answer.unwrap();
            first_answers += usize::from(!written.deduplicated);
            seqs.entry((who, number)).or_default().push(written.event.unwrap().seq);
        }
    }
    assert_eq!(first_answers, 240, "one of the two was first");
    assert!(seqs.values().all(|both| both.len() == 2 && both[0] == both[1]), "both got the same answer");
    assert_eq!(seqs.values().map(|both| both[0]).collect::<BTreeSet<_>>(), (2..=241).collect());
    for pod in &pods {
        let log: Vec<u64> = pod.log(bob, id, 100).await.iter().map(|(seq, ..)| *seq).collect();
        assert_eq!(log, (1..=241).collect::<Vec<_>>());
    }
    consistent(&place).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_people_who_begin_at_once_on_two_pods_meet_in_one_conversation() {
    let Some(place) = Place::fresh().await else { return };
    let pods = pods(&place).await;
    for pair in 0..20 {
        let (one, other) = (person(100 + pair * 2), person(101 + pair * 2));
        let begins = async |pod: &World, who, peer| {
            let begun = pod.one(who, direct_id(one, other), "begin", Action::BeginDirect { peer, refused: None }).await;
            begun.unwrap().deduplicated
        };
        let (first, second) = tokio::join!(begins(&pods[0], one, other), begins(&pods[1], other, one));
        assert!(first != second, "one of them began it");
        assert_eq!(pods[0].log(one, direct_id(one, other), 10).await.len(), 1);
        for who in [one, other] {
            assert_eq!(pods[1].store.conversations(who, 0, 10).await.unwrap().entries.len(), 1);
        }
    }
    consistent(&place).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_8_a_persons_conversations_have_a_bound_however_many_pods_begin_some() {
    let Some(place) = Place::fresh().await else { return };
    let pods = pods(&place).await;
    let alice = person(1);
    let begins = (0..16_u128).map(|number| {
        let (pod, other) = (pods[usize::try_from(number % 2).unwrap()].clone(), person(100 + number));
        // Half of them by others: nor may they fill a person's list.
        let (who, peer) = if number % 4 < 2 { (alice, other) } else { (other, alice) };
        let begin = Action::BeginDirect { peer, refused: None };
        tokio::spawn(async move { pod.one(who, direct_id(who, peer), "begin", begin).await.is_ok() })
    });
    let begun = join_all(begins).await.into_iter().filter(|begun| *begun.as_ref().unwrap()).count();
    assert_eq!(begun, LIMITS.conversations_max as usize);
    assert_eq!(pods[0].store.conversations(alice, 0, 100).await.unwrap().entries.len(), begun);
    consistent(&place).await;
}

#[tokio::test]
async fn who_was_removed_on_one_pod_is_refused_by_the_other_at_once() {
    let Some(place) = Place::fresh().await else { return };
    let pods = pods(&place).await;
    let (alice, bob) = (person(1), person(2));
    let id = pods[0].group(alice, &[bob]).await;
    for round in 0..15 {
        let (one, other) = (&pods[round % 2], &pods[(round + 1) % 2]);
        other.sends(bob, id, &format!("in {round}")).await;
        one.one(alice, id, &format!("out {round}"), remove(bob)).await.unwrap();
        let refused = other.one(bob, id, &format!("late {round}"), send("x")).await;
        assert_eq!(refused.unwrap_err(), Error::NoConversation(id));
        other.one(alice, id, &format!("back {round}"), add(bob)).await.unwrap();
        one.sends(bob, id, &format!("back {round}")).await;
    }
    consistent(&place).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_6_watermarks_only_rise_whichever_pod_they_come_to() {
    let Some(place) = Place::fresh().await else { return };
    let pods = pods(&place).await;
    let (alice, bob) = (person(1), person(2));
    let ids = [pods[0].direct(alice, bob).await, pods[0].group(alice, &[bob]).await];
    for id in ids {
        let ops = (0..60).map(|number| pods[0].op(alice, id, &number.to_string(), send("x"))).collect();
        pods[0].commit(ops).await;
    }
    let raises = (0..120_u64).map(|number| {
        let pod = pods[usize::try_from(number % 2).unwrap()].clone();
        tokio::spawn(async move {
            let seq = (number * 37) % 61 + 1;
            let epoch = pod.store.epoch();
            let watermark =
                |id| Watermark { conversation: id, member: bob, epoch, delivered_seq: seq, read_seq: seq / 2 };
            let answers = pod.store.commit(vec![Op::Raise(ids.map(watermark).to_vec())]).await;
            assert!(matches!(&answers[..], [Answer::Raised(Ok(_))]), "{answers:?}");
        })
    });
    for raised in join_all(raises).await {
        raised.unwrap();
    }
    for id in ids {
        assert_eq!(pods[1].counts(bob, id).await, (31, 61, 30, 61));
    }
    consistent(&place).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_of_every_kind_over_the_same_people_and_lanes_never_wait_for_one_another_in_a_circle() {
    let Some(place) = Place::fresh().await else { return };
    let pods = pods(&place).await;
    let owner = person(1);
    let people: Vec<_> = (2..9).map(person).collect();
    let ids: Vec<_> = (0..4).map(|number| group_id(owner, &format!("group {number}"))).collect();
    for (number, id) in ids.iter().enumerate() {
        let begin = Action::BeginGroup { title: "t".into(), people: people[..2].to_vec(), refused: None };
        pods[0].one(owner, *id, &format!("group {number}"), begin).await.unwrap();
    }
    let tasks = (0..4_usize).map(|task| {
        let (pod, ids, people) = (pods[task % 2].clone(), ids.clone(), people.clone());
        tokio::spawn(async move {
            for round in 0..25_usize {
                // The same conversations in another order each time.
                let ops = (0..ids.len() * 3).map(|call| {
                    let (id, whom) =
                        (ids[(call + task + round) % ids.len()], people[(call * 5 + round + task) % people.len()]);
                    let request = format!("{task} {round} {call}");
                    let (who, action) = match (call + round) % 6 {
                        0 => (owner, add(whom)),
                        1 => (owner, remove(whom)),
                        2 => (whom, Action::Leave),
                        3 => (owner, edit(2, "edited")),
                        4 => (whom, send("x")),
                        _ => (owner, send("x")),
                    };
                    pod.op(who, id, &request, action)
                });
                for answer in pod.commit(ops.collect()).await {
                    let unwell = matches!(answer, Err(Error::Unavailable(_) | Error::Internal));
                    assert!(!unwell, "{answer:?}");
                }
            }
        })
    });
    for done in join_all(tasks).await {
        done.unwrap();
    }
    consistent(&place).await;
}
