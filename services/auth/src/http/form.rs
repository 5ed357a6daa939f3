//! The parameters of a request, and the client that sends it.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, Request, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flaghoist_runtime::server::{ClientAddress, client_address};

use super::error::OAuthError;
use crate::authorization::repeats;
use crate::client::{AuthMethod, Client, assertion};
use crate::error::Error;
use crate::issuer::{Issuer, Proof};

/// The largest body that is read.
const BODY_MAX_BYTES: usize = 64 * 1024;

/// How many parameters a request may have.
const PARAMETERS_MAX: usize = 64;

/// What a request that is not as it should be is answered.
const INVALID_REQUEST: &str = "invalid_request";

/// How long the body may take.
pub(super) const BODY_MAX_TIME: Duration = Duration::from_secs(10);

/// The parameters of a request (`application/x-www-form-urlencoded`).
pub(super) struct Form {
    parameters: Vec<(String, String)>,
    /// Client id and secret from the header `Authorization: Basic`.
    basic: Option<(String, String)>,
    /// Where the request comes from; empty if the listener did not say.
    pub(super) address: String,
    /// The headers that it came with.
    pub(super) headers: HeaderMap,
}

impl Form {
    /// Reads a request. What is wrong with its form is said before anything else is looked at.
    pub(super) async fn read(request: Request<Body>, trusted_hops: u8) -> Result<Self, OAuthError> {
        let form = Self::read_repeated(request, trusted_hops).await?;
        if repeats(&form.parameters) {
            return Err(OAuthError::invalid_request("a parameter is there twice"));
        }
        Ok(form)
    }

    /// Reads a request in which parameters may be there twice.
    pub(super) async fn read_repeated(request: Request<Body>, trusted_hops: u8) -> Result<Self, OAuthError> {
        let address = match request.extensions().get::<ClientAddress>() {
            Some(_) => client_address(&request, trusted_hops).to_string(),
            None => String::new(),
        };
        let (head, body) = request.into_parts();
        if declared_length(&head.headers).is_some_and(|length| length > BODY_MAX_BYTES as u64) {
            return Err(too_large(INVALID_REQUEST));
        }
        if !is_form(&head.headers) {
            return Err(OAuthError::invalid_request("send the parameters as application/x-www-form-urlencoded"));
        }
        let basic = basic(&head.headers)?;
        let body = read_body(body, INVALID_REQUEST, BODY_MAX_TIME).await?;
        let parameters = parameters(&body)
            .ok_or_else(|| OAuthError::invalid_request("the parameters are malformed, too many, or not UTF-8"))?;
        Ok(Self { parameters, basic, address, headers: head.headers })
    }

    /// The parameters in their order.
    pub(super) fn into_parameters(self) -> Vec<(String, String)> {
        self.parameters
    }

    /// The parameters in their order.
    pub(super) fn parameters(&self) -> &[(String, String)] {
        &self.parameters
    }

    /// A parameter. One without a value is as good as left out.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(parameter, _)| parameter == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// A parameter that must be there.
    pub(super) fn require(&self, name: &'static str) -> Result<&str, OAuthError> {
        self.get(name).ok_or_else(|| OAuthError::invalid_request(format!("{name} is missing")))
    }

    /// The client that the request proves, by `client_secret_basic`, `client_secret_post`, `private_key_jwt` or, for a public one,
    /// `none`.
    pub(super) async fn authenticate(&self, issuer: &Issuer) -> Result<Arc<Client>, OAuthError> {
        if let Some(assertion) = self.assertion()? {
            let id = self.get("client_id").unwrap_or_default();
            return Ok(issuer.authenticate(Proof::Assertion { id, assertion }, &self.address).await?);
        }
        let method = match (&self.basic, self.get("client_secret")) {
            (Some(_), _) => AuthMethod::ClientSecretBasic,
            (None, Some(_)) => AuthMethod::ClientSecretPost,
            (None, None) => AuthMethod::None,
        };
        let (id, secret) = match &self.basic {
            Some(_) if self.get("client_secret").is_some() => {
                return Err(OAuthError::invalid_request("the client authenticates in two ways at once"));
            }
            Some((id, _)) if self.get("client_id").is_some_and(|other| other != id) => {
                return Err(OAuthError::invalid_request("two clients are named"));
            }
            Some((id, secret)) => (id.as_str(), secret.as_str()),
            None => {
                let id = self.get("client_id").ok_or(Error::ClientInvalid)?;
                (id, self.get("client_secret").unwrap_or_default())
            }
        };
        let client = issuer.authenticate(Proof::Secret { id, secret }, &self.address).await?;
        match client.registration.auth_method {
            AuthMethod::Any => Ok(client),
            registered if registered == method => Ok(client),
            _ => Err(Error::ClientInvalid.into()),
        }
    }

    /// The assertion that the client has signed, if it has sent one.
    fn assertion(&self) -> Result<Option<&str>, OAuthError> {
        let Some(assertion) = self.get("client_assertion") else { return Ok(None) };
        if self.get("client_assertion_type") != Some(assertion::TYPE) {
            return Err(OAuthError::invalid_request(format!("client_assertion_type is not {}", assertion::TYPE)));
        }
        if self.basic.is_some() || self.get("client_secret").is_some() {
            return Err(OAuthError::invalid_request("the client authenticates in two ways at once"));
        }
        Ok(Some(assertion))
    }
}

/// The parameters of an address; none if it is malformed.
pub(super) fn query_parameters(query: &str) -> Option<Vec<(String, String)>> {
    parameters(query.as_bytes())
}

/// Reads a body of 64 KiB at most that is there within `time`. What is wrong with it is answered as `error`.
pub(super) async fn read_body(body: Body, error: &'static str, time: Duration) -> Result<Bytes, OAuthError> {
    match tokio::time::timeout(time, to_bytes(body, BODY_MAX_BYTES)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(_)) => Err(too_large(error)),
        Err(_) => Err(OAuthError::new(StatusCode::REQUEST_TIMEOUT, error, "the body was too slow")),
    }
}

fn too_large(error: &'static str) -> OAuthError {
    OAuthError::new(StatusCode::PAYLOAD_TOO_LARGE, error, "the body is larger than 64 KiB or was cut off")
}

fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// Client id and secret from the header `Authorization`, if it is there. Both are form-encoded (RFC 6749 §2.3.1).
fn basic(headers: &HeaderMap) -> Result<Option<(String, String)>, OAuthError> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let Some(header) = all.next() else { return Ok(None) };
    if all.next().is_some() {
        return Err(OAuthError::invalid_request("the header Authorization is there twice"));
    }
    let read = || {
        let (scheme, credentials) = header.to_str().ok()?.split_once(' ')?;
        let credentials = scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(credentials.trim()).ok())??;
        let credentials = String::from_utf8(credentials).ok()?;
        let (id, secret) = credentials.split_once(':')?;
        Some((decode(id.as_bytes())?, decode(secret.as_bytes())?))
    };
    // An unknown scheme and unreadable credentials prove no client.
    read().map(Some).ok_or_else(|| Error::ClientInvalid.into())
}

/// Reads `application/x-www-form-urlencoded`; none if it is malformed.
fn parameters(body: &[u8]) -> Option<Vec<(String, String)>> {
    let pairs = body.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
    let mut parameters = Vec::new();
    for pair in pairs {
        if parameters.len() == PARAMETERS_MAX {
            return None;
        }
        let (name, value) = match pair.iter().position(|byte| *byte == b'=') {
            Some(at) => (&pair[..at], &pair[at + 1..]),
            None => (pair, &b""[..]),
        };
        parameters.push((decode(name)?, decode(value)?));
    }
    Some(parameters)
}

/// Undoes percent-encoding; none if it is malformed or not UTF-8.
fn decode(text: &[u8]) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let high = char::from(*rest.next()?).to_digit(16)?;
                let low = char::from(*rest.next()?).to_digit(16)?;
                u8::try_from(high * 16 + low).ok()?
            }
            other => *other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn forms_are_read_as_browsers_write_them() {
        let read = parameters(b"a=b+c&d=%C3%A9%20&e&&f==x").unwrap();
        let read: Vec<_> = read.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(read, [("a", "b c"), ("d", "é "), ("e", ""), ("f", "=x")]);
        for malformed in [&b"a=%"[..], b"a=%4", b"a=%zz", b"a=%ff", b"\xff=1", "x&".repeat(65).as_bytes()] {
            assert!(parameters(malformed).is_none());
        }
    }

    #[tokio::test]
    async fn a_body_that_is_too_large_or_too_slow_is_not_waited_for() {
        let read =
            async |body: Body| read_body(body, "invalid_x", Duration::from_millis(50)).await.map_err(|e| e.status());
        assert_eq!(read(Body::from("text")).await, Ok(Bytes::from_static(b"text")));
        assert_eq!(read(Body::from(vec![0; BODY_MAX_BYTES + 1])).await, Err(StatusCode::PAYLOAD_TOO_LARGE));
        let slow = futures_util::stream::pending::<Result<Bytes, std::io::Error>>();
        assert_eq!(read(Body::from_stream(slow)).await, Err(StatusCode::REQUEST_TIMEOUT));
    }

    proptest! {
        #[test]
        fn no_body_makes_reading_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _read = parameters(&body);
        }
    }
}
