//! What is promised about reading.

use super::*;

pub(crate) async fn fault_3_no_reader_sees_a_later_event_before_an_earlier_one(world: World) {
    let (alice, bob) = (person(1), person(2));
    let id = world.direct(alice, bob).await;
    let store = world.store.clone();
    let reader = tokio::spawn(async move {
        let mut last = 0;
        while last < 201 {
            let slice = store.events(bob, id, last, 50, usize::MAX).await.unwrap().unwrap();
            for (event, before) in &slice.events {
                assert_eq!((event.seq, *before), (last + 1, last));
                last = event.seq;
            }
            assert_eq!(slice.read_through_seq, last);
            tokio::task::yield_now().await;
        }
    });
    for batch in 0..50 {
        let ops = (0..4).map(|call| world.op(alice, id, &format!("{batch} {call}"), send("x"))).collect();
        world.commit(ops).await;
    }
    reader.await.unwrap();
}

pub(crate) async fn messages_are_read_both_ways_with_their_newest_content(mut world: World) {
    let (alice, bob) = (person(1), person(2));
    let id = world.group(alice, &[bob]).await;
    for number in 0..10 {
        let sent = world.sends(alice, id, &format!("{number}")).await;
        world.one(alice, id, &format!("title {number}"), Action::Retitle { title: "t".into() }).await.unwrap();
        if number % 3 == 0 {
            world.one(alice, id, &format!("edit {number}"), edit(sent.seq, &format!("{number} edited"))).await.unwrap();
        }
    }
    let expected: Vec<String> =
        (0..10).map(|number| if number % 3 == 0 { format!("{number} edited") } else { number.to_string() }).collect();
    for round in 0..2 {
        for limit in [1, 3, 10, 100] {
            for oldest_first in [true, false] {
                let (mut texts, mut from) = (Vec::new(), Some(if oldest_first { 0 } else { i64::MAX as u64 }));
                while let Some(after) = from {
                    let page = world.store.messages(bob, id, after, oldest_first, limit).await.unwrap().unwrap();
                    assert!(page.messages.len() <= limit);
                    let now = |message: &crate::event::Message| {
                        text(message.edit.as_ref().map_or(&message.event.body, |(body, _)| body))
                    };
                    texts.extend(page.messages.iter().map(now));
                    from = page.next;
                }
                if !oldest_first {
                    texts.reverse();
                }
                assert_eq!(texts, expected, "round {round}, {limit} at a time, oldest first: {oldest_first}");
            }
        }
        world.reopen().await;
    }
    assert!(world.store.messages(person(9), id, 0, true, 1).await.unwrap().is_none());
    assert!(world.store.message(person(9), id, 2).await.unwrap().is_none());
    assert!(world.store.message(bob, id, 3).await.unwrap().is_none(), "not a message");
}

pub(crate) async fn events_come_in_pages_bounded_by_bytes(world: World) {
    let (alice, bob) = (person(1), person(2));
    let id = world.direct(alice, bob).await;
    for number in 0..8 {
        world.sends(alice, id, &format!("{number}{}", "x".repeat(1000))).await;
    }
    let (mut after, mut pages) = (0, 0);
    while after < 9 {
        let slice = world.store.events(bob, id, after, 100, 2500).await.unwrap().unwrap();
        assert!((1..=3).contains(&slice.events.len()));
        (after, pages) = (slice.read_through_seq, pages + 1);
    }
    assert!(pages >= 4);
    let tiny = world.store.events(bob, id, 1, 100, 1).await.unwrap().unwrap();
    assert_eq!((tiny.events.len(), tiny.read_through_seq, tiny.last_seq), (1, 2, 9));
    let beyond = world.store.events(bob, id, 99, 100, 1).await.unwrap().unwrap();
    assert_eq!((beyond.events.len(), beyond.read_through_seq), (0, 9));
}

pub(crate) async fn a_hidden_conversation_returns_with_the_next_message(mut world: World) {
    let (alice, bob) = (person(1), person(2));
    let id = world.direct(alice, bob).await;
    let notes = world.direct(alice, alice).await;
    world.sends(bob, id, "hi").await;
    world.one(alice, id, "hide", Action::End).await.unwrap();
    world.reopen().await;
    let listed = |page: crate::store::Page<crate::conversation::View>| {
        page.entries.iter().map(|view| (view.head.id, view.peer)).collect::<Vec<_>>()
    };
    assert_eq!(listed(world.store.conversations(alice, 0, 10).await.unwrap()), [(notes, Some(alice))]);
    assert_eq!(listed(world.store.conversations(bob, 0, 10).await.unwrap()), [(id, Some(alice))]);
    assert_eq!((world.counts(alice, id).await.3, world.counts(bob, id).await.3), (3, 2));
    world.sends(bob, id, "again").await;
    let first = world.store.conversations(alice, 0, 1).await.unwrap();
    let second = world.store.conversations(alice, first.next.unwrap(), 1).await.unwrap();
    assert_eq!([listed(first), listed(second)].concat(), [(id, Some(bob)), (notes, Some(alice))]);
}

pub(crate) async fn heads_carry_watermarks_and_receipts(mut world: World) {
    let (alice, bob, carol) = (person(1), person(2), person(3));
    let direct = world.direct(alice, bob).await;
    let group = world.group(alice, &[bob, carol]).await;
    world.sends(alice, direct, "hi").await;
    world.raise(bob, direct, 2, 2).await;
    world.one(alice, group, "out", remove(carol)).await.unwrap();
    for _ in 0..2 {
        let heads = world.store.heads(alice, &[], Some(0), 0, 100).await.unwrap();
        assert_eq!(heads.entries.iter().map(|head| head.head.id).collect::<Vec<_>>(), [direct, group]);
        let receipts: Vec<_> = heads.entries[0].receipts.iter().map(|risen| (risen.member, risen.read_seq)).collect();
        assert_eq!(receipts, [(bob, 2)]);
        assert!(world.store.heads(alice, &[], None, 0, 100).await.unwrap().entries[0].receipts.is_empty());
        let later = Some(i64::MAX);
        assert!(world.store.heads(alice, &[], later, 0, 100).await.unwrap().entries[0].receipts.is_empty());
        let only = world.store.heads(alice, &[group], None, 0, 100).await.unwrap();
        assert_eq!(only.entries.len(), 1);
        let left = &world.store.heads(carol, &[], None, 0, 100).await.unwrap().entries[0];
        assert!(left.member.role.is_none());
        assert_eq!((left.member.last_seq(&left.head), left.member.first_seq()), (2, 1));
        world.reopen().await;
    }
}

pub(crate) async fn recent_changes_miss_nothing_also_after_a_restart(mut world: World) {
    let (alice, bob, carol) = (person(1), person(2), person(3));
    let direct = world.direct(alice, bob).await;
    let group = world.group(alice, &[bob]).await;
    let since = flaghoist_runtime::time::millis(std::time::SystemTime::now()) - 10_000;
    world.sends(alice, direct, "hi").await;
    world.raise(bob, direct, 2, 1).await;
    world.one(alice, group, "in", add(carol)).await.unwrap();
    world.one(alice, group, "out", remove(bob)).await.unwrap();
    for round in 0..2 {
        let page = world.store.recent_changes(since, 0, 10).await.unwrap();
        let heads: Vec<_> = page.entries.iter().map(|change| (change.conversation, change.last_seq)).collect();
        assert_eq!(heads, [(direct, 2), (group, 3)], "round {round}");
        assert!(page.entries[1].added.contains(&carol) && page.entries[1].removed == [bob]);
        assert_eq!(page.entries[0].receipts.iter().map(|risen| risen.delivered_seq).collect::<Vec<_>>(), [2]);
        let first = world.store.recent_changes(since, 0, 1).await.unwrap();
        let second = world.store.recent_changes(since, first.next.unwrap(), 1).await.unwrap();
        assert_eq!((second.entries[0].conversation, second.next), (group, None));
        assert!(world.store.recent_changes(i64::MAX, 0, 10).await.unwrap().entries.is_empty());
        world.reopen().await;
    }
}

pub(crate) async fn progress_counts_the_other_members(world: World) {
    let (alice, bob, carol) = (person(1), person(2), person(3));
    let id = world.group(alice, &[bob]).await;
    let sent = world.sends(alice, id, "hi").await;
    world.one(alice, id, "late", add(carol)).await.unwrap();
    world.raise(bob, id, 3, 2).await;
    let progress = world.store.progress(alice, id, sent.seq).await.unwrap().unwrap();
    assert_eq!((progress.recipient_count, progress.delivered_count, progress.read_count), (1, 1, 1));
    assert_eq!(progress.receipts.len(), 1);
    assert!(world.store.progress(carol, id, sent.seq).await.unwrap().is_none(), "it came before they joined");
}
