//! Contacts: set, verified by a code, and removed by their owner; never taken for verified before someone has brought the code.

use std::time::{Duration, SystemTime};

use flaghoist_runtime::names::UserId;
use flaghoist_runtime::time::millis;

use super::factors::Owner;
use super::sign_in::KNOWN_ADDRESSES_MAX;
use super::{Accounts, now};
use crate::contact::{Contact, ContactCode, ContactKind, Contacts};
use crate::error::Error;
use crate::history::{EventKind, NewEvent, Origin};
use crate::notify::Content;
use crate::store::contacts::PendingContact;
use crate::store::outbox::Also;
use crate::throttle::quota::Limit;
use crate::throttle::{Delays, FACTOR_STRANGERS_DELAY_MAX};

/// How long a code is good.
const CODE_FOR: Duration = Duration::from_secs(15 * 60);

/// What came of setting a contact.
#[derive(Debug)]
pub(crate) struct ContactSet {
    /// The contact in its normal form.
    pub(crate) contact: Contact,
    /// Until when its code is awaited; none if it is verified already.
    pub(crate) expires_at: Option<SystemTime>,
}

impl Accounts {
    /// Whether messages to this kind of contact leave the installation.
    pub(crate) fn reaches(&self, kind: ContactKind) -> bool {
        self.post.notifier.reaches(kind)
    }

    /// The contacts of a person.
    pub(crate) async fn contacts(&self, user: UserId) -> Result<Contacts, Error> {
        Ok(self.store.contacts(user, now()).await?)
    }

    /// Sends a code to a contact. The one that was there stays until the code is brought.
    pub(crate) async fn set_contact(&self, owner: Owner, kind: ContactKind, typed: &str) -> Result<ContactSet, Error> {
        let contact = Contact::read(kind, typed)?;
        self.may_change(&owner).await?;
        let user = owner.user;
        let account = self.get(user).await?;
        if self.store.contacts(user, now()).await?.verified(kind) == Some(&contact) {
            return Ok(ContactSet { contact, expires_at: None });
        }
        if !self.post.notifier.reaches(kind) {
            return Err(Error::ContactUnreachable(if kind == ContactKind::Email {
                "email addresses"
            } else {
                "phones"
            }));
        }
        self.take(Limit::Messages, self.attempt_keys.bucket_of_person(Limit::Messages, user)).await?;
        // Nobody's mailbox is filled by many accounts either.
        self.take(Limit::Messages, self.attempt_keys.bucket_of_contact(Limit::Messages, &contact)).await?;
        let code = ContactCode::generate();
        let expires_at = SystemTime::now() + CODE_FOR;
        let content = Content::Code(code.text().to_owned());
        let message = self.message(&account, contact.clone(), content, CODE_FOR)?;
        let digest = self.attempt_keys.of_code(user, &contact, &code);
        let change = PendingContact { contact: contact.clone(), code: digest, expires_at: millis(expires_at) };
        if !self.store.begin_contact(user, &change, &message, now()).await? {
            return Err(Error::AccountUnknown(user.name()));
        }
        self.post.wake.notify_one();
        Ok(ContactSet { contact, expires_at: Some(expires_at) })
    }

    /// Takes the code that was sent to a contact, which is the person's from then on. The one that it replaces is told.
    pub(crate) async fn verify_contact(
        &self,
        user: UserId,
        kind: ContactKind,
        code: Option<ContactCode>,
        origin: Origin,
    ) -> Result<Contacts, Error> {
        self.take_from(Limit::Attempts, origin.address).await?;
        let delays = Delays { strangers_max: FACTOR_STRANGERS_DELAY_MAX, ..self.delays };
        let key = self.attempt_keys.of_contact(kind, user, origin.address);
        if let Some(wait) = self.store.reserve_attempt(key, delays, now()).await? {
            metrics::counter!("flaghoist_login_refused_total", "limit" => kind.label()).increment(1);
            return Err(Error::RateLimited(wait));
        }
        let account = self.get(user).await?;
        let before = self.store.contacts(user, now()).await?;
        let pending = before.pending.iter().find(|contact| contact.kind == kind);
        let (Some(code), Some(pending)) = (code, pending) else { return Err(Error::CodeInvalid) };
        let digest = self.attempt_keys.of_code(user, pending, &code);
        let mut also =
            Also { event: Some(NewEvent::change(user, EventKind::ContactChanged, origin)), messages: Vec::new() };
        if let Some(old) = before.verified(kind) {
            also.messages.push(self.message(
                &account,
                old.clone(),
                Content::Replaced(kind),
                super::post::NOTICE_FOR,
            )?);
        }
        if !self.store.verify_contact(user, kind, digest, &also, now()).await? {
            return Err(Error::CodeInvalid);
        }
        self.post.wake.notify_one();
        self.store.attempt_succeeded(key, Some(KNOWN_ADDRESSES_MAX), now()).await?;
        self.tell_profile(user);
        self.contacts(user).await
    }

    /// Removes a contact, which is told.
    pub(crate) async fn remove_contact(&self, owner: Owner, kind: ContactKind) -> Result<(), Error> {
        self.may_change(&owner).await?;
        let user = owner.user;
        let account = self.get(user).await?;
        let mut also =
            Also { event: Some(NewEvent::change(user, EventKind::ContactRemoved, owner.origin)), messages: Vec::new() };
        if let Some(old) = self.store.contacts(user, now()).await?.verified(kind) {
            also.messages.push(self.message(&account, old.clone(), Content::Removed(kind), super::post::NOTICE_FOR)?);
        }
        if !self.store.remove_contact(user, kind, &also, now()).await? {
            return Err(Error::ContactUnknown);
        }
        self.post.wake.notify_one();
        self.tell_profile(user);
        Ok(())
    }
}
