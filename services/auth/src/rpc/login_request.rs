//! `LoginRequestService`: login answers the authorization endpoint.

use std::sync::Arc;

use flaghoist_proto::auth::v1::login_request_service_server::LoginRequestService;
use flaghoist_proto::auth::v1::{
    AcceptLoginRequestRequest, AcceptLoginRequestResponse, GetLoginRequestRequest, GetLoginRequestResponse,
    RejectLoginRequestRequest, RejectLoginRequestResponse,
};
use flaghoist_runtime::fault::check;
use flaghoist_runtime::time::from_timestamp;
use tonic::{Request, Response, Status};

use super::subject::{Said, profile, user_in};
use super::{time, to_the_end};
use crate::authorization::Recognised;
use crate::error::{DOMAIN, Error};
use crate::issuer::Issuer;

/// The requests for which people have to sign in.
#[derive(Debug)]
pub(crate) struct LoginRequests {
    pub(crate) issuer: Arc<Issuer>,
}

#[tonic::async_trait]
impl LoginRequestService for LoginRequests {
    async fn get_login_request(
        &self,
        request: Request<GetLoginRequestRequest>,
    ) -> Result<Response<GetLoginRequestResponse>, Status> {
        check(request.get_ref(), DOMAIN)?;
        let asked = self.issuer.login_request(&request.into_inner().login_challenge).await?;
        Ok(Response::new(GetLoginRequestResponse {
            client_id: asked.client.id.to_string(),
            client_display_name: asked.client.display_name.clone(),
            login_hint: asked.login_hint,
            ui_locales: asked.ui_locales,
            redirect_origin: asked.redirect_origin,
            expire_time: Some(time(asked.expires_at)),
        }))
    }

    async fn accept_login_request(
        &self,
        request: Request<AcceptLoginRequestRequest>,
    ) -> Result<Response<AcceptLoginRequestResponse>, Status> {
        check(request.get_ref(), DOMAIN)?;
        let request = request.into_inner();
        if request.amr.iter().any(|method| !method.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(Error::Invalid { field: "amr", problem: "has an entry that is not one printable word" }.into());
        }
        let issuer = self.issuer.clone();
        let authenticated_at = request.auth_time.as_ref().map(|time| from_timestamp(time).into());
        let person = Recognised {
            user: user_in(&request.user)?,
            amr: request.amr,
            authenticated_at: authenticated_at.unwrap_or_else(|| issuer.clock.now()),
        };
        let profile = profile(Said {
            display_name: &request.display_name,
            handle: &request.handle,
            email: (&request.email, request.email_verified),
            phone_number: (&request.phone_number, request.phone_number_verified),
            address: &request.address,
        });
        let challenge = request.login_challenge;
        let accepted = async move { issuer.accept_login_request(&challenge, person, &profile).await };
        Ok(Response::new(AcceptLoginRequestResponse { redirect_to: to_the_end(accepted).await? }))
    }

    async fn reject_login_request(
        &self,
        request: Request<RejectLoginRequestRequest>,
    ) -> Result<Response<RejectLoginRequestResponse>, Status> {
        check(request.get_ref(), DOMAIN)?;
        let redirect_to = self.issuer.reject_login_request(&request.into_inner().login_challenge).await?;
        Ok(Response::new(RejectLoginRequestResponse { redirect_to }))
    }
}
