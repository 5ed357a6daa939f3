//! People's accounts: the one place where the rules of registering, signing in and changing an account come together.
//!
//! A change that the issuer must know of is written together with a *notice*; [`notices`] tells the issuer and removes
//! it. So a crash between the two forgets nothing.

mod administration;
mod credentials;
pub(crate) mod notices;
mod registration;
mod sign_in;

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::SystemTime;

use flaghoist_runtime::names::UserId;
use flaghoist_runtime::time::millis;

use crate::account::{Account, DisplayName};
use crate::error::Error;
use crate::handle::Handle;
use crate::hashing::pool::StartError;
use crate::hashing::{Hasher, Pool};
use crate::issuer::Issuer;
use crate::settings::Settings;
use crate::store::Store;
use crate::throttle::addresses::Addresses;
use crate::throttle::{AttemptKeys, Delays};

pub(crate) use registration::Register;
pub(crate) use sign_in::SignIn;

/// How many people's calls to the issuer may go on at once; people who share a lane wait for one another.
const LANES: usize = 64;

/// The accounts.
pub(crate) struct Accounts {
    settings: Settings,
    store: Arc<dyn Store>,
    issuer: Issuer,
    pool: Pool,
    /// What a password is checked against when there is no account.
    nobodys_hash: Arc<str>,
    attempt_keys: AttemptKeys,
    delays: Delays,
    addresses: Addresses,
    registrations: Addresses,
    /// Opening a session for a person and telling the issuer about them exclude one another: a session opened for
    /// credentials that have just changed would outlive the change.
    lanes: [tokio::sync::Mutex<()>; LANES],
}

impl std::fmt::Debug for Accounts {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Accounts").field("pool", &self.pool).finish_non_exhaustive()
    }
}

impl Accounts {
    /// Starts the hash pool; `secret` keys what is kept of attempts.
    pub(crate) fn start(
        settings: Settings,
        store: Arc<dyn Store>,
        issuer: Issuer,
        secret: &[u8],
    ) -> Result<Self, StartError> {
        let pool = Pool::start(settings.hash_cost, settings.hash_threads, settings.hash_queue)?;
        let at_least_one = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        Ok(Self {
            nobodys_hash: Hasher::nobodys(settings.hash_cost)?.into(),
            attempt_keys: AttemptKeys::new(secret),
            delays: Delays {
                free: settings.account_free,
                first: settings.account_delay,
                max: settings.account_delay_max,
            },
            addresses: Addresses::new(at_least_one(settings.address_burst), settings.address_refill),
            registrations: Addresses::new(at_least_one(settings.registration_burst), settings.registration_refill),
            lanes: std::array::from_fn(|_| tokio::sync::Mutex::new(())),
            settings,
            store,
            issuer,
            pool,
        })
    }

    /// The account of a person.
    pub(crate) async fn get(&self, user: UserId) -> Result<Account, Error> {
        self.store.account(user).await?.ok_or_else(|| Error::AccountUnknown(user.name()))
    }

    /// The account with a handle in any spelling, with or without a leading `@`.
    pub(crate) async fn lookup(&self, typed: &str) -> Result<Account, Error> {
        let handle = Handle::read_mention(typed)?;
        let found = self.store.account_by_handle(&handle).await?;
        found.ok_or_else(|| Error::AccountUnknown(format!("@{handle}")))
    }

    /// Those of the people who exist and are not disabled.
    pub(crate) async fn users(&self, users: &[UserId]) -> Result<Vec<(UserId, Handle)>, Error> {
        if users.is_empty() {
            return Ok(Vec::new());
        }
        Ok(self.store.users(users).await?)
    }

    /// Changes what people are shown of a person.
    pub(crate) async fn rename(&self, user: UserId, typed: Option<&str>) -> Result<Account, Error> {
        let Some(typed) = typed else { return self.get(user).await };
        let name = DisplayName::read(typed)?;
        let changed = self.store.set_display_name(user, &name).await?;
        changed.ok_or_else(|| Error::AccountUnknown(user.name()))
    }

    /// Takes one attempt at a password out of the bucket of an address.
    fn take_attempt(&self, address: IpAddr) -> Result<(), Error> {
        self.addresses.take(address).map_err(|wait| {
            metrics::counter!("flaghoist_login_refused_total", "limit" => "address").increment(1);
            Error::RateLimited(wait)
        })
    }

    /// The hash pool, for tests that fill it.
    #[cfg(test)]
    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The lane of a person.
    pub(crate) fn lane(&self, user: UserId) -> &tokio::sync::Mutex<()> {
        // The last bytes of a version 7 UUID are random.
        &self.lanes[usize::from(user.0.as_bytes()[15]) % LANES]
    }
}

/// The time now in milliseconds.
fn now() -> i64 {
    millis(SystemTime::now())
}
