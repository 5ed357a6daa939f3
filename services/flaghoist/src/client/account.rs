//! `flaghoist account`: what belongs to the person who is signed in: their factors and sessions, everything as an archive, and the end
//! of it.

use std::fs::OpenOptions;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use flaghoist_proto::login::v1::account_service_client::AccountServiceClient;
use flaghoist_proto::login::v1::credential_service_client::CredentialServiceClient;
use flaghoist_proto::login::v1::{DeleteAccountRequest, ExportAccountRequest, ListFactorsRequest};
use serde_json::json;

use super::output::{harmless, time, time_value};
use super::password::PasswordFrom;
use super::{Client, Signed, sessions};
use crate::exit::{Exit, Failure};

/// What can be done with an account.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List what proves who you are beside the password; asks for a sign-in of the last 10 minutes
    #[command(after_help = "Example:\n  flaghoist login alice && flaghoist account factors")]
    Factors,
    /// List the sessions, or end one, or all others
    Sessions(sessions::Arguments),
    /// Write everything that is kept of you into a zip archive of JSON lines; asks for a sign-in of the last 10 minutes
    #[command(after_help = "Example:\n  flaghoist login alice && flaghoist account export alice.zip")]
    Export(ExportArguments),
    /// Delete the account and everything of yours in all services; this cannot be undone
    Delete(DeleteArguments),
}

/// The arguments of `account export`.
#[derive(Debug, clap::Args)]
pub(crate) struct ExportArguments {
    /// The archive to write, which must not be there yet
    file: PathBuf,
}

/// The arguments of `account delete`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  flaghoist account delete
  flaghoist account delete --yes --password-file ~/.alice")]
pub(crate) struct DeleteArguments {
    /// Do not ask for the handle to be typed
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    password: PasswordFrom,
}

pub(super) async fn run(client: &Client, command: Command) -> Result<(), Failure> {
    match command {
        Command::Factors => factors(client).await,
        Command::Sessions(arguments) => sessions::run(client, arguments).await,
        Command::Export(arguments) => export(client, arguments).await,
        Command::Delete(arguments) => delete(client, arguments).await,
    }
}

async fn factors(client: &Client) -> Result<(), Failure> {
    let signed = client.signed()?;
    let factors = signed
        .call(|service| async move { CredentialServiceClient::new(service).list_factors(ListFactorsRequest {}).await })
        .await?;
    let mut any = false;
    if let Some(totp) = &factors.totp {
        any = true;
        let (create_time, use_time) = (totp.create_time.as_ref(), totp.use_time.as_ref());
        client.output.show(
            &json!({ "factor": "totp", "create_time": time_value(create_time), "use_time": time_value(use_time) }),
            || format!("authenticator app, since {}, last used {}", time(create_time), time(use_time)),
        )?;
    }
    for key in &factors.security_keys {
        any = true;
        let (create_time, use_time) = (key.create_time.as_ref(), key.use_time.as_ref());
        let kind = if key.passkey { "passkey" } else { "security_key" };
        client.output.show(
            &json!({
                "factor": kind,
                "name": key.name,
                "display_name": key.display_name,
                "create_time": time_value(create_time),
                "use_time": time_value(use_time),
            }),
            || {
                let (kind, name) = (kind.replace('_', " "), harmless(&key.display_name));
                format!("{kind} {name:?}, since {}, last used {}", time(create_time), time(use_time))
            },
        )?;
    }
    if factors.recovery_codes_left > 0 {
        let left = factors.recovery_codes_left;
        client
            .output
            .show(&json!({ "factor": "recovery_codes", "left": left }), || format!("recovery codes, {left} left"))?;
    }
    if !any && !client.output.json() {
        client.output.show(&json!({}), || "no second factor: the password alone signs in".to_owned())?;
    }
    Ok(())
}

async fn export(client: &Client, arguments: ExportArguments) -> Result<(), Failure> {
    let signed = client.signed()?;
    let path = &arguments.file;
    let unwritable = |error: io::Error| {
        Failure::new(Exit::Occupied, format!("cannot write {}: {error}: give another file", path.display()))
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(unwritable)?;
    let written = async {
        let mut pieces = begin(&signed).await?;
        let mut size_bytes = 0;
        while let Some(piece) = pieces.message().await.map_err(|status| signed.failure(&status))? {
            file.write_all(&piece.chunk).map_err(unwritable)?;
            size_bytes += piece.chunk.len();
        }
        file.sync_all().map_err(unwritable)?;
        Ok(size_bytes)
    };
    match written.await {
        Ok(size_bytes) => {
            client.output.show(&json!({ "file": path.display().to_string(), "size_bytes": size_bytes }), || {
                format!("wrote {} ({size_bytes} bytes)", harmless(&path.display().to_string()))
            })
        }
        Err(failure) => {
            // What is there is no archive.
            let _removed = std::fs::remove_file(path);
            Err(failure)
        }
    }
}

async fn begin(
    signed: &Signed,
) -> Result<tonic::Streaming<flaghoist_proto::login::v1::ExportAccountResponse>, Failure> {
    let begun = signed
        .once(|service| async move { AccountServiceClient::new(service).export_account(ExportAccountRequest {}).await })
        .await;
    begun.map_err(|failure| match failure.exit {
        Exit::BadInput => Failure::new(
            Exit::Refused,
            format!("{}\n  run `flaghoist login {}` and then this once more", failure.message, signed.handle()),
        ),
        _ => failure,
    })
}

async fn delete(client: &Client, arguments: DeleteArguments) -> Result<(), Failure> {
    let signed = client.signed()?;
    let handle = signed.handle().to_owned();
    if !arguments.yes {
        confirm(&handle)?;
    }
    let password = arguments.password.read(&format!("Password for {handle}: "))?;
    signed
        .once(|service| {
            let request = DeleteAccountRequest { password: password.clone() };
            async move { AccountServiceClient::new(service).delete_account(request).await }
        })
        .await?;
    let lock = client.file.lock().await?;
    if let Some(mut profile) = client.file.read()?
        && profile.user == signed.user()
    {
        profile.session = None;
        client.file.write(&profile, &lock)?;
    }
    client.output.show(&json!({ "handle": handle, "deleted": true }), || {
        format!("deleted @{}: what is left goes within minutes, and then the handle is free", harmless(&handle))
    })
}

/// Asks for the handle, so that nobody deletes an account by mistake.
fn confirm(handle: &str) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::new(Exit::Usage, "no terminal to ask on whether you mean it: say --yes"));
    }
    eprint!(
        "This deletes @{} and all messages, devices and sessions of yours, for good.\nType the handle to go on: ",
        harmless(handle)
    );
    let mut typed = String::new();
    let read = io::stdin().lock().read_line(&mut typed);
    read.map_err(|error| Failure::new(Exit::Usage, format!("cannot read what was typed: {error}")))?;
    let typed = typed.trim();
    if typed.strip_prefix('@').unwrap_or(typed) == handle {
        Ok(())
    } else {
        Err(Failure::new(Exit::BadInput, "that is not the handle: nothing was deleted"))
    }
}
