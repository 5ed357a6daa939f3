//! Case 49: every way in which a proof can be wrong, and those that are right.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use serde_json::json;

use super::*;

const NOW: i64 = 1_700_000_000;
const PATH: &str = "/flaghoist.send.v1.MessageService/SendMessage";
const REQUESTED: Requested<'_> = Requested { method: "POST", path: PATH, now: NOW };

/// A client with a key.
pub(crate) struct Holder {
    key: EcdsaKeyPair,
}

impl Holder {
    pub(crate) fn new() -> Self {
        Self { key: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap() }
    }

    pub(crate) fn jwk(&self) -> Value {
        let point = self.key.public_key().as_ref();
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({"kty": "EC", "crv": "P-256", "x": text(&point[1..33]), "y": text(&point[33..])})
    }

    pub(crate) fn thumbprint(&self) -> String {
        PublicKey::read(&self.jwk()).unwrap().thumbprint()
    }

    /// A proof for a call of `path` now with `token`, with some claims changed, or left out where the change is null.
    pub(crate) fn proof(&self, path: &str, token: &str, now: i64, changes: Value) -> String {
        let hash = URL_SAFE_NO_PAD.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes()));
        let id = uuid::Uuid::now_v7().to_string();
        let address = format!("http://localhost:9000{path}");
        let mut claims = json!({"jti": id, "htm": "POST", "htu": address, "iat": now, "ath": hash});
        changed(&mut claims, changes);
        self.signed(json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": self.jwk()}), claims)
    }

    fn signed(&self, header: Value, claims: Value) -> String {
        let signed = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn changed(object: &mut Value, changes: Value) {
    for (name, value) in changes.as_object().unwrap() {
        object[name] = value.clone();
    }
    object.as_object_mut().unwrap().retain(|_, value| !value.is_null());
}

/// A proof of no key in particular with this id.
pub(crate) fn proof_named(id: &str) -> Proof {
    Proof { thumbprint: "key".into(), id: id.into(), issued_at: NOW, nonce: None, token_hash: None }
}

fn addresses() -> Addresses {
    Addresses::new("http://localhost:8080", ["https://API.example.com", "https://other.example.com:8443"])
}

fn read(proof: &str) -> Result<Proof, ProofError> {
    let mut headers = HeaderMap::new();
    headers.insert(PROOF_HEADER, proof.parse().unwrap());
    Proof::among(&headers, REQUESTED, &addresses()).map(Option::unwrap)
}

#[test]
fn a_good_proof_names_its_key_and_its_token() {
    let holder = Holder::new();
    let proof = read(&holder.proof(PATH, "token", NOW, json!({"nonce": "n"}))).unwrap();
    assert_eq!((proof.thumbprint.as_str(), proof.nonce.as_deref()), (holder.thumbprint().as_str(), Some("n")));
    assert!(proof.goes_with("token") && !proof.goes_with("other") && !proof.goes_with(""));
    assert!(!read(&holder.proof(PATH, "token", NOW, json!({"ath": null}))).unwrap().goes_with("token"));
    for iat in [NOW - AGE_MAX_SECONDS, NOW + AHEAD_MAX_SECONDS] {
        assert!(read(&holder.proof(PATH, "token", NOW, json!({"iat": iat}))).unwrap().over_at() > NOW);
    }
    assert_eq!(Proof::among(&HeaderMap::new(), REQUESTED, &addresses()), Ok(None));
}

#[test]
fn a_proof_of_an_ed25519_key_is_as_good() {
    let key = Ed25519KeyPair::generate().unwrap();
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(key.public_key())});
    let header = json!({"typ": "dpop+jwt", "alg": "EdDSA", "jwk": jwk});
    let claims = json!({"jti": "1", "htm": "POST", "htu": format!("https://api.example.com{PATH}"), "iat": NOW});
    let signed = [&header, &claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
    let proof = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes())));
    assert_eq!(read(&proof).unwrap().thumbprint, PublicKey::read(&header["jwk"]).unwrap().thumbprint());
}

#[test]
fn case_49_claims_that_do_not_hold_are_refused() {
    let holder = Holder::new();
    for changes in [
        json!({"htm": "GET"}),
        json!({"htm": "post"}),
        json!({"htm": null}),
        json!({"htu": null}),
        json!({"iat": NOW - AGE_MAX_SECONDS - 1}),
        json!({"iat": NOW + AHEAD_MAX_SECONDS + 1}),
        json!({"iat": i64::MIN}),
        json!({"iat": i64::MAX}),
        json!({"iat": NOW.to_string()}),
        json!({"iat": 1e300}),
        json!({"iat": null}),
        json!({"jti": null}),
        json!({"jti": ""}),
        json!({"jti": 1}),
        json!({"jti": "x".repeat(257)}),
        json!({"nonce": "x".repeat(257)}),
        json!({"nonce": 7}),
    ] {
        let refused = read(&holder.proof(PATH, "token", NOW, changes.clone()));
        assert!(matches!(refused, Err(ProofError::Invalid(_))), "{changes}: {refused:?}");
    }
}

#[test]
fn case_49_headers_that_others_have_been_fooled_with_are_refused() {
    let holder = Holder::new();
    let claims = json!({"jti": "1", "htm": "POST", "htu": format!("http://localhost:9000{PATH}"), "iat": NOW});
    let secret = json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode([7; 32])});
    let mut private = holder.jwk();
    private["d"] = URL_SAFE_NO_PAD.encode([7; 32]).into();
    for changes in [
        json!({"typ": "JWT"}),
        json!({"typ": "at+jwt"}),
        json!({"typ": null}),
        json!({"alg": "none"}),
        json!({"alg": "HS256"}),
        json!({"alg": "HS256", "jwk": secret}),
        json!({"alg": "RS256"}),
        json!({"alg": "EdDSA"}),
        json!({"alg": null}),
        json!({"jwk": private}),
        json!({"jwk": Holder::new().jwk()}),
        json!({"jwk": null, "kid": "k"}),
        json!({"jwk": "x"}),
        json!({"crit": ["exp"]}),
    ] {
        let mut header = json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": holder.jwk()});
        changed(&mut header, changes.clone());
        let refused = read(&holder.signed(header, claims.clone()));
        assert!(matches!(refused, Err(ProofError::Invalid(_))), "{changes}: {refused:?}");
    }
    let good = holder.proof(PATH, "token", NOW, json!({}));
    let unsigned = good.rsplit_once('.').unwrap().0;
    for text in ["", ".", "..", "a.b.c", unsigned, &format!("{unsigned}."), &format!("{good}="), &"x".repeat(9000)] {
        assert!(matches!(read(text), Err(ProofError::Invalid(_))), "{text:.40}");
    }
    for at in 0..good.len() {
        let mut other = good.clone().into_bytes();
        other[at] = if other[at] == b'A' { b'B' } else { b'A' };
        assert!(read(&String::from_utf8(other).unwrap()).is_err(), "changed at {at}");
    }
    let mut twice = HeaderMap::new();
    twice.append(PROOF_HEADER, good.parse().unwrap());
    twice.append(PROOF_HEADER, holder.proof(PATH, "token", NOW, json!({})).parse().unwrap());
    assert_eq!(Proof::among(&twice, REQUESTED, &addresses()), Err(ProofError::Twice));
}

#[test]
fn case_49_a_proof_is_for_the_addresses_that_clients_know_and_for_one_method() {
    let holder = Holder::new();
    let read_at = |address: String| read(&holder.proof(PATH, "token", NOW, json!({"htu": address})));
    for base in [
        "http://localhost",
        "http://127.0.0.1:9000",
        "http://[::1]:1",
        "HTTP://LOCALHOST:80",
        "https://api.example.com",
        "https://api.example.com:443",
        "https://Other.Example.com:8443",
    ] {
        assert!(read_at(format!("{base}{PATH}")).is_ok(), "{base}");
        assert!(read_at(format!("{base}{PATH}?query#fragment")).is_ok(), "{base}");
    }
    for base in [
        "",
        "https://localhost:8080",
        "http://api.example.com",
        "https://api.example.com:8443",
        "https://other.example.com",
        "https://api.example.com.evil.test",
        "https://evil.test",
        "https://api.example.com@evil.test",
        "https://evil.test@api.example.com",
        "ftp://localhost",
        "//localhost",
    ] {
        assert!(read_at(format!("{base}{PATH}")).is_err(), "{base}");
    }
    for path in ["", "/", "/flaghoist.send.v1.MessageService/GetMessage", &format!("{PATH}/"), &format!("/x{PATH}")] {
        assert!(read_at(format!("http://localhost:9000{path}")).is_err(), "{path}");
    }
}
