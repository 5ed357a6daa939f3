//! `flaghoist send`: one message. The request id is made once and kept for all attempts, so that a lost answer does not
//! become a second message.

use std::collections::BTreeMap;
use std::io::{self, Read as _};

use flaghoist_proto::send::v1::message_service_client::MessageServiceClient;
use flaghoist_proto::send::v1::{CreateMessageRequest, MessageStatus};
use serde_json::json;

use super::Client;
use super::output::{harmless, time_value};
use super::password::strip_line_break;
use super::target::{Target, new_request_id};
use crate::exit::{Exit, Failure};

/// The server takes texts of up to 16 KiB; more than this is not even read.
const TEXT_MAX_BYTES: u64 = 64 * 1024;

/// The arguments of `send`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  flaghoist send @bob 'hi'
  flaghoist send 0199f0a1-7b5c-7000-8000-5f0c2a9d1e11 'hi all'
  git log -1 | flaghoist send @bob -
  flaghoist send @bob 'build 7 is done' --metadata build=7 --request-id build-7")]
pub(crate) struct Arguments {
    /// A person like @bob, or a conversation by its name or id
    #[arg(value_name = "@PERSON|CONVERSATION")]
    target: Target,
    /// The text; `-` reads it from standard input
    #[arg(required_unless_present = "metadata", allow_hyphen_values = true)]
    text: Option<String>,
    /// What to keep with the message, for programs; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,
    /// The id of this request; sending again with the same one sends nothing twice
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("it is written KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

pub(super) async fn run(client: &Client, arguments: Arguments) -> Result<(), Failure> {
    let signed = client.signed()?;
    let text = match arguments.text.as_deref() {
        Some("-") => from_stdin()?,
        text => text.unwrap_or_default().to_owned(),
    };
    let request = CreateMessageRequest {
        parent: arguments.target.begin(&signed).await?,
        request_id: arguments.request_id.unwrap_or_else(new_request_id),
        text,
        metadata: arguments.metadata.into_iter().collect::<BTreeMap<_, _>>(),
    };
    let answer = signed
        .call(|service| {
            let request = request.clone();
            async move { MessageServiceClient::new(service).create_message(request).await }
        })
        .await
        .map_err(|mut failure| {
            if matches!(failure.exit, Exit::Unreachable | Exit::TryLater) {
                let id = harmless(&request.request_id);
                failure.message.push_str(&format!("\n  to repeat it without sending twice: --request-id {id}"));
            }
            failure
        })?;
    let status = answer.status().as_str_name().trim_start_matches("MESSAGE_STATUS_");
    let handed_over = answer.status() == MessageStatus::HandedOver;
    let message =
        answer.message.ok_or_else(|| Failure::new(Exit::Failed, "the server answered without the message"))?;
    client.output.show(
        &json!({
            "message": message.name,
            "conversation": request.parent,
            "seq": seq(&message.name),
            "request_id": request.request_id,
            "status": status,
            "deduplicated": answer.deduplicated,
            "create_time": time_value(message.create_time.as_ref()),
        }),
        || {
            let fate = match (answer.deduplicated, handed_over) {
                (true, _) => "was sent before",
                (false, true) => "stored and handed over",
                (false, false) => "stored",
            };
            format!("{fate}: {}", harmless(&message.name))
        },
    )
}

/// The `seq` in a message's name, or null.
pub(super) fn seq(name: &str) -> serde_json::Value {
    name.rsplit_once('/').and_then(|(_, seq)| seq.parse::<u64>().ok()).into()
}

fn from_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    let read = io::stdin().lock().take(TEXT_MAX_BYTES + 1).read_to_string(&mut text);
    match read {
        Ok(length) if length as u64 > TEXT_MAX_BYTES => {
            Err(Failure::new(Exit::BadInput, format!("standard input holds more than {TEXT_MAX_BYTES} bytes")))
        }
        Ok(_) => {
            strip_line_break(&mut text);
            Ok(text)
        }
        Err(error) => Err(Failure::new(Exit::BadInput, format!("cannot read the text from standard input: {error}"))),
    }
}
