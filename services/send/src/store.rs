//! What send asks of a store. A store is whatever passes `store/conformance.rs`: one test for each promise made here.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use flaghoist_runtime::names::{ConversationId, UserId};
use flaghoist_runtime::time::millis;

use crate::conversation::{Head, Member, View};
use crate::error::Error;
use crate::event::{Answer, Event, Message, Op, Watermark};

pub(crate) mod postgres;
pub(crate) mod sqlite;
pub(crate) mod transfer;
mod walk;

#[cfg(test)]
mod conformance;

/// Events of one conversation that a person may see, in order.
#[derive(Debug)]
pub(crate) struct Slice {
    /// Each event with the `seq` of the one before it that the person may see.
    pub(crate) events: Vec<(Event, u64)>,
    /// The log was read up to here; events up to here that are missing are not for this person.
    pub(crate) read_through_seq: u64,
    /// The newest event that the person may see.
    pub(crate) last_seq: u64,
}

/// Messages of one conversation that a person may see, as they are now.
#[derive(Debug)]
pub(crate) struct Messages {
    /// The messages in the order asked for.
    pub(crate) messages: Vec<Message>,
    /// Where to go on; none at the end.
    pub(crate) next: Option<u64>,
}

/// A conversation for a person, with receipts of the others.
#[derive(Debug)]
pub(crate) struct HeadView {
    /// The conversation.
    pub(crate) head: Head,
    /// The person in it.
    pub(crate) member: Member,
    /// Receipts of the others.
    pub(crate) receipts: Vec<Watermark>,
}

/// What is new in one conversation.
#[derive(Debug)]
pub(crate) struct Change {
    /// The conversation.
    pub(crate) conversation: ConversationId,
    /// Its newest event.
    pub(crate) last_seq: u64,
    /// People who became members.
    pub(crate) added: Vec<UserId>,
    /// People who ceased to be members.
    pub(crate) removed: Vec<UserId>,
    /// Receipts that rose.
    pub(crate) receipts: Vec<Watermark>,
}

/// How far a message has come.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// How many of the other members it could reach.
    pub(crate) recipient_count: u32,
    /// How many of them it has reached.
    pub(crate) delivered_count: u32,
    /// How many of them have read it.
    pub(crate) read_count: u32,
    /// How far each of them has come; none in large groups.
    pub(crate) receipts: Vec<Watermark>,
}

/// A page of something, and after what the next one begins.
#[derive(Debug)]
pub(crate) struct Page<T> {
    /// The entries.
    pub(crate) entries: Vec<T>,
    /// Where the next page begins; none at the end.
    pub(crate) next: Option<i64>,
}

/// Keeps conversations, their members and their logs.
#[async_trait]
pub(crate) trait Store: Send + Sync + std::fmt::Debug + 'static {
    /// The store's life: never 0; another one after a restore, or when the file or the database is another.
    fn epoch(&self) -> u64;

    /// The time that [`Store::recent_changes`] goes by, in milliseconds: of all that is committed later, nothing is missed by who
    /// asks for changes since then and a little before. A store that pods share has a clock of its own.
    async fn now(&self) -> Result<i64, Error> {
        Ok(millis(SystemTime::now()))
    }

    /// How far apart batches should begin, where a small one costs others more than its calls gain by not waiting.
    fn pace(&self) -> Duration {
        Duration::ZERO
    }

    /// Commits a batch; one answer for each call, in order.
    ///
    /// - What is answered without an error is on disk: it survives the loss of power.
    /// - `seq` is dense in each conversation, in commit order, also when calls of the batch are refused.
    /// - One request (sender, conversation, `request_id`) becomes one event, whoever else writes, in one batch or in many,
    ///   before and after a restart. The same request with another digest is refused.
    /// - A call that is answered with an error left nothing, but for `Unavailable`: then it is unknown, and the same call made
    ///   again finds what it did or does it. The store works again by itself once the reason has gone.
    /// - The cost of a call depends neither on the length of the log nor on the size of the group.
    /// - Watermarks only rise, and not beyond the end of what the person may see.
    /// - An erased message's bytes, and those of its edits, are gone from the store.
    async fn commit(&self, ops: Vec<Op>) -> Vec<Answer>;

    /// A conversation as someone who is or was in it sees it. What was committed before is seen.
    async fn conversation(&self, person: UserId, id: ConversationId) -> Result<Option<View>, Error>;

    /// The conversations that a person is in and does not hide, in the order in which they were begun.
    async fn conversations(&self, person: UserId, after: i64, limit: usize) -> Result<Page<View>, Error>;

    /// The members of a conversation, ordered by id.
    async fn members(
        &self,
        id: ConversationId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<(UserId, Member)>, Error>;

    /// A message as it is now, if the person may see it.
    async fn message(&self, person: UserId, id: ConversationId, seq: u64) -> Result<Option<Message>, Error>;

    /// Messages beyond `from`, which is not included: later ones if `oldest_first`, else earlier ones. A page may be shorter
    /// than asked for although more follow. None if the person never was in the conversation.
    async fn messages(
        &self,
        person: UserId,
        id: ConversationId,
        from: u64,
        oldest_first: bool,
        limit: usize,
    ) -> Result<Option<Messages>, Error>;

    /// Events after a position, `bytes_max` of content at most but at least one. A later `seq` is never seen before an
    /// earlier one exists. None if the person never was in the conversation.
    async fn events(
        &self,
        person: UserId,
        id: ConversationId,
        after_seq: u64,
        limit: usize,
        bytes_max: usize,
    ) -> Result<Option<Slice>, Error>;

    /// The conversations that a person is or was in, or those of them that are named, with the receipts of others since a
    /// time in milliseconds.
    async fn heads(
        &self,
        person: UserId,
        only: &[ConversationId],
        receipts_since: Option<i64>,
        after: i64,
        limit: usize,
    ) -> Result<Page<HeadView>, Error>;

    /// The conversations in which anything was committed since a time in milliseconds, a minute ago at most; none is missed by
    /// who looks back 15 seconds each time: what is committed is never older than that.
    async fn recent_changes(&self, since: i64, after: i64, limit: usize) -> Result<Page<Change>, Error>;

    /// Overwrites what was kept of a person's requests in the events after `after_seq` up to `through_seq`, and where nobody else
    /// ever was in the conversation its titles, too. Costs as much as reading that stretch of the log; may be repeated.
    async fn blank(&self, person: UserId, id: ConversationId, after_seq: u64, through_seq: u64) -> Result<(), Error>;

    /// Forgets that a person was in conversations of which they are no member any more, and how far they had read there. What is no
    /// longer theirs is not found again by [`Store::heads`]. With `all`, these were the last ones.
    async fn forget(&self, person: UserId, ids: &[ConversationId], all: bool) -> Result<(), Error>;

    /// How far a message has come, if the person may see it.
    async fn progress(&self, person: UserId, id: ConversationId, seq: u64) -> Result<Option<Progress>, Error>;
}
