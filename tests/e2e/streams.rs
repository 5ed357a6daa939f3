//! Live streams: replacement, silence, credit, slow readers, token refresh, typing, devices.

use flaghoist_proto::receiver::v1::receive_request::Request as Said;
use flaghoist_proto::receiver::v1::{
    AcknowledgeRequest, DeleteDeviceRequest, ListDevicesRequest, Open, Position, RefreshToken, SetTypingRequest,
    SubscribeRequest, TypingNotice,
};
use flaghoist_tests::reason;
use futures_util::future::join_all;

use crate::prelude::*;

#[tokio::test]
async fn fault_10_a_newer_stream_of_the_same_device_wins_at_once() {
    let world = World::shared().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let conversation = alice.direct(&bob).await;
    let mut old = bob.listens().await;
    old.until_caught_up().await;
    // The app was started anew, over another connection.
    let again = bob.another_session().await;
    let mut new = again.listens().await;
    new.until_caught_up().await;
    let end = old.end_within(Duration::from_secs(5)).await.expect("the old stream ends");
    assert_eq!((end.code(), reason(&end)), (Code::Aborted, Some(Reason::StreamReplaced)));

    alice.sends("to the new one").to(&conversation).await;
    let event = new.next_message("to the new one").await;
    new.ack(&event).await;
    // Another device is not concerned.
    let mut tablet = bob.listens_on("tablet").await;
    tablet.until_caught_up().await;
    alice.sends("to both").to(&conversation).await;
    new.next_message("to both").await;
    tablet.next_message("to both").await;
}

#[tokio::test]
async fn fault_09_what_was_written_to_a_vanished_phone_comes_again_and_its_silence_is_noticed() {
    let world = World::builder()
        .setting("FLAGHOIST_RECEIVER_SILENCE", "5s")
        .setting("FLAGHOIST_RECEIVER_HEARTBEAT", "1s")
        .start()
        .await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let conversation = alice.direct(&bob).await;
    let mut phone = bob.opens("phone").without_heartbeats().open().await;
    phone.until_caught_up().await;
    alice.sends("into the void").to(&conversation).await;
    let end = phone.end_within(Duration::from_secs(15)).await.expect("a silent device is counted as gone");
    assert_eq!(reason(&end), Some(Reason::StreamSilent), "{end:?}");
    let texts = format!("{:?}", bob.listens().await.until_caught_up().await);
    assert!(texts.contains("into the void"));
}

#[tokio::test]
async fn both_sides_of_an_idle_stream_say_that_they_are_there() {
    let world = World::builder()
        .setting("FLAGHOIST_RECEIVER_SILENCE", "10s")
        .setting("FLAGHOIST_RECEIVER_HEARTBEAT", "1s")
        .start()
        .await;
    let bob = world.person("bob").await;
    let request = SubscribeRequest { open: Some(Open { device: "users/me/devices/web".into(), from: 0, window: 0 }) };
    let mut stream = bob.calls().receiver().subscribe(request).await.expect("opened").into_inner();
    let mut heartbeats = 0;
    let counting = async {
        while heartbeats < 3 {
            let response = stream.message().await.expect("it lives").expect("it goes on").response;
            heartbeats += i32::from(matches!(response.and_then(|r| r.response), Some(Heard::Heartbeat(_))));
        }
    };
    tokio::time::timeout(Duration::from_secs(15), counting).await.expect("heartbeats come");
}

#[tokio::test]
async fn promise_08_no_more_events_than_the_window_are_unacknowledged() {
    let world = World::shared().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let conversation = alice.direct(&bob).await;
    for number in 0..10 {
        alice.sends(number.to_string()).to(&conversation).await;
    }
    let mut phone = bob.opens("phone").window(4).open().await;
    let mut events = Vec::new();
    for _ in 0..4 {
        events.push(phone.next_event().await);
    }
    phone.hears_no_event_for(Duration::from_millis(500)).await;
    alice.sends("live").to(&conversation).await;
    phone.hears_no_event_for(Duration::from_millis(500)).await;
    // Credit comes back with the acknowledgement, and the log goes on where it stopped.
    phone.ack(&events[1]).await;
    assert_eq!(phone.next_event().await.seq, 5);
    assert_eq!(phone.next_event().await.seq, 6);
    phone.hears_no_event_for(Duration::from_millis(500)).await;
    let mut last = events[3].clone();
    for seq in 7..=12 {
        phone.ack(&last).await;
        last = phone.next_event().await;
        assert_eq!(last.seq, seq);
    }
}

#[tokio::test]
async fn fault_11_a_slow_reader_is_not_dropped_costs_no_memory_and_holds_nobody_up() {
    let world = World::builder().without_limits().start().await;
    let (alice, bob, cem) = (world.person("alice").await, world.person("bob").await, world.person("cem").await);
    let group = alice.creates_group("busy", &[&bob, &cem]).await;
    let mut slow = bob.opens("phone").open().await;
    slow.until_caught_up().await;
    let mut quick = cem.listens().await;
    quick.until_caught_up().await;

    let text = "x".repeat(4_000);
    let burst = async |count: usize| {
        for _ in 0..count / 20 {
            join_all((0..20).map(|_| alice.sends(&text).to(&group))).await;
        }
    };
    let listening = async |quick: &mut flaghoist_tests::Listening, until: u64| loop {
        let event = quick.next_event().await;
        if event.seq % 20 == 0 || event.seq == until {
            quick.says_ack(&event).await;
        }
        if event.seq == until {
            break;
        }
    };
    tokio::join!(burst(500), listening(&mut quick, 501));
    let before = world.resident_bytes();
    // 8 MB are sent past the one that reads nothing.
    tokio::join!(burst(2_000), listening(&mut quick, 2_501));
    let after = world.resident_bytes();
    assert!(after < before + 24 * 1024 * 1024, "{before} bytes before, {after} after");

    // It gets everything at its own speed.
    let mut last = 1;
    while last < 2_501 {
        let event = slow.next_event().await;
        assert_eq!(event.seq, last + 1);
        last = event.seq;
        if last % 50 == 0 {
            slow.says_ack(&event).await;
        }
    }
}

#[tokio::test]
async fn a_browser_subscribes_and_acknowledges_by_calls() {
    let world = World::shared().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let conversation = alice.direct(&bob).await;
    let device = "users/me/devices/web".to_owned();
    let open = Open { device: device.clone(), from: 0, window: 0 };
    let mut receiver = bob.calls().receiver();
    let mut stream = receiver.subscribe(SubscribeRequest { open: Some(open) }).await.expect("opened").into_inner();
    alice.sends("hi browser").to(&conversation).await;
    let event = loop {
        let response = stream.message().await.expect("it lives").expect("it goes on").response;
        if let Some(Heard::Event(event)) = response.and_then(|response| response.response)
            && matches!(&event.change, Some(Change::MessageCreated(_)))
        {
            break event;
        }
    };
    let position = Position { conversation, epoch: event.epoch, seq: event.seq };
    let request = AcknowledgeRequest { device: device.clone(), positions: vec![position.clone()] };
    let answer = receiver.acknowledge(request).await.expect("acknowledged").into_inner();
    assert_eq!(answer.positions, vec![position]);
    drop(stream);
    assert!(bob.listens_on("web").await.until_caught_up().await.is_empty());
}

#[tokio::test]
async fn a_position_beyond_what_was_sent_is_refused() {
    let world = World::shared().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    alice.sends("hi").to(&bob).await;
    let mut phone = bob.listens().await;
    let mut event = phone.until_caught_up().await.pop().expect("one came");
    event.seq = 1_000;
    phone.says_ack(&event).await;
    let end = phone.end().await;
    assert_eq!(reason(&end), Some(Reason::PositionInvalid), "{end:?}");
    let seqs: Vec<u64> = bob.listens().await.until_caught_up().await.iter().map(|event| event.seq).collect();
    assert_eq!(seqs, [1, 2], "nothing was moved");
}

#[tokio::test]
async fn case_73_a_stream_ends_when_its_token_expires_unless_a_fresh_one_came() {
    let world = World::builder().setting("FLAGHOIST_AUTH_ACCESS_TOKEN_LIFETIME", "4s").start().await;
    let mut bob = world.person("bob").await;
    let mut fresh = bob.another_session().await;
    let mut stale = bob.listens_on("stale").await;
    let mut kept = fresh.listens_on("kept").await;
    let keeping = async {
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_secs(2)).await;
            fresh.refreshes().await.expect("refreshed");
            kept.says(Said::RefreshToken(RefreshToken { access_token: fresh.token() })).await;
        }
    };
    let ending = stale.end_within(Duration::from_secs(10));
    let (end, ()) = tokio::join!(ending, keeping);
    let end = end.expect("the stream ends with its token");
    assert_eq!((end.code(), reason(&end)), (Code::Unauthenticated, Some(Reason::TokenExpired)));
    bob.refreshes().await.expect("the session itself goes on");
    let dan = world.person("dan").await;
    dan.sends("still there?").to(&bob).await;
    kept.next_message("still there?").await;
}

#[tokio::test]
async fn a_stream_does_not_take_the_token_of_someone_else() {
    let world = World::shared().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let mut phone = bob.listens().await;
    phone.until_caught_up().await;
    phone.says(Said::RefreshToken(RefreshToken { access_token: alice.token() })).await;
    assert_eq!(phone.end().await.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn typing_is_told_to_the_others_and_to_nobody_else() {
    let world = World::shared().await;
    let (alice, bob, eve) = (world.person("alice").await, world.person("bob").await, world.person("eve").await);
    let conversation = alice.direct(&bob).await;
    let (mut hers, mut his, mut evil) = (alice.listens().await, bob.listens().await, eve.listens().await);
    for phone in [&mut hers, &mut his, &mut evil] {
        phone.until_caught_up().await;
    }
    alice.calls().receiver().set_typing(SetTypingRequest { conversation: conversation.clone() }).await.expect("told");
    let typing = loop {
        if let Heard::Typing(typing) = his.next().await.expect("it lives") {
            break typing;
        }
    };
    assert_eq!((typing.conversation, typing.member), (conversation.clone(), alice.name.clone()));
    his.says(Said::Typing(TypingNotice { conversation })).await;
    let typing = loop {
        if let Heard::Typing(typing) = hers.next().await.expect("it lives") {
            break typing;
        }
    };
    assert_eq!(typing.member, bob.name);
    let heard = tokio::time::timeout(Duration::from_millis(300), evil.next_whenever()).await;
    assert!(heard.is_err(), "eve heard {heard:?}");
}

#[tokio::test]
async fn promise_08_a_person_has_twenty_devices_and_can_remove_them() {
    let world = World::shared().await;
    let bob = world.person("bob").await;
    for number in 0..20 {
        bob.listens_on(&format!("device-{number}")).await.until_caught_up().await;
    }
    let refused_stream = bob.opens("one-too-many").tries().await;
    let end = match refused_stream {
        Err(status) => status,
        Ok(mut stream) => stream.end().await,
    };
    assert_eq!((end.code(), reason(&end)), (Code::ResourceExhausted, Some(Reason::LimitReached)));

    let mut receiver = bob.calls().receiver();
    let mut open = bob.listens_on("device-7").await;
    open.until_caught_up().await;
    receiver.delete_device(DeleteDeviceRequest { name: "users/me/devices/device-7".into() }).await.expect("removed");
    open.end_within(Duration::from_secs(5)).await.expect("its stream ends");
    let devices = receiver.list_devices(ListDevicesRequest {}).await.expect("listed").into_inner().devices;
    assert_eq!(devices.len(), 19);
    assert!(devices.iter().all(|device| !device.name.ends_with("/device-7")));
    bob.listens_on("one-too-many").await.until_caught_up().await;
}
