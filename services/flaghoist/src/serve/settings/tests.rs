//! Settings are read as they are documented, and every mistake is told at once.

use super::*;
use crate::serve::flags::{Common, OfAll, OfOne};

fn nothing() -> BTreeMap<String, String> {
    BTreeMap::new()
}

fn given<'a>(settings: impl IntoIterator<Item = (&'a str, &'a str)>) -> BTreeMap<String, String> {
    settings.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn processes() -> impl Iterator<Item = Process> {
    std::iter::once(Process::All).chain(Service::ALL.map(Process::One))
}

#[test]
fn every_setting_has_a_default_that_it_accepts() {
    let settings = Settings::from(Process::All, &[], nothing()).unwrap();
    assert_eq!(settings.data, PathBuf::from("./data"));
    assert_eq!(settings.ports.grpc.to_string(), "127.0.0.1:9000");
    assert!(settings.ports.internal.is_none() && settings.peers.is_empty());
    assert_eq!(settings.issuer, "http://localhost:8080");
    assert_eq!(settings.grace, Duration::from_secs(30));
    let send = Settings::from(Process::One(Service::Send), &[], nothing()).unwrap();
    assert_eq!(send.ports.grpc.to_string(), "0.0.0.0:9000");
    assert_eq!(send.ports.internal.unwrap().to_string(), "127.0.0.1:9001");
    assert_eq!(send.peers[&Service::Login].to_string(), "http://login:9001/");
    // Given as they are documented they are accepted as well, also those that other processes read.
    let documented = |settings: Vec<Vec<Setting>>| {
        let settings = settings.into_iter().flatten().filter(|setting| !setting.default.is_empty());
        settings.map(|setting| (setting.name.to_owned(), setting.default.to_owned())).collect::<BTreeMap<_, _>>()
    };
    for process in processes() {
        Settings::from(process, &[], documented(read_by(process))).unwrap();
    }
    for service in Service::ALL {
        Settings::from(Process::One(service), &[], documented(all())).unwrap();
    }
}

#[test]
fn every_mistake_is_reported_at_once_in_the_words_that_were_used() {
    let common = Common { grpc_addr: Some("nowhere".into()), ..Common::default() };
    let flags = OfAll { common, ..OfAll::default() }.named();
    let environment = given([
        ("FLAGHOIST_SERVE_GRACE", "soon"),
        ("FLAGHOIST_SERVE_ISSUER", "not an address"),
        ("FLAGHOIST_SERVE_DATTA", "/tmp"),
        ("FLAGHOIST_SEND_GRPC_ADDR", "127.0.0.1:1"),
        ("FLAGHOIST_SERVER", "http://127.0.0.1:9000"),
    ]);
    let failure = Settings::from(Process::All, &flags, environment).unwrap_err();
    assert_eq!(failure.exit, Exit::Usage);
    for part in [
        "--grpc-addr",
        "FLAGHOIST_SERVE_GRACE",
        "FLAGHOIST_SERVE_ISSUER",
        "is FLAGHOIST_SERVE_DATA meant?",
        "is FLAGHOIST_SERVE_GRPC_ADDR meant?",
    ] {
        assert!(failure.message.contains(part), "{part} is missing: {}", failure.message);
    }
    assert!(!failure.message.contains("FLAGHOIST_SERVER:"), "{}", failure.message);
}

#[test]
fn the_mistakes_of_a_single_service_are_reported_too() {
    let flags = OfOne { http_addr: Some("127.0.0.1:0".into()), ..OfOne::default() }.named();
    let environment = given([
        ("FLAGHOIST_SEND_LOGIN_ADDR", "https://login:9001"),
        ("FLAGHOIST_SEND_RECEIVER_ADDR", "receiver:9001"),
        ("FLAGHOIST_SEND_INTERNAL_CREDENTIAL_FILE", "/no/such/file"),
        ("FLAGHOIST_SEND_INTERNAL_ADR", "127.0.0.1:0"),
        ("FLAGHOIST_AUTH_GRPC_ADDR", "127.0.0.1:0"),
    ]);
    let failure = Settings::from(Process::One(Service::Send), &flags, environment).unwrap_err();
    for part in [
        "--http-addr: this service has no such port",
        "FLAGHOIST_SEND_LOGIN_ADDR",
        "FLAGHOIST_SEND_RECEIVER_ADDR",
        "cannot read the credential file",
        "is FLAGHOIST_SEND_INTERNAL_ADDR meant?",
    ] {
        assert!(failure.message.contains(part), "{part} is missing: {}", failure.message);
    }
    assert!(!failure.message.contains("FLAGHOIST_AUTH_GRPC_ADDR:"), "{}", failure.message);
}

#[test]
fn pods_that_share_a_store_must_be_given_the_key_that_they_share() {
    let store = ("FLAGHOIST_AUTH_STORE", "postgres://auth:hidden@db:5432/flaghoist");
    let failure = Settings::from(Process::One(Service::Auth), &[], given([store])).unwrap_err();
    assert!(failure.message.contains("FLAGHOIST_AUTH_SECRET_FILE"), "{}", failure.message);
    assert!(!failure.message.contains("hidden"), "{}", failure.message);
    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&key, [7; 32]).unwrap();
    let with_key = given([store, ("FLAGHOIST_AUTH_SECRET_FILE", key.path().to_str().unwrap())]);
    let settings = Settings::from(Process::One(Service::Auth), &[], with_key).unwrap();
    assert!(!settings.uses_folder, "a root file system that is read only will do");
    // One process with all services has the key in its folder, wherever the stores are.
    assert!(Settings::from(Process::All, &[], given([store])).unwrap().uses_folder);
}

#[test]
fn files_with_secrets_that_cannot_be_used_are_reported_with_every_other_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let data = folder.path().to_str().unwrap();
    std::fs::write(file("short.key"), "short").unwrap();
    std::fs::write(file("good.key"), [7; 32]).unwrap();
    let seals = format!("{},{},{}", file("good.key"), file("no.key"), file("short.key"));
    let environment = given([
        ("FLAGHOIST_SERVE_DATA", data),
        ("FLAGHOIST_SERVE_SECRET_FILE", &file("none.key")),
        ("FLAGHOIST_AUTH_SEAL_FILES", &seals),
        ("FLAGHOIST_LOGIN_SEAL_FILES", &file("nothing.key")),
        ("FLAGHOIST_LOGIN_SMTP_USER", "chat"),
        ("FLAGHOIST_LOGIN_SMTP_PASSWORD_FILE", &file("password")),
        ("FLAGHOIST_SERVE_GRACE", "soon"),
    ]);
    let failure = Settings::from(Process::All, &[], environment).unwrap_err();
    assert_eq!(failure.exit, Exit::Usage);
    for (name, told) in [
        ("FLAGHOIST_SERVE_SECRET_FILE", "none.key: is it there, and may this user read it?"),
        ("FLAGHOIST_AUTH_SEAL_FILES", "no.key: is it there"),
        ("FLAGHOIST_AUTH_SEAL_FILES", "short.key does not hold 32 bytes"),
        ("FLAGHOIST_LOGIN_SEAL_FILES", "nothing.key: is it there"),
        ("FLAGHOIST_LOGIN_SMTP_PASSWORD_FILE", "cannot read the password in"),
        ("FLAGHOIST_SERVE_GRACE", "soon"),
    ] {
        let found = failure.message.lines().any(|line| line.contains(&format!("{name}: ")) && line.contains(told));
        assert!(found, "{name} … {told}: {}", failure.message);
    }
    assert!(!failure.message.contains("good.key"), "{}", failure.message);

    // The folder's own key file is made by the first start, also where it is named.
    for name in ["FLAGHOIST_SERVE_SECRET_FILE", "FLAGHOIST_AUTH_SEAL_FILES"] {
        Settings::from(Process::All, &[], given([("FLAGHOIST_SERVE_DATA", data), (name, &file("secret.key"))]))
            .unwrap();
    }
    // A service by itself reads its own files and not those of others.
    let of_others = given([("FLAGHOIST_SEND_DATA", data), ("FLAGHOIST_AUTH_SEAL_FILES", &seals)]);
    Settings::from(Process::One(Service::Send), &[], of_others).unwrap();
    let own = given([("FLAGHOIST_AUTH_DATA", data), ("FLAGHOIST_AUTH_SEAL_FILES", &seals)]);
    assert!(Settings::from(Process::One(Service::Auth), &[], own).is_err());
}

#[test]
fn a_flag_goes_before_the_environment() {
    let common = Common { data: Some("/one".into()), ..Common::default() };
    let flags = OfAll { common: common.clone(), ..OfAll::default() }.named();
    let environment = given([("FLAGHOIST_SERVE_DATA", "/two"), ("FLAGHOIST_AUTH_STORE", "sqlite")]);
    assert_eq!(Settings::from(Process::All, &flags, environment).unwrap().data, PathBuf::from("/one"));
    let flags = OfOne { common, ..OfOne::default() }.named();
    let environment = given([("FLAGHOIST_SEND_DATA", "/two")]);
    assert_eq!(Settings::from(Process::One(Service::Send), &flags, environment).unwrap().data, PathBuf::from("/one"));
}

#[test]
fn settings_are_named_after_who_reads_them_and_only_once() {
    let mut names = std::collections::BTreeSet::new();
    let readers = ["SERVE", "AUTH", "AUTH", "LOGIN", "LOGIN", "SEND", "SEND", "RECEIVER", "RECEIVER"];
    let table = markdown();
    for (settings, reader) in all().iter().zip(readers) {
        for setting in settings {
            assert!(setting.name.starts_with(&format!("FLAGHOIST_{reader}_")), "{}", setting.name);
            assert!(!setting.doc.is_empty(), "{} is not explained", setting.name);
            assert!(names.insert(setting.name), "{} is there twice", setting.name);
            assert!(table.contains(setting.name), "{}", setting.name);
        }
    }
    for process in processes() {
        let help = help(process);
        assert!(read_by(process).iter().flatten().all(|setting| help.contains(setting.name)));
    }
}

#[test]
fn every_flag_stands_for_a_setting() {
    for flag in OfAll::default().named() {
        assert!(Keys::of(Process::All).named(flag.key).is_some(), "{}", flag.name);
    }
    for flag in OfOne::default().named() {
        assert!(Keys::of(Process::One(Service::Auth)).named(flag.key).is_some(), "{}", flag.name);
    }
}
