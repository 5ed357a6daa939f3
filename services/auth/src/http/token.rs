//! `/oauth2/token` (RFC 6749) and `/oauth2/revoke` (RFC 7009).

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

use super::error::OAuthError;
use super::form::Form;
use super::{Endpoints, json};
use crate::client::GrantType;
use crate::code::Redemption;
use crate::error::Error;
use crate::issuer::{Asker, Exchange, Issuer};

/// Tokens as RFC 6749 §5.1 writes them.
#[derive(Serialize)]
struct TokenAnswer {
    access_token: String,
    token_type: &'static str,
    expires_in: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    scope: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id_token: Option<String>,
    /// What an exchange gives (RFC 8693 §2.2.1).
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_token_type: Option<&'static str>,
}

/// What access tokens are called where tokens are exchanged.
const ACCESS_TOKEN_TYPE: &str = "urn:ietf:params:oauth:token-type:access_token";

/// The header with the nonce for the next proof.
pub(super) const NONCE_HEADER: HeaderName = HeaderName::from_static("dpop-nonce");

/// Answers tokens for a grant. Who has sent a proof of a key is told the nonce for the next one, whatever the answer.
pub(super) async fn token(State(endpoints): State<Endpoints>, request: Request<Body>) -> Result<Response, OAuthError> {
    let form = Form::read(request, endpoints.trusted_hops).await?;
    let answer = granted(&endpoints.issuer, &form).await.map(|answer| json(&answer)).into_response();
    Ok(with_nonce(&endpoints.issuer, &form.headers, answer))
}

async fn granted(issuer: &Issuer, form: &Form) -> Result<TokenAnswer, OAuthError> {
    let grant = GrantType::named(form.require("grant_type")?).ok_or_else(|| {
        let supported = GrantType::ALL.map(GrantType::name).join(", ");
        let text = format!("supported are {supported}");
        OAuthError::new(StatusCode::BAD_REQUEST, "unsupported_grant_type", text)
    })?;
    let proof = issuer.read_proof(&form.headers, super::TOKEN_PATH)?;
    let client = form.authenticate(issuer).await?;
    let asker = Asker::new(&client, &form.address, proof.as_ref())?;
    let scope = form.get("scope").unwrap_or_default();
    let tokens = match grant {
        GrantType::RefreshToken => issuer.refresh(asker, form.require("refresh_token")?, scope).await?,
        GrantType::ClientCredentials => issuer.client_token(asker, scope).await?,
        GrantType::AuthorizationCode => {
            let redemption = Redemption {
                client_id: &client.id,
                redirect_uri: form.get("redirect_uri"),
                verifier: form.get("code_verifier").unwrap_or_default(),
                key: asker.key(),
            };
            issuer.exchange_code(asker, form.require("code")?, redemption).await?
        }
        GrantType::DeviceCode => issuer.exchange_device_code(asker, form.require("device_code")?).await?,
        GrantType::TokenExchange => issuer.exchange_token(asker, &exchange(form)?).await?,
    };
    Ok(TokenAnswer {
        access_token: tokens.access_token,
        token_type: if tokens.bound { "DPoP" } else { "Bearer" },
        expires_in: tokens.expires_at.since(issuer.clock.now()).as_millis().div_ceil(1000).try_into().unwrap_or(0),
        refresh_token: tokens.refresh_token,
        scope: tokens.scopes.to_string(),
        id_token: tokens.id_token,
        issued_token_type: (grant == GrantType::TokenExchange).then_some(ACCESS_TOKEN_TYPE),
    })
}

/// The answer, with the nonce for the next proof if the request came with one (RFC 9449 §8).
pub(super) fn with_nonce(issuer: &Issuer, headers: &HeaderMap, mut answer: Response) -> Response {
    if let Some(nonce) = issuer.nonce_for(headers).and_then(|nonce| HeaderValue::from_str(&nonce).ok()) {
        answer.headers_mut().insert(NONCE_HEADER, nonce);
    }
    answer
}

/// What is to be exchanged. Access tokens are, and nothing else.
fn exchange(form: &Form) -> Result<Exchange<'_>, OAuthError> {
    let subject_token = form.require("subject_token")?;
    if form.require("subject_token_type")? != ACCESS_TOKEN_TYPE {
        return Err(OAuthError::invalid_request(format!("subject_token_type is not {ACCESS_TOKEN_TYPE}")));
    }
    if form.get("requested_token_type").is_some_and(|kind| kind != ACCESS_TOKEN_TYPE) {
        return Err(OAuthError::invalid_request(format!("requested_token_type is not {ACCESS_TOKEN_TYPE}")));
    }
    if form.get("actor_token").is_some() || form.get("actor_token_type").is_some() {
        return Err(OAuthError::invalid_request("actor_token is not taken: the client itself is who acts"));
    }
    if form.get("resource").is_some() {
        let text = "resource is not taken: name the audience";
        return Err(OAuthError::new(StatusCode::BAD_REQUEST, "invalid_target", text));
    }
    let (audience, scope) = (form.get("audience").unwrap_or_default(), form.get("scope").unwrap_or_default());
    Ok(Exchange { subject_token, audience, scope })
}

/// Ends a token. One that is worth nothing is no error.
pub(super) async fn revoke(State(endpoints): State<Endpoints>, request: Request<Body>) -> Result<Response, OAuthError> {
    let form = Form::read(request, endpoints.trusted_hops).await?;
    let client = form.authenticate(&endpoints.issuer).await?;
    let token = form.require("token")?.to_owned();
    let (issuer, address) = (endpoints.issuer.clone(), form.address);
    // To its end even if the caller goes away: the revocation is to be sent out as well.
    let revoked = tokio::spawn(async move { issuer.revoke(&client, &token, &address).await }).await;
    revoked.unwrap_or(Err(Error::Internal))?;
    Ok([(CACHE_CONTROL, "no-store")].into_response())
}
