//! Finished sign-ins: from where they came is known from then on, people see them, and are told of those from a new place.

use std::time::SystemTime;

use flaghoist_runtime::fault::chain;
use flaghoist_runtime::names::UserId;

use super::sign_in::KNOWN_ADDRESSES_MAX;
use super::{Accounts, now};
use crate::account::Account;
use crate::contact::Contacts;
use crate::error::Error;
use crate::factor::Proof;
use crate::history::{Event, EventKind, NewEvent, Origin};
use crate::notify::Content;

impl Accounts {
    /// What happened to an account before the event `before`, the newest first.
    pub(crate) async fn events(&self, user: UserId, before: Option<i64>, max: u32) -> Result<Vec<Event>, Error> {
        Ok(self.store.events(user, before, max).await?)
    }

    /// Keeps a finished sign-in. The person is in, so what fails here is logged.
    pub(super) async fn signed_in(
        &self,
        account: &Account,
        contacts: &Contacts,
        proof: Proof,
        client_id: String,
        origin: Origin,
    ) {
        let user = account.user;
        if let Err(error) = self.keep_sign_in(account, contacts, proof, client_id, origin).await {
            tracing::warn!(%user, error = %chain(&error), "a sign-in could not be noted");
        }
    }

    async fn keep_sign_in(
        &self,
        account: &Account,
        contacts: &Contacts,
        proof: Proof,
        client_id: String,
        origin: Origin,
    ) -> Result<(), Error> {
        let content = Content::SignIn {
            at: written(SystemTime::now()),
            address: origin.shown_address(),
            agent: origin.agent().to_owned(),
        };
        let message = self.notice(account, contacts, content)?;
        let key = self.attempt_keys.of(&account.handle, origin.address);
        let event = NewEvent { user: account.user, kind: EventKind::SignedIn, origin, amr: proof.amr(), client_id };
        if self.store.signed_in(key, KNOWN_ADDRESSES_MAX, &event, message.as_ref(), now()).await? {
            metrics::counter!("flaghoist_login_new_places_total").increment(1);
            // Also for whoever is reached by no message.
            let (user, address, told) = (event.user, event.origin.shown_address(), message.is_some());
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
