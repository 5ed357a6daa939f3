//! Finds the programs of the back ends: on the `PATH`, where Debian puts PostgreSQL, or in `target/tools`.

use std::path::{Path, PathBuf};

/// Where the program is, if this machine has it.
pub fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(debian_postgres())
        .chain(tools())
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

/// Says that a test is left out on this machine, and why. In CI (`CI` is set) that is a failure.
///
/// # Panics
/// Where `CI` is set.
#[track_caller]
pub fn left_out(test: &str, reason: &str) {
    assert!(std::env::var_os("CI").is_none(), "{test} cannot be left out in CI: {reason}");
    eprintln!("LEFT OUT: {test}: {reason}");
}

/// The folders of Debian's PostgreSQL, which are not on the `PATH`; the newest version first.
fn debian_postgres() -> Vec<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    folders.sort_by_key(|&(version, _)| std::cmp::Reverse(version));
    folders.into_iter().map(|(_, folder)| folder).collect()
}

/// Where `tests/backends/install` puts what pip has.
fn tools() -> [PathBuf; 2] {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools");
    [tools.join("nats/bin"), tools.join("envoy/envoy/_bin")]
}
