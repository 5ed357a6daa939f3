//! Buckets of calls: how many a bucket holds, how fast it fills, and the one number that is kept of each, the time at which it
//! will be full again.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{CLOCKS_APART_MAX, millis};

/// How many buckets are remembered to be empty.
const EMPTY_MAX: usize = 10_000;

/// What a bucket stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Limit {
    /// Attempts at passwords from an address.
    Attempts,
    /// Logins in steps that an address begins.
    Logins,
    /// Registrations from an address.
    Registrations,
    /// Changes of what people are shown of a person.
    Updates,
    /// Messages with a code that a person has sent, or that are sent to an address.
    Messages,
    /// Links for a new password that whoever names a person has sent to them. Strangers can: it is no bucket of what the person does.
    Links,
    /// Links for a new password that an address asks for.
    Resets,
}

impl Limit {
    /// Its name in the metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Attempts => "address",
            Self::Logins => "login",
            Self::Registrations => "registration",
            Self::Updates => "update",
            Self::Messages => "message",
            Self::Links => "link",
            Self::Resets => "reset",
        }
    }
}

/// Names a bucket: a keyed digest, because addresses are nobody's business.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct BucketKey(pub(crate) [u8; 16]);

/// What a bucket holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Quota {
    /// So many calls at once.
    pub(crate) burst: u32,
    /// One of them comes back in that time.
    pub(crate) refill: Duration,
}

impl Quota {
    /// How many milliseconds one call takes to come back; at least one.
    pub(crate) fn refill_ms(self) -> i64 {
        millis(self.refill).max(1)
    }

    /// How many milliseconds an empty bucket takes to be full.
    pub(crate) fn depth_ms(self) -> i64 {
        self.refill_ms().saturating_mul(i64::from(self.burst))
    }

    /// Further off than that no bucket is full again, unless the clock was set back: then it is full now, and nobody waits for
    /// that.
    pub(crate) fn full_within_ms(self) -> i64 {
        self.depth_ms().saturating_add(millis(CLOCKS_APART_MAX))
    }

    /// Takes a call at `now` out of a bucket that will be full at `full_at`; answers when it will be full then, or how long to
    /// wait for a call.
    pub(crate) fn take(self, full_at: i64, now: i64) -> Result<i64, Duration> {
        let full_at = if full_at - now > self.full_within_ms() { now } else { full_at.max(now) };
        let after = full_at.saturating_add(self.refill_ms());
        let missing = after - now - self.depth_ms();
        if missing > 0 { Err(Duration::from_millis(missing.unsigned_abs())) } else { Ok(after) }
    }
}

/// The buckets of which the store has said that they are empty, and until when: it need not be asked again before. Nobody fills a
/// bucket earlier, so this refuses nothing that the store would let through.
#[derive(Debug, Default)]
pub(crate) struct Empty(Mutex<HashMap<BucketKey, Instant>>);

impl Empty {
    /// How long a bucket is known to be empty.
    pub(crate) fn wait(&self, bucket: BucketKey) -> Option<Duration> {
        let mut empty = self.0.lock();
        let wait = empty.get(&bucket)?.checked_duration_since(Instant::now());
        if wait.is_none() {
            empty.remove(&bucket);
        }
        wait.filter(|wait| !wait.is_zero())
    }

    /// Remembers that a bucket is empty for so long. When there are too many, the store is asked each time.
    pub(crate) fn remember(&self, bucket: BucketKey, wait: Duration) {
        let now = Instant::now();
        let Some(until) = now.checked_add(wait) else { return };
        let mut empty = self.0.lock();
        if empty.len() >= EMPTY_MAX {
            empty.retain(|_, until| *until > now);
        }
        if empty.len() < EMPTY_MAX {
            empty.insert(bucket, until);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTA: Quota = Quota { burst: 3, refill: Duration::from_secs(2) };

    #[test]
    fn a_bucket_holds_its_calls_and_fills_one_by_one() {
        let mut full_at = 0;
        let mut take = |now| QUOTA.take(full_at, now).map(|after| full_at = after);
        assert_eq!([take(1000), take(1000), take(1000)], [Ok(()), Ok(()), Ok(())]);
        assert_eq!(take(1000), Err(Duration::from_secs(2)));
        assert_eq!(take(2500), Err(Duration::from_millis(500)));
        assert_eq!(take(3000), Ok(()));
        assert_eq!(take(3000), Err(Duration::from_secs(2)));
        // Long after it is full and holds no more than that.
        assert_eq!([take(1_000_000), take(1_000_000), take(1_000_000)], [Ok(()), Ok(()), Ok(())]);
        assert!(take(1_000_000).is_err());
    }

    #[test]
    fn a_clock_that_was_set_back_closes_no_bucket_and_clocks_apart_fill_none() {
        let emptied = QUOTA.take(QUOTA.take(QUOTA.take(0, 500_000).unwrap(), 500_000).unwrap(), 500_000).unwrap();
        assert!(QUOTA.take(emptied, 0).is_ok(), "set back by minutes");
        // Another pod whose clock is a few seconds behind finds it empty as well.
        assert!(QUOTA.take(emptied, 490_000).is_err());
    }

    #[test]
    fn an_empty_bucket_is_remembered_until_it_has_a_call() {
        let empty = Empty::default();
        let (one, other) = (BucketKey([1; 16]), BucketKey([2; 16]));
        empty.remember(one, Duration::from_secs(60));
        empty.remember(other, Duration::ZERO);
        assert!(empty.wait(one).unwrap() > Duration::from_secs(59));
        assert_eq!(empty.wait(other), None);
        for number in 0..2 * EMPTY_MAX {
            let mut key = [9; 16];
            key[..8].copy_from_slice(&number.to_be_bytes());
            empty.remember(BucketKey(key), Duration::from_secs(60));
        }
        assert!(empty.0.lock().len() <= EMPTY_MAX);
    }
}
