//! Finished sign-ins: from where they came is known from then on, people see them, and are told of those from a new place.

use std::collections::BTreeSet;
use std::time::SystemTime;

use flaghoist_runtime::fault::chain;
use flaghoist_runtime::names::UserId;

use super::check::Counted;
use super::sign_in::KNOWN_ADDRESSES_MAX;
use super::{Accounts, now};
use crate::account::Account;
use crate::contact::Contacts;
use crate::error::Error;
use crate::factor::Proof;
use crate::history::{Event, EventKind, NewEvent, Origin};
use crate::notify::Content;
use crate::store::history::FinishedSignIn;

/// A sign-in that is finished.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) proof: Proof,
    /// The attempts that are forgotten by it.
    pub(super) counted: Option<Counted>,
    pub(super) client_id: String,
    pub(super) origin: Origin,
}

impl Accounts {
    /// What happened to an account before the event `before`, the newest first.
    pub(crate) async fn events(&self, user: UserId, before: Option<i64>, max: u32) -> Result<Vec<Event>, Error> {
        Ok(self.store.events(user, before, max).await?)
    }

    /// Keeps a finished sign-in. The person is in, so what fails here is logged.
    pub(super) async fn signed_in(&self, account: &Account, contacts: &Contacts, finished: Finished) {
        let user = account.user;
        if let Err(error) = self.keep_sign_in(account, contacts, finished).await {
            tracing::warn!(%user, error = %chain(&error), "a sign-in could not be noted");
        }
    }

    async fn keep_sign_in(&self, account: &Account, contacts: &Contacts, finished: Finished) -> Result<(), Error> {
        let Finished { proof, counted, client_id, origin } = finished;
        let (user, keys) = (account.user, &self.attempt_keys);
        let content = Content::SignIn {
            at: written(SystemTime::now()),
            address: origin.shown_address(),
            agent: origin.agent().to_owned(),
        };
        let message = self.notice(account, contacts, content)?;
        let browser = keys.all_of_browser(&account.handle, user, &origin.browser);
        let succeeded = BTreeSet::from_iter(browser.into_iter().chain(counted.as_ref().and_then(Counted::from)));
        let sign_in = FinishedSignIn {
            address: keys.of(&account.handle, origin.address),
            succeeded: succeeded.into_iter().collect(),
            event: NewEvent { user, kind: EventKind::SignedIn, origin, amr: proof.amr(), client_id },
            message,
        };
        let new = self.store.signed_in(&sign_in, KNOWN_ADDRESSES_MAX, now()).await?;
        if let Some(counted) = counted {
            counted.forgotten();
        }
        if new {
            metrics::counter!("flaghoist_login_new_places_total").increment(1);
            // Also for whoever is reached by no message.
            let (address, told) = (sign_in.event.origin.shown_address(), sign_in.message.is_some());
            tracing::info!(%user, address, told, "somebody has signed in from a new place");
            self.post.wake.notify_one();
        }
        Ok(())
    }
}

/// A time for people of whatever place.
fn written(time: SystemTime) -> String {
    httpdate::fmt_http_date(time)
}
