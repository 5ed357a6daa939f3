//! Bounds on the machine: few files, many streams, too many calls.

use std::net::TcpStream as StdStream;

use flaghoist_tests::http1;
use futures_util::future::join_all;

use crate::prelude::*;

#[tokio::test]
async fn fault_13_a_low_file_limit_means_clear_refusals_and_no_crash() {
    if only_embedded("the limit of one process") {
        return;
    }
    // The store, the ports and the runtime need some fifty.
    let world = World::builder().after_shell("ulimit -n 160").start().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let conversation = alice.direct(&bob).await;
    let mut phone = bob.listens().await;
    phone.until_caught_up().await;

    let address = world.grpc().expect("it runs");
    let crowd: Vec<StdStream> =
        (0..400).filter_map(|_| StdStream::connect_timeout(&address, Duration::from_secs(2)).ok()).collect();
    assert!(crowd.len() > 100);
    // Who was there before goes on as if nothing were.
    for number in 0..10 {
        alice.sends(number.to_string()).to(&conversation).await;
        let event = phone.next_message(&number.to_string()).await;
        phone.ack(&event).await;
    }
    eventually("the log says what is wrong", async || {
        let log = world.log().to_lowercase();
        (log.contains("too many open files") || log.contains("file limit") || log.contains("emfile")).then_some(())
    })
    .await;
    drop(crowd);
    eventually("newcomers are let in again", async || {
        let calls = world.anonymous();
        let request = tonic_health::pb::HealthCheckRequest::default();
        tokio::time::timeout(Duration::from_secs(2), calls.health().check(request)).await.ok()?.ok()
    })
    .await;
    world.person("cem").await;
    assert!(world.with_server(flaghoist_tests::Server::running));
}

#[tokio::test]
async fn many_streams_are_open_at_once_and_the_bound_refuses_the_next_at_once() {
    if only_embedded("the bound of one process") {
        return;
    }
    let world = World::builder().setting("FLAGHOIST_RECEIVER_STREAMS_MAX", "100").start().await;
    let mut people = Vec::new();
    for number in 0..10 {
        people.push(world.person(&format!("p{number}")).await);
    }
    let mut streams = Vec::new();
    for person in &people {
        for device in 0..10 {
            let mut stream = person.listens_on(&format!("d{device}")).await;
            stream.until_caught_up().await;
            streams.push(stream);
        }
    }
    let end = match people[0].opens("d10").tries().await {
        Err(status) => status,
        Ok(mut stream) => stream.end().await,
    };
    assert_eq!(end.code(), Code::ResourceExhausted, "{end:?}");
    assert!(retry_after(&end).is_some(), "{end:?}");
    let group = people[0].creates_group("all", &people[1..].iter().collect::<Vec<_>>()).await;
    people[0].sends("everyone").to(&group).await;
    for stream in &mut streams {
        stream.next_message("everyone").await;
    }
    drop(streams);
    eventually("places are free again", async || {
        let mut stream = people[0].opens("d11").tries().await.ok()?;
        let first = tokio::time::timeout(Duration::from_secs(2), stream.next_whenever()).await.ok()?;
        first.is_ok().then_some(())
    })
    .await;
}

#[tokio::test]
async fn promise_08_and_fault_16_one_person_cannot_send_without_end() {
    let world = World::start().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let conversation = alice.direct(&bob).await;
    let mut limited = None;
    for round in 0..100 {
        let answers = join_all((0..100).map(|n| alice.sends(format!("{round} {n}")).tries(&conversation))).await;
        for status in answers.into_iter().filter_map(Result::err) {
            assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
            limited = Some(status);
        }
        if limited.is_some() {
            break;
        }
    }
    let status = limited.expect("there is a limit");
    assert_eq!(flaghoist_tests::reason(&status), Some(Reason::RateLimited));
    assert!(retry_after(&status).is_some_and(|wait| wait > Duration::ZERO), "fault 16: {status:?}");
    // Another person is not concerned.
    bob.sends("my turn").to(&conversation).await;
}

#[tokio::test]
async fn connections_that_say_nothing_or_nonsense_cost_nobody_anything() {
    let world = World::shared().await;
    let address = world.grpc().expect("it runs");
    for nonsense in [&b""[..], b"\0", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", &[0xff; 4_096]] {
        let attempt = http1::raw(address, nonsense);
        let _: Result<_, _> = tokio::time::timeout(Duration::from_millis(500), attempt).await;
    }
    world.person("alice").await;
}
