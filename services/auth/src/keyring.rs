//! The signing keys in memory: the one that signs now, and the JWK set that is published. Every pod looks at the store at intervals,
//! so it publishes what another pod has made long before that pod signs with it.

use std::sync::Arc;
use std::time::Duration;

use flaghoist_runtime::Verifier;
use flaghoist_runtime::token::KeysError;
use parking_lot::RwLock;
use tokio::time::Instant;

use crate::access_token::Signer;
use crate::audit::Origin;
use crate::error::StoreError;
use crate::key::{self, KeyChange, KeyRefusal, KeyState, KeyTimes, SealError, Sealer, SigningKey};
use crate::moment::{Clock, Moment};
use crate::store::Store;

/// What is in force.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) signer: Arc<Signer>,
    /// The JWK set; never empty.
    pub(crate) jwks: Arc<str>,
}

/// Why the keys could not be brought up to date. Those in force stay in force.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyringError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A private key cannot be made or read.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// No key signs.
    #[error("no signing key is active")]
    NoneActive,
    /// The own verifier does not take the keys.
    #[error("the published keys cannot be used")]
    Verifier(#[from] KeysError),
}

impl KeyringError {
    /// Whether trying again is safe and may help.
    pub(crate) fn transient(&self) -> bool {
        matches!(self, Self::Store(error) if error.transient)
    }
}

/// Keeps the signing keys.
#[derive(Debug)]
pub(crate) struct Keyring {
    store: Arc<dyn Store>,
    sealer: Sealer,
    times: KeyTimes,
    clock: Clock,
    verifier: Arc<Verifier>,
    published: RwLock<Option<Known>>,
    due_at: metrics::Gauge,
}

/// What was read from the store, and when.
#[derive(Debug)]
struct Known {
    published: Arc<Published>,
    read_at: Instant,
}

impl Keyring {
    /// A keyring that has nothing in force before [`Self::advance`].
    pub(crate) fn new(
        store: Arc<dyn Store>,
        sealer: Sealer,
        times: KeyTimes,
        clock: Clock,
        verifier: Arc<Verifier>,
    ) -> Self {
        let due_at = metrics::gauge!("flaghoist_signing_key_due_timestamp_seconds");
        Self { store, sealer, times, clock, verifier, published: RwLock::new(None), due_at }
    }

    /// What is in force; nothing while the first keys have not been read, or when the store could not be read for so long that
    /// other pods may use keys that are not known here.
    pub(crate) fn published(&self) -> Option<Arc<Published>> {
        let trusted_for = self.times.trusted_for();
        self.published
            .read()
            .as_ref()
            .filter(|known| known.read_at.elapsed() < trusted_for)
            .map(|known| known.published.clone())
    }

    /// Takes the steps that are due, and puts into force what the store says then.
    pub(crate) async fn advance(&self) -> Result<(), KeyringError> {
        let (now, read_at) = (self.clock.now(), Instant::now());
        let keys = self.store.advance_keys(self.spare(now)?, &self.times, now).await?;
        self.take_over(&keys, now, read_at)
    }

    /// Makes a change out of turn, and puts it into force here. The other pods follow when they hear of it.
    pub(crate) async fn change(
        &self,
        change: &KeyChange,
        by: &Origin,
    ) -> Result<Result<Vec<SigningKey>, KeyRefusal>, KeyringError> {
        let read_at = Instant::now();
        let changed = self.store.change_keys(change, self.spare(by.at)?, &self.times, by).await?;
        if let Ok(keys) = &changed {
            self.take_over(keys, by.at, read_at)?;
        }
        Ok(changed)
    }

    /// All keys as the store has them.
    pub(crate) async fn keys(&self) -> Result<Vec<SigningKey>, StoreError> {
        self.store.keys().await
    }

    fn spare(&self, now: Moment) -> Result<Vec<SigningKey>, SealError> {
        Ok(vec![self.sealer.generate(now)?, self.sealer.generate(now)?])
    }

    /// Puts into force what the store says.
    fn take_over(&self, keys: &[SigningKey], now: Moment, read_at: Instant) -> Result<(), KeyringError> {
        let active = keys.iter().filter(|key| key.state(now) == KeyState::Active).max_by_key(|key| key.activate_at);
        let active = active.ok_or(KeyringError::NoneActive)?;
        if let Some(due) = active.due_at(&self.times) {
            #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are far below 2^52")]
            self.due_at.set(due.seconds() as f64);
        }
        let jwks: Arc<str> = key::jwks(keys, now).into();
        let before = self.published.read().as_ref().map(|known| known.published.clone());
        let published = match before {
            Some(before) if before.signer.kid() == active.kid && before.jwks == jwks => before,
            before => {
                let signer = match before {
                    Some(before) if before.signer.kid() == active.kid => before.signer.clone(),
                    _ => Arc::new(self.sealer.open(active)?),
                };
                self.verifier.set_keys(&jwks)?;
                tracing::info!(
                    target: "audit", event = "signing_keys_changed", active = signer.kid(), published = keys.len()
                );
                Arc::new(Published { signer, jwks })
            }
        };
        let mut known = self.published.write();
        // Of two looks at the store that overlap, the later one counts: what was revoked must not come back.
        if known.as_ref().is_none_or(|known| known.read_at <= read_at) {
            *known = Some(Known { published, read_at });
        }
        Ok(())
    }

    /// How long keys stay in their states.
    pub(crate) fn times(&self) -> &KeyTimes {
        &self.times
    }

    /// How often to look whether a step is due.
    pub(crate) fn interval(&self) -> Duration {
        self.times.interval()
    }
}
