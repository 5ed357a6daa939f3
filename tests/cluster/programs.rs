//! Runs `kubectl`, `helm` and `istioctl`, as whoever installs flaghoist does.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use flaghoist_tests::tool;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// How long a program may take. `helm test` waits for a mesh that may look for keys only once a minute.
const PROGRAM_MAX: Duration = Duration::from_secs(420);

/// The repository.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// `kubectl` with these arguments, and what it prints.
pub(crate) async fn kubectl(arguments: &[&str]) -> Result<String, String> {
    run("kubectl", arguments, None).await
}

/// `kubectl` that reads a document.
pub(crate) async fn kubectl_reads(arguments: &[&str], document: &str) -> Result<String, String> {
    run("kubectl", arguments, Some(document)).await
}

/// What `kubectl get … -o json` prints.
pub(crate) async fn get(arguments: &[&str]) -> Result<Value, String> {
    let text = kubectl(&[&["get", "-o", "json"], arguments].concat()).await?;
    serde_json::from_str(&text).map_err(|error| format!("kubectl get {}: {error}", arguments.join(" ")))
}

/// `helm` with these arguments.
pub(crate) async fn helm(arguments: &[&str]) -> Result<String, String> {
    run("helm", arguments, None).await
}

/// `istioctl` with these arguments.
pub(crate) async fn istioctl(arguments: &[&str]) -> Result<String, String> {
    run("istioctl", arguments, None).await
}

/// Any program, and what it prints, or its complaint.
pub(crate) async fn run(program: &str, arguments: &[&str], input: Option<&str>) -> Result<String, String> {
    let said = || format!("{program} {}", arguments.join(" "));
    let mut child = command(program)?
        .args(arguments)
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{}: {error}", said()))?;
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        stdin.write_all(input.as_bytes()).await.map_err(|error| format!("{}: {error}", said()))?;
    }
    let output = tokio::time::timeout(PROGRAM_MAX, child.wait_with_output())
        .await
        .map_err(|_| format!("{} took more than {PROGRAM_MAX:?}", said()))?
        .map_err(|error| format!("{}: {error}", said()))?;
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        Ok(out)
    } else {
        Err(format!("{}: {out}{}", said(), String::from_utf8_lossy(&output.stderr).trim_end()))
    }
}

/// A program that runs as long as the test wants it.
pub(crate) fn command(program: &str) -> Result<Command, String> {
    let path = if program.contains('/') { Some(program.into()) } else { tool(program) };
    let path = path.ok_or_else(|| format!("{program} is missing; put it on the PATH"))?;
    let mut command = Command::new(path);
    command.kill_on_drop(true).current_dir(repository());
    Ok(command)
}
