//! `SubjectService`, for login: what is kept of a person goes, or is given out.

use std::pin::Pin;
use std::sync::Arc;

use flaghoist_proto::send::v1 as pb;
use flaghoist_proto::send::v1::subject_service_server::SubjectService;
use flaghoist_runtime::fault::check;
use flaghoist_runtime::names::{ConversationId, UserId};
use futures_util::Stream;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};

use super::{Rpc, user_id};
use crate::conversation::View;
use crate::erasure::{Eraser, Place};
use crate::error::{DOMAIN, Error};
use crate::event::Message;
use crate::render;
use crate::store::Store;

/// How many conversations, or messages, are read at once for an export.
const PAGE: usize = 100;

/// How many pages of an export wait to be taken.
const PAGES_WAITING: usize = 2;

type Pieces = Pin<Box<dyn Stream<Item = Result<pb::ExportSubjectResponse, Status>> + Send>>;

#[tonic::async_trait]
impl SubjectService for Rpc {
    type ExportSubjectStream = Pieces;

    async fn erase_subject(
        &self,
        request: Request<pb::EraseSubjectRequest>,
    ) -> Result<Response<pb::EraseSubjectResponse>, Status> {
        let request = request.into_inner();
        check(&request, DOMAIN)?;
        let person = user_id("user", &request.user)?;
        let scope = format!("EraseSubject {person}");
        // A place that cannot be read, of another version or with a key that is no more, is none: all begins anew, and counts what is
        // still there. Refused, it would hold up the erasure for ever.
        let place = self.pages.open(&scope, &request.step_token).unwrap_or_else(|_unreadable| {
            let begun = !request.step_token.is_empty();
            if begun {
                tracing::warn!(person = %person, "a place in an erasure cannot be read; it begins anew");
            }
            Place::first(request.again || begun)
        });
        let step = Eraser { store: &*self.store, writer: &self.writer, person }.step(place).await?;
        Ok(Response::new(pb::EraseSubjectResponse {
            next_step_token: self.token(&scope, step.next),
            message_count: step.messages.cast_signed(),
            conversation_count: step.conversations.cast_signed(),
        }))
    }

    async fn export_subject(
        &self,
        request: Request<pb::ExportSubjectRequest>,
    ) -> Result<Response<Self::ExportSubjectStream>, Status> {
        let request = request.into_inner();
        check(&request, DOMAIN)?;
        let person = user_id("user", &request.user)?;
        let (sender, receiver) = mpsc::channel(PAGES_WAITING);
        let store = Arc::clone(&self.store);
        tokio::spawn(async move {
            let export = Export { store, person, sender };
            if let Err(Some(error)) = export.run().await {
                // Whoever reads no longer needs no error either.
                let _gone = export.sender.send(Err(error.into())).await;
            }
        });
        let pieces = futures_util::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|piece| (piece, receiver))
        });
        Ok(Response::new(Box::pin(pieces)))
    }
}

/// An export under way. Nothing in it fails with `None` but the reader's going away.
struct Export {
    store: Arc<dyn Store>,
    person: UserId,
    sender: mpsc::Sender<Result<pb::ExportSubjectResponse, Status>>,
}

impl Export {
    async fn run(&self) -> Result<(), Option<Error>> {
        let mut after = 0;
        loop {
            let page = self.conversations(after).await?;
            let mut lines = Vec::with_capacity(page.len());
            for (_, id) in &page {
                if let Some(view) = self.store.conversation(self.person, *id).await? {
                    lines.push(conversation(&view, self.store.epoch()));
                }
            }
            self.give("conversations", lines).await?;
            match page.last() {
                Some((no, _)) if page.len() == PAGE => after = *no,
                _ => break,
            }
        }
        let mut after = 0;
        loop {
            let page = self.conversations(after).await?;
            for (no, id) in &page {
                self.messages(*id).await?;
                after = *no;
            }
            if page.len() < PAGE {
                return Ok(());
            }
        }
    }

    /// The next conversations that the person is or was in.
    async fn conversations(&self, after: i64) -> Result<Vec<(i64, ConversationId)>, Error> {
        let page = self.store.heads(self.person, &[], None, after, PAGE).await?;
        Ok(page.entries.iter().map(|view| (view.head.no, view.head.id)).collect())
    }

    /// The person's own messages in a conversation.
    async fn messages(&self, id: ConversationId) -> Result<(), Option<Error>> {
        let mut from = Some(0);
        while let Some(at) = from {
            let Some(page) = self.store.messages(self.person, id, at, true, PAGE).await? else { return Ok(()) };
            let own = page.messages.iter().filter(|message| message.event.actor == self.person);
            self.give("messages", own.map(message).collect()).await?;
            from = page.next;
        }
        Ok(())
    }

    async fn give(&self, file: &str, lines: Vec<Value>) -> Result<(), Option<Error>> {
        if lines.is_empty() {
            return Ok(());
        }
        let lines = lines.iter().map(Value::to_string).collect();
        self.sender.send(Ok(pb::ExportSubjectResponse { file: file.to_owned(), lines })).await.map_err(|_gone| None)
    }
}

fn conversation(view: &View, epoch: u64) -> Value {
    let shown = render::conversation(view, epoch);
    json!({
        "conversation": shown.name,
        "kind": if shown.peer.is_empty() { "group" } else { "direct" },
        "title": shown.title,
        "peer": shown.peer,
        "member": view.member_now(),
        "role": view.member.role.map(|role| format!("{role:?}").to_lowercase()),
        "join_time": render::time(view.member.joined_at).to_string(),
        "create_time": shown.create_time.map(|at| at.to_string()),
        "delivered_seq": view.member.delivered_seq,
        "read_seq": view.member.read_seq,
    })
}

fn message(message: &Message) -> Value {
    let shown = render::message_now(message, message.event.actor);
    json!({
        "message": shown.name,
        "create_time": shown.create_time.map(|at| at.to_string()),
        "update_time": shown.update_time.map(|at| at.to_string()),
        "delete_time": shown.delete_time.map(|at| at.to_string()),
        "request_id": shown.request_id,
        "text": shown.text,
        "metadata": shown.metadata,
    })
}
