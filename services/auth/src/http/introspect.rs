//! `/oauth2/introspect` (RFC 7662).

use axum::body::Body;
use axum::extract::State;
use axum::http::Request;
use axum::response::Response;
use serde_json::json;

use super::error::OAuthError;
use super::form::Form;
use super::{Endpoints, json};
use crate::issuer::Inspected;
use crate::moment::Moment;

/// Says what a token is worth.
pub(super) async fn introspect(
    State(endpoints): State<Endpoints>,
    request: Request<Body>,
) -> Result<Response, OAuthError> {
    let form = Form::read(request, endpoints.trusted_hops).await?;
    let issuer = &endpoints.issuer;
    let client = form.authenticate(issuer).await?;
    Ok(match issuer.inspect(&client, form.require("token")?).await? {
        None => json(&json!({"active": false})),
        Some(Inspected::Access(caller, audiences)) => {
            let mut answer = json!({
                "active": true,
                "token_type": if caller.key_thumbprint.is_some() { "DPoP" } else { "Bearer" },
                "scope": caller.scopes.join(" "),
                "client_id": caller.client_id,
                "sub": caller.subject,
                "exp": Moment::from(caller.expires_at).seconds(),
                "iat": Moment::from(caller.issued_at).seconds(),
                "jti": caller.token_id.to_string(),
                "aud": audiences,
                "iss": issuer.url,
            });
            if let Some(session) = caller.session {
                answer["sid"] = session.to_string().into();
            }
            if let Some(key) = &caller.key_thumbprint {
                answer["cnf"] = json!({"jkt": key});
            }
            json(&answer)
        }
        Some(Inspected::Refresh(session)) => {
            let mut answer = json!({
                "active": true,
                "scope": session.scopes.to_string(),
                "client_id": &*session.client_id,
                "sub": session.user.to_string(),
                "sid": session.id.to_string(),
                "exp": session.expires_at(&issuer.settings.lifetimes()).seconds(),
                "iat": session.family.rotated_at.seconds(),
                "iss": issuer.url,
            });
            if !session.key_thumbprint.is_empty() {
                answer["cnf"] = json!({"jkt": session.key_thumbprint});
            }
            json(&answer)
        }
    })
}
