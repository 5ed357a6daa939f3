//! Promises 11 and 12: deleted is deleted, and a store that was restored says so.

use flaghoist_proto::login::v1::DeleteAccountRequest;
use flaghoist_proto::send::v1::{DeleteMessageRequest, UpdateMessageRequest};
use flaghoist_tests::PASSWORD;

use crate::prelude::*;

/// Whether any file of the data folder holds these bytes.
fn on_disk(world: &World, text: &str) -> Vec<String> {
    let files = std::fs::read_dir(world.data()).expect("the data folder can be read");
    let files = files.map(|file| file.expect("it can be listed").path());
    let holds = |path: &std::path::PathBuf| {
        let bytes = std::fs::read(path).unwrap_or_default();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    };
    files.filter(holds).map(|path| path.display().to_string()).collect()
}

#[tokio::test]
async fn promise_11_deleted_is_deleted_from_the_files_too() {
    if only_embedded("it looks into the files of SQLite") {
        return;
    }
    let world = World::start().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let conversation = alice.direct(&bob).await;
    let mut tablet = bob.listens_on("tablet").await;
    tablet.until_caught_up().await;
    let name = alice.sends("wombat-secret-one").to(&conversation).await.message.expect("sent").name;
    let edit = UpdateMessageRequest {
        name: name.clone(),
        request_id: request_id(),
        text: "wombat-secret-two".into(),
        metadata: [("note".to_owned(), "wombat-secret-three".to_owned())].into(),
    };
    alice.calls().messages().update_message(edit).await.expect("edited");
    alice.sends("harmless").to(&conversation).await;
    assert!(!on_disk(&world, "wombat-secret").is_empty(), "the search finds what is there");
    let deletion = DeleteMessageRequest { name: name.clone(), request_id: request_id() };
    alice.calls().messages().delete_message(deletion).await.expect("deleted");

    // Live, a deletion is told; late devices converge on the tombstone.
    loop {
        let event = tablet.next_event().await;
        if let Some(Change::MessageDeleted(message)) = event.change {
            assert_eq!((message.name.as_str(), message.text.as_str()), (name.as_str(), ""));
            break;
        }
    }
    let events = bob.listens_on("late").await.until_caught_up().await;
    assert!(!format!("{events:?}").contains("wombat-secret"), "{events:?}");
    assert!(events.iter().any(|event| matches!(event.change, Some(Change::MessageDeleted(_)))));
    let messages = bob.reads_all(&conversation).await;
    assert!(messages[0].delete_time.is_some() && messages[0].text.is_empty() && messages[0].metadata.is_empty());
    let edit =
        UpdateMessageRequest { name, request_id: request_id(), text: "back".into(), metadata: Default::default() };
    let edited = alice.calls().messages().update_message(edit).await;
    refused(edited, Code::FailedPrecondition, Reason::MessageDeleted);

    world.stop().await;
    assert_eq!(on_disk(&world, "wombat-secret"), Vec::<String>::new());
    assert!(!on_disk(&world, "harmless").is_empty());
}

#[tokio::test]
async fn passwords_and_tokens_are_in_no_file() {
    if only_embedded("it looks into the files of SQLite") {
        return;
    }
    let world = World::start().await;
    let alice = world.person("alice").await;
    world.stop().await;
    for secret in [PASSWORD, &alice.tokens.refresh_token, &alice.tokens.access_token] {
        assert_eq!(on_disk(&world, secret), Vec::<String>::new());
    }
}

#[tokio::test]
async fn promise_12_and_fault_15_a_restored_store_says_so_and_devices_start_from_what_exists() {
    if only_embedded("it copies the files of SQLite") {
        return;
    }
    let world = World::start().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let conversation = alice.direct(&bob).await;
    alice.sends("kept").to(&conversation).await;
    let epoch = alice.sees(&conversation).await.epoch;
    world.stop().await;
    let backup = tempfile::tempdir().expect("a folder");
    // The log belongs to the store where a stop has left one.
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        for file in ["send.db", "send.db-wal"] {
            let _: Result<(), _> = std::fs::remove_file(to.join(file));
            if from.join(file).exists() {
                std::fs::copy(from.join(file), to.join(file)).expect("copied");
            }
        }
    };
    copy(world.data(), backup.path());
    world.start_again().await;
    assert_eq!(alice.sees(&conversation).await.epoch, epoch, "a restart alone changes nothing");

    alice.sends("lost").to(&conversation).await;
    let mut phone = bob.listens().await;
    let events = phone.until_caught_up().await;
    phone.ack(&events[2]).await;
    drop(phone);
    world.stop().await;
    let _: Result<(), _> = std::fs::remove_file(world.data().join("send.db-shm"));
    copy(backup.path(), world.data());
    world.start_again().await;

    assert_ne!(alice.sees(&conversation).await.epoch, epoch, "the store is another one");
    let mut phone = bob.listens().await;
    let mut told = false;
    let mut seqs = Vec::new();
    loop {
        match phone.next().await.expect("the stream goes on") {
            Heard::Reset(_) => told = true,
            Heard::Event(event) => {
                assert!(told, "the reset comes first");
                seqs.push(event.seq);
            }
            Heard::CaughtUp(_) => break,
            _ => {}
        }
    }
    assert_eq!(seqs, [1, 2]);
    alice.sends("new").to(&conversation).await;
    let event = phone.next_message("new").await;
    assert_eq!(event.seq, 3);
    phone.ack(&event).await;
    drop(phone);
    assert!(bob.listens().await.until_caught_up().await.is_empty(), "told once is enough");
}

#[tokio::test]
async fn promise_12_an_operator_can_say_that_the_store_was_restored() {
    let world = World::start().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let conversation = alice.direct(&bob).await;
    let mut phone = bob.listens().await;
    let event = phone.next_event().await;
    phone.ack(&event).await;
    drop(phone);
    // Pods are elsewhere: nobody on the operator's machine can know whether any of them runs.
    if world.cluster().is_none() {
        let running = world.command(&["admin", "restored"]).await;
        running.expect_err("not while the server runs");
    }
    world.stop().await;
    world.command(&["admin", "restored"]).await.expect("the server is stopped");
    world.start_again().await;
    assert_ne!(alice.sees(&conversation).await.epoch, event.epoch);
    let mut phone = bob.listens().await;
    assert!(matches!(phone.next().await, Ok(Heard::Reset(_))));
    assert_eq!(phone.next_event().await.seq, 1);
}

#[tokio::test]
async fn a_deleted_account_is_gone_and_its_handle_cannot_sign_in() {
    let world = World::shared().await;
    let alice = world.person("alice").await;
    let mut phone = alice.listens().await;
    phone.until_caught_up().await;
    let wrong = DeleteAccountRequest { password: "not the password".into() };
    let answer = alice.calls().accounts().delete_account(wrong).await;
    assert_ne!(answer.expect_err("the password is wrong").code(), Code::Ok);
    let right = DeleteAccountRequest { password: PASSWORD.into() };
    alice.calls().accounts().delete_account(right).await.expect("deleted");
    let end = phone.end_within(Duration::from_secs(5)).await.expect("the stream ends within 5 seconds");
    assert_eq!(end.code(), Code::Unauthenticated);
    let again = Person::try_sign_in(&world, &alice.handle, PASSWORD).await;
    refused(again, Code::Unauthenticated, Reason::CredentialsInvalid);
}
