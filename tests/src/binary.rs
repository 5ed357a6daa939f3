//! Finds the server's binary: the one that `FLAGHOIST_BIN` names, or one that cargo builds, once per process.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// How the server is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// As the running test is.
    Same,
    /// Optimised, for measurements.
    Release,
}

/// The path of the server's binary. Panics with cargo's own words when it does not build.
pub fn server_binary(profile: Profile) -> &'static Path {
    static SAME: OnceLock<PathBuf> = OnceLock::new();
    static RELEASE: OnceLock<PathBuf> = OnceLock::new();
    let release = profile == Profile::Release || !cfg!(debug_assertions);
    let cell = if release { &RELEASE } else { &SAME };
    cell.get_or_init(|| match std::env::var_os("FLAGHOIST_BIN") {
        Some(path) => PathBuf::from(path),
        None => build(release),
    })
}

/// Removes from a server's environment what developers have set for themselves: it is no part of the test.
pub(crate) fn only_what_the_test_says(command: &mut Command) {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("FLAGHOIST_")) {
        command.env_remove(name);
    }
    command.env_remove("OTEL_EXPORTER_OTLP_ENDPOINT");
}

fn build(release: bool) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--quiet", "--package", "flaghoist", "--bin", "flaghoist"])
        .arg("--message-format=json-render-diagnostics")
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .stderr(Stdio::inherit());
    if release {
        command.arg("--release");
    }
    let output = command.output().expect("cargo starts; is it on the PATH?");
    assert!(output.status.success(), "the server does not build: see cargo's messages above");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == "flaghoist")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .expect("cargo names the executable that it built")
}
