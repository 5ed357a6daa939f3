//! People's accounts: the one place where the rules of registering, signing in and changing an account come together.
//!
//! A change that the issuer must know of is written together with a *notice*; [`notices`] tells the issuer and removes
//! it. So a crash between the two forgets nothing. Whatever is decided here is decided by the store, which pods share.

mod account_sessions;
mod administration;
mod check;
mod contacts;
mod credentials;
mod factors;
mod history;
pub(crate) mod lanes;
mod logins;
pub(crate) mod notices;
mod post;
mod registration;
mod resets;
mod security_keys;
mod sign_in;
mod subject;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use flaghoist_runtime::names::UserId;
use flaghoist_runtime::seal::Sealer;
use flaghoist_runtime::time::millis;
use tokio::sync::Semaphore;

use crate::account::{Account, AccountChange, DisplayName};
use crate::erasure::Eraser;
use crate::error::Error;
use crate::export::Exports;
use crate::handle::Handle;
use crate::hashing::pool::StartError;
use crate::hashing::{Hasher, Pool};
use crate::issuer::Issuer;
use crate::notify::Notifier;
use crate::others::Others;
use crate::security_key::Keys;
use crate::settings::Settings;
use crate::store::Store;
use crate::throttle::quota::{BucketKey, Empty, Limit, Quota};
use crate::throttle::{AttemptKeys, Delays, STRANGERS_DELAY_MAX};

use self::lanes::Lanes;
use self::notices::Teller;
use self::post::Post;

pub(crate) use factors::{Code, Owner};
pub(crate) use logins::{Browser, Next, StartLogin};
pub(crate) use registration::Register;
pub(crate) use resets::{ResetAsked, ResetFactor};
pub(crate) use sign_in::{Accepted, DEFAULT_CLIENT, PageSignIn, PageStep, SignIn, Welcome};

/// How many codes and links a person may have sent at once.
const MESSAGES_BURST: u32 = 5;
/// How long it takes until they may have one more.
const MESSAGES_REFILL: Duration = Duration::from_secs(10 * 60);
/// The most characters of a postal address.
const POSTAL_ADDRESS_MAX_CHARACTERS: usize = 512;

/// What a person has typed of themselves; what is not there stays.
#[derive(Clone, Debug, Default)]
pub(crate) struct Typed {
    pub(crate) display_name: Option<String>,
    /// Lines of text; empty for none.
    pub(crate) postal_address: Option<String>,
    /// A language tag (BCP 47); empty for none.
    pub(crate) language: Option<String>,
}

/// The accounts.
pub(crate) struct Accounts {
    settings: Settings,
    store: Arc<dyn Store>,
    issuer: Issuer,
    pool: Pool,
    /// What a password is checked against when there is no account.
    nobodys_hash: Arc<str>,
    attempt_keys: Arc<AttemptKeys>,
    delays: Delays,
    empty: Empty,
    sealer: Arc<Sealer>,
    host: String,
    /// The address of the issuer, where the pages are, too.
    issuer_address: String,
    keys: Keys,
    post: Post,
    /// Taken by who works on a request for a new password.
    requests: Arc<Semaphore>,
    /// Opening a session for a person and telling the issuer about them exclude one another: a session opened for
    /// credentials that have just changed would outlive the change.
    lanes: Lanes,
    teller: Teller,
    /// The exports that are being made.
    exports: Exports,
}

/// What accounts are given beside their store.
#[derive(Debug)]
pub(crate) struct Makings {
    /// Keys what is kept of attempts.
    pub(crate) attempts_key: [u8; 32],
    /// Encrypts what has to be read again.
    pub(crate) sealer: Sealer,
    /// Where the accounts are, as authenticator apps show it.
    pub(crate) host: String,
    /// The address of the issuer, where the pages are, too.
    pub(crate) issuer_address: String,
    /// Hands messages over.
    pub(crate) notifier: Notifier,
    /// Registers and checks security keys.
    pub(crate) keys: Keys,
    /// The services that have something of people.
    pub(crate) others: Others,
}

impl std::fmt::Debug for Accounts {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Accounts").field("pool", &self.pool).finish_non_exhaustive()
    }
}

impl Accounts {
    /// Starts the hash pool.
    pub(crate) fn start(
        settings: Settings,
        store: Arc<dyn Store>,
        issuer: Issuer,
        makings: Makings,
    ) -> Result<Self, StartError> {
        let pool = Pool::start(settings.hash_cost, settings.hash_threads, settings.hash_queue)?;
        let attempt_keys = Arc::new(AttemptKeys::new(&makings.attempts_key));
        let lanes = Lanes::new(Arc::clone(&store));
        let teller = Teller {
            store: Arc::clone(&store),
            issuer: issuer.clone(),
            lanes: lanes.clone(),
            eraser: Eraser {
                store: Arc::clone(&store),
                issuer: issuer.clone(),
                others: makings.others,
                attempt_keys: Arc::clone(&attempt_keys),
                settle: settings.erasure_settle,
            },
        };
        let sealer = Arc::new(makings.sealer);
        let post = Post {
            store: Arc::clone(&store),
            sealer: Arc::clone(&sealer),
            notifier: makings.notifier,
            wake: Arc::default(),
        };
        Ok(Self {
            nobodys_hash: Hasher::nobodys(settings.hash_cost)?.into(),
            attempt_keys,
            delays: Delays {
                free: settings.account_free,
                first: settings.account_delay,
                max: settings.account_delay_max,
                strangers_max: STRANGERS_DELAY_MAX,
            },
            sealer,
            host: makings.host,
            issuer_address: makings.issuer_address,
            post,
            requests: Arc::new(Semaphore::new(resets::REQUESTS_MAX)),
            keys: makings.keys,
            empty: Empty::default(),
            lanes,
            teller,
            exports: Exports::default(),
            settings,
            store,
            issuer,
            pool,
        })
    }

    /// Who tells the issuer what was left untold.
    pub(crate) fn teller(&self) -> Teller {
        self.teller.clone()
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

    /// Changes what a person says of themselves.
    pub(crate) async fn update(&self, user: UserId, typed: Typed) -> Result<Account, Error> {
        let change = AccountChange {
            display_name: typed.display_name.as_deref().map(DisplayName::read).transpose()?,
            postal_address: typed.postal_address.as_deref().map(read_postal_address).transpose()?,
            language: typed.language.as_deref().map(read_language).transpose()?,
        };
        if change == AccountChange::default() {
            return self.get(user).await;
        }
        self.take(Limit::Updates, self.attempt_keys.bucket_of_person(Limit::Updates, user)).await?;
        let changed = self.store.change_account(user, &change).await?;
        let changed = changed.ok_or_else(|| Error::AccountUnknown(user.name()))?;
        self.tell_profile(user);
        Ok(changed)
    }

    /// Tells the issuer what applications may know of a person. Nobody waits for that, and what fails is tried again.
    fn tell_profile(&self, user: UserId) {
        let teller = self.teller();
        tokio::spawn(async move { teller.tell_profile(user).await });
    }

    /// Takes a call of an address out of its bucket.
    async fn take_from(&self, limit: Limit, address: IpAddr) -> Result<(), Error> {
        self.take(limit, self.attempt_keys.bucket_of_address(limit, address)).await
    }

    /// Takes a call out of a bucket, which all pods share.
    async fn take(&self, limit: Limit, bucket: BucketKey) -> Result<(), Error> {
        let settings = &self.settings;
        let (burst, refill) = match limit {
            Limit::Attempts | Limit::Logins => (settings.address_burst, settings.address_refill),
            Limit::Registrations | Limit::Resets => (settings.registration_burst, settings.registration_refill),
            Limit::Messages | Limit::Links => (MESSAGES_BURST, MESSAGES_REFILL),
            Limit::Updates => (settings.update_burst, settings.update_refill),
        };
        let mut wait = self.empty.wait(bucket);
        if wait.is_none() {
            wait = self.store.take(bucket, Quota { burst, refill }, now()).await?;
            if let Some(wait) = wait {
                self.empty.remember(bucket, wait);
            }
        }
        let Some(wait) = wait else { return Ok(()) };
        metrics::counter!("flaghoist_login_refused_total", "limit" => limit.label()).increment(1);
        Err(Error::RateLimited(wait))
    }

    /// The hash pool, for tests that fill it.
    #[cfg(test)]
    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The lanes, for tests that hold one.
    #[cfg(test)]
    pub(crate) fn lanes(&self) -> &Lanes {
        &self.lanes
    }
}

/// Lines of visible text.
fn read_postal_address(typed: &str) -> Result<String, Error> {
    let lines = typed.replace("\r\n", "\n");
    let text = lines.trim();
    if text.chars().count() > POSTAL_ADDRESS_MAX_CHARACTERS
        || text.chars().any(|letter| letter != '\n' && letter.is_control())
    {
        return Err(Error::Text { field: "postal_address", problem: "is not up to 512 characters of text" });
    }
    Ok(text.to_owned())
}

/// A tag such as `en` or `zh-CN`.
fn read_language(typed: &str) -> Result<String, Error> {
    let part = |part: &str| (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if typed.is_empty() || (typed.len() <= 35 && typed.split('-').all(part)) {
        return Ok(typed.to_owned());
    }
    Err(Error::Text { field: "language", problem: "is not a language tag such as en or zh-CN" })
}

/// The time now in milliseconds.
fn now() -> i64 {
    millis(SystemTime::now())
}
