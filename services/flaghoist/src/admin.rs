//! `flaghoist admin`: what is done on the server's machine, by whoever may write to its data folder.

use std::path::PathBuf;

use flaghoist_runtime::{Place, fault};

use crate::exit::{Exit, Failure};
use crate::serve::{DataLock, data_folder, require};

/// What an administrator does on the machine itself.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make a person an admin, from their next sign-in on; the server may be running
    #[command(after_help = "Example:\n  flaghoist admin grant alice --data /var/lib/flaghoist")]
    Grant {
        /// The person's handle
        handle: String,
        /// The server's data folder [default: `$FLAGHOIST_SERVE_DATA`, else ./data]
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
    },
    /// Say that the data folder was restored from a backup, so that devices start from what it holds; the server must not
    /// be running
    #[command(after_help = "Example:\n  flaghoist admin restored --data /var/lib/flaghoist")]
    Restored {
        /// The server's data folder [default: `$FLAGHOIST_SERVE_DATA`, else ./data]
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
    },
}

/// Does what `command` says.
pub(crate) async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Grant { handle, data } => grant(&handle, data_folder(data)).await,
        Command::Restored { data } => restored(data_folder(data)).await,
    }
}

async fn grant(handle: &str, data: PathBuf) -> Result<(), Failure> {
    require(&data)?;
    let granted = flaghoist_login::grant_admin(&Place::new(data), handle)
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
    require(&data)?;
    let _lock = DataLock::take(&data)?;
    let epoch = flaghoist_send::renew_epoch(&Place::new(data))
        .await
        .map_err(|error| Failure::new(Exit::Failed, fault::chain(&error)))?;
    println!("the store has the new epoch {epoch}: devices start from what it holds");
    Ok(())
}
