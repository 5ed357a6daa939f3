//! `LogService`, for the receivers.

use flaghoist_proto::check::Check;
use flaghoist_proto::send::v1 as pb;
use flaghoist_proto::send::v1::log_service_server::LogService;
use flaghoist_runtime::fault::check;
use flaghoist_runtime::page::page_size;
use flaghoist_runtime::time::{from_millis, from_timestamp, millis, timestamp};
use tonic::{Request, Response, Status};

use super::{Rpc, conversation_id, user_id};
use crate::error::{DOMAIN, Error};
use crate::render;

/// How much content an answer of `ListEvents` carries.
const EVENTS_BYTES: usize = 1 << 20;

/// What a receiver says, checked against the rules of the contract. Who it is was checked before.
fn open<M: Check>(request: Request<M>) -> Result<M, Status> {
    let request = request.into_inner();
    check(&request, DOMAIN)?;
    Ok(request)
}

#[tonic::async_trait]
impl LogService for Rpc {
    async fn list_heads(
        &self,
        request: Request<pb::ListHeadsRequest>,
    ) -> Result<Response<pb::ListHeadsResponse>, Status> {
        let request = open(request)?;
        let person = user_id("user", &request.user)?;
        let named = request.conversations.iter().enumerate();
        let named = named.map(|(at, name)| conversation_id(&format!("conversations[{at}]"), name));
        let only = named.collect::<Result<Vec<_>, _>>()?;
        let since = request.receipts_since_time.as_ref().map(|since| millis(from_timestamp(since)));
        let scope = format!("ListHeads {person}");
        let after = self.cursor(&scope, &request.page_token, 0)?;
        let limit = page_size(request.page_size, 1000, 1000) as usize;
        let page = self.store.heads(person, &only, since, after, limit).await?;
        let epoch = self.store.epoch();
        let heads = page.entries.iter();
        let heads = heads.map(|view| render::head(&view.head, person, &view.member, &view.receipts, epoch));
        Ok(Response::new(pb::ListHeadsResponse {
            epoch,
            heads: heads.collect(),
            next_page_token: self.token(&scope, page.next),
        }))
    }

    async fn list_recent_changes(
        &self,
        request: Request<pb::ListRecentChangesRequest>,
    ) -> Result<Response<pb::ListRecentChangesResponse>, Status> {
        let request = open(request)?;
        // Taken first: what is committed during the reading is new to the next one.
        let read_time = Some(timestamp(from_millis(self.store.now().await?)));
        let since = request.since_time.as_ref().map_or(0, |since| millis(from_timestamp(since)));
        let scope = format!("ListRecentChanges {since}");
        let after = self.cursor(&scope, &request.page_token, 0)?;
        let limit = page_size(request.page_size, 1000, 1000) as usize;
        let page = self.store.recent_changes(since, after, limit).await?;
        let names = |people: &[flaghoist_runtime::names::UserId]| people.iter().map(|person| person.name()).collect();
        let changes = page.entries.iter().map(|change| pb::Change {
            conversation: change.conversation.name(),
            last_seq: change.last_seq,
            added_members: names(&change.added),
            removed_members: names(&change.removed),
            receipts: change.receipts.iter().map(render::receipt).collect(),
        });
        Ok(Response::new(pb::ListRecentChangesResponse {
            epoch: self.store.epoch(),
            changes: changes.collect(),
            next_page_token: self.token(&scope, page.next),
            read_time,
        }))
    }

    async fn list_events(
        &self,
        request: Request<pb::ListEventsRequest>,
    ) -> Result<Response<pb::ListEventsResponse>, Status> {
        let request = open(request)?;
        let person = user_id("user", &request.user)?;
        let conversation = conversation_id("conversation", &request.conversation)?;
        let limit = page_size(request.page_size, 100, 256) as usize;
        let slice = self.store.events(person, conversation, request.after_seq, limit, EVENTS_BYTES).await?;
        let slice = slice.ok_or(Error::NoConversation(conversation))?;
        let epoch = self.store.epoch();
        let events = slice.events.iter();
        let events = events.map(|(event, previous_seq)| render::event(event, *previous_seq, epoch, Some(person)));
        Ok(Response::new(pb::ListEventsResponse {
            epoch,
            events: events.collect(),
            read_through_seq: slice.read_through_seq,
            last_seq: slice.last_seq,
        }))
    }

    async fn record_receipts(
        &self,
        request: Request<pb::RecordReceiptsRequest>,
    ) -> Result<Response<pb::RecordReceiptsResponse>, Status> {
        let request = open(request)?;
        let mut watermarks = Vec::with_capacity(request.receipts.len());
        for (at, receipt) in request.receipts.iter().enumerate() {
            let watermark = render::watermark(receipt).ok_or_else(|| Error::Invalid {
                field: format!("receipts[{at}]"),
                problem: "does not name a conversation and a member".into(),
            })?;
            watermarks.push(watermark);
        }
        let raised = self.writer.raise(watermarks).await?;
        Ok(Response::new(pb::RecordReceiptsResponse { raised: raised.iter().map(render::receipt).collect() }))
    }
}
