//! One at a time for each person, on whichever pod: telling the issuer about them, and opening a session for them.
//!
//! A call holds the person's lane in the store for a while, and renews that before it asks the issuer for something. A pod that
//! freezes longer than it holds a lane loses it; what it still does then is found out by those who read the account afterwards
//! (`sign_in.rs`, `notices.rs`), so a lane keeps things in order and no secret depends on it.

use std::sync::Arc;
use std::time::Duration;

use flaghoist_runtime::fault::chain;
use flaghoist_runtime::names::UserId;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::Instant;
use uuid::Uuid;

use crate::error::Error;
use crate::store::{Holder, Store, StoreError};

/// How many people's calls may go on at once in this process before they wait for one another here, without asking the store.
const LOCAL_LANES: usize = 1024;
/// How long a lane is held without a sign of life: longer than a call to the issuer takes, so that only who is gone loses it.
const HOLD: Duration = Duration::from_secs(30);
/// How much of that must be left before the issuer is called.
const SPARE: Duration = Duration::from_secs(15);
/// How long a lane that another pod holds is waited for.
const WAIT_MAX: Duration = Duration::from_secs(8);
/// The first and the longest pause between two looks whether it is free.
const LOOK_AGAIN: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(160)];

/// The lanes of all people.
#[derive(Clone)]
pub(crate) struct Lanes {
    store: Arc<dyn Store>,
    local: Arc<[Arc<Mutex<()>>]>,
}

/// Held by who is in a lane; dropped, it is free as soon as the store has been told.
pub(crate) struct Lane {
    store: Arc<dyn Store>,
    user: UserId,
    holder: Holder,
    held_since: Instant,
    /// Kept until the store knows that the lane is free, so that the next call of this process does not wait for that.
    local: Option<OwnedMutexGuard<()>>,
}

impl Lanes {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, local: (0..LOCAL_LANES).map(|_| Arc::default()).collect() }
    }

    /// Waits for the lane of a person.
    pub(crate) async fn enter(&self, user: UserId) -> Result<Lane, Error> {
        let local = Arc::clone(self.local(user)).lock_owned().await;
        self.take(user, local, WAIT_MAX).await?.ok_or(Error::Busy)
    }

    /// The lane of a person, if nobody is in it.
    pub(crate) async fn try_enter(&self, user: UserId) -> Result<Option<Lane>, Error> {
        match Arc::clone(self.local(user)).try_lock_owned() {
            Ok(local) => self.take(user, local, Duration::ZERO).await,
            Err(_held) => Ok(None),
        }
    }

    fn local(&self, user: UserId) -> &Arc<Mutex<()>> {
        // The last bytes of a version 7 UUID are random.
        let [.., last, least] = *user.0.as_bytes();
        &self.local[usize::from(u16::from_be_bytes([last, least])) % LOCAL_LANES]
    }

    /// Takes the lane in a task of its own: a caller who goes away while the store is being asked leaves no lane behind.
    async fn take(&self, user: UserId, local: OwnedMutexGuard<()>, wait_max: Duration) -> Result<Option<Lane>, Error> {
        let store = Arc::clone(&self.store);
        let taking = tokio::spawn(async move {
            let until = Instant::now() + wait_max;
            let [mut pause, pause_max] = LOOK_AGAIN;
            let holder = Holder(Uuid::now_v7());
            // Dropped on an error, it leaves a lane that the store may have given without being able to say so.
            let mut lane = Lane { store, user, holder, held_since: Instant::now(), local: Some(local) };
            loop {
                lane.held_since = Instant::now();
                if lane.store.take_lane(user, holder, HOLD).await? {
                    return Ok(Some(lane));
                }
                if Instant::now() >= until {
                    // It never was ours, so there is nothing to leave.
                    lane.local = None;
                    return Ok(None);
                }
                tokio::time::sleep(pause.mul_f32(rand::random_range(0.5..1.0))).await;
                pause = (pause * 2).min(pause_max);
            }
        });
        match taking.await {
            Ok(taken) => taken.map_err(|error: StoreError| Error::Store(error)),
            Err(_ended) => Err(Error::Busy),
        }
    }
}

impl Lane {
    /// Makes sure that the lane is held until one more call to the issuer has been answered.
    pub(crate) async fn hold(&mut self) -> Result<(), Error> {
        if self.held_since.elapsed() < HOLD - SPARE {
            return Ok(());
        }
        let now = Instant::now();
        if !self.store.keep_lane(self.user, self.holder, HOLD).await? {
            self.local = None;
            return Err(Error::Busy);
        }
        self.held_since = now;
        Ok(())
    }

    /// Leaves the lane, and waits until the store knows.
    pub(crate) async fn leave(mut self) {
        leave(&*self.store, self.user, self.holder).await;
        self.local = None;
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let Some(local) = self.local.take() else { return };
        let (store, user, holder) = (Arc::clone(&self.store), self.user, self.holder);
        // Without a runtime the process is at its end, and the time of the lane soon over.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                leave(&*store, user, holder).await;
                drop(local);
            });
        }
    }
}

async fn leave(store: &dyn Store, user: UserId, holder: Holder) {
    if let Err(error) = store.leave_lane(user, holder).await {
        tracing::warn!(error = %chain(&error), hold_ms = HOLD.as_millis(), "a lane stays closed until its time is over");
    }
}

#[cfg(test)]
mod tests;
