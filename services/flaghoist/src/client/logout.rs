//! `flaghoist logout`: ends the session and forgets the tokens.

use flaghoist_proto::auth::v1::RevokeSessionRequest;
use flaghoist_proto::auth::v1::session_service_client::SessionServiceClient;
use serde_json::json;

use super::Client;
use super::output::harmless;
use crate::exit::{Exit, Failure};

/// The arguments of `logout`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  flaghoist logout
  flaghoist logout --profile bob --offline")]
pub(crate) struct Arguments {
    /// Forget the tokens even when the server cannot be told; the session then runs out by itself
    #[arg(long)]
    offline: bool,
}

pub(super) async fn run(client: &Client, arguments: Arguments) -> Result<(), Failure> {
    let signed = client.signed()?;
    let name = signed.session_name().await;
    let ended = signed
        .call(|service| {
            let request = RevokeSessionRequest { name: name.clone() };
            async move { SessionServiceClient::new(service).revoke_session(request).await }
        })
        .await;
    match ended {
        Ok(_) => {}
        // A session that the server does not accept or know any more has ended already.
        Err(failure) if matches!(failure.exit, Exit::Refused | Exit::BadInput) => {}
        Err(_) if arguments.offline => {}
        Err(failure) => {
            return Err(Failure::new(
                failure.exit,
                format!("{}\n  `flaghoist logout --offline` forgets the tokens all the same", failure.message),
            ));
        }
    }
    let lock = client.file.lock().await?;
    if let Some(mut profile) = client.file.read()?
        && profile.session.as_ref().is_some_and(|session| session.name == name)
    {
        profile.session = None;
        client.file.write(&profile, &lock)?;
    }
    let handle = signed.handle();
    client.output.show(&json!({"handle": handle, "session": name}), || format!("signed out @{}", harmless(handle)))
}
