//! What is kept about a person, given out: their sessions, what they have allowed which clients, what the audit log says they did and was
//! done to them, what login says of them, the browsers in which they are signed in, and what is under way. Each is read page by page while
//! the reader takes it.

use std::pin::Pin;
use std::sync::Arc;

use flaghoist_proto::auth::v1::ExportSubjectResponse;
use flaghoist_runtime::names::{SessionId, UserId};
use futures_util::Stream;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::session_message;
use crate::audit::{Event, Filter};
use crate::error::Error;
use crate::issuer::Issuer;
use crate::moment::Moment;
use crate::profile::Profile;
use crate::session::Session;
use crate::store::sign_in::Consent;
use crate::store::traces::{Trace, TraceKind};

/// How many of each are read at once.
const PAGE: u32 = 200;

/// How many pages wait for the reader.
const PAGES_WAITING: usize = 2;

/// An export under way.
pub(super) type Pieces = Pin<Box<dyn Stream<Item = Result<ExportSubjectResponse, Status>> + Send>>;

/// How many sessions and consents there are.
pub(super) async fn counts(issuer: &Issuer, user: UserId) -> Result<(i64, i64), Error> {
    let (mut sessions, mut last) = (0, None);
    loop {
        let page = issuer.sessions(user, last, PAGE).await?;
        sessions += page.len() as i64;
        match page.last() {
            Some(session) if page.len() == PAGE as usize => last = Some(session.id),
            _ => break,
        }
    }
    let (mut consents, mut last) = (0, String::new());
    loop {
        let page = issuer.consents(user, &last, PAGE).await?;
        consents += page.len() as i64;
        match page.last() {
            Some((consent, _)) if page.len() == PAGE as usize => last.clone_from(&consent.client_id),
            _ => return Ok((sessions, consents)),
        }
    }
}

/// The pieces of an export.
pub(super) fn pieces(issuer: Arc<Issuer>, user: UserId) -> Pieces {
    let (sender, receiver) = mpsc::channel(PAGES_WAITING);
    tokio::spawn(async move {
        let export = Export { issuer, user, sender };
        if let Err(Some(error)) = export.run().await {
            // Whoever reads no longer needs no error either.
            let _gone = export.sender.send(Err(error.into())).await;
        }
    });
    Box::pin(ReceiverStream::new(receiver))
}

/// Fails with nothing where the reader is gone.
struct Export {
    issuer: Arc<Issuer>,
    user: UserId,
    sender: mpsc::Sender<Result<ExportSubjectResponse, Status>>,
}

impl Export {
    async fn run(&self) -> Result<(), Option<Error>> {
        let mut last: Option<SessionId> = None;
        loop {
            let page = self.issuer.sessions(self.user, last, PAGE).await?;
            last = page.last().map(|session| session.id);
            self.give("sessions", page.iter().map(session)).await?;
            if page.len() < PAGE as usize {
                break;
            }
        }
        let mut last = String::new();
        loop {
            let page = self.issuer.consents(self.user, &last, PAGE).await?;
            if let Some((consent, _)) = page.last() {
                last.clone_from(&consent.client_id);
            }
            self.give("consents", page.iter().map(|(allowed, name)| consent(allowed, name))).await?;
            if page.len() < PAGE as usize {
                break;
            }
        }
        let name = Some(self.user.name());
        let by_them = Filter { actor: name.clone(), ..Filter::default() };
        let about_them = Filter { subject: name.clone(), ..Filter::default() };
        for (mut filter, both) in [(by_them, true), (about_them, false)] {
            loop {
                let page = self.issuer.audit_events(&filter, PAGE).await?;
                filter.before = page.last().map(|event| event.id);
                // What they did to themselves was told with what they did.
                let new = page.iter().filter(|event| both || Some(&event.actor) != name.as_ref());
                self.give("login_events", new.map(event)).await?;
                if page.len() < PAGE as usize {
                    break;
                }
            }
        }
        // Below what pods of login know that lack the rest: of what they do not know they would leave out all that follows.
        if let Some(kept) = self.issuer.store.profile(self.user).await.map_err(Error::from)? {
            self.give("profile", std::iter::once(profile(&kept))).await?;
        }
        self.traces("browser_sessions", TraceKind::Browser).await?;
        for kind in [TraceKind::Request, TraceKind::Code, TraceKind::Device] {
            self.traces("sign_ins", kind).await?;
        }
        Ok(())
    }

    async fn traces(&self, file: &str, kind: TraceKind) -> Result<(), Option<Error>> {
        let mut last = None;
        loop {
            let page = self.issuer.store.traces_of(self.user, kind, last, PAGE).await.map_err(Error::from)?;
            last = page.last().map(|trace| trace.id);
            self.give(file, page.iter().map(|one| trace(kind, one))).await?;
            if page.len() < PAGE as usize {
                return Ok(());
            }
        }
    }

    async fn give(&self, file: &str, lines: impl Iterator<Item = Value> + Send) -> Result<(), Option<Error>> {
        let lines: Vec<String> = lines.map(|line| line.to_string()).collect();
        if lines.is_empty() {
            return Ok(());
        }
        self.sender.send(Ok(ExportSubjectResponse { file: file.to_owned(), lines })).await.map_err(|_gone| None)
    }
}

fn at(moment: Moment) -> String {
    super::super::time(moment).to_string()
}

fn session(session: &Session) -> Value {
    let shown = session_message(session, None);
    json!({
        "session": shown.name,
        "client_id": shown.client_id,
        "label": shown.label,
        "create_time": at(session.created_at),
        "last_use_time": at(session.last_use_at),
        "last_address": shown.last_address,
        "amr": shown.amr,
    })
}

fn consent(consent: &Consent, client_display_name: &str) -> Value {
    json!({
        "client_id": consent.client_id,
        "client_display_name": client_display_name,
        "scopes": consent.scopes.names().collect::<Vec<_>>(),
        "update_time": at(consent.updated_at),
    })
}

fn profile(profile: &Profile) -> Value {
    json!({
        "display_name": profile.display_name,
        "handle": profile.handle,
        "email": profile.email,
        "email_verified": profile.email_verified,
        "phone_number": profile.phone_number,
        "phone_number_verified": profile.phone_number_verified,
        "address": profile.address,
    })
}

fn trace(kind: TraceKind, trace: &Trace) -> Value {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let mut line = json!({
        "amr": words(&trace.amr),
        "auth_time": trace.authenticated_at.map(at),
        "create_time": trace.created_at.map(at),
        "last_use_time": trace.last_use_at.map(at),
        "expire_time": trace.expires_at.map(at),
    });
    if kind != TraceKind::Browser {
        line["kind"] = match kind {
            TraceKind::Browser | TraceKind::Request => "request",
            TraceKind::Code => "code",
            TraceKind::Device => "device",
        }
        .into();
        line["client_id"] = trace.client_id.as_str().into();
        line["scopes"] = words(&trace.scopes).into();
        line["address"] = trace.address.as_str().into();
    }
    if let Some(line) = line.as_object_mut() {
        line.retain(|_, value| !value.is_null());
    }
    line
}

fn event(event: &Event) -> Value {
    json!({
        "event_time": at(event.at),
        "action": event.action.name(),
        "refused": event.refused,
        "actor": event.actor,
        "subject": event.subject,
        "session": event.session.map(|session| session.to_string()),
        "client_id": event.client_id,
        "address": event.address,
        "count": event.count,
        "detail": event.detail,
    })
}
