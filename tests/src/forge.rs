//! Tokens that nobody issued, for tests that must see them refused.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use aws_lc_rs::{hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// The three parts of a JWT, taken apart.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The header.
    pub header: Value,
    /// The claims.
    pub claims: Value,
    /// The signature as it was.
    pub signature: String,
}

/// A key that the issuer does not know.
#[derive(Debug)]
pub struct Key {
    pair: Ed25519KeyPair,
}

impl Parts {
    /// Takes a token apart.
    ///
    /// # Panics
    /// When it is no JWT.
    pub fn of(token: &str) -> Self {
        let mut parts = token.split('.');
        let mut json = || {
            let part = URL_SAFE_NO_PAD.decode(parts.next().expect("three parts")).expect("base64url");
            serde_json::from_slice(&part).expect("JSON")
        };
        let (header, claims) = (json(), json());
        Self { header, claims, signature: parts.next().expect("three parts").into() }
    }

    /// The token with the old signature, whatever was changed.
    pub fn with_old_signature(&self) -> String {
        format!("{}.{}", self.signed_part(), self.signature)
    }

    /// The token without a signature.
    pub fn unsigned(&self) -> String {
        format!("{}.", self.signed_part())
    }

    /// The token signed with HMAC-SHA-256 and any bytes as the secret.
    pub fn with_hmac(&self, secret: &[u8]) -> String {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), self.signed_part().as_bytes());
        format!("{}.{}", self.signed_part(), URL_SAFE_NO_PAD.encode(tag))
    }

    /// The token signed with `key`.
    pub fn signed_by(&self, key: &Key) -> String {
        format!("{}.{}", self.signed_part(), URL_SAFE_NO_PAD.encode(key.pair.sign(self.signed_part().as_bytes())))
    }

    /// Sets a member of the header.
    #[must_use]
    pub fn header(mut self, name: &str, value: Value) -> Self {
        self.header[name] = value;
        self
    }

    /// Sets a claim.
    #[must_use]
    pub fn claim(mut self, name: &str, value: Value) -> Self {
        self.claims[name] = value;
        self
    }

    /// Leaves a claim out.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        if let Some(claims) = self.claims.as_object_mut() {
            claims.remove(name);
        }
        self
    }

    fn signed_part(&self) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}", part(&self.header), part(&self.claims))
    }
}

impl Key {
    /// A new key.
    ///
    /// # Panics
    /// When the machine has no randomness.
    pub fn new() -> Self {
        let seed: [u8; 32] = rand::generate(&SystemRandom::new()).expect("randomness").expose();
        Self { pair: Ed25519KeyPair::from_seed_unchecked(&seed).expect("any seed will do") }
    }

    /// The public key as a JWK.
    pub fn jwk(&self, id: &str) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.pair.public_key().as_ref());
        json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": id, "x": x})
    }
}

impl Default for Key {
    fn default() -> Self {
        Self::new()
    }
}
