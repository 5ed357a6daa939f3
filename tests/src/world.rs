//! A world: one running server with a data folder of its own, and everything that a test asks of it.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};

use crate::binary::{Profile, server_binary};
use crate::calls::Calls;
use crate::person::Person;
use crate::server::{Exit, Server};

/// Settings that make a server fit for tests: cheap password hashes, and limits on attempts that a test which is not
/// about them never meets.
const SETTINGS: &[(&str, &str)] = &[
    ("FLAGHOIST_LOGIN_HASH_MEMORY_KIB", "64"),
    ("FLAGHOIST_LOGIN_HASH_PASSES", "1"),
    ("FLAGHOIST_LOGIN_HASH_QUEUE", "1024"),
    ("FLAGHOIST_LOGIN_REGISTRATION_BURST", "100000"),
    ("FLAGHOIST_LOGIN_ADDRESS_BURST", "100000"),
];

/// Settings that lift the limits on how often someone may call.
const WITHOUT_LIMITS: &[(&str, &str)] =
    &[("FLAGHOIST_SEND_RATE_PER_SECOND", "1000000"), ("FLAGHOIST_SEND_RATE_BURST", "1000000")];

/// One running server. Cloning gives another handle to the same one; with the last handle the server is killed.
#[derive(Clone, Debug)]
pub struct World {
    inner: Arc<Inner>,
    /// How far the log was when this handle was made; a failed test shows what came after.
    seen_lines: u64,
    /// One handle of a test shows the log, not each of its people too.
    quiet: bool,
}

#[derive(Debug)]
struct Inner {
    server: Mutex<Option<Server>>,
    builder: WorldBuilder,
    data: PathBuf,
    /// Set when the server runs elsewhere and was not started here.
    elsewhere: Option<SocketAddr>,
    /// Removed at the end; unset when the test brought its own folder.
    _folder: Option<TempDir>,
}

/// What a world is made of.
#[derive(Clone, Debug)]
pub struct WorldBuilder {
    settings: Vec<(String, String)>,
    arguments: Vec<OsString>,
    wrapper: Vec<OsString>,
    data: Option<PathBuf>,
    profile: Profile,
    cleared_at_end: bool,
}

impl World {
    /// A world of its own, for tests that restart, kill or limit it.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// The world that all tests of this process share. Whoever uses it leaves its settings and its process alone.
    pub async fn shared() -> Self {
        static SHARED: OnceLock<World> = OnceLock::new();
        tokio::task::spawn_blocking(|| {
            SHARED
                .get_or_init(|| {
                    let builder = WorldBuilder { cleared_at_end: true, ..Self::builder() };
                    builder.start_now().unwrap_or_else(|error| panic!("{error}"))
                })
                .handle()
        })
        .await
        .expect("the shared server starts")
    }

    /// The world of a server that runs elsewhere; it can be called, not started or stopped.
    pub fn elsewhere(grpc: SocketAddr) -> Self {
        let inner = Inner {
            server: Mutex::new(None),
            builder: Self::builder(),
            data: PathBuf::new(),
            elsewhere: Some(grpc),
            _folder: None,
        };
        Self { inner: Arc::new(inner), seen_lines: 0, quiet: true }
    }

    /// Describes a world.
    pub fn builder() -> WorldBuilder {
        WorldBuilder {
            settings: SETTINGS.iter().map(|&(name, value)| (name.into(), value.into())).collect(),
            arguments: Vec::new(),
            wrapper: Vec::new(),
            data: None,
            profile: Profile::Same,
            cleared_at_end: false,
        }
    }

    /// Registers a person and signs them in. The handle gets a suffix, so that worlds can be shared.
    pub async fn person(&self, name: &str) -> Person {
        Person::register(self, name).await
    }

    /// Calls without a token.
    pub fn anonymous(&self) -> Calls {
        Calls::new(self.channel(), None)
    }

    /// Calls with this token, whatever it is worth.
    pub fn with_token(&self, token: impl Into<String>) -> Calls {
        Calls::new(self.channel(), Some(token.into()))
    }

    /// Runs another command of the binary on this world's data, such as `admin grant`, and gives what it says.
    ///
    /// # Errors
    /// What it says when it fails.
    pub async fn command(&self, words: &[&str]) -> Result<String, String> {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        self.blocking(move |world| {
            let mut command = Command::new(server_binary(world.inner.builder.profile));
            let output = command.args(words).arg("--data").arg(world.data()).output().map_err(|e| e.to_string())?;
            let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
            if output.status.success() { Ok(said) } else { Err(said) }
        })
        .await
    }

    /// Registers a person, makes them an admin as an operator would, and signs them in as such.
    pub async fn admin(&self, name: &str) -> Person {
        let person = self.person(name).await;
        self.command(&["admin", "grant", &person.handle]).await.unwrap_or_else(|said| panic!("admin grant: {said}"));
        person.another_session().await
    }

    /// A connection of its own to the gRPC port. It is made at the first call, and again after a restart, wherever the
    /// server listens then.
    pub fn channel(&self) -> Channel {
        let world = self.quiet();
        Endpoint::from_static("http://flaghoist.test")
            .connect_timeout(Duration::from_secs(5))
            .connect_with_connector_lazy(tower::service_fn(move |_| {
                let address = world.grpc();
                async move {
                    let Some(address) = address else {
                        return Err(std::io::Error::other("the server is not running"));
                    };
                    let stream = TcpStream::connect(address).await?;
                    stream.set_nodelay(true)?;
                    Ok(TokioIo::new(stream))
                }
            }))
    }

    /// Where gRPC is, unless the server was stopped.
    pub fn grpc(&self) -> Option<SocketAddr> {
        self.inner.elsewhere.or_else(|| self.server().as_ref().map(Server::grpc))
    }

    /// Where HTTP is.
    pub fn http(&self) -> SocketAddr {
        self.with_server(Server::http)
    }

    /// Where the figures are.
    pub fn metrics(&self) -> SocketAddr {
        self.with_server(Server::metrics)
    }

    /// The data folder.
    pub fn data(&self) -> &Path {
        &self.inner.data
    }

    /// Looks at the server process, which must not have been stopped.
    pub fn with_server<T>(&self, look: impl FnOnce(&Server) -> T) -> T {
        look(self.server().as_ref().expect("the server runs"))
    }

    /// What the server has written to its log since this handle was made.
    pub fn log(&self) -> String {
        self.server().as_ref().map(|server| server.log_since(self.seen_lines)).unwrap_or_default()
    }

    /// Stops the server as an operator would and starts it again on the same data.
    pub async fn restart(&self) {
        let exit = self.stop().await;
        assert_eq!(exit, Some(Exit::Code(0)), "the server stops in order");
        self.start_again().await;
    }

    /// Kills the server with SIGKILL.
    pub async fn kill(&self) {
        self.blocking(|world| {
            if let Some(server) = world.server().take() {
                server.kill();
            }
        })
        .await;
    }

    /// Sends SIGTERM and waits for the end, for 30 seconds at most.
    pub async fn stop(&self) -> Option<Exit> {
        self.blocking(|world| {
            let server = world.server().take()?;
            let exit = server.stop(Duration::from_secs(30));
            if exit != Some(Exit::Code(0)) {
                eprintln!("--- log of the server that did not stop in order ---\n{}", server.log_since(0));
            }
            exit
        })
        .await
    }

    /// Sends SIGTERM and does not wait.
    pub fn begin_stop(&self) {
        self.with_server(|server| server.signal(rustix::process::Signal::TERM));
    }

    /// Waits until the process is gone by itself.
    pub async fn gone_within(&self, limit: Duration) -> Option<Exit> {
        self.blocking(move |world| world.server().as_ref().and_then(|server| server.wait(limit))).await
    }

    /// Starts the server again after [`World::kill`] or [`World::stop`].
    pub async fn start_again(&self) {
        self.blocking(|world| {
            let server = world.inner.builder.server(&world.inner.data).unwrap_or_else(|error| panic!("{error}"));
            *world.server() = Some(server);
        })
        .await;
    }

    fn handle(&self) -> Self {
        let seen_lines = self.server().as_ref().map(Server::log_lines).unwrap_or_default();
        Self { inner: Arc::clone(&self.inner), seen_lines, quiet: false }
    }

    /// A handle that shows no log when the test fails.
    pub(crate) fn quiet(&self) -> Self {
        let mut handle = self.clone();
        handle.quiet = true;
        handle
    }

    fn server(&self) -> MutexGuard<'_, Option<Server>> {
        self.inner.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(Self) -> T + Send + 'static) -> T {
        let world = self.quiet();
        match tokio::task::spawn_blocking(move || work(world)).await {
            Ok(done) => done,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Once per test is enough: the runtime's own threads never panic.
        if !self.quiet && std::thread::panicking() {
            let log = self.log();
            if !log.is_empty() {
                eprintln!("--- log of the server ---\n{log}--- end of the log ---");
            }
        }
    }
}

impl WorldBuilder {
    /// Sets a setting by its environment name.
    #[must_use]
    pub fn setting(mut self, name: &str, value: impl ToString) -> Self {
        self.settings.push((name.into(), value.to_string()));
        self
    }

    /// Lifts the limits on how often one person or address may call, for loads that are not about them.
    #[must_use]
    pub fn without_limits(mut self) -> Self {
        self.settings.extend(WITHOUT_LIMITS.iter().map(|&(name, value)| (name.into(), value.into())));
        self
    }

    /// Adds an argument to the command line.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Runs the server by another program, such as a tracer: `under(["strace", "-f"])`.
    #[must_use]
    pub fn under<I: IntoIterator<Item = S>, S: Into<OsString>>(mut self, wrapper: I) -> Self {
        self.wrapper = wrapper.into_iter().map(Into::into).collect();
        self
    }

    /// Runs the server by a line of shell first, such as `ulimit -n 256`.
    #[must_use]
    pub fn after_shell(self, line: &str) -> Self {
        self.under(["sh".into(), "-c".into(), format!("{line}; exec \"$0\" \"$@\"")])
    }

    /// Uses this data folder.
    #[must_use]
    pub fn data(mut self, folder: impl Into<PathBuf>) -> Self {
        self.data = Some(folder.into());
        self
    }

    /// Uses a server that was compiled like this.
    #[must_use]
    pub fn profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }

    /// Starts the server; panics with its log if it does not come up.
    pub async fn start(self) -> World {
        self.try_start().await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Starts the server.
    ///
    /// # Errors
    /// The log of a server that does not come up.
    pub async fn try_start(self) -> Result<World, String> {
        tokio::task::spawn_blocking(move || self.start_now()).await.expect("starting does not panic")
    }

    fn start_now(self) -> Result<World, String> {
        let (data, folder) = match &self.data {
            Some(data) => (data.clone(), None),
            None => {
                let folder = tempfile::Builder::new().prefix("flaghoist-").tempdir().map_err(|e| e.to_string())?;
                (folder.path().join("data"), Some(folder))
            }
        };
        let server = self.server(&data)?;
        let inner = Inner { server: Mutex::new(Some(server)), builder: self, data, elsewhere: None, _folder: folder };
        Ok(World { inner: Arc::new(inner), seen_lines: 0, quiet: false })
    }

    /// The command that starts the server.
    pub fn command(&self, data: &Path) -> Command {
        let binary = server_binary(self.profile);
        let mut command = match self.wrapper.split_first() {
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(binary);
                command
            }
            None => Command::new(binary),
        };
        command.arg("serve").arg("--data").arg(data);
        for port in ["--grpc-addr", "--http-addr", "--metrics-addr"] {
            command.args([port, "127.0.0.1:0"]);
        }
        command.args(["--issuer", ISSUER]).args(&self.arguments);
        // What the developer has set for themselves is not part of the test.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("FLAGHOIST_")) {
            command.env_remove(name);
        }
        command.env_remove("OTEL_EXPORTER_OTLP_ENDPOINT");
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        command
    }

    fn server(&self, data: &Path) -> Result<Server, String> {
        let cleared = data.parent().filter(|_| self.cleared_at_end && self.data.is_none());
        Server::start(self.command(data), cleared)
    }
}

/// The issuer of every world.
pub(crate) const ISSUER: &str = "http://localhost:8080";
