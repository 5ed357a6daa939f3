//! What `flaghoist check` is tested with is what the chart installs: its tests have no Helm, so they have a copy of the rendering.

use std::fmt::Write as _;

use serde_json::Value;

use super::charts::{Chart, Helm, repository};

/// The copy, one resource a line.
const COPY: &str = "services/flaghoist/tests/check/installed.jsonl";

#[test]
fn flaghoist_check_is_tested_with_what_the_chart_installs() {
    let Some(helm) = Helm::find("the copy of the rendering") else { return };
    let mut rendered = String::new();
    // Keys are made anew each time, and are nobody's to look at; so are the digests by which pods notice that one changed.
    for mut resource in helm.renders(Chart::Whole, &[]).into_iter().filter(|resource| resource["kind"] != "Secret") {
        if let Some(annotations) =
            resource.pointer_mut("/spec/template/metadata/annotations").and_then(Value::as_object_mut)
        {
            annotations.retain(|name, _| !name.starts_with("checksum/"));
        }
        writeln!(rendered, "{resource}").expect("there is room");
    }
    let copy = repository().join(COPY);
    if std::env::var_os("FLAGHOIST_TEST_WRITE").is_some() {
        std::fs::write(&copy, &rendered).expect("the disk takes it");
    }
    let written = std::fs::read_to_string(&copy).unwrap_or_default();
    // By what they say, and not by how it is written down.
    let said =
        |lines: &str| -> Vec<Value> { lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect() };
    assert!(
        said(&written) == said(&rendered),
        "the chart renders something else than {COPY} has: say this test again with FLAGHOIST_TEST_WRITE=1"
    );
}
