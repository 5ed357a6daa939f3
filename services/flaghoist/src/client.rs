//! The command line for people: one small file for each command, below them the connection to the server, the profile
//! with the tokens, and what is printed.

mod account;
mod connection;
mod conversations;
mod group;
mod history;
mod listen;
mod login;
mod logout;
mod names;
mod output;
mod password;
mod profile;
mod read;
mod refusal;
mod register;
mod send;
mod sessions;
mod target;
mod whoami;

use clap::{Args, Subcommand};

use self::connection::Connection;
pub(crate) use self::connection::{DEFAULT_SERVER, Signed};
pub(crate) use self::names::Names;
pub(crate) use self::output::{Output, harmless, time, time_value};
use self::profile::ProfileFile;
pub(crate) use self::refusal::unreachable;
pub(crate) use self::target::person;
use crate::exit::Failure;

/// What every client command understands.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of the client commands")]
pub(crate) struct Options {
    /// The server's gRPC address; the profile's own server if not given, else `http://127.0.0.1:9000`
    #[arg(long, global = true, value_name = "URL", env = "FLAGHOIST_SERVER")]
    server: Option<String>,
    /// Keeps several people apart: tokens lie in ~/.config/flaghoist/NAME.json
    #[arg(long, global = true, value_name = "NAME", env = "FLAGHOIST_PROFILE", default_value = "default")]
    profile: String,
    /// Print one JSON object a line
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// What a person can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Register a person
    Register(register::Arguments),
    /// Sign in, and keep the tokens in the profile
    Login(login::Arguments),
    /// Say who is signed in
    #[command(after_help = "Example:\n  flaghoist whoami --json")]
    Whoami,
    /// Send a message
    Send(send::Arguments),
    /// Print what arrives, and acknowledge it
    Listen(listen::Arguments),
    /// Print the messages of a conversation, the newest last
    History(history::Arguments),
    /// List the conversations
    #[command(
        after_help = "Example:\n  flaghoist conversations\n  flaghoist conversations --json | jq -r .conversation"
    )]
    Conversations,
    /// Mark a conversation as read
    Read(read::Arguments),
    /// Begin and change groups
    #[command(subcommand)]
    Group(group::Command),
    /// List the sessions of the person who is signed in, or end one
    Sessions(sessions::Arguments),
    /// See, take along or delete what is yours
    #[command(subcommand)]
    Account(account::Command),
    /// Sign out: end the session and forget the tokens
    Logout(logout::Arguments),
}

/// What the commands work with.
#[derive(Debug)]
pub(crate) struct Client {
    server: Option<String>,
    file: ProfileFile,
    /// Where they print.
    pub(crate) output: Output,
}

impl Client {
    /// What the options say.
    pub(crate) fn new(options: Options) -> Result<Self, Failure> {
        Ok(Self {
            server: options.server.filter(|server| !server.is_empty()),
            file: ProfileFile::of_user(&options.profile)?,
            output: Output::new(options.json),
        })
    }

    /// A connection on which nobody is signed in.
    fn connection(&self) -> Result<Connection, Failure> {
        match &self.server {
            Some(server) => Connection::new(server),
            None => {
                let profile = self.file.read()?;
                Connection::new(profile.as_ref().map_or(DEFAULT_SERVER, |profile| &profile.server))
            }
        }
    }

    /// A connection of the person who is signed in.
    pub(crate) fn signed(&self) -> Result<Signed, Failure> {
        Signed::open(self.file.clone(), self.server.as_deref())
    }
}

/// Does what `command` says.
pub(crate) async fn run(options: Options, command: Command) -> Result<(), Failure> {
    let client = Client::new(options)?;
    match command {
        Command::Register(arguments) => register::run(&client, arguments).await,
        Command::Login(arguments) => login::run(&client, arguments).await,
        Command::Whoami => whoami::run(&client).await,
        Command::Send(arguments) => send::run(&client, arguments).await,
        Command::Listen(arguments) => listen::run(&client, arguments).await,
        Command::History(arguments) => history::run(&client, arguments).await,
        Command::Conversations => conversations::run(&client).await,
        Command::Read(arguments) => read::run(&client, arguments).await,
        Command::Group(command) => group::run(&client, command).await,
        Command::Sessions(arguments) => sessions::run(&client, arguments).await,
        Command::Account(command) => account::run(&client, command).await,
        Command::Logout(arguments) => logout::run(&client, arguments).await,
    }
}
