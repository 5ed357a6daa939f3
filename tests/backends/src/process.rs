//! A process that was started for a test: its last lines are kept, and it ends with the process of the test, however that ends.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// How many lines of the log are kept.
const LOG_LINES_MAX: usize = 4_000;

/// A running process.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    log: Arc<Log>,
    exit: Arc<(Mutex<Option<ExitStatus>>, Condvar)>,
    readers: Vec<JoinHandle<()>>,
    /// Ends the process when this process ends, however that happens.
    watcher: Child,
}

/// What happens to a process when that of the test has ended.
#[derive(Clone, Debug)]
pub struct Ending {
    /// The signal that ends it.
    pub signal: Signal,
    /// A folder that is removed then.
    pub cleared: Option<PathBuf>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// The last lines that a process wrote.
#[derive(Debug, Default)]
struct Log {
    lines: Mutex<(u64, VecDeque<String>)>,
}

impl Default for Ending {
    fn default() -> Self {
        Self { signal: Signal::KILL, cleared: None }
    }
}

impl Process {
    /// Starts `command`.
    ///
    /// # Errors
    /// When the program is not there or cannot be run.
    pub fn start(command: Command, ending: &Ending) -> Result<Self, String> {
        Self::start_heard(command, ending, None)
    }

    /// Starts `command` and passes on each line of its standard output.
    ///
    /// # Errors
    /// When the program is not there or cannot be run.
    pub fn start_heard(
        mut command: Command,
        ending: &Ending,
        heard: Option<mpsc::Sender<String>>,
    ) -> Result<Self, String> {
        // A group of its own: what a terminal sends to the test is not for the server, whose end is the watcher's work.
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().map_err(|error| format!("{command:?} does not start: {error}"))?;
        let pid = Pid::from_child(&child);
        let log = Arc::new(Log::default());
        let stdout = child.stdout.take().expect("it was asked for");
        let stderr = child.stderr.take().expect("it was asked for");
        let readers = vec![keep(stdout, Arc::clone(&log), heard), keep(stderr, Arc::clone(&log), None)];
        let exit = Arc::new((Mutex::new(None), Condvar::new()));
        let seen = Arc::clone(&exit);
        let watcher = match watch(pid, ending) {
            Ok(watcher) => watcher,
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(error);
            }
        };
        std::thread::spawn(move || {
            let status = child.wait().ok();
            *lock(&seen.0) = status;
            seen.1.notify_all();
        });
        Ok(Self { pid, log, exit, readers, watcher })
    }

    /// Its number.
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
        if self.running() {
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

    /// Waits until it is gone; `None` if it is still there after `limit`.
    pub fn wait(&self, limit: Duration) -> Option<Exit> {
        let (status, _) = self
            .exit
            .1
            .wait_timeout_while(lock(&self.exit.0), limit, |status| status.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        let status = (*status)?;
        Some(status.code().map_or_else(|| Exit::Signal(status.signal().unwrap_or_default()), Exit::Code))
    }

    /// Whether it is there.
    pub fn running(&self) -> bool {
        lock(&self.exit.0).is_none()
    }

    /// Kills it and gives its last words: for a start that failed.
    pub fn last_words(mut self) -> String {
        self.kill();
        // It may be gone before what it said is read.
        for reader in std::mem::take(&mut self.readers) {
            let _ = reader.join();
        }
        self.log.text(0)
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

impl Drop for Process {
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

/// Reads what the process writes, on a thread of its own: the tests' runtimes come and go.
fn keep(from: impl Read + Send + 'static, log: Arc<Log>, heard: Option<mpsc::Sender<String>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            if let Some(heard) = &heard {
                // Nobody listens any more once the start is over.
                let _ = heard.send(line.clone());
            }
            log.add(line);
        }
    })
}

/// Starts a shell that ends the process when its standard input closes, which it does when this process ends.
fn watch(process: Pid, ending: &Ending) -> Result<Child, String> {
    // A process that is asked to end may need a moment, and its folder until then.
    let script = "cat >/dev/null; kill -\"$1\" \"$0\" 2>/dev/null
        tries=0; while test $tries -lt 100 && kill -0 \"$0\" 2>/dev/null; do tries=$((tries + 1)); sleep 0.05; done
        test -z \"$2\" || rm -rf \"$2\"";
    Command::new("sh")
        .args(["-c", script])
        .arg(process.as_raw_nonzero().to_string())
        .arg(ending.signal.as_raw().to_string())
        .arg(ending.cleared.as_deref().unwrap_or(Path::new("")))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|error| format!("sh does not start: {error}"))
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
