//! The newest release, for tests that run it beside what is here now: which commit it is, by CHANGELOG.md, and the binary that is
//! built from it, once, in a folder that nobody else builds in.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A release, as a heading of CHANGELOG.md names it: `## 0.1.0 (2026-11-25, commit 0123abc)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Its version.
    pub version: String,
    /// The commit that it was made from.
    pub commit: String,
}

impl fmt::Display for Release {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} (commit {})", self.version, self.commit)
    }
}

impl Release {
    /// The newest one; none while nothing was released.
    ///
    /// # Panics
    /// Outside of the repository.
    pub fn newest() -> Option<Self> {
        let changelog = root().join("CHANGELOG.md");
        let text = fs::read_to_string(&changelog).unwrap_or_else(|error| panic!("{}: {error}", changelog.display()));
        Self::newest_in(&text)
    }

    fn newest_in(changelog: &str) -> Option<Self> {
        changelog.lines().find_map(|line| {
            let (version, rest) = line.strip_prefix("## ")?.split_once(" (")?;
            let commit = rest.strip_suffix(')')?.split(", ").find_map(|part| part.strip_prefix("commit "))?;
            Some(Self { version: version.into(), commit: commit.into() })
        })
    }

    /// The binary of it, if it was built here.
    pub fn binary(&self) -> Option<PathBuf> {
        // The commit is in the path, so a binary of a commit that was taken for the release before is none of it.
        Some(self.folder().join("flaghoist")).filter(|binary| binary.is_file())
    }

    /// Whether the clone holds its commit; one without history does not.
    pub fn is_in_clone(&self) -> bool {
        let mut git = Command::new("git");
        git.current_dir(root()).args(["cat-file", "-e"]).arg(format!("{}^{{commit}}", self.commit));
        git.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }

    /// The newest one for a test that needs it. Nothing is left out where nothing was released; where the clone does not hold the commit
    /// the test is, which is said, and in CI is a failure.
    ///
    /// # Panics
    /// Outside of the repository; in CI, where the clone was made without its history.
    #[track_caller]
    pub fn needed_by(test: &str) -> Option<Self> {
        let Some(release) = Self::newest() else {
            flaghoist_backends::aloud(&format!("{test}: nothing was released yet"));
            return None;
        };
        release.held_for(test).then_some(release)
    }

    #[track_caller]
    fn held_for(&self, test: &str) -> bool {
        let held = self.is_in_clone();
        if !held {
            crate::skip(test, &format!("{self} is not in this clone: was it made without its history?"));
        }
        held
    }

    /// Builds its binary, unless it is there: from its own sources, with its own lock file, beside nothing that is built now.
    ///
    /// # Errors
    /// What cannot be had, and why.
    pub fn build(&self) -> Result<PathBuf, String> {
        if let Some(binary) = self.binary() {
            return Ok(binary);
        }
        let (source, target) = (self.folder().join("source"), self.folder().join("target"));
        let _none = fs::remove_dir_all(&source);
        fs::create_dir_all(&source).map_err(|error| format!("{}: {error}", source.display()))?;
        let archive = self.folder().join("source.tar");
        let mut git = Command::new("git");
        git.current_dir(root()).args(["archive", "--format=tar", "--output"]).arg(&archive).arg(&self.commit);
        done(git)?;
        let mut tar = Command::new("tar");
        tar.arg("-xf").arg(&archive).arg("-C").arg(&source);
        done(tar)?;
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(&source).args(["build", "--locked", "--package", "flaghoist", "--bin", "flaghoist"]);
        // Nobody debugs it.
        cargo.env("CARGO_TARGET_DIR", &target).env("CARGO_PROFILE_DEV_DEBUG", "0");
        done(cargo)?;
        // Renamed at the end, so that a binary that is there is whole; what it was built from is not needed any more.
        let (built, binary) = (target.join("debug/flaghoist"), self.folder().join("flaghoist"));
        fs::rename(&built, &binary).map_err(|error| format!("{}: {error}", built.display()))?;
        for left in [&source, &target] {
            let _gone = fs::remove_dir_all(left);
        }
        let _gone = fs::remove_file(&archive);
        Ok(binary)
    }

    fn folder(&self) -> PathBuf {
        root().join("target/releases").join(format!("{}-{}", self.version, self.commit))
    }
}

/// The root of the sources.
fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn done(mut command: Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.stdin(Stdio::null()).status().map_err(|error| format!("{program}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{program} ended with {status}; see above")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_release_is_the_first_heading_that_names_a_commit() {
        let text = "# Changes\n\nText (commit 1).\n\n## 0.3.0 (not released yet)\n\n## 0.2.0 (2027-01-02, commit abc12)\n\n\
                    ## 0.1.0 (2026-11-25, commit def34)\n";
        let release = Release { version: "0.2.0".into(), commit: "abc12".into() };
        assert_eq!(Release::newest_in(text), Some(release));
        assert_eq!(Release::newest_in("## 0.1.0 (not released yet)\n"), None);
    }

    #[test]
    fn a_release_that_is_not_in_the_clone_leaves_a_test_out_and_fails_it_in_ci() {
        let elsewhere = Release { version: "0.1.0".into(), commit: "0".repeat(40) };
        let held = std::panic::catch_unwind(|| elsewhere.held_for("a test of it"));
        match std::env::var_os("CI") {
            Some(_) => assert!(held.is_err(), "in CI nothing is left out"),
            None => assert!(!held.unwrap()),
        }
    }
}
