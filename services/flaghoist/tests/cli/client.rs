//! The client between two people, as scripts use it.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::stage::{Listening, PASSWORD, Server, Stage, stderr};

#[test]
fn two_people_register_send_listen_and_read_the_history() {
    let stage = Stage::new(&[]);
    let alice = stage.registers("alice");
    stage.registers("bob");
    assert_eq!(alice["handle"], "alice");
    assert_eq!(stage.does("alice", &["whoami"])[0]["user"], alice["user"]);

    let mut listening = Listening::start(&stage, "bob", &[]);
    listening.next("caught_up");
    let sent = stage.does("alice", &["send", "@bob", "hi", "--metadata", "colour=red"]).pop().unwrap();
    assert!(matches!(sent["status"].as_str(), Some("STORED" | "HANDED_OVER")), "{sent}");
    let heard = listening.next("message");
    assert_eq!((&heard["text"], &heard["handle"]), (&"hi".into(), &"alice".into()));
    assert_eq!(heard["metadata"]["colour"], "red");
    assert_eq!(heard["message"], sent["message"]);
    let conversation = sent["conversation"].as_str().unwrap();
    stage.does("alice", &["send", conversation, "once more"]);
    assert_eq!(listening.next("message")["text"], "once more");
    assert_eq!(listening.stops(), Some(0));

    let texts: Vec<Value> =
        stage.does("bob", &["history", "@alice"]).into_iter().map(|message| message["text"].clone()).collect();
    assert_eq!(texts, ["hi", "once more"]);
    let newest = stage.does("bob", &["history", "@alice", "--limit", "1"]);
    assert_eq!(newest[0]["text"], "once more");

    let conversations = stage.does("bob", &["conversations"]);
    assert_eq!(conversations.len(), 1);
    assert_eq!(conversations[0]["peer_handle"], "alice");
    assert_eq!(conversations[0]["unread_count"], 2);
    stage.does("bob", &["read", "@alice"]);
    assert_eq!(stage.does("bob", &["conversations"])[0]["unread_count"], 0);
}

#[test]
fn what_was_acknowledged_does_not_come_again() {
    let stage = Stage::new(&[]);
    stage.registers("alice");
    stage.registers("bob");
    stage.does("alice", &["send", "@bob", "one"]);
    let first = stage.does("bob", &["listen", "--count", "1"]);
    assert_eq!(first.iter().filter(|object| object["type"] == "message").count(), 1);
    stage.does("alice", &["send", "@bob", "two"]);
    let second = stage.does("bob", &["listen", "--until-caught-up"]);
    let texts: Vec<&Value> =
        second.iter().filter(|object| object["type"] == "message").map(|object| &object["text"]).collect();
    assert_eq!(texts, ["two"]);
    let third = stage.does("bob", &["listen", "--until-caught-up"]);
    assert_eq!(third.iter().filter(|object| object["type"] == "message").count(), 0);
}

#[test]
fn a_request_id_sends_once() {
    let stage = Stage::new(&[]);
    stage.registers("alice");
    stage.registers("bob");
    let first = stage.does("alice", &["send", "@bob", "hi", "--request-id", "build-7"]).pop().unwrap();
    let second = stage.does("alice", &["send", "@bob", "hi", "--request-id", "build-7"]).pop().unwrap();
    assert_eq!(first["message"], second["message"]);
    assert_eq!((&first["deduplicated"], &second["deduplicated"]), (&false.into(), &true.into()));
    let other = stage.run("alice", &["send", "@bob", "other", "--request-id", "build-7"]);
    assert_eq!(other.status.code(), Some(65), "{}", stderr(&other));
}

#[test]
fn a_terminal_is_not_commanded_by_what_others_write() {
    let stage = Stage::new(&[]);
    stage.registers("alice");
    stage.registers("bob");
    stage.does("alice", &["send", "@bob", "a\u{1b}[2J\nb"]);
    let output = stage.run("bob", &["history", "@alice"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("@alice: a\\u{1b}[2J\\nb\n"), "{text:?}");
    assert_eq!(stage.does("bob", &["history", "@alice"])[0]["text"], "a\u{1b}[2J\nb");
}

#[test]
fn groups_and_sessions() {
    let stage = Stage::new(&[]);
    for person in ["alice", "bob", "carol"] {
        stage.registers(person);
    }
    let group = stage.does("alice", &["group", "create", "Lunch", "@bob"]).pop().unwrap();
    let name = group["conversation"].as_str().unwrap();
    stage.does("alice", &["group", "add", name, "@carol"]);
    stage.does("carol", &["send", name, "hi all"]);
    let mut handles: Vec<String> = stage
        .does("bob", &["group", "members", name])
        .iter()
        .map(|member| member["handle"].as_str().unwrap().to_owned())
        .collect();
    handles.sort();
    assert_eq!(handles, ["alice", "bob", "carol"]);
    stage.does("carol", &["group", "leave", name]);
    assert_eq!(stage.run("carol", &["send", name, "still here?"]).status.code(), Some(65));

    let sessions = stage.does("alice", &["sessions"]);
    assert_eq!(sessions.len(), 1);
    assert_eq!(sessions[0]["current"], true);
}

#[test]
fn sessions_are_ended_one_by_one_or_everywhere_else() {
    let stage = Stage::new(&[]);
    stage.registers("alice");
    for place in ["laptop", "phone", "tablet"] {
        stage.with_password(place, &["login", "alice"], PASSWORD);
    }
    let listed = stage.does("laptop", &["sessions"]);
    let oldest = listed.last().unwrap()["session"].as_str().unwrap();
    stage.does("laptop", &["sessions", "--revoke", oldest]);
    assert_eq!(stage.run("alice", &["sessions"]).status.code(), Some(77), "it was hers");
    let ended = stage.does("laptop", &["account", "sessions", "--revoke-others"]).remove(0);
    assert_eq!(ended["revoked_count"], 2);
    assert_eq!(stage.does("laptop", &["sessions"]).len(), 1);
    for place in ["phone", "tablet"] {
        assert_eq!(stage.run(place, &["sessions"]).status.code(), Some(77), "{place}");
    }
    let both = stage.run("laptop", &["sessions", "--revoke-others", "--revoke", oldest]);
    assert_eq!(both.status.code(), Some(64), "{}", stderr(&both));
}

#[test]
fn signing_out_ends_the_session_and_forgets_the_tokens() {
    let stage = Stage::new(&[]);
    stage.registers("alice");
    let path = stage.profile("alice");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let before: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    stage.does("alice", &["logout"]);
    let after = std::fs::read_to_string(&path).unwrap();
    assert!(!after.contains(before["session"]["refresh_token"].as_str().unwrap()));
    assert_eq!(stage.run("alice", &["whoami"]).status.code(), Some(77));
    // The tokens are worth nothing any more, also to someone who kept them.
    std::fs::write(&path, before.to_string()).unwrap();
    let output = stage.run("alice", &["sessions"]);
    assert_eq!(output.status.code(), Some(77), "{}", stderr(&output));

    let wrong = stage.tries_password("alice", &["login", "alice"], "not the password");
    assert_eq!(wrong.status.code(), Some(77), "{}", stderr(&wrong));
    stage.with_password("alice", &["login", "alice"], PASSWORD);
    stage.does("alice", &["whoami"]);
}

#[test]
fn tokens_go_to_no_other_server() {
    let stage = Stage::new(&[]);
    stage.registers("alice");
    let output = stage.run("alice", &["whoami", "--server", "http://127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(77));
    assert!(stderr(&output).contains("is signed in at"), "{}", stderr(&output));
}

#[test]
fn bad_input_names_every_field() {
    let stage = Stage::new(&[]);
    let output = stage.tries_password("alice", &["register", &"a".repeat(65)], "short");
    assert_eq!(output.status.code(), Some(65));
    let message = stderr(&output);
    assert!(message.contains("handle: ") && message.contains("password: "), "{message}");
}

#[test]
fn commands_side_by_side_spend_a_refresh_token_once() {
    // Tokens that live shortly are renewed at nearly every call; a refresh token that was spent twice would end the session
    // once the ten seconds of grace are over.
    // As fast as the machine can, which may be more than a person may send.
    let stage = Stage::new(&[
        ("FLAGHOIST_AUTH_ACCESS_TOKEN_LIFETIME", "2s"),
        ("FLAGHOIST_SEND_RATE_PER_SECOND", "10000"),
        ("FLAGHOIST_SEND_RATE_BURST", "10000"),
    ]);
    stage.registers("alice");
    stage.registers("bob");
    let mut listening = Listening::start(&stage, "alice", &[]);
    listening.next("caught_up");
    let began = std::time::Instant::now();
    let mut sent = 0;
    while began.elapsed() < std::time::Duration::from_secs(13) {
        let running: Vec<_> = (0..4)
            .map(|number| stage.command("alice", &["send", "@bob", &format!("{sent}-{number}")]).spawn().unwrap())
            .collect();
        for process in running {
            let output = process.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", stderr(&output));
            sent += 1;
        }
    }
    assert!(listening.process.try_wait().unwrap().is_none(), "listening went on");
    for _ in 0..sent {
        listening.next("message");
    }
    assert_eq!(listening.stops(), Some(0));
}

#[test]
fn listening_goes_on_after_the_server_was_killed() {
    let mut stage = Stage::new(&[]);
    stage.registers("alice");
    stage.registers("bob");
    let mut listening = Listening::start(&stage, "bob", &[]);
    listening.next("caught_up");
    stage.does("alice", &["send", "@bob", "before"]);
    assert_eq!(listening.next("message")["text"], "before");
    let at = stage.server.address("grpc").strip_prefix("http://").unwrap().to_owned();
    stage.server.process.kill().unwrap();
    stage.server.process.wait().unwrap();
    stage.server = Server::start_at(&stage.data(), &at, &[]);
    stage.does("alice", &["send", "@bob", "after"]);
    assert_eq!(listening.next("message")["text"], "after");
    assert_eq!(listening.rest("message").len(), 0);
    assert_eq!(listening.stops(), Some(0));
}

#[test]
fn two_listeners_of_one_profile_do_not_fight() {
    let stage = Stage::new(&[]);
    stage.registers("alice");
    let mut first = Listening::start(&stage, "alice", &[]);
    first.next("caught_up");
    let mut second = Listening::start(&stage, "alice", &[]);
    second.next("caught_up");
    assert_eq!(first.ends(), Some(1));
    assert_eq!(second.stops(), Some(0));
}
