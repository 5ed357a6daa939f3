//! `ConversationService`.

use flaghoist_proto::send::v1 as pb;
use flaghoist_proto::send::v1::conversation_service_server::ConversationService;
use flaghoist_runtime::names::UserId;
use flaghoist_runtime::page::page_size;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{Rpc, conversation_id, open};
use crate::event::Action;
use crate::render;

#[tonic::async_trait]
impl ConversationService for Rpc {
    async fn create_conversation(
        &self,
        request: Request<pb::CreateConversationRequest>,
    ) -> Result<Response<pb::CreateConversationResponse>, Status> {
        let (caller, request) = open(request)?;
        self.begin(caller, request).await
    }

    async fn get_conversation(
        &self,
        request: Request<pb::GetConversationRequest>,
    ) -> Result<Response<pb::GetConversationResponse>, Status> {
        let (caller, request) = open(request)?;
        let id = conversation_id("name", &request.name)?;
        let view = self.member_view(caller, id).await?;
        let conversation = Some(render::conversation(&view, self.store.epoch()));
        Ok(Response::new(pb::GetConversationResponse { conversation }))
    }

    async fn list_conversations(
        &self,
        request: Request<pb::ListConversationsRequest>,
    ) -> Result<Response<pb::ListConversationsResponse>, Status> {
        let (caller, request) = open(request)?;
        let scope = format!("ListConversations {caller}");
        let after = self.cursor(&scope, &request.page_token, 0)?;
        let limit = page_size(request.page_size, 50, 200) as usize;
        let page = self.store.conversations(caller, after, limit).await?;
        let epoch = self.store.epoch();
        Ok(Response::new(pb::ListConversationsResponse {
            conversations: page.entries.iter().map(|view| render::conversation(view, epoch)).collect(),
            next_page_token: self.token(&scope, page.next),
        }))
    }

    async fn list_members(
        &self,
        request: Request<pb::ListMembersRequest>,
    ) -> Result<Response<pb::ListMembersResponse>, Status> {
        let (caller, request) = open(request)?;
        let parent = conversation_id("parent", &request.parent)?;
        let scope = format!("ListMembers {caller} {parent}");
        let after: String = self.cursor(&scope, &request.page_token, String::new())?;
        let after = Uuid::try_parse(&after).ok();
        let limit = page_size(request.page_size, 50, 200) as usize;
        self.member_view(caller, parent).await?;
        let members = self.store.members(parent, after.map(UserId), limit).await?;
        let next = members.last().filter(|_| members.len() == limit).map(|(person, _)| person.to_string());
        Ok(Response::new(pb::ListMembersResponse {
            members: members.iter().map(|(person, member)| render::member(*person, member)).collect(),
            next_page_token: self.token(&scope, next),
        }))
    }

    async fn update_conversation(
        &self,
        request: Request<pb::UpdateConversationRequest>,
    ) -> Result<Response<pb::UpdateConversationResponse>, Status> {
        let (caller, request) = open(request)?;
        let id = conversation_id("name", &request.name)?;
        self.rate.take(caller, 0)?;
        let digested: [&[u8]; 1] = [request.title.as_bytes()];
        let digested = ("UpdateConversation", &digested[..]);
        let action = Action::Retitle { title: request.title.as_str().into() };
        let (written, _) = self.write(caller, id, &request.request_id, digested, action).await?;
        let (event, deduplicated) = self.event_of(caller, written).await?;
        Ok(Response::new(pb::UpdateConversationResponse { event: Some(event), deduplicated }))
    }

    async fn delete_conversation(
        &self,
        request: Request<pb::DeleteConversationRequest>,
    ) -> Result<Response<pb::DeleteConversationResponse>, Status> {
        let (caller, request) = open(request)?;
        let id = conversation_id("name", &request.name)?;
        self.rate.take(caller, 0)?;
        let digested = ("DeleteConversation", &[][..]);
        let (written, _) = self.write(caller, id, &request.request_id, digested, Action::End).await?;
        let (event, deduplicated) = self.event_of(caller, written).await?;
        Ok(Response::new(pb::DeleteConversationResponse { event: Some(event), deduplicated }))
    }

    async fn add_members(
        &self,
        request: Request<pb::AddMembersRequest>,
    ) -> Result<Response<pb::AddMembersResponse>, Status> {
        let (caller, request) = open(request)?;
        self.add(caller, request).await
    }

    async fn remove_member(
        &self,
        request: Request<pb::RemoveMemberRequest>,
    ) -> Result<Response<pb::RemoveMemberResponse>, Status> {
        let (caller, request) = open(request)?;
        self.remove(caller, request).await
    }

    async fn update_member(
        &self,
        request: Request<pb::UpdateMemberRequest>,
    ) -> Result<Response<pb::UpdateMemberResponse>, Status> {
        let (caller, request) = open(request)?;
        self.promote(caller, request).await
    }

    async fn leave_conversation(
        &self,
        request: Request<pb::LeaveConversationRequest>,
    ) -> Result<Response<pb::LeaveConversationResponse>, Status> {
        let (caller, request) = open(request)?;
        self.leave(caller, request).await
    }
}
