//! `flaghoist login --browser`: the person signs in in a browser, here or on another machine, and this waits (RFC 8628). The password
//! never comes near the command line, and what the page asks for beside it works here too.

use std::time::Duration;

use flaghoist_proto::auth::v1::session_service_client::SessionServiceClient;
use flaghoist_proto::auth::v1::token_service_client::TokenServiceClient;
use flaghoist_proto::auth::v1::{
    AuthorizeDeviceRequest, AuthorizeDeviceResponse, ClientCredentials, DeviceCodeGrant, IssueTokenRequest,
    ListSessionsRequest, TokenSet, issue_token_request,
};
use flaghoist_proto::errors::v1::Reason;
use flaghoist_proto::login::v1::GetAccountRequest;
use flaghoist_proto::login::v1::account_service_client::AccountServiceClient;
use serde_json::json;

use super::super::connection::{CLIENT_ID, Connection};
use super::super::output::harmless;
use super::super::{Client, refusal};
use super::{SignedIn, keep};
use crate::exit::{Exit, Failure};

/// How much longer to wait between two questions when the server says so.
const SLOWER: Duration = Duration::from_secs(5);
/// How long to wait between two questions if the server does not say, and at least.
const INTERVAL: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(1));

fn command_line() -> Option<ClientCredentials> {
    Some(ClientCredentials { client_id: CLIENT_ID.into(), ..ClientCredentials::default() })
}

/// Signs in by a browser and replaces what the profile held.
pub(super) async fn sign_in(client: &Client) -> Result<SignedIn, Failure> {
    let connection = client.connection()?;
    let request = AuthorizeDeviceRequest { client: command_line(), scope: String::new() };
    let codes = connection
        .once(|channel| async move { TokenServiceClient::new(channel).authorize_device(request).await })
        .await?;
    client.output.show(
        &json!({
            "verification_uri": codes.verification_uri,
            "verification_uri_complete": codes.verification_uri_complete,
            "user_code": codes.user_code,
        }),
        || {
            let (address, code) = (harmless(&codes.verification_uri), harmless(&codes.user_code));
            let complete = harmless(&codes.verification_uri_complete);
            format!("open {address} in a browser and type {code}\nor open {complete}")
        },
    )?;
    let tokens = wait(&connection, &codes).await?;
    let channel = connection.with_token(&tokens.access_token)?;
    let mut accounts = AccountServiceClient::new(channel.clone());
    let account = accounts.get_account(GetAccountRequest { name: String::new() }).await;
    let account = account.map_err(|status| refusal::failure(&status, connection.server()))?.into_inner().account;
    let page = ListSessionsRequest { page_size: 200, page_token: String::new() };
    let sessions = SessionServiceClient::new(channel).list_sessions(page).await;
    let sessions = sessions.map_err(|status| refusal::failure(&status, connection.server()))?.into_inner().sessions;
    let session = sessions.into_iter().find(|session| session.current);
    let (Some(account), Some(session)) = (account, session) else {
        return Err(Failure::new(Exit::Failed, "the server answered without the account or the session"));
    };
    keep(client, &connection, account, session.name, tokens).await
}

/// Asks until somebody has decided.
async fn wait(connection: &Connection, codes: &AuthorizeDeviceResponse) -> Result<TokenSet, Failure> {
    let said = codes.interval.and_then(|interval| Duration::try_from(interval).ok());
    let mut interval = said.unwrap_or(INTERVAL.0).max(INTERVAL.1);
    loop {
        tokio::time::sleep(interval).await;
        let grant = DeviceCodeGrant { device_code: codes.device_code.clone() };
        let request = IssueTokenRequest {
            client: command_line(),
            grant: Some(issue_token_request::Grant::DeviceCode(grant)),
            scope: String::new(),
        };
        let asked =
            connection.attempt(|channel| async move { TokenServiceClient::new(channel).issue_token(request).await });
        let status = match asked.await {
            Ok(answer) => {
                let without = || Failure::new(Exit::Failed, "the server answered without tokens");
                return answer.tokens.ok_or_else(without);
            }
            Err(status) => status,
        };
        match refusal::reason(&status) {
            Some(Reason::AuthorizationPending) => {}
            Some(Reason::SlowDown) => interval += SLOWER,
            Some(Reason::AuthorizationDenied) => {
                return Err(Failure::new(Exit::Refused, "it was refused in the browser"));
            }
            Some(Reason::DeviceCodeExpired) => {
                return Err(Failure::new(Exit::TryLater, "nobody signed in in time: begin again"));
            }
            // A code that was used is over, so what is asked again is only what did not reach the server.
            _ if refusal::passing(&status) => {}
            _ => return Err(refusal::failure(&status, connection.server())),
        }
    }
}
