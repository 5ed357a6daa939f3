//! One server process: started, watched until it says that it is ready, stopped or killed, its log kept.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long a server may take until it is ready; a debug build under a tracer is slow.
const READY_MAX: Duration = Duration::from_secs(60);
/// How many lines of the log are kept.
const LOG_LINES_MAX: usize = 4_000;

/// A running server process.
#[derive(Debug)]
pub struct Server {
    pid: Pid,
    grpc: SocketAddr,
    http: SocketAddr,
    metrics: SocketAddr,
    started_in: Duration,
    log: Arc<Log>,
    exit: Arc<(Mutex<Option<ExitStatus>>, Condvar)>,
    /// Ends the server when this process ends, however that happens.
    watcher: Child,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// The last lines that the server wrote.
#[derive(Debug, Default)]
struct Log {
    lines: Mutex<(u64, VecDeque<String>)>,
}

impl Server {
    /// Starts `command` and waits until it has printed where it listens.
    ///
    /// # Errors
    /// The log, when it ends or is silent instead.
    pub fn start(mut command: Command, cleared_at_end: Option<&Path>) -> Result<Self, String> {
        let began = Instant::now();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("{command:?} does not start: {error}"))?;
        let pid = Pid::from_child(&child);
        let log = Arc::new(Log::default());
        let (said, hears) = mpsc::channel();
        let stdout = child.stdout.take().expect("it was asked for");
        let stderr = child.stderr.take().expect("it was asked for");
        keep(stdout, Arc::clone(&log), Some(said));
        let complaints = keep(stderr, Arc::clone(&log), None);
        let exit = Arc::new((Mutex::new(None), Condvar::new()));
        let seen = Arc::clone(&exit);
        std::thread::spawn(move || {
            let status = child.wait().ok();
            *lock(&seen.0) = status;
            seen.1.notify_all();
        });

        let mut addresses = [None; 3];
        while addresses.iter().any(Option::is_none) {
            let left = READY_MAX.saturating_sub(began.elapsed());
            let Ok(line) = hears.recv_timeout(left) else {
                // Nothing may outlive a failed start.
                let _ = kill_process(pid, Signal::KILL);
                // The process may be gone before its last words are read.
                let _ = complaints.join();
                return Err(format!("the server did not say where it listens; its log:\n{}", log.text(0)));
            };
            for (place, name) in ["grpc", "http", "metrics"].iter().enumerate() {
                if let Some(address) = address(&line, name) {
                    addresses[place] = Some(address);
                }
            }
        }
        let [Some(grpc), Some(http), Some(metrics)] = addresses else { unreachable!("the loop saw to it") };
        let started_in = began.elapsed();
        let watcher = watch(pid, cleared_at_end)?;
        Ok(Self { pid, grpc, http, metrics, started_in, log, exit, watcher })
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
        self.pid.as_raw_nonzero().get()
    }

    /// What it uses of the memory, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
        kib.unwrap_or_default() * 1024
    }

    /// The processor time that it has used.
    pub fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        let fields = stat.rsplit_once(')').map(|(_, fields)| fields).unwrap_or_default();
        let mut ticks = fields.split_whitespace().skip(11).filter_map(|field| field.parse::<u64>().ok());
        // A tick is 10 ms on every Linux that this runs on.
        Duration::from_millis((ticks.next().unwrap_or_default() + ticks.next().unwrap_or_default()) * 10)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        if lock(&self.exit.0).is_none() {
            let _ = kill_process(self.pid, signal);
        }
    }

    /// Kills it at once and waits until it is gone.
    pub fn kill(&self) -> Exit {
        self.signal(Signal::KILL);
        self.wait(Duration::from_secs(10)).expect("a killed process is gone soon")
    }

    /// Asks it to stop (SIGTERM) and waits; `None` if it is still there after `limit`.
    pub fn stop(&self, limit: Duration) -> Option<Exit> {
        self.signal(Signal::TERM);
        self.wait(limit)
    }

    /// Waits until it is gone.
    pub fn wait(&self, limit: Duration) -> Option<Exit> {
        let (status, _) = self
            .exit
            .1
            .wait_timeout_while(lock(&self.exit.0), limit, |status| status.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        let status = (*status)?;
        Some(status.code().map_or_else(|| Exit::Signal(status.signal().unwrap_or_default()), Exit::Code))
    }

    /// Whether the process is there.
    pub fn running(&self) -> bool {
        lock(&self.exit.0).is_none()
    }

    /// How many lines it has written.
    pub fn log_lines(&self) -> u64 {
        lock(&self.log.lines).0
    }

    /// What it has written since it had written `line` lines, as far as it is kept.
    pub fn log_since(&self, line: u64) -> String {
        self.log.text(line)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The watcher is ended first: its work is done below, and the number may be another process's later.
        let _ = self.watcher.kill();
        let _ = self.watcher.wait();
        self.signal(Signal::KILL);
        let _ = self.wait(Duration::from_secs(5));
    }
}

impl Log {
    fn add(&self, line: String) {
        let mut lines = lock(&self.lines);
        lines.0 += 1;
        lines.1.push_back(line);
        if lines.1.len() > LOG_LINES_MAX {
            lines.1.pop_front();
        }
    }

    fn text(&self, since: u64) -> String {
        let lines = lock(&self.lines);
        let first = lines.0 - lines.1.len() as u64;
        let skipped = usize::try_from(since.saturating_sub(first)).unwrap_or(usize::MAX);
        let mut text = String::new();
        for line in lines.1.iter().skip(skipped) {
            let _ = writeln!(text, "{line}");
        }
        text
    }
}

/// The address in a line such as `grpc    http://127.0.0.1:41234`.
fn address(line: &str, name: &str) -> Option<SocketAddr> {
    let mut words = line.split_whitespace();
    (words.next()? == name).then_some(())?;
    words.next()?.strip_prefix("http://")?.trim_end_matches('/').parse().ok()
}

/// Reads what the server writes, on a thread of its own: the tests' runtimes come and go.
fn keep(from: impl Read + Send + 'static, log: Arc<Log>, said: Option<mpsc::Sender<String>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            if let Some(said) = &said {
                // Nobody listens any more once the addresses are known.
                let _ = said.send(line.clone());
            }
            log.add(line);
        }
    })
}

/// Starts a shell that kills the server when its standard input closes, which it does when this process ends.
fn watch(server: Pid, cleared_at_end: Option<&Path>) -> Result<Child, String> {
    Command::new("sh")
        .arg("-c")
        .arg("cat >/dev/null; kill -9 \"$0\" 2>/dev/null; test -z \"$1\" || rm -rf \"$1\"")
        .arg(server.as_raw_nonzero().to_string())
        .arg(cleared_at_end.unwrap_or(Path::new("")))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("sh does not start: {error}"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
