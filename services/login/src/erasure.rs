//! The deletion of an account in all services: a row says what comes next, and any pod does it.
//!
//! Each step is done, and then the row is moved on by a statement that asks for the revision it had. A pod that dies in between leaves
//! a step that is done once more, which changes nothing and counts the same: what a service removes at once is counted by a step
//! before, and `send` counts by place. A service that is away is asked again, later and later; the others have done their part or wait.
//!
//! Tokens live for some minutes after the sessions have ended, should a service not have heard of that. So the devices and
//! messages are looked for once more when they all are over, and only then the account's row goes and the handle is free.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use flaghoist_runtime::Drain;
use flaghoist_runtime::fault::chain;
use flaghoist_runtime::names::UserId;
use flaghoist_runtime::time::millis;

use crate::accounts::lanes::Lane;
use crate::error::Error;
use crate::issuer::Issuer;
use crate::others::Others;
use crate::store::Store;
use crate::store::erasures::{Erasure, Step};
use crate::throttle::AttemptKeys;

/// How many erasures a pod works on at once.
pub(crate) const WORKERS: usize = 2;
/// How often it is looked for one whose time has come.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long one is worked on before another has its turn.
const TURN: Duration = Duration::from_secs(5);
/// How long an erasure is left to the pod that works on it: longer than a step may take.
const HOLD: Duration = Duration::from_secs(20);
/// The first and the longest pause after a failure.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(300)];
/// How long reports are kept.
pub(crate) const KEPT_FOR: Duration = Duration::from_secs(400 * 24 * 3600);

/// Erases people.
#[derive(Clone)]
pub(crate) struct Eraser {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) issuer: Issuer,
    pub(crate) others: Others,
    pub(crate) attempt_keys: Arc<AttemptKeys>,
    /// How long after the end of the sessions all tokens are over.
    pub(crate) settle: Duration,
}

impl Eraser {
    /// Takes the first steps for a caller who is in the person's lane: the sessions end and the issuer forgets the person.
    pub(crate) async fn sign_out(&self, lane: &mut Lane, user: UserId) -> Result<(), Error> {
        // One that a pod of the version before has begun has no row yet.
        self.store.begin_erasure(user, now()).await?;
        while let Some(mut erasure) = self.store.erasure_of(user).await? {
            if erasure.step > Step::EndSessions {
                break;
            }
            lane.hold().await?;
            self.take(&mut erasure).await?;
            // Where another pod was quicker the row says so.
            self.store.advance_erasure(&erasure, 0).await?;
        }
        Ok(())
    }

    /// Works on erasures until the drain starts.
    pub(crate) async fn keep_erasing(self, drain: Drain) {
        loop {
            let pause = match self.turn().await {
                Ok(true) => Duration::ZERO,
                Ok(false) => LOOK_EVERY,
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "erasures of accounts could not be looked for");
                    LOOK_EVERY * 3
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = drain.started() => return,
            }
        }
    }

    /// Works on one erasure for a while. Answers whether there was one.
    pub(crate) async fn turn(&self) -> Result<bool, Error> {
        let begun = Instant::now();
        let Some(mut erasure) = self.store.claim_erasure(now(), now() + span(HOLD)).await? else {
            return Ok(false);
        };
        loop {
            let before = erasure.clone();
            let held = match self.take(&mut erasure).await {
                Ok(()) => {
                    erasure.failures = 0;
                    erasure.finished_at.is_none() && erasure.next_at <= now() && begun.elapsed() < TURN
                }
                Err(error) => {
                    erasure = Erasure { failures: before.failures.saturating_add(1), ..before };
                    let pause = pause(erasure.failures);
                    erasure.next_at = now() + span(pause);
                    tracing::warn!(
                        erasure = %erasure.id, service = erasure.step.service(), failures = erasure.failures,
                        pause_ms = pause.as_millis(), error = %chain(&error), "an erasure waits for a service"
                    );
                    false
                }
            };
            if !self.store.advance_erasure(&erasure, if held { now() + span(HOLD) } else { 0 }).await? || !held {
                return Ok(true);
            }
            erasure.revision += 1;
        }
    }

    /// Does what comes next, and says in the erasure what comes then.
    async fn take(&self, erasure: &mut Erasure) -> Result<(), Error> {
        let Some(user) = erasure.user else {
            return finish(erasure);
        };
        match erasure.step {
            Step::CountSessions => {
                let counted = self.others.erase_at_issuer(user, true).await?;
                add(erasure, "auth.sessions", counted.sessions);
                add(erasure, "auth.consents", counted.consents);
            }
            Step::EndSessions => {
                self.issuer.end_sessions(user, String::new()).await?;
                self.others.erase_at_issuer(user, false).await?;
                erasure.signed_out_at = Some(now());
                erasure.next_at = now();
            }
            Step::CountDevices => {
                let devices = self.others.erase_devices(user, true).await?;
                add(erasure, "receiver.devices", devices);
            }
            Step::RemoveDevices => {
                self.others.erase_devices(user, false).await?;
            }
            Step::Messages | Step::LateMessages => {
                let again = erasure.step == Step::LateMessages;
                let done = self.others.erase_messages(user, &erasure.step_token, again).await?;
                add(erasure, "send.messages", done.messages);
                add(erasure, "send.conversations", done.conversations);
                erasure.step_token = done.next_step_token;
                if !erasure.step_token.is_empty() {
                    return Ok(());
                }
                if !again {
                    erasure.next_at = erasure.signed_out_at.unwrap_or(erasure.created_at) + span(self.settle);
                }
            }
            Step::LateDevices => {
                let devices = self.others.erase_devices(user, false).await?;
                add(erasure, "receiver.devices", devices);
            }
            Step::CountFactors => {
                let found = self.store.factors(user).await?;
                let totp = i64::from(found.totp.is_some());
                add(erasure, "login.factors", totp + i64::from(found.keys) + i64::from(found.recovery_codes));
                add(erasure, "login.accounts", i64::from(self.store.credentials_of(user).await?.is_some()));
            }
            Step::Account => {
                if let Some(current) = self.store.credentials_of(user).await? {
                    let attempts_at = self.attempt_keys.all_of(&current.account.handle, user);
                    self.store.finish_deletion(user, &attempts_at).await?;
                }
                return finish(erasure);
            }
            Step::Done => return finish(erasure),
        }
        erasure.step = erasure.step.next();
        Ok(())
    }
}

/// Leaves of an erasure what is kept for ever: when, and how much.
fn finish(erasure: &mut Erasure) -> Result<(), Error> {
    erasure.step = Step::Done;
    erasure.user = None;
    erasure.finished_at = Some(now());
    tracing::info!(erasure = %erasure.id, counts = ?erasure.counts, "an account was erased");
    Ok(())
}

fn add(erasure: &mut Erasure, what: &str, count: i64) {
    *erasure.counts.entry(what.to_owned()).or_default() += count;
}

/// How long to leave a service alone that has failed so often.
fn pause(failures: u32) -> Duration {
    let [first, most] = PAUSES;
    first.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(most)
}

fn now() -> i64 {
    millis(SystemTime::now())
}

pub(crate) fn span(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_five_minutes() {
        let seconds = [1, 2, 3, 9, 10, 1000].map(|failures| pause(failures).as_secs());
        assert_eq!(seconds, [1, 2, 4, 256, 300, 300]);
    }
}
