//! The signing keys in memory: the one that signs now, and the JWK set that is published. Every pod looks at the store at intervals,
//! so it publishes what another pod has made long before that pod signs with it.

use std::sync::Arc;
use std::time::Duration;

use flaghoist_runtime::Verifier;
use flaghoist_runtime::token::KeysError;
use parking_lot::RwLock;
use tokio::time::Instant;

use crate::access_token::Signer;
use crate::algorithm::Algorithm;
use crate::audit::Origin;
use crate::error::StoreError;
use crate::key::{self, KeyChange, KeyRefusal, KeyTimes, SealError, Sealer, SigningKey};
use crate::moment::{Clock, Moment};
use crate::store::Store;

/// What is in force.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) signer: Arc<Signer>,
    /// What signs the ID tokens of clients that want another algorithm than the signer's.
    others: Vec<Arc<Signer>>,
    /// The public halves of all published keys.
    keys: Vec<SigningKey>,
    /// The JWK set; never empty.
    pub(crate) jwks: Arc<str>,
}

impl Published {
    /// What signs with an algorithm.
    pub(crate) fn signer_with(&self, algorithm: Algorithm) -> Option<&Signer> {
        let all = self.others.iter().chain([&self.signer]);
        all.map(|signer| &**signer).find(|signer| signer.algorithm() == algorithm)
    }

    fn signer_of(&self, kid: &str) -> Option<Arc<Signer>> {
        self.others.iter().chain([&self.signer]).find(|signer| signer.kid() == kid).cloned()
    }

    /// Whether the same keys are published and sign.
    fn same_as(&self, keys: &[SigningKey], jwks: &str, now: Moment) -> bool {
        let signing = Algorithm::ALL.into_iter().filter_map(|algorithm| key::active(keys, algorithm, now));
        *self.jwks == *jwks && signing.into_iter().all(|key| self.signer_of(&key.kid).is_some())
    }

    /// Whether the published key called `kid`, which must be one of `algorithm`, has signed `message`.
    pub(crate) fn verifies(&self, kid: &str, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let key = self.keys.iter().find(|key| key.kid == kid && key.algorithm == algorithm);
        key.is_some_and(|key| algorithm.verifies(&key.public, message, signature))
    }
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
    sealer: Arc<Sealer>,
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
        let sealer = Arc::new(sealer);
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

    /// Puts a first key for access tokens into force, if there is none yet, and else what the store has. The keys of other algorithms,
    /// which take longer to make, come with the first [`Self::advance`].
    pub(crate) async fn begin(&self) -> Result<(), KeyringError> {
        let (now, read_at) = (self.clock.now(), Instant::now());
        let keys = self.complete(&[Algorithm::EdDsa], now).await?;
        self.take_over(&keys, now, read_at)
    }

    /// Waits until a key of this algorithm signs.
    pub(crate) async fn signs_with(&self, algorithm: Algorithm) -> Result<(), KeyringError> {
        match self.published() {
            Some(published) if published.signer_with(algorithm).is_none() => self.advance().await,
            // Without any key that is in force nothing is signed, and who tries says so.
            _ => Ok(()),
        }
    }

    /// Takes the steps that are due, and puts into force what the store says then.
    pub(crate) async fn advance(&self) -> Result<(), KeyringError> {
        let (now, read_at) = (self.clock.now(), Instant::now());
        let keys = self.complete(&Algorithm::ALL, now).await?;
        self.take_over(&keys, now, read_at)
    }

    /// Makes a change out of turn, and puts it into force here. The other pods follow when they hear of it.
    pub(crate) async fn change(
        &self,
        change: &KeyChange,
        by: &Origin,
    ) -> Result<Result<Vec<SigningKey>, KeyRefusal>, KeyringError> {
        let read_at = Instant::now();
        if let Err(refused) = self.store.change_keys(change, Vec::new(), &self.times, by).await? {
            return Ok(Err(refused));
        }
        let keys = self.complete(&Algorithm::ALL, by.at).await?;
        self.take_over(&keys, by.at, read_at)?;
        Ok(Ok(keys))
    }

    /// All keys as the store has them.
    pub(crate) async fn keys(&self) -> Result<Vec<SigningKey>, StoreError> {
        self.store.keys().await
    }

    /// Takes the steps that are due, with new keys where some of these algorithms are missing.
    async fn complete(&self, algorithms: &[Algorithm], now: Moment) -> Result<Vec<SigningKey>, KeyringError> {
        let keys = self.store.advance_keys(Vec::new(), &self.times, now).await?;
        let mut missing = key::missing(&keys, &self.times, now);
        missing.retain(|algorithm| algorithms.contains(algorithm));
        if missing.is_empty() {
            return Ok(keys);
        }
        let sealer = self.sealer.clone();
        // An RSA key takes a while.
        let made = tokio::task::spawn_blocking(move || {
            missing.into_iter().map(|algorithm| sealer.generate_for(algorithm, now)).collect::<Result<Vec<_>, _>>()
        });
        let spare = made.await.map_err(|_| SealError::Cipher)??;
        Ok(self.store.advance_keys(spare, &self.times, now).await?)
    }

    /// Puts into force what the store says.
    fn take_over(&self, keys: &[SigningKey], now: Moment, read_at: Instant) -> Result<(), KeyringError> {
        let active = key::active(keys, Algorithm::EdDsa, now).ok_or(KeyringError::NoneActive)?;
        if let Some(due) = active.due_at(&self.times) {
            #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are far below 2^52")]
            self.due_at.set(due.seconds() as f64);
        }
        let jwks: Arc<str> = key::jwks(keys, now).into();
        let before = self.published.read().as_ref().map(|known| known.published.clone());
        let published = match before {
            Some(before) if before.same_as(keys, &jwks, now) => before,
            before => {
                let signer = |key: &SigningKey| {
                    let known = before.as_ref().and_then(|before| before.signer_of(&key.kid));
                    known.map_or_else(|| self.sealer.open(key).map(Arc::new), Ok)
                };
                let active_others = [Algorithm::Rs256, Algorithm::Es256].into_iter();
                let others = active_others.filter_map(|algorithm| key::active(keys, algorithm, now)).map(signer);
                let (others, signer) = (others.collect::<Result<_, _>>()?, signer(active)?);
                self.verifier.set_keys(&jwks)?;
                tracing::info!(
                    target: "audit", event = "signing_keys_changed", active = signer.kid(), published = keys.len()
                );
                Arc::new(Published { signer, others, keys: keys.to_vec(), jwks })
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
