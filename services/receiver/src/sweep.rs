//! The store is the truth: every few seconds the log is asked what changed lately, and whatever a lost hint should have told the
//! streams here is told to them now. With the bus gone altogether this alone is how pods hear of one another's events.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use flaghoist_runtime::names::ConversationId;
use tokio::time::Instant;

use crate::bus::State;
use crate::hub::{LINGER, jitter};
use crate::live::Live;
use crate::log::{LogError, Receipt};
use crate::service::Receiver;

/// How far back each sweep looks: longer than a transaction of the log may live.
const LOOKS_BACK: Duration = Duration::from_secs(15);

/// How often at least while the pods cannot tell one another what is new.
const ALONE_EVERY: Duration = Duration::from_secs(2);

/// What the sweeps remember.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    /// The log's time at the last sweep that went well.
    read_at: Option<SystemTime>,
    /// Since when receipts are remembered as told.
    told_since: Option<Instant>,
}

impl Sweep {
    /// Sweeps until the drain has started.
    pub(crate) async fn run(mut self, receiver: Arc<Receiver>) {
        let mut bus = receiver.bus.state();
        loop {
            let interval = match *bus.borrow_and_update() {
                State::Up(_) => receiver.settings.sweep,
                State::Down => receiver.settings.sweep.min(ALONE_EVERY),
            };
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                // The bus has gone, or is back: what it lost meanwhile is looked for at once.
                Ok(()) = bus.changed() => {}
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
        let mut first_page = true;
        loop {
            let changes = receiver.log.changes(since, page).await?;
            if std::mem::take(&mut first_page) {
                end_streams_of_another_epoch(receiver, changes.epoch);
            }
            read_at = read_at.or(changes.read_at);
            for change in &changes.changes {
                for live in receiver.hub.apply(change) {
                    clear_up(receiver, &live, change.conversation).await?;
                }
                for (member, watermarks) in &change.receipts {
                    let (conversation, member, watermarks) = (change.conversation, *member, *watermarks);
                    receiver.hub.receipt(&Receipt { conversation, member, watermarks });
                }
            }
            page = changes.next_page;
            if page.is_empty() {
                break;
            }
        }
        self.read_at = read_at.or(Some(SystemTime::now()));
        if self.told_since.is_none_or(|since| since.elapsed() > LOOKS_BACK) {
            self.told_since = Some(Instant::now());
            receiver.hub.forget_told();
        }
        Ok(())
    }
}

/// The log was replaced: streams that show the former one are opened again, and begin with `Reset` then.
fn end_streams_of_another_epoch(receiver: &Receiver, epoch: u64) {
    let other = |shown: u64| shown != 0 && shown != epoch;
    for live in receiver.hub.all() {
        if live.look(|state| other(state.stream.epoch()) && state.drained_at.is_none()) {
            tracing::warn!(user = %live.user(), "the log was replaced under a stream");
            live.change(|state| state.drain(jitter(LINGER), LINGER));
            live.nudge();
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
