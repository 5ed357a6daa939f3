//! What was answered and heard, and what that forbids from then on.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use flaghoist_proto::receiver::v1::Position;
use flaghoist_proto::send::v1::event::Change;
use flaghoist_proto::send::v1::{CreateMessageResponse, Event, Message, Receipt};

use super::load::Attempt;

/// Everything that was seen from outside.
#[derive(Debug, Default)]
pub struct Book {
    pages: Mutex<Pages>,
}

#[derive(Debug, Default)]
struct Pages {
    /// By conversation and `seq`, the text that a message was seen with, by whatever way.
    texts: HashMap<(String, u64), String>,
    /// By `request_id`, the `seq` that its send was answered with.
    answered: HashMap<String, Answered>,
    /// Sends whose answer never came.
    unanswered: Vec<Attempt>,
    /// What each device has heard.
    devices: HashMap<(usize, &'static str), Device>,
    /// When a send was answered, by conversation and `seq`; only while it is of interest how late delivery is.
    sent_at: BTreeMap<(String, u64), Instant>,
    /// The latest delivery on a live stream since that was asked last.
    late: Duration,
    /// The highest watermarks that anyone was told, by conversation and member.
    watermarks: HashMap<(String, String), (u64, u64)>,
    /// The first broken promise.
    broken: Option<String>,
    totals: Totals,
}

#[derive(Clone, Debug)]
struct Answered {
    conversation: String,
    seq: u64,
    message_no: u64,
}

/// What one device has heard, by conversation.
#[derive(Debug, Default)]
struct Device {
    /// Since when its stream delivers live; unset while it has none that has caught up.
    live_since: Option<Instant>,
    conversations: HashMap<String, Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    /// Up to where everything has come at least once.
    through: u64,
    /// The highest acknowledgement that was sent.
    said: u64,
    /// The highest acknowledgement that was answered.
    acknowledged: u64,
    /// The last event of the stream that is open now; 0 when none has come on it.
    on_this_stream: u64,
}

/// What a crash test has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Sends that were answered.
    pub sends_answered: u64,
    /// Sends that lost their answer and were repeated.
    pub sends_repeated: u64,
    /// Of these, how many had been stored before the crash.
    pub repeated_were_stored: u64,
    /// Events on all streams.
    pub events_heard: u64,
    /// Of these, how many had come before.
    pub events_again: u64,
    /// Acknowledgements that were answered.
    pub acknowledgements: u64,
    /// Watermarks that were looked at.
    pub watermarks: u64,
}

impl fmt::Display for Totals {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sends_answered, sends_repeated, repeated_were_stored, .. } = self;
        let Self { events_heard, events_again, acknowledgements, watermarks, .. } = self;
        write!(
            formatter,
            "{sends_answered} sends answered ({sends_repeated} repeated, {repeated_were_stored} of them were stored), \
             {events_heard} events heard ({events_again} again), {acknowledgements} acknowledgements answered, \
             {watermarks} watermarks seen"
        )
    }
}

impl Book {
    /// A send was answered.
    pub(crate) fn sent(&self, attempt: &Attempt, answer: &CreateMessageResponse, repeated: bool) {
        let mut pages = self.pages();
        let Some(message) = &answer.message else { return pages.breaks("a send was answered without its message") };
        let Some(seq) = seq_of(message) else { return pages.breaks(format!("a message without seq: {message:?}")) };
        if message.text != attempt.text {
            pages.breaks(format!("{} was answered with another text: {message:?}", attempt.request_id));
        }
        let new = Answered { conversation: attempt.conversation.clone(), seq, message_no: message.message_no };
        match pages.answered.get(&attempt.request_id) {
            Some(old) if old.seq != seq => {
                let broken = format!("promise 2: {} became seq {} and {seq}", attempt.request_id, old.seq);
                pages.breaks(broken);
            }
            Some(_) => {}
            None => {
                pages.totals.sends_answered += 1;
                pages.answered.insert(attempt.request_id.clone(), new);
            }
        }
        pages.sent_at.entry((attempt.conversation.clone(), seq)).or_insert_with(Instant::now);
        if repeated {
            pages.totals.sends_repeated += 1;
            pages.totals.repeated_were_stored += u64::from(answer.deduplicated);
        }
        pages.text(&attempt.conversation, seq, &message.text);
    }

    /// A send got no answer.
    pub(crate) fn lost(&self, attempt: Attempt) {
        self.pages().unanswered.push(attempt);
    }

    /// The sends without an answer; they are taken out.
    pub(crate) fn unanswered(&self) -> Vec<Attempt> {
        std::mem::take(&mut self.pages().unanswered)
    }

    /// A device opened a stream.
    pub(crate) fn opened(&self, person: usize, device: &'static str) {
        let mut pages = self.pages();
        let device = pages.devices.entry((person, device)).or_default();
        device.live_since = None;
        for heard in device.conversations.values_mut() {
            heard.on_this_stream = 0;
        }
    }

    /// A device's stream has sent all that was stored; from now on events come live.
    pub(crate) fn caught_up(&self, person: usize, device: &'static str) {
        self.pages().devices.entry((person, device)).or_default().live_since = Some(Instant::now());
    }

    /// A device's stream is over.
    pub(crate) fn closed(&self, person: usize, device: &'static str) {
        self.pages().devices.entry((person, device)).or_default().live_since = None;
    }

    /// How late the latest delivery on a live stream was since this was asked last, counted from the answer of the send, or from
    /// when the stream had caught up. What is not delivered yet counts as delivered now.
    pub(crate) fn latest_delivery(&self) -> Duration {
        let mut pages = self.pages();
        let now = Instant::now();
        let mut late = std::mem::take(&mut pages.late);
        for device in pages.devices.values() {
            let Some(live_since) = device.live_since else { continue };
            for (conversation, heard) in &device.conversations {
                // Numbers are dense: the next one is the oldest that is missing.
                let next = (conversation.clone(), heard.through + 1);
                if let Some(&sent_at) = pages.sent_at.get(&next) {
                    late = late.max(now.saturating_duration_since(sent_at.max(live_since)));
                }
            }
        }
        pages.sent_at.clear();
        late
    }

    /// A device heard an event.
    pub(crate) fn heard(&self, person: usize, device: &'static str, event: &Event) {
        let mut pages = self.pages();
        pages.totals.events_heard += 1;
        let seq = event.seq;
        let sent_at = pages.sent_at.get(&(event.conversation.clone(), seq)).copied();
        let listener = pages.devices.entry((person, device)).or_default();
        let live_since = listener.live_since;
        let heard = listener.conversations.entry(event.conversation.clone()).or_default();
        let Heard { through, said, acknowledged, on_this_stream } = *heard;
        heard.on_this_stream = seq;
        heard.through = through.max(seq);
        if let (Some(sent_at), Some(live_since)) = (sent_at, live_since) {
            pages.late = pages.late.max(sent_at.max(live_since).elapsed());
        }
        let place = format!("{device} of person {person}, {} seq {seq}", event.conversation);
        if seq <= acknowledged {
            pages.breaks(format!("promise 4: {place} came again after {acknowledged} was acknowledged"));
        }
        if on_this_stream == 0 && seq > said + 1 {
            pages.breaks(format!("promise 5: {place} opened a stream, only {said} had been acknowledged"));
        }
        if on_this_stream != 0 && seq != on_this_stream + 1 {
            pages.breaks(format!("promise 4: {place} came after {on_this_stream}"));
        }
        if event.previous_seq != seq - 1 {
            pages.breaks(format!("promise 3: {place} names {} as the one before", event.previous_seq));
        }
        pages.totals.events_again += u64::from(seq <= through);
        if let Some(Change::MessageCreated(message)) = &event.change {
            pages.text(&event.conversation, seq, &message.text);
        }
    }

    /// A device is about to acknowledge.
    pub(crate) fn says_ack(&self, person: usize, device: &'static str, event: &Event) {
        let mut pages = self.pages();
        let conversations = &mut pages.devices.entry((person, device)).or_default().conversations;
        let heard = conversations.entry(event.conversation.clone()).or_default();
        heard.said = heard.said.max(event.seq);
    }

    /// An acknowledgement was answered.
    pub(crate) fn acknowledged(&self, person: usize, device: &'static str, positions: &[Position]) {
        let mut pages = self.pages();
        for position in positions {
            pages.totals.acknowledgements += 1;
            let conversations = &mut pages.devices.entry((person, device)).or_default().conversations;
            let heard = conversations.entry(position.conversation.clone()).or_default();
            heard.acknowledged = heard.acknowledged.max(position.seq);
            if position.seq > heard.said {
                let said = heard.said;
                pages.breaks(format!("promise 5: {position:?} was acknowledged by nobody, only {said}"));
            }
        }
    }

    /// Watermarks as they were before a look, to be compared with what the look shows.
    pub(crate) fn watermarks(&self, conversation: &str) -> HashMap<String, (u64, u64)> {
        let pages = self.pages();
        let of_it = pages.watermarks.iter().filter(|((of, _), _)| of == conversation);
        of_it.map(|((_, member), &watermarks)| (member.clone(), watermarks)).collect()
    }

    /// A look showed these watermarks.
    pub(crate) fn saw_receipts(&self, before: &HashMap<String, (u64, u64)>, receipts: &[Receipt]) {
        let mut pages = self.pages();
        for receipt in receipts {
            pages.totals.watermarks += 1;
            let (delivered, read) = before.get(&receipt.member).copied().unwrap_or_default();
            if receipt.delivered_seq < delivered || receipt.read_seq < read {
                pages.breaks(format!("promise 6: {receipt:?} after {delivered} delivered, {read} read"));
            }
            let key = (receipt.conversation.clone(), receipt.member.clone());
            let now = pages.watermarks.entry(key).or_default();
            *now = (now.0.max(receipt.delivered_seq), now.1.max(receipt.read_seq));
        }
    }

    /// Compares the messages of a conversation, as one of its members lists them all, with what was answered.
    pub(crate) fn compare(&self, conversation: &str, messages: &[Message]) {
        let mut pages = self.pages();
        let mut listed = BTreeMap::new();
        for (place, message) in messages.iter().enumerate() {
            let Some(seq) = seq_of(message) else { continue };
            if message.message_no != place as u64 + 1 {
                pages.breaks(format!("promise 3: message {} of {conversation} is {message:?}", place + 1));
            }
            pages.text(conversation, seq, &message.text);
            if listed.insert(seq, message).is_some() {
                pages.breaks(format!("promise 3: {conversation} has seq {seq} twice"));
            }
        }
        let mut texts: Vec<&str> = messages.iter().map(|message| message.text.as_str()).collect();
        texts.sort_unstable();
        if let Some(twice) = texts.windows(2).find(|pair| pair[0] == pair[1]) {
            // Every send of this test has a text of its own.
            pages.breaks(format!("promise 2: {:?} is in {conversation} twice", twice[0]));
        }
        let lost =
            pages.answered.iter().filter(|(_, answer)| answer.conversation == conversation).find(|(_, answer)| {
                listed.get(&answer.seq).is_none_or(|message| message.message_no != answer.message_no)
            });
        if let Some((request_id, answer)) = lost {
            let broken = format!("promise 1: {request_id} was answered with {answer:?} and is gone");
            pages.breaks(broken);
        }
    }

    /// Up to where a device has heard a conversation.
    pub(crate) fn heard_through(&self, person: usize, device: &'static str, conversation: &str) -> u64 {
        let pages = self.pages();
        let device = pages.devices.get(&(person, device));
        device.and_then(|device| device.conversations.get(conversation)).map_or(0, |heard| heard.through)
    }

    /// Notes that a promise was broken; the first one counts.
    pub(crate) fn breaks(&self, broken: impl Into<String>) {
        self.pages().breaks(broken);
    }

    /// The first broken promise.
    pub(crate) fn broken(&self) -> Result<(), String> {
        self.pages().broken.clone().map_or(Ok(()), Err)
    }

    /// What was done so far.
    pub fn totals(&self) -> Totals {
        self.pages().totals
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    fn breaks(&mut self, broken: impl Into<String>) {
        self.broken.get_or_insert(broken.into());
    }

    /// A `seq` has one text, whoever looks and however often.
    fn text(&mut self, conversation: &str, seq: u64, text: &str) {
        let known = self.texts.entry((conversation.to_owned(), seq)).or_insert_with(|| text.to_owned());
        if known != text {
            let broken = format!("promise 3: {conversation} seq {seq} was {known:?} and is {text:?}");
            self.breaks(broken);
        }
    }
}

/// The `seq` in a message's name.
fn seq_of(message: &Message) -> Option<u64> {
    message.name.rsplit('/').next()?.parse().ok()
}

#[cfg(test)]
mod tests;
