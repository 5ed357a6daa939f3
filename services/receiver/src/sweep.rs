//! The store is the truth: every few seconds the log is asked what changed lately, and whatever a lost hint should have told the
//! streams here is told to them now.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use flaghoist_runtime::names::{ConversationId, UserId};
use tokio::time::MissedTickBehavior;

use crate::hub::{LINGER, jitter};
use crate::live::Live;
use crate::log::{LogError, Receipt};
use crate::service::Receiver;
use crate::stream::Watermarks;

/// How far back each sweep looks: longer than a transaction of the log may live.
const LOOKS_BACK: Duration = Duration::from_secs(15);

/// How many receipts are remembered as told.
const TOLD_MAX: usize = 65_536;

/// What the sweeps remember.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    /// The log's time at the last sweep that went well.
    read_at: Option<SystemTime>,
    epoch: Option<u64>,
    /// Receipts that were told, so that they are not told again by the next sweep.
    told: HashMap<(ConversationId, UserId), Watermarks>,
    told_before: HashMap<(ConversationId, UserId), Watermarks>,
}

impl Sweep {
    /// Sweeps until the drain has started.
    pub(crate) async fn run(mut self, receiver: Arc<Receiver>) {
        let mut ticks = tokio::time::interval(receiver.settings.sweep);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = receiver.drain.started() => return,
            }
            if receiver.hub.count() == 0 {
                // A stream that opens later begins with the heads of then.
                self.read_at = None;
                continue;
            }
            if let Err(error) = self.once(&receiver).await {
                tracing::warn!(error = %error, "recent changes not read, the next sweep reaches further back");
            }
        }
    }

    /// One sweep.
    pub(crate) async fn once(&mut self, receiver: &Receiver) -> Result<(), LogError> {
        // From the last time that went well, so that a failed sweep makes the next one reach further back.
        let overlap = LOOKS_BACK.saturating_sub(receiver.settings.sweep);
        let since = match self.read_at {
            Some(read_at) => read_at - overlap,
            None => SystemTime::now() - LOOKS_BACK,
        };
        let mut page = String::new();
        let mut read_at = None;
        self.told_before = std::mem::take(&mut self.told);
        loop {
            let changes = receiver.log.changes(since, page).await?;
            if self.epoch.replace(changes.epoch).is_some_and(|before| before != changes.epoch) {
                tracing::warn!("the log was replaced, streams are opened again");
            }
            self.end_streams_of_another_epoch(receiver, changes.epoch);
            read_at = read_at.or(changes.read_at);
            for change in &changes.changes {
                for live in receiver.hub.apply(change) {
                    clear_up(receiver, &live, change.conversation).await?;
                }
                for (member, watermarks) in &change.receipts {
                    let receipt =
                        Receipt { conversation: change.conversation, member: *member, watermarks: *watermarks };
                    self.tell(receiver, receipt);
                }
            }
            page = changes.next_page;
            if page.is_empty() {
                break;
            }
        }
        self.read_at = read_at.or(Some(SystemTime::now()));
        Ok(())
    }

    fn tell(&mut self, receiver: &Receiver, receipt: Receipt) {
        let key = (receipt.conversation, receipt.member);
        let known = self.told.get(&key).or_else(|| self.told_before.get(&key)) == Some(&receipt.watermarks);
        if self.told.len() < TOLD_MAX {
            self.told.insert(key, receipt.watermarks);
        }
        if !known {
            receiver.hub.receipt(&receipt);
        }
    }

    fn end_streams_of_another_epoch(&self, receiver: &Receiver, epoch: u64) {
        for live in receiver.hub.all() {
            let other = |shown: u64| shown != 0 && shown != epoch;
            if live.look(|state| other(state.stream.epoch())) {
                live.change(|state| state.drain(jitter(LINGER), LINGER));
                live.nudge();
            }
        }
    }
}

/// The person came and went: asks what holds now.
async fn clear_up(receiver: &Receiver, live: &Arc<Live>, conversation: ConversationId) -> Result<(), LogError> {
    let (_, head) = receiver.log.head(live.user(), conversation).await?;
    match head {
        Some(head) => {
            live.change(|state| state.stream.joined(conversation, head.last_seq));
            if head.member {
                receiver.hub.join(conversation, live);
            } else {
                live.change(|state| state.stream.left(conversation, head.last_seq));
                receiver.hub.leave(conversation, live);
            }
        }
        None => receiver.hub.leave(conversation, live),
    }
    Ok(())
}
