#![doc = include_str!("../README.md")]

mod admin;
mod check;
mod client;
mod exit;
mod serve;
mod smoke;

use std::ffi::OsString;
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
    /// Run the server: all services in one process
    Serve(serve::OfAll),
    /// Run one service as a process of its own; `flaghoist auth`, `login`, `send` and `receiver` do the same
    Service(serve::OfOne),
    /// Administer a server: as a signed-in admin from anywhere, or on its own machine
    #[command(subcommand)]
    Admin(admin::Command),
    /// Print all settings of the server as a markdown table
    Settings,
    /// Check a cluster before and after an installation into it: versions, mesh, policies, stores, clocks, certificates
    Check(check::Arguments),
    /// Try an installation: two people talk, and what must be refused is refused
    Smoke(smoke::Arguments),
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
    let words = in_full(std::env::args_os());
    let arguments = match Arguments::try_parse_from(&words) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            if let [_, name] = words.as_slice()
                && (name == "login" || name == "send")
            {
                let name = name.to_string_lossy();
                eprintln!("\nflaghoist: `flaghoist service {name}` runs the service of that name");
            }
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

/// The short form of `flaghoist service send` in full. Two services are called as commands of the client are, who always say more: to
/// whom, or who. With flags or settings of a service, and nothing else, the service is meant.
fn in_full(words: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut words = words.collect::<Vec<_>>();
    let texts = words.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>();
    let [_, name, rest @ ..] = texts.as_slice() else { return words };
    let service = match name.as_str() {
        "auth" | "receiver" => true,
        "login" | "send" => serve::only_of_a_service(rest.iter().map(String::as_str)) && !serve::half_said(name, rest),
        _ => false,
    };
    if service {
        words.insert(1, "service".into());
    }
    words
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.command {
        Command::Serve(arguments) => arguments.run(),
        Command::Service(arguments) => arguments.run(),
        Command::Admin(command) => block_on(admin::run(arguments.options, command)),
        Command::Settings => {
            print!("{}", serve::markdown());
            Ok(())
        }
        Command::Check(check) => block_on(check::run(check, arguments.options.json)),
        Command::Smoke(arguments) => block_on(smoke::run(arguments)),
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
