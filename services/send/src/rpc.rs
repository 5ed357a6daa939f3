//! The methods of the contract: each checks, calls the writer or the store, and answers.

use std::sync::Arc;

use flaghoist_proto::check::Check;
use flaghoist_proto::send::v1 as pb;
use flaghoist_runtime::Caller;
use flaghoist_runtime::fault::check;
use flaghoist_runtime::names::{ConversationId, UserId, parse_message};
use flaghoist_runtime::page::PageKey;
use tokio::sync::oneshot;
use tonic::{Request, Status};

use crate::conversation::View;
use crate::directory::Directory;
use crate::error::{DOMAIN, Error};
use crate::event::{Action, DigestKey, Event, Write, Written};
use crate::rate::Rate;
use crate::render;
use crate::settings::Settings;
use crate::store::Store;
use crate::writer::Writer;

mod conversations;
mod create_conversation;
mod create_message;
mod log;
mod membership;
mod messages;
mod subject;

/// What the methods work with.
#[derive(Debug)]
pub(crate) struct Rpc {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) writer: Writer,
    pub(crate) directory: Directory,
    pub(crate) rate: Arc<Rate>,
    pub(crate) digests: DigestKey,
    pub(crate) pages: PageKey,
    pub(crate) settings: Settings,
}

/// Who calls and what they say, checked against the rules of the contract.
fn open<M: Check>(request: Request<M>) -> Result<(UserId, M), Status> {
    let (caller, _) = Caller::user_of(&request)?;
    let request = request.into_inner();
    check(&request, DOMAIN)?;
    Ok((caller, request))
}

fn conversation_id(field: &str, name: &str) -> Result<ConversationId, Error> {
    ConversationId::parse(name).map_err(|bad| Error::name(field, bad))
}

fn user_id(field: &str, name: &str) -> Result<UserId, Error> {
    UserId::parse(name).map_err(|bad| Error::name(field, bad))
}

fn message_id(name: &str) -> Result<(ConversationId, u64), Error> {
    parse_message(name).map_err(|bad| Error::name("name", bad))
}

impl Rpc {
    /// A call that writes; the digest tells it from another with the same request id.
    async fn write(
        &self,
        caller: UserId,
        conversation: ConversationId,
        request_id: &str,
        digested: (&str, &[&[u8]]),
        action: Action,
    ) -> Result<(Written, Option<oneshot::Receiver<bool>>), Error> {
        let digest = self.digests.digest(digested.0, digested.1);
        self.writer.write(Write::new(caller, conversation, request_id, digest, action)).await
    }

    /// The event of a call that always becomes one, as the caller sees it, and whether it was there before.
    async fn event_of(&self, caller: UserId, written: Written) -> Result<(pb::Event, bool), Error> {
        let event = written.event.ok_or(Error::Internal)?;
        let previous_seq = self.seen_before(caller, &event).await?;
        let rendered = render::event(&event, previous_seq, self.store.epoch(), Some(caller));
        Ok((rendered, written.deduplicated))
    }

    /// The `seq` of the event before one that the caller made.
    async fn seen_before(&self, caller: UserId, event: &Event) -> Result<u64, Error> {
        let slice = self.store.events(caller, event.conversation, event.seq - 1, 1, usize::MAX).await?;
        let first = slice.and_then(|slice| slice.events.into_iter().next());
        Ok(first.filter(|(found, _)| found.seq == event.seq).map_or(0, |(_, previous)| previous))
    }

    /// A conversation of which the caller is a member.
    async fn member_view(&self, caller: UserId, id: ConversationId) -> Result<View, Error> {
        let view = self.store.conversation(caller, id).await?;
        view.filter(View::member_now).ok_or(Error::NoConversation(id))
    }

    /// The place a page token names, or `first` for the first page.
    fn cursor<T: serde::de::DeserializeOwned>(&self, scope: &str, token: &str, first: T) -> Result<T, Status> {
        if token.is_empty() {
            return Ok(first);
        }
        self.pages.open(scope, token).map_err(|fault| fault.into_status(DOMAIN))
    }

    /// The token for a place, or none at the end.
    fn token<T: serde::Serialize>(&self, scope: &str, next: Option<T>) -> String {
        next.map(|next| self.pages.seal(scope, &next)).unwrap_or_default()
    }
}
