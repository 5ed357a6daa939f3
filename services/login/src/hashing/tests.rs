use super::*;

const CHEAP: Cost = Cost { memory_kib: 64, passes: 1, lanes: 1 };

fn password(text: &str) -> Password {
    Password::read(text.into()).unwrap()
}

#[test]
fn a_hash_is_a_phc_string_that_only_its_password_opens() {
    let mut hasher = Hasher::new(Cost::default()).unwrap();
    let stored = hasher.hash(&password("tulips in the rain")).unwrap();
    assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
    assert!(hasher.verify(&password("tulips in the rain"), &stored, true).unwrap().matches);
    let wrong = hasher.verify(&password("tulips in the rain "), &stored, true).unwrap();
    assert!(!wrong.matches && wrong.renewed.is_none());
    assert_ne!(stored, hasher.hash(&password("tulips in the rain")).unwrap(), "each has its own salt");
}

#[test]
fn the_whole_password_counts() {
    let mut hasher = Hasher::new(CHEAP).unwrap();
    let long = "x".repeat(1000);
    for (typed, other) in [("nul\0one", "nul\0two"), (format!("{long}a").as_str(), format!("{long}b").as_str())] {
        let stored = hasher.hash(&password(typed)).unwrap();
        assert!(hasher.verify(&password(typed), &stored, true).unwrap().matches);
        assert!(!hasher.verify(&password(other), &stored, true).unwrap().matches);
    }
}

#[test]
fn a_cheaper_hash_is_renewed_and_a_costlier_one_kept() {
    let dear = Cost { memory_kib: 128, passes: 2, lanes: 1 };
    let old = Hasher::new(CHEAP).unwrap().hash(&password("tulips in the rain")).unwrap();
    let mut hasher = Hasher::new(dear).unwrap();
    let renewed = hasher.verify(&password("tulips in the rain"), &old, true).unwrap().renewed.unwrap();
    assert!(renewed.contains("m=128,t=2,p=1"));
    assert!(hasher.verify(&password("tulips in the rain"), &renewed, true).unwrap().renewed.is_none());
    // Lowered again: the costlier hash is checked in memory of its own and stays.
    let verdict = Hasher::new(CHEAP).unwrap().verify(&password("tulips in the rain"), &renewed, true).unwrap();
    assert!(verdict.matches && verdict.renewed.is_none());
}

#[test]
fn nobodys_hash_costs_what_everybodys_does() {
    let stored = Hasher::nobodys(CHEAP).unwrap();
    assert!(stored.starts_with("$argon2id$v=19$m=64,t=1,p=1$"));
    assert!(!Hasher::new(CHEAP).unwrap().verify(&password("tulips in the rain"), &stored, true).unwrap().matches);
}

#[test]
fn a_broken_row_is_an_error_and_no_panic() {
    let mut hasher = Hasher::new(CHEAP).unwrap();
    for stored in [
        "",
        "x",
        "$argon2i$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$aGFzaA",
        "$argon2id$v=19$m=4294967295,t=1,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g",
    ] {
        assert!(matches!(hasher.verify(&password("tulips"), stored, true), Err(HashError::Stored(_))), "{stored}");
    }
}
