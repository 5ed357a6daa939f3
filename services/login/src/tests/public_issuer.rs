//! The public port of the issuer in memory, as the account pages call it: with the tokens of someone who is signed in.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flaghoist_proto::auth::v1 as auth;
use flaghoist_proto::auth::v1::consent_service_server::ConsentService;
use flaghoist_proto::auth::v1::session_service_server::SessionService;
use flaghoist_proto::auth::v1::token_service_server::TokenService;
use tonic::{Request, Response, Status};

use super::issuer::FakeIssuer;

/// Whose token a request has, and of which session; the signature is not looked at.
fn bearer<T>(request: &Request<T>) -> Result<(String, String), Status> {
    let token = request.metadata().get("authorization").and_then(|token| token.to_str().ok()).unwrap_or_default();
    let claims = token.split('.').nth(1).and_then(|claims| URL_SAFE_NO_PAD.decode(claims).ok());
    let claims: Option<serde_json::Value> = claims.and_then(|claims| serde_json::from_slice(&claims).ok());
    let claim = |name| claims.as_ref().and_then(|claims| claims[name].as_str()).map(str::to_owned);
    let (user, session) = claim("sub").zip(claim("sid")).ok_or_else(|| Status::unauthenticated("no token"))?;
    Ok((format!("users/{user}"), session))
}

#[tonic::async_trait]
impl SessionService for FakeIssuer {
    async fn list_sessions(
        &self,
        request: Request<auth::ListSessionsRequest>,
    ) -> Result<Response<auth::ListSessionsResponse>, Status> {
        let (user, current) = bearer(&request)?;
        let session = |id: String| auth::Session {
            name: format!("{user}/sessions/{id}"),
            client_id: "flaghoist-cli".into(),
            current: id == current,
            ..auth::Session::default()
        };
        let sessions = self.sessions(&user).into_iter().map(session).collect();
        Ok(Response::new(auth::ListSessionsResponse { sessions, next_page_token: String::new() }))
    }

    async fn revoke_session(
        &self,
        request: Request<auth::RevokeSessionRequest>,
    ) -> Result<Response<auth::RevokeSessionResponse>, Status> {
        let (user, _) = bearer(&request)?;
        let name = request.into_inner().name;
        self.keep_sessions(&user, |id| !name.ends_with(id));
        Ok(Response::new(auth::RevokeSessionResponse {}))
    }

    async fn revoke_other_sessions(
        &self,
        request: Request<auth::RevokeOtherSessionsRequest>,
    ) -> Result<Response<auth::RevokeOtherSessionsResponse>, Status> {
        let (user, current) = bearer(&request)?;
        let revoked_count = self.keep_sessions(&user, |id| id == current);
        Ok(Response::new(auth::RevokeOtherSessionsResponse { revoked_count }))
    }
}

#[tonic::async_trait]
impl ConsentService for FakeIssuer {
    async fn list_consents(
        &self,
        request: Request<auth::ListConsentsRequest>,
    ) -> Result<Response<auth::ListConsentsResponse>, Status> {
        bearer(&request)?;
        Ok(Response::new(auth::ListConsentsResponse::default()))
    }

    async fn revoke_consent(
        &self,
        _request: Request<auth::RevokeConsentRequest>,
    ) -> Result<Response<auth::RevokeConsentResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

#[tonic::async_trait]
impl TokenService for FakeIssuer {
    /// Issues nothing, for the reason that the test has named.
    async fn issue_token(
        &self,
        _request: Request<auth::IssueTokenRequest>,
    ) -> Result<Response<auth::IssueTokenResponse>, Status> {
        Err(self.issues_no_token())
    }

    async fn revoke_token(
        &self,
        _request: Request<auth::RevokeTokenRequest>,
    ) -> Result<Response<auth::RevokeTokenResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn introspect_token(
        &self,
        _request: Request<auth::IntrospectTokenRequest>,
    ) -> Result<Response<auth::IntrospectTokenResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn authorize_device(
        &self,
        _request: Request<auth::AuthorizeDeviceRequest>,
    ) -> Result<Response<auth::AuthorizeDeviceResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }
}
