//! The life of signing keys, and their encryption.

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
        assert_eq!(in_state(&keys, KeyState::Pending, now).len(), 1);
        assert!(keys.len() <= 3, "keys that are gone are removed");
        signers.insert(active[0].kid.clone());
        let published_for = active[0].activate_at.unwrap().since(active[0].published_at);
        assert!(signers.len() == 1 || published_for >= TIMES.lead);
        now = now.plus(HOUR);
    }
    assert_eq!(signers.len(), 4, "100 days have four signers");
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
        let members: Vec<_> = key.as_object().unwrap().keys().map(String::as_str).collect();
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
fn the_key_id_is_the_thumbprint_of_rfc_8037() {
    let x = URL_SAFE_NO_PAD.decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
    assert_eq!(Algorithm::EdDsa.thumbprint(&x), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
}
