//! Every way in which a token can be wrong, and what is remembered of those that are right.

use std::time::{Duration, UNIX_EPOCH};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::*;
use crate::time::millis;

const ISSUER: &str = "http://localhost:8080";

/// An issuer in miniature.
pub(crate) struct Issuer {
    key: Ed25519KeyPair,
    kid: &'static str,
}

impl Issuer {
    pub(crate) fn new(kid: &'static str) -> Self {
        Self { key: Ed25519KeyPair::generate().unwrap(), kid }
    }

    pub(crate) fn jwks(&self) -> String {
        let x = URL_SAFE_NO_PAD.encode(self.key.public_key());
        let rsa = json!({"kty": "RSA", "kid": "rsa", "n": "AQAB", "e": "AQAB"});
        json!({"keys": [rsa, {"kty": "OKP", "crv": "Ed25519", "kid": self.kid, "alg": "EdDSA", "use": "sig", "x": x}]})
            .to_string()
    }

    pub(crate) fn verifier(&self) -> Arc<Verifier> {
        let verifier = Verifier::new(ISSUER);
        verifier.set_keys(&self.jwks()).unwrap();
        verifier
    }

    pub(crate) fn token(&self, claims: Value) -> String {
        self.signed(json!({"alg": "EdDSA", "typ": "at+jwt", "kid": self.kid}), claims)
    }

    fn signed(&self, header: Value, claims: Value) -> String {
        let signed = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
        let signature = URL_SAFE_NO_PAD.encode(self.key.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}

fn now() -> i64 {
    millis(SystemTime::now()) / 1000
}

/// Good claims, with some changed, or left out where the change is null.
pub(crate) fn claims(changes: Value) -> Value {
    let mut claims = json!({
        "iss": ISSUER, "sub": Uuid::from_u128(1).to_string(), "aud": ["flaghoist"], "exp": now() + 300, "iat": now(),
        "jti": Uuid::now_v7().to_string(), "client_id": "cli", "scope": "chat.read chat.send admin",
        "sid": Uuid::from_u128(2).to_string(), "auth_time": now(), "amr": ["pwd"],
    });
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    claims
}

#[test]
fn a_good_token_names_its_person_again_and_again() {
    let issuer = Issuer::new("k1");
    let verifier = issuer.verifier();
    let token = issuer.token(claims(json!({})));
    let caller = verifier.verify(&token).unwrap();
    assert_eq!(caller.user, Some(UserId(Uuid::from_u128(1))));
    assert_eq!(caller.session, Some(SessionId(Uuid::from_u128(2))));
    assert!(caller.authenticated_at.is_some_and(|at| at <= std::time::SystemTime::now()));
    assert_eq!(
        (caller.client_id.as_str(), caller.scopes.as_slice()),
        ("cli", ["chat.read".into(), "chat.send".into(), "admin".into()].as_slice())
    );
    assert!(caller.admin());
    let again = verifier.verify(&token).unwrap();
    assert!(Arc::ptr_eq(&caller, &again), "the second time is answered from the cache");
}

#[test]
fn a_token_without_session_is_never_a_person() {
    let issuer = Issuer::new("k1");
    let caller = issuer.verifier().verify(&issuer.token(claims(json!({"sid": null})))).unwrap();
    assert_eq!((caller.user, caller.session, caller.admin()), (None, None, false));
    assert_eq!(caller.subject, Uuid::from_u128(1).to_string());
}

#[test]
fn case_67_and_68_claims_that_do_not_hold_are_refused() {
    let issuer = Issuer::new("k1");
    let verifier = issuer.verifier();
    let malformed = TokenError::Invalid("is malformed");
    let audience = TokenError::Invalid("is meant for another audience");
    let early = TokenError::Invalid("is not valid yet");
    for (changes, expected) in [
        (json!({"iss": "http://evil.example"}), TokenError::Invalid("is from another issuer")),
        (json!({"iss": null}), malformed),
        (json!({"aud": "cli"}), audience),
        (json!({"aud": ["cli", "Flaghoist"]}), audience),
        (json!({"aud": []}), audience),
        (json!({"aud": null}), malformed),
        (json!({"exp": now()}), TokenError::Expired),
        (json!({"exp": now() - 1000}), TokenError::Expired),
        (json!({"exp": i64::MIN}), TokenError::Expired),
        (json!({"exp": null}), malformed),
        (json!({"exp": (now() + 300).to_string()}), malformed),
        (json!({"exp": 1e300}), malformed),
        (json!({"exp": now() + 4000}), TokenError::Invalid("lives too long")),
        (json!({"exp": i64::MAX}), TokenError::Invalid("lives too long")),
        (json!({"iat": now() + 120}), early),
        (json!({"iat": i64::MAX}), early),
        (json!({"iat": null}), malformed),
        (json!({"nbf": now() + 120}), early),
        (json!({"sub": null}), malformed),
        (json!({"sub": "alice"}), malformed),
        (json!({"sub": Uuid::from_u128(0xabc).to_string().to_uppercase()}), malformed),
        (json!({"sid": "x"}), malformed),
        (json!({"jti": "x"}), malformed),
        (json!({"client_id": null}), malformed),
        (json!({"scope": ["admin"]}), malformed),
    ] {
        assert_eq!(verifier.verify(&issuer.token(claims(changes.clone()))), Err(expected), "{changes}");
    }
    assert!(verifier.verify(&issuer.token(claims(json!({"aud": "flaghoist", "nbf": now() + 30})))).is_ok());
}

#[test]
fn headers_that_others_have_been_fooled_with_are_refused() {
    let issuer = Issuer::new("k1");
    let verifier = issuer.verifier();
    for header in [
        json!({"alg": "none", "typ": "at+jwt", "kid": "k1"}),
        json!({"alg": "None", "typ": "at+jwt"}),
        json!({"alg": "HS256", "typ": "at+jwt", "kid": "k1"}),
        json!({"alg": "RS256", "typ": "at+jwt", "kid": "rsa"}),
        json!({"alg": "EdDSA", "typ": "JWT", "kid": "k1"}),
        json!({"alg": "EdDSA", "kid": "k1"}),
        json!({"alg": "EdDSA", "typ": "at+jwt"}),
        json!({"alg": "EdDSA", "typ": "at+jwt", "kid": "k2"}),
        json!({"alg": "EdDSA", "typ": "at+jwt", "kid": "k1", "crit": ["exp"]}),
        json!({"alg": "EdDSA", "typ": "at+jwt", "kid": "rsa"}),
        json!({"alg": ["EdDSA"], "typ": "at+jwt", "kid": "k1"}),
    ] {
        let verified = verifier.verify(&issuer.signed(header.clone(), claims(json!({}))));
        assert!(matches!(verified, Err(TokenError::Invalid(_))), "{header}: {verified:?}");
    }
    // A key that the token brings along itself proves nothing.
    let other = Issuer::new("k1");
    let jwk: Value = serde_json::from_str(&other.jwks()).unwrap();
    let header = json!({"alg": "EdDSA", "typ": "at+jwt", "kid": "k1", "jwk": jwk["keys"][1]});
    let forged = other.signed(header, claims(json!({})));
    assert_eq!(verifier.verify(&forged), Err(TokenError::Invalid("has a bad signature")));
}

#[test]
fn texts_that_are_no_tokens_and_tokens_that_were_changed_are_refused() {
    let issuer = Issuer::new("k1");
    let verifier = issuer.verifier();
    let token = issuer.token(claims(json!({})));
    assert_eq!(verifier.verify(""), Err(TokenError::Missing));
    let unsigned = token.rsplit_once('.').unwrap().0;
    for text in
        [".", "..", "...", "a.b.c", unsigned, &format!("{unsigned}."), &format!("{token}=="), &"x".repeat(100_000)]
    {
        assert!(matches!(verifier.verify(text), Err(TokenError::Invalid(_))), "{text:.40}");
    }
    for at in 0..token.len() {
        let mut changed = token.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        assert!(verifier.verify(&changed).is_err(), "changed at {at}");
    }
    assert!(verifier.verify(&token).is_ok());
}

#[test]
fn a_remembered_token_still_expires() {
    let issuer = Issuer::new("k1");
    let verifier = issuer.verifier();
    let token = issuer.token(claims(json!({"exp": now() + 1})));
    assert!(verifier.verify(&token).is_ok());
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    while verifier.verify(&token).is_ok() {
        assert!(std::time::Instant::now() < deadline);
        std::thread::yield_now();
    }
    assert_eq!(verifier.verify(&token), Err(TokenError::Expired));
}

#[test]
fn revocations_reach_remembered_and_new_tokens_and_those_who_watch() {
    let issuer = Issuer::new("k1");
    let verifier = issuer.verifier();
    let mut events = verifier.revocations();
    let (sub, sid, jti) = (Uuid::from_u128(11), Uuid::from_u128(12), Uuid::from_u128(13));
    let revoked_at = SystemTime::now();
    for target in [
        RevocationTarget::Session(SessionId(sid)),
        RevocationTarget::Subject(sub.to_string()),
        RevocationTarget::Token(jti),
    ] {
        let verifier = issuer.verifier();
        let token =
            issuer.token(claims(json!({"sub": sub.to_string(), "sid": sid.to_string(), "jti": jti.to_string()})));
        let other = issuer.token(claims(json!({})));
        let caller = verifier.verify(&token).unwrap();
        assert!(verifier.verify(&other).is_ok() && !verifier.revoked(&caller));
        verifier.revoke(Revocation { target, revoked_at });
        assert!(verifier.revoked(&caller));
        assert_eq!(verifier.verify(&token), Err(TokenError::Revoked));
        let fresh = issuer
            .token(claims(json!({"sub": sub.to_string(), "sid": sid.to_string(), "jti": jti.to_string(), "amr": []})));
        assert_eq!(verifier.verify(&fresh), Err(TokenError::Revoked));
        assert!(verifier.verify(&other).is_ok());
    }
    let revocation = Revocation { target: RevocationTarget::Token(jti), revoked_at };
    verifier.revoke(revocation.clone());
    verifier.revoke(revocation.clone());
    assert_eq!(events.try_recv(), Ok(revocation));
    assert!(events.try_recv().is_err(), "the same revocation is told once");
}

#[test]
fn a_subject_may_sign_in_again_after_its_revocation() {
    let issuer = Issuer::new("k1");
    let verifier = issuer.verifier();
    let revoked_at = SystemTime::now() - Duration::from_secs(10);
    verifier.revoke(Revocation { target: RevocationTarget::Subject(Uuid::from_u128(1).to_string()), revoked_at });
    assert!(verifier.verify(&issuer.token(claims(json!({})))).is_ok());
    let older = issuer.token(claims(json!({"iat": now() - 20})));
    assert_eq!(verifier.verify(&older), Err(TokenError::Revoked));
}

#[test]
fn old_revocations_are_forgotten() {
    let mut revoked = revoked::Revoked::default();
    let keep = Duration::from_secs(400);
    let start = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    for second in 0..10_000u64 {
        let now = start + Duration::from_secs(second);
        let target = RevocationTarget::Token(Uuid::from_u128(second.into()));
        assert!(revoked.add(&Revocation { target, revoked_at: now }, keep, now));
    }
    assert!(revoked.len() < 1000, "{}", revoked.len());
}

#[test]
fn tokens_of_a_revoked_key_are_refused_whatever_keys_are_fetched_later() {
    let issuer = Issuer::new("k1");
    let verifier = issuer.verifier();
    let (known, fresh) = (issuer.token(claims(json!({}))), issuer.token(claims(json!({"iat": now() + 30}))));
    let caller = verifier.verify(&known).unwrap();
    assert_eq!(caller.key_id, "k1");
    let target = RevocationTarget::Key("k1".into());
    verifier.revoke(Revocation { target: target.clone(), revoked_at: SystemTime::now() });
    assert!(verifier.revoked(&caller));
    // A pod of the issuer that has not heard of it publishes the key still.
    verifier.set_keys(&issuer.jwks()).unwrap();
    for token in [&known, &fresh] {
        assert_eq!(verifier.verify(token), Err(TokenError::Revoked));
    }
    // It is remembered for longer than any token lives, and of many the newest.
    let mut revoked = revoked::Revoked::default();
    let (keep, start) = (Duration::from_secs(400), SystemTime::now());
    for no in 0..1000u32 {
        let target = RevocationTarget::Key(format!("k{no}"));
        let at = start + Duration::from_secs(no.into());
        assert!(revoked.add(&Revocation { target, revoked_at: at }, keep, at));
    }
    assert_eq!(revoked.len(), 256);
    let signed_by = |kid: &str| Caller { key_id: kid.into(), ..(*caller).clone() };
    assert!(revoked.concerns(&signed_by("k999")) && !revoked.concerns(&signed_by("k1")));
}

#[test]
fn tokens_of_a_key_that_is_gone_are_refused() {
    let (old, new) = (Issuer::new("k1"), Issuer::new("k2"));
    let verifier = old.verifier();
    let token = old.token(claims(json!({})));
    assert!(verifier.verify(&token).is_ok());
    verifier.set_keys(&new.jwks()).unwrap();
    assert_eq!(verifier.verify(&token), Err(jwt::UNKNOWN_KEY));
    assert!(verifier.verify(&new.token(claims(json!({})))).is_ok());
    assert!(verifier.set_keys("{\"keys\":[]}").is_err() && verifier.set_keys("nonsense").is_err());
    assert!(verifier.verify(&new.token(claims(json!({})))).is_ok(), "a broken set changes nothing");
    assert_eq!(Verifier::new(ISSUER).verify(&token), Err(TokenError::KeysUnknown));
}
