//! The bus over NATS: core subjects, not streams, for nothing here needs to be kept.
//!
//! `flaghoist.conversation.<id>` and `flaghoist.user.<id>` are what is spoken about. On `flaghoist.pod.<id>` a pod hears only itself: a
//! word that comes back proves that NATS works, and that it has taken every subscription made before. NATS counts as there while these
//! words come back in time, so a server that hangs is noticed like one that is gone.

mod connection;
mod queue;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_nats::ServerAddr;
use async_trait::async_trait;
use flaghoist_runtime::Drain;
use flaghoist_runtime::names::ConversationId;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Bus, Events, Listener, State, Subject, Word};
use queue::{Put, Queue};

/// How long an opening waits until what it is interested in is heard; the sweep finds what is missed after that.
const SETTLED_WITHIN: Duration = Duration::from_millis(250);

/// The bus over NATS.
#[derive(Debug)]
pub(crate) struct NatsBus {
    servers: Vec<ServerAddr>,
    shared: Arc<Shared>,
}

/// What the calls and the tasks of the bus share.
struct Shared {
    pod: Uuid,
    /// The servers, as an operator knows them.
    place: String,
    /// Says who speaks, so that a pod knows its own words; never 0.
    origin: u64,
    queue: Queue,
    interest: Mutex<Interest>,
    interest_news: Notify,
    /// Up to which change of interest everything is heard.
    settled: watch::Sender<u64>,
    state: watch::Sender<State>,
    figures: Figures,
}

/// Subjects whose interest has changed and that are not looked at yet. Bounded by what the pod has streams for.
#[derive(Debug, Default)]
struct Interest {
    changed: HashSet<Subject>,
    changes: u64,
}

struct Figures {
    up: metrics::Gauge,
    depth: metrics::Gauge,
    subscriptions: metrics::Gauge,
    told: metrics::Counter,
    heard: metrics::Counter,
    /// Words that were not said; the newest event of their conversation is kept in mind.
    noted: metrics::Counter,
    /// Words that were not said because there was no room.
    lost: metrics::Counter,
    /// Words of others that were lost because this pod was too slow.
    slow: metrics::Counter,
    /// Words of others that make no sense.
    unread: metrics::Counter,
    echo_seconds: metrics::Histogram,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Shared").field("pod", &self.pod).field("state", &*self.state.borrow()).finish_non_exhaustive()
    }
}

impl NatsBus {
    /// A bus over these servers; nothing happens before [`Bus::start`].
    pub(crate) fn new(servers: Vec<ServerAddr>) -> Self {
        let pod = Uuid::from_u128(rand::random());
        let dropped = |reason| metrics::counter!("flaghoist_bus_dropped_total", "reason" => reason);
        let figures = Figures {
            up: metrics::gauge!("flaghoist_bus_up"),
            depth: metrics::gauge!("flaghoist_queue_depth", "queue" => "bus"),
            subscriptions: metrics::gauge!("flaghoist_bus_subscriptions"),
            told: metrics::counter!("flaghoist_bus_told_total"),
            heard: metrics::counter!("flaghoist_bus_heard_total"),
            noted: dropped("noted"),
            lost: dropped("lost"),
            slow: dropped("slow"),
            unread: dropped("unread"),
            echo_seconds: metrics::histogram!("flaghoist_bus_echo_seconds"),
        };
        figures.up.set(0.0);
        let shared = Shared {
            pod,
            place: super::address::places(&servers),
            origin: pod.as_u64_pair().1 | 1,
            queue: Queue::default(),
            interest: Mutex::default(),
            interest_news: Notify::new(),
            settled: watch::Sender::new(0),
            state: watch::Sender::new(State::Down),
            figures,
        };
        Self { servers, shared: Arc::new(shared) }
    }
}

impl Shared {
    /// Words come through, or they do not.
    fn mark(&self, there: bool) {
        let changed = self.state.send_if_modified(|state| {
            let changed = there != matches!(state, State::Up(_));
            if changed {
                *state = if there { State::Up(Instant::now()) } else { State::Down };
            }
            changed
        });
        if changed {
            self.figures.up.set(f64::from(u8::from(there)));
            self.queue.open(there);
            if there {
                tracing::info!(bus = self.place, "the bus is there");
            } else {
                tracing::warn!(
                    bus = self.place,
                    "the bus is away: pods hear of events by reading the log; is NATS there?"
                );
            }
        }
    }

    fn put(&self, subject: Subject, body: Vec<u8>, head: Option<u64>) {
        match self.queue.put(subject, body, head) {
            Put::Waits => {}
            Put::Noted => self.figures.noted.increment(1),
            Put::Lost => self.figures.lost.increment(1),
        }
    }
}

#[async_trait]
impl Bus for NatsBus {
    fn shared(&self) -> bool {
        true
    }

    fn start(&self, listener: Arc<dyn Listener>, drain: Drain) {
        tokio::spawn(connection::run(self.servers.clone(), Arc::clone(&self.shared), listener, drain));
    }

    fn tell(&self, subject: Subject, word: &Word) {
        self.shared.put(subject, word.encode(self.shared.origin), word.head());
    }

    fn tell_events(&self, conversation: ConversationId, events: &Events<'_>) {
        let body = events.encode(self.shared.origin);
        self.shared.put(Subject::Conversation(conversation), body, Some(events.last_seq));
    }

    fn interest_changed(&self, subject: Subject) {
        let mut interest = self.shared.interest.lock();
        interest.changed.insert(subject);
        interest.changes += 1;
        drop(interest);
        self.shared.interest_news.notify_one();
    }

    async fn settled(&self) {
        let changes = self.shared.interest.lock().changes;
        let (mut settled, mut state) = (self.shared.settled.subscribe(), self.shared.state.subscribe());
        let heard = async {
            tokio::select! {
                _ = settled.wait_for(|settled| *settled >= changes) => {}
                _ = state.wait_for(|state| *state == State::Down) => {}
            }
        };
        // What is missed when this is too slow is found by the sweep.
        let _late = tokio::time::timeout(SETTLED_WITHIN, heard).await;
    }

    fn state(&self) -> watch::Receiver<State> {
        self.shared.state.subscribe()
    }

    #[cfg(test)]
    fn depth(&self) -> usize {
        self.shared.queue.depth()
    }
}
