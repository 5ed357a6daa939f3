//! Client assertions (RFC 7523 §3, `private_key_jwt`): a client proves by a signature that it is the one it says, and nothing that it
//! sends is good for anyone else, or twice.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{AuthMethod, Client};
use crate::moment::Moment;
use crate::refresh_token::Digest;

/// What `client_assertion_type` says.
pub(crate) const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The longest assertion that is looked at.
const ASSERTION_MAX_BYTES: usize = 8192;

/// How far ahead an assertion may end: for so long its id is remembered.
const LIFETIME_MAX_SECONDS: i64 = 3600;

/// How far ahead of ours the client's clock may be.
const CLOCK_AHEAD_MAX_SECONDS: i64 = 60;

/// The longest id of an assertion.
const ID_MAX_BYTES: usize = 256;

#[derive(Deserialize)]
struct Header {
    alg: String,
    typ: Option<String>,
    kid: Option<String>,
    crit: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    exp: i64,
    nbf: Option<i64>,
    iat: Option<i64>,
    jti: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// What is kept of an assertion that was good, so that it is good once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Used {
    /// Of the client and the assertion's id.
    pub(crate) digest: Digest,
    /// When the assertion ends.
    pub(crate) expires_at: Moment,
}

/// The client that an assertion names. It is not proven yet.
pub(crate) fn client_named(assertion: &str) -> Option<String> {
    let (_, claims, _, _) = parts(assertion)?;
    Some(claims.sub)
}

/// Whether `assertion` proves at `now` that one is `client`, to whoever is called one of `audiences`. That it was not used before is left
/// to say.
pub(crate) fn check(client: &Client, assertion: &str, audiences: &[String], now: Moment) -> Option<Used> {
    let registration = &client.registration;
    let (header, claims, signed, signature) = parts(assertion)?;
    let typed = header.typ.is_none_or(|typ| ["jwt", "client-authentication+jwt"].contains(&&*typ.to_ascii_lowercase()));
    if registration.auth_method != AuthMethod::PrivateKeyJwt || header.crit.is_some() || !typed {
        return None;
    }
    let named = |kid: &Option<String>| header.kid.is_none() || *kid == header.kid;
    let mut keys = registration.keys.iter().filter(|key| named(&key.kid));
    if !keys.any(|key| key.verifies(&header.alg, signed.as_bytes(), &signature)) {
        return None;
    }
    let Claims { iss, sub, aud, exp, nbf, iat, jti } = claims;
    let ours = |audience: &String| audiences.contains(audience);
    // An assertion that is meant for others too could be brought here by one of them.
    let meant = match &aud {
        Audience::One(audience) => ours(audience),
        Audience::Many(all) => !all.is_empty() && all.iter().all(ours),
    };
    let began = iat.into_iter().chain(nbf).all(|time| time <= now.seconds() + CLOCK_AHEAD_MAX_SECONDS);
    let lasts = now.seconds() < exp && exp <= now.seconds() + LIFETIME_MAX_SECONDS + CLOCK_AHEAD_MAX_SECONDS;
    let good = *iss == *client.id && sub == iss && meant && began && lasts;
    (good && (1..=ID_MAX_BYTES).contains(&jti.len())).then(|| Used {
        digest: Digest::of(format!("client assertion\n{}\n{jti}", client.id).as_bytes()),
        expires_at: Moment(exp * 1000),
    })
}

fn parts(assertion: &str) -> Option<(Header, Claims, &str, Vec<u8>)> {
    if assertion.len() > ASSERTION_MAX_BYTES {
        return None;
    }
    let (signed, signature) = assertion.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    Some((part(header)?, part(claims)?, signed, URL_SAFE_NO_PAD.decode(signature).ok()?))
}

fn part<T: serde::de::DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}
