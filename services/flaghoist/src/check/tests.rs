//! Each thing that a check looks at, broken once: a release as the chart installs it, in a cluster as a real one answered, with one
//! thing changed. What is said is compared, and that nothing else is said.

mod before;
mod mesh;
mod pods;
mod world;

use self::world::World;
use super::docs;
use super::report::Verdict;

#[test]
fn a_release_in_order_fails_nothing_and_is_warned_of_what_its_defaults_leave_open() {
    let world = World::new();
    let report = world.report();
    assert_eq!(world.said(Verdict::Failed), Vec::<String>::new(), "{}", report.text());
    let warned = world.said(Verdict::Warning);
    assert_eq!(warned.len(), 2, "{warned:?}");
    assert!(
        warned[0].starts_with("tokens: the issuer is an address that people reach: it is http://chat-auth.talk.svc")
    );
    assert!(warned[1].starts_with("gateway: people reach it by TLS: chat speaks plain HTTP"), "{warned:?}");
    assert!(report.count(Verdict::Ok) > 35, "{}", report.text());
}

#[test]
fn every_document_that_a_hint_names_has_the_heading() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for hint in docs::ALL {
        let link = hint.rsplit(": ").next().unwrap();
        let (file, heading) = link.split_once('#').unwrap();
        let text = std::fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        let headings = text.lines().filter_map(|line| line.strip_prefix('#')).map(|line| {
            let line = line.trim_start_matches('#').trim().to_lowercase();
            line.chars()
                .filter(|one| one.is_alphanumeric() || matches!(one, ' ' | '-'))
                .collect::<String>()
                .replace(' ', "-")
        });
        assert!(headings.into_iter().any(|one| one == heading), "{link}");
    }
}
