//! ID tokens (OpenID Connect Core §2): what a client is told about a sign-in, and what it may hint at later.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flaghoist_runtime::names::{SessionId, UserId, strict_uuid};
use serde::{Deserialize, Serialize};

use crate::algorithm::Algorithm;
use crate::keyring::Published;
use crate::profile::ProfileClaims;

/// The longest token that is looked at.
const HINT_MAX_BYTES: usize = 8192;

/// What an ID token says.
#[derive(Debug, Serialize)]
pub(crate) struct IdClaims<'a> {
    pub(crate) iss: &'a str,
    pub(crate) sub: &'a str,
    pub(crate) aud: &'a str,
    pub(crate) exp: i64,
    pub(crate) iat: i64,
    pub(crate) auth_time: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) nonce: Option<&'a str>,
    pub(crate) at_hash: String,
    pub(crate) sid: String,
    pub(crate) amr: &'a [String],
    pub(crate) acr: &'a str,
    #[serde(flatten)]
    pub(crate) profile: ProfileClaims,
}

/// What an ID token that comes back proves: that this issuer once said so, however long ago.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hint {
    pub(crate) user: UserId,
    pub(crate) client_id: String,
    pub(crate) session: SessionId,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    typ: String,
    kid: String,
}

#[derive(Deserialize)]
struct Hinted {
    iss: String,
    sub: String,
    aud: String,
    sid: String,
}

impl Hint {
    /// Reads an ID token of `issuer`; none if it was not signed by a key that is still published.
    pub(crate) fn read(token: &str, published: &Published, issuer: &str) -> Option<Self> {
        if token.len() > HINT_MAX_BYTES {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header: Header = part(header)?;
        let algorithm = Algorithm::named(&header.alg)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        if header.typ != "JWT" || !published.verifies(&header.kid, algorithm, signed.as_bytes(), &signature) {
            return None;
        }
        let claims: Hinted = part(claims)?;
        (claims.iss == issuer).then_some(())?;
        Some(Self {
            user: UserId(strict_uuid(&claims.sub)?),
            client_id: claims.aud,
            session: SessionId(strict_uuid(&claims.sid)?),
        })
    }
}

fn part<T: serde::de::DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}
