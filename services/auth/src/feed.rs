//! Revocations on their way to those who verify tokens.
//!
//! The store is the truth: what is sent is what was read from it, in its order, which is the order of all pods. Being told of a new
//! revocation only makes that reading happen at once instead of a moment later, so one that was made on another pod, or whose
//! caller went away, is not lost.

use std::sync::Arc;
use std::time::Duration;

use flaghoist_runtime::{Drain, Verifier};
use parking_lot::RwLock;
use tokio::sync::{Mutex, Notify, broadcast};
use tokio::time::Instant;

use crate::error::StoreError;
use crate::moment::Moment;
use crate::store::{Numbered, Store};

/// How many revocations a watcher may be behind before its stream ends and it has to resume.
const LAG_MAX: usize = 4096;

/// How many revocations are read at once.
pub(crate) const PAGE: u32 = 500;

/// How often the store is asked for revocations that nobody told the feed about.
const POLL: Duration = Duration::from_millis(500);

/// How long the store may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// After how long without an answer of the store the feed says that it is behind. Whoever watches it then goes to another pod, in
/// time for a session that was revoked there to end within 5 seconds.
const BEHIND_AFTER: Duration = Duration::from_millis(2500);

/// Sends revocations to the watchers and to the verifier of this process.
#[derive(Debug)]
pub(crate) struct Feed {
    store: Arc<dyn Store>,
    verifier: Arc<Verifier>,
    /// The number of the last revocation sent.
    sent: Mutex<i64>,
    /// Everything that was committed before this has been sent.
    sent_until: RwLock<Instant>,
    hint: Notify,
    watchers: broadcast::Sender<Numbered>,
}

impl Feed {
    /// A feed of what follows after revocation number `sent`.
    pub(crate) fn new(store: Arc<dyn Store>, verifier: Arc<Verifier>, sent: i64) -> Self {
        let (watchers, _) = broadcast::channel(LAG_MAX);
        Self {
            store,
            verifier,
            sent: Mutex::new(sent),
            sent_until: RwLock::new(Instant::now()),
            hint: Notify::new(),
            watchers,
        }
    }

    /// What is sent from now on.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Numbered> {
        self.watchers.subscribe()
    }

    /// How many watch.
    pub(crate) fn watcher_count(&self) -> usize {
        self.watchers.receiver_count()
    }

    /// Says that there is something new.
    pub(crate) fn hint(&self) {
        self.hint.notify_one();
    }

    /// Whether there may be revocations that were not sent, since the store does not answer.
    pub(crate) fn behind(&self) -> bool {
        self.sent_until.read().elapsed() > BEHIND_AFTER
    }

    /// Sends what is new. When it answers, everything that was committed before has been sent.
    pub(crate) async fn publish(&self) -> Result<(), StoreError> {
        let mut sent = self.sent.lock().await;
        self.read(&mut sent).await
    }

    /// The same for what was committed before `moment`. Callers that wait here together share one look into the store.
    pub(crate) async fn publish_until(&self, moment: Instant) -> Result<(), StoreError> {
        let mut sent = self.sent.lock().await;
        if *self.sent_until.read() >= moment {
            return Ok(());
        }
        self.read(&mut sent).await
    }

    async fn read(&self, sent: &mut i64) -> Result<(), StoreError> {
        loop {
            let asked_at = Instant::now();
            let page = self.store.revocations(Moment(i64::MIN), *sent, PAGE);
            let page = tokio::time::timeout(ANSWER_MAX, page).await.map_err(|late| StoreError {
                doing: "read revocations",
                transient: true,
                source: Box::new(late),
            })??;
            let more = page.len() >= PAGE as usize;
            for numbered in page {
                *sent = numbered.no;
                self.verifier.revoke(numbered.revocation.clone());
                // Nobody has to be watching.
                let _nobody = self.watchers.send(numbered);
            }
            if !more {
                *self.sent_until.write() = asked_at;
                return Ok(());
            }
        }
    }

    /// Sends what is new until the drain is over.
    pub(crate) async fn run(&self, drain: Drain) {
        loop {
            tokio::select! {
                () = self.hint.notified() => {}
                () = tokio::time::sleep(POLL) => {}
                () = drain.ended() => return,
            }
            if let Err(error) = self.publish().await {
                flaghoist_runtime::fault::log_chain("sending revocations", &error);
            }
        }
    }
}
