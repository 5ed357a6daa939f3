//! Public keys of others, as they write them (RFC 7517, RFC 7518, RFC 8037), and what was signed with them. A key says by its kind
//! which algorithms it is good for: what a token names of its own is only ever compared with that.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

/// The algorithms that are verified, by their names in a JWS header. `Ed25519` is the newer name of `EdDSA` with such a key (RFC 9864).
pub const ALGORITHMS: [&str; 5] = ["EdDSA", "Ed25519", "ES256", "RS256", "PS256"];

/// Members that only a private key, or a shared one, has.
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// The sizes of an RSA modulus in bytes.
const MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// The longest name of a key in bytes.
const KID_MAX_BYTES: usize = 256;

/// A public key.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// What its owner calls it, if anything.
    pub kid: Option<String>,
    kind: Kind,
}

#[derive(Clone, PartialEq, Eq)]
enum Kind {
    /// Modulus and exponent.
    Rsa(Vec<u8>, Vec<u8>),
    /// An uncompressed point.
    P256([u8; 65]),
    Ed25519([u8; 32]),
}

impl PublicKey {
    /// Reads a JWK; what is wrong with it otherwise, as words that follow a field's name.
    pub fn read(jwk: &Value) -> Result<Self, &'static str> {
        let jwk = jwk.as_object().ok_or("has a key that is not a JSON object")?;
        if PRIVATE.iter().any(|member| jwk.contains_key(*member)) {
            return Err("has a private key, which is nobody else's to know: make a new one, and give its public half");
        }
        let text = |name: &str| jwk.get(name).and_then(Value::as_str).unwrap_or_default();
        let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)).ok().filter(|bytes| !bytes.is_empty());
        let member = |name: &str| bytes(name).ok_or("has a key with a member that is missing or not base64url");
        let kind = match (text("kty"), text("crv")) {
            ("RSA", _) => {
                let (n, e) = (member("n")?, member("e")?);
                if !MODULUS_BYTES.contains(&n.len()) || n[0] == 0 || e[0] == 0 || e.len() > 8 {
                    return Err("has an RSA key that is not of 2048 to 8192 bits");
                }
                Kind::Rsa(n, e)
            }
            ("EC", "P-256") => {
                let mut point = [4; 65];
                for (name, place) in [("x", 1..33), ("y", 33..65)] {
                    let coordinate = member(name)?;
                    if coordinate.len() != 32 {
                        return Err("has a key on P-256 whose coordinates are not of 32 bytes");
                    }
                    point[place].copy_from_slice(&coordinate);
                }
                Kind::P256(point)
            }
            ("OKP", "Ed25519") => {
                Kind::Ed25519(member("x")?.try_into().map_err(|_| "has an Ed25519 key that is not of 32 bytes")?)
            }
            _ => return Err("has a key that is neither RSA, nor EC on P-256, nor Ed25519"),
        };
        if !matches!(text("use"), "" | "sig") {
            return Err("has a key that is not for signatures");
        }
        if text("kid").len() > KID_MAX_BYTES || text("kid").chars().any(char::is_control) {
            return Err("has a key whose kid is longer than 256 bytes or has control characters");
        }
        let key = Self { kid: Some(text("kid").to_owned()).filter(|kid| !kid.is_empty()), kind };
        if !text("alg").is_empty() && !key.algorithms().contains(&text("alg")) {
            return Err("has a key with an algorithm that is not known or not of its kind");
        }
        Ok(key)
    }

    /// The public members, as they are written.
    pub fn jwk(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut jwk = match &self.kind {
            Kind::Rsa(n, e) => json!({"kty": "RSA", "n": text(n), "e": text(e)}),
            Kind::P256(point) => {
                json!({"kty": "EC", "crv": "P-256", "x": text(&point[1..33]), "y": text(&point[33..])})
            }
            Kind::Ed25519(x) => json!({"kty": "OKP", "crv": "Ed25519", "x": text(x)}),
        };
        if let Some(kid) = &self.kid {
            jwk["kid"] = kid.as_str().into();
        }
        jwk
    }

    /// The algorithms that it is good for.
    fn algorithms(&self) -> &'static [&'static str] {
        match self.kind {
            Kind::Rsa(..) => &["RS256", "PS256"],
            Kind::P256(_) => &["ES256"],
            Kind::Ed25519(_) => &["EdDSA", "Ed25519"],
        }
    }

    /// The SHA-256 of its members as RFC 7638 writes them, as base64url: 43 letters that name the key wherever it is met.
    pub fn thumbprint(&self) -> String {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        // In the order of the names, and with nothing between.
        let members = match &self.kind {
            Kind::Rsa(n, e) => format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, text(e), text(n)),
            Kind::P256(point) => {
                let (x, y) = (text(&point[1..33]), text(&point[33..]));
                format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#)
            }
            Kind::Ed25519(x) => format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, text(x)),
        };
        text(digest(&SHA256, members.as_bytes()).as_ref())
    }

    /// Whether it has signed `message` by the algorithm of this name.
    pub fn verifies(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> bool {
        let verified = match (&self.kind, algorithm) {
            (Kind::Rsa(n, e), "RS256") => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
            (Kind::Rsa(n, e), "PS256") => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PSS_2048_8192_SHA256, message, signature)
            }
            (Kind::P256(point), "ES256") => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
            (Kind::Ed25519(x), "EdDSA" | "Ed25519") => UnparsedPublicKey::new(&ED25519, x).verify(message, signature),
            _ => return false,
        };
        verified.is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublicKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.jwk().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::read(&Value::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7638, section 3.1, and that of RFC 8037, appendix A.3.
    #[test]
    fn thumbprints_are_those_of_the_standards() {
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMs\
                 tn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbI\
                 SD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
        let rsa =
            PublicKey::read(&json!({"kty": "RSA", "n": n, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"})).unwrap();
        assert_eq!(rsa.thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        let ed25519 = PublicKey::read(&json!({"kty": "OKP", "crv": "Ed25519", "x": x})).unwrap();
        assert_eq!(ed25519.thumbprint(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }
}
