//! Telling the issuer what it has to know about people, at once where possible and again until it has answered.

use std::sync::Arc;
use std::time::Duration;

use flaghoist_runtime::Drain;
use flaghoist_runtime::fault::chain;
use flaghoist_runtime::names::UserId;

use super::{Accounts, now};
use crate::error::Error;
use crate::store::Notice;

/// How often it is looked for what is yet to be told: by calls that were cut off, before a crash, or by
/// `flaghoist admin grant` in another process.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The longest pause while the issuer does not answer.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How many people are told about in one round.
const ROUND_MAX: u32 = 100;
/// How often old attempts are forgotten, in looks: about once a minute.
const FORGET_EVERY_LOOKS: u64 = 30;
/// How many counts of attempts are kept, of some hundred bytes each.
const ATTEMPTS_MAX: u32 = 500_000;

impl Accounts {
    /// Tells the issuer what it has yet to know about a person.
    pub(super) async fn tell(&self, user: UserId) -> Result<(), Error> {
        let _lane = self.lane(user).lock().await;
        self.tell_within_lane(user).await
    }

    /// The same for a caller who holds the person's lane. States are read when they are told, so the last one told is
    /// the last one there is.
    pub(super) async fn tell_within_lane(&self, user: UserId) -> Result<(), Error> {
        for (id, notice) in self.store.notices(user).await? {
            match notice {
                Notice::State => {
                    if let Some(current) = self.store.credentials_of(user).await? {
                        let enabled = current.usable();
                        self.issuer.set_subject_state(user, enabled, enabled && current.account.admin).await?;
                    }
                }
                Notice::EndSessions { except } => self.issuer.end_sessions(user, except).await?,
                Notice::Erase => {
                    self.issuer.end_sessions(user, String::new()).await?;
                    self.issuer.erase(user).await?;
                    if let Some(current) = self.store.credentials_of(user).await? {
                        let attempts_at = self.attempt_keys.account(&current.account.handle);
                        self.store.finish_deletion(user, attempts_at).await?;
                    }
                }
            }
            self.store.told(id).await?;
        }
        Ok(())
    }

    /// Tells what was left untold, and forgets old attempts, until the drain starts.
    pub(crate) async fn keep_telling(self: Arc<Self>, drain: Drain) {
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
                && let Err(error) = self.store.forget_attempts(now(), ATTEMPTS_MAX).await
            {
                tracing::warn!(error = %chain(&error), "old attempts could not be forgotten");
            }
            looks += 1;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = drain.started() => return,
            }
        }
    }

    /// One round. A person whose notice fails does not hold up the others.
    async fn tell_all(&self) -> Result<(), Error> {
        let mut failed = None;
        for user in self.store.users_with_notices(ROUND_MAX).await? {
            if let Err(error) = self.tell(user).await {
                failed = Some(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }
}
