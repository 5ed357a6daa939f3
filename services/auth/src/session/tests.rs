//! The family of refresh tokens, against a model of what its owner and a thief may do.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const GRACE: Duration = Duration::from_secs(10);
const LIFETIMES: Lifetimes =
    Lifetimes { grace: GRACE, idle: Duration::from_secs(1000), absolute: Duration::from_secs(5000) };

fn token(number: u64) -> Digest {
    Digest::of(&number.to_be_bytes())
}

fn session(now: Moment) -> Session {
    Session {
        id: SessionId(Uuid::now_v7()),
        user: UserId(Uuid::now_v7()),
        client_id: "web".into(),
        scopes: Scopes::parse("chat.send chat.read").unwrap(),
        amr: vec!["pwd".into()],
        label: String::new(),
        authenticated_at: now,
        created_at: now,
        last_use_at: now.minute(),
        last_address: String::new(),
        claims: Vec::new(),
        key_thumbprint: String::new(),
        family: Family { current: token(0), previous: None, rotated_at: now },
    }
}

fn presented(session: &Session, number: u64, client_id: &str) -> Presentation {
    Presentation {
        session: session.id,
        presented: token(number),
        successor: token(number + 1),
        client_id: client_id.into(),
        scopes: None,
        address: String::new(),
        key: None,
    }
}

fn granted(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Granted(_))
}

#[test]
fn case_35_a_used_token_is_good_for_ten_seconds_and_then_ends_the_session() {
    let start = Moment(1_000_000);
    let mut session = session(start);
    let first = presented(&session, 0, "web");
    assert!(granted(&session.present(&first, &LIFETIMES, start)));
    assert!(granted(&session.present(&first, &LIFETIMES, start.plus(GRACE))));
    assert_eq!(session.family.current, token(1));
    let late = Moment(start.plus(GRACE).0 + 1);
    assert_eq!(session.present(&first, &LIFETIMES, late), Verdict::Reused);
}

#[test]
fn case_35_another_client_ends_the_session() {
    let start = Moment(0);
    let mut session = session(start);
    let theirs = presented(&session, 0, "other");
    assert_eq!(session.present(&theirs, &LIFETIMES, start), Verdict::Reused);
}

#[test]
fn case_39_a_wider_scope_is_refused_and_changes_nothing() {
    let start = Moment(0);
    let mut session = session(start);
    let wider = Presentation { scopes: Some(Scopes::ADMIN), ..presented(&session, 0, "web") };
    let before = session.family;
    assert_eq!(session.present(&wider, &LIFETIMES, start), Verdict::ScopeExceeded);
    assert_eq!(session.family, before);
    let narrower = Presentation { scopes: Scopes::named("chat.read"), ..wider };
    assert!(granted(&session.present(&narrower, &LIFETIMES, start)));
    assert!(granted(&session.present(&presented(&session, 1, "web"), &LIFETIMES, start)));
}

#[test]
fn a_session_ends_when_it_is_idle_and_when_it_is_old() {
    let start = Moment(0);
    let mut idle = session(start);
    let first = presented(&idle, 0, "web");
    assert_eq!(idle.present(&first, &LIFETIMES, start.plus(LIFETIMES.idle)), Verdict::Expired);
    let mut old = session(start);
    let mut now = start;
    for number in 0..5 {
        now = now.plus(Duration::from_secs(900));
        assert!(granted(&old.present(&presented(&old, number, "web"), &LIFETIMES, now)), "use {number}");
    }
    let last = presented(&old, 5, "web");
    assert_eq!(old.present(&last, &LIFETIMES, start.plus(LIFETIMES.absolute)), Verdict::Expired);
}

proptest! {
    /// Whatever is presented whenever: the live branch is one, a token works exactly while it is the current one or, within
    /// the grace time, the one before, and anything else ends the session.
    #[test]
    fn case_36_a_family_has_one_live_branch(
        steps in proptest::collection::vec((0u64..6, 0u64..8_000, proptest::bool::weighted(0.05)), 1..60)
    ) {
        let mut now = Moment(0);
        let mut session = session(now);
        let (mut current, mut rotated_at) = (0u64, now);
        for (back, wait_ms, foreign) in steps {
            now = now.plus(Duration::from_millis(wait_ms));
            let number = current.saturating_sub(back.saturating_sub(2));
            let client = if foreign { "other" } else { "web" };
            let verdict = session.present(&presented(&session, number, client), &LIFETIMES, now);
            let repeat = number + 1 == current && now.since(rotated_at) <= GRACE;
            if foreign || !(number == current || repeat) {
                prop_assert_eq!(verdict, Verdict::Reused);
                break;
            }
            prop_assert!(granted(&verdict));
            if number == current {
                (current, rotated_at) = (current + 1, now);
            }
            prop_assert_eq!(session.family.current, token(current));
        }
    }
}

#[test]
fn case_35_a_session_is_bound_to_the_first_key_that_is_proven_and_ends_without_it() {
    let now = Moment(1_000_000);
    let with = |session: &Session, number: u64, key: Option<&str>| Presentation {
        key: key.map(str::to_owned),
        ..presented(session, number, "web")
    };
    let mut fresh = session(now);
    assert!(granted(&fresh.present(&with(&fresh, 0, None), &LIFETIMES, now)));
    assert_eq!(fresh.key_thumbprint, "");
    assert!(granted(&fresh.present(&with(&fresh, 1, Some("mine")), &LIFETIMES, now)));
    assert_eq!(fresh.key_thumbprint, "mine");
    assert!(granted(&fresh.present(&with(&fresh, 1, Some("mine")), &LIFETIMES, now)), "the answer was lost");
    for key in [None, Some("other"), Some("")] {
        // Whether it is the current token, or the one before, within its ten seconds.
        for number in [1, 2] {
            let mut bound = fresh.clone();
            assert_eq!(bound.present(&with(&bound, number, key), &LIFETIMES, now), Verdict::Reused, "{key:?}");
        }
    }
    assert!(granted(&fresh.present(&with(&fresh, 2, Some("mine")), &LIFETIMES, now)));
}
