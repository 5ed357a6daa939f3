//! The algorithms that tokens are signed with: Ed25519 for access tokens, and for ID tokens what each client asks for.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
    UnparsedPublicKey,
};
use aws_lc_rs::{digest, encoding::AsDer as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::refresh_token::random_bytes;

/// How something is signed, by its name in a JWS header (RFC 7518, RFC 8037).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Algorithm {
    /// Every access token, and the ID tokens of clients that ask for it.
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// What a client gets that asks for nothing (OpenID Connect Core §2).
    #[default]
    #[serde(rename = "RS256")]
    Rs256,
    #[serde(rename = "ES256")]
    Es256,
}

/// A modulus of 2048 bits in the encoding of RFC 8017 §A.1.1 stands between these: the exponent is 65537 in every key made here.
const RSA_BEFORE: [u8; 9] = [0x30, 0x82, 0x01, 0x0a, 0x02, 0x82, 0x01, 0x01, 0x00];
const RSA_AFTER: [u8; 5] = [0x02, 0x03, 0x01, 0x00, 0x01];
const RSA_EXPONENT: &str = "AQAB";

impl Algorithm {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::EdDsa, Self::Rs256, Self::Es256];

    /// Its name in a JWS header.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
        }
    }

    /// The algorithm with this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// The public members of a key in a JWK set.
    pub(crate) fn jwk(self, kid: &str, public: &[u8]) -> Value {
        let mut jwk = self.members(public);
        jwk["use"] = "sig".into();
        jwk["alg"] = self.name().into();
        jwk["kid"] = kid.into();
        jwk
    }

    /// The RFC 7638 thumbprint of a key: its members in the order of their names, without spaces.
    pub(crate) fn thumbprint(self, public: &[u8]) -> String {
        let members = self.members(public).to_string();
        URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, members.as_bytes()))
    }

    /// What makes the key, in the order of the names: `serde_json` keeps an order or sorts, as any crate of a build asks it to.
    fn members(self, public: &[u8]) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Self::EdDsa => json!({"crv": "Ed25519", "kty": "OKP", "x": text(public)}),
            Self::Rs256 => json!({"e": RSA_EXPONENT, "kty": "RSA", "n": text(public)}),
            // An uncompressed point: 4, then its two coordinates.
            Self::Es256 => {
                let (x, y) = public.get(1..).unwrap_or_default().split_at(32.min(public.len().saturating_sub(1)));
                json!({"crv": "P-256", "kty": "EC", "x": text(x), "y": text(y)})
            }
        }
    }

    /// Whether `public` has signed `message`.
    pub(crate) fn verifies(self, public: &[u8], message: &[u8], signature: &[u8]) -> bool {
        let verified = match self {
            Self::EdDsa => UnparsedPublicKey::new(&signature::ED25519, public).verify(message, signature),
            Self::Es256 => {
                UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, public).verify(message, signature)
            }
            Self::Rs256 => {
                let key = [&RSA_BEFORE, public, &RSA_AFTER].concat();
                UnparsedPublicKey::new(&signature::RSA_PKCS1_2048_8192_SHA256, key).verify(message, signature)
            }
        };
        verified.is_ok()
    }

    /// The left half of the digest of `token` that goes with this algorithm: `at_hash` (OpenID Connect Core §3.1.3.6).
    pub(crate) fn half_digest(self, token: &str) -> String {
        let algorithm = if self == Self::EdDsa { &digest::SHA512 } else { &digest::SHA256 };
        let digest = digest::digest(algorithm, token.as_bytes());
        URL_SAFE_NO_PAD.encode(&digest.as_ref()[..digest.as_ref().len() / 2])
    }
}

/// A key pair could not be made or read. No more is said of it: what is wrong with a private key is as secret as the key.
#[derive(Debug)]
pub(crate) struct BadKey;

/// A private key.
pub(crate) enum Pair {
    EdDsa(Ed25519KeyPair),
    Rs256(Box<RsaKeyPair>),
    Es256(EcdsaKeyPair),
}

impl Pair {
    /// A new private key in the form in which it is kept: a seed, or PKCS #8. An RSA key takes some tenths of a second.
    pub(crate) fn generate(algorithm: Algorithm) -> Result<Zeroizing<Vec<u8>>, BadKey> {
        Ok(Zeroizing::new(match algorithm {
            Algorithm::EdDsa => Zeroizing::new(random_bytes::<32>()).to_vec(),
            Algorithm::Rs256 => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| BadKey)?;
                pair.as_der().map_err(|_| BadKey)?.as_ref().to_vec()
            }
            Algorithm::Es256 => {
                let kept = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
                kept.map_err(|_| BadKey)?.as_ref().to_vec()
            }
        }))
    }

    /// Reads a private key as it is kept.
    pub(crate) fn read(algorithm: Algorithm, kept: &[u8]) -> Result<Self, BadKey> {
        match algorithm {
            Algorithm::EdDsa => Ed25519KeyPair::from_seed_unchecked(kept).map(Self::EdDsa).map_err(|_| BadKey),
            Algorithm::Rs256 => {
                RsaKeyPair::from_pkcs8(kept).map(|pair| Self::Rs256(Box::new(pair))).map_err(|_| BadKey)
            }
            Algorithm::Es256 => {
                EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, kept).map(Self::Es256).map_err(|_| BadKey)
            }
        }
    }

    /// The public half: the bytes of an Ed25519 key, a modulus, or an uncompressed point.
    pub(crate) fn public(&self) -> Result<&[u8], BadKey> {
        match self {
            Self::EdDsa(pair) => Ok(pair.public_key().as_ref()),
            Self::Es256(pair) => Ok(pair.public_key().as_ref()),
            Self::Rs256(pair) => {
                let der = pair.public_key().as_ref();
                der.strip_prefix(&RSA_BEFORE).and_then(|rest| rest.strip_suffix(&RSA_AFTER)).ok_or(BadKey)
            }
        }
    }

    /// Signs `message`.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, BadKey> {
        match self {
            Self::EdDsa(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Self::Es256(pair) => pair
                .sign(&SystemRandom::new(), message)
                .map(|signature| signature.as_ref().to_vec())
                .map_err(|_| BadKey),
            Self::Rs256(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).map_err(|_| BadKey)?;
                Ok(signature)
            }
        }
    }
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pair")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_kept_key_signs_is_verified_by_its_public_half_alone() {
        for algorithm in Algorithm::ALL {
            let kept = Pair::generate(algorithm).unwrap();
            let pair = Pair::read(algorithm, &kept).unwrap();
            let public = pair.public().unwrap().to_vec();
            let signature = pair.sign(b"claims").unwrap();
            assert!(algorithm.verifies(&public, b"claims", &signature), "{algorithm:?}");
            assert!(!algorithm.verifies(&public, b"other claims", &signature));
            let other = Pair::read(algorithm, &Pair::generate(algorithm).unwrap()).unwrap();
            assert!(!algorithm.verifies(other.public().unwrap(), b"claims", &signature));
            let jwk = algorithm.jwk("k", &public);
            assert_eq!((&jwk["alg"], &jwk["use"], &jwk["kid"]), (&algorithm.name().into(), &"sig".into(), &"k".into()));
            assert!(jwk.get("d").is_none() && jwk["kty"].is_string());
            assert_eq!(algorithm.thumbprint(&public).len(), 43);
        }
    }

    /// The example of RFC 7638 §3.1.
    #[test]
    fn a_thumbprint_is_that_of_the_rfc() {
        let modulus = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3\
                       oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHz\
                       u6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8a\
                       wapJzKnqDKgw";
        let modulus = URL_SAFE_NO_PAD.decode(modulus).unwrap();
        assert_eq!(Algorithm::Rs256.thumbprint(&modulus), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }

    /// The example of OpenID Connect Core §A.3.
    #[test]
    fn at_hash_is_that_of_the_standard() {
        let token = "jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y";
        assert_eq!(Algorithm::Rs256.half_digest(token), "77QmUPtjPfzWtF2AnpK9RQ");
        assert_eq!(Algorithm::EdDsa.half_digest(token).len(), 43);
    }
}
