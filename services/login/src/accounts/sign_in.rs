//! Signing in with a password, and the check of a password that every method which asks for one goes through.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use super::{Accounts, now};
use crate::account::{Account, Credentials};
use crate::error::Error;
use crate::handle::Handle;
use crate::hashing::{Place, Verdict};
use crate::issuer::{Opened, SignedIn};
use crate::password::{BadPassword, Password};

/// How many addresses an account is known to be used from.
const KNOWN_ADDRESSES_MAX: u32 = 32;
/// The client of those who name none.
const DEFAULT_CLIENT: &str = "flaghoist-cli";

/// Someone who wants to sign in.
#[derive(Debug)]
pub(crate) struct SignIn {
    pub(crate) handle: String,
    pub(crate) password: Result<Password, BadPassword>,
    /// Empty for the command line's own.
    pub(crate) client_id: String,
    pub(crate) label: String,
    pub(crate) address: IpAddr,
}

/// Someone who has signed in.
pub(crate) struct Welcome {
    pub(crate) account: Account,
    pub(crate) opened: Opened,
}

impl Accounts {
    /// Checks handle and password and opens a session.
    pub(crate) async fn sign_in(&self, wanted: SignIn) -> Result<Welcome, Error> {
        let password = wanted.password.map_err(|source| Error::Password { field: "password", source })?;
        // What is no handle belongs to nobody, like a handle that nobody has.
        let handle = Handle::read(&wanted.handle).unwrap_or_else(|_| Handle::nobodys(&wanted.handle));
        let (proven, _place) = self.prove(&handle, password, wanted.address).await?;
        let user = proven.account.user;
        let _lane = self.lane(user).lock().await;
        // The password may have been changed, or the account disabled, while it was being checked.
        self.tell_within_lane(user).await?;
        let current = self.store.credentials_of(user).await?;
        let Some(current) = current.filter(|current| current.usable() && current.version == proven.version) else {
            return Err(Error::CredentialsInvalid);
        };
        let client_id = if wanted.client_id.is_empty() { DEFAULT_CLIENT.to_owned() } else { wanted.client_id };
        let signed_in = SignedIn {
            user,
            client_id,
            admin: current.account.admin,
            at: SystemTime::now(),
            label: wanted.label,
            address: wanted.address,
        };
        let opened = self.issuer.create_session(signed_in).await?;
        Ok(Welcome { account: current.account, opened })
    }

    /// Checks the password of whoever has `handle`. Every refusal costs the same: one attempt that was counted before,
    /// one look into the store, one hash. The place before the pool stays the caller's, for a second hash.
    pub(super) async fn prove(
        &self,
        handle: &Handle,
        password: Password,
        address: IpAddr,
    ) -> Result<(Credentials, Place), Error> {
        self.take_attempt(address)?;
        let place = self.pool.place()?;
        let key = self.attempt_keys.of(handle, address);
        if let Some(wait) = self.store.reserve_attempt(key, self.delays, now()).await? {
            metrics::counter!("flaghoist_login_refused_total", "limit" => "account").increment(1);
            return Err(Error::RateLimited(wait));
        }
        let found = self.store.credentials(handle).await?;
        let stored: Arc<str> = match &found {
            Some(found) => found.password_hash.as_str().into(),
            None => Arc::clone(&self.nobodys_hash),
        };
        let usable = found.as_ref().is_some_and(|found| !found.account.disabled);
        let verdict: Verdict = place.run(move |hasher| hasher.verify(&password, &stored, usable)).await??;
        let Some(found) = found.filter(|_| verdict.matches && usable) else {
            metrics::counter!("flaghoist_login_checks_total", "outcome" => "refused").increment(1);
            return Err(Error::CredentialsInvalid);
        };
        metrics::counter!("flaghoist_login_checks_total", "outcome" => "passed").increment(1);
        self.store.attempt_succeeded(key, KNOWN_ADDRESSES_MAX, now()).await?;
        if let Some(renewed) = verdict.renewed {
            self.store.renew_password_hash(found.account.user, &found.password_hash, &renewed).await?;
        }
        Ok((found, place))
    }
}
