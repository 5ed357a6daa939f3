//! Messages to people on their way out: written beside the change that they are about, encrypted, and handed over afterwards, by
//! whichever pod takes them first. Nobody waits for that.
//!
//! A message is given out for a while, so one pod tries it at a time; a pod that dies while trying leaves it to the next, and the person may get
//! it twice. What cannot be handed over is tried again with growing pauses until it is of no use any more.

use std::sync::Arc;
use std::time::Duration;

use flaghoist_runtime::Drain;
use flaghoist_runtime::fault::chain;
use flaghoist_runtime::names::UserId;
use flaghoist_runtime::seal::{SealError, Sealer};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::{Accounts, now};
use crate::account::Account;
use crate::contact::{Contact, ContactKind, Contacts};
use crate::error::Error;
use crate::history::{EventKind, NewEvent};
use crate::notify::{Content, Message, Notifier, NotifyError};
use crate::store::Store;
use crate::store::outbox::{Also, Claimed, Outgoing};
use crate::throttle::millis;

/// How often it is looked for messages: those that another pod has left, or that were put off.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long a message is one pod's. Handing it over takes less.
const TRY_WITHIN: Duration = Duration::from_secs(120);
/// How many are tried at once.
const AT_ONCE: u32 = 8;
/// The pause after the first try, which doubles.
const PAUSE: Duration = Duration::from_secs(5);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(15 * 60);
/// How long a notice is of use.
pub(super) const NOTICE_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// Hands messages over.
#[derive(Clone)]
pub(crate) struct Post {
    pub(super) store: Arc<dyn Store>,
    pub(super) sealer: Arc<Sealer>,
    pub(super) notifier: Notifier,
    /// Called when there is a message that can go at once.
    pub(super) wake: Arc<Notify>,
}

impl Post {
    /// Hands messages over until the drain starts.
    pub(crate) async fn keep_sending(self, drain: Drain) {
        loop {
            match self.send_due().await {
                Ok(sent) if sent == AT_ONCE as usize => continue,
                Ok(_) => {}
                Err(error) => tracing::warn!(error = %chain(&error), "messages to people could not be looked for"),
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = self.wake.notified() => {}
                () = drain.started() => return,
            }
        }
    }

    /// One round; answers how many messages were tried.
    pub(crate) async fn send_due(&self) -> Result<usize, Error> {
        let now = now();
        let claimed = self.store.claim_messages(now, now.saturating_add(millis(TRY_WITHIN)), AT_ONCE).await?;
        let (tried, mut sending) = (claimed.len(), JoinSet::new());
        for message in claimed {
            let post = self.clone();
            sending.spawn(async move { post.send(&message).await });
        }
        while let Some(sent) = sending.join_next().await {
            sent.unwrap_or(Err(Error::Busy))?;
        }
        Ok(tried)
    }

    async fn send(&self, claimed: &Claimed) -> Result<(), Error> {
        let (id, user) = (claimed.id, claimed.user);
        let message = match self.open(claimed) {
            Ok(message) => message,
            Err(error) => {
                tracing::warn!(%user, error = %chain(&error), "a message cannot be read, and is given up");
                return Ok(self.store.message_done(id).await?);
            }
        };
        let label = message.content.label();
        let count = |outcome| {
            metrics::counter!("flaghoist_login_messages_total", "message" => label, "outcome" => outcome).increment(1);
        };
        match self.notifier.send(user, id, &message).await {
            Ok(()) => {
                count("sent");
                Ok(self.store.message_done(id).await?)
            }
            Err(error @ NotifyError::Never(_)) => {
                count("refused");
                tracing::warn!(%user, message = label, error = %chain(&error), "a message is not taken, and is given up");
                Ok(self.store.message_done(id).await?)
            }
            Err(error @ NotifyError::Later(_)) => {
                count("put off");
                let pause = PAUSE.saturating_mul(1 << claimed.tries.saturating_sub(1).min(16)).min(PAUSE_MAX);
                let pause_ms = pause.as_millis();
                tracing::warn!(%user, message = label, error = %chain(&error), pause_ms, "a message could not be sent");
                Ok(self.store.put_off_message(id, now().saturating_add(millis(pause))).await?)
            }
        }
    }

    fn open(&self, claimed: &Claimed) -> Result<Message, Unreadable> {
        let text = self.sealer.open(&seal_name(claimed.user), &claimed.sealed)?;
        Ok(serde_json::from_slice(&text)?)
    }
}

/// A message that was kept and cannot be read.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error("it is none of this version")]
    Text(#[from] serde_json::Error),
}

impl Accounts {
    /// Who hands messages over.
    pub(crate) fn post(&self) -> Post {
        self.post.clone()
    }

    /// A message to a person, to be kept in the commit of what it is about.
    pub(super) fn message(
        &self,
        account: &Account,
        to: Contact,
        content: Content,
        useful_for: Duration,
    ) -> Result<Outgoing, Error> {
        let message = Message {
            to,
            handle: account.handle.to_string(),
            language: account.language.clone(),
            host: self.host.clone(),
            content,
        };
        // Texts and numbers are always written.
        let text = zeroize::Zeroizing::new(serde_json::to_vec(&message).unwrap_or_default());
        let sealed = self.sealer.seal(&seal_name(account.user), &text)?;
        Ok(Outgoing { user: account.user, sealed, expires_at: now().saturating_add(millis(useful_for)) })
    }

    /// The contact at which a person is told what concerns their account: the email address, or else the phone number.
    pub(super) fn notice_contact(&self, contacts: &Contacts) -> Option<Contact> {
        let reached = [ContactKind::Email, ContactKind::Phone].into_iter().filter(|kind| {
            // What is not sent is in the log at least.
            self.post.notifier.reaches(*kind) || matches!(self.post.notifier, Notifier::Log)
        });
        reached.filter_map(|kind| contacts.verified(kind)).next().cloned()
    }

    /// A notice to a person, if they can be reached.
    pub(super) fn notice(
        &self,
        account: &Account,
        contacts: &Contacts,
        content: Content,
    ) -> Result<Option<Outgoing>, Error> {
        let to = self.notice_contact(contacts);
        to.map(|to| self.message(account, to, content, NOTICE_FOR)).transpose()
    }

    /// Notes that something about how a person signs in has changed, and tells them. The change is made, so what fails here is logged.
    pub(super) async fn note_change(&self, event: NewEvent) {
        let (user, kind) = (event.user, event.kind);
        tracing::info!(%user, ?kind, address = event.origin.shown_address(), "what an account is opened by has changed, or was tried");
        let noting = async {
            let also = self.also_changed(event).await?;
            self.store.note(&also, now()).await?;
            self.post.wake.notify_one();
            Ok::<_, Error>(())
        };
        if let Err(error) = noting.await {
            tracing::warn!(%user, ?kind, error = %chain(&error), "what happened to an account could not be noted");
        }
    }

    /// An event and the notice of it.
    pub(super) async fn also_changed(&self, event: NewEvent) -> Result<Also, Error> {
        let mut messages = Vec::new();
        if event.kind != EventKind::FactorRefused {
            let account = self.get(event.user).await?;
            let contacts = self.store.contacts(event.user, now()).await?;
            messages.extend(self.notice(&account, &contacts, Content::Changed(event.kind))?);
        }
        Ok(Also { event: Some(event), messages })
    }
}

fn seal_name(user: UserId) -> String {
    format!("a message to {}", user.name())
}
