//! What the issuer can do (OpenID Connect Discovery 1.0, RFC 8414): nothing that does not exist is named.

use axum::Json;
use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse as _, Response};
use serde_json::json;

use super::Endpoints;
use crate::algorithm::Algorithm;
use crate::authorization::{ACR, ACR_TWO};
use crate::client::GrantType;
use crate::scope::KNOWN;

pub(super) const JWKS_PATH: &str = "/oauth2/jwks";
pub(super) const AUTHORIZATION_PATH: &str = "/oauth2/authorize";
pub(super) const PUSHED_PATH: &str = "/oauth2/par";
pub(super) const USERINFO_PATH: &str = "/userinfo";
pub(super) const LOGOUT_PATH: &str = "/oauth2/logout";
pub(super) const TOKEN_PATH: &str = "/oauth2/token";
pub(super) const REVOCATION_PATH: &str = "/oauth2/revoke";
pub(super) const INTROSPECTION_PATH: &str = "/oauth2/introspect";

/// Answers the metadata.
pub(super) async fn metadata(State(endpoints): State<Endpoints>) -> Response {
    let issuer = &endpoints.issuer.url;
    let url = issuer.trim_end_matches('/');
    let with_secret = ["client_secret_basic", "client_secret_post"];
    let or_public = ["client_secret_basic", "client_secret_post", "none"];
    let grants = [GrantType::AuthorizationCode, GrantType::RefreshToken, GrantType::ClientCredentials];
    let grants = grants.map(GrantType::name);
    let algorithms = [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa].map(Algorithm::name);
    let metadata = json!({
        "issuer": issuer,
        "jwks_uri": format!("{url}{JWKS_PATH}"),
        "token_endpoint": format!("{url}{TOKEN_PATH}"),
        "token_endpoint_auth_methods_supported": or_public,
        "revocation_endpoint": format!("{url}{REVOCATION_PATH}"),
        "revocation_endpoint_auth_methods_supported": or_public,
        "introspection_endpoint": format!("{url}{INTROSPECTION_PATH}"),
        "introspection_endpoint_auth_methods_supported": with_secret,
        "authorization_endpoint": format!("{url}{AUTHORIZATION_PATH}"),
        "authorization_response_iss_parameter_supported": true,
        "code_challenge_methods_supported": ["S256"],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "request_parameter_supported": false,
        "request_uri_parameter_supported": false,
        "pushed_authorization_request_endpoint": format!("{url}{PUSHED_PATH}"),
        "require_pushed_authorization_requests": false,
        "userinfo_endpoint": format!("{url}{USERINFO_PATH}"),
        "end_session_endpoint": format!("{url}{LOGOUT_PATH}"),
        "grant_types_supported": grants,
        "id_token_signing_alg_values_supported": algorithms,
        "subject_types_supported": ["public"],
        "scopes_supported": KNOWN,
        "claims_parameter_supported": true,
        "claims_supported": [
            "iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "at_hash", "sid", "amr", "acr", "name",
            "preferred_username",
        ],
        "acr_values_supported": [ACR, ACR_TWO],
        "prompt_values_supported": ["none", "login", "consent", "select_account"],
    });
    ([(CACHE_CONTROL, "public, max-age=300")], Json(metadata)).into_response()
}
