//! Promise 13: stopping loses nobody.

use flaghoist_tests::reason;

use crate::prelude::*;

#[tokio::test]
async fn promise_13_a_stopping_server_says_so_in_its_streams_finishes_its_calls_and_ends() {
    let world = World::start().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let conversation = alice.direct(&bob).await;
    let mut phone = bob.listens().await;
    phone.until_caught_up().await;

    // Sends go on while the server stops: each is either answered and stored, or refused as unavailable.
    let sending = async {
        let mut answered = Vec::new();
        for number in 0.. {
            if number == 20 {
                world.begin_stop();
            }
            match alice.sends(number.to_string()).tries(&conversation).await {
                Ok(answer) => answered.push(answer.message.expect("sent").text),
                Err(_) => break,
            }
        }
        answered
    };
    let listening = async {
        loop {
            match phone.next().await {
                Ok(Heard::Drain(drain)) => break drain,
                Ok(_) => {}
                Err(end) => panic!("the stream was cut without a word: {end:?}"),
            }
        }
    };
    let (answered, drain) = tokio::join!(sending, listening);
    let reconnect_after = drain.reconnect_after.expect("it says when to come back");
    assert!((0..=60).contains(&reconnect_after.seconds));
    let end = phone.end_within(Duration::from_secs(30)).await.expect("it ends by itself");
    assert!(matches!(end.code(), Code::Ok | Code::Unavailable), "{end:?}");
    assert_eq!(world.gone_within(Duration::from_secs(30)).await, Some(Exit::Code(0)));

    world.stop().await;
    world.start_again().await;
    assert!(answered.len() >= 20);
    eventually("the server is back", async || alice.calls().whoami().await.ok()).await;
    let kept: Vec<String> = alice.reads_all(&conversation).await.into_iter().map(|message| message.text).collect();
    assert_eq!(kept[..answered.len()], answered);
}

#[tokio::test]
async fn fault_12_streams_are_told_to_come_back_at_different_times() {
    let world = World::start().await;
    let mut streams = Vec::new();
    for number in 0..20 {
        let person = world.person(&format!("p{number}")).await;
        let mut stream = person.listens().await;
        stream.until_caught_up().await;
        streams.push(stream);
    }
    world.begin_stop();
    let mut waits = std::collections::BTreeSet::new();
    for stream in &mut streams {
        loop {
            match stream.next().await {
                Ok(Heard::Drain(drain)) => {
                    let wait = drain.reconnect_after.unwrap_or_default();
                    waits.insert((wait.seconds, wait.nanos));
                    break;
                }
                Ok(_) => {}
                Err(end) => panic!("cut without a word: {end:?}"),
            }
        }
    }
    assert!(waits.len() >= 10, "all at once is a stampede: {waits:?}");
}

#[tokio::test]
async fn fault_17_new_streams_are_refused_while_stopping_and_old_ones_keep_what_was_not_acknowledged() {
    let world = World::start().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    alice.sends("hold on").to(&bob).await;
    let mut phone = bob.listens().await;
    phone.next_message("hold on").await;
    world.begin_stop();
    let end = phone.end_within(Duration::from_secs(30)).await.expect("it ends");
    assert!(matches!(end.code(), Code::Ok | Code::Unavailable), "{end:?} {:?}", reason(&end));
    assert_eq!(world.gone_within(Duration::from_secs(30)).await, Some(Exit::Code(0)));
    world.stop().await;
    world.start_again().await;
    let mut phone = eventually("the stream opens again", async || bob.opens("phone").tries().await.ok()).await;
    phone.next_message("hold on").await;
}

#[tokio::test]
async fn a_data_folder_in_use_is_refused_with_the_pid_of_its_user() {
    if only_embedded("pods have no data folder") {
        return;
    }
    let world = World::start().await;
    let pid = world.with_server(flaghoist_tests::Server::pid);
    let second = World::builder().data(world.data()).try_start().await;
    let said = second.expect_err("two servers cannot share a folder");
    assert!(said.contains(&pid.to_string()), "{said}");
    world.person("alice").await;
}

#[tokio::test]
async fn a_bad_setting_lists_every_mistake_at_once() {
    if only_embedded("the settings of one process") {
        return;
    }
    let world = World::builder()
        .setting("FLAGHOIST_AUTH_ACCESS_TOKEN_LIFETIME", "soon")
        .setting("FLAGHOIST_RECEIVER_DEVICES_MAX", "-3")
        .setting("FLAGHOIST_NO_SUCH_THING", "1")
        .try_start()
        .await;
    let said = world.expect_err("it does not start");
    for name in ["FLAGHOIST_AUTH_ACCESS_TOKEN_LIFETIME", "FLAGHOIST_RECEIVER_DEVICES_MAX", "FLAGHOIST_NO_SUCH_THING"] {
        assert!(said.contains(name), "{name} is not in:\n{said}");
    }
}
