//! `flaghoist whoami`: who is signed in, as the server sees it.

use flaghoist_proto::login::v1::GetAccountRequest;
use flaghoist_proto::login::v1::account_service_client::AccountServiceClient;
use serde_json::json;

use super::Client;
use super::output::{harmless, time_value};
use crate::exit::{Exit, Failure};

pub(super) async fn run(client: &Client) -> Result<(), Failure> {
    let signed = client.signed()?;
    let answer = signed
        .call(|service| async move {
            AccountServiceClient::new(service).get_account(GetAccountRequest { name: String::new() }).await
        })
        .await?;
    let account =
        answer.account.ok_or_else(|| Failure::new(Exit::Failed, "the server answered without the account"))?;
    client.output.show(
        &json!({
            "user": account.name,
            "handle": account.handle,
            "display_name": account.display_name,
            "admin": account.admin,
            "create_time": time_value(account.create_time.as_ref()),
            "session": signed.session_name().await,
            "device": signed.device(),
            "server": signed.server(),
            "profile": client.file.name(),
        }),
        || {
            let admin = if account.admin { ", an admin" } else { "" };
            let (handle, name) = (harmless(&account.handle), harmless(&account.display_name));
            format!("@{handle} ({name}){admin}, {} at {}", account.name, signed.server())
        },
    )
}
