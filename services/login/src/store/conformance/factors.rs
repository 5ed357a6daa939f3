//! What every store must do with second factors and with logins in steps.

use flaghoist_runtime::seal::Sealed;

use super::*;
use crate::login_token::{LoginDigest, LoginToken};
use crate::recovery_code::{CODES, RecoveryCode, RecoveryDigest};
use crate::store::factors::{Confirmed, FirstFactor, Login, Proven, Removed, Step};

fn secret(text: &str) -> Sealed {
    Sealed { bytes: text.as_bytes().to_vec(), with: "key".into() }
}

fn codes(user: UserId) -> Vec<RecoveryDigest> {
    RecoveryCode::generate(user).1
}

/// What a first factor brings to whoever signed in as session "kept".
pub(super) fn first(codes: &[RecoveryDigest]) -> FirstFactor<'_> {
    FirstFactor { codes, kept_session: "kept" }
}

/// Someone with an authenticator app, whose last code was of step 5, and with recovery codes.
async fn enrolled(store: &dyn Store, text: &str) -> (UserId, Vec<RecoveryDigest>) {
    let user = register(store, text).await;
    let codes = codes(user);
    assert!(store.begin_totp(user, &secret("s"), NOW + 10).await.unwrap());
    let confirmed = store.confirm_totp(user, &secret("s"), 5, first(&codes), NOW).await.unwrap();
    assert_eq!(confirmed, Confirmed::Done { first: true });
    (user, codes)
}

/// How many of these were done.
fn done(answers: Vec<Result<bool, super::super::StoreError>>) -> usize {
    answers.into_iter().filter(|answer| *answer.as_ref().unwrap()).count()
}

pub(crate) async fn an_authenticator_is_confirmed_once(world: World) {
    let pods = world.pods().await;
    let store = &pods[0];
    let user = register(&**store, "alice").await;
    assert!(!store.begin_totp(UserId(Uuid::now_v7()), &secret("s"), NOW + 10).await.unwrap(), "nobody's");
    assert!(store.begin_totp(user, &secret("first"), NOW + 10).await.unwrap());
    assert!(store.begin_totp(user, &secret("second"), NOW + 10).await.unwrap());
    assert_eq!(store.totp_enrolment(user, NOW).await.unwrap(), Some(secret("second")));
    assert_eq!(store.totp_enrolment(user, NOW + 10).await.unwrap(), None, "expired");
    let codes = codes(user);
    for (sealed, at) in [("first", NOW), ("second", NOW + 10)] {
        assert_eq!(store.confirm_totp(user, &secret(sealed), 5, first(&codes), at).await.unwrap(), Confirmed::Gone);
    }
    assert!(!store.credentials_of(user).await.unwrap().unwrap().second_factor, "nothing depends on it yet");
    let sealed = secret("second");
    let confirmed = pods.iter().cycle().take(8).map(|pod| pod.confirm_totp(user, &sealed, 5, first(&codes), NOW));
    let confirmed: Vec<_> = futures_util::future::try_join_all(confirmed).await.unwrap();
    assert_eq!(confirmed.iter().filter(|confirmed| **confirmed == Confirmed::Done { first: true }).count(), 1);
    assert_eq!(confirmed.iter().filter(|confirmed| **confirmed == Confirmed::Gone).count(), 7);
    let factors = store.factors(user).await.unwrap();
    assert_eq!((millis(factors.totp.unwrap().created_at), factors.recovery_codes), (NOW, 10));
    assert!(store.credentials(&handle("alice")).await.unwrap().unwrap().second_factor);
    let notices = store.notices(user).await.unwrap();
    assert!(matches!(&notices[..], [(_, Notice::EndSessions { except })] if except == "kept"), "{notices:?}");
    store.told(notices[0].0).await.unwrap();
    // Another app takes its place, and the codes and sessions stay.
    assert!(store.begin_totp(user, &secret("third"), NOW + 10).await.unwrap());
    let again = store.confirm_totp(user, &secret("third"), 3, first(&[]), NOW + 1).await.unwrap();
    assert_eq!(again, Confirmed::Done { first: false });
    assert!(store.notices(user).await.unwrap().is_empty());
    let totp = store.totp(user).await.unwrap().unwrap();
    assert_eq!(
        (totp.secret, totp.last_step, store.factors(user).await.unwrap().recovery_codes),
        (secret("third"), 3, 10)
    );
}

pub(crate) async fn a_one_time_code_is_taken_once(world: World) {
    let pods = world.pods().await;
    let (user, _) = enrolled(&*pods[0], "alice").await;
    let sealed = secret("s");
    assert!(!pods[0].take_totp(user, &sealed, None, 5, NOW).await.unwrap(), "the code that confirmed it");
    for step in [6, 9] {
        let taken = pods.iter().cycle().take(16).map(|pod| pod.take_totp(user, &sealed, None, step, NOW + step));
        assert_eq!(done(futures_util::future::join_all(taken).await), 1, "{step}");
    }
    drop(pods);
    let store = world.open().await;
    for step in [5, 6, 7, 8, 9] {
        assert!(!store.take_totp(user, &sealed, None, step, NOW).await.unwrap(), "{step} after a restart");
    }
    assert!(!store.take_totp(user, &secret("another"), None, 10, NOW).await.unwrap());
    assert!(!store.take_totp(UserId(Uuid::now_v7()), &sealed, None, 10, NOW).await.unwrap());
    let factors = store.factors(user).await.unwrap();
    assert_eq!(millis(factors.totp.unwrap().used_at), NOW + 9);
}

pub(crate) async fn a_recovery_code_is_taken_once_and_by_its_person(world: World) {
    let pods = world.pods().await;
    let (alice, codes) = enrolled(&*pods[0], "alice").await;
    let (bob, bobs) = enrolled(&*pods[0], "bob").await;
    assert!(pods[0].take_recovery_code(alice, bobs[0]).await.unwrap().is_none());
    let taken = pods.iter().cycle().take(16).map(|pod| pod.take_recovery_code(alice, codes[0]));
    let taken = futures_util::future::try_join_all(taken).await.unwrap();
    assert_eq!(taken.iter().flatten().count(), 1);
    assert_eq!(pods[1].factors(alice).await.unwrap().recovery_codes, 9);
    assert_eq!(pods[1].factors(bob).await.unwrap().recovery_codes, 10);
    // New ones take the place of all.
    let (_, anew) = RecoveryCode::generate(alice);
    assert!(pods[0].replace_recovery_codes(alice, &anew, NOW).await.unwrap());
    assert!(pods[1].take_recovery_code(alice, codes[1]).await.unwrap().is_none());
    assert!(pods[1].take_recovery_code(alice, anew[CODES - 1]).await.unwrap().is_some());
    let carol = register(&*pods[0], "carol").await;
    assert!(!pods[0].replace_recovery_codes(carol, &anew, NOW).await.unwrap(), "they would stand in for nothing");
}

pub(crate) async fn the_last_strong_factor_is_removed_only_on_purpose(world: World) {
    let store = world.open().await;
    let (user, codes) = enrolled(&*store, "alice").await;
    assert_eq!(store.remove_totp(user, false).await.unwrap(), Removed::Last);
    assert!(store.credentials_of(user).await.unwrap().unwrap().second_factor);
    assert_eq!(store.remove_totp(user, true).await.unwrap(), Removed::Done);
    assert_eq!(store.factors(user).await.unwrap(), crate::factor::Factors::default());
    assert!(store.take_recovery_code(user, codes[0]).await.unwrap().is_none());
    assert!(!store.credentials_of(user).await.unwrap().unwrap().second_factor);
    assert_eq!(store.remove_totp(user, false).await.unwrap(), Removed::Absent, "there is none");
}

pub(crate) async fn factors_go_with_the_account(world: World) {
    let store = world.open().await;
    let (user, codes) = enrolled(&*store, "alice").await;
    assert!(store.begin_totp(user, &secret("another"), NOW + 10).await.unwrap());
    let login = LoginToken::generate().digest();
    store.begin_login(login, &login_of(Some(Proven { user, version: 1 })), NOW + 10).await.unwrap();
    store.begin_deletion(user, NOW).await.unwrap();
    assert!(!store.begin_totp(user, &secret("late"), NOW + 10).await.unwrap());
    store.finish_deletion(user, &[]).await.unwrap();
    assert_eq!(store.factors(user).await.unwrap(), crate::factor::Factors::default());
    assert_eq!(store.totp_enrolment(user, NOW).await.unwrap(), None);
    assert!(store.take_recovery_code(user, codes[0]).await.unwrap().is_none());
    assert_eq!(store.login(login, NOW).await.unwrap(), None);
}

fn login_of(proven: Option<Proven>) -> Login {
    let (client_id, label) = ("app".to_owned(), "Phone \u{1f980}".to_owned());
    Login { handle: handle("alice"), client_id, label, bound_to: b"browser".to_vec(), proven }
}

pub(crate) async fn a_step_of_a_login_is_taken_once(world: World) {
    let pods = world.pods().await;
    let user = register(&*pods[0], "alice").await;
    let (digest, proven) = (LoginToken::generate().digest(), Proven { user, version: 7 });
    pods[0].begin_login(digest, &login_of(None), NOW + 10).await.unwrap();
    assert_eq!(pods[1].login(digest, NOW).await.unwrap(), Some(login_of(None)));
    assert_eq!(pods[1].login(LoginDigest([1; 32]), NOW).await.unwrap(), None);
    assert!(!pods[0].end_login(digest, Step::SecondFactor, NOW).await.unwrap(), "a step is skipped");
    assert!(!pods[0].password_proven(digest, proven, NOW + 10).await.unwrap(), "expired");
    let taken = pods.iter().cycle().take(16).map(|pod| pod.password_proven(digest, proven, NOW));
    assert_eq!(done(futures_util::future::join_all(taken).await), 1);
    assert_eq!(pods[1].login(digest, NOW).await.unwrap(), Some(login_of(Some(proven))));
    assert!(!pods[0].end_login(digest, Step::Password, NOW).await.unwrap(), "a step is taken again");
    assert!(!pods[0].end_login(digest, Step::SecondFactor, NOW + 10).await.unwrap(), "expired");
    let ended = pods.iter().cycle().take(16).map(|pod| pod.end_login(digest, Step::SecondFactor, NOW));
    assert_eq!(done(futures_util::future::join_all(ended).await), 1);
    assert_eq!(pods[1].login(digest, NOW).await.unwrap(), None);
}

pub(crate) async fn logins_and_enrolments_that_are_over_are_forgotten(world: World) {
    let store = world.open().await;
    let user = register(&*store, "alice").await;
    let digests: Vec<_> = (0..4).map(|_| LoginToken::generate().digest()).collect();
    for (digest, expires_at) in digests.iter().zip(NOW + 1..) {
        store.begin_login(*digest, &login_of(None), expires_at).await.unwrap();
        assert_eq!(store.login(*digest, expires_at).await.unwrap(), None, "not at the time itself");
    }
    assert!(store.begin_totp(user, &secret("s"), NOW + 1).await.unwrap());
    store.forget(NOW + 1, 2).await.unwrap();
    // Asked as of a time at which it had not expired: it is not there any more.
    assert_eq!(store.totp_enrolment(user, NOW).await.unwrap(), None);
    let mut kept = Vec::new();
    for digest in &digests {
        kept.push(store.login(*digest, NOW).await.unwrap().is_some());
    }
    assert_eq!(kept, [false, false, true, true], "one has expired, and of three the two are kept that live longest");
}

pub(crate) async fn a_secret_is_sealed_anew_only_in_place_of_the_same(world: World) {
    let store = world.open().await;
    let (user, _) = enrolled(&*store, "alice").await;
    let (other, _) = enrolled(&*store, "bob").await;
    let anew = Sealed { bytes: b"anew".to_vec(), with: "newer".into() };
    assert!(store.take_totp(user, &secret("s"), Some(&anew), 6, NOW).await.unwrap());
    assert_eq!(store.totp(user).await.unwrap().unwrap().secret, anew);
    assert!(!store.reseal_totp(user, &secret("s"), &anew).await.unwrap());
    assert!(store.reseal_totp(user, &anew, &secret("s")).await.unwrap());
    let first = store.totp_secrets(None, 1).await.unwrap();
    let second = store.totp_secrets(Some(first[0].0), 10).await.unwrap();
    let mut all = vec![first[0].0, second[0].0];
    all.sort_unstable_by_key(|user| user.0);
    assert_eq!((all, second.len()), (vec![user, other], 1));
    assert!(store.totp_secrets(Some(second[0].0), 10).await.unwrap().is_empty());
}

pub(crate) async fn a_recovery_code_is_given_back_to_the_same_set(world: World) {
    let store = world.open().await;
    let (user, codes) = enrolled(&*store, "alice").await;
    let taken = store.take_recovery_code(user, codes[0]).await.unwrap().unwrap();
    store.give_back_recovery_code(user, taken).await.unwrap();
    store.give_back_recovery_code(user, taken).await.unwrap();
    assert_eq!(store.factors(user).await.unwrap().recovery_codes, 10);
    let taken = store.take_recovery_code(user, codes[0]).await.unwrap().unwrap();
    let (_, anew) = RecoveryCode::generate(user);
    assert!(store.replace_recovery_codes(user, &anew, NOW + 5).await.unwrap());
    store.give_back_recovery_code(user, taken).await.unwrap();
    assert_eq!(store.take_recovery_code(user, codes[0]).await.unwrap(), None, "other ones have its place");
    let taken = store.take_recovery_code(user, anew[0]).await.unwrap().unwrap();
    assert_eq!(store.remove_totp(user, true).await.unwrap(), Removed::Done);
    store.give_back_recovery_code(user, taken).await.unwrap();
    assert_eq!(store.factors(user).await.unwrap().recovery_codes, 0, "it would stand in for nothing");
}
