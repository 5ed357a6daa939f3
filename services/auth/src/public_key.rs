//! Public keys of others: those of the token layer, with what the issuer's own keys say of them.

pub(crate) use flaghoist_runtime::token::{ALGORITHMS, PublicKey};

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::json;

    use super::*;
    use crate::algorithm::{Algorithm, Pair};

    #[test]
    fn what_a_key_of_each_kind_has_signed_is_verified_by_its_jwk() {
        for algorithm in Algorithm::ALL {
            let pair = Pair::read(algorithm, &Pair::generate(algorithm).unwrap()).unwrap();
            let key = PublicKey::read(&algorithm.jwk("k", pair.public().unwrap())).unwrap();
            let signature = pair.sign(b"claims").unwrap();
            assert!(key.verifies(algorithm.name(), b"claims", &signature), "{algorithm:?}");
            assert!(!key.verifies(algorithm.name(), b"other claims", &signature));
            for other in ["none", "HS256", "", "ES384"] {
                assert!(!key.verifies(other, b"claims", &signature));
            }
            assert_eq!(PublicKey::read(&key.jwk()).unwrap(), key);
            let kept = serde_json::to_string(&key).unwrap();
            assert_eq!(serde_json::from_str::<PublicKey>(&kept).unwrap(), key);
        }
    }

    #[test]
    fn what_is_no_public_key_is_refused() {
        let good = json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode([1; 32])});
        PublicKey::read(&good).unwrap();
        let with = |name: &str, value: &str| {
            let mut jwk = good.clone();
            jwk[name] = value.into();
            jwk
        };
        let small = json!({"kty": "RSA", "n": URL_SAFE_NO_PAD.encode([255; 128]), "e": "AQAB"});
        let point = json!({"kty": "EC", "crv": "P-256", "x": "AQAB", "y": "AQAB"});
        let shared = json!({"kty": "oct", "k": "AQAB"});
        for bad in
            [with("d", "AQAB"), with("x", "AQAB"), with("use", "enc"), with("alg", "RS256"), with("crv", "X25519")]
        {
            assert!(PublicKey::read(&bad).is_err(), "{bad}");
        }
        PublicKey::read(&with("kid", &"k".repeat(256))).unwrap();
        for bad in ["nul\0", "line\n", &"k".repeat(257)] {
            assert!(PublicKey::read(&with("kid", bad)).is_err(), "{bad:?}");
        }
        for bad in [small, point, shared, json!([]), json!("x"), json!({})] {
            assert!(PublicKey::read(&bad).is_err(), "{bad}");
        }
    }
}
