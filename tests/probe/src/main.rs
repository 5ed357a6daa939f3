//! The program of the pods that `make cluster-test` puts beside an installation. It is static and alone in its image.
//!
//! - `probe relay` lends the pod's place in the mesh: what connects to its loopback, by `kubectl port-forward`, goes on from there, by
//!   the pod's sidecar and under its service account. So a test on a developer's machine calls as any account does.
//! - `probe stand-in` stands where a service stands, fails, waits and forwards as each call tells it to, and counts.
//! - `probe sends` measures how long a send takes from within the mesh.

mod relay;
mod sends;
mod stand_in;

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["relay"] => relay::serve().await,
        ["stand-in"] => stand_in::serve(None).await,
        ["stand-in", keys] => stand_in::serve(Some(keys)).await,
        ["sends", options @ ..] => sends::measure(options).await,
        _ => Err("probe relay | stand-in [KEYS] | sends SEND LOGIN SECONDS AT_A_TIME".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
