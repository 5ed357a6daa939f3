//! `/userinfo` (OpenID Connect Core §5.3): who is behind an access token.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode};
use axum::response::{IntoResponse as _, Response};
use flaghoist_runtime::token::{Presented, ProofError, Scheme, TokenError};
use serde_json::json;

use super::error::OAuthError;
use super::form::Form;
use super::{Endpoints, json};
use crate::flow::UserInfoError;
use crate::public_key::ALGORITHMS;

/// The token in the header `Authorization`.
pub(super) async fn get(State(endpoints): State<Endpoints>, request: Request<Body>) -> Response {
    let (head, _) = request.into_parts();
    answer(&endpoints, Presented::among(&head.headers), &head.headers, head.method.as_str()).await
}

/// The token in the header or, where that is not there, in the form (RFC 6750 §2.2).
pub(super) async fn post(State(endpoints): State<Endpoints>, request: Request<Body>) -> Response {
    let is_form = request.headers().contains_key(CONTENT_TYPE) && !request.headers().contains_key(AUTHORIZATION);
    if !is_form {
        let (head, _) = request.into_parts();
        return answer(&endpoints, Presented::among(&head.headers), &head.headers, "POST").await;
    }
    match Form::read(request, endpoints.trusted_hops).await {
        Ok(form) => {
            let token = form.get("access_token").ok_or(TokenError::Missing);
            let presented = token.map(|token| Presented { scheme: Scheme::Bearer, token });
            answer(&endpoints, presented, &form.headers, "POST").await
        }
        Err(error) => error.into_response(),
    }
}

pub(super) fn bearer(headers: &HeaderMap) -> Option<String> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}

async fn answer(
    endpoints: &Endpoints,
    presented: Result<Presented<'_>, TokenError>,
    headers: &HeaderMap,
    method: &str,
) -> Response {
    let algorithms = ALGORITHMS.join(" ");
    let info = match presented {
        Ok(presented) => endpoints.issuer.user_info(presented, headers, method).await,
        // Who brings no token is not told of an error (RFC 6750 §3.1).
        Err(TokenError::Missing) => {
            let dpop = format!("DPoP realm=\"flaghoist\", algs=\"{algorithms}\"");
            let schemes = ["Bearer realm=\"flaghoist\"".to_owned(), dpop];
            return challenge(StatusCode::UNAUTHORIZED, &schemes, "invalid_token", "no access token");
        }
        Err(_) => Err(UserInfoError::TokenInvalid),
    };
    let bearer = |said: &str| ["Bearer realm=\"flaghoist\", ", said].concat();
    match info {
        Ok(info) => json(&info),
        Err(UserInfoError::TokenInvalid) => challenge(
            StatusCode::UNAUTHORIZED,
            &[bearer("error=\"invalid_token\"")],
            "invalid_token",
            "the access token is malformed, expired or revoked, or not one of a person",
        ),
        Err(UserInfoError::ScopeMissing) => challenge(
            StatusCode::FORBIDDEN,
            &[bearer("error=\"insufficient_scope\", scope=\"openid\"")],
            "insufficient_scope",
            "the access token lacks the scope openid",
        ),
        Err(UserInfoError::Unproven(problem)) => {
            let error = match problem {
                ProofError::Missing | ProofError::Unbound => "invalid_token",
                ProofError::Twice | ProofError::Invalid(_) | ProofError::Replayed => "invalid_dpop_proof",
            };
            let scheme = format!("DPoP realm=\"flaghoist\", error=\"{error}\", algs=\"{algorithms}\"");
            challenge(StatusCode::UNAUTHORIZED, &[scheme], error, &problem.to_string())
        }
        Err(UserInfoError::Failed(error)) => OAuthError::from(error).into_response(),
    }
}

fn challenge(status: StatusCode, schemes: &[String], error: &str, description: &str) -> Response {
    let body = Json(json!({"error": error, "error_description": description}));
    let mut response = (status, [(CACHE_CONTROL, "no-store")], body).into_response();
    for scheme in schemes.iter().filter_map(|scheme| HeaderValue::from_str(scheme).ok()) {
        response.headers_mut().append(WWW_AUTHENTICATE, scheme);
    }
    response
}
