//! The load generator: what the server can do, measured from outside.
//!
//! It shares two cores with the server, so it is spare with them: HTTP/2 by hand over a few connections, requests that are
//! built beforehand, loops that live as long as the run instead of a task for each call. Where a rate is asked for, load
//! is an open loop: a call has a time at which it is meant to go out, whatever the calls before it do, and its latency
//! counts from there to the receiver's parse.

mod end_to_end;
mod floor;
mod frames;
mod idle;
mod report;
mod sends;
mod small;
mod wire;

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};

pub use floor::serve_echo;
pub use report::Report;

use crate::binary::Profile;
use crate::person::Person;
use crate::world::World;

/// What to measure.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Scenario {
    /// As many answered sends as go: recipients offline, or listening and acknowledging
    Sends(sends::Options),
    /// Messages at a steady rate from the intended send to the receiver's parse and the answered acknowledgement
    EndToEnd(end_to_end::Options),
    /// Memory of the server for each open stream that has nothing to say
    IdleStreams(idle::Options),
    /// The answer to one caller who sends one message after the other
    OneCaller(small::OneCaller),
    /// From the start of the process until it is ready
    Startup(small::Startup),
    /// Refresh grants
    Refresh(small::Refresh),
    /// What a send costs in a long conversation and in a new one
    History(small::History),
    /// What the machine gives: the disk's fdatasync, and a tonic server that only answers
    Floor(floor::Options),
}

/// The server under load.
#[derive(Debug)]
pub struct Target {
    world: World,
    address: SocketAddr,
    own: bool,
}

impl Target {
    /// Starts a release build of the server with cheap password hashes and no limits on how often one may call.
    ///
    /// # Errors
    /// The log of a server that does not come up.
    pub async fn own() -> Result<Self, String> {
        let world = own_world().try_start().await?;
        let address = world.grpc().ok_or("the server is gone")?;
        Ok(Self { world, address, own: true })
    }

    /// A server that runs already, `http://HOST:PORT`.
    ///
    /// # Errors
    /// When the address cannot be read or resolved.
    pub fn running(url: &str) -> Result<Self, String> {
        let place = url.strip_prefix("http://").ok_or("the server's address is http://HOST:PORT")?;
        let mut addresses = place.trim_end_matches('/').to_socket_addrs().map_err(|error| format!("{url}: {error}"))?;
        let address = addresses.next().ok_or_else(|| format!("{url} has no address"))?;
        Ok(Self { world: World::elsewhere(address), address, own: false })
    }

    /// Registers people, 16 at a time.
    async fn people(&self, count: usize) -> Vec<Person> {
        stream::iter(0..count).map(|_| self.world.person("bench")).buffered(16).collect().await
    }

    /// What the server's process has used of the processor; `None` if it was not started here.
    fn cpu_time(&self) -> Option<Duration> {
        self.own.then(|| self.world.with_server(crate::Server::cpu_time))
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
pub async fn run(scenario: Scenario, server: Option<&str>) -> Result<Report, String> {
    raise_file_limit();
    let target = async || match server {
        Some(url) => Target::running(url),
        None => Target::own().await,
    };
    match scenario {
        Scenario::Sends(options) => sends::run(options, &target().await?).await,
        Scenario::EndToEnd(options) => end_to_end::run(options, &target().await?).await,
        Scenario::IdleStreams(options) => idle::run(options, &target().await?).await,
        Scenario::OneCaller(options) => small::one_caller(options, &target().await?).await,
        Scenario::Startup(options) => small::startup(options).await,
        Scenario::Refresh(options) => small::refresh(options, &target().await?).await,
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
