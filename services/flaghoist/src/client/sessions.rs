//! `flaghoist sessions`: where a person is signed in.

use flaghoist_proto::auth::v1::session_service_client::SessionServiceClient;
use flaghoist_proto::auth::v1::{ListSessionsRequest, RevokeOtherSessionsRequest, RevokeSessionRequest};
use serde_json::json;

use super::Client;
use super::output::{harmless, time, time_value};
use crate::exit::Failure;

/// The arguments of `sessions`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  flaghoist sessions
  flaghoist sessions --revoke users/0199…/sessions/0199…
  flaghoist sessions --revoke-others")]
pub(crate) struct Arguments {
    /// End this session instead of listing
    #[arg(long, value_name = "SESSION")]
    revoke: Option<String>,
    /// End every session but this one: sign out everywhere else
    #[arg(long, conflicts_with = "revoke")]
    revoke_others: bool,
}

pub(super) async fn run(client: &Client, arguments: Arguments) -> Result<(), Failure> {
    let signed = client.signed()?;
    if let Some(name) = arguments.revoke {
        signed
            .call(|service| {
                let request = RevokeSessionRequest { name: name.clone() };
                async move { SessionServiceClient::new(service).revoke_session(request).await }
            })
            .await?;
        return client.output.show(&json!({"session": name, "revoked": true}), || format!("ended {}", harmless(&name)));
    }
    if arguments.revoke_others {
        let ended = signed
            .call(|service| async move {
                SessionServiceClient::new(service).revoke_other_sessions(RevokeOtherSessionsRequest {}).await
            })
            .await?;
        let count = ended.revoked_count;
        return client.output.show(&json!({"revoked_count": count}), || match count {
            1 => "ended 1 other session".to_owned(),
            count => format!("ended {count} other sessions"),
        });
    }
    let mut page_token = String::new();
    loop {
        let answer = signed
            .call(|service| {
                let request = ListSessionsRequest { page_size: 200, page_token: page_token.clone() };
                async move { SessionServiceClient::new(service).list_sessions(request).await }
            })
            .await?;
        for session in answer.sessions {
            client.output.show(
                &json!({
                    "session": session.name,
                    "client_id": session.client_id,
                    "label": session.label,
                    "create_time": time_value(session.create_time.as_ref()),
                    "last_use_time": time_value(session.last_use_time.as_ref()),
                    "last_address": session.last_address,
                    "amr": session.amr,
                    "current": session.current,
                }),
                || {
                    let here = if session.current { "  (this one)" } else { "" };
                    let (label, client_id) = (harmless(&session.label), harmless(&session.client_id));
                    let last_use = time(session.last_use_time.as_ref());
                    let address = match session.last_address.as_str() {
                        "" => String::new(),
                        address => format!(" from {}", harmless(address)),
                    };
                    format!("{}  {label} ({client_id}), last used {last_use}{address}{here}", session.name)
                },
            )?;
        }
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            return Ok(());
        }
    }
}
