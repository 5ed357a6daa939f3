//! Promise 1, and what happens when the disk is full: nothing is answered that is not on it.

use flaghoist_backends::SmallDisk;
use flaghoist_tests::syscalls::{Watch, synced_before_answered};
use futures_util::future::join_all;

use crate::prelude::*;

#[tokio::test]
async fn promise_01_answered_means_on_disk() {
    if only_embedded("it watches the files of SQLite") {
        return;
    }
    if let Err(reason) = Watch::possible() {
        return skip("promise_01_answered_means_on_disk", &reason);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let watch = Watch::new(folder.path().join("calls"));
    let world = World::builder().under(watch.wrapper()).start().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let conversation = alice.direct(&bob).await;
    let texts: Vec<String> = (0..30).map(|number| format!("on-disk-{number:04}-{number:04}")).collect();
    // One at a time first, then all at once, as a group commit.
    for text in &texts[..15] {
        alice.sends(text).to(&conversation).await;
    }
    join_all(texts[15..].iter().map(|text| alice.sends(text).to(&conversation))).await;
    world.stop().await;

    let calls = watch.calls().expect("strace wrote its file");
    for text in &texts {
        synced_before_answered(&calls, "send.db-wal", text).unwrap_or_else(|broken| panic!("{broken}"));
    }
}

#[tokio::test]
async fn fault_02_a_full_disk_is_unavailable_and_the_server_recovers_when_there_is_space() {
    if only_embedded("it watches the files of SQLite") {
        return;
    }
    let Some(disk) = SmallDisk::mount("fault_02_a_full_disk", 24) else { return };
    let world = World::builder().without_limits().data(disk.folder().join("data")).start().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let conversation = alice.direct(&bob).await;
    let mut answered = Vec::new();
    let mut unanswered = Vec::new();
    let big = "x".repeat(16_000);
    for number in 0..5 {
        answered.push(alice.sends(format!("before {number}")).to(&conversation).await.message.expect("sent").name);
    }
    disk.fill();
    // What the log has in reserve may still take a few.
    for number in 0..2_000 {
        let id = request_id();
        let text = format!("full {number} {big}");
        match alice.sends(&text).request_id(&id).tries(&conversation).await {
            Ok(answer) => answered.push(answer.message.expect("sent").name),
            Err(status) => {
                assert_eq!(
                    (status.code(), flaghoist_tests::reason(&status)),
                    (Code::Unavailable, Some(Reason::Unavailable)),
                    "{status:?}"
                );
                unanswered.push((id, text));
                if unanswered.len() >= 20 {
                    break;
                }
            }
        }
    }
    assert!(unanswered.len() >= 20, "the disk never got full");
    // Reading goes on.
    assert!(bob.reads_all(&conversation).await.len() >= answered.len());
    // A password that is right can still not open a session that cannot be stored.
    if let Err(status) = Person::try_sign_in(&world, &bob.handle, flaghoist_tests::PASSWORD).await {
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    }

    disk.free();
    for (id, text) in &unanswered {
        let answer = eventually("sends are answered again", async || {
            alice.sends(text).request_id(id).tries(&conversation).await.ok()
        })
        .await;
        answered.push(answer.message.expect("sent").name);
    }
    world.kill().await;
    world.start_again().await;
    eventually("the server is back", async || bob.calls().whoami().await.ok()).await;
    let kept: std::collections::HashSet<String> =
        bob.reads_all(&conversation).await.into_iter().map(|message| message.name).collect();
    for name in &answered {
        assert!(kept.contains(name), "{name} was answered and is gone");
    }
    assert_eq!(kept.len(), answered.len(), "nothing is there twice or unasked");
}
