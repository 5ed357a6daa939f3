//! Errors as OAuth writes them: JSON with `error` and `error_description`, never to be cached.

use axum::Json;
use axum::http::header::{CACHE_CONTROL, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::error::Error;

/// An error of RFC 6749 §5.2 and its kin.
#[derive(Debug)]
pub(super) struct OAuthError {
    status: StatusCode,
    error: &'static str,
    description: String,
    header: Option<(HeaderName, &'static str)>,
}

impl OAuthError {
    pub(super) fn new(status: StatusCode, error: &'static str, description: impl Into<String>) -> Self {
        Self { status, error, description: description.into(), header: None }
    }

    /// The status of the answer.
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// What is said to people.
    pub(super) fn description(&self) -> &str {
        &self.description
    }

    /// A request that is not as it should be.
    pub(super) fn invalid_request(description: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", description)
    }

    /// Something is not there at the moment.
    pub(super) fn unavailable(description: impl Into<String>) -> Self {
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", description);
        Self { header: Some((RETRY_AFTER, "1")), ..error }
    }
}

impl From<Error> for OAuthError {
    fn from(error: Error) -> Self {
        let description = error.to_string();
        let (status, name) = match error {
            Error::ClientInvalid => {
                let error = Self::new(StatusCode::UNAUTHORIZED, "invalid_client", description);
                return Self { header: Some((WWW_AUTHENTICATE, "Basic realm=\"flaghoist\"")), ..error };
            }
            Error::RegistrationTokenInvalid => {
                let error = Self::new(StatusCode::UNAUTHORIZED, "invalid_token", description);
                let header = Some((WWW_AUTHENTICATE, "Bearer realm=\"flaghoist\", error=\"invalid_token\""));
                return Self { header, ..error };
            }
            Error::Overloaded | Error::Unavailable => return Self::unavailable(description),
            Error::ClientUnauthorized => (StatusCode::BAD_REQUEST, "unauthorized_client"),
            Error::GrantInvalid | Error::TokenOfAnother | Error::SubjectDisabled => {
                (StatusCode::BAD_REQUEST, "invalid_grant")
            }
            Error::SubjectTokenInvalid => (StatusCode::BAD_REQUEST, "invalid_request"),
            Error::TargetInvalid => (StatusCode::BAD_REQUEST, "invalid_target"),
            Error::DevicePending => (StatusCode::BAD_REQUEST, "authorization_pending"),
            Error::DeviceTooSoon => (StatusCode::BAD_REQUEST, "slow_down"),
            Error::DeviceDenied => (StatusCode::BAD_REQUEST, "access_denied"),
            Error::DeviceExpired => (StatusCode::BAD_REQUEST, "expired_token"),
            Error::ScopeInvalid => (StatusCode::BAD_REQUEST, "invalid_scope"),
            Error::ProofInvalid(_) => (StatusCode::BAD_REQUEST, "invalid_dpop_proof"),
            Error::ProofNonceRequired => (StatusCode::BAD_REQUEST, "use_dpop_nonce"),
            Error::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "server_error"),
            // Not answered by these endpoints.
            Error::Invalid { .. }
            | Error::SessionNotFound(_)
            | Error::ClientNotFound(_)
            | Error::LoginRequestNotFound
            | Error::ClientExists(_)
            | Error::ClientBuiltIn(_)
            | Error::ClientPublic(_)
            | Error::KeyNotFound(_)
            | Error::KeyReserveMissing { .. }
            | Error::ClientsFull(_) => (StatusCode::BAD_REQUEST, "invalid_request"),
        };
        Self::new(status, name, description)
    }
}

impl IntoResponse for OAuthError {
    fn into_response(self) -> Response {
        let body = json!({"error": self.error, "error_description": self.description});
        let mut response = (self.status, [(CACHE_CONTROL, "no-store")], Json(body)).into_response();
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}
