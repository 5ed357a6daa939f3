//! Builds the newest release for the test that runs it beside what is here now; `make release-before`.

use std::process::ExitCode;

use flaghoist_tests::release::Release;

fn main() -> ExitCode {
    let Some(release) = Release::newest() else {
        println!("nothing was released yet: no heading of CHANGELOG.md names a commit");
        return ExitCode::SUCCESS;
    };
    if !release.is_in_clone() {
        println!("LEFT OUT: {release} is not in this clone, which was made without its history");
        return ExitCode::SUCCESS;
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
