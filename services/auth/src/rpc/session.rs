//! `SessionService`: people see and end their own sessions.

use std::sync::Arc;

use flaghoist_proto::auth::v1::session_service_server::SessionService;
use flaghoist_proto::auth::v1::{
    self as pb, ListSessionsRequest, ListSessionsResponse, RevokeOtherSessionsRequest, RevokeOtherSessionsResponse,
    RevokeSessionRequest, RevokeSessionResponse,
};
use flaghoist_runtime::Caller;
use flaghoist_runtime::fault::{Fault, check};
use flaghoist_runtime::names::{SessionId, parse_session, session_name};
use flaghoist_runtime::page::{PageKey, page_size};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{PAGE_SIZE, origin_of, time, to_the_end};
use crate::error::{DOMAIN, Error};
use crate::issuer::Issuer;
use crate::session::Session;

/// The sessions of the person who calls.
#[derive(Debug)]
pub(crate) struct Sessions {
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) pages: Arc<PageKey>,
    pub(crate) trusted_hops: u8,
}

/// A session on the wire; `current` is that of the caller.
pub(super) fn session_message(session: &Session, current: Option<SessionId>) -> pb::Session {
    pb::Session {
        name: session_name(session.user, session.id),
        client_id: session.client_id.to_string(),
        label: session.label.clone(),
        create_time: Some(time(session.created_at)),
        last_use_time: Some(time(session.last_use_at)),
        last_address: session.last_address.clone(),
        amr: session.amr.clone(),
        current: current == Some(session.id),
    }
}

#[tonic::async_trait]
impl SessionService for Sessions {
    async fn list_sessions(
        &self,
        request: Request<ListSessionsRequest>,
    ) -> Result<Response<ListSessionsResponse>, Status> {
        check(request.get_ref(), DOMAIN)?;
        let (user, caller) = Caller::user_of(&request)?;
        let request = request.into_inner();
        let scope = format!("ListSessions {user}");
        let before = match request.page_token.as_str() {
            "" => None,
            token => {
                let last = self.pages.open::<[u8; 16]>(&scope, token).map_err(|fault| fault.into_status(DOMAIN))?;
                Some(SessionId(Uuid::from_bytes(last)))
            }
        };
        let size = page_size(request.page_size, PAGE_SIZE.0, PAGE_SIZE.1);
        let mut sessions = self.issuer.sessions(user, before, size + 1).await?;
        let more = sessions.len() > size as usize;
        sessions.truncate(size as usize);
        let next_page_token = match sessions.last() {
            Some(last) if more => self.pages.seal(&scope, last.id.0.as_bytes()),
            _ => String::new(),
        };
        let sessions = sessions.iter().map(|session| session_message(session, caller.session)).collect();
        Ok(Response::new(ListSessionsResponse { sessions, next_page_token }))
    }

    async fn revoke_session(
        &self,
        request: Request<RevokeSessionRequest>,
    ) -> Result<Response<RevokeSessionResponse>, Status> {
        check(request.get_ref(), DOMAIN)?;
        let (user, _) = Caller::user_of(&request)?;
        let by = origin_of(&self.issuer, &request, self.trusted_hops);
        let name = request.into_inner().name;
        let (owner, session) =
            parse_session(&name).map_err(|bad| Fault::invalid("name", bad.to_string()).into_status(DOMAIN))?;
        let issuer = self.issuer.clone();
        let ended = owner == user && to_the_end(async move { issuer.end_session(user, session, &by).await }).await?;
        if ended { Ok(Response::new(RevokeSessionResponse {})) } else { Err(Error::SessionNotFound(name).into()) }
    }

    async fn revoke_other_sessions(
        &self,
        request: Request<RevokeOtherSessionsRequest>,
    ) -> Result<Response<RevokeOtherSessionsResponse>, Status> {
        let (user, caller) = Caller::user_of(&request)?;
        let kept = caller.session;
        let by = origin_of(&self.issuer, &request, self.trusted_hops);
        let issuer = self.issuer.clone();
        let ended = to_the_end(async move { issuer.end_other_sessions(user, kept, &by).await }).await?;
        let revoked_count = i32::try_from(ended).unwrap_or(i32::MAX);
        Ok(Response::new(RevokeOtherSessionsResponse { revoked_count }))
    }
}
