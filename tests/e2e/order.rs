//! Promises 3, 4 and 5: order, completeness, and positions that only acknowledgements move.

use flaghoist_proto::receiver::v1::OpenFrom;
use flaghoist_proto::send::v1::{AddMembersRequest, Event, UpdateConversationRequest, UpdateMessageRequest};
use futures_util::future::join_all;

use crate::prelude::*;

fn seqs(events: &[Event]) -> Vec<u64> {
    events.iter().map(|event| event.seq).collect()
}

#[tokio::test]
async fn promise_03_seq_is_dense_over_everything_that_changes_a_conversation() {
    let world = World::shared().await;
    let (alice, bob, cem) = (world.person("alice").await, world.person("bob").await, world.person("cem").await);
    let group = alice.creates_group("team", &[&bob]).await;
    let sent = alice.sends("one").to(&group).await.message.expect("sent");
    let edit = UpdateMessageRequest {
        name: sent.name,
        request_id: request_id(),
        text: "two".into(),
        metadata: Default::default(),
    };
    alice.calls().messages().update_message(edit).await.expect("edited");
    let title = UpdateConversationRequest { name: group.name.clone(), request_id: request_id(), title: "crew".into() };
    alice.calls().conversations().update_conversation(title).await.expect("renamed");
    let add =
        AddMembersRequest { parent: group.name.clone(), request_id: request_id(), members: vec![cem.name.clone()] };
    alice.calls().conversations().add_members(add).await.expect("added");
    bob.sends("three").to(&group).await;

    let events = bob.opens("phone").from(OpenFrom::Beginning).open().await.until_caught_up().await;
    assert_eq!(seqs(&events), [1, 2, 3, 4, 5, 6]);
    assert!(events.iter().all(|event| event.previous_seq == event.seq - 1));
    let kinds: Vec<_> = events.iter().map(|event| event.change.as_ref().map(std::mem::discriminant)).collect();
    assert!(kinds.iter().all(Option::is_some));

    // Who came later sees the log from there on, and is told that nothing before it is missing.
    let events = cem.opens("phone").from(OpenFrom::Beginning).open().await.until_caught_up().await;
    assert_eq!(seqs(&events), [5, 6]);
    assert_eq!(events[0].previous_seq, 0);
    assert_eq!(events[1].previous_seq, 5);
}

#[tokio::test]
async fn promise_04_every_device_sees_every_event_in_order_and_never_again_once_acknowledged() {
    let world = World::shared().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let conversation = alice.direct(&bob).await;
    for number in 0..10 {
        alice.sends(format!("stored {number}")).to(&conversation).await;
    }
    let (mut phone, mut tablet) = (bob.listens_on("phone").await, bob.listens_on("tablet").await);
    let stored = phone.until_caught_up().await;
    assert_eq!(seqs(&stored), (1..=11).collect::<Vec<_>>());
    assert_eq!(seqs(&tablet.until_caught_up().await), seqs(&stored));

    for number in 0..10 {
        alice.sends(format!("live {number}")).to(&conversation).await;
    }
    for seq in 12..=21 {
        assert_eq!(phone.next_event().await.seq, seq);
        assert_eq!(tablet.next_event().await.seq, seq);
    }
    let fifteenth = alice.sees(&conversation).await;
    let mut position = stored[0].clone();
    (position.epoch, position.seq) = (fifteenth.epoch, 15);
    phone.ack(&position).await;
    drop(phone);

    let rest = bob.listens_on("phone").await.until_caught_up().await;
    assert_eq!(seqs(&rest), (16..=21).collect::<Vec<_>>());
}

#[tokio::test]
async fn promise_04_holds_across_a_crash() {
    let world = World::start().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let conversation = alice.direct(&bob).await;
    for number in 0..5 {
        alice.sends(format!("number {number}")).to(&conversation).await;
    }
    let mut phone = bob.listens().await;
    let events = phone.until_caught_up().await;
    phone.ack(&events[2]).await;
    world.kill().await;
    world.start_again().await;
    let mut phone = eventually("the stream opens again", async || bob.opens("phone").tries().await.ok()).await;
    assert_eq!(seqs(&phone.until_caught_up().await), [4, 5, 6]);
}

#[tokio::test]
async fn promise_05_only_an_acknowledgement_moves_a_position() {
    let world = World::shared().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    alice.sends("hi").to(&bob).await;
    for _ in 0..3 {
        let mut phone = bob.listens().await;
        assert_eq!(seqs(&phone.until_caught_up().await), [1, 2]);
    }
    let mut phone = bob.listens().await;
    let events = phone.until_caught_up().await;
    phone.ack(&events[1]).await;
    drop(phone);
    assert!(bob.listens().await.until_caught_up().await.is_empty());
}

#[tokio::test]
async fn fault_03_nobody_sees_a_later_event_before_an_earlier_one_while_many_send() {
    let world = World::builder().without_limits().start().await;
    let (alice, bob, cem) = (world.person("alice").await, world.person("bob").await, world.person("cem").await);
    let group = alice.creates_group("busy", &[&bob, &cem]).await;
    let mut phone = cem.listens().await;
    let sending = async {
        for _ in 0..10 {
            let sends = [&alice, &bob].into_iter().flat_map(|person| (0..20).map(move |_| person.sends("x")));
            join_all(sends.map(|sending| sending.to(&group))).await;
        }
    };
    let listening = async {
        let mut last = 0;
        while last < 401 {
            let event = phone.next_event().await;
            assert_eq!((event.seq, event.previous_seq), (last + 1, last));
            last = event.seq;
            if last % 50 == 0 {
                phone.says_ack(&event).await;
            }
        }
    };
    let polling = async {
        // Who polls the list sees a prefix of the log, never one with a hole.
        let mut seen = 0;
        while seen < 400 {
            let numbers: Vec<u64> = bob.reads_all(&group.name).await.iter().map(|m| m.message_no).collect();
            assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
            assert!(numbers.len() >= seen, "a list never gets shorter");
            seen = numbers.len();
        }
    };
    tokio::join!(sending, listening, polling);
}

#[tokio::test]
async fn fault_18_order_is_seq_and_times_never_contradict_it() {
    let world = World::shared().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let conversation = alice.direct(&bob).await;
    for number in 0..20 {
        let sender = if number % 2 == 0 { &alice } else { &bob };
        sender.sends(format!("{number}")).to(&conversation).await;
    }
    let messages = alice.reads_all(&conversation).await;
    let texts: Vec<String> = messages.iter().map(|message| message.text.clone()).collect();
    assert_eq!(texts, (0..20).map(|number| number.to_string()).collect::<Vec<_>>());
    let time =
        |time: Option<prost_types::Timestamp>| time.map(|time| (time.seconds, time.nanos)).expect("it has a time");
    let listed: Vec<_> = messages.iter().map(|message| time(message.create_time)).collect();
    assert!(listed.is_sorted(), "{listed:?}");
    let events = bob.opens("phone").from(OpenFrom::Beginning).open().await.until_caught_up().await;
    assert_eq!(seqs(&events), (1..=21).collect::<Vec<_>>());
    // The first is the beginning of the conversation, the others are these messages.
    let told: Vec<_> = events.iter().map(|event| time(event.create_time)).collect();
    assert!(told.is_sorted() && told[1..] == listed, "{told:?} {listed:?}");
}

#[tokio::test]
async fn a_stream_from_now_on_leaves_out_what_was_before() {
    let world = World::shared().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let conversation = alice.direct(&bob).await;
    alice.sends("before").to(&conversation).await;
    let mut phone = bob.opens("phone").from(OpenFrom::Now).open().await;
    assert!(phone.until_caught_up().await.is_empty());
    alice.sends("after").to(&conversation).await;
    let event = phone.next_event().await;
    assert!(matches!(event.change, Some(Change::MessageCreated(message)) if message.text == "after"));
}
