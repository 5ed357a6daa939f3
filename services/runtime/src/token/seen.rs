//! The proofs that were used lately: each is good once. A process remembers those that it has seen, so behind a balancer a stolen one could be
//! used once more on every other pod within its minute, for the same call and with the same token; the issuer's own endpoints, which give
//! tokens, remember theirs in the store. That a call is the same one again, made by a sidecar and not by a thief, nobody can tell from
//! headers that a thief may copy, so the mesh makes a call with a proof again only while it has not reached a service (`istio/README.md`).

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};

use aws_lc_rs::digest::{SHA256, digest};
use parking_lot::Mutex;

use super::proof::{AGE_MAX_SECONDS, AHEAD_MAX_SECONDS, Proof};

/// How many parts the memory has, so that callers seldom wait for one another.
const SHARDS: usize = 16;

/// How many proofs a part remembers from the present period and as many again from the one before: 2 million in all, some 60 MB. Beyond that
/// the older ones are forgotten early; that is 14,000 proofs a second, more than two processors verify.
const SHARD_MAX_PROOFS: usize = 65_536;

/// How long a period is: after two of them no proof is good any more.
const PERIOD_SECONDS: i64 = AGE_MAX_SECONDS + AHEAD_MAX_SECONDS;

/// The proofs that were used lately.
#[derive(Debug, Default)]
pub(super) struct Seen {
    shards: [Mutex<Shard>; SHARDS],
    /// Decides, unknown to callers, which part remembers what: nobody fills the part of another's proof on purpose.
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Shard {
    present: HashSet<[u8; 16]>,
    before: HashSet<[u8; 16]>,
    /// The number of the present period.
    period: i64,
}

impl Seen {
    /// Whether it is seen for the first time. Of any number of calls with the same proof one is told so.
    pub(super) fn first(&self, proof: &Proof, now: i64) -> bool {
        let mut id = [0; 16];
        let whole = digest(&SHA256, format!("{}\n{}", proof.thumbprint, proof.id).as_bytes());
        id.copy_from_slice(&whole.as_ref()[..16]);
        let place = usize::try_from(self.hasher.hash_one(id) % SHARDS as u64).unwrap_or(0);
        let mut shard = self.shards[place].lock();
        let period = now.div_euclid(PERIOD_SECONDS);
        if period > shard.period || shard.present.len() >= SHARD_MAX_PROOFS {
            let present = std::mem::take(&mut shard.present);
            // What is two periods old is over.
            shard.before = if period > shard.period + 1 { HashSet::new() } else { present };
            shard.period = shard.period.max(period);
        }
        !shard.before.contains(&id) && shard.present.insert(id)
    }
}

#[cfg(test)]
mod tests {
    use super::super::proof::tests::proof_named;
    use super::*;

    #[test]
    fn a_proof_is_new_once_for_as_long_as_it_could_be_used() {
        let seen = Seen::default();
        for now in [1_700_000_000, 1_700_000_001, 1_700_000_000 + PERIOD_SECONDS - 1] {
            assert_eq!(seen.first(&proof_named("a"), now), now == 1_700_000_000);
        }
        assert!(seen.first(&proof_named("b"), 1_700_000_000));
        assert!(seen.first(&proof_named("a"), 1_700_000_000 + 2 * PERIOD_SECONDS), "nobody remembers for ever");
    }

    #[test]
    fn case_49_of_fifty_parallel_uses_one_is_the_first() {
        let seen = Seen::default();
        let firsts = std::thread::scope(|scope| {
            let uses = (0..50).map(|_| scope.spawn(|| seen.first(&proof_named("x"), 1_700_000_000)));
            uses.collect::<Vec<_>>().into_iter().map(|used| used.join().unwrap()).filter(|first| *first).count()
        });
        assert_eq!(firsts, 1);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let seen = Seen::default();
        for number in 0..40_000 {
            assert!(seen.first(&proof_named(&number.to_string()), 1_700_000_000));
        }
        let held = || -> usize {
            let of = |shard: &Mutex<Shard>| {
                let shard = shard.lock();
                shard.present.len() + shard.before.len()
            };
            seen.shards.iter().map(of).sum()
        };
        assert_eq!(held(), 40_000);
        for number in 0..1000 {
            seen.first(&proof_named(&number.to_string()), 1_700_000_000 + 10 * PERIOD_SECONDS);
        }
        assert_eq!(held(), 1000, "what is over is forgotten");
    }
}
