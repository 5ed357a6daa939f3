//! What is refused before a server is asked, and what help says.

use crate::stage::{flaghoist, stderr};

fn code(arguments: &[&str]) -> (Option<i32>, String) {
    let place = tempfile::tempdir().unwrap();
    let output = flaghoist().args(arguments).env("XDG_CONFIG_HOME", place.path()).output().unwrap();
    (output.status.code(), stderr(&output))
}

#[test]
fn wrong_use_ends_with_64() {
    for arguments in [
        &["no-such-command"][..],
        &[],
        &["send", "bob", "hi"],
        &["send", "@bob"],
        &["whoami", "--profile", "../elsewhere"],
        &["register", "alice", "--server", "localhost:9000", "--password-file", "-"],
        &["history", "@bob", "--limit", "0"],
    ] {
        assert_eq!(code(arguments).0, Some(64), "{arguments:?}");
    }
}

#[test]
fn bad_settings_are_listed_all_at_once_with_64() {
    let place = tempfile::tempdir().unwrap();
    let output = flaghoist()
        .args(["serve", "--grpc-addr", "nowhere"])
        .env("FLAGHOIST_SERVE_GRACE", "soon")
        .env("FLAGHOIST_LOGIN_REGISTRATIONS", "open")
        .env("FLAGHOIST_SERVE_DATA", place.path())
        .env("FLAGHOIST_SERVE_SECRET_FILE", "/no/such.key")
        .env("FLAGHOIST_LOGIN_SEAL_FILES", "/no/such/seal.key")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64));
    for part in [
        "--grpc-addr",
        "FLAGHOIST_SERVE_GRACE",
        "FLAGHOIST_LOGIN_REGISTRATION meant?",
        "FLAGHOIST_SERVE_SECRET_FILE: cannot read the key file /no/such.key",
        "FLAGHOIST_LOGIN_SEAL_FILES: cannot read the key file /no/such/seal.key",
    ] {
        assert!(stderr(&output).contains(part), "{part} is missing: {}", stderr(&output));
    }
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0, "nothing was begun");
}

#[test]
fn a_server_that_is_not_there_ends_with_69_and_says_what_to_start() {
    let place = tempfile::tempdir().unwrap();
    let password = place.path().join("password");
    std::fs::write(&password, "seven green pelicans").unwrap();
    let (code, message) =
        code(&["login", "alice", "--server", "http://127.0.0.1:1", "--password-file", password.to_str().unwrap()]);
    assert_eq!(code, Some(69), "{message}");
    assert!(message.contains("is `flaghoist serve` running?"), "{message}");
}

#[test]
fn someone_who_is_not_signed_in_is_told_how_with_77() {
    let (code, message) = code(&["whoami"]);
    assert_eq!(code, Some(77));
    assert!(message.contains("flaghoist login"), "{message}");
}

#[test]
fn without_a_terminal_a_password_needs_a_file() {
    // A session of its own has no terminal, wherever the test runs.
    let output = std::process::Command::new("setsid")
        .args(["--wait", env!("CARGO_BIN_EXE_flaghoist"), "login", "alice"])
        .env("XDG_CONFIG_HOME", std::env::temp_dir())
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64), "{}", stderr(&output));
    assert!(stderr(&output).contains("--password-file"), "{}", stderr(&output));
}

#[test]
fn half_a_command_of_a_script_starts_no_service_and_says_how_one_is() {
    let place = tempfile::tempdir().unwrap();
    for name in ["login", "send"] {
        // A service would not end by itself.
        let output = std::process::Command::new("timeout")
            .args(["20", env!("CARGO_BIN_EXE_flaghoist"), name])
            .current_dir(place.path())
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(64), "{message}");
        assert!(message.contains("required arguments"), "{message}");
        assert!(message.contains(&format!("`flaghoist service {name}` runs the service")), "{message}");
    }
    // What sets a service up says that it is meant; here so that it does not start.
    let set_up = flaghoist().arg("login").env("FLAGHOIST_LOGIN_GRPC_ADDR", "nowhere").output().unwrap();
    assert!(stderr(&set_up).contains("FLAGHOIST_LOGIN_GRPC_ADDR"), "{}", stderr(&set_up));
    let by_flag = flaghoist().args(["send", "--grpc-addr", "nowhere"]).output().unwrap();
    assert!(stderr(&by_flag).contains("--grpc-addr"), "{}", stderr(&by_flag));
}

#[test]
fn a_move_says_what_is_missing_before_it_begins_anything() {
    let place = tempfile::tempdir().unwrap();
    let from = format!("sqlite://{}", place.path().display());
    let moves = |more: &[&str]| code(&[&["admin", "migrate-store", "--from", &from], more].concat());
    let to = ["--to", "postgres://flaghoist:hunter2@127.0.0.1:1/flaghoist"];
    let says = |(code, message): (Option<i32>, String), expected: i32, part: &str| {
        assert_eq!(code, Some(expected), "{message}");
        assert!(message.contains(part) && !message.contains("hunter2"), "{message}");
    };
    says(moves(&to), 65, "auth.db: is this the data folder of the server?");
    for name in ["auth.db", "login.db", "send.db", "receiver.db"] {
        std::fs::write(place.path().join(name), "").unwrap();
    }
    says(moves(&to), 65, "there is no key file");
    std::fs::write(place.path().join("secret.key"), [7; 32]).unwrap();
    says(moves(&[]), 64, "where is auth to go?");
    says(moves(&["--to", "sqlite"]), 64, "--to postgres://");
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 5, "nothing was made");
    says(moves(&to), 1, "cannot use the PostgreSQL database 127.0.0.1:1/flaghoist");
}

#[test]
fn every_command_has_help_with_an_example_and_the_exit_codes_are_told() {
    let help = |arguments: &[&str]| {
        let output = flaghoist().args(arguments).arg("--help").output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stdout).unwrap()
    };
    for command in [
        "serve",
        "service",
        "register",
        "login",
        "whoami",
        "send",
        "listen",
        "history",
        "conversations",
        "read",
        "sessions",
        "logout",
        "completions",
    ] {
        assert!(help(&[command]).contains(&format!("flaghoist {command}")), "{command}");
        assert!(help(&[command]).contains("Example"), "{command}");
    }
    for service in ["auth", "receiver"] {
        assert!(help(&[service]).contains("FLAGHOIST_SEND_LOGIN_ADDR"), "{service}");
    }
    assert!(help(&[]).contains("69  the server cannot be reached"));
    let serve = help(&["serve"]);
    for part in
        ["FLAGHOIST_SERVE_DATA", "FLAGHOIST_AUTH_", "FLAGHOIST_LOGIN_", "FLAGHOIST_SEND_", "FLAGHOIST_RECEIVER_"]
    {
        assert!(serve.contains(part), "{part}");
    }
}

#[test]
fn version_settings_and_completions_are_printed() {
    let print = |arguments: &[&str]| String::from_utf8(flaghoist().args(arguments).output().unwrap().stdout).unwrap();
    assert_eq!(print(&["--version"]), concat!("flaghoist ", env!("CARGO_PKG_VERSION"), "\n"));
    assert!(print(&["settings"]).starts_with("| setting |"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(print(&["completions", shell]).contains("whoami"), "{shell}");
    }
}

#[test]
fn the_table_of_settings_is_the_one_that_the_program_prints() {
    let output = flaghoist().arg("settings").output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let kept = include_str!("../../SETTINGS.md");
    let table = &kept[kept.find("| setting |").unwrap()..];
    assert_eq!(table, printed, "write the output of `flaghoist settings` into SETTINGS.md");
}
