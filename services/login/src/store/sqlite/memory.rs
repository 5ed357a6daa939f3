//! What the one process that owns the file need not write into it: buckets of calls and lanes. Both are bounded, and gone after a
//! restart, which nobody is in the middle of.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use flaghoist_runtime::names::UserId;
use parking_lot::Mutex;

use crate::store::Holder;
use crate::throttle::quota::{BucketKey, Quota};

/// How many buckets are kept apart.
const BUCKETS_MAX: usize = 100_000;
/// Full buckets are thrown away this often at most.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Buckets and lanes.
#[derive(Debug, Default)]
pub(super) struct Memory {
    buckets: Mutex<Buckets>,
    lanes: Mutex<HashMap<UserId, (Holder, Instant)>>,
}

#[derive(Debug, Default)]
struct Buckets {
    full_at: HashMap<BucketKey, i64>,
    swept_at: Option<Instant>,
}

impl Memory {
    pub(super) fn take(&self, bucket: BucketKey, quota: Quota, now: i64) -> Option<Duration> {
        self.buckets.lock().take(bucket, quota, now, BUCKETS_MAX)
    }

    pub(super) fn forget(&self, now: i64) {
        self.buckets.lock().full_at.retain(|_, full_at| *full_at > now);
        let now = Instant::now();
        self.lanes.lock().retain(|_, (_, until)| *until > now);
    }

    pub(super) fn take_lane(&self, user: UserId, holder: Holder, hold: Duration) -> bool {
        let now = Instant::now();
        let mut lanes = self.lanes.lock();
        let free = lanes.get(&user).is_none_or(|(holding, until)| *holding == holder || *until <= now);
        if free {
            lanes.insert(user, (holder, now + hold));
        }
        free
    }

    pub(super) fn keep_lane(&self, user: UserId, holder: Holder, hold: Duration) -> bool {
        match self.lanes.lock().get_mut(&user) {
            Some((holding, until)) if *holding == holder => {
                *until = Instant::now() + hold;
                true
            }
            _ => false,
        }
    }

    pub(super) fn leave_lane(&self, user: UserId, holder: Holder) {
        let mut lanes = self.lanes.lock();
        if lanes.get(&user).is_some_and(|(holding, _)| *holding == holder) {
            lanes.remove(&user);
        }
    }
}

impl Buckets {
    fn take(&mut self, bucket: BucketKey, quota: Quota, now: i64, buckets_max: usize) -> Option<Duration> {
        let known = self.full_at.contains_key(&bucket);
        let bucket = if known || self.room(now, buckets_max) { bucket } else { shared(bucket) };
        let full_at = self.full_at.entry(bucket).or_insert(now);
        match quota.take(*full_at, now) {
            Ok(after) => {
                *full_at = after;
                None
            }
            Err(wait) => Some(wait),
        }
    }

    /// Whether there is room for one more; full buckets are thrown away for it.
    fn room(&mut self, now: i64, buckets_max: usize) -> bool {
        if self.full_at.len() >= buckets_max && self.swept_at.is_none_or(|swept_at| swept_at.elapsed() >= SWEEP_EVERY) {
            self.swept_at = Some(Instant::now());
            self.full_at.retain(|_, full_at| *full_at > now);
        }
        self.full_at.len() < buckets_max
    }
}

/// One of 4096 buckets that new keys share when there are too many. Keys are keyed digests: nobody chooses with whom.
fn shared(BucketKey(key): BucketKey) -> BucketKey {
    let mut of_many = [0; 16];
    of_many[..2].copy_from_slice(&[key[0], key[1] & 0x0f]);
    BucketKey(of_many)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_however_many_addresses_come() {
        let mut buckets = Buckets::default();
        let quota = Quota { burst: 1, refill: Duration::from_secs(3600) };
        for number in 0..50_000_u32 {
            let key = BucketKey(u128::from(number.wrapping_mul(2_654_435_761)).to_le_bytes());
            let _answer = buckets.take(key, quota, 1000, 100);
        }
        assert!(buckets.full_at.len() <= 100 + 4096, "{}", buckets.full_at.len());
        // Once they are full again there is room.
        let later = 1000 + 3_600_000;
        buckets.swept_at = None;
        assert_eq!(buckets.take(BucketKey([7; 16]), quota, later, 100), None);
        assert_eq!(buckets.full_at.len(), 1);
    }
}
