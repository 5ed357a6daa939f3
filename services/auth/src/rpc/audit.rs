//! `AuditService`: admins read the audit log.

use std::sync::Arc;

use flaghoist_proto::auth::v1::audit_service_server::AuditService;
use flaghoist_proto::auth::v1::{
    self as pb, AuditAction, AuditOutcome, ListAuditEventsRequest, ListAuditEventsResponse,
};
use flaghoist_runtime::fault::check;
use flaghoist_runtime::page::{PageKey, page_size};
use flaghoist_runtime::time::from_timestamp;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{PAGE_SIZE, time};
use crate::audit::{Action, Event, Filter};
use crate::error::{DOMAIN, Error};
use crate::issuer::Issuer;

/// The audit log.
#[derive(Debug)]
pub(crate) struct Audit {
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) pages: Arc<PageKey>,
}

fn event_message(event: Event) -> pb::AuditEvent {
    let action = AuditAction::from_str_name(&format!("AUDIT_ACTION_{}", event.action.name()));
    let outcome = if event.refused { AuditOutcome::Refused } else { AuditOutcome::Done };
    pb::AuditEvent {
        name: format!("auditEvents/{}", event.id),
        event_time: Some(time(event.at)),
        actor: event.actor,
        subject: event.subject,
        session: event.session.map(|session| session.to_string()).unwrap_or_default(),
        client_id: event.client_id,
        address: event.address,
        action: action.unwrap_or_default().into(),
        outcome: outcome.into(),
        count: i32::try_from(event.count).unwrap_or(i32::MAX),
        detail: event.detail,
    }
}

/// A filter's text; none if it is empty.
fn text(field: &'static str, text: &str) -> Result<Option<String>, Error> {
    if text.chars().any(char::is_control) {
        return Err(Error::Invalid { field, problem: "has control characters" });
    }
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

/// The filter, but for the page.
fn filter_of(request: &ListAuditEventsRequest) -> Result<Filter, Error> {
    let action = match request.action() {
        AuditAction::Unspecified => None,
        action => Action::named(action.as_str_name().trim_start_matches("AUDIT_ACTION_")),
    };
    Ok(Filter {
        since: request.start_time.as_ref().map(|time| from_timestamp(time).into()),
        until: request.end_time.as_ref().map(|time| from_timestamp(time).into()),
        actor: text("actor", &request.actor)?,
        subject: text("subject", &request.subject)?,
        action,
        before: None,
    })
}

#[tonic::async_trait]
impl AuditService for Audit {
    async fn list_audit_events(
        &self,
        request: Request<ListAuditEventsRequest>,
    ) -> Result<Response<ListAuditEventsResponse>, Status> {
        check(request.get_ref(), DOMAIN)?;
        let request = request.into_inner();
        let mut filter = filter_of(&request)?;
        // A token goes on with the list that it was given out for.
        let scope = format!("ListAuditEvents {filter:?}");
        if !request.page_token.is_empty() {
            let last = self.pages.open::<[u8; 16]>(&scope, &request.page_token);
            filter.before = Some(Uuid::from_bytes(last.map_err(|fault| fault.into_status(DOMAIN))?));
        }
        let size = page_size(request.page_size, PAGE_SIZE.0, PAGE_SIZE.1);
        let mut events = self.issuer.audit_events(&filter, size + 1).await?;
        let more = events.len() > size as usize;
        events.truncate(size as usize);
        let next_page_token = match events.last() {
            Some(last) if more => self.pages.seal(&scope, last.id.as_bytes()),
            _ => String::new(),
        };
        let audit_events = events.into_iter().map(event_message).collect();
        Ok(Response::new(ListAuditEventsResponse { audit_events, next_page_token }))
    }
}
