//! A PostgreSQL cluster of the test's own, and fresh databases in it.

mod recovery;

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::process::{Ending, Process, lock};
use crate::{blocking, find, free_port, pause};

/// How long the server may take until it takes connections; after a crash it replays its log first.
const READY_MAX: Duration = Duration::from_secs(60);

/// A role that owns what it creates and nothing else, as a site would give it to flaghoist.
const ROLE: &str = "flaghoist";

/// What the server is told. What makes a commit durable is left to its own defaults, which a test may change.
const SETTINGS: &[&str] = &[
    "max_connections=300",
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "log_lock_waits=on",
    "log_line_prefix=%m [%p] %a ",
];

/// A running cluster. Cloning gives another handle to the same one; with the last handle it ends.
#[derive(Clone, Debug)]
pub struct Postgres {
    cluster: Arc<Cluster>,
}

/// How a server is stopped: the modes of `pg_ctl stop`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Waits until everybody has left.
    Smart,
    /// Rolls back what is under way and closes all connections.
    Fast,
    /// Ends without cleaning up; the next start recovers from the log, as after a crash.
    Immediate,
}

#[derive(Debug)]
struct Cluster {
    programs: PathBuf,
    /// Who runs it; unset when that is who runs the test. The server refuses to be run by root.
    owner: Option<(u32, u32)>,
    port: u16,
    password: String,
    server: Mutex<Option<Process>>,
    folder: TempDir,
}

impl Postgres {
    /// The cluster that all tests of this process share, started by the first who asks. Whoever uses it leaves it running.
    /// `None` when this machine has no PostgreSQL: that was said then.
    pub async fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Postgres>> = OnceLock::new();
        blocking(|| SHARED.get_or_init(Self::start_now).as_ref()).await
    }

    /// A cluster of its own, for tests that stop it.
    pub async fn start() -> Option<Self> {
        blocking(Self::start_now).await
    }

    fn start_now() -> Option<Self> {
        let reason = "PostgreSQL is not installed; `tests/backends/install` does that";
        let Some(initdb) = find::installed("initdb") else {
            find::left_out("what needs PostgreSQL", reason);
            return None;
        };
        // The folder of the program itself: a link to it elsewhere may be the only one there.
        let initdb = initdb.canonicalize().unwrap_or(initdb);
        let programs = initdb.parent().map(Path::to_owned).unwrap_or_default();
        let cluster = Cluster::create(programs).unwrap_or_else(|error| panic!("PostgreSQL: {error}"));
        Some(Self { cluster: Arc::new(cluster) })
    }

    /// Makes a fresh database and gives its URL.
    pub async fn database(&self) -> String {
        let name = format!("t{:016x}", rand::random::<u64>());
        self.sql(&self.superuser_url("postgres"), &format!("CREATE DATABASE {name} OWNER {ROLE}")).await;
        self.url(&name)
    }

    /// The URL of a database, for the role that owns it.
    pub fn url(&self, database: &str) -> String {
        self.cluster.url(ROLE, database)
    }

    /// The URL of a database for the cluster's superuser.
    pub fn superuser_url(&self, database: &str) -> String {
        self.cluster.url("postgres", database)
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.cluster.port
    }

    /// The password in its URLs, so that a test can look whether it got where it should not.
    pub fn password(&self) -> &str {
        &self.cluster.password
    }

    /// The folder of PostgreSQL's programs, such as `pg_dump`.
    pub fn programs(&self) -> &Path {
        &self.cluster.programs
    }

    /// Runs statements by psql, as one transaction where that is possible, and gives the rows: a line each, columns parted by `|`.
    ///
    /// # Panics
    /// With the server's complaint.
    pub async fn sql(&self, url: &str, text: &str) -> String {
        self.try_sql(url, text).await.unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// Runs statements by psql.
    ///
    /// # Errors
    /// With the server's complaint.
    pub async fn try_sql(&self, url: &str, text: &str) -> Result<String, String> {
        let mut command = Command::new(self.cluster.programs.join("psql"));
        command.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"]);
        command.arg(url).args(["--command", text]);
        blocking(move || answer(command)).await
    }

    /// Writes what is in a database to a file, by `pg_dump`. What a crash of the server would lose is left out.
    pub async fn dump(&self, url: &str, to: &Path) {
        let mut command = Command::new(self.cluster.programs.join("pg_dump"));
        command.args(["--format=custom", "--no-unlogged-table-data", "--file"]).arg(to).arg(url);
        blocking(move || answer(command)).await.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Puts what [`Postgres::dump`] has written into an empty database, by `pg_restore`.
    pub async fn restore(&self, url: &str, from: &Path) {
        let mut command = Command::new(self.cluster.programs.join("pg_restore"));
        command.args(["--no-owner", "--exit-on-error", "--dbname", url]).arg(from);
        blocking(move || answer(command)).await.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Drops a database and makes an empty one of the same name.
    pub async fn renew_database(&self, url: &str) {
        let (name, admin) = (url.rsplit('/').next().unwrap_or_default(), self.superuser_url("postgres"));
        self.sql(&admin, &format!("DROP DATABASE {name} WITH (FORCE)")).await;
        self.sql(&admin, &format!("CREATE DATABASE {name} OWNER {ROLE}")).await;
    }

    /// Lets nobody write to a database any more, or lets them again: as after a failover to a server that only reads. Connections end.
    pub async fn only_reads(&self, url: &str, only: bool) {
        let (name, admin) = (url.rsplit('/').next().unwrap_or_default(), self.superuser_url("postgres"));
        let writes =
            if only { "SET default_transaction_read_only = on" } else { "RESET default_transaction_read_only" };
        self.sql(&admin, &format!("ALTER DATABASE {name} {writes}")).await;
        let ends = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
        self.sql(&admin, &ends).await;
    }

    /// Stops the server; [`Postgres::start_again`] begins again on the same port and data.
    pub async fn stop(&self, mode: Stop) {
        let cluster = Arc::clone(&self.cluster);
        blocking(move || cluster.stop(mode)).await;
    }

    /// Ends the server as a crash would; what it had promised is in its log.
    pub async fn crash(&self) {
        self.stop(Stop::Immediate).await;
    }

    /// Starts the server after a stop and waits until it takes connections.
    pub async fn start_again(&self) {
        let cluster = Arc::clone(&self.cluster);
        blocking(move || cluster.serve().unwrap_or_else(|error| panic!("PostgreSQL: {error}"))).await;
    }

    /// What the server has written to its log since its last start, as far as it is kept.
    pub fn log(&self) -> String {
        lock(&self.cluster.server).as_ref().map(|server| server.log_since(0)).unwrap_or_default()
    }
}

impl Cluster {
    fn create(programs: PathBuf) -> Result<Self, String> {
        let folder =
            tempfile::Builder::new().prefix("flaghoist-postgres-").tempdir().map_err(|error| error.to_string())?;
        let owner = if rustix::process::geteuid().is_root() { Some(postgres_user()?) } else { None };
        let password = format!("{:032x}", rand::random::<u128>());
        let mut cluster = Self { programs, owner, port: 0, password, server: Mutex::new(None), folder };

        let password_file = cluster.folder.path().join("password");
        std::fs::write(&password_file, &cluster.password).map_err(|error| error.to_string())?;
        std::fs::set_permissions(&password_file, std::fs::Permissions::from_mode(0o600)).map_err(|e| e.to_string())?;
        if let Some((user, group)) = cluster.owner {
            for path in [cluster.folder.path(), &password_file] {
                chown(path, Some(user), Some(group)).map_err(|error| format!("{}: {error}", path.display()))?;
            }
        }
        let mut initdb = cluster.program("initdb");
        // The sync at the end of initdb guards nothing here: the server syncs what it writes.
        initdb.args(["--no-sync", "--username=postgres", "--auth=password", "--encoding=UTF8", "--locale=C.UTF-8"]);
        initdb.arg("--pwfile").arg(&password_file).arg("--pgdata").arg(cluster.pgdata());
        answer(initdb)?;

        // Another process may take the port before the server does.
        let mut tries = 0;
        loop {
            cluster.port = free_port();
            tries += 1;
            match cluster.serve() {
                Err(error) if tries < 5 && error.contains("could not bind") => {}
                other => break other?,
            }
        }
        let mut psql = Command::new(cluster.programs.join("psql"));
        psql.args(["--no-psqlrc", "--quiet", &cluster.url("postgres", "postgres"), "--command"]);
        psql.arg(format!("CREATE ROLE {ROLE} LOGIN NOSUPERUSER PASSWORD '{}'", cluster.password));
        answer(psql)?;
        Ok(cluster)
    }

    fn pgdata(&self) -> PathBuf {
        self.folder.path().join("pgdata")
    }

    fn url(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }

    /// One of PostgreSQL's programs, run by who may.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.current_dir(self.folder.path());
        if let Some((user, group)) = self.owner {
            command.uid(user).gid(group);
        }
        command
    }

    fn serve(&self) -> Result<(), String> {
        let mut command = self.program("postgres");
        command.arg("-D").arg(self.pgdata()).args(["-p", &self.port.to_string()]);
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        // Asked to quit it frees its shared memory; killed it would not.
        let ending = Ending { signal: Signal::QUIT, cleared: Some(self.folder.path().to_owned()) };
        let process = Process::start(command, &ending)?;
        let began = Instant::now();
        while !self.takes_connections() {
            if !process.running() || began.elapsed() > READY_MAX {
                return Err(format!("the server does not come up; its log:\n{}", process.last_words()));
            }
            pause();
        }
        *lock(&self.server) = Some(process);
        Ok(())
    }

    fn takes_connections(&self) -> bool {
        let mut command = Command::new(self.programs.join("pg_isready"));
        command.args(["--quiet", "--host=127.0.0.1", "--port", &self.port.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }

    fn stop(&self, mode: Stop) {
        let Some(server) = lock(&self.server).take() else { return };
        server.signal(match mode {
            Stop::Smart => Signal::TERM,
            Stop::Fast => Signal::INT,
            Stop::Immediate => Signal::QUIT,
        });
        if server.wait(READY_MAX).is_none() {
            panic!("PostgreSQL does not stop; its log:\n{}", server.last_words());
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop(Stop::Immediate);
    }
}

/// The user and group of the account `postgres`, which the package makes.
fn postgres_user() -> Result<(u32, u32), String> {
    let number = |flag: &str| -> Result<u32, String> {
        let mut command = Command::new("id");
        command.args([flag, "postgres"]);
        answer(command)?.trim().parse().map_err(|_| "`id` gives no number".to_owned())
    };
    Ok((number("-u")?, number("-g")?))
}

/// Runs a command to its end and gives what it prints, or its complaint.
fn answer(mut command: Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    } else {
        Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim_end()))
    }
}

#[cfg(test)]
mod tests;
