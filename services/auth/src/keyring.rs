//! The signing keys in memory: the one that signs now, and the JWK set that is published.

use std::sync::Arc;

use flaghoist_runtime::Verifier;
use flaghoist_runtime::token::KeysError;
use parking_lot::RwLock;

use crate::access_token::Signer;
use crate::error::StoreError;
use crate::key::{self, KeyState, KeyTimes, SealError, Sealer};
use crate::moment::Clock;
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

/// Keeps the signing keys.
#[derive(Debug)]
pub(crate) struct Keyring {
    store: Arc<dyn Store>,
    sealer: Sealer,
    times: KeyTimes,
    clock: Clock,
    verifier: Arc<Verifier>,
    published: RwLock<Option<Arc<Published>>>,
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
        Self { store, sealer, times, clock, verifier, published: RwLock::new(None) }
    }

    /// What is in force; nothing while the first keys have not been read.
    pub(crate) fn published(&self) -> Option<Arc<Published>> {
        self.published.read().clone()
    }

    /// Takes the steps that are due, and puts into force what the store says then.
    pub(crate) async fn advance(&self) -> Result<(), KeyringError> {
        let now = self.clock.now();
        let spare = vec![self.sealer.generate(now)?, self.sealer.generate(now)?];
        let keys = self.store.advance_keys(spare, &self.times, now).await?;
        let active = keys.iter().filter(|key| key.state(now) == KeyState::Active).max_by_key(|key| key.activate_at);
        let active = active.ok_or(KeyringError::NoneActive)?;
        let jwks: Arc<str> = key::jwks(&keys, now).into();
        let before = self.published();
        if before.as_ref().is_some_and(|before| before.signer.kid() == active.kid && before.jwks == jwks) {
            return Ok(());
        }
        let signer = match before {
            Some(before) if before.signer.kid() == active.kid => before.signer.clone(),
            _ => Arc::new(self.sealer.open(active)?),
        };
        self.verifier.set_keys(&jwks)?;
        tracing::info!(target: "audit", event = "signing_keys_changed", active = signer.kid(), published = keys.len());
        *self.published.write() = Some(Arc::new(Published { signer, jwks }));
        Ok(())
    }

    /// How often to look whether a step is due.
    pub(crate) fn interval(&self) -> std::time::Duration {
        let shortest = self.times.lead.min(self.times.period).min(self.times.keep);
        (shortest / 4).clamp(std::time::Duration::from_millis(100), std::time::Duration::from_secs(30))
    }
}
