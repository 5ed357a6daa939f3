//! Telling the issuer what it has to know about people, at once where possible and again until it has answered.
//!
//! Every pod does this for whatever pod left it undone. What is noted about a person is told by whoever is in the person's lane, one
//! after another, and removed once it was told: no pod tells what another one is telling, and nothing is lost with a pod.

use std::sync::Arc;
use std::time::Duration;

use flaghoist_runtime::Drain;
use flaghoist_runtime::fault::chain;
use flaghoist_runtime::names::UserId;

use super::lanes::{Lane, Lanes};
use super::now;
use crate::erasure::{Eraser, KEPT_FOR, span};
use crate::error::Error;
use crate::issuer::Issuer;
use crate::store::{Notice, Store};

/// How often it is looked for what is yet to be told: by calls that were cut off, before a crash, by a pod that is gone, or by
/// `flaghoist admin grant` in another process.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The longest pause while the issuer does not answer.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How many people are told about in one round.
const ROUND_MAX: u32 = 100;
/// How often what is over is forgotten, in looks: about once a minute.
const FORGET_EVERY_LOOKS: u64 = 30;
/// How many counts of attempts are kept, of some hundred bytes each.
const ATTEMPTS_MAX: u32 = 500_000;
/// How often a state is told again because it changed while it was being told.
const STATES_MAX: u32 = 5;

/// Tells the issuer.
#[derive(Clone)]
pub(crate) struct Teller {
    pub(super) store: Arc<dyn Store>,
    pub(super) issuer: Issuer,
    pub(super) lanes: Lanes,
    pub(super) eraser: Eraser,
}

impl Teller {
    /// Tells the issuer what it has yet to know about a person. A caller who goes away does not cut it off.
    pub(super) async fn tell(&self, user: UserId) -> Result<(), Error> {
        let teller = self.clone();
        let telling = tokio::spawn(async move {
            let mut lane = teller.lanes.enter(user).await?;
            let told = teller.tell_within(&mut lane, user).await;
            lane.leave().await;
            told
        });
        telling.await.unwrap_or(Err(Error::Busy))
    }

    /// The same for a caller who is in the person's lane.
    pub(super) async fn tell_within(&self, lane: &mut Lane, user: UserId) -> Result<(), Error> {
        for (id, notice) in self.store.notices(user).await? {
            lane.hold().await?;
            match notice {
                Notice::State { by } => self.tell_state(lane, user, &by).await?,
                Notice::EndSessions { except } => self.issuer.end_sessions(user, except).await?,
                Notice::Erase => {
                    // The rest is done without anybody waiting for it (`erasure.rs`).
                    self.eraser.sign_out(lane, user).await?;
                }
            }
            self.store.told(id).await?;
        }
        Ok(())
    }

    /// Tells a state as it is when it is told, and looks afterwards whether it still is so: whoever was frozen while telling has
    /// lost the lane, and another has told a newer one meanwhile. `by` is who changed it, and empty if nobody in particular.
    pub(super) async fn tell_state(&self, lane: &mut Lane, user: UserId, by: &str) -> Result<(), Error> {
        let mut told = None;
        for _ in 0..STATES_MAX {
            let Some(current) = self.store.credentials_of(user).await? else { return Ok(()) };
            let state = (current.usable(), current.usable() && current.account.admin);
            if told == Some(state) {
                return Ok(());
            }
            lane.hold().await?;
            self.issuer.set_subject_state(user, state.0, state.1, by).await?;
            told = Some(state);
        }
        Err(Error::Busy)
    }

    /// Tells what applications may know of a person, after whoever is telling something of them; what fails is logged and told later.
    pub(super) async fn tell_profile(&self, user: UserId) {
        let telling = async {
            let mut lane = self.lanes.enter(user).await?;
            let told = self.tell_profile_within(&mut lane, user).await;
            lane.leave().await;
            told
        };
        if let Err(error) = telling.await {
            tracing::warn!(%user, error = %chain(&error), "the issuer is told of a profile later");
        }
    }

    /// The same for a caller who is in the person's lane, so that no older profile is told after a newer one.
    async fn tell_profile_within(&self, lane: &mut Lane, user: UserId) -> Result<(), Error> {
        let Some((profile, version)) = self.store.profile(user).await? else { return Ok(()) };
        lane.hold().await?;
        self.issuer.set_profile(&profile).await?;
        Ok(self.store.profile_told(user, version).await?)
    }

    /// Tells what was left untold, and forgets what is over, until the drain starts.
    pub(crate) async fn keep_telling(self, drain: Drain) {
        let mut pause = LOOK_EVERY;
        let mut looks: u64 = 0;
        loop {
            match self.tell_all().await {
                Ok(()) => pause = LOOK_EVERY,
                Err(error) => {
                    tracing::warn!(error = %chain(&error), pause_ms = pause.as_millis(), "the issuer could not be told");
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
            if looks.is_multiple_of(FORGET_EVERY_LOOKS)
                && let Err(error) = self.forget().await
            {
                tracing::warn!(error = %chain(&error), "what is over could not be forgotten");
            }
            looks += 1;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = drain.started() => return,
            }
        }
    }

    async fn forget(&self) -> Result<(), Error> {
        self.store.forget(now(), ATTEMPTS_MAX).await?;
        Ok(self.store.forget_erasures(now() - span(KEPT_FOR)).await?)
    }

    /// One round. A person whose notice fails does not hold up the others, and one in whose lane someone is, maybe on another pod,
    /// is theirs to tell about.
    pub(crate) async fn tell_all(&self) -> Result<(), Error> {
        let mut failed = None;
        for user in self.store.users_with_notices(ROUND_MAX).await? {
            let Some(mut lane) = self.lanes.try_enter(user).await? else { continue };
            if let Err(error) = self.tell_within(&mut lane, user).await {
                failed = Some(error);
            }
            lane.leave().await;
        }
        for user in self.store.people_with_untold_profile(ROUND_MAX).await? {
            let Some(mut lane) = self.lanes.try_enter(user).await? else { continue };
            if let Err(error) = self.tell_profile_within(&mut lane, user).await {
                failed = Some(error);
            }
            lane.leave().await;
        }
        failed.map_or(Ok(()), Err)
    }
}
