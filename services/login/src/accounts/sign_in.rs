//! Signing in with a password, and the check of a password that every method which asks for one goes through.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use flaghoist_runtime::names::UserId;

use super::lanes::Lane;
use super::{Accounts, now};
use crate::account::{Account, Credentials};
use crate::error::Error;
use crate::handle::Handle;
use crate::hashing::{Place, Verdict};
use crate::issuer::{IssuerError, Opened, SignedIn};
use crate::password::{BadPassword, Password};
use crate::throttle::quota::Limit;

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
        let mut lane = self.lanes.enter(proven.account.user).await?;
        let welcome = self.open_session(&mut lane, &proven, wanted.client_id, wanted.label, wanted.address).await;
        lane.leave().await;
        welcome
    }

    /// Opens a session for a person whose password was right, unless they, or their password, have changed since. Whoever changes
    /// something meanwhile ends the sessions after us, for we are in the person's lane.
    async fn open_session(
        &self,
        lane: &mut Lane,
        proven: &Credentials,
        client_id: String,
        label: String,
        address: IpAddr,
    ) -> Result<Welcome, Error> {
        let user = proven.account.user;
        let unchanged = |current: &Credentials| current.usable() && current.version == proven.version;
        let mut current = self.current(user).await?;
        if current.untold {
            self.teller.tell_within(lane, user).await?;
            current = self.current(user).await?;
        } else if current.account.admin {
            // If the issuer believes otherwise it leaves the scope out without a word, so what it believes of an admin is set right
            // whenever they sign in.
            self.teller.tell_state(lane, user).await?;
        }
        if !unchanged(&current) {
            return Err(Error::CredentialsInvalid);
        }
        let client_id = if client_id.is_empty() { DEFAULT_CLIENT.to_owned() } else { client_id };
        let admin = current.account.admin;
        let signed_in = SignedIn { user, client_id, admin, at: SystemTime::now(), label, address };
        lane.hold().await?;
        let opened = match self.issuer.create_session(signed_in.clone()).await {
            // It believes otherwise: its state is that of an older backup, or came from a pod that was frozen while telling.
            Err(IssuerError::SubjectRefused) => {
                self.store.note_state(user, now()).await?;
                self.teller.tell_within(lane, user).await?;
                lane.hold().await?;
                self.issuer.create_session(signed_in).await?
            }
            opened => opened?,
        };
        // Whoever lost the lane meanwhile, for being frozen, may have opened it after others were ended: nobody gets its tokens.
        if !unchanged(&self.current(user).await?) {
            return Err(Error::CredentialsInvalid);
        }
        Ok(Welcome { account: current.account, opened })
    }

    /// What proves a person by now.
    async fn current(&self, user: UserId) -> Result<Credentials, Error> {
        self.store.credentials_of(user).await?.ok_or(Error::CredentialsInvalid)
    }

    /// Checks the password of whoever has `handle`. Every refusal costs the same: one attempt that was counted before,
    /// one look into the store, one hash. The place before the pool stays the caller's, for a second hash.
    pub(super) async fn prove(
        &self,
        handle: &Handle,
        password: Password,
        address: IpAddr,
    ) -> Result<(Credentials, Place), Error> {
        let place = self.pool.place()?;
        self.take_from(Limit::Attempts, address).await?;
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
