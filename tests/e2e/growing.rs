//! From one machine to many: what an embedded server keeps is moved into PostgreSQL, and pods carry on with it. Nobody signs in anew,
//! no device starts over, no request has a second effect, and what was deleted stays deleted.

use std::path::Path;
use std::process::{Command, Stdio};

use flaghoist_backends::Postgres;
use flaghoist_proto::receiver::v1::{MarkReadRequest, Position};
use flaghoist_proto::send::v1::{AddMembersRequest, DeleteMessageRequest, RemoveMemberRequest, UpdateMessageRequest};
use flaghoist_tests::{Group, Profile, Service, Stores, server_binary};

use crate::prelude::*;

/// The command, on a server's data folder.
fn migrate_store(data: &Path) -> Command {
    let mut command = Command::new(server_binary(Profile::Same));
    command.env_clear().args(["admin", "migrate-store", "--from"]).arg(format!("sqlite://{}", data.display()));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it; what it says, also when it fails.
async fn run(mut command: Command) -> Result<String, String> {
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("it runs").expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(said) } else { Err(said) }
}

async fn removes(by: &Person, group: &Group, member: &Person) {
    let request =
        RemoveMemberRequest { parent: group.name.clone(), request_id: request_id(), member: member.name.clone() };
    by.calls().conversations().remove_member(request).await.expect("removed");
}

async fn adds(by: &Person, group: &Group, member: &Person) {
    let members = vec![member.name.clone()];
    let request = AddMembersRequest { parent: group.name.clone(), request_id: request_id(), members };
    by.calls().conversations().add_members(request).await.expect("added");
}

async fn edits(by: &Person, name: &str, text: &str) {
    let request = UpdateMessageRequest {
        name: name.into(),
        request_id: request_id(),
        text: text.into(),
        metadata: Default::default(),
    };
    by.calls().messages().update_message(request).await.expect("edited");
}

async fn deletes(by: &Person, name: &str) {
    let request = DeleteMessageRequest { name: name.into(), request_id: request_id() };
    by.calls().messages().delete_message(request).await.expect("deleted");
}

async fn reads(person: &Person, conversation: &str, seq: u64) {
    let epoch = person.sees(conversation).await.epoch;
    let position = Some(Position { conversation: conversation.into(), epoch, seq });
    person.calls().receiver().mark_read(MarkReadRequest { position }).await.expect("read");
}

/// What people see of conversations: their state, and all messages.
async fn seen(whose: &[(&Person, &String)]) -> Vec<String> {
    let mut all = Vec::new();
    for (person, conversation) in whose {
        all.push(format!("{:?}", person.sees(conversation).await));
        all.extend(person.reads_all(conversation).await.iter().map(|message| format!("{message:?}")));
    }
    all
}

#[tokio::test]
async fn an_embedded_server_grows_into_a_cluster_and_nobody_starts_over() {
    let Some(postgres) = Postgres::shared().await else { return };
    let old = World::builder().embedded().start().await;
    let (alice, mut bob) = (old.person("alice").await, old.person("bob").await);
    let (carol, dave) = (old.person("carol").await, old.person("dave").await);
    let direct = alice.direct(&bob).await;
    let group = alice.creates_group("team", &[&bob, &carol]).await;
    let first = alice.sends("first").request_id("first").metadata("a", "b").to(&direct).await;
    for number in 0..5 {
        alice.sends(format!("direct {number}")).to(&direct).await;
        carol.sends(format!("group {number}")).to(&group).await;
    }
    let kept = alice.sends("typo").to(&group).await.message.expect("sent").name;
    edits(&alice, &kept, "corrected").await;
    let secret = alice.sends("wombat-secret-one").request_id("secret").to(&group).await.message.expect("sent").name;
    edits(&alice, &secret, "wombat-secret-two").await;
    deletes(&alice, &secret).await;
    removes(&alice, &group, &carol).await;
    bob.sends("without carol").to(&group).await;
    adds(&alice, &group, &carol).await;
    adds(&alice, &group, &dave).await;
    removes(&alice, &group, &dave).await;

    // Bob's phone has acknowledged a part, and his last refresh token was never used.
    let mut phone = bob.listens().await;
    let events = phone.until_caught_up().await;
    let of = |conversation: &str| {
        events.iter().filter(|event| event.conversation == *conversation).cloned().collect::<Vec<_>>()
    };
    let (of_direct, of_group) = (of(&direct), of(&group.name));
    phone.ack(&of_direct[3]).await;
    phone.ack(&of_group[5]).await;
    drop(phone);
    reads(&bob, &direct, 3).await;
    reads(&carol, &group.name, 6).await;
    bob.refreshes().await.expect("a session is refreshed");
    let team = &group.name;
    let before = seen(&[(&alice, &direct), (&bob, &direct), (&alice, team), (&bob, team), (&carol, team)]).await;
    let members_only = dave.reads_all(&group.name).await;

    // The server still runs: its folder is taken. Then it stops, and all of it goes over.
    let databases = <[String; 4]>::from(tokio::join!(
        postgres.database(),
        postgres.database(),
        postgres.database(),
        postgres.database()
    ));
    let mut command = migrate_store(old.data());
    command.args(["--to", &databases[0]]);
    let in_use = run(command).await.expect_err("not while the server runs");
    assert!(in_use.contains("in use by process"), "{in_use}");
    assert_eq!(old.stop().await, Some(Exit::Code(0)));
    let mut command = migrate_store(old.data());
    for service in Service::ALL {
        command.env(format!("FLAGHOIST_{}_STORE", service.name().to_uppercase()), &databases[service as usize]);
    }
    let said = run(command).await.unwrap_or_else(|said| panic!("{said}"));
    for part in
        ["send.events", "login.accounts", "auth.sessions", "receiver.positions", "secret.key", "FLAGHOIST_SEND_STORE="]
    {
        assert!(said.contains(part), "{part} is missing: {said}");
    }
    assert!(!said.contains(postgres.password()), "a password is nobody's to read");

    let secret_file = old.data().join("secret.key");
    let stores = Stores { postgres: postgres.clone(), databases: databases.clone(), secret_file };
    let Some(new) = World::builder().on(stores).start_cluster().await.expect("the cluster comes up") else { return };
    let (alice, mut bob, carol, dave) =
        (alice.in_world(&new), bob.in_world(&new), carol.in_world(&new), dave.in_world(&new));

    // Tokens of before count, refresh, and passwords still sign in.
    alice.calls().whoami().await.expect("the access token is good for what is left of its time");
    bob.refreshes().await.expect("the refresh token is good for one use");
    Person::signs_in(&new, &carol.handle).await;
    // Everybody sees what they saw.
    let after = seen(&[(&alice, &direct), (&bob, &direct), (&alice, team), (&bob, team), (&carol, team)]).await;
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before, after);
    }
    assert_eq!(before.len(), after.len());
    assert_eq!(dave.reads_all(&group.name).await, members_only);

    // Promise 2: a request that is made again gets the first answer.
    let again = alice.sends("first").request_id("first").metadata("a", "b").to(&direct).await;
    assert!(again.deduplicated);
    assert_eq!(again.message, first.message);
    let again = alice.sends("wombat-secret-one").request_id("secret").to(&group).await;
    assert!(again.deduplicated && again.message.expect("a tombstone").delete_time.is_some());
    let other = alice.sends("something else").request_id("first").tries(&direct).await;
    refused(other, Code::FailedPrecondition, Reason::RequestIdReused);

    // Promises 4 and 12: the phone goes on after what it has acknowledged, without a reset.
    let mut phone = bob.listens().await;
    let mut left = Vec::new();
    loop {
        match phone.next().await.expect("the stream goes on") {
            Heard::Reset(reset) => panic!("nothing was lost, and yet {reset:?}"),
            Heard::Event(event) => left.push(event),
            Heard::CaughtUp(_) => break,
            _ => {}
        }
    }
    let unacknowledged = of_direct[4..].iter().chain(&of_group[6..]);
    assert_eq!(left.len(), unacknowledged.clone().count());
    assert!(unacknowledged.clone().all(|event| left.contains(event)), "{left:?}");
    // Promise 3: `seq` goes on where it was.
    let last = alice.sees(&direct).await.last_seq;
    alice.sends("new").to(&direct).await;
    assert_eq!(phone.next_message("new").await.seq, last + 1);
    let begun = dave.direct(&carol).await;
    dave.sends("hi").to(&begun).await;

    // Promise 11: what was deleted did not go along.
    let holds = async |text: &str| {
        let sql = format!("SELECT count(*) FROM send.events WHERE position('{text}'::bytea IN body) > 0");
        postgres.sql(&databases[Service::Send as usize], &sql).await
    };
    assert_eq!(holds("wombat-secret").await, "0");
    assert_eq!(holds("without carol").await, "1");
}

/// A data folder with a conversation of so many messages.
async fn folder_with(messages: usize) -> World {
    let world = World::builder().embedded().without_limits().start().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let direct = alice.direct(&bob).await;
    let mut sent = tokio::task::JoinSet::new();
    for number in 0..messages {
        let (alice, direct) = (alice.clone(), direct.clone());
        sent.spawn(async move { alice.sends(format!("{number}")).to(&direct).await });
        if sent.len() == 64 {
            sent.join_next().await.expect("there are some").expect("sent");
        }
    }
    while let Some(done) = sent.join_next().await {
        done.expect("sent");
    }
    world.stop().await;
    world
}

#[tokio::test]
async fn a_move_that_was_killed_is_carried_on_and_nothing_else_is_written_over() {
    let Some(postgres) = Postgres::shared().await else { return };
    // More than go over in one transaction.
    let old = folder_with(1_300).await;
    let url = postgres.database().await;
    let moves = || {
        let mut command = migrate_store(old.data());
        command.args(["--to", &url]);
        command
    };
    let sql = async |text: &str| postgres.sql(&url, text).await;
    run(moves()).await.unwrap_or_else(|said| panic!("{said}"));
    let said = run(moves()).await.unwrap_or_else(|said| panic!("{said}"));
    assert!(said.contains("send to 127.0.0.1") && said.contains("was moved before"), "{said}");
    let rows = "SELECT count(*), sum(seq) FROM send.events";
    let all = sql(rows).await;

    // What is there now is somebody's.
    let forget = "DROP TABLE send.store_move, send.store_move_tables";
    sql(forget).await;
    let refused = run(moves()).await.expect_err("it is not empty");
    assert!(refused.contains("the database is not empty: send.conversations"), "{refused}");
    let empty = "TRUNCATE send.conversations, send.members, send.memberships, send.people, send.events";
    sql(empty).await;

    // Killed in the middle of the log, it goes on there.
    sql("CREATE FUNCTION send.stumble() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(600); RETURN NEW; END $$; \
         CREATE TRIGGER stumble BEFORE INSERT ON send.events FOR EACH ROW WHEN (NEW.message_no = 1200) \
         EXECUTE FUNCTION send.stumble()")
        .await;
    let mut running = moves().spawn().expect("it starts");
    let stuck = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
    eventually("it is in the middle", async || (sql(stuck).await == "1").then_some(())).await;
    running.kill().expect("it runs");
    running.wait().expect("it is gone");
    // Nobody is told to a server that is asleep.
    let wake = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() \
                AND wait_event = 'PgSleep'";
    sql(wake).await;
    assert_eq!(sql("SELECT count(*) FROM send.events").await, "1000");
    sql("DROP TRIGGER stumble ON send.events").await;

    // Somebody changes what is there already: it is found, and nothing counts as moved.
    let falsified = "UPDATE send.events SET sender_id = gen_random_uuid() WHERE message_no = 7";
    sql("CREATE TABLE kept AS SELECT * FROM send.events WHERE message_no = 7").await;
    sql(falsified).await;
    let found = eventually("the lock of the killed one is free", async || {
        let said = run(moves()).await.expect_err("a row is another");
        (!said.contains("another move")).then_some(said)
    })
    .await;
    assert!(found.contains("send.events is not the same on both sides"), "{found}");
    assert!(run(moves()).await.is_err(), "nor the next time");
    sql("UPDATE send.events e SET sender_id = kept.sender_id FROM kept WHERE e.message_no = 7").await;
    let said = run(moves()).await.unwrap_or_else(|said| panic!("{said}"));
    assert!(said.contains("receiver.positions"), "{said}");
    assert_eq!(sql(rows).await, all);

    // The old server goes on by mistake: that is noticed.
    old.start_again().await;
    old.person("erin").await;
    old.stop().await;
    let said = run(moves()).await.expect_err("it was used since");
    assert!(said.contains("was written to in SQLite after it had been moved"), "{said}");
}
