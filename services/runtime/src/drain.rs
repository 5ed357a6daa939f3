//! Stopping, in two steps that every part can wait for: the drain starts (take nothing new, end what is open politely) and,
//! one grace period later, ends (drop everything).

use tokio::sync::watch;

/// How far the process is with stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Running,
    Draining,
    Ended,
}

/// Sees the drain. Clones see the same one.
#[derive(Clone, Debug)]
pub struct Drain(watch::Receiver<Phase>);

/// Starts and ends the drain. Dropped, it ends it.
#[derive(Debug)]
pub struct DrainTrigger(watch::Sender<Phase>);

impl Drain {
    /// A drain that has not started, and what starts it.
    pub fn new() -> (DrainTrigger, Self) {
        let (sender, receiver) = watch::channel(Phase::Running);
        (DrainTrigger(sender), Self(receiver))
    }

    /// Waits until the drain has started.
    pub async fn started(&self) {
        self.reached(Phase::Draining).await;
    }

    /// Whether the drain has started.
    pub fn is_started(&self) -> bool {
        *self.0.borrow() >= Phase::Draining
    }

    /// Waits until the grace period is over and everything is to be dropped.
    pub async fn ended(&self) {
        self.reached(Phase::Ended).await;
    }

    async fn reached(&self, phase: Phase) {
        // An error says that the trigger is gone; then nothing will keep the process either.
        let mut watched = self.0.clone();
        let _gone = watched.wait_for(|now| *now >= phase).await.is_err();
    }
}

impl DrainTrigger {
    /// Starts the drain.
    pub fn start(&self) {
        self.0.send_if_modified(|phase| (*phase < Phase::Draining).then(|| *phase = Phase::Draining).is_some());
    }

    /// Ends the drain.
    pub fn end(&self) {
        self.0.send_replace(Phase::Ended);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn both_steps_are_seen_by_every_clone_also_late() {
        let (trigger, drain) = Drain::new();
        assert!(!drain.is_started());
        assert!(drain.started().now_or_never().is_none());
        trigger.start();
        let late = drain.clone();
        late.started().await;
        assert!(late.is_started() && late.ended().now_or_never().is_none());
        trigger.end();
        trigger.start();
        drain.ended().await;
        drain.started().await;
    }

    #[tokio::test]
    async fn a_dropped_trigger_keeps_nobody_waiting() {
        let (trigger, drain) = Drain::new();
        drop(trigger);
        drain.started().await;
        drain.ended().await;
    }
}
