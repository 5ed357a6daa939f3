//! `serve` as an operator meets it: its ports, its data folder, its end.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

use crate::stage::{Listening, PASSWORD, Server, Stage, flaghoist, stderr};

fn get(address: &str, path: &str) -> String {
    let host = address.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_data_folder_in_use_is_refused_with_the_pid_of_its_user() {
    let stage = Stage::new(&[]);
    let second = flaghoist()
        .args(["serve", "--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--metrics-addr", "127.0.0.1:0"])
        .arg("--data")
        .arg(stage.data())
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(73));
    let pid = stage.server.process.id();
    assert!(stderr(&second).contains(&format!("in use by process {pid}")), "{}", stderr(&second));
    // The first one did not notice.
    stage.registers("alice");
    let restored = flaghoist().args(["admin", "restored", "--data"]).arg(stage.data()).output().unwrap();
    assert_eq!(restored.status.code(), Some(73));
    assert_eq!(std::fs::metadata(stage.data()).unwrap().permissions().mode() & 0o777, 0o700);
    for entry in std::fs::read_dir(stage.data()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{entry:?} is for its owner alone");
    }
}

#[test]
fn every_port_answers_and_says_that_it_is_ready() {
    let stage = Stage::new(&[]);
    stage.registers("alice");
    assert!(get(&stage.server.address("http"), "/healthz").contains("200 OK"));
    let metrics = stage.server.address("metrics");
    assert!(get(&metrics, "/readyz").contains("200 OK"));
    assert!(get(&metrics, "/healthz").contains("200 OK"));
    assert!(get(&metrics, "/metrics").contains("200 OK"));
    assert!(get(&stage.server.address("http"), "/oauth2/jwks").contains("\"keys\""));
    assert_eq!(stage.server.address("issuer"), "http://localhost:8080");
    let tries = stage.server.said.iter().filter(|line| line.starts_with("  ")).count();
    assert_eq!(tries, 3, "{:?}", stage.server.said);
}

#[test]
fn the_log_is_an_object_a_line_where_json_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = tempfile::NamedTempFile::new().unwrap();
    let ports = ["--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--metrics-addr", "127.0.0.1:0"];
    let mut command = flaghoist();
    command.args(["serve", "--log-format", "json"]).args(ports).arg("--data").arg(folder.path());
    let mut process = command.stderr(log.reopen().unwrap()).spawn().unwrap();
    let mut said = [0; 5];
    process.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
    assert_eq!(&said, b"grpc ", "it is ready");
    kill_process(Pid::from_child(&process), Signal::TERM).unwrap();
    assert_eq!(process.wait().unwrap().code(), Some(0));
    let mut text = String::new();
    log.read_to_string(&mut text).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect();
    let whole = |line: &serde_json::Value| ["timestamp", "level", "target"].iter().all(|name| line[name].is_string());
    assert!(!lines.is_empty() && lines.iter().all(whole), "{text}");
    assert!(text.contains("stopped"), "{text}");
}

#[test]
fn what_was_stored_is_there_after_a_stop_and_a_start() {
    let mut stage = Stage::new(&[]);
    stage.registers("alice");
    stage.registers("bob");
    stage.does("alice", &["send", "@bob", "hi"]);
    let grpc = stage.server.address("grpc");
    stage.server.signal(Signal::TERM);
    assert_eq!(stage.server.ends().code(), Some(0));
    let at = grpc.strip_prefix("http://").unwrap().to_owned();
    stage.server = Server::start_at(&stage.data(), &at, &[]);
    let history = stage.does("bob", &["history", "@alice"]);
    assert_eq!(history.iter().map(|message| &message["text"]).collect::<Vec<_>>(), ["hi"]);
}

#[test]
fn a_stop_with_an_open_stream_ends_within_the_grace_and_a_second_signal_at_once() {
    let mut stage = Stage::new(&[("FLAGHOIST_SERVE_GRACE", "60s")]);
    stage.registers("alice");
    let listening = Listening::start(&stage, "alice", &[]);
    listening.next("caught_up");
    stage.server.signal(Signal::TERM);
    stage.server.signal(Signal::INT);
    assert_eq!(stage.server.ends().code(), Some(0));
}

#[test]
fn a_stop_loses_nobody() {
    let mut stage = Stage::new(&[("FLAGHOIST_SERVE_GRACE", "60s"), ("FLAGHOIST_RECEIVER_RECONNECT_SPREAD", "1s")]);
    stage.registers("alice");
    stage.registers("bob");
    let mut listening = Listening::start(&stage, "bob", &[]);
    listening.next("caught_up");
    stage.does("alice", &["send", "@bob", "before"]);
    assert_eq!(listening.next("message")["text"], "before");
    let at = stage.server.address("grpc").strip_prefix("http://").unwrap().to_owned();
    // The stream is told to go, so the stop needs no more than a part of the grace.
    stage.server.signal(Signal::TERM);
    assert_eq!(stage.server.ends().code(), Some(0));
    stage.server = Server::start_at(&stage.data(), &at, &[]);
    stage.does("alice", &["send", "@bob", "after"]);
    assert_eq!(listening.next("message")["text"], "after");
    assert_eq!(listening.stops(), Some(0));
}

#[test]
fn the_first_admin_is_made_on_the_servers_machine() {
    let stage = Stage::new(&[]);
    stage.registers("alice");
    assert_eq!(stage.does("alice", &["whoami"])[0]["admin"], false);
    let grant =
        |handle: &str| flaghoist().args(["admin", "grant", handle, "--data"]).arg(stage.data()).output().unwrap();
    let granted = grant("Alice");
    assert!(granted.status.success(), "{}", stderr(&granted));
    stage.with_password("alice", &["login", "alice"], PASSWORD);
    assert_eq!(stage.does("alice", &["whoami"])[0]["admin"], true);
    assert_eq!(grant("nobody").status.code(), Some(65));
    assert_eq!(
        flaghoist().args(["admin", "grant", "a", "--data", "/no/such"]).output().unwrap().status.code(),
        Some(65)
    );
}

#[test]
fn a_backup_is_made_beside_the_server_and_in_the_place_of_nothing() {
    let stage = Stage::new(&[]);
    stage.registers("alice");
    let (to, other) = (stage.folder.path().join("backup"), stage.folder.path().join("other"));
    let backup = |to: &Path, stores: &[(&str, &str)]| {
        let mut command = flaghoist();
        command.args(["admin", "backup"]).arg(to).arg("--data").arg(stage.data()).envs(stores.iter().copied());
        command.output().unwrap()
    };
    let made = backup(&to, &[]);
    assert!(made.status.success(), "{}", stderr(&made));
    let names = |folder: &Path| {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
        let mut names = Vec::new();
        for entry in entries {
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{entry:?} is for its owner alone");
            names.push(entry.file_name().into_string().unwrap());
        }
        names.sort();
        names
    };
    assert_eq!(names(&to), ["auth.db", "login.db", "receiver.db", "secret.key", "send.db"]);
    assert_eq!(std::fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o700);
    let again = backup(&to, &[]);
    assert_eq!(again.status.code(), Some(73));
    assert!(stderr(&again).contains("there already"), "{}", stderr(&again));

    // An attempt that was killed is in nobody's way, and what is elsewhere is told of.
    std::fs::create_dir(stage.folder.path().join("other.partial")).unwrap();
    std::fs::write(stage.folder.path().join("other.partial/send.db"), "half").unwrap();
    let made = backup(&other, &[("FLAGHOIST_SEND_STORE", "postgres://send@nowhere/send")]);
    assert!(made.status.success() && stderr(&made).contains("send is in PostgreSQL"), "{}", stderr(&made));
    assert_eq!(names(&other), ["auth.db", "login.db", "receiver.db", "secret.key"]);
    let empty = flaghoist().args(["admin", "backup", "x", "--data"]).arg(stage.folder.path()).output().unwrap();
    assert_eq!(empty.status.code(), Some(65));
    assert!(stderr(&empty).contains("no store"), "{}", stderr(&empty));
    let nowhere = backup(&stage.folder.path().join("no/such/folder"), &[]);
    assert!(nowhere.status.success(), "folders above it are made: {}", stderr(&nowhere));
}
