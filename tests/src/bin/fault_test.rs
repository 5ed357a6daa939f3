//! Makes faults in a cluster for as long as wanted: `fault_test --minutes 60 --seed 7`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use flaghoist_tests::fault;

/// Kills, freezes, stops and cuts off parts of a cluster under load and checks that it keeps its promises.
#[derive(Debug, Parser)]
struct Arguments {
    /// For how long; the last set of faults is finished then.
    #[arg(long, default_value_t = 5)]
    minutes: u64,
    /// What the random decisions grow from; a random one if left out.
    #[arg(long)]
    seed: Option<u64>,
    /// Makes one kind of fault only.
    #[arg(long)]
    only: Option<fault::Fault>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { minutes, seed, only } = Arguments::parse();
    let seed = seed.unwrap_or_else(rand::random);
    println!("seed {seed}, {minutes} minutes");
    let plan = fault::Plan { lasts: Duration::from_secs(minutes * 60), seed, only, talkative: true };
    match fault::run(plan).await {
        None => ExitCode::SUCCESS,
        Some(Ok(totals)) => {
            println!("kept: {totals}");
            ExitCode::SUCCESS
        }
        Some(Err(broken)) => {
            eprintln!("BROKEN: {broken}");
            ExitCode::FAILURE
        }
    }
}
