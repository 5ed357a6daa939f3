//! `MessageService`.

use flaghoist_proto::send::v1 as pb;
use flaghoist_proto::send::v1::message_service_server::MessageService;
use flaghoist_runtime::page::page_size;
use tonic::{Request, Response, Status};

use super::{Rpc, conversation_id, message_id, open};
use crate::error::Error;
use crate::event::Action;
use crate::render;

/// Where the newest message is looked for: `seq` fits an `i64`.
const BEYOND_ALL: u64 = i64::MAX as u64;

#[tonic::async_trait]
impl MessageService for Rpc {
    async fn create_message(
        &self,
        request: Request<pb::CreateMessageRequest>,
    ) -> Result<Response<pb::CreateMessageResponse>, Status> {
        let (caller, request) = open(request)?;
        self.send_message(caller, request).await
    }

    async fn get_message(
        &self,
        request: Request<pb::GetMessageRequest>,
    ) -> Result<Response<pb::GetMessageResponse>, Status> {
        let (caller, request) = open(request)?;
        let (conversation, seq) = message_id(&request.name)?;
        let found = self.store.message(caller, conversation, seq).await?;
        let found = found.ok_or(Error::NoMessage(conversation, seq))?;
        Ok(Response::new(pb::GetMessageResponse { message: Some(render::message_now(&found, caller)) }))
    }

    async fn list_messages(
        &self,
        request: Request<pb::ListMessagesRequest>,
    ) -> Result<Response<pb::ListMessagesResponse>, Status> {
        let (caller, request) = open(request)?;
        let parent = conversation_id("parent", &request.parent)?;
        let oldest_first = request.oldest_first;
        let scope = format!("ListMessages {caller} {parent} {oldest_first}");
        let from = self.cursor(&scope, &request.page_token, if oldest_first { 0 } else { BEYOND_ALL })?;
        let limit = page_size(request.page_size, 50, 200) as usize;
        let page = self.store.messages(caller, parent, from, oldest_first, limit).await?;
        let page = page.ok_or(Error::NoConversation(parent))?;
        Ok(Response::new(pb::ListMessagesResponse {
            messages: page.messages.iter().map(|message| render::message_now(message, caller)).collect(),
            next_page_token: self.token(&scope, page.next),
        }))
    }

    async fn update_message(
        &self,
        request: Request<pb::UpdateMessageRequest>,
    ) -> Result<Response<pb::UpdateMessageResponse>, Status> {
        let (caller, request) = open(request)?;
        let (conversation, target) = message_id(&request.name)?;
        self.check_content(&request.text, &request.metadata)?;
        self.rate.take(caller, 0)?;
        let body = render::body(&request.text, &request.metadata);
        let seq = target.to_be_bytes();
        let digested: [&[u8]; 2] = [&seq, &body];
        let action = Action::Edit { target, text: request.text, metadata: request.metadata };
        let digested = ("UpdateMessage", &digested[..]);
        let (written, _) = self.write(caller, conversation, &request.request_id, digested, action).await?;
        let (event, deduplicated) = self.event_of(caller, written).await?;
        Ok(Response::new(pb::UpdateMessageResponse { event: Some(event), deduplicated }))
    }

    async fn delete_message(
        &self,
        request: Request<pb::DeleteMessageRequest>,
    ) -> Result<Response<pb::DeleteMessageResponse>, Status> {
        let (caller, request) = open(request)?;
        let (conversation, target) = message_id(&request.name)?;
        self.rate.take(caller, 0)?;
        let seq = target.to_be_bytes();
        let digested: [&[u8]; 1] = [&seq];
        let digested = ("DeleteMessage", &digested[..]);
        let action = Action::Erase { target };
        let (written, _) = self.write(caller, conversation, &request.request_id, digested, action).await?;
        let (event, deduplicated) = self.event_of(caller, written).await?;
        Ok(Response::new(pb::DeleteMessageResponse { event: Some(event), deduplicated }))
    }

    async fn get_message_status(
        &self,
        request: Request<pb::GetMessageStatusRequest>,
    ) -> Result<Response<pb::GetMessageStatusResponse>, Status> {
        let (caller, request) = open(request)?;
        let (conversation, seq) = message_id(&request.name)?;
        let progress = self.store.progress(caller, conversation, seq).await?;
        let progress = progress.ok_or(Error::NoMessage(conversation, seq))?;
        let all = |count| progress.recipient_count > 0 && count == progress.recipient_count;
        let status = if all(progress.read_count) {
            pb::MessageStatus::Read
        } else if all(progress.delivered_count) {
            pb::MessageStatus::Delivered
        } else {
            pb::MessageStatus::Stored
        };
        Ok(Response::new(pb::GetMessageStatusResponse {
            status: status.into(),
            recipient_count: progress.recipient_count.cast_signed(),
            delivered_count: progress.delivered_count.cast_signed(),
            read_count: progress.read_count.cast_signed(),
            receipts: progress.receipts.iter().map(render::receipt).collect(),
        }))
    }
}
