//! `flaghoist history`: the messages of a conversation as they are now.

use flaghoist_proto::send::v1::message_service_client::MessageServiceClient;
use flaghoist_proto::send::v1::{ListMessagesRequest, Message};
use serde_json::{Value, json};

use super::Client;
use super::names::Names;
use super::output::{harmless, time, time_value};
use super::send::seq;
use super::target::Target;
use crate::exit::Failure;

/// The arguments of `history`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  flaghoist history @bob
  flaghoist history @bob --limit 500 --json | jq -r .text
  flaghoist history 0199f0a1-7b5c-7000-8000-5f0c2a9d1e11 --from-start")]
pub(crate) struct Arguments {
    /// A person like @bob, or a conversation by its name or id
    #[arg(value_name = "@PERSON|CONVERSATION")]
    target: Target,
    /// How many messages at most
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// The first messages of the conversation instead of the newest
    #[arg(long)]
    from_start: bool,
}

pub(super) async fn run(client: &Client, arguments: Arguments) -> Result<(), Failure> {
    let signed = client.signed()?;
    let conversation = arguments.target.find(&signed).await?.name;
    let mut names = Names::new(&signed);
    let limit = arguments.limit as usize;
    let mut messages: Vec<Message> = Vec::new();
    let mut page_token = String::new();
    while messages.len() < limit {
        let answer = signed
            .call(|service| {
                let request = ListMessagesRequest {
                    parent: conversation.clone(),
                    page_size: i32::try_from((limit - messages.len()).min(200)).unwrap_or(200),
                    page_token: page_token.clone(),
                    oldest_first: arguments.from_start,
                };
                async move { MessageServiceClient::new(service).list_messages(request).await }
            })
            .await?;
        messages.extend(answer.messages);
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    messages.truncate(limit);
    if !arguments.from_start {
        messages.reverse();
    }
    for message in &messages {
        let handle = names.handle(&message.sender).await;
        let sender = names.person(&message.sender).await;
        client.output.show(&object(message, handle.as_deref()), || {
            format!("{}  {sender}: {}", time(message.create_time.as_ref()), shown(message))
        })?;
    }
    Ok(())
}

/// A message for scripts.
pub(super) fn object(message: &Message, handle: Option<&str>) -> Value {
    json!({
        "message": message.name,
        "seq": seq(&message.name),
        "message_no": message.message_no,
        "sender": message.sender,
        "handle": handle,
        "text": message.text,
        "metadata": message.metadata,
        "create_time": time_value(message.create_time.as_ref()),
        "update_time": time_value(message.update_time.as_ref()),
        "delete_time": time_value(message.delete_time.as_ref()),
    })
}

/// What a message says, for people.
pub(super) fn shown(message: &Message) -> String {
    if message.delete_time.is_some() {
        return "(deleted)".into();
    }
    let mut text = harmless(&message.text);
    for (key, value) in &message.metadata {
        text.push_str(&format!(" [{}={}]", harmless(key), harmless(value)));
    }
    if message.update_time.is_some() {
        text.push_str(" (edited)");
    }
    text
}
