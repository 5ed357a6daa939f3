//! What is kept of what happened to accounts. As with [`super::Store`], the comments are promises.

use async_trait::async_trait;
use flaghoist_runtime::names::UserId;

use super::StoreError;
use super::outbox::{Also, Outgoing};
use crate::history::{Event, EventKind, NewEvent};
use crate::throttle::AttemptKey;

/// How many events of an account are kept, beside those that are refusals.
pub(crate) const EVENTS_MAX: i64 = 150;
/// How many refusals of an account are kept: whoever guesses does not push out what else happened.
pub(crate) const REFUSALS_MAX: i64 = 50;
/// How long an event is kept, in milliseconds.
pub(crate) const EVENTS_FOR_MS: i64 = 90 * 24 * 60 * 60 * 1000;
/// Events of this kind are refusals.
pub(crate) const REFUSAL: EventKind = EventKind::FactorRefused;

/// A finished sign-in.
#[derive(Clone, Debug)]
pub(crate) struct FinishedSignIn {
    /// What attempts at the account from the person's address are counted under.
    pub(crate) address: AttemptKey,
    /// The keys of those places whose attempts are forgotten by it, as by [`super::Store::attempt_succeeded`]; the address may be one of them.
    pub(crate) succeeded: Vec<AttemptKey>,
    pub(crate) event: NewEvent,
    /// What the person is told of a new place, if they can be reached.
    pub(crate) message: Option<Outgoing>,
}

/// Events. They go with the account.
#[async_trait]
pub(crate) trait HistoryStore: Send + Sync + 'static {
    /// Keeps what is there beside a change that is kept elsewhere. Does nothing for people who are gone.
    async fn note(&self, also: &Also, now: i64) -> Result<(), StoreError>;

    /// Keeps a finished sign-in. Where it came from is known from then on; `known_max` known places an account are kept, the latest. Where
    /// the person has signed in before, and either the address or the device is new, the message is kept, too, and the answer is `true`.
    async fn signed_in(&self, sign_in: &FinishedSignIn, known_max: u32, now: i64) -> Result<bool, StoreError>;

    /// What happened to an account before the event `before`, the newest first.
    async fn events(&self, user: UserId, before: Option<i64>, max: u32) -> Result<Vec<Event>, StoreError>;
}
