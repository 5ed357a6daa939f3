//! A person takes along what is theirs, and is erased in all services: nothing of their text is left in any store, and what others wrote
//! stays as it was.

use std::io::{Cursor, Read as _};

use flaghoist_proto::login::v1::{
    DeleteAccountRequest, Erasure, ExportAccountRequest, GetErasureRequest, ListErasuresRequest,
};
use flaghoist_proto::send::v1::UpdateMessageRequest;
use flaghoist_tests::{PASSWORD, Service, eventually_within};
use futures_util::future::join_all;
use zip::ZipArchive;

use crate::prelude::*;

/// What nobody else would write.
const MARK: &str = "wombat-mark";

/// How many messages the person sends in all.
const MESSAGES: usize = 1000;

/// Where the mark still is: files of the data folder, or tables of the databases.
async fn places(world: &World) -> Vec<String> {
    let Some(cluster) = world.cluster() else {
        let files = std::fs::read_dir(world.data()).expect("the data folder can be read");
        let files = files.map(|file| file.expect("it can be listed").path());
        let holds = |path: &std::path::PathBuf| {
            let bytes = std::fs::read(path).unwrap_or_default();
            bytes.windows(MARK.len()).any(|window| window == MARK.as_bytes())
        };
        return files.filter(holds).map(|path| path.display().to_string()).collect();
    };
    let hex: String = MARK.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut places = Vec::new();
    for service in [Service::Auth, Service::Login, Service::Send, Service::Receiver] {
        let url = cluster.database(service);
        let tables = "SELECT schemaname || '.' || tablename FROM pg_tables \
                      WHERE schemaname NOT IN ('pg_catalog', 'information_schema')";
        for table in cluster.postgres().sql(url, tables).await.lines().filter(|line| !line.is_empty()) {
            let search =
                format!("SELECT count(*) FROM {table} t WHERE t::text LIKE '%{MARK}%' OR t::text LIKE '%{hex}%'");
            if cluster.postgres().sql(url, &search).await.trim() != "0" {
                places.push(table.to_owned());
            }
        }
    }
    places
}

/// The lines of each file of the person's export.
async fn export(person: &Person, file: &str) -> Vec<serde_json::Value> {
    let mut pieces =
        person.calls().accounts().export_account(ExportAccountRequest {}).await.expect("exported").into_inner();
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.message().await.expect("the whole of it") {
        bytes.extend(piece.chunk);
    }
    let mut archive = ZipArchive::new(Cursor::new(bytes)).expect("an archive");
    let mut text = String::new();
    archive.by_name(&format!("{file}.jsonl")).expect("the file").read_to_string(&mut text).expect("text");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn count(erasure: &Erasure, what: &str) -> i64 {
    let found = erasure.counts.iter().find(|count| format!("{}.{}", count.service, count.kind) == what);
    found.unwrap_or_else(|| panic!("no {what} in {erasure:?}")).count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_11_an_erased_person_leaves_no_text_in_any_store_whoever_is_killed() {
    let world = World::builder().without_limits().setting("FLAGHOIST_LOGIN_ERASURE_SETTLE", "2s").start().await;
    let root = world.admin("root").await;
    let (alice, bob, carol) = (world.person(MARK).await, world.person("bob").await, world.person("carol").await);
    let group = alice.creates_group("climbing", &[&bob, &carol]).await;
    let (direct, notes) = (alice.direct(&bob).await, alice.direct(&alice).await);
    let conversations = [group.name.clone(), direct.clone(), notes];
    let mut first = String::new();
    for round in 0..10 {
        let sends = (0..MESSAGES / 10).map(|number| {
            let sending = alice.sends(format!("{MARK} {round} {number}")).metadata("note", MARK);
            let to = &conversations[number % 3];
            async move { sending.request_id(format!("{MARK}-{round}-{number}")).to(to).await }
        });
        let sent = join_all(sends).await;
        first = sent[0].message.clone().expect("sent").name;
        bob.sends(format!("bob's {round}")).to(&group.name).await;
        bob.sends(format!("bob's {round}")).to(&direct).await;
    }
    let edit = UpdateMessageRequest {
        name: first,
        request_id: request_id(),
        text: format!("{MARK} edited"),
        metadata: Default::default(),
    };
    alice.calls().messages().update_message(edit).await.expect("edited");
    let mut phone = alice.listens_on("wombat-mark-phone").await;
    let mut tablet = alice.listens_on("wombat-mark-tablet").await;
    let before = bob.reads_all(&group.name).await;

    // What she takes along is hers, and nobody else's.
    let messages = export(&alice, "messages").await;
    assert_eq!(messages.len(), MESSAGES);
    assert!(messages.iter().all(|message| message["text"].as_str().is_some_and(|text| text.starts_with(MARK))));
    assert_eq!((export(&alice, "conversations").await.len(), export(&alice, "devices").await.len()), (3, 2));
    assert_eq!(export(&alice, "account").await[0]["handle"], alice.handle.as_str());
    assert!(!export(&alice, "sessions").await.is_empty() && !export(&alice, "login_events").await.is_empty());
    assert!(!places(&world).await.is_empty(), "the search finds what is there");

    alice.calls().accounts().delete_account(DeleteAccountRequest { password: PASSWORD.into() }).await.expect("deleted");
    for stream in [&mut phone, &mut tablet] {
        assert!(stream.end_within(Duration::from_secs(6)).await.is_some(), "her streams end");
    }
    // All of it dies in the middle.
    world.kill().await;
    world.start_again().await;
    let root = root.in_world(&world);
    let bob = bob.in_world(&world);
    let erasure = eventually_within(Duration::from_secs(90), "the erasure is finished", async || {
        let page = root.calls().administration().list_erasures(ListErasuresRequest::default()).await;
        let erasure = page.ok()?.into_inner().erasures.into_iter().next()?;
        erasure.finish_time.is_some().then_some(erasure)
    })
    .await;
    assert_eq!(count(&erasure, "send.messages"), MESSAGES as i64, "{erasure:?}");
    assert_eq!((count(&erasure, "send.conversations"), count(&erasure, "receiver.devices")), (3, 2));
    let again = root.calls().administration().get_erasure(GetErasureRequest { name: erasure.name.clone() }).await;
    assert_eq!(again.expect("kept").into_inner().erasure, Some(erasure));

    // The others see deletions in the places of her messages, and everything else as it was.
    let after = bob.reads_all(&group.name).await;
    assert_eq!(after.len(), before.len());
    for (now, then) in after.iter().zip(&before) {
        assert_eq!((&now.name, &now.sender, now.message_no), (&then.name, &then.sender, then.message_no));
        if now.sender == alice.name {
            assert!(now.delete_time.is_some() && now.text.is_empty() && now.metadata.is_empty(), "{now:?}");
        } else {
            assert_eq!((&now.text, &now.delete_time), (&then.text, &None));
        }
    }
    let events = bob.listens_on("late").await.until_caught_up_acking().await;
    for conversation in [&group.name, &direct] {
        let seqs: Vec<u64> =
            events.iter().filter(|event| event.conversation == *conversation).map(|event| event.seq).collect();
        assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>(), "dense and in order");
    }
    assert!(!format!("{events:?}").contains(MARK));
    bob.sends("and on").to(&group.name).await;

    // A server that stops leaves no write-ahead log behind.
    if world.cluster().is_none() {
        world.stop().await;
    }
    eventually("nothing is left", async || places(&world).await.is_empty().then_some(())).await;
}
