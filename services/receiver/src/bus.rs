//! The bus between the pods of the receiver: what one of them learns and streams on others should know at once. It is a hint and
//! nothing more: every word on it may come late, twice, in another order or never, and what it says is found in the store all the
//! same. So nothing here waits for it, and nothing is answered because of it.
//!
//! A pod hears of a conversation while one of its streams belongs to it, and of a person while one of theirs is open here.

mod address;
mod local;
mod nats;
mod word;

use std::sync::Arc;

use async_trait::async_trait;
use flaghoist_runtime::Drain;
use flaghoist_runtime::names::{ConversationId, UserId};
use tokio::sync::watch;
use tokio::time::Instant;

pub use address::BusAddress;
pub(crate) use local::LocalBus;
pub(crate) use nats::NatsBus;
pub(crate) use word::{Events, Word};

/// What is spoken about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    /// A conversation: its events, receipts, who is typing.
    Conversation(ConversationId),
    /// A person: what concerns them alone.
    User(UserId),
}

/// Whether the other pods can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Words come through, since then.
    Up(Instant),
    /// They do not.
    Down,
}

/// The way to the other pods.
#[async_trait]
pub(crate) trait Bus: std::fmt::Debug + Send + Sync + 'static {
    /// Whether there can be other pods.
    fn shared(&self) -> bool;

    /// Begins to hear, until the drain is over.
    fn start(&self, listener: Arc<dyn Listener>, drain: Drain);

    /// Tells the other pods, if it can. Never waits. Past the bounds only the newest event of each conversation is kept in mind.
    fn tell(&self, subject: Subject, word: &Word);

    /// As [`Self::tell`], for events of one conversation.
    fn tell_events(&self, conversation: ConversationId, events: &Events<'_>);

    /// Takes note that the answer of [`Listener::follows`] has become another one.
    fn interest_changed(&self, subject: Subject);

    /// Waits until everything that interests this pod is heard here, a short time at most.
    async fn settled(&self);

    /// Whether the other pods can be reached, and a way to learn of changes.
    fn state(&self) -> watch::Receiver<State>;

    /// How many words wait to be said.
    #[cfg(test)]
    fn depth(&self) -> usize {
        0
    }
}

/// Who listens to the bus.
pub(crate) trait Listener: Send + Sync + 'static {
    /// Whether this pod wants to hear of it.
    fn follows(&self, subject: Subject) -> bool;

    /// From now on these are heard. What was said shortly before was not.
    fn followed(&self, subjects: &[Subject]);

    /// Another pod said something.
    fn heard(&self, subject: Subject, word: Word);
}
