//! Access tokens as RFC 9068 writes them, read strictly: one algorithm, one type, numbers as numbers, nothing optional that others
//! have been fooled with.

use std::collections::HashMap;
use std::time::{Duration, UNIX_EPOCH};

use aws_lc_rs::signature::{ED25519, ParsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use uuid::Uuid;

use super::{AUDIENCE, Caller, TokenError};
use crate::names::{SessionId, UserId, strict_uuid};

/// The longest token that is looked at.
const TOKEN_MAX_BYTES: usize = 8192;

/// How far ahead of ours the issuer's clock may be.
const CLOCK_AHEAD_MAX_SECONDS: i64 = 60;

/// The last second that is looked at, the end of the year 9999.
const SECONDS_MAX: i64 = 253_402_300_799;

/// Keys that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The text is not a JWK set.
    #[error("not a JWK set")]
    Malformed(#[from] serde_json::Error),
    /// No key in it is an Ed25519 key with an id.
    #[error("no Ed25519 key in the JWK set")]
    Empty,
}

/// The issuer's keys by their ids.
pub(super) type Keys = HashMap<String, ParsedPublicKey>;

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    crv: Option<String>,
    kid: Option<String>,
    x: Option<String>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    typ: Option<String>,
    kid: Option<String>,
    crit: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    exp: i64,
    iat: i64,
    nbf: Option<i64>,
    jti: String,
    client_id: String,
    #[serde(default)]
    scope: String,
    sid: Option<String>,
    auth_time: Option<i64>,
    #[serde(default)]
    amr: Vec<String>,
    cnf: Option<Confirmation>,
}

/// What a token is bound to (RFC 7800). Every other way than a key of DPoP is one that nobody here could check.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Confirmation {
    jkt: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// Reads the Ed25519 keys of a JWK set; keys of other kinds are left out.
pub(super) fn keys(jwks: &str) -> Result<Keys, KeysError> {
    let set: JwkSet = serde_json::from_str(jwks)?;
    let keys = set.keys.into_iter().filter_map(|jwk| {
        let ed25519 = jwk.kty == "OKP" && jwk.crv.as_deref() == Some("Ed25519");
        let point = URL_SAFE_NO_PAD.decode(jwk.x.filter(|_| ed25519)?).ok()?;
        Some((jwk.kid?, ParsedPublicKey::new(&ED25519, &point).ok()?))
    });
    let keys = keys.collect::<Keys>();
    if keys.is_empty() { Err(KeysError::Empty) } else { Ok(keys) }
}

/// The caller named by `token`, if one of `keys` signed it for us and it holds at `now`, in seconds since 1970.
pub(super) fn read(token: &str, keys: &Keys, issuer: &str, now: i64) -> Result<Caller, TokenError> {
    let (caller, audiences) = read_for_any(token, keys, issuer, now)?;
    if audiences.iter().any(|audience| audience == AUDIENCE) { Ok(caller) } else { Err(OTHER_AUDIENCE) }
}

/// The same, whomever it is for; and whom it is for.
pub(super) fn read_for_any(
    token: &str,
    keys: &Keys,
    issuer: &str,
    now: i64,
) -> Result<(Caller, Vec<String>), TokenError> {
    if token.len() > TOKEN_MAX_BYTES {
        return Err(TokenError::Invalid("is too long"));
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(MALFORMED)?;
    let (header, claims) = signed.split_once('.').ok_or(MALFORMED)?;
    let header: Header = part(header)?;
    if header.alg != "EdDSA" {
        return Err(TokenError::Invalid("is not signed with EdDSA"));
    }
    if header.crit.is_some() {
        return Err(TokenError::Invalid("asks for an extension that is not known"));
    }
    if !header.typ.is_some_and(|typ| typ.eq_ignore_ascii_case("at+jwt")) {
        return Err(TokenError::Invalid("is not an access token"));
    }
    let (kid, key) = header.kid.and_then(|kid| keys.get_key_value(&kid)).ok_or(UNKNOWN_KEY)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| MALFORMED)?;
    key.verify_sig(signed.as_bytes(), &signature).map_err(|_| TokenError::Invalid("has a bad signature"))?;
    caller(part(claims)?, kid, issuer, now)
}

/// A token that is not three base64url parts of JSON.
const MALFORMED: TokenError = TokenError::Invalid("is malformed");

/// A token that is for other services.
pub(super) const OTHER_AUDIENCE: TokenError = TokenError::Invalid("is meant for another audience");

/// A token that may be signed with a key that is newer than those known here.
pub(super) const UNKNOWN_KEY: TokenError = TokenError::Invalid("is signed with an unknown key");

fn part<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, TokenError> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| MALFORMED)?;
    serde_json::from_slice(&bytes).map_err(|_| MALFORMED)
}

fn caller(claims: Claims, kid: &str, issuer: &str, now: i64) -> Result<(Caller, Vec<String>), TokenError> {
    if claims.iss != issuer {
        return Err(TokenError::Invalid("is from another issuer"));
    }
    let audiences = match claims.aud {
        Audience::One(audience) => vec![audience],
        Audience::Many(audiences) => audiences,
    };
    if now >= claims.exp {
        return Err(TokenError::Expired);
    }
    if claims.iat.max(claims.nbf.unwrap_or(claims.iat)) > now.saturating_add(CLOCK_AHEAD_MAX_SECONDS) {
        return Err(TokenError::Invalid("is not valid yet"));
    }
    let session = claims.sid.as_deref().map(|sid| strict_uuid(sid).map(SessionId).ok_or(MALFORMED)).transpose()?;
    // A client's own token has no session, whatever its subject looks like.
    let user = session.map(|_| strict_uuid(&claims.sub).map(UserId).ok_or(MALFORMED)).transpose()?;
    let time = |seconds: i64| UNIX_EPOCH + Duration::from_secs(seconds.clamp(0, SECONDS_MAX).unsigned_abs());
    let caller = Caller {
        user,
        session,
        scopes: claims.scope.split_ascii_whitespace().map(str::to_owned).collect(),
        token_id: Uuid::try_parse(&claims.jti).map_err(|_| MALFORMED)?,
        key_id: kid.to_owned(),
        authenticated_at: claims.auth_time.map(time),
        key_thumbprint: claims.cnf.map(|confirmation| confirmation.jkt),
        two_factors: claims.amr.iter().any(|method| method == "mfa"),
        issued_at: time(claims.iat),
        expires_at: time(claims.exp),
        subject: claims.sub,
        client_id: claims.client_id,
    };
    Ok((caller, audiences))
}
