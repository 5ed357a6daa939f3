//! Revocations on their way to those who verify tokens.
//!
//! The store is the truth: what is sent is what was read from it, in its order. Being told of a new revocation only makes
//! that reading happen at once instead of within a second, so one whose caller went away is not lost.

use std::sync::Arc;
use std::time::Duration;

use flaghoist_runtime::{Drain, Verifier};
use tokio::sync::{Mutex, Notify, broadcast};

use crate::error::StoreError;
use crate::moment::Moment;
use crate::store::{Numbered, Store};

/// How many revocations a watcher may be behind before its stream ends and it has to resume.
const LAG_MAX: usize = 4096;

/// How many revocations are read at once.
pub(crate) const PAGE: u32 = 500;

/// How late a revocation is at most that nobody told the feed about.
const POLL: Duration = Duration::from_secs(1);

/// Sends revocations to the watchers and to the verifier of this process.
#[derive(Debug)]
pub(crate) struct Feed {
    store: Arc<dyn Store>,
    verifier: Arc<Verifier>,
    /// The number of the last revocation sent.
    sent: Mutex<i64>,
    hint: Notify,
    watchers: broadcast::Sender<Numbered>,
}

impl Feed {
    /// A feed of what follows after revocation number `sent`.
    pub(crate) fn new(store: Arc<dyn Store>, verifier: Arc<Verifier>, sent: i64) -> Self {
        let (watchers, _) = broadcast::channel(LAG_MAX);
        Self { store, verifier, sent: Mutex::new(sent), hint: Notify::new(), watchers }
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

    /// Sends what is new. When it answers, everything that was committed before has been sent.
    pub(crate) async fn publish(&self) -> Result<(), StoreError> {
        let mut sent = self.sent.lock().await;
        loop {
            let page = self.store.revocations(Moment(i64::MIN), *sent, PAGE).await?;
            let more = page.len() >= PAGE as usize;
            for numbered in page {
                *sent = numbered.no;
                self.verifier.revoke(numbered.revocation.clone());
                // Nobody has to be watching.
                let _nobody = self.watchers.send(numbered);
            }
            if !more {
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
