//! Settings are read, and their mistakes told all at once.

use super::*;

const QUEUE: Setting = Setting { name: "FLAGHOIST_SEND_QUEUE", default: "100", doc: "How many calls wait." };
const TTL: Setting = Setting { name: "FLAGHOIST_AUTH_TOKEN_TTL", default: "300s", doc: "How long a token lives." };
const OPEN: Setting = Setting { name: "FLAGHOIST_LOGIN_OPEN", default: "true", doc: "Whether | anyone may join." };
const ISSUER: Setting = Setting { name: "FLAGHOIST_ISSUER", default: "http://localhost:8080", doc: "The issuer." };
const LOGS: Setting = Setting { name: "FLAGHOIST_LOG_FORMAT", default: "text", doc: "How logs look." };

type Read = (u32, Duration, bool, String, u8);

fn read(given: &[(&str, &str)]) -> (Read, Result<(), Mistakes>) {
    let source = given.iter().copied().collect::<BTreeMap<&str, &str>>();
    let mut reader = Reader::new(&source);
    let read = (
        reader.number(&QUEUE, 1..=1000u32),
        reader.duration(&TTL, Duration::from_secs(1)..=Duration::from_secs(3600)),
        reader.flag(&OPEN),
        reader.url(&ISSUER),
        reader.choice(&LOGS, &[("text", 1u8), ("json", 2)]),
    );
    (read, reader.finish())
}

#[test]
fn defaults_hold_where_nothing_is_given() {
    let (read, mistakes) = read(&[("PATH", "/bin")]);
    assert_eq!(read, (100, Duration::from_secs(300), true, "http://localhost:8080".into(), 1));
    assert_eq!(mistakes, Ok(()));
}

#[test]
fn what_is_given_holds() {
    let (read, mistakes) = read(&[
        ("FLAGHOIST_SEND_QUEUE", "7"),
        ("FLAGHOIST_AUTH_TOKEN_TTL", " 1500ms "),
        ("FLAGHOIST_LOGIN_OPEN", "false"),
        ("FLAGHOIST_ISSUER", "https://chat.example.com/"),
        ("FLAGHOIST_LOG_FORMAT", "json"),
    ]);
    assert_eq!(read, (7, Duration::from_millis(1500), false, "https://chat.example.com".into(), 2));
    assert_eq!(mistakes, Ok(()));
}

#[test]
fn every_mistake_is_told_at_once() {
    let (read, mistakes) = read(&[
        ("FLAGHOIST_SEND_QUEUE", "0"),
        ("FLAGHOIST_AUTH_TOKEN_TTL", "5"),
        ("FLAGHOIST_LOGIN_OPEN", "maybe"),
        ("FLAGHOIST_ISSUER", "chat.example.com"),
        ("FLAGHOIST_LOG_FORMAT", "xml"),
        ("FLAGHOIST_SEND_QUEU", "1"),
        ("FLAGHOIST_ANYTHING_ELSE", "1"),
    ]);
    assert_eq!(read, (100, Duration::from_secs(300), true, "http://localhost:8080".into(), 1));
    let mistakes = mistakes.unwrap_err();
    let told = mistakes.to_string();
    assert_eq!(mistakes.0.len(), 7, "{told}");
    assert!(told.contains("FLAGHOIST_SEND_QUEUE: \"0\" is not a number from 1 to 1000"), "{told}");
    assert!(told.contains("\"5\" is not a time from 1s to 1h, like 300s"), "{told}");
    assert!(told.contains("FLAGHOIST_SEND_QUEU: there is no such setting; is FLAGHOIST_SEND_QUEUE meant?"), "{told}");
    assert!(told.contains("FLAGHOIST_ANYTHING_ELSE: there is no such setting; --help lists them"), "{told}");
}

#[test]
fn times_are_written_as_they_are_read() {
    for text in ["250ms", "1s", "90s", "5m", "2h", "14d", "0ms"] {
        assert_eq!(duration_text(parse_duration(text).unwrap()), text);
    }
    for text in ["", "5", "s", "5 s", "-5s", "5w", "1.5s", "99999999999999999999s", "18446744073709551615d"] {
        assert_eq!(parse_duration(text), None, "{text:?}");
    }
}

#[test]
fn the_table_holds_every_setting() {
    let table = markdown(&[&[QUEUE, OPEN], &[TTL]]);
    assert!(table.contains("| `FLAGHOIST_SEND_QUEUE` | `100` | How many calls wait. |"), "{table}");
    assert!(table.contains("Whether \\| anyone"), "{table}");
    assert!(help(&[&[TTL]]).contains("FLAGHOIST_AUTH_TOKEN_TTL=300s"));
}

#[test]
fn what_kubernetes_puts_into_the_environment_is_no_mistake() {
    for name in [
        "FLAGHOIST_SEND_PORT",
        "FLAGHOIST_SEND_SERVICE_HOST",
        "FLAGHOIST_SEND_SERVICE_PORT",
        "FLAGHOIST_SEND_SERVICE_PORT_GRPC_PUBLIC",
        "FLAGHOIST_SEND_PORT_9000_TCP",
        "FLAGHOIST_SEND_PORT_9000_TCP_ADDR",
    ] {
        assert!(of_the_cluster(name), "{name}");
    }
    for name in
        ["FLAGHOIST_SEND_STORE", "FLAGHOIST_SEND_PORTS_MAX", "FLAGHOIST_SEND_PORT_MAX_TCP", "FLAGHOIST_SEND_GRPC_ADDR"]
    {
        assert!(!of_the_cluster(name), "{name}");
    }
}
