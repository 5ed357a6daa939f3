//! What is promised about erasing a person, with the steps that the service takes.

use flaghoist_runtime::local::Slot;

use super::*;
use crate::dispatch::Dispatch;
use crate::erasure::{Eraser, Place, Step};
use crate::settings::Settings;
use crate::writer::Writer;

/// Takes steps until there is none left. Each is taken twice, as if the answer to the first time was lost.
async fn erase(world: &World, who: UserId) -> Step {
    // Nobody hears of what is committed.
    let dispatch = Dispatch::start(Slot::new("receiver").peer(), world.store.clone());
    let writer = Writer::start(&world.store, &dispatch, &Settings::default());
    let eraser = Eraser { store: &*world.store, writer: &writer, person: who };
    let (mut sum, mut place) = (Step::default(), Place::first(false));
    for _ in 0..1000 {
        let lost = eraser.step(place).await.unwrap();
        let step = eraser.step(place).await.unwrap();
        // How far it goes is a matter of time, too.
        if lost.next == step.next {
            assert_eq!(lost, step, "a step that is repeated counts the same");
        }
        sum.messages += step.messages;
        sum.conversations += step.conversations;
        match step.next {
            Some(next) => place = next,
            None => return sum,
        }
    }
    panic!("it never ends");
}

pub(crate) async fn promise_11_who_is_erased_leaves_tombstones_in_order(mut world: World) {
    let (alice, bob, carol) = (person(1), person(2), person(3));
    let group = world.group(alice, &[bob, carol]).await;
    let direct = world.direct(alice, bob).await;
    let notes = world.direct(alice, alice).await;
    let mut others = Vec::new();
    for number in 0..30 {
        let sent = world.sends(alice, group, &format!("marker {number}")).await;
        if number % 3 == 0 {
            world.one(alice, group, &format!("e {number}"), edit(sent.seq, "marker edited")).await.unwrap();
        }
        others.push(world.sends(bob, group, &format!("bob's {number}")).await.seq);
        if number == 15 {
            world.one(alice, group, "d", Action::Erase { target: sent.seq }).await.unwrap();
        }
    }
    world.sends(alice, notes, "marker notes").await;
    world.sends(bob, direct, "bob's").await;
    world.sends(alice, direct, "marker direct").await;
    world.raise(alice, direct, 2, 2).await;
    let before = world.log(bob, group, 100).await;

    let erased = erase(&world, alice).await;
    assert_eq!((erased.messages, erased.conversations), (32, 3));
    for round in 0..2 {
        // The other members see the same events in the same places, then what became of them.
        let after = world.log(bob, group, 100).await;
        assert_eq!(after[..before.len()], before);
        let kinds: Vec<EventKind> = after[before.len()..].iter().map(|(.., kind)| *kind).collect();
        assert_eq!(kinds[..2], [EventKind::MemberUpdated, EventKind::MemberRemoved], "the group has another owner");
        assert!(kinds.len() == 2 + 29 && kinds[2..].iter().all(|kind| *kind == EventKind::MessageDeleted));
        assert!(after.iter().zip(1..).all(|((seq, ..), dense)| *seq == dense), "dense");
        let slice = world.store.events(bob, group, 0, 1000, usize::MAX).await.unwrap().unwrap();
        for (event, _) in &slice.events {
            let all = format!("{:?} {}", event.body, event.request_id);
            assert!(!all.contains("marker"), "{event:?}");
            let gone = event.actor == alice && event.seq <= before.len() as u64;
            assert!(!gone || event.request_id.starts_with("erased "), "{event:?}");
        }
        let bobs = world.store.messages(bob, group, 0, true, 1000).await.unwrap().unwrap().messages;
        let bobs = bobs.iter().filter(|message| message.event.actor == bob && text(&message.event.body).len() > 4);
        assert_eq!(bobs.map(|message| message.event.seq).collect::<Vec<_>>(), others);
        let view = world.store.conversation(bob, direct).await.unwrap().unwrap();
        assert_eq!((view.peer, view.head.member_count, view.member_now()), (Some(alice), 1, true));
        let owner = world.store.conversation(bob, group).await.unwrap().unwrap().member.role;
        assert_eq!(owner, Some(Role::Owner), "who has been there longest, of those with the highest role");
        // Nothing is found of the person, and nothing more is done.
        assert!(world.store.heads(alice, &[], None, 0, 10).await.unwrap().entries.is_empty());
        let marks = world.store.conversation(alice, direct).await.unwrap().unwrap().member;
        assert_eq!((marks.role, marks.delivered_seq, marks.read_seq), (None, 0, 0));
        let notes = world.store.conversation(alice, notes).await.unwrap().unwrap();
        assert!(notes.head.deleted && notes.head.member_count == 0);
        assert_eq!(erase(&world, alice).await, Step::default());
        assert_eq!(world.log(bob, group, 100).await.len(), after.len());
        if round == 0 {
            world.reopen().await;
        }
    }
    // The others go on.
    let next = world.sends(carol, group, "and on").await.seq;
    assert_eq!(next, before.len() as u64 + 32);
}

pub(crate) async fn what_is_written_until_the_membership_ends_is_overwritten_with_it(world: World) {
    let (alice, bob) = (person(1), person(2));
    let group = world.group(bob, &[alice]).await;
    world.sends(alice, group, "marker 1").await;
    let found = world.store.heads(alice, &[], None, 0, 1).await.unwrap().entries.remove(0);
    // Meanwhile, by a token that was still good.
    world.sends(bob, group, "bob's").await;
    let late = world.sends(alice, group, "marker 2").await.seq;
    world.one(alice, group, "late marker", edit(late, "marker 3")).await.unwrap();
    let dispatch = Dispatch::start(Slot::new("receiver").peer(), world.store.clone());
    let writer = Writer::start(&world.store, &dispatch, &Settings::default());
    let eraser = Eraser { store: &*world.store, writer: &writer, person: alice };
    let mut step = Step::default();
    eraser.go_through(found, Place::first(false), &mut step).await.unwrap();
    assert_eq!((step.messages, step.conversations), (2, 1));
    let slice = world.store.events(bob, group, 0, 1000, usize::MAX).await.unwrap().unwrap();
    let hers = slice.events.iter().map(|(event, _)| event).filter(|event| event.actor == alice);
    let written: Vec<_> = hers.take_while(|event| event.kind != EventKind::MemberRemoved).collect();
    assert_eq!(written.len(), 3);
    for event in written {
        let all = format!("{:?} {}", event.body, event.request_id);
        assert!(event.request_id.starts_with("erased ") && !all.contains("marker"), "{event:?}");
    }
}

pub(crate) async fn of_two_owners_who_are_erased_at_once_neither_leaves_the_group_to_nobody(world: World) {
    for number in 0..10 {
        let (alice, bob, carol) = (person(3 * number + 1), person(3 * number + 2), person(3 * number + 3));
        let group = world.group(alice, &[bob, carol]).await;
        world.one(alice, group, "p", Action::Promote { person: bob, role: Role::Owner }).await.unwrap();
        tokio::join!(erase(&world, alice), erase(&world, bob));
        let left = world.store.conversation(carol, group).await.unwrap().unwrap();
        assert_eq!((left.member.role, left.head.member_count), (Some(Role::Owner), 1), "group {number}");
    }
}

pub(crate) async fn who_comes_back_during_an_erasure_is_erased_again(world: World) {
    let (alice, bob) = (person(1), person(2));
    let group = world.group(bob, &[alice]).await;
    world.sends(alice, group, "before").await;
    erase(&world, alice).await;
    // By a call that had asked for the person while they existed.
    world.one(bob, group, "back", add(alice)).await.unwrap();
    world.sends(alice, group, "late marker").await;
    assert_eq!(world.store.heads(alice, &[], None, 0, 10).await.unwrap().entries.len(), 1);
    erase(&world, alice).await;
    let slice = world.store.events(bob, group, 0, 1000, usize::MAX).await.unwrap().unwrap();
    assert!(!format!("{:?}", slice.events).contains("marker"));
    assert!(world.store.heads(alice, &[], None, 0, 10).await.unwrap().entries.is_empty());
}

pub(crate) async fn the_title_of_a_group_goes_with_the_only_one_who_ever_was_in_it(world: World) {
    let alice = person(1);
    let group = world.group(alice, &[]).await;
    world.one(alice, group, "t", Action::Retitle { title: "marker".into() }).await.unwrap();
    erase(&world, alice).await;
    let view = world.store.conversation(alice, group).await.unwrap().unwrap();
    assert_eq!((&*view.head.title, view.head.deleted), ("", true));
    let slice = world.store.events(alice, group, 0, 1000, usize::MAX).await.unwrap().unwrap();
    assert!(!format!("{:?}", slice.events).contains("marker"));
}
