//! A bucket of calls for each address, in memory. How many addresses are kept apart is bounded; past that, addresses
//! that are new share a few thousand buckets.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota};
use parking_lot::Mutex;

use super::network;

/// How many addresses are kept apart.
const ADDRESSES_MAX: usize = 100_000;
/// How many buckets the others share.
const SHARED_BUCKETS: u64 = 4096;
/// Full buckets are thrown away this often at most.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// The buckets.
#[derive(Debug)]
pub(crate) struct Addresses {
    limiter: DefaultKeyedRateLimiter<Bucket>,
    clock: DefaultClock,
    addresses_max: usize,
    swept_at: Mutex<Option<Instant>>,
    hasher: RandomState,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Bucket {
    Own(u128),
    Shared(u64),
}

impl Addresses {
    /// Buckets that hold `burst` calls, one of which comes back every `refill`.
    pub(crate) fn new(burst: NonZeroU32, refill: Duration) -> Self {
        Self::bounded(burst, refill, ADDRESSES_MAX)
    }

    fn bounded(burst: NonZeroU32, refill: Duration, addresses_max: usize) -> Self {
        // Only a time of zero is no period.
        let period = refill.max(Duration::from_nanos(1));
        let quota = Quota::with_period(period).map_or(Quota::per_second(burst), |quota| quota.allow_burst(burst));
        Self {
            limiter: DefaultKeyedRateLimiter::keyed(quota),
            clock: DefaultClock::default(),
            addresses_max,
            swept_at: Mutex::new(None),
            hasher: RandomState::new(),
        }
    }

    /// Takes one call out of the bucket of `address`, or says how long to wait for one.
    pub(crate) fn take(&self, address: IpAddr) -> Result<(), Duration> {
        let network = network(address);
        let bucket = if self.limiter.len() < self.addresses_max || self.sweep() {
            Bucket::Own(network)
        } else {
            Bucket::Shared(self.hasher.hash_one(network) % SHARED_BUCKETS)
        };
        self.limiter.check_key(&bucket).map_err(|until| until.wait_time_from(self.clock.now()))
    }

    /// Throws full buckets away, and says whether that made room.
    #[cold]
    fn sweep(&self) -> bool {
        let now = Instant::now();
        let mut swept_at = self.swept_at.lock();
        if swept_at.is_none_or(|swept_at| now - swept_at >= SWEEP_EVERY) {
            *swept_at = Some(now);
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
        }
        self.limiter.len() < self.addresses_max
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn addresses(burst: u32, addresses_max: usize) -> Addresses {
        Addresses::bounded(NonZeroU32::new(burst).unwrap(), Duration::from_secs(3600), addresses_max)
    }

    #[test]
    fn each_address_has_its_own_bucket() {
        let addresses = addresses(2, 10);
        let one = IpAddr::from([192, 0, 2, 1]);
        assert_eq!([addresses.take(one), addresses.take(one)], [Ok(()), Ok(())]);
        let wait = addresses.take(one).unwrap_err();
        assert!(wait > Duration::from_secs(3500) && wait <= Duration::from_secs(3600), "{wait:?}");
        assert_eq!(addresses.take(IpAddr::from([192, 0, 2, 2])), Ok(()));
        // The same address, seen by a socket for both kinds.
        assert!(addresses.take(IpAddr::V6(Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped())).is_err());
    }

    #[test]
    fn a_subscriber_of_ipv6_has_one_bucket() {
        let addresses = addresses(1, 10);
        assert_eq!(addresses.take("2001:db8:1:2::1".parse().unwrap()), Ok(()));
        assert!(addresses.take("2001:db8:1:2:ffff::2".parse().unwrap()).is_err());
        assert_eq!(addresses.take("2001:db8:1:3::1".parse().unwrap()), Ok(()));
    }

    #[test]
    fn memory_is_bounded_however_many_addresses_come() {
        let addresses = addresses(1, 100);
        for number in 0..50_000_u128 {
            let _answer = addresses.take(IpAddr::V6(Ipv6Addr::from_bits(number << 64)));
        }
        assert!(addresses.limiter.len() <= 100 + 4096, "{}", addresses.limiter.len());
    }
}
