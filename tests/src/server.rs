//! One server process: started, watched until it says that it is ready, stopped or killed, its log kept.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use flaghoist_backends::{Ending, Exit, Process};
use rustix::process::Signal;

/// How long a server may take until it is ready; a debug build under a tracer is slow.
const READY_MAX: Duration = Duration::from_secs(60);

/// A running server process.
#[derive(Debug)]
pub struct Server {
    process: Process,
    grpc: SocketAddr,
    http: SocketAddr,
    metrics: SocketAddr,
    started_in: Duration,
}

impl Server {
    /// Starts `command` and waits until it has printed where it listens.
    ///
    /// # Errors
    /// The log, when it ends or is silent instead.
    pub fn start(command: Command, cleared_at_end: Option<&Path>) -> Result<Self, String> {
        let began = Instant::now();
        let (said, hears) = mpsc::channel();
        let ending = Ending { signal: Signal::KILL, cleared: cleared_at_end.map(Path::to_owned) };
        let process = Process::start_heard(command, &ending, Some(said))?;
        let mut addresses = [None; 3];
        while addresses.iter().any(Option::is_none) {
            let left = READY_MAX.saturating_sub(began.elapsed());
            let Ok(line) = hears.recv_timeout(left) else {
                return Err(format!("the server did not say where it listens; its log:\n{}", process.last_words()));
            };
            for (place, name) in ["grpc", "http", "metrics"].iter().enumerate() {
                if let Some(address) = address(&line, name) {
                    addresses[place] = Some(address);
                }
            }
        }
        let [Some(grpc), Some(http), Some(metrics)] = addresses else { unreachable!("the loop saw to it") };
        Ok(Self { process, grpc, http, metrics, started_in: began.elapsed() })
    }

    /// Where it takes gRPC calls.
    pub fn grpc(&self) -> SocketAddr {
        self.grpc
    }

    /// Where it takes HTTP requests.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// Where it shows its figures.
    pub fn metrics(&self) -> SocketAddr {
        self.metrics
    }

    /// From the start of the process to the line that says it is ready.
    pub fn started_in(&self) -> Duration {
        self.started_in
    }

    /// The process.
    pub fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// What it uses of the memory, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        self.process.resident_bytes()
    }

    /// The processor time that it has used.
    pub fn cpu_time(&self) -> Duration {
        self.process.cpu_time()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Kills it at once and waits until it is gone.
    pub fn kill(&self) -> Exit {
        self.process.kill()
    }

    /// Asks it to stop (SIGTERM) and waits; `None` if it is still there after `limit`.
    pub fn stop(&self, limit: Duration) -> Option<Exit> {
        self.process.stop(limit)
    }

    /// Waits until it is gone.
    pub fn wait(&self, limit: Duration) -> Option<Exit> {
        self.process.wait(limit)
    }

    /// Whether the process is there.
    pub fn running(&self) -> bool {
        self.process.running()
    }

    /// How many lines it has written.
    pub fn log_lines(&self) -> u64 {
        self.process.log_lines()
    }

    /// What it has written since it had written `line` lines, as far as it is kept.
    pub fn log_since(&self, line: u64) -> String {
        self.process.log_since(line)
    }
}

/// The address in a line such as `grpc    http://127.0.0.1:41234`.
fn address(line: &str, name: &str) -> Option<SocketAddr> {
    let mut words = line.split_whitespace();
    (words.next()? == name).then_some(())?;
    words.next()?.strip_prefix("http://")?.trim_end_matches('/').parse().ok()
}
