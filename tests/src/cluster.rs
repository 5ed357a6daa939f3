//! A cluster: two pods of every service on one PostgreSQL and one NATS, with an Envoy between them and before them, as a mesh would
//! be. Everything is a real process on this machine, each pod at an address of its own within 127.0.0.0/8.

mod alone;
mod mesh;
mod pod;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use flaghoist_backends::{Ending, Envoy, Exit, Link, Nats, Postgres};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::binary::only_what_the_test_says;
pub use alone::Alone;
use mesh::Net;
pub use pod::{Pod, Service};

/// How many pods of every service there are.
const PODS_EACH: u8 = 2;
/// How long Envoy may take until it knows that all pods are ready.
const SEEN_MAX: Duration = Duration::from_secs(20);
/// How long it must have known it: longer than from one look at the health of a pod to the next.
const SETTLED: Duration = Duration::from_millis(700);
/// Connections of one pod to its store. Several clusters share one PostgreSQL.
const STORE_CONNECTIONS: u8 = 6;

/// A running cluster. It ends when this is dropped.
#[derive(Debug)]
pub struct Cluster {
    net: Net,
    pods: Vec<Pod>,
    envoy: Envoy,
    nats: Nats,
    nats_link: Link,
    postgres: Postgres,
    databases: [String; 4],
    program: PathBuf,
    folder: TempDir,
}

/// What a cluster is made with.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The binary that every pod runs.
    pub(crate) program: PathBuf,
    /// The settings by their names; each goes to the service that it names.
    pub(crate) settings: Vec<(String, String)>,
    /// Whether it has a PostgreSQL that nobody else uses, so that it can be stopped.
    pub(crate) own_postgres: bool,
    /// The issuer of its tokens.
    pub(crate) issuer: &'static str,
    /// What it carries on with; nothing if it begins anew.
    pub(crate) stores: Option<Stores>,
}

/// Databases that hold something already, and the key file that goes with them.
#[derive(Clone, Debug)]
pub struct Stores {
    /// The server that they are on.
    pub postgres: Postgres,
    /// The URL of each service's, in the order of [`Service::ALL`]. It may be the same.
    pub databases: [String; 4],
    /// The key file.
    pub secret_file: PathBuf,
}

impl Cluster {
    /// Starts one. `None` when this machine lacks a part of it: that was said then.
    ///
    /// # Errors
    /// The log of what does not come up.
    pub(crate) async fn start(plan: Plan) -> Result<Option<Self>, String> {
        let Some(envoy) = Envoy::program() else { return Ok(None) };
        let postgres = match &plan.stores {
            Some(stores) => Some(stores.postgres.clone()),
            None if plan.own_postgres => Postgres::start().await,
            None => Postgres::shared().await.cloned(),
        };
        let (Some(postgres), Some(nats)) = (postgres, Nats::start().await) else { return Ok(None) };
        let nats_link = Link::new(nats.address());
        let net = Net::new();
        let databases = match &plan.stores {
            Some(stores) => stores.databases.clone(),
            None => {
                tokio::join!(postgres.database(), postgres.database(), postgres.database(), postgres.database()).into()
            }
        };
        let key = plan.stores.as_ref().map(|stores| &*stores.secret_file);
        let folder = Secrets::make(key).map_err(|error| error.to_string())?;
        let ending = Ending { cleared: Some(folder.0.path().to_owned()), ..Ending::default() };
        let mut pods = Vec::new();
        for service in Service::ALL {
            for number in 0..PODS_EACH {
                let mut settings = folder.settings(service);
                settings.extend(addresses(net, service, number));
                let prefix = format!("FLAGHOIST_{}_", service.name().to_uppercase());
                settings.push((format!("{prefix}STORE"), databases[service as usize].clone()));
                settings.push((format!("{prefix}STORE_CONNECTIONS"), STORE_CONNECTIONS.to_string()));
                settings.push((format!("{prefix}ISSUER"), plan.issuer.to_owned()));
                // The gateway is the one that is trusted to say where a call comes from.
                settings.push((format!("{prefix}TRUSTED_HOPS"), "1".into()));
                if service == Service::Receiver {
                    settings.push((format!("{prefix}BUS"), format!("nats://{}", nats_link.address())));
                }
                let of_it = |name: &str| !name.starts_with("FLAGHOIST_") || name.starts_with(&prefix);
                settings.extend(plan.settings.iter().filter(|(name, _)| of_it(name)).cloned());
                pods.push(Pod::new(
                    service,
                    number,
                    net.pod(service, number),
                    plan.program.clone(),
                    settings,
                    ending.clone(),
                ));
            }
        }
        for pod in &pods {
            pod.begin()?;
        }
        let envoy = Envoy::start(envoy, mesh::configuration(net, PODS_EACH), net.admin()).await?;
        let cluster =
            Self { net, pods, envoy, nats, nats_link, postgres, databases, program: plan.program, folder: folder.0 };
        tokio::task::spawn_blocking(move || cluster.until_ready().map(|()| Some(cluster)))
            .await
            .map_err(|error| error.to_string())?
    }

    /// All pods, two of each service.
    pub fn pods(&self) -> &[Pod] {
        &self.pods
    }

    /// Where the tables are.
    pub fn postgres(&self) -> &Postgres {
        &self.postgres
    }

    /// The database of a service.
    pub fn database(&self, service: Service) -> &str {
        &self.databases[service as usize]
    }

    /// What carries hints between the pods of receiver.
    pub fn nats(&self) -> &Nats {
        &self.nats
    }

    /// The network between them and it.
    pub fn nats_link(&self) -> &Link {
        &self.nats_link
    }

    /// What stands between the pods.
    pub fn envoy(&self) -> &Envoy {
        &self.envoy
    }

    /// Where clients call.
    pub fn gateway(&self) -> SocketAddr {
        self.net.gateway()
    }

    /// Where browsers and OAuth clients ask.
    pub fn gateway_http(&self) -> SocketAddr {
        self.net.gateway_http()
    }

    /// The folder that login's pods share; it holds no store.
    pub fn login_folder(&self) -> PathBuf {
        login_folder(self.folder.path())
    }

    /// Starts the pods that are not running and waits until all are ready and Envoy knows it.
    pub(crate) fn start_missing(&self) -> Result<(), String> {
        for pod in self.pods.iter().filter(|pod| !pod.running()) {
            pod.begin()?;
        }
        self.until_ready()
    }

    /// Stops one pod in order, and starts it again from another binary.
    pub(crate) fn replace(&self, place: usize, program: &Path) -> Result<(), String> {
        let pod = &self.pods[place];
        pod.stop_in_order()?;
        pod.run_from_now_on(program);
        self.start_missing()
    }

    /// Kills all pods with SIGKILL.
    pub(crate) fn kill(&self) {
        // All at once: none sees how another goes.
        self.signal(Signal::KILL);
        self.pods.iter().for_each(Pod::kill);
    }

    /// Sends a signal to all pods.
    pub(crate) fn signal(&self, signal: Signal) {
        self.pods.iter().for_each(|pod| pod.signal(signal));
    }

    /// Waits until all pods are gone; how the first that did not end in order ended, if there is one.
    pub(crate) fn wait(&self, limit: Duration) -> Option<Exit> {
        let deadline = Instant::now() + limit;
        let mut whole = Exit::Code(0);
        for pod in &self.pods {
            let exit = pod.wait(deadline.saturating_duration_since(Instant::now()))?;
            if exit != Exit::Code(0) {
                whole = exit;
            }
        }
        Some(whole)
    }

    /// The binary with what an operator tells it: where the stores are.
    pub(crate) fn command(&self) -> Command {
        let stores = self.pods.iter().flat_map(Pod::settings).filter(|(name, _)| name.ends_with("_STORE"));
        let mut command = Command::new(&self.program);
        only_what_the_test_says(&mut command);
        command.envs(stores.map(|(name, value)| (name, value)));
        command
    }

    /// Waits until all pods are ready and Envoy knows it.
    pub(crate) fn until_ready(&self) -> Result<(), String> {
        self.pods.iter().try_for_each(Pod::until_ready)?;
        let began = Instant::now();
        let mut seen_at = None;
        // The threads of Envoy that carry calls learn it after the one that is asked here.
        while seen_at.is_none_or(|at: Instant| at.elapsed() < SETTLED) {
            seen_at = if self.all_seen() { seen_at.or_else(|| Some(Instant::now())) } else { None };
            if began.elapsed() > SEEN_MAX {
                let known = self.envoy.asks("/clusters").unwrap_or_default();
                return Err(format!("Envoy does not see every pod as ready:\n{known}"));
            }
            pod::pause();
        }
        Ok(())
    }

    fn all_seen(&self) -> bool {
        let Some(known) = self.envoy.asks("/stats?filter=membership_healthy") else { return false };
        let seen = |name: &String| known.contains(&format!("cluster.{name}.membership_healthy: {PODS_EACH}\n"));
        mesh::cluster_names().iter().all(seen)
    }

    /// How far each pod's log is.
    pub(crate) fn log_lines(&self) -> Vec<u64> {
        self.pods.iter().map(Pod::log_lines).collect()
    }

    /// What the pods have written since their logs were that far.
    pub(crate) fn log_since(&self, lines: &[u64]) -> String {
        let mut text = String::new();
        for (place, pod) in self.pods.iter().enumerate() {
            let since = lines.get(place).copied().unwrap_or_default();
            for line in pod.log_since(since).lines() {
                let _ = writeln!(text, "{pod}: {line}");
            }
        }
        text
    }
}

/// The files that all pods of an installation are given.
#[derive(Debug)]
struct Secrets(TempDir);

impl Secrets {
    /// Copies the key file, or makes one.
    fn make(key: Option<&Path>) -> std::io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("flaghoist-cluster-").tempdir()?;
        let key = key.map_or_else(|| Ok(rand::random::<[u8; 32]>().to_vec()), std::fs::read)?;
        for (name, content) in [("secret.key", key), ("credential", word().into_bytes())] {
            let path = folder.path().join(name);
            std::fs::write(&path, content)?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        }
        Ok(Self(folder))
    }

    fn settings(&self, service: Service) -> Vec<(String, String)> {
        let prefix = format!("FLAGHOIST_{}_", service.name().to_uppercase());
        let path = |name: &str| self.0.path().join(name).to_string_lossy().into_owned();
        let mut settings = vec![
            (format!("{prefix}SECRET_FILE"), path("secret.key")),
            (format!("{prefix}INTERNAL_CREDENTIAL_FILE"), path("credential")),
        ];
        if service == Service::Login {
            settings.push((format!("{prefix}DATA"), login_folder(self.0.path()).to_string_lossy().into_owned()));
        }
        settings
    }
}

fn login_folder(of_cluster: &Path) -> PathBuf {
    of_cluster.join("login")
}

/// A word that nobody guesses.
fn word() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// Where a pod listens and where it finds the others.
fn addresses(net: Net, service: Service, number: u8) -> Vec<(String, String)> {
    let prefix = format!("FLAGHOIST_{}_", service.name().to_uppercase());
    let pod = net.pod(service, number);
    let mut settings: Vec<(String, String)> =
        [("GRPC", pod::PUBLIC), ("INTERNAL", pod::INTERNAL), ("METRICS", pod::METRICS)]
            .into_iter()
            .map(|(name, port)| (format!("{prefix}{name}_ADDR"), format!("{pod}:{port}")))
            .collect();
    if service.has_http() {
        settings.push((format!("{prefix}HTTP_ADDR"), format!("{pod}:{}", pod::HTTP)));
    }
    if service == Service::Auth {
        settings.push((format!("{prefix}JWKS_ADDR"), format!("{pod}:{}", pod::JWKS)));
    }
    if service == Service::Login {
        settings.push((format!("{prefix}AUTH_PUBLIC_ADDR"), format!("http://{}", net.gateway())));
    }
    for &peer in service.peers() {
        let name = format!("{prefix}{}_ADDR", peer.name().to_uppercase());
        settings.push((name, format!("http://{}", net.internal(peer))));
    }
    settings
}
