//! Access tokens: RFC 9068 JWTs, signed with Ed25519.

use std::fmt;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flaghoist_runtime::token::AUDIENCE;
use serde::{Serialize, Serializer};
use uuid::Uuid;

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

/// Signs access tokens with one key.
pub(crate) struct Signer {
    kid: String,
    pair: Ed25519KeyPair,
    /// The encoded header and its dot, the same for every token.
    header: String,
}

impl Signer {
    /// A signer from the private key's seed; none if it is no seed.
    pub(crate) fn new(kid: &str, seed: &[u8]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
        let header = serde_json::json!({"typ": "at+jwt", "alg": "EdDSA", "kid": kid}).to_string();
        let header = URL_SAFE_NO_PAD.encode(header) + ".";
        Some(Self { kid: kid.to_owned(), pair, header })
    }

    /// The id of its key.
    pub(crate) fn kid(&self) -> &str {
        &self.kid
    }

    /// The public half of its key.
    pub(crate) fn public_key(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    /// The token that says `claims`.
    pub(crate) fn sign(&self, claims: &Claims<'_>) -> Result<String, serde_json::Error> {
        let claims = serde_json::to_vec(claims)?;
        let mut token = String::with_capacity(self.header.len() + claims.len() * 4 / 3 + 96);
        token.push_str(&self.header);
        URL_SAFE_NO_PAD.encode_string(&claims, &mut token);
        let signature = self.pair.sign(token.as_bytes());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature.as_ref(), &mut token);
        Ok(token)
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("kid", &self.kid).finish_non_exhaustive()
    }
}
