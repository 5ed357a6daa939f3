//! What the contracts must keep to, read from the descriptors that the server itself shows.

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use flaghoist_proto::{Access, DESCRIPTORS, METHODS};
use flaghoist_tests::release::Release;
use flaghoist_tests::skip;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor, Value,
};

fn pool() -> DescriptorPool {
    DescriptorPool::decode(DESCRIPTORS).expect("the descriptors can be decoded")
}

fn methods(pool: &DescriptorPool) -> Vec<MethodDescriptor> {
    let ours = pool.services().filter(|service| service.package_name().starts_with("flaghoist."));
    ours.flat_map(|service| service.methods().collect::<Vec<_>>()).collect()
}

fn path(method: &MethodDescriptor) -> String {
    format!("/{}/{}", method.parent_service().full_name(), method.name())
}

#[test]
fn every_method_says_who_may_call_it() {
    let pool = pool();
    let known: HashSet<&str> = METHODS.iter().map(|method| method.path).collect();
    let named: HashSet<String> = methods(&pool).iter().map(path).collect();
    assert!(!named.is_empty());
    assert_eq!(known, named.iter().map(String::as_str).collect());
    for method in METHODS {
        if let Access::Service(callers) = method.access {
            let services = ["auth", "login", "send", "receiver"];
            assert!(callers.iter().all(|caller| services.contains(caller)), "{}: {callers:?}", method.path);
        }
    }
}

#[test]
fn a_service_is_for_people_or_for_services_never_for_both() {
    for method in METHODS {
        let internal = |access| matches!(access, Access::Service(_));
        let others = METHODS.iter().filter(|other| other.service == method.service);
        let mixed = others.filter(|other| internal(other.access) != internal(method.access)).count();
        assert_eq!(mixed, 0, "{} has methods of both kinds", method.service);
    }
}

#[test]
fn every_unary_method_says_whether_it_may_be_repeated() {
    let missing: Vec<String> = methods(&pool())
        .iter()
        .filter(|method| !method.is_client_streaming() && !method.is_server_streaming())
        .filter(|method| {
            let options = method.method_descriptor_proto().options.as_ref();
            options.and_then(|options| options.idempotency_level).is_none()
        })
        .map(path)
        .collect();
    assert!(missing.is_empty(), "no idempotency_level: {missing:?}");
}

#[test]
fn every_method_has_a_request_and_a_response_of_its_own() {
    let mut seen = HashSet::new();
    for method in methods(&pool()) {
        for (message, suffix) in [(method.input(), "Request"), (method.output(), "Response")] {
            assert_eq!(message.name(), format!("{}{suffix}", method.name()), "{}", path(&method));
            assert!(seen.insert(message.full_name().to_owned()), "{} is used twice", message.full_name());
        }
    }
}

#[test]
fn every_method_begins_its_comment_with_its_name() {
    let pool = pool();
    let mut wrong = Vec::new();
    for file in pool.file_descriptor_protos().filter(|file| file.package().starts_with("flaghoist.")) {
        let locations = file.source_code_info.as_ref().expect("the build keeps the comments");
        for (service_no, service) in file.service.iter().enumerate() {
            for (method_no, method) in service.method.iter().enumerate() {
                let place = [6, service_no as i32, 2, method_no as i32];
                let location = locations.location.iter().find(|location| location.path == place);
                let comment = location.map(|location| location.leading_comments().trim()).unwrap_or_default();
                let begins = comment.strip_prefix(method.name()).is_some_and(|rest| rest.starts_with(' '));
                if !begins || !comment.ends_with('.') {
                    wrong.push(format!("{}.{}: {comment:?}", service.name(), method.name()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_field_of_a_request_has_a_bound() {
    let pool = pool();
    let mut unbounded = Vec::new();
    for method in methods(&pool) {
        let rule = flaghoist_proto::method(&path(&method)).expect("every method is known");
        // What the services hand on to one another was bounded where it came in.
        let nested = !matches!(rule.access, Access::Service(_));
        look(&pool, &method.input(), nested, &mut Vec::new(), &mut unbounded);
    }
    unbounded.sort();
    unbounded.dedup();
    assert!(unbounded.is_empty(), "no bound on: {unbounded:#?}");
}

fn look(
    pool: &DescriptorPool,
    message: &MessageDescriptor,
    nested: bool,
    within: &mut Vec<String>,
    unbounded: &mut Vec<String>,
) {
    if !message.package_name().starts_with("flaghoist.") || within.iter().any(|outer| outer == message.full_name()) {
        return;
    }
    within.push(message.full_name().to_owned());
    for field in message.fields() {
        if !bounded(pool, &field) {
            unbounded.push(field.full_name().to_owned());
        }
        if let (Kind::Message(inner), true) = (field.kind(), nested && !field.is_map()) {
            look(pool, &inner, nested, within, unbounded);
        }
    }
    within.pop();
}

fn bounded(pool: &DescriptorPool, field: &FieldDescriptor) -> bool {
    let extension = pool.get_extension_by_name("buf.validate.field").expect("the rules are imported");
    let options = field.options();
    let rules = options.has_extension(&extension).then(|| options.get_extension(&extension).into_owned());
    let rules = rules.as_ref().and_then(Value::as_message);
    if field.is_map() {
        let Some(map) = rules.and_then(|rules| inner(rules, "map")) else { return false };
        return has(&map, &["max_pairs"])
            && ["keys", "values"].iter().all(|part| inner(&map, part).is_some_and(|part| text_bounded(&part)));
    }
    if field.is_list() {
        let Some(list) = rules.and_then(|rules| inner(rules, "repeated")) else { return false };
        let text = matches!(field.kind(), Kind::String | Kind::Bytes);
        return has(&list, &["max_items"]) && (!text || inner(&list, "items").is_some_and(|part| text_bounded(&part)));
    }
    match field.kind() {
        Kind::String | Kind::Bytes => rules.is_some_and(text_bounded),
        Kind::Enum(_) => {
            rules.and_then(|rules| inner(rules, "enum")).is_some_and(|rules| has(&rules, &["defined_only"]))
        }
        Kind::Int32 => rules.is_some(),
        _ => true,
    }
}

/// Whether rules of a text bound its length.
fn text_bounded(rules: &DynamicMessage) -> bool {
    let bounds = ["max_len", "max_bytes", "len", "pattern", "const", "in"];
    ["string", "bytes"].iter().any(|kind| inner(rules, kind).is_some_and(|rules| has(&rules, &bounds)))
}

fn inner(message: &DynamicMessage, name: &str) -> Option<DynamicMessage> {
    message.has_field_by_name(name).then(|| message.get_field_by_name(name)?.as_message().cloned()).flatten()
}

fn has(message: &DynamicMessage, any_of: &[&str]) -> bool {
    any_of.iter().any(|name| message.has_field_by_name(name))
}

/// The program; none was said to be missing.
fn buf(test: &str) -> Option<PathBuf> {
    // `make proto` fetches one where none is installed.
    let fetched = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/tools/node_modules/.bin/buf");
    let named = std::env::var_os("BUF").map(PathBuf::from);
    let candidates = named.into_iter().chain([PathBuf::from("buf"), PathBuf::from(fetched)]);
    let works = |buf: &PathBuf| Command::new(buf).arg("--version").output().is_ok();
    let found = candidates.into_iter().find(works);
    if found.is_none() {
        skip(test, "buf is not on the PATH, and `make proto` has fetched none");
    }
    found
}

#[test]
fn buf_finds_nothing_to_lint_or_to_format() {
    let Some(buf) = buf("buf lint and buf format") else { return };
    let proto = concat!(env!("CARGO_MANIFEST_DIR"), "/../proto");
    let ours = concat!(env!("CARGO_MANIFEST_DIR"), "/../proto/flaghoist");
    for arguments in [&["lint", proto][..], &["format", "--diff", "--exit-code", proto, "--path", ours]] {
        let output = Command::new(&buf).args(arguments).output().expect("buf starts");
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "buf {}:\n{said}", arguments[0]);
    }
}

/// Clients that were generated from the newest release are built anew without a change, from the same files.
#[test]
fn the_contracts_break_nobody_who_uses_the_release_before() {
    let test = "buf breaking";
    let Some(release) = Release::needed_by(test) else { return };
    let Some(buf) = buf(test) else { return };
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    // Not by buf's own clone, which goes back fifty commits and no further.
    let mut archive = Command::new("git");
    archive.current_dir(root).args(["archive", "--format=tar", &release.commit, "proto"]);
    let archive = archive.stdout(Stdio::piped()).spawn().expect("git starts").stdout.expect("its output");
    let mut breaking = Command::new(&buf);
    breaking.current_dir(root).args(["breaking", "proto", "--against", "-#format=tar,subdir=proto"]).stdin(archive);
    let output = breaking.output().expect("buf starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "buf breaking:\n{said}");
}
