//! `CreateConversation`.

use flaghoist_proto::send::v1 as pb;
use flaghoist_proto::send::v1::create_conversation_request::Kind;
use flaghoist_runtime::names::UserId;
use tonic::{Response, Status};

use super::{Rpc, membership, user_id};
use crate::conversation::{direct_id, group_id};
use crate::error::Error;
use crate::event::Action;
use crate::render;

impl Rpc {
    pub(super) async fn begin(
        &self,
        caller: UserId,
        request: pb::CreateConversationRequest,
    ) -> Result<Response<pb::CreateConversationResponse>, Status> {
        let kind =
            request.kind.ok_or_else(|| Error::Invalid { field: "kind".into(), problem: "is required".into() })?;
        let (id, written) = match kind {
            Kind::Direct(direct) => {
                let peer = user_id("direct.user", &direct.user)?;
                let id = direct_id(caller, peer);
                // One that is there needs nobody's leave, and no event.
                if let Some(view) = self.store.conversation(caller, id).await? {
                    let conversation = Some(render::conversation(&view, self.store.epoch()));
                    return Ok(Response::new(pb::CreateConversationResponse { conversation, deduplicated: true }));
                }
                self.rate.take(caller, 1)?;
                let refused = self.directory.refuses(&[peer]).await;
                let digested: [&[u8]; 1] = [peer.0.as_bytes()];
                let digested = ("CreateConversation direct", &digested[..]);
                let action = Action::BeginDirect { peer, refused };
                (id, self.write(caller, id, &request.request_id, digested, action).await?.0)
            }
            Kind::Group(group) => {
                let mut people = membership::people("group.members", &group.members)?;
                people.retain(|person| *person != caller);
                self.rate.take(caller, people.len())?;
                let id = group_id(caller, &request.request_id);
                let refused = self.directory.refuses(&people).await;
                let digested = membership::digested(group.title.as_bytes(), &people);
                let digested = ("CreateConversation group", &digested[..]);
                let title = group.title.as_str().into();
                let action = Action::BeginGroup { title, people: people.clone(), refused };
                (id, self.write(caller, id, &request.request_id, digested, action).await?.0)
            }
        };
        let view = self.store.conversation(caller, id).await?.ok_or(Error::NoConversation(id))?;
        Ok(Response::new(pb::CreateConversationResponse {
            conversation: Some(render::conversation(&view, self.store.epoch())),
            deduplicated: written.deduplicated,
        }))
    }
}
