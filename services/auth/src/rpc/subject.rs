//! `SubjectService`: login opens and ends the sessions of people.

use std::sync::Arc;

use flaghoist_proto::auth::v1::subject_service_server::SubjectService;
use flaghoist_proto::auth::v1::{
    CreateSessionRequest, CreateSessionResponse, EraseSubjectRequest, EraseSubjectResponse, ExportSubjectRequest,
    RevokeSubjectSessionsRequest, RevokeSubjectSessionsResponse, SetSubjectProfileRequest, SetSubjectProfileResponse,
    SetSubjectStateRequest, SetSubjectStateResponse,
};
use flaghoist_runtime::fault::{Fault, check};
use flaghoist_runtime::names::{SessionId, UserId, strict_uuid};
use flaghoist_runtime::time::from_timestamp;
use tonic::{Request, Response, Status};

use super::session::session_message;
use super::{login, to_the_end, token_set};
use crate::audit::{Actor, Origin};
use crate::error::{DOMAIN, Error};
use crate::issuer::{Issuer, SignIn, printable};
use crate::profile::Profile;
use crate::scope::Scopes;
use crate::store::SubjectState;

mod export;

/// The sessions of people, for login.
#[derive(Debug)]
pub(crate) struct Subjects {
    pub(crate) issuer: Arc<Issuer>,
}

pub(super) fn user_in(name: &str) -> Result<UserId, Status> {
    named("user", name)
}

fn named(field: &'static str, name: &str) -> Result<UserId, Status> {
    UserId::parse(name).map_err(|bad| Fault::invalid(field, bad.to_string()).into_status(DOMAIN))
}

/// What login says about a person, as it came.
#[derive(Debug)]
pub(super) struct Said<'a> {
    pub(super) display_name: &'a str,
    pub(super) handle: &'a str,
    /// With whether it was seen to reach the person.
    pub(super) email: (&'a str, bool),
    /// With whether it was seen to reach the person.
    pub(super) phone_number: (&'a str, bool),
    pub(super) address: &'a str,
}

/// What is kept of it.
pub(super) fn profile(said: Said<'_>) -> Profile {
    let text = |text: &str| printable(text).collect::<String>();
    let (email, phone_number) = (text(said.email.0), text(said.phone_number.0));
    Profile {
        display_name: text(said.display_name),
        handle: text(said.handle),
        email_verified: said.email.1 && !email.is_empty(),
        email,
        phone_number_verified: said.phone_number.1 && !phone_number.is_empty(),
        phone_number,
        // The lines of a postal address stay lines.
        address: said.address.lines().map(text).collect::<Vec<_>>().join("\n"),
    }
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
        let by = match request.actor.as_str() {
            "" => login(&self.issuer),
            "operator" => Origin::new(Actor::Operator, self.issuer.clock.now()),
            admin => Origin::new(Actor::Person(named("actor", admin)?), self.issuer.clock.now()),
        };
        let issuer = self.issuer.clone();
        to_the_end(async move { issuer.set_subject(user, state, &by).await }).await?;
        Ok(Response::new(SetSubjectStateResponse {}))
    }

    async fn set_subject_profile(
        &self,
        request: Request<SetSubjectProfileRequest>,
    ) -> Result<Response<SetSubjectProfileResponse>, Status> {
        check(request.get_ref(), DOMAIN)?;
        let request = request.into_inner();
        let user = user_in(&request.user)?;
        let profile = profile(Said {
            display_name: &request.display_name,
            handle: &request.handle,
            email: (&request.email, request.email_verified),
            phone_number: (&request.phone_number, request.phone_number_verified),
            address: &request.address,
        });
        let issuer = self.issuer.clone();
        to_the_end(async move { issuer.set_profile(user, &profile).await }).await?;
        Ok(Response::new(SetSubjectProfileResponse {}))
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
