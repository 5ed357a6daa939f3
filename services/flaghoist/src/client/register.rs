//! `flaghoist register`: makes an account, and signs in to it.

use flaghoist_proto::login::v1::CreateAccountRequest;
use flaghoist_proto::login::v1::account_service_client::AccountServiceClient;
use serde_json::json;

use super::output::{harmless, time_value};
use super::password::PasswordFrom;
use super::{Client, login};
use crate::exit::{Exit, Failure};

/// The arguments of `register`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  flaghoist register alice
  flaghoist register alice --display-name 'Alice Adams'
  flaghoist register bob --profile bob
  printf %s \"$PASSWORD\" | flaghoist register alice --password-file -")]
pub(crate) struct Arguments {
    /// The handle, with or without `@`: 2 to 32 of letters, digits, `.`, `_` and `-`
    handle: String,
    /// What people are shown; the handle if not given
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    display_name: String,
    /// The invitation, where the server asks for one
    #[arg(long, value_name = "CODE", default_value = "", hide_default_value = true)]
    invitation: String,
    /// Only make the account; do not sign in
    #[arg(long)]
    no_login: bool,
    #[command(flatten)]
    password: PasswordFrom,
}

pub(super) async fn run(client: &Client, arguments: Arguments) -> Result<(), Failure> {
    let connection = client.connection()?;
    let handle = login::plain(&arguments.handle).to_owned();
    let password = arguments.password.read_new(&format!("New password for {handle}: "))?;
    let request = CreateAccountRequest {
        handle,
        display_name: arguments.display_name,
        password: password.clone(),
        invitation: arguments.invitation,
    };
    let answer = connection
        .once(|channel| async move { AccountServiceClient::new(channel).create_account(request).await })
        .await?;
    let account =
        answer.account.ok_or_else(|| Failure::new(Exit::Failed, "the server answered without the account"))?;
    let signed_in = match arguments.no_login {
        true => None,
        false => Some(
            login::sign_in(
                client,
                &account.handle,
                password,
                login::default_label(client),
                &login::CodeFrom::default(),
            )
            .await?,
        ),
    };
    client.output.show(
        &json!({
            "user": account.name,
            "handle": account.handle,
            "display_name": account.display_name,
            "create_time": time_value(account.create_time.as_ref()),
            "session": signed_in.as_ref().map(|signed_in| &signed_in.session),
            "server": connection.server(),
            "profile": client.file.name(),
        }),
        || {
            let and = if signed_in.is_some() { " and signed in" } else { "" };
            format!("registered{and} @{} at {}", harmless(&account.handle), connection.server())
        },
    )
}
