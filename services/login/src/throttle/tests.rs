use proptest::prelude::*;

use super::*;

const DELAYS: Delays = Delays {
    free: 3,
    first: Duration::from_secs(1),
    max: Duration::from_secs(900),
    strangers_max: Duration::from_secs(60),
};

/// Attempts one after another at the times given; says how long each had to wait.
fn waits(delays: Delays, times: impl IntoIterator<Item = i64>) -> Vec<u64> {
    let (mut here, mut strangers) = (None, None);
    let mut waits = Vec::new();
    for now in times {
        waits.push(match delays.decide(here, strangers, now) {
            Decision::Go { here: kept, strangers: all } => {
                (here, strangers) = (Some(kept), all);
                0
            }
            Decision::Wait(wait) => u64::try_from(wait.as_millis()).unwrap(),
        });
    }
    waits
}

#[test]
fn a_hundred_guesses_at_once_are_as_many_as_are_free() {
    let waits = waits(DELAYS, std::iter::repeat_n(1_000_000, 100));
    assert_eq!(waits.iter().filter(|wait| **wait == 0).count(), 3);
    assert!(waits[3..].iter().all(|wait| *wait == 1000));
}

#[test]
fn free_attempts_wait_for_nobody_whose_clock_is_ahead() {
    // Of calls at once the later one may have looked at the clock earlier.
    assert_eq!(waits(DELAYS, [1_000_005, 1_000_000, 1_000_003]), [0, 0, 0]);
}

#[test]
fn case_80_a_day_has_a_bound_of_guesses() {
    // Whoever guesses whenever they may, for a day: from one address that is known, and from ever new ones.
    let day = 24 * 3600 * 1000;
    let guesses = |known: bool| {
        let (mut here, mut strangers, mut now, mut count) = (None, None, 0, 0);
        while now < day {
            let place = here.filter(|_| known).map(|here: Attempts| Attempts { known_at: Some(0), ..here });
            match DELAYS.decide(place, strangers, now) {
                Decision::Go { here: kept, strangers: all } => {
                    (here, strangers, count) = (Some(kept), all.or(strangers), count + 1);
                }
                Decision::Wait(wait) => now += i64::try_from(wait.as_millis()).unwrap(),
            }
        }
        count
    };
    assert_eq!((guesses(true), guesses(false)), (107, 1456));
}

#[test]
fn delays_double_up_to_the_longest() {
    let mut here = None;
    let mut now = 1_000_000;
    let mut delays = Vec::new();
    for _ in 0..16 {
        let known = here.map(|here: Attempts| Attempts { known_at: Some(now), ..here });
        let Decision::Go { here: kept, .. } = DELAYS.decide(known, None, now) else { panic!("had to wait") };
        delays.push((kept.next_at - now) / 1000);
        now = kept.next_at;
        here = Some(kept);
    }
    assert_eq!(delays, [0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900, 900]);
}

#[test]
fn an_address_that_is_known_does_not_wait_for_strangers() {
    let hammered = Attempts { count: 1000, next_at: 60_000, known_at: None, updated_at: 0 };
    assert_eq!(DELAYS.decide(None, Some(hammered), 0), Decision::Wait(Duration::from_secs(60)));
    let known = Attempts { known_at: Some(0), ..Attempts::default() };
    assert!(matches!(DELAYS.decide(Some(known), Some(hammered), 0), Decision::Go { strangers: None, .. }));
    let long_ago = i64::try_from(KNOWN_FOR.as_millis()).unwrap();
    let hammered = Attempts { next_at: long_ago + 5, ..hammered };
    assert_eq!(DELAYS.decide(Some(known), Some(hammered), long_ago), Decision::Wait(Duration::from_millis(5)));
}

#[test]
fn a_clock_that_was_set_back_closes_no_account() {
    let here = Attempts { count: 50, next_at: i64::MAX / 2, known_at: None, updated_at: i64::MAX / 2 };
    assert!(matches!(DELAYS.decide(Some(here), None, 0), Decision::Go { .. }));
}

#[test]
fn keys_differ_by_account_and_network_only() {
    let keys = AttemptKeys::new(b"secret");
    let (alice, bob) = (Handle::read("alice").unwrap(), Handle::read("bob").unwrap());
    let one = keys.of(&alice, "2001:db8::1".parse().unwrap());
    assert_eq!(one, keys.of(&alice, "2001:db8::2".parse().unwrap()));
    assert_ne!(one, keys.of(&bob, "2001:db8::1".parse().unwrap()));
    assert_ne!(one.address, keys.of(&alice, "192.0.2.1".parse().unwrap()).address);
    assert_ne!(one.account, AttemptKeys::new(b"other").account(&alice));
}

proptest! {
    #[test]
    fn more_attempts_never_shorten_the_wait(gaps in prop::collection::vec(0_i64..5_000_000, 1..60)) {
        let mut here: Option<Attempts> = None;
        let mut now = 0;
        for gap in gaps {
            now += gap;
            match DELAYS.decide(here, None, now) {
                Decision::Go { here: kept, .. } => {
                    prop_assert!(kept.next_at >= now && kept.next_at - now <= 900_000);
                    prop_assert!(here.is_none_or(|before| kept.count > before.count));
                    here = Some(kept);
                }
                Decision::Wait(wait) => {
                    prop_assert!(wait <= Duration::from_secs(900));
                    // Waiting so long is enough.
                    let later = now + i64::try_from(wait.as_millis()).unwrap();
                    let go = matches!(DELAYS.decide(here, None, later), Decision::Go { .. });
                    prop_assert!(go);
                }
            }
        }
    }
}
