//! Two processes of the service on one database: what a client begins on one pod it goes on with on another.

use std::collections::BTreeMap;

use flaghoist_backends::Postgres;
use flaghoist_runtime::settings::Reader;

use super::*;

async fn settings() -> Option<Settings> {
    let url = Postgres::shared().await?.database().await;
    let given = BTreeMap::from([("FLAGHOIST_SEND_STORE", url.as_str()), ("FLAGHOIST_SEND_STORE_CONNECTIONS", "8")]);
    let mut reader = Reader::new(&given);
    let settings = Settings::read(&mut reader);
    reader.finish().unwrap();
    Some(settings)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_2_and_faults_1_and_6_a_request_that_is_repeated_on_another_pod_is_one_message() {
    let Some(settings) = settings().await else { return };
    let one = World::with(settings.clone()).await;
    let folder = tempfile::tempdir().unwrap();
    // Pods share the secret: it is in the digests of requests and in page tokens.
    std::fs::copy(one.folder.path().join("secret.key"), folder.path().join("secret.key")).unwrap();
    let other = World::start(folder, one.others.clone(), settings).await;
    let (alice, bob) = ((one.person(1), other.person(1)), (one.person(2), other.person(2)));
    let (to, same) = tokio::join!(alice.0.meets(&bob.0), bob.1.meets(&alice.1));
    assert_eq!(to, same, "two who begin at once meet in one");

    let calls = (0..32).map(|number| {
        let (alice, to) = (if number % 2 == 0 { alice.0.clone() } else { alice.1.clone() }, to.clone());
        tokio::spawn(async move { alice.sends("hi", &to, "r").await.unwrap() })
    });
    let mut first = 0;
    for call in calls.collect::<Vec<_>>() {
        let answer = call.await.unwrap();
        first += u32::from(!answer.deduplicated);
        assert_eq!(answer.message.unwrap().name, format!("{to}/messages/2"));
    }
    assert_eq!(first, 1);
    let reused = failure(alice.1.sends("other", &to, "r").await);
    assert_eq!(reused, (Code::FailedPrecondition, Some(Reason::RequestIdReused)));

    for number in 0..4 {
        bob.1.sends("hi", &to, &number.to_string()).await.unwrap();
    }
    let mut page = pb::ListMessagesRequest { parent: to.clone(), page_size: 3, ..Default::default() };
    let first = bob.0.messages().list_messages(bob.0.request(page.clone())).await.unwrap().into_inner();
    page.page_token = first.next_page_token;
    let second = bob.1.messages().list_messages(bob.1.request(page)).await.unwrap().into_inner();
    let numbers: Vec<u64> = first.messages.iter().chain(&second.messages).map(|message| message.message_no).collect();
    assert_eq!(numbers, [5, 4, 3, 2, 1], "a page token is good on any pod");

    // What one pod commits the sweep finds on the other, by the database's clock.
    let since_time = Some(flaghoist_runtime::time::timestamp(SystemTime::now() - Duration::from_secs(15)));
    let changes = pb::ListRecentChangesRequest { since_time, ..Default::default() };
    let changes = one.log().list_recent_changes(changes).await.unwrap().into_inner();
    assert_eq!((changes.changes.len(), changes.changes[0].last_seq), (1, 6));
    assert_eq!(changes.changes[0].added_members.len(), 2);
    assert!(changes.read_time.is_some());
}
