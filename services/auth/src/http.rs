//! The OAuth and OpenID Connect endpoints over HTTP, for clients that know nothing of gRPC.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, get, post};

use crate::flow::{DEVICE_PATH, RESUME_PATH};
use crate::issuer::Issuer;

mod authorize;
mod browser;
mod cors;
mod device;
mod error;
mod form;
mod introspect;
mod logout;
mod metadata;
mod par;
mod register;
mod token;
mod userinfo;

use error::OAuthError;
pub(crate) use metadata::{PUSHED_PATH, TOKEN_PATH, USERINFO_PATH};

/// What the endpoints share.
#[derive(Clone, Debug)]
pub(crate) struct Endpoints {
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) trusted_hops: u8,
}

/// The routes of the issuer.
pub(crate) fn router(endpoints: Endpoints) -> Router {
    let of_clients = cors::of_clients(endpoints.issuer.clone());
    Router::new()
        .merge(for_every_page())
        .merge(for_pages_of_clients().layer(of_clients))
        .route(metadata::INTROSPECTION_PATH, only("POST", post(introspect::introspect)))
        .route(
            metadata::AUTHORIZATION_PATH,
            only("GET, HEAD, POST", get(authorize::authorize).post(authorize::authorize)),
        )
        .route(RESUME_PATH, only("GET, HEAD", get(authorize::resume)))
        .route("/oauth2/consent", only("POST", post(authorize::consent)))
        .route(metadata::REGISTRATION_PATH, only("POST", post(register::register)))
        .route(DEVICE_PATH, only("GET, HEAD, POST", get(device::page).post(device::page)))
        .route(metadata::LOGOUT_PATH, only("GET, HEAD, POST", get(logout::logout).post(logout::logout)))
        .with_state(endpoints)
}

/// What everybody may read.
fn for_every_page() -> Router<Endpoints> {
    Router::new()
        .route("/.well-known/openid-configuration", only("GET, HEAD", get(metadata::metadata)))
        .route("/.well-known/oauth-authorization-server", only("GET, HEAD", get(metadata::metadata)))
        .route(metadata::JWKS_PATH, only("GET, HEAD", get(jwks)))
        .layer(cors::of_anyone())
}

/// What an application in a browser calls itself.
fn for_pages_of_clients() -> Router<Endpoints> {
    Router::new()
        .route(metadata::TOKEN_PATH, only("POST", post(token::token)))
        .route(metadata::REVOCATION_PATH, only("POST", post(token::revoke)))
        .route(metadata::PUSHED_PATH, only("POST", post(par::push)))
        .route(metadata::DEVICE_AUTHORIZATION_PATH, only("POST", post(device::begin)))
        .route(metadata::USERINFO_PATH, only("GET, HEAD, POST", get(userinfo::get).post(userinfo::post)))
}

/// Refuses the methods that `route` does not have.
fn only(allowed: &'static str, route: MethodRouter<Endpoints>) -> MethodRouter<Endpoints> {
    route.fallback(move || async move {
        let mut response =
            OAuthError::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request", "use another HTTP method")
                .into_response();
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
        response
    })
}

/// The JWK set, or 503: a sidecar that reads anything else with 2xx rejects its whole listener.
async fn jwks(State(endpoints): State<Endpoints>) -> Response {
    match endpoints.issuer.keyring.published() {
        Some(published) => {
            let headers = [(CONTENT_TYPE, "application/jwk-set+json"), (CACHE_CONTROL, "public, max-age=60")];
            (headers, published.jwks.to_string()).into_response()
        }
        None => OAuthError::unavailable("the signing keys are not there yet").into_response(),
    }
}

/// JSON that nobody may keep.
fn json(value: &impl serde::Serialize) -> Response {
    ([(CACHE_CONTROL, "no-store")], axum::Json(value)).into_response()
}

#[cfg(test)]
mod tests;
