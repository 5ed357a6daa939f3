//! Which streams are open in this process, found by conversation and by person. The index by conversation is what a stream knows of
//! memberships: it begins with the heads of the log and follows the events and the sweep.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use flaghoist_proto::send::v1::Event;
use flaghoist_runtime::names::{ConversationId, UserId};
use flaghoist_runtime::time::from_timestamp;
use parking_lot::{Mutex, RwLock};
use rand::Rng as _;
use uuid::Uuid;

use crate::bus::{Bus, Subject};
use crate::error::Error;
use crate::live::Live;
use crate::log::{Change, Receipt};
use crate::store::DeviceKey;
use crate::stream::{Sight, Watermarks};

/// Into how many parts the indexes are split, so that deliveries seldom wait for one another.
const SHARDS: usize = 64;

/// How many receipts are remembered as told; more may be told twice.
const TOLD_MAX: usize = 65_536;

/// How long a stream whose log was replaced, or whose server stops, waits for acknowledgements that are under way.
pub(crate) const LINGER: Duration = Duration::from_secs(1);

/// A committed event and whom it concerns besides the members.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) conversation: ConversationId,
    pub(crate) event: Event,
    /// The only person who may see it.
    pub(crate) only_for: Option<UserId>,
    /// Who became a member by it.
    pub(crate) added: Vec<UserId>,
    /// Who ceased to be one.
    pub(crate) removed: Vec<UserId>,
}

/// Receipts that were told lately, so that the sweep does not tell them again.
#[derive(Debug, Default)]
struct Told {
    now: HashMap<(ConversationId, UserId), Watermarks>,
    before: HashMap<(ConversationId, UserId), Watermarks>,
}

type Shards<K> = [RwLock<HashMap<K, Vec<Arc<Live>>>>; SHARDS];

/// The open streams.
pub(crate) struct Hub {
    conversations: Shards<ConversationId>,
    people: Shards<UserId>,
    count: AtomicUsize,
    told: Mutex<Told>,
    pub(crate) bus: Arc<dyn Bus>,
    streams_open: metrics::Gauge,
    delivery_seconds: metrics::Histogram,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Hub").field("streams", &self.count).finish_non_exhaustive()
    }
}

impl Hub {
    /// No streams. The bus is told what these become interested in.
    pub(crate) fn new(bus: Arc<dyn Bus>) -> Self {
        Self {
            conversations: std::array::from_fn(|_| RwLock::default()),
            people: std::array::from_fn(|_| RwLock::default()),
            count: AtomicUsize::new(0),
            told: Mutex::default(),
            bus,
            streams_open: metrics::gauge!("flaghoist_streams_open"),
            delivery_seconds: metrics::histogram!("flaghoist_delivery_seconds"),
        }
    }

    /// How many streams are open.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Takes a stream in, unless there are `streams_max` already. An older one of the same device ends.
    pub(crate) fn register(&self, live: &Arc<Live>, streams_max: usize) -> Result<(), Error> {
        let mut people = shard(&self.people, live.user().0).write();
        let streams = people.entry(live.user()).or_default();
        let older = streams.iter_mut().find(|older| older.key == live.key);
        if older.is_none() && self.count() >= streams_max {
            if streams.is_empty() {
                people.remove(&live.user());
            }
            return Err(Error::StreamsLimit);
        }
        let first = older.is_none() && streams.is_empty();
        let older = streams.iter_mut().find(|older| older.key == live.key);
        let replaced = match older {
            Some(older) => Some(std::mem::replace(older, Arc::clone(live))),
            None => {
                streams.push(Arc::clone(live));
                self.count.fetch_add(1, Ordering::Relaxed);
                self.streams_open.increment(1);
                None
            }
        };
        drop(people);
        if first {
            self.bus.interest_changed(Subject::User(live.user()));
        }
        if let Some(replaced) = replaced {
            replaced.fail(Error::Replaced);
        }
        Ok(())
    }

    /// Lets a stream go, and everything it holds.
    pub(crate) fn remove(&self, live: &Arc<Live>) {
        let mut people = shard(&self.people, live.user().0).write();
        if let Some(streams) = people.get_mut(&live.user()) {
            let before = streams.len();
            streams.retain(|other| !Arc::ptr_eq(other, live));
            if streams.len() < before {
                self.count.fetch_sub(1, Ordering::Relaxed);
                self.streams_open.decrement(1);
            }
            if streams.is_empty() {
                people.remove(&live.user());
                self.bus.interest_changed(Subject::User(live.user()));
            }
        }
        drop(people);
        for conversation in live.close() {
            self.leave(conversation, live);
        }
    }

    /// From now on `live` hears of the conversation.
    pub(crate) fn join(&self, conversation: ConversationId, live: &Arc<Live>) {
        let mut conversations = shard(&self.conversations, conversation.0).write();
        // Under the lock: a stream is closed before its conversations are left.
        if !live.closed() {
            let streams = conversations.entry(conversation).or_default();
            if streams.is_empty() {
                self.bus.interest_changed(Subject::Conversation(conversation));
            }
            if !streams.iter().any(|other| Arc::ptr_eq(other, live)) {
                streams.push(Arc::clone(live));
            }
        }
    }

    /// From now on `live` does not hear of the conversation.
    pub(crate) fn leave(&self, conversation: ConversationId, live: &Arc<Live>) {
        self.leave_where(conversation, |other| Arc::ptr_eq(other, live));
    }

    /// Whether any stream wants to hear of the conversation.
    pub(crate) fn interested(&self, conversation: ConversationId) -> bool {
        shard(&self.conversations, conversation.0).read().contains_key(&conversation)
    }

    /// Whether a person has a stream here.
    pub(crate) fn has(&self, user: UserId) -> bool {
        shard(&self.people, user.0).read().contains_key(&user)
    }

    /// A conversation goes at least up to `seq`.
    pub(crate) fn note_head(&self, conversation: ConversationId, seq: u64) {
        for live in self.streams(conversation) {
            live.change(|state| state.stream.note_head(conversation, seq));
        }
    }

    /// Something of a conversation may have been missed: its streams look into the log.
    pub(crate) fn suspect(&self, conversation: ConversationId) {
        for live in self.streams(conversation) {
            live.change(|state| state.stream.suspect(conversation));
        }
    }

    /// The streams of a person.
    pub(crate) fn of(&self, user: UserId) -> Vec<Arc<Live>> {
        shard(&self.people, user.0).read().get(&user).cloned().unwrap_or_default()
    }

    /// The stream of a device.
    pub(crate) fn of_device(&self, key: &DeviceKey) -> Option<Arc<Live>> {
        let people = shard(&self.people, key.user.0).read();
        people.get(&key.user)?.iter().find(|live| live.key == *key).cloned()
    }

    /// All streams.
    pub(crate) fn all(&self) -> Vec<Arc<Live>> {
        let mut all = Vec::with_capacity(self.count());
        for people in &self.people {
            all.extend(people.read().values().flatten().cloned());
        }
        all
    }

    /// Takes an event to the streams it concerns. Answers whether one of someone other than its actor has it.
    pub(crate) fn deliver(&self, mut delivery: Delivery) -> bool {
        let conversation = delivery.conversation;
        delivery.added.sort_unstable();
        for live in delivery.added.iter().flat_map(|user| self.of(*user)) {
            // The place first, so that no later event finds the stream without it.
            live.change(|state| state.stream.joined(conversation, 0));
            self.join(conversation, &live);
        }
        let actor = UserId::parse(&delivery.event.actor).ok();
        let created_at = delivery.event.create_time.as_ref().map(from_timestamp);
        let event = Arc::new(delivery.event);
        let sight = |user: UserId| match delivery.only_for {
            Some(only) if only != user => Sight::Hidden,
            _ if delivery.added.binary_search(&user).is_ok() => Sight::Joining,
            _ if delivery.removed.contains(&user) => Sight::Leaving,
            _ => Sight::Visible,
        };
        let (mut sent, mut handed_over) = (false, false);
        if let Some(streams) = shard(&self.conversations, conversation.0).read().get(&conversation) {
            for live in streams {
                let user = live.user();
                let took = live.change(|state| {
                    let epoch = state.stream.epoch();
                    if epoch != 0 && epoch != event.epoch {
                        state.drain(jitter(LINGER), LINGER);
                        return false;
                    }
                    // A stream that is being drained has said its last event.
                    state.drained_at.is_none()
                        && !state.ended()
                        && state.stream.deliver(conversation, &event, sight(user))
                });
                sent |= took;
                handed_over |= took && Some(user) != actor;
            }
        }
        if sent && let Some(age) = created_at.and_then(|at| SystemTime::now().duration_since(at).ok()) {
            self.delivery_seconds.record(age.as_secs_f64());
        }
        if !delivery.removed.is_empty() {
            self.leave_where(conversation, |live| delivery.removed.contains(&live.user()));
        }
        handed_over
    }

    /// Applies what the log says is new in a conversation. Answers the streams of people who came and went, for whom it does not say
    /// what holds now.
    pub(crate) fn apply(&self, change: &Change) -> Vec<Arc<Live>> {
        let conversation = change.conversation;
        let mut unclear = Vec::new();
        for user in &change.added {
            for live in self.of(*user) {
                if change.removed.contains(user) {
                    unclear.push(live);
                } else if !live.look(|state| state.stream.member(conversation)) {
                    live.change(|state| state.stream.joined(conversation, change.last_seq));
                    self.join(conversation, &live);
                }
            }
        }
        for live in self.streams(conversation) {
            let left = change.removed.contains(&live.user()) && !change.added.contains(&live.user());
            live.change(|state| {
                if left {
                    state.stream.left(conversation, change.last_seq);
                } else {
                    state.stream.note_head(conversation, change.last_seq);
                }
            });
            if left {
                self.leave(conversation, &live);
            }
        }
        unclear
    }

    /// Takes a receipt to the streams of the other members, if it was not told already.
    pub(crate) fn receipt(&self, receipt: &Receipt) {
        let streams = self.streams(receipt.conversation);
        if !streams.iter().any(|live| live.user() != receipt.member) || !self.first_told(receipt) {
            return;
        }
        for live in streams.iter().filter(|live| live.user() != receipt.member) {
            live.change(|state| {
                state.stream.outbox.receipt(receipt.conversation, receipt.member, receipt.watermarks);
            });
        }
    }

    fn first_told(&self, receipt: &Receipt) -> bool {
        let key = (receipt.conversation, receipt.member);
        let mut told = self.told.lock();
        let last = told.now.get(&key).or_else(|| told.before.get(&key)).copied();
        if told.now.len() < TOLD_MAX {
            told.now.insert(key, receipt.watermarks);
        }
        last != Some(receipt.watermarks)
    }

    /// Forgets which receipts were told before the last call.
    pub(crate) fn forget_told(&self) {
        let mut told = self.told.lock();
        told.before = std::mem::take(&mut told.now);
    }

    /// Takes the word that `member` is typing to the streams of the other members.
    pub(crate) fn typing(&self, conversation: ConversationId, member: UserId) {
        for live in self.streams(conversation) {
            if live.user() != member {
                live.change(|state| state.stream.outbox.typing(conversation, member));
            }
        }
    }

    /// The streams that hear of a conversation.
    fn streams(&self, conversation: ConversationId) -> Vec<Arc<Live>> {
        shard(&self.conversations, conversation.0).read().get(&conversation).cloned().unwrap_or_default()
    }

    fn leave_where(&self, conversation: ConversationId, leaves: impl Fn(&Arc<Live>) -> bool) {
        let mut conversations = shard(&self.conversations, conversation.0).write();
        if let Some(streams) = conversations.get_mut(&conversation) {
            streams.retain(|live| !leaves(live));
            if streams.is_empty() {
                conversations.remove(&conversation);
                self.bus.interest_changed(Subject::Conversation(conversation));
            }
        }
    }
}

/// Some time up to `spread`, so that not all come at once.
pub(crate) fn jitter(spread: Duration) -> Duration {
    spread.mul_f64(rand::rng().random_range(0.0..1.0))
}

fn shard<K>(shards: &Shards<K>, id: Uuid) -> &RwLock<HashMap<K, Vec<Arc<Live>>>> {
    // The last byte of our ids is random or a digest's.
    &shards[usize::from(id.as_bytes()[15]) % SHARDS]
}
