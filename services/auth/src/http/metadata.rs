//! What the issuer can do (OpenID Connect Discovery 1.0, RFC 8414): nothing that does not exist is named.

use axum::Json;
use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse as _, Response};
use flaghoist_runtime::html::Language;
use serde_json::json;

use super::Endpoints;
use crate::algorithm::Algorithm;
use crate::authorization::{ACR, ACR_TWO};
use crate::client::{AuthMethod, GrantType};
use crate::profile::CLAIMS;
use crate::public_key::ALGORITHMS;
use crate::scope::KNOWN;

pub(super) const JWKS_PATH: &str = "/oauth2/jwks";
pub(super) const AUTHORIZATION_PATH: &str = "/oauth2/authorize";
pub(crate) const PUSHED_PATH: &str = "/oauth2/par";
pub(super) const REGISTRATION_PATH: &str = "/oauth2/register";
pub(super) const DEVICE_AUTHORIZATION_PATH: &str = "/oauth2/device_authorization";
pub(crate) const USERINFO_PATH: &str = "/userinfo";
pub(super) const LOGOUT_PATH: &str = "/oauth2/logout";
pub(crate) const TOKEN_PATH: &str = "/oauth2/token";
pub(super) const REVOCATION_PATH: &str = "/oauth2/revoke";
pub(super) const INTROSPECTION_PATH: &str = "/oauth2/introspect";

/// Answers the metadata.
pub(super) async fn metadata(State(endpoints): State<Endpoints>) -> Response {
    let issuer = &endpoints.issuer.url;
    let url = issuer.trim_end_matches('/');
    let confidential = [AuthMethod::ClientSecretBasic, AuthMethod::ClientSecretPost, AuthMethod::PrivateKeyJwt];
    let confidential = confidential.map(AuthMethod::name);
    let or_public = [&confidential[..], &["none"]].concat();
    let grants = GrantType::ALL.map(GrantType::name);
    let algorithms = [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa].map(Algorithm::name);
    let always = ["iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "at_hash", "sid", "amr", "acr"];
    let claims: Vec<_> = always.into_iter().chain(CLAIMS.map(|(name, _)| name)).collect();
    let metadata = json!({
        "issuer": issuer,
        "jwks_uri": format!("{url}{JWKS_PATH}"),
        "token_endpoint": format!("{url}{TOKEN_PATH}"),
        "token_endpoint_auth_methods_supported": or_public,
        "token_endpoint_auth_signing_alg_values_supported": ALGORITHMS,
        "revocation_endpoint": format!("{url}{REVOCATION_PATH}"),
        "revocation_endpoint_auth_methods_supported": or_public,
        "revocation_endpoint_auth_signing_alg_values_supported": ALGORITHMS,
        "introspection_endpoint": format!("{url}{INTROSPECTION_PATH}"),
        "introspection_endpoint_auth_methods_supported": confidential,
        "introspection_endpoint_auth_signing_alg_values_supported": ALGORITHMS,
        "authorization_endpoint": format!("{url}{AUTHORIZATION_PATH}"),
        "authorization_response_iss_parameter_supported": true,
        "code_challenge_methods_supported": ["S256"],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "dpop_signing_alg_values_supported": ALGORITHMS,
        "request_parameter_supported": false,
        "request_uri_parameter_supported": false,
        "pushed_authorization_request_endpoint": format!("{url}{PUSHED_PATH}"),
        "require_pushed_authorization_requests": false,
        "registration_endpoint": format!("{url}{REGISTRATION_PATH}"),
        "device_authorization_endpoint": format!("{url}{DEVICE_AUTHORIZATION_PATH}"),
        "userinfo_endpoint": format!("{url}{USERINFO_PATH}"),
        "end_session_endpoint": format!("{url}{LOGOUT_PATH}"),
        "backchannel_logout_supported": true,
        "backchannel_logout_session_supported": true,
        "grant_types_supported": grants,
        "id_token_signing_alg_values_supported": algorithms,
        "subject_types_supported": ["public"],
        "scopes_supported": KNOWN,
        "ui_locales_supported": Language::ALL.map(Language::tag),
        "claims_parameter_supported": true,
        "claims_supported": claims,
        "acr_values_supported": [ACR, ACR_TWO],
        "prompt_values_supported": ["none", "login", "consent", "select_account"],
    });
    ([(CACHE_CONTROL, "public, max-age=300")], Json(metadata)).into_response()
}
