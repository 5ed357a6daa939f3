//! `/oauth2/par` (RFC 9126): a client sends its authorization request itself, and the browser only a name for it.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse as _, Response};
use flaghoist_runtime::token::ProofError;
use serde_json::json;

use super::Endpoints;
use super::error::OAuthError;
use super::form::Form;
use super::token::with_nonce;
use crate::authorization::Refusal;
use crate::error::Error;
use crate::flow::{PUSHED_LIFETIME, Unread};
use crate::issuer::Issuer;

/// Keeps a request.
pub(super) async fn push(State(endpoints): State<Endpoints>, request: Request<Body>) -> Result<Response, OAuthError> {
    let form = Form::read(request, endpoints.trusted_hops).await?;
    let answer = pushed(&endpoints.issuer, &form).await.into_response();
    Ok(with_nonce(&endpoints.issuer, &form.headers, answer))
}

async fn pushed(issuer: &Issuer, form: &Form) -> Result<Response, OAuthError> {
    let proof = issuer.read_proof(&form.headers, super::PUSHED_PATH)?;
    let client = form.authenticate(issuer).await?;
    let key = proof.as_ref().map(|proof| proof.thumbprint.clone());
    if form.get("request_uri").is_some() {
        return Err(OAuthError::invalid_request("request_uri cannot be pushed"));
    }
    let mut request = match issuer.read_request(form.parameters(), &client) {
        Ok(request) => request,
        Err(Unread::Refused(Refusal::Untrusted(text))) => return Err(OAuthError::invalid_request(text)),
        Err(Unread::Refused(Refusal::Denied(denial))) => {
            return Err(OAuthError::new(StatusCode::BAD_REQUEST, denial.error, denial.description));
        }
        Err(Unread::Failed(error)) => return Err(error.into()),
    };
    // A key that is proven here is the one that is to be proven with the code (RFC 9449 §10.1).
    if key.is_some() && request.key_thumbprint.is_some() && request.key_thumbprint != key {
        return Err(Error::ProofInvalid(ProofError::Invalid("is of another key than dpop_jkt names")).into());
    }
    request.key_thumbprint = key.or(request.key_thumbprint);
    let name = issuer.push(&client, &request, &form.address).await?;
    // Last, so that one network leaves no more proofs here than requests. What was pushed with a proof of before nobody learns the name of.
    issuer.use_proof(proof.as_ref()).await?;
    let answer = json!({"request_uri": name, "expires_in": PUSHED_LIFETIME.as_secs()});
    Ok((StatusCode::CREATED, [(CACHE_CONTROL, "no-store")], Json(answer)).into_response())
}
