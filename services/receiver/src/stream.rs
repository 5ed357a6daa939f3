//! One live stream as a machine without clock, network or store: what it has sent, what it may send next, and what its device has
//! acknowledged. Everything that happens to a stream is a method here, so that its promises can be tested by trying all orders.
//!
//! A live event goes out directly when it follows what was sent before it and there is credit. Otherwise only the new head is
//! noted, and the log is read when there is room: memory is bounded whatever the backlog.

mod outbox;
mod place;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use flaghoist_proto::send::v1::Event;
use flaghoist_runtime::names::ConversationId;

pub(crate) use outbox::{Outbox, Said, Watermarks};
use place::Place;

/// The most events that may be unacknowledged.
pub(crate) const WINDOW_MAX: u32 = 256;

/// How many events are asked of the log at once.
const READ_MAX: u32 = 64;

/// A place in the log of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) conversation: ConversationId,
    pub(crate) epoch: u64,
    pub(crate) seq: u64,
}

/// How far a conversation goes for the person of the stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) conversation: ConversationId,
    /// The newest event that the person may see.
    pub(crate) last_seq: u64,
    /// The first event that the person may see.
    pub(crate) first_seq: u64,
    pub(crate) member: bool,
    /// What the device has acknowledged, durably.
    pub(crate) acked_seq: u64,
}

/// What an event is to the person of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    /// They may see it.
    Visible,
    /// It is for someone else; only the order goes on.
    Hidden,
    /// It makes them a member.
    Joining,
    /// It is the last one that they see.
    Leaving,
}

/// Why an acknowledgement is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AckRefused {
    /// The conversation is not one of the person's.
    NotFound,
    /// The position lies in another epoch or beyond what exists.
    PositionInvalid,
}

/// A question to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) conversation: ConversationId,
    pub(crate) after_seq: u64,
    pub(crate) events_max: u32,
}

/// The answer of the log.
#[derive(Debug)]
pub(crate) struct ReadAnswer {
    pub(crate) events: Vec<Event>,
    /// How far the log was read; what is not in `events` up to here is not for this person.
    pub(crate) read_through_seq: u64,
    /// The newest event that the person may see.
    pub(crate) last_seq: u64,
}

/// What is known of a conversation before the heads are.
#[derive(Clone, Copy, Debug, Default)]
struct Early {
    head_seq: u64,
    /// The epoch that the acknowledgement belongs to, and how far it goes.
    acked: (u64, u64),
    joined: bool,
}

/// How far the stream is.
#[derive(Debug)]
enum Phase {
    /// The heads are being read; what happens meanwhile is kept.
    Opening(BTreeMap<ConversationId, Early>),
    /// Events flow. `behind` conversations have not been sent up to their head at the opening.
    Open { behind: u32 },
    /// Everything stored before the opening has been sent.
    CaughtUp,
}

/// One live stream.
#[derive(Debug)]
pub(crate) struct Stream {
    epoch: u64,
    window: u32,
    /// Events that were sent and are not acknowledged, those that still lie in the outbox too.
    unacked: u32,
    phase: Phase,
    places: HashMap<ConversationId, Place>,
    /// Conversations with more to send, each once.
    backlog: VecDeque<ConversationId>,
    reading: bool,
    /// Acknowledged and not yet durable.
    acking: BTreeMap<ConversationId, u64>,
    pub(crate) outbox: Outbox,
}

impl Stream {
    /// A stream whose heads are not known yet. A window of 0 is the default.
    pub(crate) fn new(window: i32) -> Self {
        let window = u32::try_from(window).ok().filter(|window| *window > 0).unwrap_or(WINDOW_MAX).min(WINDOW_MAX);
        Self {
            epoch: 0,
            window,
            unacked: 0,
            phase: Phase::Opening(BTreeMap::new()),
            places: HashMap::new(),
            backlog: VecDeque::new(),
            reading: false,
            acking: BTreeMap::new(),
            outbox: Outbox::default(),
        }
    }

    /// The epoch of the log that the stream shows; 0 while it is being opened.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// How many events are sent and not acknowledged.
    #[cfg(test)]
    pub(crate) fn unacked(&self) -> u32 {
        self.unacked
    }

    /// Starts to send: after the acknowledged position in each conversation.
    pub(crate) fn open(&mut self, epoch: u64, heads: impl IntoIterator<Item = Head>) {
        let Phase::Opening(early) = std::mem::replace(&mut self.phase, Phase::Open { behind: 0 }) else { return };
        self.epoch = epoch;
        let mut behind = 0;
        for head in heads {
            let mut place = Place::opened(&head);
            if place.is_behind() {
                place.opening_seq = place.head_seq;
                place.queued = true;
                self.backlog.push_back(head.conversation);
                behind += 1;
            }
            self.places.insert(head.conversation, place);
        }
        self.phase = Phase::Open { behind };
        for (conversation, early) in early {
            if early.joined {
                self.places.entry(conversation).or_default().member = true;
            }
            self.note_head(conversation, early.head_seq);
            let (epoch, seq) = early.acked;
            self.acked_elsewhere(&[Position { conversation, epoch, seq }]);
        }
        let places = &self.places;
        self.outbox.keep_receipts(|conversation| places.get(&conversation).is_some_and(|place| place.member));
        self.caught_up_if_nothing_is_behind();
    }

    /// A committed event arrives. Answers whether this stream has it to send, or has sent it.
    pub(crate) fn deliver(&mut self, conversation: ConversationId, event: &Arc<Event>, sight: Sight) -> bool {
        let seq = event.seq;
        if let Phase::Opening(early) = &mut self.phase {
            let early = early.entry(conversation).or_default();
            early.head_seq = early.head_seq.max(seq);
            early.joined |= sight == Sight::Joining;
            return false;
        }
        let place = match self.places.get_mut(&conversation) {
            Some(place) => place,
            None if sight == Sight::Joining => self.places.entry(conversation).or_default(),
            None => return false,
        };
        if !place.member && sight != Sight::Joining {
            return false;
        }
        place.member = sight != Sight::Leaving;
        place.head_seq = place.head_seq.max(seq);
        if seq <= place.through_seq {
            return sight != Sight::Hidden;
        }
        if place.through_seq + 1 != seq {
            self.queue(conversation);
            return false;
        }
        if sight == Sight::Hidden {
            place.through_seq = seq;
            return false;
        }
        // The heads at the opening may know of an event before it arrives here: then only the log knows what it follows.
        if place.unsure || self.unacked >= self.window || !self.outbox.takes_live() {
            self.queue(conversation);
            return false;
        }
        let previous_seq = place.sent(seq);
        self.unacked += 1;
        self.outbox.push_event(conversation, Arc::clone(event), previous_seq);
        self.reached(conversation, false);
        true
    }

    /// A conversation goes at least up to `seq`.
    pub(crate) fn note_head(&mut self, conversation: ConversationId, seq: u64) {
        if let Phase::Opening(early) = &mut self.phase {
            let early = early.entry(conversation).or_default();
            early.head_seq = early.head_seq.max(seq);
        } else if let Some(place) = self.places.get_mut(&conversation)
            && place.member
        {
            place.head_seq = place.head_seq.max(seq);
            self.queue(conversation);
        }
    }

    /// The person became a member by some event up to `seq`.
    pub(crate) fn joined(&mut self, conversation: ConversationId, seq: u64) {
        if let Phase::Opening(early) = &mut self.phase {
            early.entry(conversation).or_default().joined = true;
        } else {
            self.places.entry(conversation).or_default().member = true;
        }
        self.note_head(conversation, seq);
    }

    /// The person ceased to be a member by some event up to `seq`.
    pub(crate) fn left(&mut self, conversation: ConversationId, seq: u64) {
        self.note_head(conversation, seq);
        if let Some(place) = self.places.get_mut(&conversation) {
            place.member = false;
        }
    }

    /// What to read of the log next, if there is room for it. [`Self::read`], [`Self::read_gone`] or
    /// [`Self::read_failed`] follows.
    pub(crate) fn next_read(&mut self) -> Option<Read> {
        if self.reading || self.unacked >= self.window || !self.outbox.wants_log() {
            return None;
        }
        while let Some(conversation) = self.backlog.pop_front() {
            let Some(place) = self.places.get_mut(&conversation) else { continue };
            place.queued = false;
            if place.is_behind() {
                place.asked_seq = place.head_seq;
                self.reading = true;
                let events_max = (self.window - self.unacked).min(READ_MAX);
                return Some(Read { conversation, after_seq: place.through_seq, events_max });
            }
        }
        None
    }

    /// The log has answered. Says whether that was of use; otherwise there is no point in asking again at once.
    pub(crate) fn read(&mut self, read: Read, answer: ReadAnswer) -> bool {
        self.reading = false;
        let Some(place) = self.places.get_mut(&read.conversation) else { return true };
        let at_end = answer.read_through_seq >= answer.last_seq;
        for event in answer.events {
            // What came directly or was acknowledged meanwhile lies behind already.
            if event.seq <= place.through_seq {
                continue;
            }
            if self.unacked >= self.window {
                self.queue(read.conversation);
                self.reached(read.conversation, false);
                return true;
            }
            place.sent(event.seq);
            self.unacked += 1;
            let previous_seq = event.previous_seq;
            self.outbox.push_event(read.conversation, Arc::new(event), previous_seq);
        }
        let progress = at_end || place.through_seq.max(answer.read_through_seq) > read.after_seq;
        place.through_seq = place.through_seq.max(answer.read_through_seq);
        if at_end && place.head_seq <= place.asked_seq {
            // Nothing was noted since the question, so what was noted before is not for this person.
            place.head_seq = place.through_seq;
        }
        self.queue(read.conversation);
        self.reached(read.conversation, at_end);
        progress
    }

    /// The log says that the person has no such conversation any more.
    pub(crate) fn read_gone(&mut self, read: Read) {
        self.reading = false;
        if let Some(place) = self.places.get_mut(&read.conversation) {
            place.head_seq = place.through_seq;
            place.member = false;
        }
        self.reached(read.conversation, true);
    }

    /// The log did not answer; the same will be asked again.
    pub(crate) fn read_failed(&mut self, read: Read) {
        self.reading = false;
        if let Some(place) = self.places.get_mut(&read.conversation)
            && !place.queued
        {
            place.queued = true;
            self.backlog.push_front(read.conversation);
        }
    }

    /// The device acknowledges. Either all positions are taken, to be made durable, or none.
    pub(crate) fn acknowledge(&mut self, positions: &[Position]) -> Result<(), AckRefused> {
        self.check(positions)?;
        for position in positions {
            let seq = self.acking.entry(position.conversation).or_default();
            *seq = position.seq.max(*seq);
        }
        Ok(())
    }

    /// Whether the device may acknowledge these positions.
    pub(crate) fn check(&self, positions: &[Position]) -> Result<(), AckRefused> {
        positions.iter().try_for_each(|position| {
            let place = self.places.get(&position.conversation).ok_or(AckRefused::NotFound)?;
            // A device may acknowledge what an earlier stream brought it, so what exists is the bound, not what was sent.
            let exists = place.head_seq.max(place.through_seq);
            if position.epoch == self.epoch && position.seq <= exists {
                Ok(())
            } else {
                Err(AckRefused::PositionInvalid)
            }
        })
    }

    /// What has been acknowledged and is to be made durable.
    pub(crate) fn take_acks(&mut self) -> Vec<Position> {
        let epoch = self.epoch;
        std::mem::take(&mut self.acking)
            .into_iter()
            .map(|(conversation, seq)| Position { conversation, epoch, seq })
            .collect()
    }

    /// Whether acknowledgements wait to be made durable.
    pub(crate) fn has_acks(&self) -> bool {
        !self.acking.is_empty()
    }

    /// Acknowledgements of this stream could not be made durable; they are tried again.
    pub(crate) fn acks_failed(&mut self, positions: &[Position]) {
        for position in positions {
            let seq = self.acking.entry(position.conversation).or_default();
            *seq = position.seq.max(*seq);
        }
    }

    /// Acknowledgements of this stream are durable; the device is told so.
    pub(crate) fn acked(&mut self, positions: &[Position]) {
        for position in positions {
            self.durable(position.conversation, position.seq);
            self.outbox.acknowledged(position.conversation, position.seq);
        }
    }

    /// Acknowledgements that did not come on this stream are durable. Those of another epoch say nothing here.
    pub(crate) fn acked_elsewhere(&mut self, positions: &[Position]) {
        for position in positions {
            if let Phase::Opening(early) = &mut self.phase {
                let acked = &mut early.entry(position.conversation).or_default().acked;
                *acked = if acked.0 == position.epoch {
                    (acked.0, acked.1.max(position.seq))
                } else {
                    (position.epoch, position.seq)
                };
            } else if position.epoch == self.epoch && position.seq > 0 {
                self.durable(position.conversation, position.seq);
            }
        }
    }

    fn durable(&mut self, conversation: ConversationId, seq: u64) {
        if let Some(place) = self.places.get_mut(&conversation) {
            self.unacked -= place.acked(seq);
            self.reached(conversation, false);
        }
    }

    /// Whether nothing more may be sent until the device acknowledges.
    pub(crate) fn out_of_credit(&self) -> bool {
        self.unacked >= self.window
    }

    /// Something may have been said of a conversation that was not heard: its log is looked into.
    pub(crate) fn suspect(&mut self, conversation: ConversationId) {
        if let Some(place) = self.places.get(&conversation) {
            let next = place.through_seq + 1;
            self.note_head(conversation, next);
        }
    }

    /// The next thing to say.
    pub(crate) fn pop(&mut self) -> Option<Said> {
        let caught_up = matches!(self.phase, Phase::CaughtUp);
        loop {
            match self.outbox.pop(caught_up)? {
                // Acknowledged meanwhile: it does not come again.
                Said::Event { conversation, ref event, .. }
                    if self.places.get(&conversation).is_some_and(|place| event.seq <= place.acked_seq) => {}
                said => return Some(said),
            }
        }
    }

    /// Whether the log could be read now.
    pub(crate) fn wants_read(&self) -> bool {
        !self.reading && !self.backlog.is_empty() && self.unacked < self.window && self.outbox.wants_log()
    }

    /// Whether the person is a member of the conversation, as far as the stream knows.
    pub(crate) fn member(&self, conversation: ConversationId) -> bool {
        self.places.get(&conversation).is_some_and(|place| place.member)
    }

    /// Whether receipts had no room and there is room again now; says so once.
    pub(crate) fn take_receipts_missed(&mut self) -> bool {
        matches!(self.phase, Phase::CaughtUp) && self.outbox.take_receipts_missed()
    }

    /// Lets go of everything, and answers the conversations that the stream knew.
    pub(crate) fn close(&mut self) -> Vec<ConversationId> {
        self.backlog = VecDeque::new();
        self.acking = BTreeMap::new();
        self.outbox = Outbox::default();
        let early = match std::mem::replace(&mut self.phase, Phase::CaughtUp) {
            Phase::Opening(early) => early.into_keys().collect(),
            _ => Vec::new(),
        };
        std::mem::take(&mut self.places).into_keys().chain(early).collect()
    }

    /// Puts a conversation into the backlog if there is more of it to send.
    fn queue(&mut self, conversation: ConversationId) {
        if let Some(place) = self.places.get_mut(&conversation)
            && place.is_behind()
            && !place.queued
        {
            place.queued = true;
            self.backlog.push_back(conversation);
        }
    }

    /// Takes note when a conversation has reached what was stored before the opening, or its end.
    fn reached(&mut self, conversation: ConversationId, at_end: bool) {
        if let Phase::Open { behind } = &mut self.phase
            && let Some(place) = self.places.get_mut(&conversation)
            && place.opening_seq > 0
            && (at_end || place.through_seq >= place.opening_seq)
        {
            place.opening_seq = 0;
            *behind -= 1;
            self.caught_up_if_nothing_is_behind();
        }
    }

    fn caught_up_if_nothing_is_behind(&mut self) {
        if matches!(self.phase, Phase::Open { behind: 0 }) {
            self.phase = Phase::CaughtUp;
            self.outbox.push(Said::CaughtUp);
        }
    }
}
