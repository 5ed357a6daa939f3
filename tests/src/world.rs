//! A world: a running server, or a cluster of them, and everything that a test asks of it.

mod builder;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flaghoist_backends::Exit;
use hyper_util::rt::TokioIo;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tonic::transport::{Channel, Endpoint};

use crate::binary::server_binary;
use crate::calls::Calls;
use crate::cluster::{Cluster, Pod};
use crate::http1;
use crate::person::Person;
use crate::server::Server;

pub use builder::{WorldBuilder, only_embedded};

/// The issuer of every world.
pub(crate) const ISSUER: &str = "http://localhost:8080";

/// How long a stop may take until it is a fault.
const STOP_MAX: Duration = Duration::from_secs(30);

/// A running server or cluster. Cloning gives another handle to the same one; with the last handle it is killed.
#[derive(Clone, Debug)]
pub struct World {
    inner: Arc<Inner>,
    /// How far the logs were when this handle was made; a failed test shows what came after.
    seen_lines: Vec<u64>,
    /// One handle of a test shows the log, not each of its people too.
    quiet: bool,
}

#[derive(Debug)]
struct Inner {
    shape: Shape,
    builder: WorldBuilder,
    /// Empty unless it is embedded.
    data: PathBuf,
    /// Removed at the end; unset when the test brought its own folder.
    _folder: Option<TempDir>,
}

/// What runs.
#[derive(Debug)]
enum Shape {
    /// All services in one process; none while it is stopped.
    Embedded(Mutex<Option<Server>>),
    /// Two processes of every service.
    Cluster(Box<Cluster>),
    /// A server that was not started here: where it takes gRPC calls.
    Elsewhere(SocketAddr),
}

impl World {
    /// A world of its own, for tests that restart, kill or limit it.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// The world that all tests of this process share. Whoever uses it leaves its settings and its processes alone.
    pub async fn shared() -> Self {
        static SHARED: OnceCell<World> = OnceCell::const_new();
        let world = SHARED.get_or_init(async || {
            let mut builder = Self::builder();
            builder.cleared_at_end = true;
            builder.start().await
        });
        world.await.handle()
    }

    /// The world of a server that runs elsewhere; it can be called, not started or stopped.
    pub fn elsewhere(grpc: SocketAddr) -> Self {
        let inner =
            Inner { shape: Shape::Elsewhere(grpc), builder: Self::builder(), data: PathBuf::new(), _folder: None };
        Self { inner: Arc::new(inner), seen_lines: Vec::new(), quiet: true }
    }

    /// Describes a world.
    pub fn builder() -> WorldBuilder {
        WorldBuilder::new()
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

    /// Runs another command of the binary on this world's stores, such as `admin grant`, and gives what it says.
    ///
    /// # Errors
    /// What it says when it fails.
    pub async fn command(&self, words: &[&str]) -> Result<String, String> {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        self.blocking(move |world| {
            let mut command = match &world.inner.shape {
                Shape::Cluster(cluster) => cluster.command(),
                _ => Command::new(server_binary(world.inner.builder.profile)),
            };
            command.args(words);
            if world.cluster().is_none() {
                command.arg("--data").arg(world.data());
            }
            let output = command.output().map_err(|e| e.to_string())?;
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
        match &self.inner.shape {
            Shape::Embedded(server) => lock(server).as_ref().map(Server::grpc),
            Shape::Cluster(cluster) => Some(cluster.gateway()),
            Shape::Elsewhere(grpc) => Some(*grpc),
        }
    }

    /// Where HTTP is.
    pub fn http(&self) -> SocketAddr {
        match &self.inner.shape {
            Shape::Cluster(cluster) => cluster.gateway_http(),
            _ => self.with_server(Server::http),
        }
    }

    /// Calls without a token to a process that has this proto service, past what stands before it: health is a process's own.
    pub fn process_of(&self, proto_service: &str) -> Calls {
        let pods = self.cluster().map(Cluster::pods).unwrap_or_default();
        let pod = pods.iter().find(|pod| proto_service.starts_with(&format!("flaghoist.{}.", pod.service().name())));
        let Some(pod) = pod else { return self.anonymous() };
        let channel = Endpoint::from_shared(format!("http://{}", pod.public())).expect("an address").connect_lazy();
        Calls::new(channel, None)
    }

    /// What all processes use of the memory, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        match &self.inner.shape {
            Shape::Cluster(cluster) => cluster.pods().iter().map(Pod::resident_bytes).sum(),
            _ => self.with_server(Server::resident_bytes),
        }
    }

    /// Where the figures of the one server process are.
    pub fn metrics(&self) -> SocketAddr {
        self.with_server(Server::metrics)
    }

    /// The pages of figures, one after the other when there are several processes.
    pub async fn figures(&self) -> String {
        let addresses = match &self.inner.shape {
            Shape::Cluster(cluster) => cluster.pods().iter().map(Pod::metrics).collect(),
            _ => vec![self.metrics()],
        };
        let mut pages = String::new();
        for address in addresses {
            let answer = http1::get(address, "/metrics").await;
            assert_eq!(answer.status, 200, "{answer:?}");
            pages.push_str(&answer.text());
        }
        pages
    }

    /// The data folder, which only an embedded server has.
    pub fn data(&self) -> &Path {
        assert!(self.cluster().is_none(), "a cluster has no data folder; is this a test for `only_embedded`?");
        &self.inner.data
    }

    /// Looks at the one server process, which must not have been stopped.
    pub fn with_server<T>(&self, look: impl FnOnce(&Server) -> T) -> T {
        let server = self.server().expect("it is one server process; is this a test for `only_embedded`?");
        look(server.as_ref().expect("the server runs"))
    }

    /// The cluster, if it is one.
    pub fn cluster(&self) -> Option<&Cluster> {
        match &self.inner.shape {
            Shape::Cluster(cluster) => Some(cluster),
            _ => None,
        }
    }

    /// What has been written to the logs since this handle was made.
    pub fn log(&self) -> String {
        let since = self.seen_lines.first().copied().unwrap_or_default();
        match &self.inner.shape {
            Shape::Embedded(server) => lock(server).as_ref().map(|server| server.log_since(since)).unwrap_or_default(),
            Shape::Cluster(cluster) => cluster.log_since(&self.seen_lines),
            Shape::Elsewhere(_) => String::new(),
        }
    }

    /// Stops everything as an operator would and starts it again on the same stores.
    pub async fn restart(&self) {
        let exit = self.stop().await;
        assert_eq!(exit, Some(Exit::Code(0)), "the server stops in order");
        self.start_again().await;
    }

    /// Kills all processes with SIGKILL.
    pub async fn kill(&self) {
        self.blocking(|world| match &world.inner.shape {
            Shape::Embedded(server) => {
                if let Some(server) = lock(server).take() {
                    server.kill();
                }
            }
            Shape::Cluster(cluster) => cluster.kill(),
            Shape::Elsewhere(_) => {}
        })
        .await;
    }

    /// Sends SIGTERM and waits for the end, for 30 seconds at most.
    pub async fn stop(&self) -> Option<Exit> {
        self.blocking(|world| {
            let log = world.log();
            let exit = match &world.inner.shape {
                Shape::Embedded(server) => lock(server).take()?.stop(STOP_MAX),
                Shape::Cluster(cluster) => {
                    cluster.signal(Signal::TERM);
                    let exit = cluster.wait(STOP_MAX);
                    cluster.kill();
                    exit
                }
                Shape::Elsewhere(_) => None,
            };
            if exit != Some(Exit::Code(0)) {
                eprintln!("--- log of the server that did not stop in order ---\n{log}");
            }
            exit
        })
        .await
    }

    /// Sends SIGTERM and does not wait.
    pub fn begin_stop(&self) {
        match &self.inner.shape {
            Shape::Cluster(cluster) => cluster.signal(Signal::TERM),
            _ => self.with_server(|server| server.signal(Signal::TERM)),
        }
    }

    /// Waits until all processes are gone by themselves.
    pub async fn gone_within(&self, limit: Duration) -> Option<Exit> {
        self.blocking(move |world| match &world.inner.shape {
            Shape::Embedded(server) => lock(server).as_ref().and_then(|server| server.wait(limit)),
            Shape::Cluster(cluster) => cluster.wait(limit),
            Shape::Elsewhere(_) => None,
        })
        .await
    }

    /// Starts what is not running, after [`World::kill`] or [`World::stop`].
    pub async fn start_again(&self) {
        self.blocking(|world| match &world.inner.shape {
            Shape::Embedded(server) => {
                let started = world.inner.builder.server(&world.inner.data).unwrap_or_else(|error| panic!("{error}"));
                *lock(server) = Some(started);
            }
            Shape::Cluster(cluster) => cluster.start_missing().unwrap_or_else(|error| panic!("{error}")),
            Shape::Elsewhere(_) => {}
        })
        .await;
    }

    fn handle(&self) -> Self {
        let seen_lines = match &self.inner.shape {
            Shape::Embedded(server) => lock(server).iter().map(Server::log_lines).collect(),
            Shape::Cluster(cluster) => cluster.log_lines(),
            Shape::Elsewhere(_) => Vec::new(),
        };
        Self { inner: Arc::clone(&self.inner), seen_lines, quiet: false }
    }

    /// A handle that shows no log when the test fails.
    pub(crate) fn quiet(&self) -> Self {
        let mut handle = self.clone();
        handle.quiet = true;
        handle
    }

    fn server(&self) -> Option<MutexGuard<'_, Option<Server>>> {
        match &self.inner.shape {
            Shape::Embedded(server) => Some(lock(server)),
            _ => None,
        }
    }

    /// Does what blocks beside the runtime.
    pub(crate) async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(Self) -> T + Send + 'static) -> T {
        let world = self.quiet();
        match tokio::task::spawn_blocking(move || work(world)).await {
            Ok(done) => done,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
