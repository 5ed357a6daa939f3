//! `flaghoist serve`: the four services in one process, on SQLite, with no network between them. This file is the order of
//! a start and of a stop: settings, telemetry, the data folder's lock, listeners, services, readiness; then the drain.

mod bound;
mod listeners;
mod lock;
mod services;
mod settings;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use flaghoist_runtime::server::prepare_process;
use flaghoist_runtime::{Context, Drain, DrainTrigger, Place, Readiness, Verifier, sqlite, telemetry};
use tokio::signal::unix::{Signal, SignalKind, signal};

pub(crate) use self::lock::DataLock;
use self::settings::{Flags, Settings};
pub(crate) use self::settings::{data_folder, help, markdown};
use crate::exit::{Exit, Failure};

/// How long the end of a drain may take: closing what was told to go away at once.
const END: Duration = Duration::from_secs(2);
/// After how long a start that is not ready yet says what it waits for.
const SLOW_START: Duration = Duration::from_secs(3);

/// The arguments of `serve`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  flaghoist serve
  flaghoist serve --data /var/lib/flaghoist --issuer https://chat.example.com
  flaghoist serve --grpc-addr 127.0.0.1:0 --http-addr 127.0.0.1:0 --metrics-addr 127.0.0.1:0

Every setting is an environment variable too; `--help` lists them all.", after_long_help = help())]
pub(crate) struct Arguments {
    #[command(flatten)]
    flags: Flags,
}

/// Serves until the process is told to stop.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let settings = Settings::read(&arguments.flags)?;
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
    let telemetry = Arc::new(telemetry::init(settings.log_format, "flaghoist"));
    let lock = DataLock::take_or_make(&settings.data)?;
    let bound = bound::Bound::bind(&settings).await?;

    let (trigger, drain) = Drain::new();
    let readiness = Arc::new(Readiness::new());
    let context = Context {
        verifier: Verifier::new(settings.issuer.clone()),
        drain: drain.clone(),
        readiness: Arc::clone(&readiness),
        issuer: settings.issuer.clone(),
        trusted_hops: settings.trusted_hops,
    };
    let place = Place::new(&settings.data);
    let started = tokio::select! {
        started = services::start(settings.services.clone(), &place, &context) => started?,
        () = signals.next() => return Ok(()),
    };
    let addresses = bound.addresses();
    let mut serving = listeners::serve(bound, started, &context, &settings, &telemetry);

    tokio::select! {
        () = ready(&readiness) => {}
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
    sqlite::settle(&settings.data).await;
    drop(lock);
    stopped
}

/// Waits until every part is ready, and says what is missing if that takes long.
async fn ready(readiness: &Readiness) {
    while tokio::time::timeout(SLOW_START, readiness.ready()).await.is_err() {
        tracing::warn!(waiting_for = ?readiness.waiting_for(), "not ready yet");
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
