//! Limits on guessing. Each attempt is reserved in the store before its password is hashed, so that a hundred guesses at once are
//! not a hundred guesses, on however many pods.
//!
//! Two limits apply, one after the other. An **address** has a bucket of attempts ([`quota`]). An **account** has
//! delays, which survive a restart: they grow with each attempt since the last success and are counted for
//! each account *and* address, so that whoever hammers an account from elsewhere does not lock its owner out. All
//! addresses from which an account never was signed in to share one more count, which ends guessing from many
//! addresses; an address that was signed in from before is not held up by it, nor is an account with a security key, which a password does
//! not open. A browser that its person has signed in with counts as a place of its own, wherever it is ([`browser`]). Second factors are
//! counted in the same way, each kind by itself. With the delays of the settings' defaults a day has some hundred guesses from one place, and
//! some fifteen hundred from all unknown ones together; at a second factor some hundred and eighty.

pub(crate) mod browser;
pub(crate) mod quota;

use std::net::IpAddr;
use std::time::Duration;

use aws_lc_rs::hmac;
use flaghoist_runtime::names::UserId;

use crate::contact::{Contact, ContactCode, ContactKind};
use crate::factor::FactorKind;
use crate::handle::Handle;
use crate::history::Origin;
use crate::store::contacts::CodeDigest;
use browser::KnownBrowser;
use quota::{BucketKey, Limit};

/// The longest delay of the count that all unknown addresses share: long enough against guessing passwords, short enough for an
/// owner who signs in from a new place meanwhile.
pub(crate) const STRANGERS_DELAY_MAX: Duration = Duration::from_secs(60);
/// The same for second factors. Who guesses at one has the password already, and a code has but six digits: with this delay some
/// hundred guesses a day are left, whatever addresses they come from.
pub(crate) const FACTOR_STRANGERS_DELAY_MAX: Duration = Duration::from_secs(15 * 60);
/// How many times more attempts the unknown addresses together have free than each address alone.
const STRANGERS_FREE_FACTOR: u32 = 4;
/// After so long without an attempt all is forgotten.
pub(crate) const FORGET_AFTER: Duration = Duration::from_secs(24 * 60 * 60);
/// After so long without a sign-in an address is no longer known.
pub(crate) const KNOWN_FOR: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// The clocks of two pods are not further apart than that; a time that is further off comes from a clock that was set back since.
pub(crate) const CLOCKS_APART_MAX: Duration = Duration::from_secs(60);

/// Who is guessed at, and from where: keyed digests, because handles that do not exist count like those that do, and
/// addresses are nobody's business.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct AttemptKey {
    pub(crate) account: [u8; 16],
    pub(crate) address: [u8; 16],
}

/// Stands for all unknown addresses together.
pub(crate) const STRANGERS: [u8; 16] = [0; 16];

/// Makes the keys of attempts.
#[derive(Debug)]
pub(crate) struct AttemptKeys(hmac::Key);

impl AttemptKeys {
    pub(crate) fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The key for a handle and an address.
    pub(crate) fn of(&self, handle: &Handle, address: IpAddr) -> AttemptKey {
        AttemptKey { account: self.account(handle), address: self.address(address) }
    }

    /// The key for a handle that `user` has, if anybody, and where an attempt comes from.
    pub(crate) fn of_place(&self, handle: &Handle, user: Option<UserId>, origin: &Origin) -> AttemptKey {
        let browser = user.and_then(|user| self.of_browser(user, &origin.browser));
        AttemptKey { account: self.account(handle), address: browser.unwrap_or_else(|| self.address(origin.address)) }
    }

    fn address(&self, address: IpAddr) -> [u8; 16] {
        self.digest(b"address", &network(address).to_be_bytes())
    }

    /// The key for all attempts at a handle.
    pub(crate) fn account(&self, handle: &Handle) -> [u8; 16] {
        self.digest(b"account", handle.as_str().as_bytes())
    }

    /// The key for a second factor of a person and where an attempt comes from. Each kind is counted for itself: whoever guesses at one
    /// closes no other.
    pub(crate) fn of_factor(&self, kind: FactorKind, user: UserId, origin: &Origin) -> AttemptKey {
        let browser = self.of_browser(user, &origin.browser);
        let address = browser.unwrap_or_else(|| self.address(origin.address));
        AttemptKey { account: self.factor(kind, user), address }
    }

    /// Every key under which attempts of a browser that a person has signed in with are counted.
    pub(crate) fn all_of_browser(&self, handle: &Handle, user: UserId, browser: &KnownBrowser) -> Vec<AttemptKey> {
        let factors = [FactorKind::Totp, FactorKind::RecoveryCode].map(|kind| self.factor(kind, user));
        let accounts = [self.account(handle)].into_iter().chain(factors);
        let browser = self.of_browser(user, browser);
        browser.map_or_else(Vec::new, |address| accounts.map(|account| AttemptKey { account, address }).collect())
    }

    /// The key for all attempts at a second factor of a person.
    pub(crate) fn factor(&self, kind: FactorKind, user: UserId) -> [u8; 16] {
        self.digest(b"factor", &[kind.label().as_bytes(), user.0.as_bytes()].concat())
    }

    /// The key for the code of a contact of a person and an address.
    pub(crate) fn of_contact(&self, kind: ContactKind, user: UserId, address: IpAddr) -> AttemptKey {
        AttemptKey { account: self.contact(kind, user), address: self.address(address) }
    }

    /// The key for all attempts at the code of a contact of a person.
    fn contact(&self, kind: ContactKind, user: UserId) -> [u8; 16] {
        self.digest(b"contact", &[kind.label().as_bytes(), user.0.as_bytes()].concat())
    }

    /// The keys under which attempts at an account are counted, of whatever kind.
    pub(crate) fn all_of(&self, handle: &Handle, user: UserId) -> [[u8; 16]; 5] {
        let (factor, contact) = (|kind| self.factor(kind, user), |kind| self.contact(kind, user));
        let factors = [factor(FactorKind::Totp), factor(FactorKind::RecoveryCode)];
        [self.account(handle), factors[0], factors[1], contact(ContactKind::Email), contact(ContactKind::Phone)]
    }

    /// What the store keeps of a code: eight digits are guessed from a digest that has no key.
    pub(crate) fn of_code(&self, user: UserId, contact: &Contact, code: &ContactCode) -> CodeDigest {
        let mut context = hmac::Context::with_key(&self.0);
        for part in [b"contact code", user.0.as_bytes().as_slice(), code.text().as_bytes(), contact.value.as_bytes()] {
            context.update(part);
            context.update(&[0]);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.sign().as_ref());
        CodeDigest(digest)
    }

    /// The key of the bucket of an address.
    pub(crate) fn bucket_of_address(&self, limit: Limit, address: IpAddr) -> BucketKey {
        self.bucket(limit, &network(address).to_be_bytes())
    }

    /// The key of the bucket of a person.
    pub(crate) fn bucket_of_person(&self, limit: Limit, user: UserId) -> BucketKey {
        self.bucket(limit, user.0.as_bytes())
    }

    /// The key of the bucket of whoever is reached by a contact.
    pub(crate) fn bucket_of_contact(&self, limit: Limit, contact: &Contact) -> BucketKey {
        self.bucket(limit, &self.digest(b"reached", contact.value.as_bytes()))
    }

    fn bucket(&self, limit: Limit, whose: &[u8; 16]) -> BucketKey {
        BucketKey(self.digest(b"bucket", &[limit.label().as_bytes(), whose].concat()))
    }

    fn digest(&self, kind: &[u8], text: &[u8]) -> [u8; 16] {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(kind);
        context.update(&[0]);
        context.update(text);
        let mut digest = [0; 16];
        digest.copy_from_slice(&context.sign().as_ref()[..16]);
        digest
    }
}

/// What counts as one address: an IPv4 address, or the /64 that one IPv6 subscriber is given.
pub(crate) fn network(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits() & !u128::from(u64::MAX),
    }
}

/// How long an account is closed to an address after so many attempts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Delays {
    /// So many attempts have no delay.
    pub(crate) free: u32,
    /// The first delay; each further attempt doubles it.
    pub(crate) first: Duration,
    /// The longest delay.
    pub(crate) max: Duration,
    /// The longest delay of the count that all unknown addresses share.
    pub(crate) strangers_max: Duration,
}

/// The attempts of one address, or of all unknown ones, at one account.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Attempts {
    /// Attempts since the last success.
    pub(crate) count: u32,
    /// No attempt before that time, in milliseconds.
    pub(crate) next_at: i64,
    /// When the right password last came from there.
    pub(crate) known_at: Option<i64>,
    /// When it last changed.
    pub(crate) updated_at: i64,
}

/// Whether an attempt may be made, and what to keep of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Decision {
    /// It may; both are to be stored first.
    Go {
        /// The attempts of the address.
        here: Attempts,
        /// Those of all unknown addresses, if they concern this one.
        strangers: Option<Attempts>,
    },
    /// Not before that time has passed. Nothing changes.
    Wait(Duration),
}

impl Delays {
    /// Decides about an attempt at `now` (milliseconds) after the earlier ones.
    pub(crate) fn decide(&self, here: Option<Attempts>, strangers: Option<Attempts>, now: i64) -> Decision {
        let here = here.unwrap_or_default();
        let known = still_known(here.known_at, now);
        let strangers = (!known).then(|| strangers.unwrap_or_default());
        let together = Self {
            free: self.free.saturating_mul(STRANGERS_FREE_FACTOR),
            first: self.first,
            max: self.max.min(self.strangers_max),
            strangers_max: self.strangers_max,
        };
        let wait = self.wait(here, now).max(strangers.map_or(0, |strangers| together.wait(strangers, now)));
        match u64::try_from(wait) {
            Ok(wait) if wait > 0 => Decision::Wait(Duration::from_millis(wait)),
            _ => Decision::Go {
                here: self.after(here, now),
                strangers: strangers.map(|strangers| together.after(strangers, now)),
            },
        }
    }

    /// How many milliseconds are left to wait.
    fn wait(&self, attempts: Attempts, now: i64) -> i64 {
        // The last one was free: its time is that of another call, maybe by another clock.
        if attempts.count < self.free {
            return 0;
        }
        let wait = attempts.next_at - now;
        // Further off than any delay: the clock was set back, and nobody shall wait for that.
        let set_back = wait > millis(self.max).saturating_add(millis(CLOCKS_APART_MAX));
        if set_back { 0 } else { wait.clamp(0, millis(self.max)) }
    }

    /// The attempts with one more, which is being made now.
    fn after(&self, attempts: Attempts, now: i64) -> Attempts {
        let forgotten = now - attempts.updated_at >= millis(FORGET_AFTER);
        let count = if forgotten { 1 } else { attempts.count.saturating_add(1) };
        let delay = match count.checked_sub(self.free) {
            None => 0,
            Some(over) => millis(self.first)
                .saturating_mul(1_i64.checked_shl(over.min(40)).unwrap_or(i64::MAX))
                .min(millis(self.max)),
        };
        Attempts { count, next_at: now.saturating_add(delay), known_at: attempts.known_at, updated_at: now }
    }
}

/// Whether an address that became known then is so yet.
pub(crate) fn still_known(known_at: Option<i64>, now: i64) -> bool {
    known_at.is_some_and(|known_at| now - known_at < millis(KNOWN_FOR))
}

/// A time in milliseconds.
pub(crate) fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
