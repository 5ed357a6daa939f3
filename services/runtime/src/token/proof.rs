//! Proofs of possession (DPoP, RFC 9449): a small JWT that a client signs for one request with the key of its tokens.
//!
//! A token that was stolen is worth nothing without that key, and a proof that was stolen is good for the same request only, and once.
//! What is checked is what RFC 9449 §4.3 lists. The address in a proof is compared with the addresses that clients know, not with what a
//! proxy has made of the request on its way: a call reaches a service by plain HTTP/2 and under another name in most meshes.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, Uri};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::public_key::PublicKey;

/// The header, or the metadata, that carries a proof.
pub const PROOF_HEADER: &str = "dpop";

/// The longest proof that is looked at.
const PROOF_MAX_BYTES: usize = 8192;

/// The longest id of a proof.
const ID_MAX_BYTES: usize = 256;

/// The longest nonce.
const NONCE_MAX_BYTES: usize = 256;

/// How old a proof may be.
pub const AGE_MAX_SECONDS: i64 = 60;

/// How far ahead of ours a client's clock may be.
pub const AHEAD_MAX_SECONDS: i64 = 10;

/// Why a proof proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// There is none.
    #[error("the token is bound to a key: it is sent with the scheme DPoP and a proof in the header `dpop`")]
    Missing,
    /// It comes with a token that is bound to nothing.
    #[error("the token is bound to no key: it is sent with the scheme Bearer")]
    Unbound,
    /// There are several.
    #[error("the header `dpop` came twice")]
    Twice,
    /// It is not as it should be.
    #[error("the proof {0}")]
    Invalid(&'static str),
    /// It was used before.
    #[error(
        "the proof was used before: sign a new one for every call, also when you make it again, and call once more"
    )]
    Replayed,
}

const MALFORMED: ProofError = ProofError::Invalid("is malformed");

/// A proof that somebody has signed, for this request and just now. Whether it was used before, and whether the key is the right one, is
/// left to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The thumbprint of the key that has signed it (RFC 7638).
    pub thumbprint: String,
    /// Its id, `jti`.
    pub id: String,
    /// When it was made, in seconds since 1970.
    pub issued_at: i64,
    /// The nonce that it repeats.
    pub nonce: Option<String>,
    /// The SHA-256 of the access token that it goes with, as base64url.
    token_hash: Option<String>,
}

/// The request that a proof has to be for.
#[derive(Clone, Copy, Debug)]
pub struct Requested<'a> {
    /// The HTTP method; `POST` for gRPC.
    pub method: &'a str,
    /// The path as clients know it.
    pub path: &'a str,
    /// When it came, in seconds since 1970.
    pub now: i64,
}

#[derive(Deserialize)]
struct Header {
    typ: String,
    alg: String,
    jwk: Value,
    crit: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Claims {
    jti: String,
    htm: String,
    htu: String,
    iat: i64,
    nonce: Option<String>,
    ath: Option<String>,
}

impl Proof {
    /// The proof among `headers`, if it is one for what was requested at one of `addresses`; none if there is none.
    pub fn among(
        headers: &HeaderMap,
        requested: Requested<'_>,
        addresses: &Addresses,
    ) -> Result<Option<Self>, ProofError> {
        let mut all = headers.get_all(PROOF_HEADER).iter();
        let Some(proof) = all.next() else { return Ok(None) };
        if all.next().is_some() {
            return Err(ProofError::Twice);
        }
        let proof = proof.to_str().map_err(|_| MALFORMED)?;
        Self::read(proof, requested, addresses).map(Some)
    }

    fn read(proof: &str, requested: Requested<'_>, addresses: &Addresses) -> Result<Self, ProofError> {
        let invalid = |problem| Err(ProofError::Invalid(problem));
        if proof.len() > PROOF_MAX_BYTES {
            return invalid("is longer than 8192 bytes");
        }
        let (signed, signature) = proof.rsplit_once('.').ok_or(MALFORMED)?;
        let (header, claims) = signed.split_once('.').ok_or(MALFORMED)?;
        let header: Header = part(header)?;
        if !header.typ.eq_ignore_ascii_case("dpop+jwt") {
            return invalid("has another typ than dpop+jwt");
        }
        if header.crit.is_some() {
            return invalid("asks for an extension that is not known");
        }
        // Refuses private keys, and all algorithms but those of public ones.
        let key = PublicKey::read(&header.jwk).map_err(ProofError::Invalid)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| MALFORMED)?;
        if !key.verifies(&header.alg, signed.as_bytes(), &signature) {
            return invalid("has a bad signature, or an algorithm that is not one of the key");
        }
        let Claims { jti: id, htm, htu, iat: issued_at, nonce, ath: token_hash } = part(claims)?;
        if !(1..=ID_MAX_BYTES).contains(&id.len()) {
            return invalid("has a jti that is empty or longer than 256 bytes");
        }
        if nonce.as_ref().is_some_and(|nonce| nonce.len() > NONCE_MAX_BYTES) {
            return invalid("has a nonce that is not one of ours");
        }
        if htm != requested.method {
            return invalid("is for another method: htm");
        }
        if !addresses.include(&htu, requested.path) {
            return invalid("is for another address: htu");
        }
        if issued_at < requested.now - AGE_MAX_SECONDS {
            return invalid("is older than a minute: iat");
        }
        if issued_at > requested.now + AHEAD_MAX_SECONDS {
            return invalid("is from the future: iat");
        }
        Ok(Self { thumbprint: key.thumbprint(), id, issued_at, nonce, token_hash })
    }

    /// Whether it goes with `token`: what uses an access token proves the key for this one token.
    pub fn goes_with(&self, token: &str) -> bool {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
        self.token_hash.as_ref().is_some_and(|hash| *hash == URL_SAFE_NO_PAD.encode(digest))
    }

    /// When it is too old for everyone, in seconds since 1970: for so long its id is remembered.
    pub fn over_at(&self) -> i64 {
        self.issued_at + AGE_MAX_SECONDS + AHEAD_MAX_SECONDS
    }
}

fn part<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, ProofError> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| MALFORMED)?;
    serde_json::from_slice(&bytes).map_err(|_| MALFORMED)
}

/// The addresses under which clients call: that of the issuer, and others of the installation.
#[derive(Clone, Debug, Default)]
pub struct Addresses(Vec<Address>);

/// Scheme and host, in lower case, and the port if it has to be that one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Address {
    scheme: String,
    host: String,
    port: Option<u16>,
}

impl Addresses {
    /// The host of `issuer`, whatever the port, and the origins of `others`, like `https://api.example.com`. What is no address is left
    /// out.
    pub fn new<'a>(issuer: &str, others: impl IntoIterator<Item = &'a str>) -> Self {
        let read = |text: &str| Address::read(&text.parse().ok()?);
        let issuer = read(issuer).map(|address| Address { port: None, ..address });
        Self(issuer.into_iter().chain(others.into_iter().filter_map(read)).collect())
    }

    /// Whether `address` is `path` at one of these. Query and fragment do not count (RFC 9449 §4.3).
    fn include(&self, address: &str, path: &str) -> bool {
        let address = address.split(['?', '#']).next().unwrap_or_default();
        let Ok(uri) = address.parse::<Uri>() else { return false };
        let Some(called) = Address::read(&uri) else { return false };
        uri.path() == path && self.0.iter().any(|known| known.is(&called))
    }
}

impl Address {
    fn read(uri: &Uri) -> Option<Self> {
        let (scheme, authority) = (uri.scheme_str()?.to_ascii_lowercase(), uri.authority()?);
        let default = match scheme.as_str() {
            "https" => 443,
            "http" => 80,
            _ => return None,
        };
        // A name and a password before the host are no part of an address that a proof is for.
        (!authority.as_str().contains('@')).then_some(())?;
        let port = Some(authority.port_u16().unwrap_or(default));
        Some(Self { scheme, host: authority.host().to_ascii_lowercase(), port })
    }

    fn is(&self, called: &Self) -> bool {
        let same_host =
            self.host == called.host || (self.port.is_none() && loopback(&self.host) && loopback(&called.host));
        self.scheme == called.scheme && same_host && self.port.is_none_or(|port| called.port == Some(port))
    }
}

/// Whether it is a name of this machine: on a desk each of them is as good as the others.
fn loopback(host: &str) -> bool {
    matches!(host, "localhost" | "127.0.0.1" | "[::1]")
}

#[cfg(test)]
pub(crate) mod tests;
