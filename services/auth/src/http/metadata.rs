//! What the issuer can do (OpenID Connect Discovery 1.0, RFC 8414): nothing that does not exist is named.

use axum::Json;
use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse as _, Response};
use serde_json::json;

use super::Endpoints;
use crate::scope::KNOWN;

pub(super) const JWKS_PATH: &str = "/oauth2/jwks";
pub(super) const TOKEN_PATH: &str = "/oauth2/token";
pub(super) const REVOCATION_PATH: &str = "/oauth2/revoke";
pub(super) const INTROSPECTION_PATH: &str = "/oauth2/introspect";

/// Answers the metadata.
pub(super) async fn metadata(State(endpoints): State<Endpoints>) -> Response {
    let issuer = &endpoints.issuer.url;
    let url = issuer.trim_end_matches('/');
    let with_secret = ["client_secret_basic", "client_secret_post"];
    let or_public = ["client_secret_basic", "client_secret_post", "none"];
    let metadata = json!({
        "issuer": issuer,
        "jwks_uri": format!("{url}{JWKS_PATH}"),
        "token_endpoint": format!("{url}{TOKEN_PATH}"),
        "token_endpoint_auth_methods_supported": or_public,
        "revocation_endpoint": format!("{url}{REVOCATION_PATH}"),
        "revocation_endpoint_auth_methods_supported": or_public,
        "introspection_endpoint": format!("{url}{INTROSPECTION_PATH}"),
        "introspection_endpoint_auth_methods_supported": with_secret,
        "grant_types_supported": ["refresh_token", "client_credentials"],
        // There is no authorization endpoint and there are no ID tokens yet, so these two are empty.
        "response_types_supported": [],
        "id_token_signing_alg_values_supported": [],
        "subject_types_supported": ["public"],
        "scopes_supported": KNOWN,
    });
    ([(CACHE_CONTROL, "public, max-age=300")], Json(metadata)).into_response()
}
