//! `flaghoist conversations`: the conversations of the person who is signed in.

use flaghoist_proto::send::v1::ConversationKind;
use serde_json::json;

use super::Client;
use super::names::Names;
use super::output::time_value;
use super::target::Conversations;
use crate::exit::Failure;

pub(super) async fn run(client: &Client) -> Result<(), Failure> {
    let signed = client.signed()?;
    let mut names = Names::new(&signed);
    let mut conversations = Conversations::new(&signed);
    while let Some(page) = conversations.next().await? {
        for conversation in page {
            let label = names.label(&conversation).await;
            let peer = match conversation.peer.as_str() {
                "" => None,
                peer => names.handle(peer).await,
            };
            let kind = match conversation.kind() {
                ConversationKind::Direct => "direct",
                ConversationKind::Group => "group",
                ConversationKind::Unspecified => "unknown",
            };
            let role = conversation.role().as_str_name().trim_start_matches("MEMBER_ROLE_").to_lowercase();
            client.output.show(
                &json!({
                    "conversation": conversation.name,
                    "kind": kind,
                    "title": conversation.title,
                    "peer": conversation.peer,
                    "peer_handle": peer,
                    "role": role,
                    "member_count": conversation.member_count,
                    "unread_count": conversation.unread_count,
                    "last_seq": conversation.last_seq,
                    "read_seq": conversation.read_seq,
                    "epoch": conversation.epoch,
                    "create_time": time_value(conversation.create_time.as_ref()),
                }),
                || format!("{}  {:>4} unread  {label}", conversation.name, conversation.unread_count),
            )?;
        }
    }
    Ok(())
}
