//! Who is in a group: `AddMembers`, `RemoveMember`, `UpdateMember`, `LeaveConversation`.

use flaghoist_proto::send::v1 as pb;
use flaghoist_runtime::names::UserId;
use tonic::{Response, Status};

use super::{Rpc, conversation_id, user_id};
use crate::conversation::Role;
use crate::error::Error;
use crate::event::Action;

/// The people that a field names, each once, in the order of their ids.
pub(super) fn people(field: &str, names: &[String]) -> Result<Vec<UserId>, Error> {
    let named = names.iter().enumerate().map(|(at, name)| user_id(&format!("{field}[{at}]"), name));
    let mut people = named.collect::<Result<Vec<_>, _>>()?;
    people.sort_unstable();
    people.dedup();
    Ok(people)
}

/// What is digested of a call that names people.
pub(super) fn digested<'a>(first: &'a [u8], people: &'a [UserId]) -> Vec<&'a [u8]> {
    let ids = people.iter().map(|person| &person.0.as_bytes()[..]);
    std::iter::once(first).chain(ids).collect()
}

impl Rpc {
    pub(super) async fn add(
        &self,
        caller: UserId,
        request: pb::AddMembersRequest,
    ) -> Result<Response<pb::AddMembersResponse>, Status> {
        let parent = conversation_id("parent", &request.parent)?;
        let people = people("members", &request.members)?;
        self.rate.take(caller, people.len())?;
        // Whether the caller may add anyone is decided later, but strangers shall not ask login through this.
        let refused = match self.store.conversation(caller, parent).await? {
            Some(_) => self.directory.refuses(&people).await,
            None => return Err(Error::NoConversation(parent).into()),
        };
        let digested = digested(&[], &people);
        let digested = ("AddMembers", &digested[..]);
        let action = Action::Add { people: people.clone(), refused };
        let (written, _) = self.write(caller, parent, &request.request_id, digested, action).await?;
        let (event, deduplicated) = self.event_of(caller, written).await?;
        Ok(Response::new(pb::AddMembersResponse { event: Some(event), deduplicated }))
    }

    pub(super) async fn remove(
        &self,
        caller: UserId,
        request: pb::RemoveMemberRequest,
    ) -> Result<Response<pb::RemoveMemberResponse>, Status> {
        let parent = conversation_id("parent", &request.parent)?;
        let person = user_id("member", &request.member)?;
        self.rate.take(caller, 0)?;
        let digested: [&[u8]; 1] = [person.0.as_bytes()];
        let digested = ("RemoveMember", &digested[..]);
        let action = Action::Remove { person };
        let (written, _) = self.write(caller, parent, &request.request_id, digested, action).await?;
        let (event, deduplicated) = self.event_of(caller, written).await?;
        Ok(Response::new(pb::RemoveMemberResponse { event: Some(event), deduplicated }))
    }

    pub(super) async fn promote(
        &self,
        caller: UserId,
        request: pb::UpdateMemberRequest,
    ) -> Result<Response<pb::UpdateMemberResponse>, Status> {
        let parent = conversation_id("parent", &request.parent)?;
        let person = user_id("member", &request.member)?;
        let role = match request.role() {
            pb::MemberRole::Owner => Role::Owner,
            pb::MemberRole::Admin => Role::Admin,
            // The rules of the contract have refused other numbers.
            pb::MemberRole::Member | pb::MemberRole::Unspecified => Role::Member,
        };
        self.rate.take(caller, 0)?;
        let number = role.number().to_be_bytes();
        let digested: [&[u8]; 2] = [person.0.as_bytes(), &number];
        let digested = ("UpdateMember", &digested[..]);
        let action = Action::Promote { person, role };
        let (written, _) = self.write(caller, parent, &request.request_id, digested, action).await?;
        let (event, deduplicated) = self.event_of(caller, written).await?;
        Ok(Response::new(pb::UpdateMemberResponse { event: Some(event), deduplicated }))
    }

    pub(super) async fn leave(
        &self,
        caller: UserId,
        request: pb::LeaveConversationRequest,
    ) -> Result<Response<pb::LeaveConversationResponse>, Status> {
        let id = conversation_id("name", &request.name)?;
        self.rate.take(caller, 0)?;
        let digested = ("LeaveConversation", &[][..]);
        let (written, _) = self.write(caller, id, &request.request_id, digested, Action::Leave).await?;
        let (event, deduplicated) = self.event_of(caller, written).await?;
        Ok(Response::new(pb::LeaveConversationResponse { event: Some(event), deduplicated }))
    }
}
