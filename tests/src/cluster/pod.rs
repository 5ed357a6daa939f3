//! One pod of the cluster: a process of one service at an address of its own, started, stopped, frozen and killed.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use flaghoist_backends::{Ending, Exit, Process};
use rustix::process::Signal;

use crate::binary::only_what_the_test_says;

/// How long a pod may take until it is ready: a debug build, several at once.
const READY_MAX: Duration = Duration::from_secs(60);

/// How long a pod may take to stop.
const GRACE: Duration = Duration::from_secs(30);

/// The ports of a pod, the same in every one: each has an address of its own.
pub(crate) const PUBLIC: u16 = 9000;
pub(crate) const INTERNAL: u16 = 9001;
pub(crate) const HTTP: u16 = 8080;
pub(crate) const JWKS: u16 = 8081;
pub(crate) const METRICS: u16 = 9464;

/// One of the four services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// The issuer.
    Auth,
    /// Accounts.
    Login,
    /// Conversations.
    Send,
    /// Streams.
    Receiver,
}

/// A pod. It keeps its address over restarts.
#[derive(Debug)]
pub struct Pod {
    service: Service,
    number: u8,
    address: Ipv4Addr,
    /// Another one after an upgrade.
    program: Mutex<PathBuf>,
    settings: Vec<(String, String)>,
    /// A world that all tests share is never dropped: its folder is removed with its pods.
    ending: Ending,
    process: Mutex<Option<Process>>,
}

impl Service {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Auth, Self::Login, Self::Send, Self::Receiver];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Login => "login",
            Self::Send => "send",
            Self::Receiver => "receiver",
        }
    }

    /// The services whose internal methods it calls.
    pub(crate) fn peers(self) -> &'static [Self] {
        match self {
            Self::Auth => &[],
            Self::Login => &[Self::Auth, Self::Send, Self::Receiver],
            Self::Send => &[Self::Auth, Self::Login, Self::Receiver],
            Self::Receiver => &[Self::Auth, Self::Send],
        }
    }

    /// Whether it has an HTTP port.
    pub(crate) fn has_http(self) -> bool {
        matches!(self, Self::Auth | Self::Login)
    }
}

impl fmt::Display for Pod {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.service.name(), self.number)
    }
}

impl Pod {
    /// A pod that was not started yet.
    pub(crate) fn new(
        service: Service,
        number: u8,
        address: Ipv4Addr,
        program: PathBuf,
        settings: Vec<(String, String)>,
        ending: Ending,
    ) -> Self {
        let program = Mutex::new(program);
        Self { service, number, address, program, settings, ending, process: Mutex::new(None) }
    }

    /// Which service it is one of.
    pub fn service(&self) -> Service {
        self.service
    }

    /// The settings that it is started with.
    pub(crate) fn settings(&self) -> &[(String, String)] {
        &self.settings
    }

    /// Where its metrics and its health are.
    pub fn metrics(&self) -> SocketAddr {
        SocketAddr::from((self.address, METRICS))
    }

    /// Where it takes public gRPC calls, without what stands between it and its callers.
    pub fn public(&self) -> SocketAddr {
        SocketAddr::from((self.address, PUBLIC))
    }

    /// Starts it; whether it is ready is another question.
    ///
    /// # Errors
    /// When the program cannot be run.
    pub(crate) fn begin(&self) -> Result<(), String> {
        let program = self.program.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let known = settings_of(&program)?;
        let mut command = Command::new(program);
        only_what_the_test_says(&mut command);
        // A release before refuses to be told where the parts are that it never calls.
        let told =
            self.settings.iter().filter(|(name, _)| !name.ends_with("_ADDR") || known.contains(&format!("`{name}`")));
        command.envs(told.map(|(name, value)| (name, value)));
        command.args(["service", self.service.name()]);
        *self.process() = Some(Process::start(command, &self.ending)?);
        Ok(())
    }

    /// Has it run another binary from its next start on.
    pub(crate) fn run_from_now_on(&self, program: &Path) {
        *self.program.lock().unwrap_or_else(PoisonError::into_inner) = program.to_owned();
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// Its log, when it ends or is not ready in time.
    pub(crate) fn until_ready(&self) -> Result<(), String> {
        let began = Instant::now();
        while !self.ready() {
            if !self.running() || began.elapsed() > READY_MAX {
                let words = self.process().take().map(Process::last_words).unwrap_or_default();
                return Err(format!("{self} does not get ready; its log:\n{words}"));
            }
            pause();
        }
        Ok(())
    }

    /// Whether it says that it is ready.
    pub fn ready(&self) -> bool {
        answers(self.metrics(), "/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }

    /// Whether the process is there.
    pub fn running(&self) -> bool {
        self.process().as_ref().is_some_and(Process::running)
    }

    /// What it uses of the memory, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        self.process().as_ref().map(Process::resident_bytes).unwrap_or_default()
    }

    /// What it has used of the processor.
    pub fn cpu_time(&self) -> Duration {
        self.process().as_ref().map(Process::cpu_time).unwrap_or_default()
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(&self) {
        if let Some(process) = self.process().take() {
            process.kill();
        }
    }

    /// Freezes it: connections stay, nothing moves.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Ends [`Pod::freeze`].
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(process) = self.process().as_ref() {
            process.signal(signal);
        }
    }

    /// Waits until it is gone by itself; one that was not started is gone.
    pub(crate) fn wait(&self, limit: Duration) -> Option<Exit> {
        match self.process().as_ref() {
            Some(process) => process.wait(limit),
            None => Some(Exit::Code(0)),
        }
    }

    /// Promise 13: told to stop, it is gone within its grace period.
    ///
    /// # Errors
    /// How it ended instead.
    pub(crate) fn stop_in_order(&self) -> Result<(), String> {
        self.signal(Signal::TERM);
        match self.wait(GRACE) {
            Some(Exit::Code(0)) => Ok(()),
            other => Err(format!("promise 13: {self} was told to stop and ended with {other:?} within {GRACE:?}")),
        }
    }

    pub(crate) fn log_lines(&self) -> u64 {
        self.process().as_ref().map(Process::log_lines).unwrap_or_default()
    }

    /// What it has written since it had written `line` lines, as far as it is kept; a restart begins a new log.
    pub fn log_since(&self, line: u64) -> String {
        self.process().as_ref().map(|process| process.log_since(line)).unwrap_or_default()
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The answer to a GET, status line and all.
pub(crate) fn answers(address: SocketAddr, path: &str) -> Option<String> {
    let limit = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&address, limit).ok()?;
    stream.set_read_timeout(Some(limit)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

#[expect(clippy::disallowed_methods, reason = "it runs on a thread that may block")]
pub(crate) fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}

/// The table of settings that a program prints; it is asked once.
fn settings_of(program: &Path) -> Result<String, String> {
    static ASKED: Mutex<BTreeMap<PathBuf, String>> = Mutex::new(BTreeMap::new());
    let mut asked = ASKED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(table) = asked.get(program) {
        return Ok(table.clone());
    }
    let output = Command::new(program).arg("settings").output();
    let output = output.map_err(|error| format!("cannot run {}: {error}", program.display()))?;
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    asked.insert(program.to_owned(), table.clone());
    Ok(table)
}
