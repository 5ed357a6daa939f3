//! Promise 6 and what follows from watermarks: receipts, statuses, unread counts.

use flaghoist_proto::receiver::v1::{ListUnreadRequest, MarkReadRequest, Position};
use flaghoist_proto::send::v1::{
    DeleteMessageRequest, GetMessageStatusRequest, GetMessageStatusResponse, MessageStatus, Receipt,
    UpdateMessageRequest,
};

use crate::prelude::*;

async fn reads(person: &Person, conversation: &str, seq: u64) -> Receipt {
    let epoch = person.sees(conversation).await.epoch;
    let position = Position { conversation: conversation.into(), epoch, seq };
    let answer = person.calls().receiver().mark_read(MarkReadRequest { position: Some(position) }).await;
    answer.expect("one's own conversation can be read").into_inner().receipt.expect("the answer has the receipt")
}

async fn unread(person: &Person, conversation: &str) -> u64 {
    let listed =
        person.calls().receiver().list_unread(ListUnreadRequest::default()).await.expect("listed").into_inner();
    let listed = listed.unread.into_iter().find(|unread| unread.conversation == conversation);
    let listed = listed.map_or(0, |unread| unread.unread_count);
    assert_eq!(person.sees(conversation).await.unread_count, listed, "both ways say the same");
    listed
}

async fn status(person: &Person, name: &str) -> GetMessageStatusResponse {
    let request = GetMessageStatusRequest { name: name.into() };
    person.calls().messages().get_message_status(request).await.expect("one's own message has a status").into_inner()
}

#[tokio::test]
async fn promise_06_watermarks_only_rise() {
    let world = World::shared().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let conversation = alice.direct(&bob).await;
    for number in 0..5 {
        alice.sends(format!("{number}")).to(&conversation).await;
    }
    assert_eq!(reads(&bob, &conversation, 4).await.read_seq, 4);
    assert_eq!(reads(&bob, &conversation, 2).await.read_seq, 4);
    assert_eq!(unread(&bob, &conversation).await, 2);
    assert_eq!(reads(&bob, &conversation, 6).await.read_seq, 6);
    assert_eq!(reads(&bob, &conversation, 1).await.read_seq, 6);
    assert_eq!(unread(&bob, &conversation).await, 0);
}

#[tokio::test]
async fn fault_08_two_devices_that_mark_and_acknowledge_at_once_end_at_the_higher_one() {
    let world = World::shared().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let conversation = alice.direct(&bob).await;
    for number in 0..20 {
        alice.sends(format!("{number}")).to(&conversation).await;
    }
    let other = bob.another_session().await;
    let up = async {
        for seq in 2..=21 {
            reads(&bob, &conversation, seq).await;
        }
    };
    let down = async {
        let mut highest = 0;
        for seq in (2..=21).rev() {
            let now = reads(&other, &conversation, seq).await.read_seq;
            assert!(now >= highest.max(seq), "{now} after {highest}");
            highest = now;
        }
    };
    tokio::join!(up, down);
    assert_eq!(bob.sees(&conversation).await.read_seq, 21);
}

#[tokio::test]
async fn fault_07_unread_counts_messages_of_others_and_nothing_else() {
    let world = World::shared().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let conversation = alice.direct(&bob).await;
    assert_eq!(unread(&bob, &conversation).await, 0, "the beginning is no message");
    let first = alice.sends("one").to(&conversation).await.message.expect("sent");
    alice.sends("two").to(&conversation).await;
    assert_eq!(unread(&bob, &conversation).await, 2);

    // Edits and deletions are events, not messages.
    let edit = UpdateMessageRequest {
        name: first.name.clone(),
        request_id: request_id(),
        text: "uno".into(),
        metadata: Default::default(),
    };
    alice.calls().messages().update_message(edit).await.expect("edited");
    assert_eq!(unread(&bob, &conversation).await, 2);
    reads(&bob, &conversation, 3).await;
    assert_eq!(unread(&bob, &conversation).await, 0);

    // What one sends oneself does not count, for oneself.
    bob.sends("three").to(&conversation).await;
    assert_eq!(unread(&bob, &conversation).await, 0);
    assert_eq!(unread(&alice, &conversation).await, 1);
    alice.sends("four").to(&conversation).await;
    assert_eq!(unread(&bob, &conversation).await, 1);

    // Reading an older message brings nothing back, and a deletion makes nothing negative.
    reads(&bob, &conversation, 2).await;
    assert_eq!(unread(&bob, &conversation).await, 1);
    reads(&bob, &conversation, bob.sees(&conversation).await.last_seq).await;
    let request = DeleteMessageRequest { name: first.name, request_id: request_id() };
    alice.calls().messages().delete_message(request).await.expect("deleted");
    assert_eq!(unread(&bob, &conversation).await, 0);
}

#[tokio::test]
async fn a_receipt_follows_the_acknowledgement_and_the_reading() {
    let world = World::shared().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let conversation = alice.direct(&bob).await;
    let (mut hers, mut his) = (alice.listens().await, bob.listens().await);
    hers.until_caught_up().await;
    his.until_caught_up().await;

    let sent = alice.sends("seen?").to(&conversation).await;
    let name = sent.message.expect("sent").name;
    let event = his.next_message("seen?").await;
    his.ack(&event).await;
    hers.until_receipt(&bob, event.seq, 0).await;
    let delivered = status(&alice, &name).await;
    assert_eq!(delivered.status, MessageStatus::Delivered as i32);
    assert_eq!((delivered.recipient_count, delivered.delivered_count, delivered.read_count), (1, 1, 0));

    reads(&bob, &conversation, event.seq).await;
    hers.until_receipt(&bob, event.seq, event.seq).await;
    assert_eq!(status(&alice, &name).await.status, MessageStatus::Read as i32);
}

#[tokio::test]
async fn a_send_is_handed_over_when_someone_listens_and_stored_when_nobody_does() {
    let world = World::shared().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let conversation = alice.direct(&bob).await;
    assert_eq!(alice.sends("offline").to(&conversation).await.status, MessageStatus::Stored as i32);
    let mut phone = bob.listens().await;
    for event in phone.until_caught_up().await {
        phone.ack(&event).await;
    }
    let mut seen = false;
    for number in 0..20 {
        let text = format!("online {number}");
        let status = alice.sends(&text).to(&conversation).await.status;
        seen |= status == MessageStatus::HandedOver as i32;
        let event = phone.next_message(&text).await;
        phone.ack(&event).await;
    }
    assert!(seen, "of twenty sends to a listening device not one was handed over");
}

#[tokio::test]
async fn a_group_message_is_delivered_when_everyone_has_it() {
    let world = World::shared().await;
    let (alice, bob, cem) = (world.person("alice").await, world.person("bob").await, world.person("cem").await);
    let group = alice.creates_group("team", &[&bob, &cem]).await;
    let name = alice.sends("all?").to(&group).await.message.expect("sent").name;
    for (person, expected) in [(&bob, MessageStatus::Stored), (&cem, MessageStatus::Delivered)] {
        let mut phone = person.listens().await;
        let event = phone.next_message("all?").await;
        phone.ack(&event).await;
        let count = if expected == MessageStatus::Stored { 1 } else { 2 };
        eventually("the receipt is recorded", async || {
            let status = status(&alice, &name).await;
            (status.status == expected as i32 && status.delivered_count == count).then_some(())
        })
        .await;
    }
}
