//! How fast a person may write.

use std::num::NonZeroU32;
use std::sync::{Arc, Weak};
use std::time::Duration;

use flaghoist_runtime::names::UserId;
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota};

use crate::error::Error;

/// How often people who did not write for a while are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(10);

/// So many people added cost as much as a message.
const PEOPLE_PER_MESSAGE: usize = 20;

/// Counts what each person writes.
#[derive(Debug)]
pub(crate) struct Rate {
    limiter: DefaultKeyedRateLimiter<UserId>,
    burst: NonZeroU32,
    clock: DefaultClock,
}

impl Rate {
    /// Starts counting.
    pub(crate) fn start(per_second: u32, burst: u32) -> Arc<Self> {
        let positive = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        let burst = positive(burst);
        let quota = Quota::per_second(positive(per_second)).allow_burst(burst);
        let rate =
            Arc::new(Self { limiter: DefaultKeyedRateLimiter::keyed(quota), burst, clock: DefaultClock::default() });
        tokio::spawn(forget(Arc::downgrade(&rate)));
        rate
    }

    /// Takes note of a call, which adds so many people.
    pub(crate) fn take(&self, person: UserId, people: usize) -> Result<(), Error> {
        let cost = u32::try_from(1 + people / PEOPLE_PER_MESSAGE).unwrap_or(u32::MAX);
        // A call may cost more than the burst allows; then it takes all of it.
        let cost = NonZeroU32::new(cost).unwrap_or(NonZeroU32::MIN).min(self.burst);
        match self.limiter.check_key_n(&person, cost) {
            Ok(Err(until)) => Err(Error::RateLimited(until.wait_time_from(self.clock.now()))),
            Ok(Ok(())) | Err(_) => Ok(()),
        }
    }
}

/// Forgets people whose allowance is full again, so that memory is bounded by who wrote lately.
async fn forget(rate: Weak<Rate>) {
    loop {
        tokio::time::sleep(FORGET_EVERY).await;
        let Some(rate) = rate.upgrade() else { return };
        rate.limiter.retain_recent();
        rate.limiter.shrink_to_fit();
    }
}
