//! `flaghoist admin`: what an operator does.
//!
//! Clients, keys and the audit log are looked after over gRPC by an admin who is signed in, as in the client commands, so it is the same
//! for a server on this machine and for a cluster. The rest is done beside the server, by whoever may write to its data folder or
//! knows the way into its databases; where a store is, the services' own settings say (`FLAGHOIST_LOGIN_STORE` and so on).

mod audit;
mod backup;
mod client;
mod key;
mod migrate;

use std::path::{Path, PathBuf};

use flaghoist_runtime::{Place, StoreAddress, fault};

use crate::client::{Client, Options};
use crate::exit::{Exit, Failure};
use crate::serve::{DataLock, Process, Service, data_folder, require, store_of};

/// What an operator does.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Look after the OAuth clients, as an admin who is signed in
    #[command(subcommand)]
    Client(Box<client::Command>),
    /// Look after the keys that sign tokens, as an admin who is signed in; `reseal` on the server's machine
    #[command(subcommand)]
    Key(key::Command),
    /// Read the audit log, as an admin who is signed in
    #[command(subcommand)]
    Audit(audit::Command),
    /// Make a person an admin, from their next sign-in on; the server may be running
    #[command(after_help = "\
Examples:
  flaghoist admin grant alice --data /var/lib/flaghoist
  FLAGHOIST_LOGIN_STORE=postgres://login@db/flaghoist flaghoist admin grant alice")]
    Grant {
        /// The person's handle
        handle: String,
        /// The server's data folder [default: `$FLAGHOIST_SERVE_DATA`, else ./data]
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
    },
    /// Copy the stores in a data folder into a new folder, each as it is at one moment; the server may be running
    #[command(after_help = "\
Examples:
  flaghoist admin backup /backups/2026-11-25 --data /var/lib/flaghoist

To restore: stop the server, put a copy of the backup in the place of its data folder, say
`flaghoist admin restored`, start it. Stores in PostgreSQL are copied by its own tools.")]
    Backup {
        /// The folder to make; there must be none of that name
        folder: PathBuf,
        /// The server's data folder [default: `$FLAGHOIST_SERVE_DATA`, else ./data]
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
    },
    /// Say that the store of `send` was restored from a backup, so that devices start from what it holds; no server may be
    /// running on it
    #[command(after_help = "\
Examples:
  flaghoist admin restored --data /var/lib/flaghoist
  FLAGHOIST_SEND_STORE=postgres://send@db/flaghoist flaghoist admin restored")]
    Restored {
        /// The server's data folder [default: `$FLAGHOIST_SERVE_DATA`, else ./data]
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
    },
    /// Move the SQLite stores of a stopped server into PostgreSQL, where pods carry on with all of it: accounts, sessions,
    /// conversations, devices and their positions
    #[command(after_help = migrate::HELP)]
    MigrateStore(migrate::Arguments),
}

/// Does what `command` says.
pub(crate) async fn run(options: Options, command: Command) -> Result<(), Failure> {
    match command {
        Command::Client(command) => client::run(&Client::new(options)?, *command).await,
        Command::Key(command) => key::run(options, command).await,
        Command::Audit(command) => audit::run(&Client::new(options)?, command).await,
        Command::Grant { handle, data } => grant(&handle, data_folder(data)).await,
        Command::Backup { folder, data } => backup::make(&folder, &data_folder(data)).await,
        Command::Restored { data } => restored(data_folder(data)).await,
        Command::MigrateStore(arguments) => migrate::run(arguments).await,
    }
}

async fn grant(handle: &str, data: PathBuf) -> Result<(), Failure> {
    let store = store_of(Service::Login)?;
    require_folder(&store, &data)?;
    let granted = flaghoist_login::grant_admin(&store, &Place::new(data), handle)
        .await
        .map_err(|error| Failure::new(Exit::BadInput, fault::chain(&error)))?;
    if granted.already {
        println!("@{} is an admin already", granted.handle);
    } else {
        println!("@{} is an admin from the next sign-in on: `flaghoist login {}`", granted.handle, granted.handle);
    }
    Ok(())
}

async fn restored(data: PathBuf) -> Result<(), Failure> {
    let store = store_of(Service::Send)?;
    require_folder(&store, &data)?;
    // Nobody can lock a database away from its pods; there it is the operator who sees to it that none runs.
    let _lock = matches!(store, StoreAddress::Folder).then(|| DataLock::take(&data, Process::All)).transpose()?;
    let epoch = flaghoist_send::renew_epoch(&store, &Place::new(data))
        .await
        .map_err(|error| Failure::new(Exit::Failed, fault::chain(&error)))?;
    println!("the store has the new epoch {epoch}: devices start from what it holds");
    Ok(())
}

/// A store in the data folder needs the folder.
fn require_folder(store: &StoreAddress, data: &Path) -> Result<(), Failure> {
    if matches!(store, StoreAddress::Folder) { require(data) } else { Ok(()) }
}
