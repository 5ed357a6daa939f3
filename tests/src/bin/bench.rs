//! The benchmark's command line: `bench sends --online`, `bench end-to-end --rate 5000`, … See `--help`.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use flaghoist_tests::bench::{self, Scenario, Subject};

/// Puts load on a server and says what it did. Without --server it builds and starts a release server itself.
#[derive(Debug, Parser)]
struct Arguments {
    /// A server that runs already, `http://HOST:PORT` of its gRPC port
    #[arg(long, global = true, value_name = "URL")]
    server: Option<String>,
    /// Starts a cluster instead: two pods of each service on PostgreSQL and NATS
    #[arg(long, global = true, conflicts_with = "server")]
    cluster: bool,
    /// Adds the figures to this file, one JSON object a line
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    #[command(flatten)]
    Scenario(Scenario),
    /// Serves the bare echo that `floor` measures
    #[command(hide = true)]
    EchoServer,
}

fn main() -> ExitCode {
    let Arguments { server, cluster, json, what } = Arguments::parse();
    let subject = match server {
        Some(url) => Subject::Elsewhere(url),
        None if cluster => Subject::Cluster,
        None => Subject::Server,
    };
    let outcome = match what {
        What::EchoServer => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
            return match runtime.map(|runtime| runtime.block_on(bench::serve_echo())) {
                Ok(Ok(())) => ExitCode::SUCCESS,
                _ => ExitCode::FAILURE,
            };
        }
        // One thread for all of the load: the other core is the server's.
        What::Scenario(scenario) => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())
            .and_then(|runtime| runtime.block_on(bench::run(scenario, &subject))),
    };
    let written = outcome.and_then(|report| {
        print!("{report}");
        let Some(path) = json else { return Ok(()) };
        let mut file =
            std::fs::OpenOptions::new().create(true).append(true).open(path).map_err(|error| error.to_string())?;
        writeln!(file, "{}", report.json()).map_err(|error| error.to_string())
    });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}
