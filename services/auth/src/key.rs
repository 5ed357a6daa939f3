//! Signing keys and their times: published, then signing, then kept for checking only, then gone.
//!
//! There is always one key in reserve, published but not signing. It takes over when the signing key's period is over, and
//! a new reserve is published at that moment, so that no key signs that was not published for a good while before. Only an
//! installation's very first key signs at once.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use zeroize::Zeroizing;

use crate::access_token::Signer;
use crate::algorithm::{Algorithm, Pair};
use crate::moment::Moment;

const NONCE_BYTES: usize = 12;

/// A signing key as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SigningKey {
    /// Its id: the RFC 7638 thumbprint.
    pub(crate) kid: String,
    pub(crate) algorithm: Algorithm,
    /// As [`Algorithm::jwk`] takes it.
    pub(crate) public: Vec<u8>,
    pub(crate) sealed: Sealed,
    pub(crate) published_at: Moment,
    /// When it began to sign; not set while it is in reserve.
    pub(crate) activate_at: Option<Moment>,
    /// When its successor took over.
    pub(crate) retire_at: Option<Moment>,
    /// When it leaves the JWK set.
    pub(crate) remove_at: Option<Moment>,
}

/// Where a key is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyState {
    /// Published, not signing.
    Pending,
    /// Signing.
    Active,
    /// Published for the tokens it has signed.
    Retiring,
    /// No longer published.
    Gone,
}

impl SigningKey {
    /// Its state at `now`. That it signs, or signs no longer, holds from the commit that said so on, whatever the clock of this pod
    /// says: to a pod whose clock is a little behind, the first key of all would not be there yet.
    pub(crate) fn state(&self, now: Moment) -> KeyState {
        if self.remove_at.is_some_and(|time| time <= now) {
            KeyState::Gone
        } else if self.retire_at.is_some() {
            KeyState::Retiring
        } else if self.activate_at.is_some() {
            KeyState::Active
        } else {
            KeyState::Pending
        }
    }
}

/// How long keys stay in their states.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyTimes {
    /// How long a key signs.
    pub(crate) period: Duration,
    /// How long a key is published before it signs.
    pub(crate) lead: Duration,
    /// How long a key stays published after it has signed last.
    pub(crate) keep: Duration,
}

impl KeyTimes {
    /// How long keys that were read from the store may be used without looking again. A pod that is cut off from the store stops
    /// before another one signs with a key that this pod does not publish.
    pub(crate) fn trusted_for(&self) -> Duration {
        (self.lead.min(self.keep) / 2).max(TRUSTED_MIN)
    }

    /// How often to look.
    pub(crate) fn interval(&self) -> Duration {
        (self.lead.min(self.period).min(self.keep) / 4).clamp(Duration::from_millis(100), Duration::from_secs(30))
    }
}

/// Keys are trusted at least so long, so that a test with short times survives a slow machine.
const TRUSTED_MIN: Duration = Duration::from_secs(5);

/// Brings `keys` to where they should be at `now`, those of each algorithm by themselves. Keys that are missing are taken from `spare`,
/// of which two for each algorithm are enough. Answers whether anything changed. A key that is [`KeyState::Gone`] is left out.
pub(crate) fn advance(
    keys: &mut Vec<SigningKey>,
    spare: impl Iterator<Item = SigningKey>,
    times: &KeyTimes,
    now: Moment,
) -> bool {
    keys.sort_by(|one, other| (one.algorithm, &one.kid).cmp(&(other.algorithm, &other.kid)));
    let before = keys.clone();
    let mut spare: Vec<_> = spare.collect();
    for algorithm in Algorithm::ALL {
        let mut own: Vec<_> = keys.extract_if(.., |key| key.algorithm == algorithm).collect();
        advance_one(&mut own, spare.extract_if(.., |key| key.algorithm == algorithm), times, now);
        keys.extend(own);
    }
    keys.sort_by(|one, other| (one.algorithm, &one.kid).cmp(&(other.algorithm, &other.kid)));
    *keys != before
}

/// Brings the keys of one algorithm to where they should be.
fn advance_one(keys: &mut Vec<SigningKey>, mut spare: impl Iterator<Item = SigningKey>, times: &KeyTimes, now: Moment) {
    keys.retain(|key| key.state(now) != KeyState::Gone);
    let active_since =
        keys.iter().filter(|key| key.state(now) == KeyState::Active).filter_map(|key| key.activate_at).max();
    match active_since {
        None => {
            // No key signs: a new installation, or one whose signing key was removed by hand. The reserve is known longest.
            let reserve = oldest_pending(keys, now);
            let first = reserve.map(|index| keys.swap_remove(index)).or_else(|| spare.next());
            keys.extend(first.map(|key| SigningKey { activate_at: Some(now), ..key }));
        }
        Some(since) if now >= since.plus(times.period) => {
            // Two intervals more: every pod has looked, and published it, the whole lead long.
            let lead = times.lead + 2 * times.interval();
            let ready = oldest_pending(keys, now).filter(|index| now >= keys[*index].published_at.plus(lead));
            if let Some(ready) = ready {
                for key in keys.iter_mut().filter(|key| key.state(now) == KeyState::Active) {
                    key.retire_at = Some(now);
                    key.remove_at = Some(now.plus(times.keep));
                }
                keys[ready].activate_at = Some(now);
            }
        }
        Some(_) => {}
    }
    if oldest_pending(keys, now).is_none() {
        keys.extend(spare.next());
    }
}

/// The algorithms of the keys that [`advance`] still needs, each as often as it is missing: they cost too much to be made for nothing.
pub(crate) fn missing(keys: &[SigningKey], now: Moment) -> Vec<Algorithm> {
    let lacks = |algorithm, state| !keys.iter().any(|key| key.algorithm == algorithm && key.state(now) == state);
    let states = [KeyState::Active, KeyState::Pending];
    Algorithm::ALL
        .into_iter()
        .flat_map(|one| states.map(|state| (one, state)))
        .filter(|(one, state)| lacks(*one, *state))
        .map(|(one, _)| one)
        .collect()
}

/// The key that signs with an algorithm.
pub(crate) fn active(keys: &[SigningKey], algorithm: Algorithm, now: Moment) -> Option<&SigningKey> {
    let signing = keys.iter().filter(|key| key.algorithm == algorithm && key.state(now) == KeyState::Active);
    signing.max_by_key(|key| key.activate_at)
}

fn oldest_pending(keys: &[SigningKey], now: Moment) -> Option<usize> {
    let pending = keys.iter().enumerate().filter(|(_, key)| key.state(now) == KeyState::Pending);
    pending.min_by_key(|(_, key)| (key.published_at, &key.kid)).map(|(index, _)| index)
}

/// The JWK set (RFC 7517) of the keys that are published at `now`. It has no private members.
pub(crate) fn jwks(keys: &[SigningKey], now: Moment) -> String {
    let mut published: Vec<_> = keys.iter().filter(|key| key.state(now) != KeyState::Gone).collect();
    published.sort_by_key(|key| (key.published_at, &key.kid));
    let published: Vec<_> = published.into_iter().map(|key| key.algorithm.jwk(&key.kid, &key.public)).collect();
    json!({"keys": published}).to_string()
}

/// A private key, encrypted.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Sealed {
    /// Nonce, ciphertext, tag.
    pub(crate) bytes: Vec<u8>,
    /// The id of the key that it was encrypted with.
    pub(crate) with: String,
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealed").field("with", &self.with).finish_non_exhaustive()
    }
}

/// Why a private key cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SealError {
    /// It was encrypted with another key.
    #[error(
        "signing key {kid} was encrypted with key {with}, but the key file gives {have}: is it the one that belongs to this \
         store?"
    )]
    OtherKey { kid: String, with: String, have: String },
    /// It does not decrypt.
    #[error("signing key {kid} cannot be decrypted: was the store damaged?")]
    Broken { kid: String },
    /// The cipher failed.
    #[error("cannot encrypt a signing key")]
    Cipher,
}

/// Encrypts and decrypts private keys (AES-256-GCM).
pub(crate) struct Sealer {
    id: String,
    cipher: RandomizedNonceKey,
}

impl Sealer {
    /// A sealer with one key. Its id tells which key was used and nothing about it.
    pub(crate) fn new(key: &[u8; 32]) -> Result<Self, SealError> {
        let mut named = digest::Context::new(&digest::SHA256);
        named.update(b"the id of a sealing key");
        named.update(key);
        let id = URL_SAFE_NO_PAD.encode(&named.finish().as_ref()[..9]);
        let cipher = RandomizedNonceKey::new(&AES_256_GCM, key).map_err(|_| SealError::Cipher)?;
        Ok(Self { id, cipher })
    }

    /// A new Ed25519 key, in reserve, published at `now`.
    #[cfg(test)]
    pub(crate) fn generate(&self, now: Moment) -> Result<SigningKey, SealError> {
        self.generate_for(Algorithm::EdDsa, now)
    }

    /// A new signing key, in reserve, published at `now`.
    pub(crate) fn generate_for(&self, algorithm: Algorithm, now: Moment) -> Result<SigningKey, SealError> {
        let kept = Pair::generate(algorithm).map_err(|_| SealError::Cipher)?;
        let pair = Pair::read(algorithm, &kept).map_err(|_| SealError::Cipher)?;
        let public = pair.public().map_err(|_| SealError::Cipher)?.to_vec();
        let kid = algorithm.thumbprint(&public);
        let mut text = kept.to_vec();
        let nonce = self
            .cipher
            .seal_in_place_append_tag(Aad::from(kid.as_bytes()), &mut text)
            .map_err(|_| SealError::Cipher)?;
        let bytes = [nonce.as_ref().as_slice(), &text].concat();
        let sealed = Sealed { bytes, with: self.id.clone() };
        let (activate_at, retire_at, remove_at) = (None, None, None);
        Ok(SigningKey { kid, algorithm, public, sealed, published_at: now, activate_at, retire_at, remove_at })
    }

    /// The signer of a key.
    pub(crate) fn open(&self, key: &SigningKey) -> Result<Signer, SealError> {
        if key.sealed.with != self.id {
            let (kid, with, have) = (key.kid.clone(), key.sealed.with.clone(), self.id.clone());
            return Err(SealError::OtherKey { kid, with, have });
        }
        let broken = || SealError::Broken { kid: key.kid.clone() };
        let (nonce, text) = key.sealed.bytes.split_at_checked(NONCE_BYTES).ok_or_else(broken)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| broken())?;
        let mut text = Zeroizing::new(text.to_vec());
        let kept = self.cipher.open_in_place(nonce, Aad::from(key.kid.as_bytes()), &mut text).map_err(|_| broken())?;
        let pair = Pair::read(key.algorithm, kept).map_err(|_| broken())?;
        if pair.public().is_ok_and(|public| public == key.public) {
            Ok(Signer::new(&key.kid, key.algorithm, pair))
        } else {
            Err(broken())
        }
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
