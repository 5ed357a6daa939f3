//! The life of signing keys, and their encryption.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);
const TIMES: KeyTimes = KeyTimes {
    period: Duration::from_secs(30 * 24 * 3600),
    lead: Duration::from_secs(24 * 3600),
    keep: Duration::from_secs(24 * 3600),
};

fn sealer() -> Sealer {
    Sealer::new(&[7; 32]).unwrap()
}

/// Brings the keys to `now`, as the store does.
fn at(keys: &mut Vec<SigningKey>, now: Moment) -> bool {
    let spare = [sealer().generate(now).unwrap(), sealer().generate(now).unwrap()];
    advance(keys, spare.into_iter(), &TIMES, now)
}

fn in_state(keys: &[SigningKey], state: KeyState, now: Moment) -> Vec<&SigningKey> {
    keys.iter().filter(|key| key.state(now) == state).collect()
}

#[test]
fn the_first_key_signs_at_once_and_one_is_in_reserve() {
    let mut keys = Vec::new();
    let now = Moment(0);
    assert!(at(&mut keys, now));
    assert_eq!(in_state(&keys, KeyState::Active, now).len(), 1);
    assert_eq!(in_state(&keys, KeyState::Pending, now).len(), 1);
    assert!(!at(&mut keys, now.plus(HOUR)), "nothing is due an hour later");
}

#[test]
fn one_key_signs_at_any_time_and_none_that_was_not_published_long_before() {
    let mut keys = Vec::new();
    let mut now = Moment(0);
    let mut signers = std::collections::BTreeSet::new();
    for _ in 0..24 * 100 {
        at(&mut keys, now);
        let active = in_state(&keys, KeyState::Active, now);
        assert_eq!(active.len(), 1);
        assert!((1..=2).contains(&in_state(&keys, KeyState::Pending, now).len()));
        assert!(keys.len() <= 3, "keys that are gone are removed");
        signers.insert(active[0].kid.clone());
        let published_for = active[0].activate_at.unwrap().since(active[0].published_at);
        assert!(signers.len() == 1 || published_for >= TIMES.lead);
        now = now.plus(HOUR);
    }
    assert_eq!(signers.len(), 4, "100 days have four signers");
}

#[test]
fn in_an_emergency_another_key_could_sign_at_any_time() {
    let mut keys = Vec::new();
    at(&mut keys, Moment(0));
    let mut now = Moment(0).plus(TIMES.ready_after());
    let end = Moment(0).plus(TIMES.period + TIMES.lead);
    let mut signers = std::collections::BTreeSet::new();
    while now < end {
        at(&mut keys, now);
        assert!(reserve(&keys, Algorithm::EdDsa, &TIMES, now).is_some(), "{now:?}");
        signers.insert(in_state(&keys, KeyState::Active, now)[0].kid.clone());
        // Every look of a pod, but for the quiet weeks in between.
        let quiet = now.plus(2 * TIMES.lead) < Moment(0).plus(TIMES.period);
        now = now.plus(if quiet { HOUR } else { TIMES.interval() });
    }
    assert_eq!(signers.len(), 2);
}

fn rotate(keys: &mut Vec<SigningKey>, now: Moment) -> bool {
    let spare = [sealer().generate(now).unwrap(), sealer().generate(now).unwrap()];
    change(keys, &KeyChange::Rotate, spare.into_iter(), &TIMES, now).unwrap()
}

#[test]
fn a_rotation_that_is_asked_for_waits_until_the_next_key_is_known() {
    let mut keys = Vec::new();
    at(&mut keys, Moment(0));
    let first = in_state(&keys, KeyState::Active, Moment(0))[0].kid.clone();
    let asked = Moment(0).plus(5 * 24 * HOUR);
    assert!(rotate(&mut keys, asked));
    assert!(!rotate(&mut keys, asked.plus(HOUR)), "asked for again it is the same");
    let due = asked.plus(TIMES.ready_after());
    assert_eq!(in_state(&keys, KeyState::Active, asked)[0].due_at(&TIMES), Some(due));
    at(&mut keys, Moment(due.0 - 1));
    assert_eq!(in_state(&keys, KeyState::Active, due)[0].kid, first);
    at(&mut keys, due);
    let active = in_state(&keys, KeyState::Active, due)[0].clone();
    assert!(active.kid != first && active.published_at.plus(TIMES.lead) <= due);
    assert_eq!(active.due_at(&TIMES), Some(due.plus(TIMES.period)), "the new one has its whole period");
    assert!(reserve(&keys, Algorithm::EdDsa, &TIMES, due).is_some(), "and there is a reserve again");
    // Asked for shortly before the period is over it comes no later than without.
    let end = due.plus(TIMES.period);
    rotate(&mut keys, end.minus(HOUR));
    assert_eq!(in_state(&keys, KeyState::Active, due)[0].due_at(&TIMES), Some(end));
}

#[test]
fn in_an_emergency_the_reserve_signs_at_once_and_never_a_key_that_is_not_known() {
    let mut keys = Vec::new();
    at(&mut keys, Moment(0));
    let spare = |now| [sealer().generate(now).unwrap(), sealer().generate(now).unwrap()].into_iter();
    let revoke = |keys: &mut Vec<SigningKey>, kid: &str, force, now| {
        change(keys, &KeyChange::Revoke { kid: kid.to_owned(), force }, spare(now), &TIMES, now)
    };
    let kid = |keys: &[SigningKey], state, now| in_state(keys, state, now)[0].kid.clone();
    let (first, second) = (kid(&keys, KeyState::Active, Moment(0)), kid(&keys, KeyState::Pending, Moment(0)));
    let before = keys.clone();
    let ready_at = Moment(0).plus(TIMES.ready_after());
    let forced_at = Moment(0).plus(2 * TIMES.interval());
    let refusal = Err(KeyRefusal::NoReserve { ready_at, forced_at });
    assert_eq!(revoke(&mut keys, &first, false, Moment(ready_at.0 - 1)), refusal);
    assert_eq!(revoke(&mut keys, &first, true, Moment(forced_at.0 - 1)), refusal);
    assert_eq!(revoke(&mut keys, "another", true, ready_at), Err(KeyRefusal::Unknown));
    assert_eq!(keys, before);
    assert_eq!(revoke(&mut keys, &first, false, ready_at), Ok(true));
    assert_eq!(kid(&keys, KeyState::Active, ready_at), second);
    assert!(!jwks(&keys, ready_at).contains(&first), "it is published no longer");
    assert_eq!(in_state(&keys, KeyState::Pending, ready_at).len(), 1);
    // A retired one goes the same way, and the signing one stays.
    at(&mut keys, ready_at.plus(TIMES.period));
    let late = ready_at.plus(TIMES.period);
    assert_eq!(revoke(&mut keys, &second, false, late), Ok(true));
    assert!(in_state(&keys, KeyState::Retiring, late).is_empty());
    assert_eq!(in_state(&keys, KeyState::Active, late).len(), 1);
}

#[test]
fn a_key_that_signed_last_a_moment_ago_is_still_published() {
    let mut keys = Vec::new();
    at(&mut keys, Moment(0));
    let first = in_state(&keys, KeyState::Active, Moment(0))[0].kid.clone();
    let handover = Moment(0).plus(TIMES.period);
    at(&mut keys, handover);
    assert!(jwks(&keys, Moment(handover.plus(TIMES.keep).0 - 1)).contains(&first));
    assert!(!jwks(&keys, handover.plus(TIMES.keep)).contains(&first));
}

#[test]
fn a_service_that_slept_for_a_year_goes_on() {
    let mut keys = Vec::new();
    at(&mut keys, Moment(0));
    let late = Moment(0).plus(12 * TIMES.period);
    at(&mut keys, late);
    assert_eq!(in_state(&keys, KeyState::Active, late).len(), 1);
    assert_eq!(in_state(&keys, KeyState::Retiring, late).len(), 1);
}

#[test]
fn case_66_the_published_set_has_no_private_members() {
    let mut keys = Vec::new();
    at(&mut keys, Moment(0));
    let set: serde_json::Value = serde_json::from_str(&jwks(&keys, Moment(0))).unwrap();
    let published = set["keys"].as_array().unwrap();
    assert_eq!(published.len(), 2);
    for key in published {
        let mut members: Vec<_> = key.as_object().unwrap().keys().map(String::as_str).collect();
        members.sort_unstable();
        assert_eq!(members, ["alg", "crv", "kid", "kty", "use", "x"]);
    }
}

#[test]
fn a_private_key_opens_only_with_its_key_and_in_its_own_row() {
    let (one, other) = (sealer().generate(Moment(0)).unwrap(), sealer().generate(Moment(0)).unwrap());
    assert_eq!(sealer().open(&one).unwrap().kid(), one.kid);
    assert!(matches!(Sealer::new(&[8; 32]).unwrap().open(&one), Err(SealError::OtherKey { .. })));
    let swapped = SigningKey { sealed: other.sealed, ..one.clone() };
    assert!(matches!(sealer().open(&swapped), Err(SealError::Broken { .. })));
    let mut damaged = one.clone();
    damaged.sealed.bytes[20] ^= 1;
    assert!(matches!(sealer().open(&damaged), Err(SealError::Broken { .. })));
    let cut = SigningKey { sealed: Sealed { bytes: vec![1, 2], with: one.sealed.with.clone() }, ..one };
    assert!(matches!(sealer().open(&cut), Err(SealError::Broken { .. })));
}

#[test]
fn a_private_key_is_sealed_anew_and_opens_with_the_older_key_until_then() {
    let key = sealer().generate(Moment(0)).unwrap();
    let both = sealer().renewed(&[8; 32]).unwrap();
    assert_ne!(both.id(), sealer().id());
    assert_eq!(both.open(&key).unwrap().kid(), key.kid);
    let sealed = both.reseal(&key).unwrap().unwrap();
    assert_eq!(sealed.with, both.id());
    let anew = SigningKey { sealed, ..key.clone() };
    // It holds the private half of the same key, or it would be refused.
    assert_eq!(Sealer::new(&[8; 32]).unwrap().open(&anew).unwrap().kid(), key.kid);
    assert_eq!(both.reseal(&anew).unwrap(), None);
    assert!(matches!(sealer().open(&anew), Err(SealError::OtherKey { .. })));
    assert_eq!(both.generate(Moment(0)).unwrap().sealed.with, both.id());
}

#[test]
fn the_key_id_is_the_thumbprint_of_rfc_8037() {
    let x = URL_SAFE_NO_PAD.decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
    assert_eq!(Algorithm::EdDsa.thumbprint(&x), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
}
