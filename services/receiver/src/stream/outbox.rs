//! What a stream is about to say. Events keep their order; what is state (receipts, typing, acknowledgements) is kept once per
//! thing it is about, so that a reader who does not read costs a bounded amount of memory.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use flaghoist_proto::receiver::v1::ResetReason;
use flaghoist_proto::send::v1::Event;
use flaghoist_runtime::names::{ConversationId, UserId};
use prost::Message as _;

/// How many events may wait before live ones are only noted.
const LIVE_MAX: usize = 64;

/// How many bytes of events may wait before live ones are only noted.
const LIVE_MAX_BYTES: usize = 256 * 1024;

/// How many events may wait while the log is read for more.
const LOG_MAX: usize = 8;

/// How many receipts may wait; past it they are asked for again later.
pub(crate) const RECEIPTS_MAX: usize = 1024;

/// How many people typing are kept; who types beyond it is not shown.
const TYPING_MAX: usize = 32;

/// One thing to say.
#[derive(Debug)]
pub(crate) enum Said {
    /// An event, and the one before it that the person may see.
    Event { conversation: ConversationId, event: Arc<Event>, previous_seq: u64, bytes: usize },
    /// Positions that are durable.
    Acknowledged(Vec<(ConversationId, u64)>),
    /// Everything stored before the opening has been sent.
    CaughtUp,
    /// How far another member has come.
    Receipt(ConversationId, UserId, Watermarks),
    /// Someone is typing.
    Typing(ConversationId, UserId),
    /// A position was not of this store; all of them without a conversation.
    Reset(ResetReason, Option<ConversationId>),
    /// A sign of life.
    Heartbeat,
    /// The server is about to stop.
    Drain(Duration),
}

/// How far a member has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Watermarks {
    pub(crate) epoch: u64,
    pub(crate) delivered_seq: u64,
    pub(crate) read_seq: u64,
}

impl Watermarks {
    /// Raises each to the other's; one of a newer reading of another epoch replaces.
    pub(crate) fn raise(&mut self, other: Self) {
        if self.epoch == other.epoch {
            self.delivered_seq = self.delivered_seq.max(other.delivered_seq);
            self.read_seq = self.read_seq.max(other.read_seq);
        } else {
            *self = other;
        }
    }
}

/// What waits to be said.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    queue: VecDeque<Said>,
    events: usize,
    events_bytes: usize,
    acknowledged: BTreeMap<ConversationId, u64>,
    receipts: BTreeMap<(ConversationId, UserId), Watermarks>,
    receipts_missed: bool,
    typing: VecDeque<(ConversationId, UserId)>,
}

impl Outbox {
    /// Adds something that is said once and in order.
    pub(crate) fn push(&mut self, said: Said) {
        self.queue.push_back(said);
    }

    /// Adds an event.
    pub(super) fn push_event(&mut self, conversation: ConversationId, event: Arc<Event>, previous_seq: u64) {
        self.events += 1;
        let bytes = event.encoded_len();
        self.events_bytes += bytes;
        self.queue.push_back(Said::Event { conversation, event, previous_seq, bytes });
    }

    /// Adds a durable position.
    pub(super) fn acknowledged(&mut self, conversation: ConversationId, seq: u64) {
        let durable = self.acknowledged.entry(conversation).or_default();
        *durable = seq.max(*durable);
    }

    /// Adds a receipt.
    pub(crate) fn receipt(&mut self, conversation: ConversationId, member: UserId, watermarks: Watermarks) {
        if self.receipts.len() >= RECEIPTS_MAX && !self.receipts.contains_key(&(conversation, member)) {
            self.receipts_missed = true;
        } else {
            self.receipts.entry((conversation, member)).or_default().raise(watermarks);
        }
    }

    /// Drops the receipts of conversations that are not to be shown.
    pub(super) fn keep_receipts(&mut self, shown: impl Fn(ConversationId) -> bool) {
        self.receipts.retain(|(conversation, _), _| shown(*conversation));
    }

    /// Whether receipts had no room, and there is room again; says so once.
    pub(crate) fn take_receipts_missed(&mut self) -> bool {
        self.receipts.is_empty() && std::mem::take(&mut self.receipts_missed)
    }

    /// Takes note that receipts are missing.
    pub(crate) fn miss_receipts(&mut self) {
        self.receipts_missed = true;
    }

    /// Adds someone who is typing.
    pub(crate) fn typing(&mut self, conversation: ConversationId, member: UserId) {
        if self.typing.len() < TYPING_MAX && !self.typing.contains(&(conversation, member)) {
            self.typing.push_back((conversation, member));
        }
    }

    /// Whether a live event may be added.
    pub(super) fn takes_live(&self) -> bool {
        self.events < LIVE_MAX && self.events_bytes < LIVE_MAX_BYTES
    }

    /// Whether events of the log may be added.
    pub(super) fn wants_log(&self) -> bool {
        self.events <= LOG_MAX && self.events_bytes < LIVE_MAX_BYTES
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.acknowledged.is_empty() && self.receipts.is_empty() && self.typing.is_empty()
    }

    /// The next thing to say; receipts and typing only to a stream that has `caught_up`.
    pub(super) fn pop(&mut self, caught_up: bool) -> Option<Said> {
        if !self.acknowledged.is_empty() {
            return Some(Said::Acknowledged(std::mem::take(&mut self.acknowledged).into_iter().collect()));
        }
        if let Some(said) = self.queue.pop_front() {
            if let Said::Event { bytes, .. } = &said {
                self.events -= 1;
                self.events_bytes -= bytes;
            }
            if self.queue.is_empty() {
                // An idle stream holds no buffer.
                self.queue = VecDeque::new();
            }
            return Some(said);
        }
        if !caught_up {
            return None;
        }
        if let Some(((conversation, member), watermarks)) = self.receipts.pop_first() {
            return Some(Said::Receipt(conversation, member, watermarks));
        }
        self.typing.pop_front().map(|(conversation, member)| Said::Typing(conversation, member))
    }
}
