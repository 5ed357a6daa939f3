//! `SubjectService`: login opens and ends the sessions of people.

use std::sync::Arc;

use flaghoist_proto::auth::v1::subject_service_server::SubjectService;
use flaghoist_proto::auth::v1::{
    CreateSessionRequest, CreateSessionResponse, EraseSubjectRequest, EraseSubjectResponse, ExportSubjectRequest,
    RevokeSubjectSessionsRequest, RevokeSubjectSessionsResponse, SetSubjectStateRequest, SetSubjectStateResponse,
};
use flaghoist_runtime::fault::{Fault, check};
use flaghoist_runtime::names::{SessionId, UserId, strict_uuid};
use flaghoist_runtime::time::from_timestamp;
use tonic::{Request, Response, Status};

use super::session::session_message;
use super::{login, to_the_end, token_set};
use crate::error::{DOMAIN, Error};
use crate::issuer::{Issuer, SignIn};
use crate::scope::Scopes;
use crate::store::SubjectState;

mod export;

/// The sessions of people, for login.
#[derive(Debug)]
pub(crate) struct Subjects {
    pub(crate) issuer: Arc<Issuer>,
}

pub(super) fn user_in(name: &str) -> Result<UserId, Status> {
    UserId::parse(name).map_err(|bad| Fault::invalid("user", bad.to_string()).into_status(DOMAIN))
}

#[tonic::async_trait]
impl SubjectService for Subjects {
    type ExportSubjectStream = export::Pieces;

    async fn create_session(
        &self,
        request: Request<CreateSessionRequest>,
    ) -> Result<Response<CreateSessionResponse>, Status> {
        check(request.get_ref(), DOMAIN)?;
        let request = request.into_inner();
        if request.amr.iter().any(|method| !method.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(Error::Invalid { field: "amr", problem: "has an entry that is not one printable word" }.into());
        }
        let sign_in = SignIn {
            user: user_in(&request.user)?,
            client_id: request.client_id,
            scopes: Scopes::of(request.scopes.iter().map(String::as_str)),
            amr: request.amr,
            authenticated_at: request.auth_time.as_ref().map(|time| from_timestamp(time).into()),
            label: request.label,
            address: request.address,
        };
        let (session, tokens) = self.issuer.sign_in(sign_in).await?;
        let session = session_message(&session, Some(session.id));
        Ok(Response::new(CreateSessionResponse { session: Some(session), tokens: Some(token_set(tokens)) }))
    }

    async fn set_subject_state(
        &self,
        request: Request<SetSubjectStateRequest>,
    ) -> Result<Response<SetSubjectStateResponse>, Status> {
        check(request.get_ref(), DOMAIN)?;
        let request = request.into_inner();
        let user = user_in(&request.user)?;
        let state = SubjectState { enabled: request.enabled, admin: request.admin };
        let issuer = self.issuer.clone();
        to_the_end(async move { issuer.set_subject(user, state, &login(&issuer)).await }).await?;
        Ok(Response::new(SetSubjectStateResponse {}))
    }

    async fn revoke_subject_sessions(
        &self,
        request: Request<RevokeSubjectSessionsRequest>,
    ) -> Result<Response<RevokeSubjectSessionsResponse>, Status> {
        check(request.get_ref(), DOMAIN)?;
        let request = request.into_inner();
        let user = user_in(&request.user)?;
        let except = match request.except_session.as_str() {
            "" => None,
            id => Some(
                strict_uuid(id)
                    .ok_or(Error::Invalid { field: "except_session", problem: "is not the id of a session" })?,
            ),
        };
        let issuer = self.issuer.clone();
        let ended =
            to_the_end(async move { issuer.end_sessions_of(user, except.map(SessionId), &login(&issuer)).await })
                .await?;
        let revoked_count = i32::try_from(ended).unwrap_or(i32::MAX);
        Ok(Response::new(RevokeSubjectSessionsResponse { revoked_count }))
    }

    async fn erase_subject(
        &self,
        request: Request<EraseSubjectRequest>,
    ) -> Result<Response<EraseSubjectResponse>, Status> {
        check(request.get_ref(), DOMAIN)?;
        let request = request.into_inner();
        let user = user_in(&request.user)?;
        let (session_count, consent_count) = export::counts(&self.issuer, user).await?;
        let mut erased_count = 0;
        if !request.count_only {
            let issuer = self.issuer.clone();
            let erased = to_the_end(async move { issuer.erase_subject(user, &login(&issuer)).await }).await?;
            erased_count = i64::try_from(erased).unwrap_or(i64::MAX);
        }
        Ok(Response::new(EraseSubjectResponse { erased_count, session_count, consent_count }))
    }

    async fn export_subject(
        &self,
        request: Request<ExportSubjectRequest>,
    ) -> Result<Response<Self::ExportSubjectStream>, Status> {
        check(request.get_ref(), DOMAIN)?;
        let user = user_in(&request.into_inner().user)?;
        Ok(Response::new(export::pieces(self.issuer.clone(), user)))
    }
}
