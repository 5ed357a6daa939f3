//! What a mesh does for flaghoist, and what it must not do, seen on a real one: the chart is installed into whatever `KUBECONFIG` names,
//! a Kubernetes with Istio, and asked from within by pods with every account, from outside through the gateway, and past the sidecars.
//!
//!     make cluster-test
//!     make cluster-test ARGS="--only access --only tokens"
//!
//! Checks run one after the other, for they share installations; each says what it saw and how long it took. Those of the default
//! installation come first, then those of one on PostgreSQL and NATS, then figures. `tests/README.md` says what each shows.

mod access;
mod ask;
mod configuration;
mod cost;
mod forward;
mod identity;
mod images;
mod installation;
mod lab;
mod opening;
mod pods;
mod programs;
mod restarts;
mod rotation;
mod routes;
mod shedding;
mod tokens;
mod upgrades;

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use futures_util::FutureExt as _;

use crate::lab::Lab;

/// What a check saw, or what is wrong.
pub(crate) type Outcome = Result<String, String>;

/// The checks, in the order in which they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Check {
    /// After a start that takes long the sidecars know the keys as soon as the pods are ready.
    SlowStart,
    /// The chart installs without a value set, into a namespace that enforces the restricted profile.
    Install,
    /// `helm test` passes.
    HelmTest,
    /// Nothing answers to plain text but the one port that istiod reads keys from.
    PlainText,
    /// Every method is refused to everyone whom the contracts do not name.
    Access,
    /// Tokens of each bad kind are refused by the sidecar, and by the service without it.
    Tokens,
    /// Headers that claim to be somebody change nothing.
    Identity,
    /// Calls are retried exactly where their class says, and a message is never doubled.
    Retries,
    /// A slow call is cut off, a stream is left alone.
    Timeouts,
    /// A service that has too much to do sheds load with UNAVAILABLE, at once.
    Shedding,
    /// A pod that fails gets no calls for a while.
    Ejection,
    /// Istio's own analysis finds nothing, and no sidecar has refused what it was sent.
    Configuration,
    /// On SQLite an upgrade is a pause; an uninstallation leaves volumes and keys, with which the next one goes on.
    Uninstall,
    /// An upgrade to another image and other values under load, and back: no call fails, streams are told to go elsewhere.
    Upgrade,
    /// A canary gets its share of the calls.
    Canary,
    /// The promises hold while every service is restarted, and its pods are deleted and killed, under load.
    Restarts,
    /// A new signing key is known to the sidecars before the first token that it signs.
    Rotation,
    /// What two sidecars add to a send.
    Cost,
}

/// Checks an installation on a real mesh.
#[derive(Debug, Parser)]
#[command(name = "make cluster-test ARGS=…")]
struct Arguments {
    /// Runs this check only, and what it needs; may be said several times
    #[arg(long, value_name = "CHECK")]
    only: Vec<Check>,
    /// Ends with the first check that fails, and leaves everything as it is, to be looked at; the next run removes it
    #[arg(long)]
    keep: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    // `cargo test` runs it too, and nobody wants a cluster touched by that.
    if std::env::var_os("FLAGHOIST_TEST_CLUSTER").is_none() {
        eprintln!("LEFT OUT: the tests against a Kubernetes with Istio; `make cluster-test` runs them");
        return ExitCode::SUCCESS;
    }
    let arguments = Arguments::parse();
    let began = Instant::now();
    let mut lab = match Lab::open().await {
        Ok(lab) => lab,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let mut failed = Vec::new();
    for &check in Check::value_variants() {
        if !arguments.only.is_empty() && !arguments.only.contains(&check) {
            continue;
        }
        let began = Instant::now();
        // What waits for something gives up with a panic; the others and the clearing up are still to be done.
        let outcome = AssertUnwindSafe(run(check, &mut lab)).catch_unwind().await;
        let outcome = outcome.unwrap_or_else(|_| Err("it gave up: see above".into()));
        let name = check.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let took = began.elapsed().as_secs_f64();
        match outcome {
            Ok(seen) => println!("ok      {name:14} {took:6.1} s  {seen}"),
            Err(error) => {
                println!("FAILED  {name:14} {took:6.1} s  {error}");
                failed.push(name);
                if arguments.keep {
                    break;
                }
                // What it left is no ground for others.
                if let Err(error) = lab.clear().await {
                    eprintln!("{error}");
                }
            }
        }
    }
    let cleared = if arguments.keep { Ok(()) } else { lab.close().await };
    if let Err(error) = &cleared {
        eprintln!("{error}");
    }
    let took = began.elapsed().as_secs();
    if failed.is_empty() && cleared.is_ok() {
        println!("all as it should be, after {took} s");
        return ExitCode::SUCCESS;
    }
    println!("after {took} s, not as it should be: {}", failed.join(", "));
    ExitCode::FAILURE
}

async fn run(check: Check, lab: &mut Lab) -> Outcome {
    match check {
        Check::SlowStart => opening::slow_start(lab).await,
        Check::Install => opening::install(lab).await,
        Check::HelmTest => opening::helm_test(lab).await,
        Check::PlainText => opening::plain_text(lab).await,
        Check::Access => access::check(lab).await,
        Check::Tokens => tokens::check(lab).await,
        Check::Identity => identity::check(lab).await,
        Check::Retries => routes::retries(lab).await,
        Check::Timeouts => routes::timeouts(lab).await,
        Check::Shedding => shedding::overflow(lab).await,
        Check::Ejection => shedding::ejection(lab).await,
        Check::Configuration => configuration::check(lab).await,
        Check::Uninstall => upgrades::uninstall(lab).await,
        Check::Upgrade => upgrades::upgrade(lab).await,
        Check::Canary => upgrades::canary(lab).await,
        Check::Restarts => restarts::check(lab).await,
        Check::Rotation => rotation::check(lab).await,
        Check::Cost => cost::measure(lab).await,
    }
}
