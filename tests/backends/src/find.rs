//! Finds the programs of the back ends: on the `PATH`, where Debian puts PostgreSQL, or in `target/tools`.

use std::io::Write as _;
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
    aloud(&format!("LEFT OUT: {test}: {reason}"));
}

/// Says something although the test passes. What the print macros say then is swallowed by the test harness, and nobody would know.
pub fn aloud(line: &str) {
    // Where nobody listens, nobody is told.
    let _told = writeln!(std::io::stderr(), "{line}");
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

#[cfg(test)]
mod tests {
    use std::process::{Command, Output};

    use super::*;

    /// Runs the test below as `cargo test` does, in CI or not.
    fn leaves_itself_out_in(ci: bool) -> Output {
        let mut test = Command::new(std::env::current_exe().unwrap());
        test.args(["--exact", "find::tests::leaves_itself_out", "--ignored"]).env_remove("CI");
        if ci {
            test.env("CI", "1");
        }
        test.output().unwrap()
    }

    #[test]
    #[ignore = "the next one runs it"]
    fn leaves_itself_out() {
        left_out("a test", "its reason");
    }

    #[test]
    fn what_is_left_out_is_said_although_the_test_passes_and_fails_in_ci() {
        let at_a_desk = leaves_itself_out_in(false);
        let said = String::from_utf8_lossy(&at_a_desk.stderr);
        assert!(at_a_desk.status.success() && said.contains("LEFT OUT: a test: its reason"), "{at_a_desk:?}");
        assert!(!leaves_itself_out_in(true).status.success());
    }
}
