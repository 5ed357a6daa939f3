//! `/oauth2/register` (RFC 7591): a program registers itself as a client, with a token that an admin has made for that.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse as _, Response};
use flaghoist_runtime::server::{ClientAddress, client_address};
use serde_json::{Map, Value, json};

use super::Endpoints;
use super::error::OAuthError;
use super::form::{BODY_MAX_TIME, read_body};
use super::userinfo::bearer;
use crate::client::{Client, ClientSecret, GrantType};
use crate::error::Error;
use crate::issuer::Metadata;

/// Registers a client.
pub(super) async fn register(
    State(endpoints): State<Endpoints>,
    request: Request<Body>,
) -> Result<Response, OAuthError> {
    let address = match request.extensions().get::<ClientAddress>() {
        Some(_) => client_address(&request, endpoints.trusted_hops).to_string(),
        None => String::new(),
    };
    let token = bearer(request.headers()).ok_or(Error::RegistrationTokenInvalid)?;
    let body = read_body(request.into_body(), "invalid_client_metadata", BODY_MAX_TIME).await?;
    // By way of a map: a list of values could be read as a description too.
    let members = serde_json::from_slice::<Map<String, Value>>(&body).map(Value::Object);
    let metadata: Metadata = members.and_then(serde_json::from_value).map_err(|_| {
        let text = "the body is not a JSON object with the members of RFC 7591";
        OAuthError::new(StatusCode::BAD_REQUEST, "invalid_client_metadata", text)
    })?;
    let issuer = endpoints.issuer.clone();
    // To its end even if the caller goes away: what the token was used for is there then.
    let registered = tokio::spawn(async move { issuer.register(&token, &metadata, &address).await }).await;
    match registered.unwrap_or(Err(Error::Internal)) {
        Ok((client, secret)) => {
            let answer = Json(described(&client, secret));
            Ok((StatusCode::CREATED, [(CACHE_CONTROL, "no-store")], answer).into_response())
        }
        Err(Error::Invalid { field, problem }) => {
            let redirect = field.ends_with("redirect_uris");
            let error = if redirect { "invalid_redirect_uri" } else { "invalid_client_metadata" };
            let field = field.trim_start_matches("registration.");
            Err(OAuthError::new(StatusCode::BAD_REQUEST, error, format!("{field} {problem}")))
        }
        Err(error) => Err(error.into()),
    }
}

/// The client as it was registered (RFC 7591 §3.2.1).
fn described(client: &Client, secret: Option<ClientSecret>) -> Value {
    let registration = &client.registration;
    let mut answer = json!({
        "client_id": &*client.id,
        "client_id_issued_at": client.created_at.seconds(),
        "client_name": client.display_name,
        "redirect_uris": registration.redirect_uris,
        "post_logout_redirect_uris": registration.post_logout_redirect_uris,
        "grant_types": registration.grant_types.iter().map(|grant| grant.name()).collect::<Vec<_>>(),
        "response_types": if client.may_use(GrantType::AuthorizationCode) { vec!["code"] } else { Vec::new() },
        "token_endpoint_auth_method": registration.auth_method.name(),
        "application_type": if registration.native { "native" } else { "web" },
        "scope": client.scopes.to_string(),
        "id_token_signed_response_alg": registration.id_token_algorithm.name(),
        "dpop_bound_access_tokens": registration.dpop_bound,
    });
    if !registration.keys.is_empty() {
        answer["jwks"] = json!({"keys": registration.keys});
    }
    if !registration.backchannel_logout_uri.is_empty() {
        answer["backchannel_logout_uri"] = registration.backchannel_logout_uri.as_str().into();
    }
    if let Some(secret) = secret {
        answer["client_secret"] = secret.into_text().into();
        answer["client_secret_expires_at"] = 0.into();
    }
    answer
}
