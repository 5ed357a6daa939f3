//! `flaghoist read`: everything in a conversation has been read.

use flaghoist_proto::receiver::v1::receiver_service_client::ReceiverServiceClient;
use flaghoist_proto::receiver::v1::{MarkReadRequest, Position};
use serde_json::json;

use super::Client;
use super::names::Names;
use super::target::Target;
use crate::exit::{Exit, Failure};

/// The arguments of `read`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  flaghoist read @bob")]
pub(crate) struct Arguments {
    /// A person like @bob, or a conversation by its name or id
    #[arg(value_name = "@PERSON|CONVERSATION")]
    target: Target,
}

pub(super) async fn run(client: &Client, arguments: Arguments) -> Result<(), Failure> {
    let signed = client.signed()?;
    let conversation = arguments.target.find(&signed).await?;
    let position =
        Position { conversation: conversation.name.clone(), epoch: conversation.epoch, seq: conversation.last_seq };
    if position.seq == 0 {
        return Err(Failure::new(Exit::BadInput, "there is nothing to read in this conversation yet"));
    }
    let answer = signed
        .call(|service| {
            let request = MarkReadRequest { position: Some(position.clone()) };
            async move { ReceiverServiceClient::new(service).mark_read(request).await }
        })
        .await?;
    let read_seq = answer.receipt.map_or(position.seq, |receipt| receipt.read_seq);
    let label = Names::new(&signed).label(&conversation).await;
    client.output.show(&json!({"conversation": conversation.name, "read_seq": read_seq}), || {
        format!("read everything in {label}, up to {read_seq}")
    })
}
