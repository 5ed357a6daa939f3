//! `/oauth2/par` (RFC 9126): a client sends its authorization request itself, and the browser only a name for it.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde_json::json;

use super::Endpoints;
use super::error::OAuthError;
use super::form::Form;
use crate::authorization::Refusal;
use crate::flow::{PUSHED_LIFETIME, Unread};

/// Keeps a request.
pub(super) async fn push(State(endpoints): State<Endpoints>, request: Request<Body>) -> Result<Response, OAuthError> {
    let form = Form::read(request, endpoints.trusted_hops).await?;
    let issuer = &endpoints.issuer;
    let client = form.authenticate(issuer).await?;
    if form.get("request_uri").is_some() {
        return Err(OAuthError::invalid_request("request_uri cannot be pushed"));
    }
    let request = match issuer.read_request(form.parameters(), &client) {
        Ok(request) => request,
        Err(Unread::Refused(Refusal::Untrusted(text))) => return Err(OAuthError::invalid_request(text)),
        Err(Unread::Refused(Refusal::Denied(denial))) => {
            return Err(OAuthError::new(StatusCode::BAD_REQUEST, denial.error, denial.description));
        }
        Err(Unread::Failed(error)) => return Err(error.into()),
    };
    let name = issuer.push(&client, &request, &form.address).await?;
    let answer = json!({"request_uri": name, "expires_in": PUSHED_LIFETIME.as_secs()});
    Ok((StatusCode::CREATED, [(CACHE_CONTROL, "no-store")], Json(answer)).into_response())
}
