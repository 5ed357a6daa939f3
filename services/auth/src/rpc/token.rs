//! `TokenService`: the gRPC form of the OAuth endpoints.

use std::sync::Arc;

use flaghoist_proto::auth::v1::issue_token_request::Grant;
use flaghoist_proto::auth::v1::token_service_server::TokenService;
use flaghoist_proto::auth::v1::{
    AuthorizeDeviceRequest, AuthorizeDeviceResponse, IntrospectTokenRequest, IntrospectTokenResponse,
    IssueTokenRequest, IssueTokenResponse, RevokeTokenRequest, RevokeTokenResponse,
};
use flaghoist_runtime::fault::check;
use flaghoist_runtime::time::timestamp;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status};

use super::{address_of, authenticate, time, to_the_end, token_set};
use crate::code::Redemption;
use crate::error::{DOMAIN, Error};
use crate::flow::{DEVICE_INTERVAL, DEVICE_LIFETIME};
use crate::issuer::{Asker, Exchange, Inspected, Issuer};

/// What the `htu` of a proof that comes with a call ends with.
const ISSUE_TOKEN_PATH: &str = "/flaghoist.auth.v1.TokenService/IssueToken";

/// Issues, revokes and inspects tokens.
#[derive(Debug)]
pub(crate) struct TokenRpc {
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) trusted_hops: u8,
}

impl TokenRpc {
    async fn issue(&self, request: Request<IssueTokenRequest>) -> Result<IssueTokenResponse, Status> {
        check(request.get_ref(), DOMAIN)?;
        let proof = self.issuer.read_proof_for(request.metadata().as_ref(), ISSUE_TOKEN_PATH)?;
        let address = address_of(&request, self.trusted_hops);
        let request = request.into_inner();
        let client = authenticate(&self.issuer, request.client.as_ref(), &address).await?;
        let asker = Asker::new(&client, &address, proof.as_ref())?;
        let tokens = match request.grant {
            Some(Grant::RefreshToken(grant)) => {
                self.issuer.refresh(asker, &grant.refresh_token, &request.scope).await?
            }
            Some(Grant::ClientCredentials(_)) => self.issuer.client_token(asker, &request.scope).await?,
            Some(Grant::AuthorizationCode(grant)) => {
                let (redirect_uri, verifier) = (Some(grant.redirect_uri.as_str()), &grant.code_verifier);
                let redemption = Redemption { client_id: &client.id, redirect_uri, verifier, key: asker.key() };
                self.issuer.exchange_code(asker, &grant.code, redemption).await?
            }
            Some(Grant::DeviceCode(grant)) => self.issuer.exchange_device_code(asker, &grant.device_code).await?,
            Some(Grant::TokenExchange(grant)) => {
                let (subject_token, audience) = (&grant.subject_token, &grant.audience);
                let exchange = Exchange { subject_token, audience, scope: &request.scope };
                self.issuer.exchange_token(asker, &exchange).await?
            }
            None => return Err(Error::Invalid { field: "grant", problem: "is required" }.into()),
        };
        Ok(IssueTokenResponse { tokens: Some(token_set(tokens)) })
    }
}

#[tonic::async_trait]
impl TokenService for TokenRpc {
    async fn issue_token(&self, request: Request<IssueTokenRequest>) -> Result<Response<IssueTokenResponse>, Status> {
        let nonce = self.issuer.nonce_for(request.metadata().as_ref());
        let nonce = nonce.and_then(|nonce| MetadataValue::try_from(nonce).ok());
        let mut answer = self.issue(request).await.map(Response::new);
        if let Some(nonce) = nonce {
            let metadata = answer.as_mut().map_or_else(Status::metadata_mut, Response::metadata_mut);
            metadata.insert("dpop-nonce", nonce);
        }
        answer
    }

    async fn authorize_device(
        &self,
        request: Request<AuthorizeDeviceRequest>,
    ) -> Result<Response<AuthorizeDeviceResponse>, Status> {
        check(request.get_ref(), DOMAIN)?;
        let address = address_of(&request, self.trusted_hops);
        let request = request.into_inner();
        let client = authenticate(&self.issuer, request.client.as_ref(), &address).await?;
        let codes = self.issuer.authorize_device(&client, &request.scope, &address).await?;
        Ok(Response::new(AuthorizeDeviceResponse {
            device_code: codes.device_code.text().to_owned(),
            user_code: codes.user_code,
            verification_uri: codes.verification_uri,
            verification_uri_complete: codes.verification_uri_complete,
            expire_time: Some(time(self.issuer.clock.now().plus(DEVICE_LIFETIME))),
            interval: DEVICE_INTERVAL.try_into().ok(),
        }))
    }

    async fn revoke_token(
        &self,
        request: Request<RevokeTokenRequest>,
    ) -> Result<Response<RevokeTokenResponse>, Status> {
        check(request.get_ref(), DOMAIN)?;
        let address = address_of(&request, self.trusted_hops);
        let request = request.into_inner();
        let client = authenticate(&self.issuer, request.client.as_ref(), &address).await?;
        let issuer = self.issuer.clone();
        to_the_end(async move { issuer.revoke(&client, &request.token, &address).await }).await?;
        Ok(Response::new(RevokeTokenResponse {}))
    }

    async fn introspect_token(
        &self,
        request: Request<IntrospectTokenRequest>,
    ) -> Result<Response<IntrospectTokenResponse>, Status> {
        check(request.get_ref(), DOMAIN)?;
        let address = address_of(&request, self.trusted_hops);
        let request = request.into_inner();
        let client = authenticate(&self.issuer, request.client.as_ref(), &address).await?;
        let response = match self.issuer.inspect(&client, &request.token).await? {
            None => IntrospectTokenResponse::default(),
            Some(Inspected::Access(caller, audiences)) => IntrospectTokenResponse {
                active: true,
                scope: caller.scopes.join(" "),
                client_id: caller.client_id.clone(),
                sub: caller.subject.clone(),
                sid: caller.session.map(|session| session.to_string()).unwrap_or_default(),
                expire_time: Some(timestamp(caller.expires_at)),
                issue_time: Some(timestamp(caller.issued_at)),
                token_type: "access_token".into(),
                aud: audiences,
                iss: self.issuer.url.clone(),
                cnf_jkt: caller.key_thumbprint.clone().unwrap_or_default(),
            },
            Some(Inspected::Refresh(session)) => IntrospectTokenResponse {
                active: true,
                scope: session.scopes.to_string(),
                client_id: session.client_id.to_string(),
                sub: session.user.to_string(),
                sid: session.id.to_string(),
                expire_time: Some(time(session.expires_at(&self.issuer.settings.lifetimes()))),
                issue_time: Some(time(session.family.rotated_at)),
                token_type: "refresh_token".into(),
                aud: Vec::new(),
                iss: self.issuer.url.clone(),
                cnf_jkt: session.key_thumbprint,
            },
        };
        Ok(Response::new(response))
    }
}
