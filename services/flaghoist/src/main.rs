#![doc = include_str!("../README.md")]

mod admin;
mod client;
mod exit;
mod serve;

use std::io;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

use self::exit::{Exit, Failure};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A chat back end in one binary, and the command line for the people who use it.
#[derive(Debug, Parser)]
#[command(name = "flaghoist", version, after_help = after_help(), max_term_width = 120)]
struct Arguments {
    #[command(flatten)]
    options: client::Options,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server: all services in one process, on SQLite
    Serve(serve::Arguments),
    /// Administer a server on its own machine
    #[command(subcommand)]
    Admin(admin::Command),
    /// Print all settings of the server as a markdown table
    Settings,
    #[command(flatten)]
    Client(client::Command),
    /// Print a script with which the shell completes commands and options
    #[command(
        after_help = "Example:\n  flaghoist completions bash > ~/.local/share/bash-completion/completions/flaghoist"
    )]
    Completions {
        /// The shell
        shell: Shell,
    },
}

fn after_help() -> String {
    format!(
        "\
Examples:
  flaghoist serve
  flaghoist register alice
  flaghoist send @bob 'hi'
  flaghoist listen

{}",
        exit::TABLE
    )
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(Exit::Usage as u8) } else { ExitCode::SUCCESS };
        }
    };
    // What is made here is for its owner alone: stores, keys, tokens.
    rustix::process::umask(rustix::fs::Mode::from_bits_truncate(0o077));
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.command {
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Admin(command) => block_on(admin::run(command)),
        Command::Settings => {
            print!("{}", serve::markdown());
            Ok(())
        }
        Command::Client(command) => block_on(client::run(arguments.options, command)),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "flaghoist", &mut io::stdout());
            Ok(())
        }
    }
}

/// Runs a command other than the server; one thread is enough for it.
fn block_on(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot start: {error}")))?
        .block_on(command)
}
