//! Runs the crash test for as many rounds as wanted: `crash_test --rounds 300 --seed 7`.

use std::process::ExitCode;

use clap::Parser;
use flaghoist_tests::crash;

/// Kills a server at random moments under load and checks that it keeps its promises.
#[derive(Debug, Parser)]
struct Arguments {
    /// How often the server is killed.
    #[arg(long, default_value_t = 10)]
    rounds: u32,
    /// What the random decisions grow from; a random one if left out.
    #[arg(long)]
    seed: Option<u64>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { rounds, seed } = Arguments::parse();
    let seed = seed.unwrap_or_else(rand::random);
    println!("seed {seed}, {rounds} rounds");
    match crash::run(crash::Plan { rounds, seed, talkative: true }).await {
        Ok(totals) => {
            println!("kept: {totals}");
            ExitCode::SUCCESS
        }
        Err(broken) => {
            eprintln!("BROKEN: {broken}");
            ExitCode::FAILURE
        }
    }
}
