//! The server: `flaghoist serve` runs the four services in one process, with no network between them, `flaghoist
//! auth|login|send|receiver` one of them by itself. This file is the order of a start and of a stop, the same for all: settings,
//! telemetry, the data folder's lock, listeners, services, readiness; then the drain.

mod bound;
mod flags;
mod keys;
mod listeners;
mod lock;
mod process;
mod services;
mod settings;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use flaghoist_runtime::server::prepare_process;
use flaghoist_runtime::{Context, Drain, DrainTrigger, Place, Readiness, Verifier, sqlite, telemetry};
use tokio::signal::unix::{Signal, SignalKind, signal};

pub(crate) use self::flags::only_of_a_service;
pub(crate) use self::lock::DataLock;
pub(crate) use self::process::{Process, Service};
use self::settings::Settings;
pub(crate) use self::settings::{
    data_folder, help, help_of_services, markdown, seal_files, secret_file, store_in, store_of,
};
use crate::exit::{Exit, Failure};

/// How long the end of a drain may take: closing what was told to go away at once.
const END: Duration = Duration::from_secs(2);
/// After how long a start that is not ready yet says what it waits for.
const SLOW_START: Duration = Duration::from_secs(3);

/// How `serve` is called.
const OF_ALL: &str = "\
Examples:
  flaghoist serve
  flaghoist serve --data /var/lib/flaghoist --issuer https://chat.example.com
  flaghoist serve --grpc-addr 127.0.0.1:0 --http-addr 127.0.0.1:0 --metrics-addr 127.0.0.1:0";

/// How `service` is called.
const OF_ONE: &str = "\
Examples:
  flaghoist service auth
  flaghoist auth                       the same, and so is receiver
  FLAGHOIST_SEND_LOGIN_ADDR=http://login:9001 flaghoist send --internal-addr 0.0.0.0:9001
                                       login and send are commands of the client where nothing sets them up";

/// The arguments of `serve`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = format!("{OF_ALL}\n\nEvery setting is an environment variable too; `--help` lists them all."),
    after_long_help = format!("{OF_ALL}\n\n{}", help(Process::All)),
)]
pub(crate) struct OfAll {
    #[command(flatten)]
    flags: flags::OfAll,
}

/// The arguments of `service`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = format!("{OF_ONE}\n\nEvery setting is an environment variable too; `--help` lists them all."),
    after_long_help = format!("{OF_ONE}\n\n{}", help_of_services()),
)]
pub(crate) struct OfOne {
    /// The service
    service: Service,
    #[command(flatten)]
    flags: flags::OfOne,
}

impl OfAll {
    /// Serves until the process is told to stop.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        run(Settings::read(Process::All, &self.flags.named())?)
    }
}

impl OfOne {
    /// Serves until the process is told to stop.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        run(Settings::read(Process::One(self.service), &self.flags.named())?)
    }
}

/// Whether only the name of a service was said, without a flag or a setting that would set it up. `flaghoist login` alone is half a
/// command of the client then, of a person or of a script whose variable was empty, and must open no port.
pub(crate) fn half_said(service: &str, flags: &[String]) -> bool {
    let prefix = format!("FLAGHOIST_{}_", service.to_uppercase());
    let set_up = std::env::vars_os().any(|(name, _)| name.to_string_lossy().starts_with(&prefix));
    flags.is_empty() && !set_up
}

fn run(settings: Settings) -> Result<(), Failure> {
    // Before the first thread and the first allocation of size.
    prepare_process();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot start threads: {error}")))?;
    let served = runtime.block_on(serve(settings));
    // What is still running was given its time.
    runtime.shutdown_timeout(END);
    served
}

async fn serve(settings: Settings) -> Result<(), Failure> {
    // Before anything else, so that no signal is lost.
    let mut signals = Signals::new()?;
    let telemetry = Arc::new(telemetry::init(settings.log_format, settings.process.telemetry_name()));
    let lock = settings.uses_folder.then(|| DataLock::take_or_make(&settings.data, settings.process)).transpose()?;
    let bound = bound::Bound::bind(&settings).await?;

    let (trigger, drain) = Drain::new();
    let readiness = Arc::new(Readiness::new());
    let verifier = Verifier::new(settings.issuer.clone());
    verifier.set_addresses(&settings.public_urls);
    let context = Context {
        verifier,
        drain: drain.clone(),
        readiness: Arc::clone(&readiness),
        issuer: settings.issuer.clone(),
        trusted_hops: settings.trusted_hops,
    };
    let place = Place { data: settings.data.clone(), secret_file: settings.secret_file.clone() };
    let addresses = bound.addresses();
    // Before anyone can ask, so that nothing is ready too early.
    let starting = settings.process.services().map(|service| readiness.token(service.name())).collect::<Vec<_>>();
    let (mut serving, waiting) = listeners::serve(bound, &context, &settings, &telemetry);
    let start = slowly(&readiness, services::start(&settings, &place, &context));
    tokio::select! {
        started = start => waiting.start(started?),
        () = signals.next() => return Ok(()),
    }
    drop(starting);

    tokio::select! {
        () = slowly(&readiness, readiness.ready()) => {}
        () = signals.next() => return stop(trigger, serving, signals, settings.grace).await,
    }
    addresses.announce(&settings);
    tokio::select! {
        () = signals.next() => {}
        Some(_) = serving.join_next() => {
            drop(lock);
            return Err(Failure::new(Exit::Failed, "a listener ended by itself; the log says why"));
        }
    }
    let stopped = stop(trigger, serving, signals, settings.grace).await;
    if lock.is_some() {
        let names = settings.process.services().map(Service::name).collect::<Vec<_>>();
        sqlite::settle(&settings.data, &names).await;
    }
    drop(lock);
    stopped
}

/// Waits for a part of the start, and says what is missing if that takes long.
async fn slowly<T>(readiness: &Readiness, part: impl Future<Output = T>) -> T {
    tokio::pin!(part);
    loop {
        match tokio::time::timeout(SLOW_START, &mut part).await {
            Ok(done) => return done,
            Err(_) => tracing::warn!(waiting_for = ?readiness.waiting_for(), "not ready yet"),
        }
    }
}

/// Drains: nothing new is taken, streams are told to go elsewhere, running calls finish. What is not done when the grace is
/// over, or at a second signal, is dropped.
async fn stop(
    trigger: DrainTrigger,
    mut serving: tokio::task::JoinSet<()>,
    mut signals: Signals,
    grace: Duration,
) -> Result<(), Failure> {
    tracing::info!(grace_ms = grace.as_millis(), "stopping: running calls finish, streams are told to go");
    trigger.start();
    let all = async { while serving.join_next().await.is_some() {} };
    tokio::pin!(all);
    let in_time = tokio::select! {
        () = &mut all => true,
        () = tokio::time::sleep(grace) => false,
        () = signals.next() => false,
    };
    trigger.end();
    if !in_time {
        tracing::warn!("dropping what is still open");
        let _ = tokio::time::timeout(END, all).await;
    }
    tracing::info!("stopped");
    Ok(())
}

/// The signals that ask the process to stop.
#[derive(Debug)]
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::new(Exit::Failed, format!("no signals: {error}")));
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Whether a path is there at all, for commands that work on a server's folder.
pub(crate) fn require(data: &Path) -> Result<(), Failure> {
    if data.is_dir() {
        return Ok(());
    }
    Err(Failure::new(Exit::BadInput, format!("there is no folder {}: name the server's with --data", data.display())))
}
