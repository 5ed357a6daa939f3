//! Delivered watermarks on their way back to the log: collected once per member and conversation, recorded in batches, repeated until
//! that went well. What is lost when the process dies is found again when the device opens its next stream.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use flaghoist_runtime::Drain;
use flaghoist_runtime::names::{ConversationId, UserId};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::hub::Hub;
use crate::log::{Log, LogError, Receipt};
use crate::stream::{Position, Watermarks};

/// How long receipts are collected before they are recorded: the log's commits are for messages first.
const COLLECTED: Duration = Duration::from_millis(50);

/// How many are recorded at once.
const BATCH_MAX: usize = 1000;

/// How many may wait; what comes on top is left to the next opening of the device.
const WAITING_MAX: usize = 200_000;

/// The longest wait between two tries.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Collects delivered watermarks.
#[derive(Debug, Default)]
pub(crate) struct Receipts {
    waiting: Mutex<HashMap<(ConversationId, UserId), Watermarks>>,
    news: Notify,
}

impl Receipts {
    /// A device of `member` has acknowledged `positions`, durably.
    pub(crate) fn note(&self, member: UserId, positions: &[Position]) {
        let receipts = positions.iter().map(|position| {
            let watermarks = Watermarks { epoch: position.epoch, delivered_seq: position.seq, read_seq: 0 };
            Receipt { conversation: position.conversation, member, watermarks }
        });
        self.put(receipts);
        self.news.notify_one();
    }

    fn put(&self, receipts: impl IntoIterator<Item = Receipt>) {
        let mut waiting = self.waiting.lock();
        for receipt in receipts {
            let key = (receipt.conversation, receipt.member);
            if waiting.len() < WAITING_MAX || waiting.contains_key(&key) {
                waiting.entry(key).or_default().raise(receipt.watermarks);
            }
        }
    }

    fn take(&self) -> Vec<Receipt> {
        let mut waiting = self.waiting.lock();
        let keys = waiting.keys().take(BATCH_MAX).copied().collect::<Vec<_>>();
        let taken = keys.into_iter().filter_map(|key| {
            let watermarks = waiting.remove(&key)?;
            Some(Receipt { conversation: key.0, member: key.1, watermarks })
        });
        let taken = taken.collect();
        if waiting.is_empty() && waiting.capacity() > 4 * BATCH_MAX {
            *waiting = HashMap::new();
        }
        taken
    }

    /// Records what is collected, until the drain is over.
    pub(crate) async fn run(self: Arc<Self>, log: Log, hub: Arc<Hub>, drain: Drain) {
        let waiting_depth = metrics::gauge!("flaghoist_queue_depth", "queue" => "receipts");
        let mut backoff = COLLECTED;
        loop {
            tokio::select! {
                () = self.news.notified() => {}
                () = drain.ended() => return,
            }
            loop {
                tokio::time::sleep(backoff).await;
                let batch = self.take();
                #[expect(clippy::cast_precision_loss, reason = "the map is far smaller than 2^52")]
                waiting_depth.set((self.waiting.lock().len() + batch.len()) as f64);
                if batch.is_empty() {
                    break;
                }
                match log.record(&batch).await {
                    Ok(raised) => {
                        backoff = COLLECTED;
                        hub.raised(&raised);
                    }
                    // Trying the same again would not help, and the next acknowledgement says more anyway.
                    Err(LogError::NotFound) => {}
                    Err(error) => {
                        backoff = (backoff * 2).min(BACKOFF_MAX);
                        tracing::warn!(
                            receipts = batch.len(),
                            retry_ms = u64::try_from(backoff.as_millis()).unwrap_or(u64::MAX),
                            error = %error,
                            "receipts not recorded yet"
                        );
                        self.put(batch);
                        if drain.is_started() && backoff == BACKOFF_MAX {
                            return;
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn the_highest_watermark_of_an_epoch_is_kept_once() {
        let receipts = Receipts::default();
        let (hall, alice) = (ConversationId(Uuid::now_v7()), UserId(Uuid::now_v7()));
        for (epoch, seq) in [(1, 4), (1, 9), (1, 2)] {
            receipts.note(alice, &[Position { conversation: hall, epoch, seq }]);
        }
        let taken = receipts.take();
        assert_eq!(taken.len(), 1);
        assert_eq!(taken[0].watermarks, Watermarks { epoch: 1, delivered_seq: 9, read_seq: 0 });
        assert!(receipts.take().is_empty());
    }
}
