//! What a stream brings, and what it does not bring again.

use std::time::Duration;

use flaghoist_proto::receiver::v1::receive_response::Response as Said;
use flaghoist_proto::receiver::v1::*;
use flaghoist_proto::send::v1::event::Change;
use flaghoist_runtime::fault::Reason;
use tonic::Code;

use super::world::*;

#[tokio::test]
async fn promise_4_backlog_and_live_events_come_in_order_and_not_again() {
    let world = World::new().await;
    let (alice, bob) = (world.person(), world.person());
    let hall = world.conversation(&[alice, bob]).await;
    for number in 0..99 {
        world.says(&alice, hall, &number.to_string()).await;
    }
    let mut phone = world.opens(&bob, Open { window: 10, ..open("phone") }).await.unwrap();
    let mut got = Vec::new();
    while got.len() < 100 {
        got.push(phone.event().await.seq);
        if got.len() % 5 == 0 {
            phone.acks(hall, got.len() as u64).await;
        }
    }
    assert!(phone.catches_up().await.is_empty());
    phone.acked(hall, 100).await;
    assert!(world.says(&alice, hall, "live").await, "handed over");
    assert!(!world.says(&bob, hall, "my own").await, "to nobody but its sender");
    got.extend(phone.seqs(2).await);
    assert_eq!(got, (1..=102).collect::<Vec<_>>());
    phone.acked(hall, 101).await;
    drop(phone);
    assert_eq!(world.listens(&bob).await.catches_up().await, [102]);
}

#[tokio::test]
async fn promise_5_and_fault_9_what_was_only_written_to_a_socket_comes_again() {
    let world = World::new().await;
    let (alice, bob) = (world.person(), world.person());
    let hall = world.conversation(&[alice, bob]).await;
    world.says(&alice, hall, "one").await;
    for _ in 0..3 {
        assert_eq!(world.listens(&bob).await.catches_up().await, [1, 2]);
    }
    let mut phone = world.listens(&bob).await;
    phone.acked(hall, 2).await;
    let world = world.restarts().await;
    assert!(world.listens(&bob).await.catches_up().await.is_empty());
}

#[tokio::test]
async fn promise_7_lost_hints_are_healed_by_the_sweep() {
    let world = World::new().await;
    let (alice, bob, carol) = (world.person(), world.person(), world.person());
    let hall = world.conversation(&[alice, bob]).await;
    let (mut phone, mut carols) = (world.listens(&bob).await, world.listens(&carol).await);
    assert_eq!((phone.catches_up().await, carols.catches_up().await), (vec![1], vec![]));
    // None of these is delivered.
    world.log.message(hall, alice.id, "lost");
    world.log.message(hall, alice.id, "lost too");
    assert_eq!(phone.seqs(2).await, [2, 3]);
    world.log.add(hall, alice.id, carol.id);
    assert_eq!((phone.event().await.seq, carols.event().await.seq), (4, 4));
    // The sweep fails for a while, and reaches back to where it last went well.
    world.log.fails(true);
    world.log.message(hall, alice.id, "in the dark");
    tokio::time::sleep(Duration::from_millis(600)).await;
    world.log.fails(false);
    assert_eq!((phone.event().await.seq, carols.event().await.seq), (5, 5));
    world.log.remove(hall, alice.id, carol.id);
    assert_eq!((phone.event().await.seq, carols.event().await.seq), (6, 6));
    world.says(&alice, hall, "without carol").await;
    assert_eq!(phone.event().await.seq, 7);
    carols.hears_nothing().await;
    // And back: a person who came and went lately is asked for.
    world.log.add(hall, alice.id, carol.id);
    assert_eq!(carols.event().await.seq, 8);
}

#[tokio::test]
async fn promise_8_the_window_is_a_bound_and_acknowledgements_move_it() {
    let world = World::new().await;
    let (alice, bob) = (world.person(), world.person());
    let hall = world.conversation(&[alice, bob]).await;
    let mut phone = world.opens(&bob, Open { window: 3, ..open("phone") }).await.unwrap();
    assert_eq!(phone.catches_up().await, [1]);
    for _ in 0..10 {
        world.says(&alice, hall, "more").await;
    }
    assert_eq!(phone.seqs(2).await, [2, 3]);
    phone.hears_nothing().await;
    phone.acks(hall, 2).await;
    assert_eq!(phone.seqs(2).await, [4, 5]);
    phone.hears_nothing().await;
}

#[tokio::test]
async fn promise_12_and_fault_15_a_restored_log_is_told_and_begins_again() {
    let world = World::new().await;
    let (alice, bob) = (world.person(), world.person());
    let hall = world.conversation(&[alice, bob]).await;
    for _ in 0..9 {
        world.says(&alice, hall, "before").await;
    }
    let mut phone = world.listens(&bob).await;
    assert_eq!(phone.catches_up().await.len(), 10);
    phone.acked(hall, 10).await;
    world.log.restored(4);
    // The open stream is told to come back.
    assert!(matches!(phone.next().await, Said::Drain(_)));
    assert_eq!(phone.ends().await.0, Code::Ok);
    world.says(&alice, hall, "after").await;
    let mut phone = world.listens(&bob).await;
    let Said::Reset(reset) = phone.next().await else { panic!("no reset") };
    assert_eq!((reset.reason(), reset.conversation.as_str()), (ResetReason::Epoch, ""));
    assert_eq!(phone.catches_up().await, [1, 2, 3, 4, 5]);
    phone.acked(hall, 5).await;
    drop(phone);
    assert!(world.listens(&bob).await.catches_up().await.is_empty(), "told once");
}

#[tokio::test]
async fn promise_12_a_position_beyond_the_head_is_told_for_its_conversation() {
    let world = World::new().await;
    let (alice, bob) = (world.person(), world.person());
    let (hall, yard) = (world.conversation(&[alice, bob]).await, world.conversation(&[alice, bob]).await);
    world.says(&alice, hall, "cut off").await;
    let mut phone = world.listens(&bob).await;
    phone.catches_up().await;
    phone.acked(hall, 2).await;
    phone.acked(yard, 1).await;
    drop(phone);
    world.log.truncated(1);
    let mut phone = world.listens(&bob).await;
    let Said::Reset(reset) = phone.next().await else { panic!("no reset") };
    assert_eq!((reset.reason(), reset.conversation), (ResetReason::BeyondHead, hall.name()));
    assert_eq!(phone.catches_up().await, [1]);
}

#[tokio::test]
async fn fault_11_a_slow_reader_is_kept_and_slows_nobody() {
    let world = World::new().await;
    let (alice, bob, carol) = (world.person(), world.person(), world.person());
    let hall = world.conversation(&[alice, bob, carol]).await;
    let (mut slow, mut quick) = (world.listens(&bob).await, world.listens(&carol).await);
    quick.catches_up().await;
    for number in 2..=2_001_u64 {
        let delivery = world.log.message(hall, alice.id, &"x".repeat(1000));
        world.deliver(delivery).await;
        assert_eq!(quick.event().await.seq, number);
        if number % 50 == 0 {
            quick.acks(hall, number).await;
        }
    }
    // Only now the slow one reads.
    for seq in 1..=2_001 {
        assert_eq!(slow.event().await.seq, seq);
        if seq % 50 == 0 {
            slow.acks(hall, seq).await;
        }
    }
}

#[tokio::test]
async fn from_now_leaves_out_what_was_before_for_good() {
    let world = World::new().await;
    let (alice, bob) = (world.person(), world.person());
    let hall = world.conversation(&[alice, bob]).await;
    world.says(&alice, hall, "before").await;
    let from = |from: OpenFrom| Open { from: from.into(), ..open("phone") };
    let mut phone = world.opens(&bob, from(OpenFrom::Now)).await.unwrap();
    assert!(phone.catches_up().await.is_empty());
    world.says(&alice, hall, "new").await;
    let event = phone.event().await;
    assert_eq!((event.seq, event.previous_seq), (3, 2));
    drop(phone);
    assert_eq!(world.listens(&bob).await.catches_up().await, [3]);
    let mut again = world.opens(&bob, from(OpenFrom::Beginning)).await.unwrap();
    assert_eq!(again.catches_up().await, [1, 2, 3]);
    drop(again);
    assert_eq!(world.listens(&bob).await.catches_up().await, [1, 2, 3], "the positions are gone");
}

#[tokio::test]
async fn events_for_one_person_reach_only_them_and_the_others_see_no_gap() {
    let world = World::new().await;
    let (alice, bob) = (world.person(), world.person());
    let hall = world.conversation(&[alice, bob]).await;
    let (mut hers, mut his) = (world.listens(&alice).await, world.listens(&bob).await);
    hers.catches_up().await;
    his.catches_up().await;
    assert!(!world.deliver(world.log.private(hall, alice.id)).await);
    world.says(&alice, hall, "for both").await;
    assert_eq!(hers.seqs(2).await, [2, 3]);
    let event = his.event().await;
    assert_eq!((event.seq, event.previous_seq), (3, 1));
    assert_eq!(world.log.reads(), 2, "each has read its backlog, and nothing after it");
}

#[tokio::test]
async fn the_request_id_is_told_to_the_sender_only() {
    let world = World::new().await;
    let (alice, bob) = (world.person(), world.person());
    let hall = world.conversation(&[alice, bob]).await;
    let (mut hers, mut his) = (world.listens(&alice).await, world.listens(&bob).await);
    hers.catches_up().await;
    his.catches_up().await;
    world.says(&alice, hall, "hi").await;
    for (ear, expected) in [(&mut hers, "request"), (&mut his, "")] {
        let Some(Change::MessageCreated(message)) = ear.event().await.change else { panic!("no message") };
        assert_eq!(message.request_id, expected);
    }
}

#[tokio::test]
async fn a_new_member_hears_from_joining_and_one_who_left_hears_that_and_no_more() {
    let world = World::new().await;
    let (alice, bob, carol) = (world.person(), world.person(), world.person());
    let hall = world.conversation(&[alice, bob]).await;
    world.says(&alice, hall, "before carol").await;
    let mut carols = world.listens(&carol).await;
    carols.catches_up().await;
    world.deliver(world.log.add(hall, alice.id, carol.id)).await;
    world.says(&alice, hall, "hello carol").await;
    assert_eq!(carols.seqs(2).await, [3, 4]);
    world.deliver(world.log.remove(hall, alice.id, carol.id)).await;
    world.says(&alice, hall, "without carol").await;
    assert_eq!(carols.event().await.seq, 5);
    carols.hears_nothing().await;
    drop(carols);
    assert_eq!(world.listens(&carol).await.catches_up().await, [3, 4, 5]);
}

#[tokio::test]
async fn receipts_reach_the_others_live_at_caught_up_and_after_a_failure() {
    let world = World::new().await;
    let (alice, bob) = (world.person(), world.person());
    let hall = world.conversation(&[alice, bob]).await;
    world.says(&alice, hall, "hi").await;
    let (mut hers, mut his) = (world.listens(&alice).await, world.listens(&bob).await);
    hers.catches_up().await;
    his.catches_up().await;
    his.acked(hall, 1).await;
    let Said::Receipt(receipt) = hers.next().await else { panic!("no receipt") };
    assert_eq!((receipt.member, receipt.delivered_seq, receipt.read_seq), (bob.id.name(), 1, 0));
    drop(hers);
    world.log.fails(true);
    his.acked(hall, 2).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    world.log.fails(false);
    eventually("the receipt is recorded", || world.log.watermarks(hall, bob.id) == (2, 0)).await;
    let mut hers = world.listens(&alice).await;
    hers.catches_up().await;
    let Said::Receipt(receipt) = hers.next().await else { panic!("no receipt") };
    assert_eq!(receipt.delivered_seq, 2);
    // The sweep looks back over it again and again, and repeats it once at most.
    let mut repeated = 0;
    while let Ok(said) = tokio::time::timeout(Duration::from_millis(700), hers.next()).await {
        assert_eq!(said, Said::Receipt(receipt.clone()));
        repeated += 1;
    }
    assert!(repeated <= 1, "repeated {repeated} times");
}

#[tokio::test]
async fn subscribe_hears_the_same_and_is_acknowledged_by_calls() {
    let world = World::new().await;
    let (alice, bob) = (world.person(), world.person());
    let hall = world.conversation(&[alice, bob]).await;
    let mut browser = world.subscribes(&bob).await;
    assert_eq!(browser.catches_up().await, [1]);
    world.says(&alice, hall, "live").await;
    assert_eq!(browser.event().await.seq, 2);
    let positions = vec![world.at(hall, 2)];
    assert_eq!(world.acknowledges(&bob, positions.clone()).await.unwrap(), positions);
    assert_eq!(world.acknowledges(&bob, positions.clone()).await.unwrap(), positions, "idempotent");
    drop(browser);
    assert!(world.subscribes(&bob).await.catches_up().await.is_empty());
    eventually("delivered", || world.log.watermarks(hall, bob.id) == (2, 0)).await;
}

#[tokio::test]
async fn a_log_that_is_down_makes_opening_fail_and_reading_wait() {
    let world = World::new().await;
    let (alice, bob) = (world.person(), world.person());
    let hall = world.conversation(&[alice, bob]).await;
    let mut phone = world.listens(&bob).await;
    phone.catches_up().await;
    world.log.fails(true);
    assert_eq!(world.listens(&alice).await.ends().await, (Code::Unavailable, Some(Reason::Unavailable)));
    let second = world.log.message(hall, alice.id, "not delivered");
    world.says(&alice, hall, "a gap before it").await;
    phone.hears_nothing().await;
    world.log.fails(false);
    assert_eq!(phone.seqs(2).await, [2, 3]);
    world.deliver(second).await;
    phone.hears_nothing().await;
}
