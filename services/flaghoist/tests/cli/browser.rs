//! `flaghoist login --browser`, with a browser of the least kind: it keeps cookies, and sends forms.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Child;

use serde_json::Value;

use crate::stage::{PASSWORD, Stage};

/// What the server calls itself if nobody says otherwise.
const ISSUER: &str = "http://localhost:8080";

struct Browser {
    host: String,
    cookies: BTreeMap<String, String>,
}

struct Page {
    location: String,
    text: String,
}

impl Page {
    /// The value of a hidden field.
    fn field(&self, name: &str) -> String {
        let value = self.text.split(&format!("name=\"{name}\" value=\"")).nth(1);
        value.unwrap_or_else(|| panic!("no {name}: {}", self.text)).split('"').next().unwrap().to_owned()
    }
}

fn escape(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

impl Browser {
    fn new(stage: &Stage) -> Self {
        let host = stage.server.address("http").strip_prefix("http://").unwrap().to_owned();
        Self { host, cookies: BTreeMap::new() }
    }

    fn get(&mut self, address: &str) -> Page {
        self.send("GET", address, "")
    }

    fn post(&mut self, path: &str, form: &[(&str, &str)]) -> Page {
        let pairs: Vec<_> = form.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect();
        self.send("POST", path, &pairs.join("&"))
    }

    fn send(&mut self, method: &str, address: &str, body: &str) -> Page {
        let (host, path) = (&self.host, address.strip_prefix(ISSUER).unwrap_or(address));
        let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut stream = TcpStream::connect(host).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncookie: {}\r\n\
             content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{body}",
            cookies.join("; "),
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, text) = answer.split_once("\r\n\r\n").unwrap();
        let mut location = String::new();
        for line in head.lines() {
            let (name, value) = line.split_once(": ").unwrap_or((line, ""));
            match name.to_ascii_lowercase().as_str() {
                "location" => location = value.to_owned(),
                "set-cookie" => {
                    let (name, value) = value.split(';').next().unwrap().split_once('=').unwrap();
                    self.cookies.insert(name.to_owned(), value.to_owned());
                }
                _ => {}
            }
        }
        Page { location, text: text.to_owned() }
    }

    /// Opens the address, signs in as `handle`, and answers the question.
    fn decides(&mut self, address: &str, handle: &str, decision: &str) -> String {
        let page = self.get(address);
        let typed = [("token", page.field("token")), ("user_code", page.field("user_code"))];
        let to_login = self.post("/device", &typed.each_ref().map(|(name, value)| (*name, value.as_str())));
        let page = self.get(&to_login.location);
        let hidden = [("login_challenge", page.field("login_challenge")), ("token", page.field("token"))];
        let mut form: Vec<_> = hidden.iter().map(|(name, value)| (*name, value.as_str())).collect();
        form.extend([("handle", handle), ("password", PASSWORD), ("decision", "sign_in")]);
        let on = self.post("/login", &form);
        let question = self.get(&on.location);
        let challenge = question.field("login_challenge");
        self.post("/oauth2/consent", &[("login_challenge", &challenge), ("decision", decision)]).text
    }
}

/// Starts the command, and answers it and where it wants a browser to go.
fn begins(stage: &Stage, profile: &str) -> (Child, BufReader<std::process::ChildStdout>, String) {
    let mut process = stage.command(profile, &["login", "--browser", "--json"]).spawn().unwrap();
    let mut out = BufReader::new(process.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    let said: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(said["verification_uri"], format!("{ISSUER}/device"));
    (process, out, said["verification_uri_complete"].as_str().unwrap().to_owned())
}

#[test]
fn a_person_signs_in_by_a_browser_without_a_password_here() {
    let stage = Stage::new(&[]);
    let alice = stage.registers("alice");
    let (mut process, mut out, address) = begins(&stage, "server-room");
    let done = Browser::new(&stage).decides(&address, "alice", "allow");
    assert!(done.contains("The device is connected"), "{done}");
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert!(process.wait().unwrap().success());
    let said: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&said["user"], &said["handle"]), (&alice["user"], &"alice".into()));
    let who = &stage.does("server-room", &["whoami"])[0];
    assert_eq!((&who["user"], &who["session"]), (&alice["user"], &said["session"]));
    assert_eq!(stage.does("alice", &["sessions"]).len(), 2);
    stage.does("server-room", &["logout"]);
    assert_eq!(stage.does("alice", &["sessions"]).len(), 1);
}

#[test]
fn case_54_who_refuses_in_the_browser_ends_the_command() {
    let stage = Stage::new(&[]);
    stage.registers("alice");
    let (process, _out, address) = begins(&stage, "server-room");
    Browser::new(&stage).decides(&address, "alice", "deny");
    let output = process.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(77) && text.contains("refused in the browser"), "{text}");
    assert_eq!(stage.run("server-room", &["whoami"]).status.code(), Some(77));
}

#[test]
fn a_browser_and_a_handle_do_not_go_together() {
    let stage = Stage::new(&[]);
    for arguments in [&["login", "alice", "--browser"][..], &["login", "--browser", "--password-file", "-"]] {
        assert_eq!(stage.run("alice", arguments).status.code(), Some(64), "{arguments:?}");
    }
}
