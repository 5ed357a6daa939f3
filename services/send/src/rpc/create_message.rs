//! `CreateMessage`, and what it shares with `UpdateMessage`. The hot path of the service.

use std::collections::BTreeMap;

use flaghoist_proto::send::v1 as pb;
use flaghoist_runtime::names::{UserId, message_name};
use prost::Message as _;
use tokio::sync::oneshot;
use tonic::{Response, Status};

use super::{Rpc, conversation_id};
use crate::error::Error;
use crate::event::Action;
use crate::render;

impl Rpc {
    pub(super) async fn send_message(
        &self,
        caller: UserId,
        request: pb::CreateMessageRequest,
    ) -> Result<Response<pb::CreateMessageResponse>, Status> {
        let parent = conversation_id("parent", &request.parent)?;
        self.check_content(&request.text, &request.metadata)?;
        self.rate.take(caller, 0)?;
        let content = pb::Message { text: request.text, metadata: request.metadata, ..pb::Message::default() };
        let body = bytes::Bytes::from(content.encode_to_vec());
        let digested: [&[u8]; 1] = [&body];
        let action = Action::Send { body: body.clone() };
        let digested = ("CreateMessage", &digested[..]);
        let (written, taken) = self.write(caller, parent, &request.request_id, digested, action).await?;
        let event = written.event.ok_or(Error::Internal)?;
        if written.deduplicated {
            let message = Some(render::message_sent(&event, Some(caller)));
            let status = pb::MessageStatus::Stored.into();
            return Ok(Response::new(pb::CreateMessageResponse { message, status, deduplicated: true }));
        }
        let message = pb::Message {
            name: message_name(parent, event.seq),
            sender: caller.name(),
            message_no: event.message_no,
            create_time: Some(render::time(event.created_at)),
            request_id: request.request_id,
            ..content
        };
        let status = self.handed_over(taken).await.into();
        Ok(Response::new(pb::CreateMessageResponse { message: Some(message), status, deduplicated: false }))
    }

    /// Waits a little for a receiver to take the message.
    async fn handed_over(&self, taken: Option<oneshot::Receiver<bool>>) -> pb::MessageStatus {
        let Some(taken) = taken.filter(|_| !self.settings.handover_wait.is_zero()) else {
            return pb::MessageStatus::Stored;
        };
        match tokio::time::timeout(self.settings.handover_wait, taken).await {
            Ok(Ok(true)) => pb::MessageStatus::HandedOver,
            Ok(_) => pb::MessageStatus::Stored,
            Err(_) => {
                self.writer.dispatch().patience().lost();
                pb::MessageStatus::Stored
            }
        }
    }

    /// The rules of a message's content that the contract states in words.
    pub(super) fn check_content(&self, text: &str, metadata: &BTreeMap<String, String>) -> Result<(), Error> {
        let invalid = |field: &str, problem: String| Err(Error::Invalid { field: field.into(), problem });
        if text.is_empty() && metadata.is_empty() {
            return invalid("text", "is empty, and so is the metadata".into());
        }
        if text.len() > self.settings.text_max_bytes {
            return invalid("text", format!("is longer than {} bytes", self.settings.text_max_bytes));
        }
        let bytes: usize = metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
        if bytes > self.settings.metadata_max_bytes {
            return invalid("metadata", format!("is longer than {} bytes in all", self.settings.metadata_max_bytes));
        }
        Ok(())
    }
}
