//! A stage for the tests: a server with a data folder and people with profiles, all in one temporary folder.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The password of everyone here.
pub(crate) const PASSWORD: &str = "seven green pelicans";
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The binary, without anything of this process's environment that it would read.
pub(crate) fn flaghoist() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flaghoist"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FLAGHOIST_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A running server; killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) process: Child,
    pub(crate) said: Vec<String>,
    _out: BufReader<ChildStdout>,
}

impl Server {
    /// Starts a server with these extra settings and waits until it says where it listens.
    pub(crate) fn start(data: &Path, settings: &[(&str, &str)]) -> Self {
        Self::start_at(data, "127.0.0.1:0", settings)
    }

    /// The same on a given gRPC address.
    pub(crate) fn start_at(data: &Path, grpc: &str, settings: &[(&str, &str)]) -> Self {
        let mut process = flaghoist()
            .args(["serve", "--grpc-addr", grpc, "--http-addr", "127.0.0.1:0", "--metrics-addr", "127.0.0.1:0"])
            .arg("--data")
            .arg(data)
            .envs(settings.iter().copied())
            .env("FLAGHOIST_LOGIN_HASH_MEMORY_KIB", "64")
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(process.stdout.take().unwrap());
        let mut said = Vec::new();
        while said.last().is_none_or(|line: &String| !line.contains("send @bob")) {
            let mut line = String::new();
            if out.read_line(&mut line).unwrap() == 0 {
                panic!("the server ended: {:?} {said:?}", process.wait());
            }
            said.push(line.trim_end().to_owned());
        }
        Self { process, said, _out: out }
    }

    /// What the server printed after a name such as `grpc`.
    pub(crate) fn address(&self, name: &str) -> String {
        let line = self.said.iter().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().to_owned()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.process), signal).unwrap();
    }

    /// Waits until it has ended.
    pub(crate) fn ends(&mut self) -> std::process::ExitStatus {
        within_patience(|| self.process.try_wait().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Tries until there is an answer.
pub(crate) fn within_patience<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = attempt() {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "nothing came of it");
        pause();
    }
}

#[expect(clippy::disallowed_methods, reason = "these tests run processes and have no runtime to wait in")]
fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}

/// A server and the folder of everybody's profiles.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) server: Server,
    pub(crate) folder: tempfile::TempDir,
}

impl Stage {
    /// A server with these extra settings, and no people yet.
    pub(crate) fn new(settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(&folder.path().join("data"), settings);
        Self { server, folder }
    }

    /// The server's data folder.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A command of `person`, who has a profile of that name.
    pub(crate) fn command(&self, person: &str, arguments: &[&str]) -> Command {
        let mut command = flaghoist();
        command
            .args(arguments)
            .env("XDG_CONFIG_HOME", self.folder.path().join("config"))
            .env("FLAGHOIST_PROFILE", person)
            .env("FLAGHOIST_SERVER", self.server.address("grpc"));
        command
    }

    /// Runs a command of `person`.
    pub(crate) fn run(&self, person: &str, arguments: &[&str]) -> Output {
        self.command(person, arguments).output().unwrap()
    }

    /// Runs a command of `person` that must do well, and gives the objects that it prints.
    pub(crate) fn does(&self, person: &str, arguments: &[&str]) -> Vec<Value> {
        let output = self.command(person, arguments).arg("--json").output().unwrap();
        assert!(output.status.success(), "{person}: {arguments:?}: {}", stderr(&output));
        objects(&output)
    }

    /// Registers and signs in `person`.
    pub(crate) fn registers(&self, person: &str) -> Value {
        self.with_password(person, &["register", person], PASSWORD).pop().unwrap()
    }

    /// Runs a command of `person` that reads the password from standard input.
    pub(crate) fn with_password(&self, person: &str, arguments: &[&str], password: &str) -> Vec<Value> {
        let output = self.tries_password(person, arguments, password);
        assert!(output.status.success(), "{person}: {arguments:?}: {}", stderr(&output));
        objects(&output)
    }

    /// The same, whatever comes of it.
    pub(crate) fn tries_password(&self, person: &str, arguments: &[&str], password: &str) -> Output {
        let mut command = self.command(person, arguments);
        let mut process = command.args(["--json", "--password-file", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        process.stdin.take().unwrap().write_all(format!("{password}\n").as_bytes()).unwrap();
        process.wait_with_output().unwrap()
    }

    /// The profile file of `person`.
    pub(crate) fn profile(&self, person: &str) -> PathBuf {
        self.folder.path().join(format!("config/flaghoist/{person}.json"))
    }
}

/// The JSON objects in an output, one a line.
pub(crate) fn objects(output: &Output) -> Vec<Value> {
    String::from_utf8(output.stdout.clone()).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What went to standard error.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A `listen` that runs beside the test.
#[derive(Debug)]
pub(crate) struct Listening {
    pub(crate) process: Child,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Listening {
    /// Starts `listen --json` of `person`.
    pub(crate) fn start(stage: &Stage, person: &str, arguments: &[&str]) -> Self {
        let mut command = stage.command(person, &["listen", "--json"]);
        let mut process = command.args(arguments).spawn().unwrap();
        let out = BufReader::new(process.stdout.take().unwrap());
        let (sender, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { process, lines }
    }

    /// The next object of this type.
    pub(crate) fn next(&self, kind: &str) -> Value {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no {kind} came"));
            let object: Value = serde_json::from_str(&line).unwrap();
            if object["type"] == kind {
                return object;
            }
        }
    }

    /// Whether something more of this type has come.
    pub(crate) fn rest(&self, kind: &str) -> Vec<Value> {
        self.lines
            .try_iter()
            .map(|line| serde_json::from_str::<Value>(&line).unwrap())
            .filter(|object| object["type"] == kind)
            .collect()
    }

    /// Asks it to stop, as Ctrl-C does, and waits.
    pub(crate) fn stops(&mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        self.ends()
    }

    /// Waits for its end.
    pub(crate) fn ends(&mut self) -> Option<i32> {
        within_patience(|| self.process.try_wait().unwrap()).code()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
