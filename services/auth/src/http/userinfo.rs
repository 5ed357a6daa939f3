//! `/userinfo` (OpenID Connect Core §5.3): who is behind an access token.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde_json::json;

use super::error::OAuthError;
use super::form::Form;
use super::{Endpoints, json};
use crate::flow::UserInfoError;

/// The token in the header `Authorization`.
pub(super) async fn get(State(endpoints): State<Endpoints>, request: Request<Body>) -> Response {
    answer(&endpoints, bearer(request.headers())).await
}

/// The token in the header or, where that is not there, in the form (RFC 6750 §2.2).
pub(super) async fn post(State(endpoints): State<Endpoints>, request: Request<Body>) -> Response {
    let token = bearer(request.headers());
    if token.is_some() {
        return answer(&endpoints, token).await;
    }
    let is_form = request.headers().contains_key(axum::http::header::CONTENT_TYPE);
    let token = match is_form {
        true => match Form::read(request, endpoints.trusted_hops).await {
            Ok(form) => form.get("access_token").map(str::to_owned),
            Err(error) => return error.into_response(),
        },
        false => None,
    };
    answer(&endpoints, token).await
}

pub(super) fn bearer(headers: &HeaderMap) -> Option<String> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}

async fn answer(endpoints: &Endpoints, token: Option<String>) -> Response {
    // Who brings no token is not told of an error (RFC 6750 §3.1).
    let Some(token) = token else {
        return challenge(StatusCode::UNAUTHORIZED, "Bearer realm=\"flaghoist\"", "invalid_token", "no access token");
    };
    match endpoints.issuer.user_info(&token).await {
        Ok(info) => json(&info),
        Err(UserInfoError::TokenInvalid) => challenge(
            StatusCode::UNAUTHORIZED,
            "Bearer realm=\"flaghoist\", error=\"invalid_token\"",
            "invalid_token",
            "the access token is malformed, expired or revoked, or not one of a person",
        ),
        Err(UserInfoError::ScopeMissing) => challenge(
            StatusCode::FORBIDDEN,
            "Bearer realm=\"flaghoist\", error=\"insufficient_scope\", scope=\"openid\"",
            "insufficient_scope",
            "the access token lacks the scope openid",
        ),
        Err(UserInfoError::Failed(error)) => OAuthError::from(error).into_response(),
    }
}

fn challenge(status: StatusCode, scheme: &'static str, error: &str, description: &str) -> Response {
    let body = Json(json!({"error": error, "error_description": description}));
    let mut response = (status, [(CACHE_CONTROL, "no-store")], body).into_response();
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(scheme));
    response
}
