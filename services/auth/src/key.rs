//! Signing keys and their times: published, then signing, then kept for checking only, then gone.
//!
//! There is always one key in reserve, published but not signing. Before the signing key's period is over another one is published
//! beside it; at the handover the older of the two signs, and the other is the reserve. So no key signs that was not published for a
//! good while before, and at any time there is one that could: should the signing key have to be revoked, it takes over in the same
//! moment. Only an installation's very first key signs at once, and only for the first lead time it has no such reserve.

use std::time::Duration;

use flaghoist_runtime::seal;
pub(crate) use flaghoist_runtime::seal::Sealed;
use serde_json::json;

use crate::access_token::Signer;
use crate::algorithm::{Algorithm, Pair};
use crate::audit::{Action, Event, Origin};
use crate::moment::Moment;

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
    /// When its successor may take over although its period is not over, because an admin asked for it.
    pub(crate) due_at: Option<Moment>,
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

    /// How long after its publication a key may sign. Two intervals more than the lead: every pod has looked, and published it, the
    /// whole lead long.
    pub(crate) fn ready_after(&self) -> Duration {
        self.lead + 2 * self.interval()
    }

    /// How often to look.
    pub(crate) fn interval(&self) -> Duration {
        (self.lead.min(self.period).min(self.keep) / 4).clamp(Duration::from_millis(100), Duration::from_secs(30))
    }
}

/// Keys are trusted at least so long, so that a test with short times survives a slow machine.
const TRUSTED_MIN: Duration = Duration::from_secs(5);

impl SigningKey {
    /// When its successor is to take over; set for a key that signs.
    pub(crate) fn due_at(&self, times: &KeyTimes) -> Option<Moment> {
        let period_over = self.activate_at?.plus(times.period);
        Some(self.due_at.map_or(period_over, |asked| asked.min(period_over)))
    }
}

/// What is to be done with the keys beyond the steps that are due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeyChange {
    /// Another key shall take over as soon as may be.
    Rotate,
    /// A key is no good any more.
    Revoke {
        /// Which.
        kid: String,
        /// Whether the signing key may be followed by one that every pod knows, but sidecars may not.
        force: bool,
    },
}

/// Why a change is not made. Nothing was changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyRefusal {
    /// There is no such key.
    Unknown,
    /// No key is published long enough to take over; one will be then.
    NoReserve {
        /// When sidecars know the oldest one too.
        ready_at: Moment,
        /// When every pod knows it.
        forced_at: Moment,
    },
}

/// Makes `change`, and takes the steps that are due then. The rest is as with [`advance`].
pub(crate) fn change(
    keys: &mut Vec<SigningKey>,
    change: &KeyChange,
    spare: impl Iterator<Item = SigningKey>,
    times: &KeyTimes,
    now: Moment,
) -> Result<bool, KeyRefusal> {
    let before = keys.clone();
    match change {
        KeyChange::Rotate => {
            let asked = now.plus(times.ready_after());
            for key in keys.iter_mut().filter(|key| key.state(now) == KeyState::Active) {
                key.due_at = Some(key.due_at.map_or(asked, |due| due.min(asked)));
            }
        }
        KeyChange::Revoke { kid, force } => revoke(keys, kid, *force, times, now)?,
    }
    advance(keys, spare, times, now);
    Ok(*keys != before)
}

fn revoke(keys: &mut Vec<SigningKey>, kid: &str, force: bool, times: &KeyTimes, now: Moment) -> Result<(), KeyRefusal> {
    let found = keys.iter().position(|key| key.kid == kid && key.state(now) != KeyState::Gone);
    let revoked = found.ok_or(KeyRefusal::Unknown)?;
    let algorithm = keys[revoked].algorithm;
    if keys[revoked].state(now) == KeyState::Active {
        let Some(reserve) = oldest_pending(keys, algorithm, now) else {
            let ready_at = now.plus(times.ready_after());
            return Err(KeyRefusal::NoReserve { ready_at, forced_at: now.plus(2 * times.interval()) });
        };
        let published_at = keys[reserve].published_at;
        let ready_at = published_at.plus(times.ready_after());
        let forced_at = published_at.plus(2 * times.interval());
        if now < if force { forced_at } else { ready_at } {
            return Err(KeyRefusal::NoReserve { ready_at, forced_at });
        }
        keys[reserve].activate_at = Some(now);
    }
    keys.remove(revoked);
    Ok(())
}

/// The key that would take over now if the signing one of its algorithm were revoked.
pub(crate) fn reserve<'a>(
    keys: &'a [SigningKey],
    algorithm: Algorithm,
    times: &KeyTimes,
    now: Moment,
) -> Option<&'a SigningKey> {
    let oldest = &keys[oldest_pending(keys, algorithm, now)?];
    (now >= oldest.published_at.plus(times.ready_after())).then_some(oldest)
}

/// The key that signs next with an algorithm, and when it takes over.
pub(crate) fn next<'a>(
    keys: &'a [SigningKey],
    algorithm: Algorithm,
    times: &KeyTimes,
    now: Moment,
) -> Option<(&'a SigningKey, Moment)> {
    let next = &keys[oldest_pending(keys, algorithm, now)?];
    let ready_at = next.published_at.plus(times.ready_after());
    Some((next, due_at(keys, algorithm, times, now).map_or(ready_at, |due| due.max(ready_at))))
}

/// What became of the keys, for the audit log.
pub(crate) fn events(
    before: &[SigningKey],
    after: &[SigningKey],
    change: Option<&KeyChange>,
    by: &Origin,
) -> Vec<Event> {
    let event = |action, key: &SigningKey| Event::new(by, action, key_name(&key.kid));
    let mut events = Vec::new();
    for key in after {
        let old = before.iter().find(|old| old.kid == key.kid);
        if old.is_none() {
            events.push(event(Action::KeyPublished, key));
        }
        if key.activate_at.is_some() && old.is_none_or(|old| old.activate_at.is_none()) {
            events.push(event(Action::KeyActivated, key));
        }
        if key.retire_at.is_some() && old.is_some_and(|old| old.retire_at.is_none()) {
            events.push(event(Action::KeyRetired, key));
        }
        if key.due_at.is_some() && old.is_some_and(|old| old.due_at != key.due_at) {
            events.push(event(Action::KeyRotationRequested, key));
        }
    }
    for gone in before.iter().filter(|old| after.iter().all(|key| key.kid != old.kid)) {
        let revoked = matches!(change, Some(KeyChange::Revoke { kid, .. }) if *kid == gone.kid);
        events.push(event(if revoked { Action::KeyRevoked } else { Action::KeyRemoved }, gone));
    }
    events
}

/// The resource name of a key.
pub(crate) fn key_name(kid: &str) -> String {
    format!("keys/{kid}")
}

/// Brings `keys` to where they should be at `now`, those of each algorithm by themselves. Keys that are missing are taken from `spare`;
/// should those not be enough, the rest comes with the next step. Answers whether anything changed. A key that is [`KeyState::Gone`] is
/// left out.
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
        let spare = spare.extract_if(.., |key| key.algorithm == algorithm);
        advance_one(&mut own, algorithm, spare, times, now);
        keys.extend(own);
    }
    keys.sort_by(|one, other| (one.algorithm, &one.kid).cmp(&(other.algorithm, &other.kid)));
    *keys != before
}

/// Brings the keys of one algorithm to where they should be.
fn advance_one(
    keys: &mut Vec<SigningKey>,
    algorithm: Algorithm,
    mut spare: impl Iterator<Item = SigningKey>,
    times: &KeyTimes,
    now: Moment,
) {
    keys.retain(|key| key.state(now) != KeyState::Gone);
    match due_at(keys, algorithm, times, now) {
        None => {
            // No key signs: a new installation, or one whose signing key was removed by hand. The reserve is known longest.
            let reserve = oldest_pending(keys, algorithm, now);
            let first = reserve.map(|index| keys.swap_remove(index)).or_else(|| spare.next());
            keys.extend(first.map(|key| SigningKey { activate_at: Some(now), ..key }));
        }
        Some(due) if now >= due => {
            let lead = times.ready_after();
            let ready =
                oldest_pending(keys, algorithm, now).filter(|index| now >= keys[*index].published_at.plus(lead));
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
    let due = due_at(keys, algorithm, times, now);
    let pending = keys.iter().filter(|key| key.state(now) == KeyState::Pending).count();
    keys.extend(spare.take(wanted(due, times, now).saturating_sub(pending)));
}

/// How many keys are to be pending: the next one beside the reserve in time, two looks early, so that there is a reserve after the
/// handover too.
fn wanted(due: Option<Moment>, times: &KeyTimes, now: Moment) -> usize {
    let early = times.ready_after() + 2 * times.interval();
    1 + usize::from(due.is_some_and(|due| now.plus(early) >= due))
}

/// The algorithms of the keys that [`advance`] still needs, each as often as it is missing: they cost too much to be made for nothing.
pub(crate) fn missing(keys: &[SigningKey], times: &KeyTimes, now: Moment) -> Vec<Algorithm> {
    let lacks = |algorithm: &Algorithm| {
        let count = |state| keys.iter().filter(|key| key.algorithm == *algorithm && key.state(now) == state).count();
        let due = due_at(keys, *algorithm, times, now);
        let first = usize::from(due.is_none());
        (first + wanted(due, times, now)).saturating_sub(count(KeyState::Pending))
    };
    Algorithm::ALL.into_iter().flat_map(|algorithm| std::iter::repeat_n(algorithm, lacks(&algorithm))).collect()
}

/// The key that signs with an algorithm.
pub(crate) fn active(keys: &[SigningKey], algorithm: Algorithm, now: Moment) -> Option<&SigningKey> {
    let signing = keys.iter().filter(|key| key.algorithm == algorithm && key.state(now) == KeyState::Active);
    signing.max_by_key(|key| key.activate_at)
}

/// When the next handover of an algorithm is due; none if no key signs.
fn due_at(keys: &[SigningKey], algorithm: Algorithm, times: &KeyTimes, now: Moment) -> Option<Moment> {
    active(keys, algorithm, now).and_then(|key| key.due_at(times))
}

fn oldest_pending(keys: &[SigningKey], algorithm: Algorithm, now: Moment) -> Option<usize> {
    let pending =
        keys.iter().enumerate().filter(|(_, key)| key.algorithm == algorithm && key.state(now) == KeyState::Pending);
    pending.min_by_key(|(_, key)| (key.published_at, &key.kid)).map(|(index, _)| index)
}

/// The JWK set (RFC 7517) of the keys that are published at `now`. It has no private members.
pub(crate) fn jwks(keys: &[SigningKey], now: Moment) -> String {
    let mut published: Vec<_> = keys.iter().filter(|key| key.state(now) != KeyState::Gone).collect();
    published.sort_by_key(|key| (key.published_at, &key.kid));
    let published: Vec<_> = published.into_iter().map(|key| key.algorithm.jwk(&key.kid, &key.public)).collect();
    json!({"keys": published}).to_string()
}

/// Why a private key cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SealError {
    /// It was encrypted with another key.
    #[error(
        "signing key {kid} was encrypted with key {with}, but the key file gives {have}: is it the one that belongs to this \
         store? Older ones that FLAGHOIST_AUTH_SEAL_FILES named are needed until `flaghoist admin key reseal` was called"
    )]
    OtherKey { kid: String, with: String, have: String },
    /// It does not decrypt.
    #[error("signing key {kid} cannot be decrypted: was the store damaged?")]
    Broken { kid: String },
    /// The cipher failed.
    #[error("cannot encrypt a signing key")]
    Cipher,
}

impl From<seal::SealError> for SealError {
    fn from(error: seal::SealError) -> Self {
        match error {
            seal::SealError::OtherKey { name, with, have } => Self::OtherKey { kid: name, with, have },
            seal::SealError::Broken { name } => Self::Broken { kid: name },
            seal::SealError::Cipher => Self::Cipher,
        }
    }
}

/// Encrypts and decrypts private keys, each under its id.
#[derive(Debug)]
pub(crate) struct Sealer(seal::Sealer);

impl From<seal::Sealer> for Sealer {
    fn from(sealer: seal::Sealer) -> Self {
        Self(sealer)
    }
}

impl Sealer {
    /// A sealer with one key.
    #[cfg(test)]
    pub(crate) fn new(key: &[u8; 32]) -> Result<Self, SealError> {
        Ok(Self(seal::Sealer::new(key)?))
    }

    /// The same with a newer key, with which it encrypts from now on.
    #[cfg(test)]
    pub(crate) fn renewed(self, key: &[u8; 32]) -> Result<Self, SealError> {
        Ok(Self(self.0.renewed(key)?))
    }

    /// The id of the key that it encrypts with.
    pub(crate) fn id(&self) -> &str {
        self.0.id()
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
        let sealed = self.0.seal(&kid, &kept)?;
        let (activate_at, retire_at, remove_at, due_at) = (None, None, None, None);
        Ok(SigningKey { kid, algorithm, public, sealed, published_at: now, activate_at, retire_at, remove_at, due_at })
    }

    /// The signer of a key.
    pub(crate) fn open(&self, key: &SigningKey) -> Result<Signer, SealError> {
        let broken = || SealError::Broken { kid: key.kid.clone() };
        let pair = Pair::read(key.algorithm, &self.0.open(&key.kid, &key.sealed)?).map_err(|_| broken())?;
        if pair.public().is_ok_and(|public| public == key.public) {
            Ok(Signer::new(&key.kid, key.algorithm, pair))
        } else {
            Err(broken())
        }
    }

    /// The private half, encrypted with the newest key; none if it is already.
    pub(crate) fn reseal(&self, key: &SigningKey) -> Result<Option<Sealed>, SealError> {
        Ok(self.0.reseal(&key.kid, &key.sealed)?)
    }
}

#[cfg(test)]
mod tests;
