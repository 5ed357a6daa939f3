//! Accounts that are deleted in all services, and taken along before.

use std::io::{Cursor, Read as _};

use flaghoist_proto::login::v1 as login;
use flaghoist_runtime::fault::Reason;
use zip::ZipArchive;

use super::world::*;

fn counts(erasure: &login::Erasure) -> Vec<(String, i64)> {
    erasure.counts.iter().map(|count| (format!("{}.{}", count.service, count.kind), count.count)).collect()
}

fn expected(messages: i64) -> Vec<(String, i64)> {
    let counts = [
        ("auth.consents", 0),
        ("auth.sessions", 1),
        ("login.accounts", 1),
        ("login.factors", 0),
        ("receiver.devices", 2),
        ("send.conversations", 0),
        ("send.messages", messages),
    ];
    counts.map(|(what, count)| (what.to_owned(), count)).to_vec()
}

#[tokio::test]
async fn an_erasure_goes_through_all_services_and_leaves_a_report() {
    let world = World::new().await;
    let (root, alice) = (world.admin("root").await, world.person("alice").await);
    world.others.give(&alice.name(), 2, 35);
    world.others.give_late(&alice.name(), 3);
    alice.delete_account(PASSWORD).await.unwrap();
    assert!(world.issuer.erased(&alice.name()), "the issuer is told before the call is answered");
    eventually("the handle", async || world.at("192.0.2.2").register("alice", PASSWORD).await.is_ok()).await;
    assert_eq!(world.others.left(&alice.name()), (0, 0));
    eventually("the end", async || root.erasures("").await.unwrap().erasures[0].finish_time.is_some()).await;
    let page = root.erasures("").await.unwrap();
    let [erasure] = &page.erasures[..] else { panic!("{page:?}") };
    assert_eq!(counts(erasure), expected(38), "what came late is counted, too");
    assert!(erasure.finish_time.is_some() && erasure.next_service.is_empty() && erasure.next_time.is_none());
    assert!(!format!("{erasure:?}").contains(alice.name().trim_start_matches("users/")), "it says nothing about her");
    assert_eq!(&root.erasure(&erasure.name).await.unwrap(), erasure);
    let unknown = "erasures/00000000-0000-7000-8000-000000000000";
    assert_eq!(reason(root.erasure(unknown).await), Reason::NotFound);
    assert_eq!(reason(root.erasures("no token").await), Reason::PageTokenInvalid);
}

#[tokio::test]
async fn a_service_that_is_away_is_asked_again_and_the_handle_stays_taken() {
    let world = World::new().await;
    let (root, alice) = (world.admin("root").await, world.person("alice").await);
    world.others.give(&alice.name(), 2, 35);
    world.others.set_send_down(true);
    alice.delete_account(PASSWORD).await.unwrap();
    eventually("a failure", async || root.erasures("").await.unwrap().erasures[0].failure_count > 0).await;
    let waiting = root.erasures("").await.unwrap().erasures.remove(0);
    assert_eq!((waiting.next_service.as_str(), waiting.finish_time), ("send", None));
    assert_eq!(world.others.left(&alice.name()), (0, 35), "the others have done their part");
    assert_eq!(reason(world.at("192.0.2.2").register("alice", PASSWORD).await), Reason::AlreadyExists);
    // The process ends, and the next one goes on.
    let world = world.restart(|_| ()).await;
    world.others.set_send_down(false);
    eventually("the handle", async || world.at("192.0.2.2").register("alice", PASSWORD).await.is_ok()).await;
    let root = root.on(&world);
    eventually("the end", async || root.erasure(&waiting.name).await.unwrap().finish_time.is_some()).await;
    let done = root.erasure(&waiting.name).await.unwrap();
    assert_eq!((counts(&done), done.failure_count), (expected(35), 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erasure_that_pods_work_on_at_once_is_counted_once() {
    let Some(pods) = World::pods(|_| ()).await else { return };
    let root = pods[0].admin("root").await;
    for round in 0..5 {
        let alice = pods[round % 2].person(&format!("alice{round}")).await;
        pods[0].others.give(&alice.name(), 2, 35);
        alice.delete_account(PASSWORD).await.unwrap();
        // Nobody leaves it to another.
        let workers = pods.iter().cycle().take(8).map(|pod| {
            let eraser = pod.accounts.eraser();
            let meddle = pod.sql("UPDATE login.erasures SET held_until = 0");
            async move {
                for _ in 0..4 {
                    let _others_may_be_quicker = eraser.turn().await;
                }
                meddle.await
            }
        });
        futures_util::future::join_all(workers).await;
        eventually("the end", async || root.erasures("").await.unwrap().erasures[0].finish_time.is_some()).await;
        let erasure = root.erasures("").await.unwrap().erasures.remove(0);
        assert_eq!(counts(&erasure), expected(35), "round {round}");
    }
    assert!(pods[0].others.steps() >= 5 * 5, "four steps, and one for what came late");
}

#[tokio::test]
async fn an_export_is_a_whole_archive_and_asks_for_a_fresh_login() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let bytes = alice.export().await.unwrap();
    let mut archive = ZipArchive::new(Cursor::new(bytes)).unwrap();
    let names: Vec<String> = archive.file_names().map(|name| name.unwrap().into_owned()).collect();
    assert_eq!(
        names,
        [
            "account",
            "contacts",
            "factors",
            "history",
            "sessions",
            "consents",
            "login_events",
            "profile",
            "browser_sessions",
            "sign_ins",
            "devices",
            "conversations",
            "messages"
        ]
        .map(|name| format!("{name}.jsonl"))
    );
    let mut read = |name: &str| {
        let mut text = String::new();
        archive.by_name(&format!("{name}.jsonl")).unwrap().read_to_string(&mut text).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        lines
    };
    assert_eq!(read("account")[0]["handle"], "alice");
    assert_eq!(read("factors")[0]["factor"], "password");
    assert_eq!((read("sessions").len(), read("consents").len(), read("login_events").len()), (1, 0, 1));
    assert_eq!((read("devices").len(), read("conversations").len()), (1, 0));
    let messages = read("messages");
    assert_eq!((messages.len(), &messages[49_999]["text"]), (50_000, &"message 499 99".into()));

    let long_ago = alice.signed_in_ago(std::time::Duration::from_secs(601));
    assert_eq!(reason(long_ago.export().await), Reason::LoginNotFresh);
    assert_eq!(reason(alice.through_an_application().export().await), Reason::CallerNotAllowed);
    world.others.set_send_down(true);
    assert_eq!(reason(alice.export().await), Reason::Unavailable, "an archive that is not whole says so");
}

#[tokio::test]
async fn a_person_has_one_export_at_once_and_a_pod_makes_four() {
    let world = World::new().await;
    let mut taken = Vec::new();
    for handle in ["alice", "bob", "carol", "dan"] {
        let person = world.person(handle).await;
        // More than waits for a reader, so it is under way until the pieces are dropped.
        taken.push(person.begins_export().await.unwrap());
        let second = person.begins_export().await.unwrap_err();
        assert!(second.message().contains("of yours"), "{second}");
        assert!(retry_delay(&second) > std::time::Duration::ZERO);
        assert_eq!(reason::<()>(Err(second)), Reason::Overloaded);
    }
    let eve = world.person("eve").await;
    let fifth = eve.begins_export().await.unwrap_err();
    assert!(fifth.message().contains("too many") && retry_delay(&fifth) > std::time::Duration::ZERO, "{fifth}");
    assert_eq!(reason::<()>(Err(fifth)), Reason::Overloaded);
    taken.pop();
    // One that nobody reads any more makes place.
    eventually("a place", async || eve.export().await.is_ok()).await;
}
