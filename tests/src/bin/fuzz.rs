//! Runs the fuzzer for so many seconds: `fuzz --seconds 60 --seed 7`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use flaghoist_tests::fuzz;

/// Throws changed inputs at everything that parses bytes from outside.
#[derive(Debug, Parser)]
struct Arguments {
    /// For how long
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// What the inputs grow from; a random one if left out
    #[arg(long)]
    seed: Option<u64>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { seconds, seed } = Arguments::parse();
    let seed = seed.unwrap_or_else(rand::random);
    println!("seed {seed}, {seconds} s");
    match fuzz::run(Duration::from_secs(seconds), seed).await {
        Ok(tried) => {
            println!("nothing found in {tried}");
            ExitCode::SUCCESS
        }
        Err(broken) => {
            eprintln!("FOUND: {broken}");
            ExitCode::FAILURE
        }
    }
}
