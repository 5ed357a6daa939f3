//! Verifies access tokens. A signature costs some 60 µs, so a verified token is remembered by its SHA-256; what is remembered
//! is still checked for expiry and revocation at every call.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use http::HeaderMap;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, broadcast, watch};

use super::jwt::{self, Keys, KeysError};
use super::proof::{Addresses, Proof, ProofError, Requested};
use super::revoked::Revoked;
use super::seen::Seen;
use super::{AUDIENCE, Caller, Presented, Revocation, Scheme, TokenError};

/// How many parts the cache has, so that callers seldom wait for one another.
const SHARDS: usize = 16;

/// How many verified tokens a part of the cache holds: 65,536 in all, some 400 bytes each.
const SHARD_MAX_TOKENS: usize = 4096;

/// How many revocations a slow watcher may lie behind.
const EVENTS_MAX: usize = 4096;

/// The longest that an issuer can be set to let access tokens live.
const LIFETIME_MAX: Duration = Duration::from_secs(3600);

/// What a revocation is kept for beyond the lifetime of a token.
const LIFETIME_SLACK: Duration = Duration::from_secs(120);

/// How often unknown keys may make the keys be fetched again.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// How long a call waits for keys that are being fetched.
const REFRESH_WAIT: Duration = Duration::from_secs(1);

/// Verifies access tokens without calling anyone; verified ones are cached by SHA-256 of the token until expiry or revocation.
pub struct Verifier {
    issuer: String,
    lifetime: Duration,
    keys: RwLock<Arc<Keys>>,
    cache: [RwLock<Shard>; SHARDS],
    revoked: RwLock<Revoked>,
    /// Where clients call, as their proofs say it.
    addresses: RwLock<Arc<Addresses>>,
    /// The proofs that were used lately.
    proofs: Seen,
    /// Counts revocations and changes of keys; what was verified under another count is looked at again.
    generation: AtomicU64,
    events: broadcast::Sender<Revocation>,
    pub(super) refresh: Refresh,
}

/// The way in which a call asks for newer keys.
pub(super) struct Refresh {
    pub(super) wanted: Notify,
    pub(super) done: watch::Sender<u64>,
    last: Mutex<Option<tokio::time::Instant>>,
}

type Shard = HashMap<[u8; 32], Known, BuildHasherDefault<DigestHasher>>;

/// A token that was verified.
struct Known {
    caller: Arc<Caller>,
    expires: i64,
    generation: AtomicU64,
}

/// Digests are as good as random, so eight bytes of them serve as their hash.
#[derive(Default)]
struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_ne_bytes(*first);
        }
    }

    /// The length of a digest says nothing about it.
    fn write_usize(&mut self, _length: usize) {}
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Verifier").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

impl Verifier {
    /// A verifier of the tokens of `issuer`, which live an hour at most; it knows no keys yet.
    pub fn new(issuer: impl Into<String>) -> Arc<Self> {
        Self::with_lifetime(issuer, LIFETIME_MAX)
    }

    /// A verifier of the tokens of `issuer`, which live `lifetime` at most. Tokens that would live longer are refused, and
    /// revocations are kept that long.
    pub fn with_lifetime(issuer: impl Into<String>, lifetime: Duration) -> Arc<Self> {
        let issuer = issuer.into();
        Arc::new(Self {
            addresses: RwLock::new(Arc::new(Addresses::new(&issuer, []))),
            proofs: Seen::default(),
            issuer,
            lifetime,
            keys: RwLock::default(),
            cache: Default::default(),
            revoked: RwLock::default(),
            generation: AtomicU64::new(0),
            events: broadcast::channel(EVENTS_MAX).0,
            refresh: Refresh { wanted: Notify::new(), done: watch::Sender::new(0), last: Mutex::default() },
        })
    }

    /// Takes over the Ed25519 keys of a JWK set in place of those known before.
    pub fn set_keys(&self, jwks: &str) -> Result<(), KeysError> {
        let keys = jwt::keys(jwks)?;
        let mut known = self.keys.write();
        let gone = known.keys().any(|kid| !keys.contains_key(kid));
        let changed = known.iter().any(|(kid, key)| keys.get(kid).is_some_and(|new| new.as_ref() != key.as_ref()));
        *known = Arc::new(keys);
        drop(known);
        if gone || changed {
            // Tokens that were signed with a key that is no longer published are to be refused.
            for shard in &self.cache {
                shard.write().clear();
            }
        }
        Ok(())
    }

    /// Who is behind `token`. One that is bound to a key (`key_thumbprint`) proves nothing by itself: [`Verifier::prove`] says whether it may
    /// be used.
    pub fn verify(&self, token: &str) -> Result<Arc<Caller>, TokenError> {
        if token.is_empty() {
            return Err(TokenError::Missing);
        }
        let digest = digest(token);
        let now = now_seconds();
        let generation = self.generation.load(Ordering::Acquire);
        let shard = &self.cache[usize::from(digest[31]) % SHARDS];
        if let Some(known) = shard.read().get(&digest) {
            return self.still(known, generation, now);
        }
        self.first_time(token, digest, shard, generation, now)
    }

    /// Like [`Verifier::verify`], but a token signed with an unknown key makes the issuer's keys be fetched first, once a
    /// second at most.
    pub async fn verify_fresh(&self, token: &str) -> Result<Arc<Caller>, TokenError> {
        match self.verify(token) {
            Err(error) if error.wants_keys() => {
                self.newer_keys().await;
                self.verify(token)
            }
            verified => verified,
        }
    }

    /// Who is behind a token of the issuer, whomever it is for, and whom it is for. For who inspects tokens and takes none: a token that is
    /// not for [`AUDIENCE`] opens nothing here.
    pub fn verify_for_any(&self, token: &str) -> Result<(Arc<Caller>, Vec<String>), TokenError> {
        match self.verify(token) {
            Err(error) if error == jwt::OTHER_AUDIENCE => {}
            verified => return verified.map(|caller| (caller, vec![AUDIENCE.to_owned()])),
        }
        let keys = Arc::clone(&self.keys.read());
        let (caller, audiences) = jwt::read_for_any(token, &keys, &self.issuer, now_seconds())?;
        self.lives_well(&caller)?;
        Ok((Arc::new(caller), audiences))
    }

    /// Whether a token that was read for the first time may be taken.
    fn lives_well(&self, caller: &Caller) -> Result<(), TokenError> {
        if caller.expires_at > caller.issued_at + self.lifetime {
            // Its revocation would be forgotten before it ends.
            return Err(TokenError::Invalid("lives too long"));
        }
        if self.revoked(caller) { Err(TokenError::Revoked) } else { Ok(()) }
    }

    /// Says under which addresses clients call beside that of the issuer: origins like `https://api.example.com`.
    pub fn set_addresses(&self, others: &[String]) {
        *self.addresses.write() = Arc::new(Addresses::new(&self.issuer, others.iter().map(String::as_str)));
    }

    /// The addresses under which clients call.
    pub fn addresses(&self) -> Arc<Addresses> {
        Arc::clone(&self.addresses.read())
    }

    /// Whether `caller`, whose token was `presented` and verified, may use it in a call of `method` at `path` with these headers. A token that
    /// is bound to a key has to come with the scheme DPoP and a proof of that key for this call and this token; one that is bound to none,
    /// with the scheme Bearer. The proof is used up by the answer: asked again about the same call, it says [`ProofError::Replayed`].
    pub fn prove(
        &self,
        caller: &Caller,
        presented: Presented<'_>,
        headers: &HeaderMap,
        method: &str,
        path: &str,
    ) -> Result<(), TokenError> {
        match (&caller.key_thumbprint, presented.scheme) {
            (None, Scheme::Bearer) => Ok(()),
            (None, Scheme::DPoP) => Err(TokenError::Unproven(ProofError::Unbound)),
            (Some(_), Scheme::Bearer) => Err(TokenError::Unproven(ProofError::Missing)),
            (Some(key), Scheme::DPoP) => {
                self.proven(key, presented.token, headers, method, path).map_err(TokenError::Unproven)
            }
        }
    }

    fn proven(&self, key: &str, token: &str, headers: &HeaderMap, method: &str, path: &str) -> Result<(), ProofError> {
        let now = now_seconds();
        let requested = Requested { method, path, now };
        let proof = Proof::among(headers, requested, &self.addresses())?.ok_or(ProofError::Missing)?;
        if proof.thumbprint != key {
            return Err(ProofError::Invalid("is of another key than the one that the token is bound to"));
        }
        if !proof.goes_with(token) {
            return Err(ProofError::Invalid("is for another access token: ath"));
        }
        if self.proofs.first(&proof, now) { Ok(()) } else { Err(ProofError::Replayed) }
    }

    /// A token that was verified before.
    fn still(&self, known: &Known, generation: u64, now: i64) -> Result<Arc<Caller>, TokenError> {
        if now >= known.expires {
            return Err(TokenError::Expired);
        }
        if known.generation.load(Ordering::Acquire) != generation {
            if self.revoked.read().concerns(&known.caller) {
                return Err(TokenError::Revoked);
            }
            known.generation.store(generation, Ordering::Release);
        }
        Ok(Arc::clone(&known.caller))
    }

    #[cold]
    fn first_time(
        &self,
        token: &str,
        digest: [u8; 32],
        shard: &RwLock<Shard>,
        generation: u64,
        now: i64,
    ) -> Result<Arc<Caller>, TokenError> {
        let keys = Arc::clone(&self.keys.read());
        if keys.is_empty() {
            return Err(TokenError::KeysUnknown);
        }
        let caller = Arc::new(jwt::read(token, &keys, &self.issuer, now)?);
        self.lives_well(&caller)?;
        let expires = seconds(caller.expires_at);
        let known = Known { caller: Arc::clone(&caller), expires, generation: AtomicU64::new(generation) };
        let mut shard = shard.write();
        if shard.len() >= SHARD_MAX_TOKENS {
            shard.retain(|_, known| now < known.expires);
            if shard.len() >= SHARD_MAX_TOKENS {
                // Which half goes is left to chance; those in use come back at the price of one check.
                let mut stays = false;
                shard.retain(|_, _| {
                    stays = !stays;
                    stays
                });
            }
        }
        // Keys that were taken away meanwhile must not leave a token behind.
        if Arc::ptr_eq(&keys, &self.keys.read()) {
            shard.insert(digest, known);
        }
        Ok(caller)
    }

    /// Waits until the keys have been fetched anew, unless that was done just now.
    async fn newer_keys(&self) {
        let mut done = self.refresh.done.subscribe();
        // An odd count says that keys are being fetched; the next even one, that they have been.
        let count = *done.borrow_and_update();
        let until = count + 2 - count % 2;
        {
            let mut last = self.refresh.last.lock();
            let now = tokio::time::Instant::now();
            if last.is_none_or(|last| now.duration_since(last) >= REFRESH_INTERVAL) {
                *last = Some(now);
                self.refresh.wanted.notify_one();
            } else if count.is_multiple_of(2) {
                return;
            }
        }
        let fetched = done.wait_for(|count| *count >= until);
        let _in_time = tokio::time::timeout(REFRESH_WAIT, fetched).await.is_ok();
    }

    /// Takes note of a revocation and tells those who watch, unless it is known already.
    pub fn revoke(&self, what: Revocation) {
        let news = self.revoked.write().add(&what, self.lifetime + LIFETIME_SLACK, SystemTime::now());
        if news {
            self.generation.fetch_add(1, Ordering::AcqRel);
            // An error says that nobody watches.
            let _nobody = self.events.send(what).is_err();
        }
    }

    /// Revocations as they are made. Who lags behind asks [`Verifier::revoked`] about the callers it has.
    pub fn revocations(&self) -> broadcast::Receiver<Revocation> {
        self.events.subscribe()
    }

    /// Whether the caller's token, session or subject was revoked meanwhile.
    pub fn revoked(&self, caller: &Caller) -> bool {
        self.revoked.read().concerns(caller)
    }
}

fn digest(token: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
    bytes
}

fn now_seconds() -> i64 {
    seconds(SystemTime::now())
}

fn seconds(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().cast_signed()
}
