//! The load generator: what the server can do, measured from outside.
//!
//! It shares two cores with the server, so it is spare with them: HTTP/2 by hand over a few connections, requests that are
//! built beforehand, loops that live as long as the run instead of a task for each call. Where a rate is asked for, load
//! is an open loop: a call has a time at which it is meant to go out, whatever the calls before it do, and its latency
//! counts from there to the receiver's parse.

mod crowd;
mod end_to_end;
mod floor;
mod frames;
mod idle;
mod login_timing;
mod logins;
mod report;
mod sends;
mod small;
mod soft_key;
mod tokens;
mod wire;

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};

pub use floor::serve_echo;
pub use report::Report;

use crate::binary::Profile;
use crate::cluster::{Pod, Service};
use crate::person::Person;
use crate::world::World;

/// What to measure.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Scenario {
    /// As many answered sends as go: recipients offline, or listening and acknowledging
    Sends(sends::Options),
    /// Messages at a steady rate from the intended send to the receiver's parse and the answered acknowledgement
    EndToEnd(end_to_end::Options),
    /// Devices that come back to a long backlog at once, beside live deliveries
    Reconnect(crowd::Reconnect),
    /// One message to a large group that is online
    Group(crowd::Group),
    /// Memory of the server for each open stream that has nothing to say
    IdleStreams(idle::Options),
    /// The answer to one caller who sends one message after the other
    OneCaller(small::OneCaller),
    /// From the start of the process until it is ready
    Startup(small::Startup),
    /// Refresh grants
    Refresh(small::Refresh),
    /// What the issuer gives and says, also out of a full store
    Tokens(tokens::Options),
    /// Password logins, and their share of the machine's raw argon2id rate
    Logins(logins::Options),
    /// Logins by a security key and refresh grants while password logins keep the hash threads busy
    BesideLogins(logins::Beside),
    /// Whether the time of a refused login says that there is such an account
    LoginTiming(login_timing::Options),
    /// What a send costs in a long conversation and in a new one
    History(small::History),
    /// What the machine gives: the disk's fdatasync, and a tonic server that only answers
    Floor(floor::Options),
}

/// What is put under load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A release build of the embedded server, started for this.
    Server,
    /// A cluster of release builds, started for this.
    Cluster,
    /// What runs already at `http://HOST:PORT`.
    Elsewhere(String),
}

/// The server, or the cluster, under load.
#[derive(Debug)]
pub struct Target {
    world: World,
    /// Where everything is taken, unless it is a cluster: then load goes to the pods themselves, and what stands between
    /// them carries only what they say to one another.
    address: SocketAddr,
    own: bool,
}

impl Target {
    /// Starts what is to be started, with cheap password hashes and no limits on how often one may call.
    ///
    /// # Errors
    /// The log of a server that does not come up, or what is wrong with an address.
    pub async fn new(subject: &Subject) -> Result<Self, String> {
        let builder = match subject {
            Subject::Elsewhere(url) => return Self::running(url),
            Subject::Server => own_world().embedded(),
            Subject::Cluster => own_world().own_postgres().setting("FLAGHOIST_SEND_STORE_CONNECTIONS", 16),
        };
        let world = builder.try_start().await?;
        let address = world.grpc().ok_or("the server is gone")?;
        Ok(Self { world, address, own: *subject == Subject::Server })
    }

    /// Where a service takes calls: connection `number` of several, which are spread over its pods.
    fn place(&self, service: Service, number: usize) -> SocketAddr {
        let Some(cluster) = self.world.cluster() else { return self.address };
        let pods: Vec<SocketAddr> =
            cluster.pods().iter().filter(|pod| pod.service() == service).map(Pod::public).collect();
        pods[number % pods.len()]
    }

    fn running(url: &str) -> Result<Self, String> {
        let place = url.strip_prefix("http://").ok_or("the server's address is http://HOST:PORT")?;
        let mut addresses = place.trim_end_matches('/').to_socket_addrs().map_err(|error| format!("{url}: {error}"))?;
        let address = addresses.next().ok_or_else(|| format!("{url} has no address"))?;
        Ok(Self { world: World::elsewhere(address), address, own: false })
    }

    /// Registers people, 16 at a time.
    async fn people(&self, count: usize) -> Vec<Person> {
        stream::iter(0..count).map(|_| self.world.person("bench")).buffered(16).collect().await
    }

    /// What the server's process, or those of all pods, have used of the processor; `None` if it was not started here.
    fn cpu_time(&self) -> Option<Duration> {
        match self.world.cluster() {
            Some(cluster) => Some(cluster.pods().iter().map(Pod::cpu_time).sum()),
            None => self.own.then(|| self.world.with_server(crate::Server::cpu_time)),
        }
    }
}

/// A world for measurements.
fn own_world() -> crate::WorldBuilder {
    World::builder()
        .profile(Profile::Release)
        .without_limits()
        .setting("FLAGHOIST_AUTH_ACCESS_TOKEN_LIFETIME", "1h")
        .setting("FLAGHOIST_RECEIVER_DEVICES_MAX", "1000")
}

/// Runs a scenario.
///
/// # Errors
/// Why it could not be measured.
pub async fn run(scenario: Scenario, subject: &Subject) -> Result<Report, String> {
    raise_file_limit();
    let target = async || Target::new(subject).await;
    match scenario {
        Scenario::Sends(options) => sends::run(options, &target().await?).await,
        Scenario::EndToEnd(options) => end_to_end::run(options, &target().await?).await,
        Scenario::Reconnect(options) => crowd::reconnect(options, &target().await?).await,
        Scenario::Group(options) => crowd::group(options, &target().await?).await,
        Scenario::IdleStreams(options) => idle::run(options, &target().await?).await,
        Scenario::OneCaller(options) => small::one_caller(options, &target().await?).await,
        Scenario::Startup(options) => small::startup(options).await,
        Scenario::Refresh(options) => small::refresh(options, &target().await?).await,
        Scenario::Tokens(options) => tokens::run(options).await,
        Scenario::Logins(options) => logins::run(options).await,
        Scenario::BesideLogins(options) => logins::beside(options).await,
        Scenario::LoginTiming(options) => login_timing::run(options).await,
        Scenario::History(options) => small::history(options, &target().await?).await,
        Scenario::Floor(options) => floor::run(options).await,
    }
}

/// Thousands of connections need thousands of files, here and in the server, which inherits the limit.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // What cannot be raised shows when a connection is refused.
    let _ = setrlimit(Resource::Nofile, limit);
}
