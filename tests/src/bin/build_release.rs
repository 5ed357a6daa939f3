//! Builds the newest release for the test that runs it beside what is here now; `make release-before`. In a clone without history there is
//! nothing to build it from: that is said, and in CI it is a failure, as the test itself would be.

use std::process::ExitCode;

use flaghoist_tests::release::Release;

fn main() -> ExitCode {
    let Some(release) = Release::newest() else {
        println!("nothing was released yet: no heading of CHANGELOG.md names a commit");
        return ExitCode::SUCCESS;
    };
    if !release.is_in_clone() {
        eprintln!(
            "LEFT OUT: {release} is not in this clone: was it made without its history? `git fetch --unshallow` gets it"
        );
        return if std::env::var_os("CI").is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    match release.build() {
        Ok(binary) => {
            println!("{release}: {}", binary.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{release} cannot be built: {error}");
            ExitCode::FAILURE
        }
    }
}
