//! The check of a password that every method which asks for one goes through.

use std::sync::Arc;
use std::time::Duration;

use flaghoist_runtime::fault::chain;

use super::sign_in::Arrived;
use super::{Accounts, now};
use crate::account::Credentials;
use crate::error::Error;
use crate::factor::Proof;
use crate::handle::Handle;
use crate::hashing::{Place, Verdict};
use crate::history::Origin;
use crate::password::{BadPassword, Password};
use crate::store::Store;
use crate::store::factors::Proven;
use crate::throttle::AttemptKey;
use crate::throttle::quota::Limit;

/// Whoever has the password.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) credentials: Credentials,
    pub(super) counted: Counted,
    /// The place before the pool, for a second hash.
    place: Place,
}

impl Accounts {
    /// Checks the password of whoever has `handle`, and forgets the attempts before it if it is right. The place before the pool stays
    /// the caller's, for a second hash.
    pub(super) async fn prove(
        &self,
        handle: &Handle,
        password: Password,
        origin: &Origin,
    ) -> Result<(Credentials, Place), Error> {
        let Checked { credentials, counted, place } = self.check(handle, password, origin).await?;
        counted.forget().await?;
        Ok((credentials, place))
    }

    /// The same without forgetting the attempts, for those who have more to write. Every refusal costs the same: one look into the store, one
    /// attempt that is counted, one hash.
    pub(super) async fn check(&self, handle: &Handle, password: Password, origin: &Origin) -> Result<Checked, Error> {
        let place = self.pool.place()?;
        let found = self.store.credentials(handle).await?;
        let user = found.as_ref().map(|found| found.account.user);
        if user.is_none_or(|user| self.attempt_keys.of_browser(user, &origin.browser).is_none()) {
            self.take_from(Limit::Attempts, origin.address).await?;
        }
        let from = self.attempt_keys.of_place(handle, user, origin);
        let mut delays = self.delays;
        if found.as_ref().is_some_and(|found| found.security_key) {
            // A password does not open it, so those who guess at it from many places shall not hold up whoever has the key.
            delays.strangers_max = Duration::ZERO;
        }
        if let Some(wait) = self.store.reserve_attempt(from, delays, now()).await? {
            metrics::counter!("flaghoist_login_refused_total", "limit" => "account").increment(1);
            return Err(Error::RateLimited(wait));
        }
        let stored: Arc<str> = match &found {
            Some(found) => found.password_hash.as_str().into(),
            None => Arc::clone(&self.nobodys_hash),
        };
        let usable = found.as_ref().is_some_and(|found| !found.account.disabled);
        let verdict: Verdict = place.run(move |hasher| hasher.verify(&password, &stored, usable)).await??;
        let Some(credentials) = found.filter(|_| verdict.matches && usable) else {
            metrics::counter!("flaghoist_login_checks_total", "outcome" => "refused").increment(1);
            return Err(Error::CredentialsInvalid);
        };
        metrics::counter!("flaghoist_login_checks_total", "outcome" => "passed").increment(1);
        let counted = Counted { store: Arc::clone(&self.store), from: Some(from) };
        if let Some(renewed) = verdict.renewed {
            self.store.renew_password_hash(credentials.account.user, &credentials.password_hash, &renewed).await?;
        }
        Ok(Checked { credentials, counted, place })
    }
}

/// The counted attempts from a place whose password was right. They are forgotten with the commit of the sign-in, or else by themselves,
/// whatever becomes of it: a caller who goes away then has not guessed.
pub(super) struct Counted {
    store: Arc<dyn Store>,
    from: Option<AttemptKey>,
}

impl Counted {
    /// The place.
    pub(super) fn from(&self) -> Option<AttemptKey> {
        self.from
    }

    /// Forgets them because of `error`, which came after the right password. What fails of it is tried once more and logged.
    pub(super) async fn forget_after(self, error: Error) -> Error {
        let _tried_again = self.forget().await;
        error
    }

    /// Forgets them now. Known is the place when a sign-in is finished, and not by a password that has a second factor after it.
    pub(super) async fn forget(mut self) -> Result<(), Error> {
        let Some(from) = self.from else { return Ok(()) };
        self.store.attempt_succeeded(from, None, now()).await?;
        self.from = None;
        Ok(())
    }

    /// They are forgotten.
    pub(super) fn forgotten(mut self) {
        self.from = None;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let (Some(from), Ok(runtime)) = (self.from, tokio::runtime::Handle::try_current()) else { return };
        let store = Arc::clone(&self.store);
        runtime.spawn(async move {
            if let Err(error) = store.attempt_succeeded(from, None, now()).await {
                tracing::warn!(error = %chain(&error), "attempts before a right password stay counted");
            }
        });
    }
}

impl std::fmt::Debug for Counted {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Counted").field("from", &self.from).finish_non_exhaustive()
    }
}

impl Checked {
    /// Whose password was all that is asked for.
    pub(super) fn arrived(self) -> Arrived {
        Arrived {
            proven: Proven::by(&self.credentials),
            proof: Proof::Password,
            counted: Some(self.counted),
            place: Some(self.place),
        }
    }
}

/// The handle that was typed. What is no handle belongs to nobody, like a handle that nobody has.
pub(super) fn read_handle(typed: &str) -> Handle {
    Handle::read(typed).unwrap_or_else(|_| Handle::nobodys(typed))
}

/// The password that was typed, if it is one that anybody can have.
pub(super) fn taken(password: Result<Password, BadPassword>) -> Result<Password, Error> {
    password.map_err(|source| Error::Password { field: "password", source })
}
