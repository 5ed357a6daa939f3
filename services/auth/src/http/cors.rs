//! Which pages' scripts may call and read the answer (CORS): every page reads what is public, and applications that run in a browser call
//! the endpoints of clients, from where they are registered. No answer depends on a cookie there, so none is ever asked for, and the
//! pages that people see are for no script at all.

use std::sync::Arc;
use std::time::Duration;

use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderName, Method};
use tower_http::cors::{AllowOrigin, Any, CorsLayer};

use super::token::NONCE_HEADER;
use crate::issuer::Issuer;

/// How long a browser may rely on the answer to a preflight: a client that is removed is forgotten by then.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_secs(600);

/// For what everybody may read.
pub(super) fn of_anyone() -> CorsLayer {
    CorsLayer::new().allow_origin(Any).allow_methods([Method::GET, Method::HEAD]).max_age(PREFLIGHT_MAX_AGE)
}

/// For the endpoints of clients. Which client calls is in the body, or in none at all at a preflight, so the page has to be one of any
/// public client: that of another one gets no more than its server could ask for.
pub(super) fn of_clients(issuer: Arc<Issuer>) -> CorsLayer {
    let known = move |origin: &axum::http::HeaderValue, _: &axum::http::request::Parts| {
        origin.to_str().is_ok_and(|origin| issuer.clients.any_public_at(origin))
    };
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(known))
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([AUTHORIZATION, CONTENT_TYPE, HeaderName::from_static("dpop")])
        .expose_headers([WWW_AUTHENTICATE, NONCE_HEADER])
        .max_age(PREFLIGHT_MAX_AGE)
}
