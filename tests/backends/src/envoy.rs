//! An Envoy of the test's own: it balances and retries between pods as the mesh would.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::process::{Ending, Process};
use crate::{blocking, find, pause};

/// How long Envoy may take until it serves.
const READY_MAX: Duration = Duration::from_secs(30);

/// A running Envoy; it ends when this is dropped.
#[derive(Debug)]
pub struct Envoy {
    process: Process,
    admin: SocketAddr,
    _folder: TempDir,
}

impl Envoy {
    /// Where the program is. `None` when this machine has no `envoy`: that was said then.
    pub fn program() -> Option<PathBuf> {
        let program = find::installed("envoy");
        if program.is_none() {
            find::left_out("what needs Envoy", "envoy is not installed; `tests/backends/install` does that");
        }
        program
    }

    /// Starts `program` with this configuration (JSON), whose `admin` listens at the address given, and waits until it serves.
    ///
    /// # Errors
    /// What it says when it does not come up.
    pub async fn start(program: PathBuf, configuration: String, admin: SocketAddr) -> Result<Self, String> {
        blocking(move || {
            let folder = tempfile::Builder::new().prefix("flaghoist-envoy-").tempdir().map_err(|e| e.to_string())?;
            let file = folder.path().join("envoy.json");
            std::fs::write(&file, configuration).map_err(|error| error.to_string())?;
            let mut command = Command::new(program);
            command.arg("--config-path").arg(&file).args(["--log-level", "warning", "--concurrency", "1"]);
            // Several may run side by side, and none takes over from another.
            command.arg("--disable-hot-restart");
            let ending = Ending { cleared: Some(folder.path().to_owned()), ..Ending::default() };
            let envoy = Self { process: Process::start(command, &ending)?, admin, _folder: folder };
            let began = Instant::now();
            while !envoy.asks("/ready").is_some_and(|answer| answer.contains("LIVE")) {
                if !envoy.process.running() || began.elapsed() > READY_MAX {
                    return Err(format!("Envoy does not come up; its log:\n{}", envoy.process.last_words()));
                }
                pause();
            }
            Ok(envoy)
        })
        .await
    }

    /// What its admin port answers, such as `/stats?filter=retry`.
    pub fn asks(&self, path: &str) -> Option<String> {
        let limit = Duration::from_secs(2);
        let mut stream = TcpStream::connect_timeout(&self.admin, limit).ok()?;
        stream.set_read_timeout(Some(limit)).ok()?;
        // It speaks no HTTP/1.0.
        write!(stream, "GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.admin).ok()?;
        // Envoy closes the connection a second after the last chunk.
        let (mut answer, mut piece) = (Vec::new(), [0; 16 * 1024]);
        while !answer.ends_with(b"\r\n0\r\n\r\n") {
            match stream.read(&mut piece).ok()? {
                0 => break,
                length => answer.extend_from_slice(&piece[..length]),
            }
        }
        let answer = String::from_utf8(answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        if head.to_lowercase().contains("transfer-encoding: chunked") { whole(body) } else { Some(body.to_owned()) }
    }

    /// What it has written.
    pub fn log(&self) -> String {
        self.process.log_since(0)
    }
}

/// A body that came in chunks, each after its length.
fn whole(mut chunks: &str) -> Option<String> {
    let mut body = String::new();
    loop {
        let (length, rest) = chunks.split_once("\r\n")?;
        let length = usize::from_str_radix(length.trim(), 16).ok()?;
        if length == 0 {
            return Some(body);
        }
        body.push_str(rest.get(..length)?);
        chunks = rest.get(length..)?.strip_prefix("\r\n")?;
    }
}
