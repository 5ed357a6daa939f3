//! Access tokens: RFC 9068 JWTs, signed with Ed25519.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flaghoist_runtime::token::AUDIENCE;
use serde::{Serialize, Serializer};
use uuid::Uuid;

use crate::algorithm::{Algorithm, Pair};
use crate::moment::Moment;
use crate::scope::Scopes;

/// What an access token says. A token is a person's exactly if it has a `sid`.
#[derive(Debug, Serialize)]
pub(crate) struct Claims<'a> {
    pub(crate) iss: &'a str,
    pub(crate) sub: &'a str,
    pub(crate) aud: [&'a str; 1],
    pub(crate) exp: i64,
    pub(crate) iat: i64,
    #[serde(serialize_with = "uuid")]
    pub(crate) jti: Uuid,
    pub(crate) client_id: &'a str,
    pub(crate) scope: String,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "uuid_if_any")]
    pub(crate) sid: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) auth_time: Option<i64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub(crate) amr: &'a [String],
    /// Who acts, where that is not the client that the person signed in with (RFC 8693 §4.1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) act: Option<Actor<'a>>,
    /// What it is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cnf: Option<Confirmation<'a>>,
}

/// The key without which a token is worth nothing (RFC 9449 §6.1).
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Confirmation<'a> {
    /// Its thumbprint.
    pub(crate) jkt: &'a str,
}

/// A client that acts for a person.
#[derive(Debug, Serialize)]
pub(crate) struct Actor<'a> {
    /// Its id.
    pub(crate) sub: &'a str,
}

impl<'a> Claims<'a> {
    /// The claims of a client's own token.
    pub(crate) fn of_client(iss: &'a str, client_id: &'a str, scopes: Scopes, now: Moment, expires_at: Moment) -> Self {
        Self {
            iss,
            sub: client_id,
            aud: [AUDIENCE],
            exp: expires_at.seconds(),
            iat: now.seconds(),
            jti: Uuid::now_v7(),
            client_id,
            scope: scopes.to_string(),
            sid: None,
            auth_time: None,
            amr: &[],
            act: None,
            cnf: None,
        }
    }
}

fn uuid<S: Serializer>(id: &Uuid, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(id.hyphenated().encode_lower(&mut Uuid::encode_buffer()))
}

fn uuid_if_any<S: Serializer>(id: &Option<Uuid>, serializer: S) -> Result<S::Ok, S::Error> {
    match id {
        Some(id) => uuid(id, serializer),
        None => serializer.serialize_none(),
    }
}

/// Signs tokens with one key.
pub(crate) struct Signer {
    kid: String,
    algorithm: Algorithm,
    pair: Pair,
    /// The encoded headers and their dots, the same for every token: of an access token, an ID token and a logout token.
    headers: [String; 3],
}

impl Signer {
    /// A signer with a private key.
    pub(crate) fn new(kid: &str, algorithm: Algorithm, pair: Pair) -> Self {
        let headers = ["at+jwt", "JWT", "logout+jwt"].map(|typ| {
            let header = serde_json::json!({"typ": typ, "alg": algorithm.name(), "kid": kid}).to_string();
            URL_SAFE_NO_PAD.encode(header) + "."
        });
        Self { kid: kid.to_owned(), algorithm, pair, headers }
    }

    /// The id of its key.
    pub(crate) fn kid(&self) -> &str {
        &self.kid
    }

    /// The algorithm of its key.
    pub(crate) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The access token that says `claims`.
    pub(crate) fn sign(&self, claims: &Claims<'_>) -> Result<String, SignError> {
        self.sign_under(&self.headers[0], claims)
    }

    /// The ID token that says `claims`.
    pub(crate) fn sign_id_token(&self, claims: &impl Serialize) -> Result<String, SignError> {
        self.sign_under(&self.headers[1], claims)
    }

    /// The logout token that says `claims`.
    pub(crate) fn sign_logout_token(&self, claims: &impl Serialize) -> Result<String, SignError> {
        self.sign_under(&self.headers[2], claims)
    }

    fn sign_under(&self, header: &str, claims: &impl Serialize) -> Result<String, SignError> {
        let claims = serde_json::to_vec(claims)?;
        let mut token = String::with_capacity(header.len() + claims.len() * 4 / 3 + 352);
        token.push_str(header);
        URL_SAFE_NO_PAD.encode_string(&claims, &mut token);
        let signature = self.pair.sign(token.as_bytes()).map_err(|_| SignError::Key)?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(&signature, &mut token);
        Ok(token)
    }
}

/// A token could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignError {
    /// Its claims.
    #[error("writing the claims")]
    Claims(#[from] serde_json::Error),
    /// Its signature.
    #[error("the key does not sign")]
    Key,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("kid", &self.kid).finish_non_exhaustive()
    }
}
