//! Tokens that nobody issued, for tests that must see them refused: here those that the issuer did not sign, in [`own`] those that are
//! signed well and say something wrong.

pub mod own;

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

/// A token of each kind that others took and nobody issued, made from a good one and the keys that are published: what is wrong with
/// it, and the token.
///
/// None is signed by the issuer, so each may be refused for that alone; that the claims are looked at shows [`own::OwnIssuer::wrong`].
///
/// # Panics
/// When `good` is no JWT or `jwks` has no keys.
pub fn bad_tokens(good: &str, jwks: &Value) -> Vec<(&'static str, String)> {
    let good = Parts::of(good);
    let key = Key::new();
    let kid = good.header["kid"].clone();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();

    let mut tokens = vec![
        ("alg none", good.clone().header("alg", json!("none")).unsigned()),
        ("alg None", good.clone().header("alg", json!("None")).unsigned()),
        ("alg none with the old signature", good.clone().header("alg", json!("none")).with_old_signature()),
        ("no signature", good.unsigned()),
        ("another sub", good.clone().claim("sub", json!(uuid::Uuid::now_v7().to_string())).with_old_signature()),
        ("a wider scope", good.clone().claim("scope", json!("admin")).with_old_signature()),
        ("a later exp", good.clone().claim("exp", json!(now + 3600)).with_old_signature()),
        ("another key", good.signed_by(&key)),
        ("an unknown kid", good.clone().header("kid", json!("unknown")).signed_by(&key)),
        ("no kid", {
            let mut parts = good.clone();
            parts.header.as_object_mut().expect("object").remove("kid");
            parts.signed_by(&key)
        }),
        ("an embedded jwk", good.clone().header("jwk", key.jwk("own")).header("kid", json!("own")).signed_by(&key)),
        (
            "an embedded jku",
            good.clone().header("jku", json!("http://localhost:1/jwks")).header("kid", json!("own")).signed_by(&key),
        ),
        ("a kid that is a path", good.clone().header("kid", json!("../../secret.key")).signed_by(&key)),
        ("RS256", good.clone().header("alg", json!("RS256")).with_old_signature()),
        ("a crit that nobody knows", good.clone().header("crit", json!(["x"])).with_old_signature()),
    ];
    for key in jwks["keys"].as_array().expect("keys") {
        // The public key as the secret of an HMAC, in each form that it is found in.
        if let Some(x) = key["x"].as_str() {
            let parts = good.clone().header("alg", json!("HS256"));
            tokens.push(("HMAC with the JWK's x", parts.with_hmac(x.as_bytes())));
            tokens.push(("HMAC with the key", parts.with_hmac(&URL_SAFE_NO_PAD.decode(x).expect("base64url"))));
            tokens.push(("HMAC with the JWK", parts.with_hmac(key.to_string().as_bytes())));
        }
    }
    let own_key = |parts: Parts| parts.header("kid", kid.clone()).signed_by(&key);
    for (what, parts) in [
        ("typ JWT", good.clone().header("typ", json!("JWT"))),
        ("another issuer", good.clone().claim("iss", json!("http://evil.test"))),
        ("no issuer", good.clone().without("iss")),
        ("another audience", good.clone().claim("aud", json!(["other"]))),
        ("no audience", good.clone().without("aud")),
        ("a client as the audience", good.clone().claim("aud", json!(["flaghoist-cli"]))),
        ("exp as text", good.clone().claim("exp", json!("9999999999"))),
        ("no exp", good.clone().without("exp")),
        ("long expired", good.clone().claim("exp", json!(now - 120))),
        ("not yet", good.clone().claim("nbf", json!(now + 3600))),
    ] {
        tokens.push((what, parts.with_old_signature()));
        tokens.push((what, own_key(parts)));
    }
    tokens
}

impl Default for Key {
    fn default() -> Self {
        Self::new()
    }
}
