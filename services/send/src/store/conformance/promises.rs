//! What is promised about writing.

use super::*;

pub(crate) async fn promise_2_one_request_one_effect_in_one_batch_in_many_and_after_a_restart(mut world: World) {
    let (alice, bob) = (person(1), person(2));
    let id = world.direct(alice, bob).await;
    let first = world.commit((0..32).map(|_| world.op(alice, id, "r", send("hi"))).collect()).await;
    let seqs: Vec<u64> = first.iter().map(|answer| answer.as_ref().unwrap().event.as_ref().unwrap().seq).collect();
    assert_eq!(seqs, [2; 32]);
    assert_eq!(first.iter().filter(|answer| !answer.as_ref().unwrap().deduplicated).count(), 1);
    for round in 0..20 {
        world.sends(bob, id, &format!("noise {round}")).await;
        if round % 5 == 4 {
            world.reopen().await;
        }
        let again = world.one(alice, id, "r", send("hi")).await.unwrap();
        assert_eq!((again.event.as_ref().unwrap().seq, again.deduplicated), (2, true));
        assert_eq!(again.event, first[0].as_ref().unwrap().event);
        assert_eq!(world.one(alice, id, "r", send("other")).await.unwrap_err(), Error::RequestIdReused);
    }
    let mixed = vec![world.op(alice, id, "n", send("a")), world.op(alice, id, "n", send("b"))];
    let mixed = world.commit(mixed).await;
    assert_eq!(mixed[1].as_ref().unwrap_err(), &Error::RequestIdReused);
    // A repeated beginning, and the other person's.
    let begin = Action::BeginDirect { peer: bob, refused: None };
    assert!(world.one(alice, id, "direct", begin).await.unwrap().deduplicated);
    let refused = Some(Error::NoPerson(alice));
    let begun = world.one(bob, id, "any", Action::BeginDirect { peer: alice, refused }).await.unwrap();
    assert!(begun.deduplicated && begun.event.is_none());
}

pub(crate) async fn promise_2_the_first_answer_is_a_tombstone_after_the_deletion(world: World) {
    let (alice, bob) = (person(1), person(2));
    let id = world.direct(alice, bob).await;
    let sent = world.sends(alice, id, "secret").await;
    world.one(alice, id, "delete", Action::Erase { target: sent.seq }).await.unwrap();
    let again = world.one(alice, id, "send secret", send("secret")).await.unwrap();
    let event = again.event.unwrap();
    assert!(again.deduplicated && event.deleted_at.is_some() && event.body.is_empty());
    assert_eq!(world.one(alice, id, "send secret", send("guess")).await.unwrap_err(), Error::RequestIdReused);
    assert_eq!(world.one(alice, id, "late", edit(sent.seq, "x")).await.unwrap_err(), Error::MessageDeleted);
}

pub(crate) async fn promise_3_a_refused_call_leaves_no_gap(world: World) {
    let (alice, bob, eve) = (person(1), person(2), person(3));
    let id = world.group(alice, &[bob]).await;
    let mut refused = 0;
    for round in 0..6 {
        let mut ops = Vec::new();
        for call in 0..5 {
            let request = format!("{round} {call}");
            ops.push(world.op(alice, id, &request, send("fine")));
            ops.push(world.op(eve, id, &request, send("not a member")));
            ops.push(world.op(bob, id, &request, Action::Retitle { title: "no".into() }));
            ops.push(world.op(bob, id, &format!("{request} edit"), edit(1, "not a message")));
            ops.push(world.op(bob, id, &format!("{request} leave"), remove(alice)));
        }
        refused += world.commit(ops).await.iter().filter(|answer| answer.is_err()).count();
    }
    assert_eq!(refused, 6 * 5 * 4);
    let seqs: Vec<u64> = world.log(bob, id, 7).await.iter().map(|(seq, ..)| *seq).collect();
    assert_eq!(seqs, (1..=31).collect::<Vec<_>>());
}

pub(crate) async fn promise_3_each_event_names_the_visible_one_before_it(mut world: World) {
    let (alice, bob) = (person(1), person(2));
    let id = world.direct(alice, bob).await;
    world.sends(alice, id, "2").await;
    for request in 0..12 {
        world.one(bob, id, &format!("hide {request}"), Action::End).await.unwrap();
    }
    world.sends(alice, id, "15").await;
    world.reopen().await;
    use EventKind::{ConversationCreated, MessageCreated};
    for limit in [1, 2, 100] {
        let seen = world.log(alice, id, limit).await;
        assert_eq!(seen, [(1, 0, ConversationCreated), (2, 1, MessageCreated), (15, 2, MessageCreated)]);
        let seqs: Vec<_> = world.log(bob, id, limit).await.iter().map(|(seq, before, _)| (*seq, *before)).collect();
        assert_eq!(seqs, (1..=15).map(|seq| (seq, seq - 1)).collect::<Vec<_>>());
    }
    // A position at an event of the other person, as one that a stranger to this log might hold.
    let slice = world.store.events(alice, id, 9, 10, usize::MAX).await.unwrap().unwrap();
    assert_eq!(slice.events.iter().map(|(event, before)| (event.seq, *before)).collect::<Vec<_>>(), [(15, 2)]);

    // Somebody who was away does not miss what was not for them.
    let carol = person(3);
    let group = world.group(alice, &[bob, carol]).await;
    world.sends(alice, group, "g2").await;
    world.one(alice, group, "away", remove(bob)).await.unwrap();
    world.sends(alice, group, "g4").await;
    world.one(alice, group, "back", add(bob)).await.unwrap();
    world.sends(alice, group, "g6").await;
    for limit in [1, 2, 100] {
        let seqs: Vec<_> = world.log(bob, group, limit).await.iter().map(|(seq, before, _)| (*seq, *before)).collect();
        assert_eq!(seqs, [(1, 0), (2, 1), (3, 2), (5, 3), (6, 5)]);
    }
    let slice = world.store.events(bob, group, 4, 10, usize::MAX).await.unwrap().unwrap();
    assert_eq!(slice.events.iter().map(|(event, before)| (event.seq, *before)).collect::<Vec<_>>(), [(5, 3), (6, 5)]);
}

pub(crate) async fn promise_6_watermarks_only_rise_and_not_beyond_the_end(mut world: World) {
    let (alice, bob) = (person(1), person(2));
    let id = world.direct(alice, bob).await;
    for number in 2..=6 {
        world.sends(alice, id, &format!("{number}")).await;
    }
    assert_eq!(world.raise(bob, id, 5, 3).await.len(), 1);
    assert_eq!(world.raise(bob, id, 4, 2).await, []);
    assert_eq!(world.raise(bob, id, 7, 99).await, [], "beyond the end");
    let other =
        Watermark { conversation: id, member: bob, epoch: world.store.epoch() ^ 1, delivered_seq: 6, read_seq: 6 };
    let answers = world.store.commit(vec![Op::Raise(vec![other])]).await;
    assert!(matches!(&answers[..], [Answer::Raised(Ok(raised))] if raised.is_empty()), "another epoch");
    assert_eq!(world.raise(person(9), id, 5, 5).await, [], "not a member");
    world.reopen().await;
    assert_eq!(world.counts(bob, id).await, (3, 5, 3, 6));
    // Two devices at once, in one batch.
    let epoch = world.store.epoch();
    let watermark = |seq| Watermark { conversation: id, member: bob, epoch, delivered_seq: 0, read_seq: seq };
    world.store.commit(vec![Op::Raise(vec![watermark(6)]), Op::Raise(vec![watermark(4)])]).await;
    assert_eq!(world.counts(bob, id).await, (0, 6, 6, 6));
}

pub(crate) async fn promise_8_members_and_conversations_have_a_bound(mut world: World) {
    let alice = person(1);
    let many: Vec<UserId> = (100..199).map(person).collect();
    let id = world.group(alice, &many).await;
    let full = world.one(alice, id, "add", add(person(2))).await.unwrap_err();
    assert_eq!(full, Error::LimitReached { what: "members of a group", max: 100 });
    for other in 300..304 {
        world.direct(alice, person(other)).await;
    }
    world.reopen().await;
    let begin = |other| Action::BeginDirect { peer: other, refused: None };
    let fifth = world.one(alice, direct_id(alice, person(400)), "r", begin(person(400))).await;
    assert_eq!(fifth.unwrap_err(), Error::LimitReached { what: "conversations of a person", max: 5 });
    let fifth = world.one(person(400), direct_id(alice, person(400)), "r", begin(alice)).await;
    assert!(matches!(fifth, Err(Error::LimitReached { .. })), "nor may others fill a person's list");
    world.one(alice, id, "end", Action::End).await.unwrap();
    world.direct(alice, person(400)).await;
}

pub(crate) async fn promise_11_what_is_deleted_leaves_a_tombstone_everywhere(world: World) {
    let (alice, bob, carol) = (person(1), person(2), person(3));
    let id = world.group(alice, &[bob, carol]).await;
    let sent = world.sends(bob, id, "first").await;
    for number in 0..8 {
        world.one(bob, id, &format!("edit {number}"), edit(sent.seq, &format!("edit {number}"))).await.unwrap();
    }
    assert!(matches!(world.one(carol, id, "d", Action::Erase { target: sent.seq }).await, Err(Error::Forbidden(_))));
    // The edit and the deletion come in one batch.
    let last = world.op(bob, id, "edit last", edit(sent.seq, "last edit"));
    let erase = world.op(alice, id, "d", Action::Erase { target: sent.seq });
    let again = world.op(alice, id, "d2", Action::Erase { target: sent.seq });
    let done = world.commit(vec![last, erase, again]).await;
    assert!(done[0].is_ok() && done[1].is_ok());
    assert_eq!(done[2].as_ref().unwrap_err(), &Error::MessageDeleted);
    let slice = world.store.events(carol, id, 0, 100, usize::MAX).await.unwrap().unwrap();
    let kept: Vec<_> =
        slice.events.iter().filter(|(event, _)| event.target_seq == sent.seq || event.seq == sent.seq).collect();
    assert_eq!(kept.len(), 11);
    for (event, _) in kept {
        assert_eq!(text(&event.body), "");
        assert!(event.kind == EventKind::MessageDeleted || event.deleted_at.is_some());
    }
    let message = world.store.message(carol, id, sent.seq).await.unwrap().unwrap();
    assert!(message.event.deleted_at.is_some());
}

pub(crate) async fn fault_4_a_request_id_belongs_to_sender_and_conversation(world: World) {
    let (alice, bob, carol) = (person(1), person(2), person(3));
    let (one, other) = (world.direct(alice, bob).await, world.direct(alice, carol).await);
    let ops = vec![
        world.op(alice, one, "r", send("a")),
        world.op(bob, one, "r", send("b")),
        world.op(alice, other, "r", send("c")),
    ];
    let answers = world.commit(ops).await;
    assert!(answers.iter().all(|answer| !answer.as_ref().unwrap().deduplicated));
}

pub(crate) async fn fault_7_unread_counts_messages_of_others_after_joining(mut world: World) {
    let (alice, bob, carol) = (person(1), person(2), person(3));
    let id = world.group(alice, &[bob]).await;
    for number in 2..=9 {
        world.sends(alice, id, &format!("{number}")).await;
    }
    world.one(alice, id, "carol", add(carol)).await.unwrap();
    assert_eq!((world.counts(bob, id).await.0, world.counts(carol, id).await.0), (8, 0));
    world.one(alice, id, "edit", edit(2, "edited")).await.unwrap();
    let own = world.sends(bob, id, "own").await;
    world.sends(carol, id, "hello").await;
    assert_eq!((world.counts(bob, id).await.0, world.counts(carol, id).await.0), (9, 1));
    world.raise(bob, id, 0, 5).await;
    assert_eq!(world.counts(bob, id).await.0, 5);
    world.raise(bob, id, 0, own.seq).await;
    assert_eq!(world.counts(bob, id).await.0, 1);
    world.raise(bob, id, 0, 4).await;
    world.reopen().await;
    assert_eq!(world.counts(bob, id).await.0, 1, "reading an older message brings nothing back");
    let last = world.counts(bob, id).await.3;
    world.raise(bob, id, 0, last).await;
    world.one(bob, id, "delete", Action::Erase { target: own.seq }).await.unwrap();
    assert_eq!(world.counts(bob, id).await.0, 0);
    world.one(alice, id, "out", remove(bob)).await.unwrap();
    world.sends(alice, id, "unseen").await;
    world.one(alice, id, "in", add(bob)).await.unwrap();
    assert_eq!(world.counts(bob, id).await.0, 0);
    world.sends(alice, id, "seen").await;
    assert_eq!(world.counts(bob, id).await.0, 1);
}

pub(crate) async fn fault_14_a_send_is_one_event_whatever_the_size(world: World) {
    let alice = person(1);
    let many: Vec<UserId> = (100..199).map(person).collect();
    let id = world.group(alice, &many).await;
    for number in 0..3 {
        world.sends(alice, id, &format!("{number}")).await;
    }
    assert_eq!(world.counts(many[7], id).await, (3, 0, 0, 4));
}

pub(crate) async fn roles_decide_who_may_do_what(world: World) {
    let (alice, bob, carol, dave) = (person(1), person(2), person(3), person(4));
    let id = world.group(alice, &[bob, carol]).await;
    let denied = |answer: Result<Written, Error>| matches!(answer, Err(Error::Forbidden(_)));
    assert!(denied(world.one(bob, id, "1", add(dave)).await));
    assert!(denied(world.one(bob, id, "2", promote(bob, Role::Owner)).await));
    world.one(alice, id, "3", promote(bob, Role::Admin)).await.unwrap();
    world.one(bob, id, "4", add(dave)).await.unwrap();
    assert!(denied(world.one(bob, id, "5", remove(alice)).await));
    assert!(denied(world.one(bob, id, "6", Action::End).await));
    assert_eq!(world.one(alice, id, "7", Action::Leave).await.unwrap_err(), Error::LastOwner);
    assert_eq!(world.one(alice, id, "8", promote(alice, Role::Member)).await.unwrap_err(), Error::LastOwner);
    world.one(bob, id, "9", remove(dave)).await.unwrap();
    assert_eq!(world.one(bob, id, "10", remove(dave)).await.unwrap_err(), Error::NoPerson(dave));
    assert_eq!(world.one(dave, id, "11", send("x")).await.unwrap_err(), Error::NoConversation(id));
    world.one(alice, id, "12", promote(bob, Role::Owner)).await.unwrap();
    world.one(alice, id, "13", Action::Leave).await.unwrap();
    assert!(world.one(alice, id, "13", Action::Leave).await.unwrap().deduplicated);
    let refused = Some(Error::NoPerson(dave));
    let unknown = world.one(bob, id, "14", Action::Add { people: vec![dave], refused }).await;
    assert_eq!(unknown.unwrap_err(), Error::NoPerson(dave));
    let ended = world.one(bob, id, "15", Action::End).await.unwrap();
    assert_eq!(ended.removed.len(), 2);
    assert_eq!(world.one(bob, id, "16", send("x")).await.unwrap_err(), Error::NoConversation(id));
    let direct = world.direct(alice, bob).await;
    for action in [add(dave), remove(bob), Action::Leave, Action::Retitle { title: "t".into() }] {
        assert!(matches!(world.one(alice, direct, "17", action).await, Err(Error::WrongKind(_))));
    }
}
