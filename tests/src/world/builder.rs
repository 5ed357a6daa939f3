//! What a world is made of, and how it is started: one process, or a cluster.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use super::{ISSUER, Inner, Shape, World};
use crate::binary::{Profile, only_what_the_test_says, server_binary};
use crate::cluster::{Cluster, Plan, Stores};
use crate::server::Server;

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

/// What a world is made of.
#[derive(Clone, Debug)]
pub struct WorldBuilder {
    settings: Vec<(String, String)>,
    arguments: Vec<OsString>,
    wrapper: Vec<OsString>,
    data: Option<PathBuf>,
    pub(super) profile: Profile,
    pub(super) cleared_at_end: bool,
    kind: Kind,
    own_postgres: bool,
    program: Option<PathBuf>,
    stores: Option<Stores>,
}

/// What runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Embedded,
    Cluster,
}

/// The kind of the tests that have no choice of their own: `FLAGHOIST_TEST_WORLD`, `embedded` if unset.
fn chosen() -> Kind {
    match std::env::var("FLAGHOIST_TEST_WORLD").as_deref() {
        Err(_) | Ok("" | "embedded") => Kind::Embedded,
        Ok("cluster") => Kind::Cluster,
        Ok(other) => panic!("FLAGHOIST_TEST_WORLD is `{other}`; it may be `embedded` or `cluster`"),
    }
}

/// Whether tests run against clusters, so that a test about a single process has nothing to do: `if only_embedded("why") { return; }`
pub fn only_embedded(why: &str) -> bool {
    let elsewhere = chosen() == Kind::Cluster;
    if elsewhere {
        flaghoist_backends::aloud(&format!("NOT FOR A CLUSTER: {why}"));
    }
    elsewhere
}

impl WorldBuilder {
    pub(super) fn new() -> Self {
        Self {
            settings: SETTINGS.iter().map(|&(name, value)| (name.into(), value.into())).collect(),
            arguments: Vec::new(),
            wrapper: Vec::new(),
            data: None,
            profile: Profile::Same,
            cleared_at_end: false,
            kind: chosen(),
            own_postgres: false,
            program: None,
            stores: None,
        }
    }

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

    /// One process on SQLite, whatever the tests are run with.
    #[must_use]
    pub fn embedded(mut self) -> Self {
        self.kind = Kind::Embedded;
        self
    }

    /// Two pods of every service, whatever the tests are run with.
    #[must_use]
    pub fn cluster(mut self) -> Self {
        self.kind = Kind::Cluster;
        self
    }

    /// A cluster on a PostgreSQL that nobody else uses, so that it can be stopped.
    #[must_use]
    pub fn own_postgres(mut self) -> Self {
        self.own_postgres = true;
        self.cluster()
    }

    /// A cluster of another binary, such as a release that was built earlier.
    #[must_use]
    pub fn program(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = Some(program.into());
        self.cluster()
    }

    /// A cluster that carries on with what is in these databases.
    #[must_use]
    pub fn on(mut self, stores: Stores) -> Self {
        self.stores = Some(stores);
        self.cluster()
    }

    /// Starts the world; panics with its log if it does not come up.
    pub async fn start(self) -> World {
        self.try_start().await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Starts the world.
    ///
    /// # Errors
    /// The log of a server that does not come up.
    pub async fn try_start(self) -> Result<World, String> {
        match self.kind {
            Kind::Embedded => {
                tokio::task::spawn_blocking(move || self.start_now()).await.expect("starting does not panic")
            }
            Kind::Cluster => match self.start_cluster().await? {
                Some(world) => Ok(world),
                // A test that was told to run against a cluster must not pass without one.
                None => Err("this machine lacks a part of the cluster: see LEFT OUT above".into()),
            },
        }
    }

    /// Starts a cluster; `None` when this machine lacks a part of it, which was said then.
    ///
    /// # Errors
    /// The log of what does not come up.
    pub async fn start_cluster(self) -> Result<Option<World>, String> {
        assert!(self.data.is_none() && self.wrapper.is_empty() && self.arguments.is_empty(), "not for a cluster");
        let program = match &self.program {
            Some(program) => program.clone(),
            None => {
                let profile = self.profile;
                let built = tokio::task::spawn_blocking(move || server_binary(profile)).await;
                built.expect("the server builds").to_owned()
            }
        };
        let plan = Plan {
            program,
            settings: self.settings.clone(),
            own_postgres: self.own_postgres,
            issuer: ISSUER,
            stores: self.stores.clone(),
        };
        let Some(cluster) = Cluster::start(plan).await? else { return Ok(None) };
        Ok(Some(self.world(Shape::Cluster(Box::new(cluster)), PathBuf::new(), None)))
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
        Ok(self.world(Shape::Embedded(Mutex::new(Some(server))), data, folder))
    }

    fn world(self, shape: Shape, data: PathBuf, folder: Option<tempfile::TempDir>) -> World {
        let inner = Inner { shape, builder: self, data, _folder: folder };
        World { inner: Arc::new(inner), seen_lines: Vec::new(), quiet: false }
    }

    /// The command that starts the embedded server.
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
        only_what_the_test_says(&mut command);
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        command
    }

    pub(super) fn server(&self, data: &Path) -> Result<Server, String> {
        let cleared = data.parent().filter(|_| self.cleared_at_end && self.data.is_none());
        Server::start(self.command(data), cleared)
    }
}
