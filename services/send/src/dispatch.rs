//! Tells the receivers what was committed: one call at a time, everything that was committed meanwhile goes into the next, in the
//! order of the commits. It is a hint: what does not fit into the queue, or fails, is found by the receivers in the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use flaghoist_proto::receiver::v1 as pb;
use flaghoist_proto::receiver::v1::delivery_service_client::DeliveryServiceClient;
use flaghoist_runtime::Peer;
use flaghoist_runtime::names::UserId;
use tokio::sync::{mpsc, oneshot};

use crate::event::Event;
use crate::render;
use crate::store::Store;

/// How many hints may wait.
const QUEUE_MAX: usize = 16_384;

/// How many events one call carries; the contract allows 4096.
const CALL_EVENTS: usize = 2048;

/// How much content one call carries, so that it stays below the 4 MiB that a server takes.
const CALL_BYTES: usize = 2 << 20;

/// What an event needs beside its content, roughly.
const EVENT_BYTES: usize = 512;

/// How long a call may take.
const CALL_WAIT: Duration = Duration::from_secs(5);

/// How long answers do not wait for receivers after one that waited in vain.
const PAUSE: Duration = Duration::from_secs(1);

/// An event to tell of.
#[derive(Debug)]
pub(crate) struct Hint {
    pub(crate) event: Arc<Event>,
    pub(crate) added: Vec<UserId>,
    pub(crate) removed: Vec<UserId>,
    /// Where to say whether a receiver took it.
    pub(crate) taken: Option<oneshot::Sender<bool>>,
}

/// Tells the receivers.
#[derive(Clone, Debug)]
pub(crate) struct Dispatch {
    queue: mpsc::Sender<Hint>,
    patience: Arc<Patience>,
    dropped: metrics::Counter,
}

/// Whether it is worth waiting for receivers.
#[derive(Debug)]
pub(crate) struct Patience {
    begun: Instant,
    /// Milliseconds after `begun`.
    again_at: AtomicU64,
}

impl Patience {
    fn new() -> Self {
        Self { begun: Instant::now(), again_at: AtomicU64::new(0) }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Somebody waited in vain.
    pub(crate) fn lost(&self) {
        self.again_at.store(self.now() + PAUSE.as_millis() as u64, Ordering::Relaxed);
    }

    fn left(&self) -> bool {
        self.now() >= self.again_at.load(Ordering::Relaxed)
    }
}

impl Dispatch {
    /// Starts telling `receiver`.
    pub(crate) fn start(receiver: Peer, store: Arc<dyn Store>) -> Self {
        let (queue, hints) = mpsc::channel(QUEUE_MAX);
        let patience = Arc::new(Patience::new());
        tokio::spawn(run(receiver, store, hints, patience.clone()));
        Self { queue, patience, dropped: metrics::counter!("flaghoist_send_hints_dropped_total") }
    }

    /// Whether it is worth waiting for receivers.
    pub(crate) fn patient(&self) -> bool {
        self.patience.left()
    }

    /// What to tell if waiting was in vain.
    pub(crate) fn patience(&self) -> &Patience {
        &self.patience
    }

    /// Tells of an event, if there is room.
    pub(crate) fn tell(&self, hint: Hint) {
        if self.queue.try_send(hint).is_err() {
            self.dropped.increment(1);
        }
    }
}

async fn run(receiver: Peer, store: Arc<dyn Store>, mut hints: mpsc::Receiver<Hint>, patience: Arc<Patience>) {
    let mut client = DeliveryServiceClient::new(receiver);
    let depth = metrics::gauge!("flaghoist_queue_depth", "queue" => "send_dispatch");
    let mut batch = Vec::with_capacity(256);
    let mut failing = false;
    while hints.recv_many(&mut batch, CALL_EVENTS).await > 0 {
        #[expect(clippy::cast_precision_loss, reason = "a queue is far shorter than 2^52")]
        depth.set((hints.len() + batch.len()) as f64);
        let epoch = store.epoch();
        let mut waiting = batch.drain(..).peekable();
        while waiting.peek().is_some() {
            let (mut deliveries, mut takers, mut bytes) = (Vec::new(), Vec::new(), 0);
            while let Some(hint) = waiting.next_if(|hint| bytes == 0 || bytes + hint.event.body.len() < CALL_BYTES) {
                bytes += hint.event.body.len() + EVENT_BYTES + (hint.added.len() + hint.removed.len()) * 48;
                deliveries.push(delivery(&hint, epoch));
                takers.push(hint.taken);
            }
            let call = client.deliver(pb::DeliverRequest { deliveries });
            let answer = tokio::time::timeout(CALL_WAIT, call).await;
            match answer {
                Ok(Ok(answer)) => {
                    failing = false;
                    let taken = answer.into_inner().handed_over.into_iter().chain(std::iter::repeat(false));
                    for (taker, taken) in takers.into_iter().zip(taken) {
                        if let Some(taker) = taker {
                            // A caller that does not wait any longer does not need to know.
                            let _gone = taker.send(taken);
                        }
                    }
                }
                failed => {
                    patience.lost();
                    // Once, not for every batch: the receivers find the events in the log.
                    if !std::mem::replace(&mut failing, true) {
                        let error = failed.map_or_else(|_| "no answer".into(), |answer| format!("{:?}", answer.err()));
                        tracing::warn!(error, "receivers cannot be told of events and will look for themselves");
                    }
                }
            }
        }
        depth.set(0.0);
    }
}

fn delivery(hint: &Hint, epoch: u64) -> pb::Delivery {
    let names = |people: &[UserId]| people.iter().map(UserId::name).collect();
    pb::Delivery {
        event: Some(render::event(&hint.event, 0, epoch, None)),
        only_for: hint.event.only_for.map(|person| person.name()).unwrap_or_default(),
        added_members: names(&hint.added),
        removed_members: names(&hint.removed),
    }
}
