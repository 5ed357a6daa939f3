//! What is kept of messages on their way to people. As with [`super::Store`], the comments are promises.

use async_trait::async_trait;
use flaghoist_runtime::names::UserId;
use flaghoist_runtime::seal::Sealed;

use super::StoreError;
use crate::history::NewEvent;

/// How many messages to one person may wait; further ones are not kept.
pub(crate) const WAITING_MAX: i64 = 20;

/// Messages. They are kept in the commit of the change that they are about, and go with the account.
#[async_trait]
pub(crate) trait OutboxStore: Send + Sync + 'static {
    /// Gives out messages that are due and of use, those that wait longest first. Nobody else gets them before `until`: of many at once each gets
    /// others.
    async fn claim_messages(&self, now: i64, until: i64, max: u32) -> Result<Vec<Claimed>, StoreError>;

    /// Removes a message that was handed over, or never will be.
    async fn message_done(&self, id: i64) -> Result<(), StoreError>;

    /// Gives a message out again at `next_at`.
    async fn put_off_message(&self, id: i64, next_at: i64) -> Result<(), StoreError>;
}

/// A message that is to be kept.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) user: UserId,
    pub(crate) sealed: Sealed,
    /// After that time it is of no use.
    pub(crate) expires_at: i64,
}

/// A message that was given out.
#[derive(Clone, Debug)]
pub(crate) struct Claimed {
    pub(crate) id: i64,
    pub(crate) user: UserId,
    pub(crate) sealed: Sealed,
    /// How often it was given out, this time included.
    pub(crate) tries: u32,
}

/// What is written in the commit of a change beside the change: what its owner sees of it later, and who is told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Also {
    pub(crate) event: Option<NewEvent>,
    pub(crate) messages: Vec<Outgoing>,
}
