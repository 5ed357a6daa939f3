//! Builds the newest release for the test that runs it beside what is here now; `make release-before`.

use std::process::ExitCode;

use flaghoist_tests::release::Release;

fn main() -> ExitCode {
    let Some(release) = Release::newest() else {
        println!("nothing was released yet: no heading of CHANGELOG.md names a commit");
        return ExitCode::SUCCESS;
    };
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
