//! Nonces for proofs of possession (RFC 9449 §8): a client has to have heard from us lately, so proofs cannot be made ahead of time. A nonce
//! is a time and a tag over it; nothing is kept, and every pod that has the installation's key file knows what another one gave out.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::{constant_time, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::moment::Moment;

const TIME_BYTES: usize = 8;
const TAG_BYTES: usize = 16;
const NONCE_BYTES: usize = TIME_BYTES + TAG_BYTES;

/// How long a nonce is good.
const LIFETIME: Duration = Duration::from_secs(300);

/// How far the clocks of pods may be apart.
const APART_MAX: Duration = Duration::from_secs(60);

/// What makes nonces and recognises them, the same on every pod.
pub(crate) struct Nonces(hmac::Key);

impl Nonces {
    /// From a secret of the installation.
    pub(crate) fn new(secret: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The nonce of this second.
    pub(crate) fn at(&self, now: Moment) -> String {
        URL_SAFE_NO_PAD.encode(self.bytes(now.seconds().to_be_bytes()))
    }

    /// Whether it was given out lately.
    pub(crate) fn good(&self, nonce: &str, now: Moment) -> bool {
        let mut bytes = [0; NONCE_BYTES];
        if URL_SAFE_NO_PAD.decode_slice(nonce, &mut bytes) != Ok(NONCE_BYTES) {
            return false;
        }
        let mut time = [0; TIME_BYTES];
        time.copy_from_slice(&bytes[..TIME_BYTES]);
        if constant_time::verify_slices_are_equal(&self.bytes(time), &bytes).is_err() {
            return false;
        }
        let made = Moment(i64::from_be_bytes(time).saturating_mul(1000));
        made <= now.plus(APART_MAX) && now < made.plus(LIFETIME)
    }

    fn bytes(&self, time: [u8; TIME_BYTES]) -> [u8; NONCE_BYTES] {
        let mut bytes = [0; NONCE_BYTES];
        bytes[..TIME_BYTES].copy_from_slice(&time);
        bytes[TIME_BYTES..].copy_from_slice(&hmac::sign(&self.0, &time).as_ref()[..TAG_BYTES]);
        bytes
    }
}

impl fmt::Debug for Nonces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nonces")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_good_on_every_pod_for_five_minutes_and_cannot_be_made_up() {
        let (pod, other_pod, elsewhere) = (Nonces::new(&[1; 32]), Nonces::new(&[1; 32]), Nonces::new(&[2; 32]));
        let now = Moment(1_700_000_000_000);
        let nonce = pod.at(now);
        for seconds in [0, 299] {
            assert!(other_pod.good(&nonce, now.plus(Duration::from_secs(seconds))));
        }
        assert!(other_pod.good(&nonce, now.minus(Duration::from_secs(30))), "its clock is behind");
        assert!(!pod.good(&nonce, now.plus(LIFETIME)) && !pod.good(&nonce, now.minus(Duration::from_secs(90))));
        assert!(!elsewhere.good(&nonce, now));
        for at in 0..nonce.len() {
            let mut changed = nonce.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert!(!pod.good(std::str::from_utf8(&changed).unwrap(), now), "byte {at}");
        }
        for garbage in ["", "x", &nonce[1..], &format!("{nonce}="), &"A".repeat(500)] {
            assert!(!pod.good(garbage, now));
        }
    }
}
