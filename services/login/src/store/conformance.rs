//! What every store must do: one function for each promise, and the macro that lists them.

mod account_sessions;
mod contacts;
mod erasures;
mod factors;
mod history;
mod keys;
mod resets;

use std::any::Any;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use flaghoist_runtime::names::UserId;
use flaghoist_runtime::time::millis;
use uuid::Uuid;

use super::{Changed, Created, Holder, Notice, Store};
use crate::account::{AccountChange, DisplayName, NewAccount};
use crate::handle::Handle;
use crate::invitation::{Invitation, InvitationDigest};
use crate::throttle::quota::{BucketKey, Quota};
use crate::throttle::{AttemptKey, Delays, FORGET_AFTER, KNOWN_FOR};

/// Makes a test of each promise. `$world` gives a [`World`], or nothing where this machine lacks what the store needs.
macro_rules! suite {
    ($world:expr) => {
        $crate::store::conformance::suite!($world;
            accounts_are_kept_over_a_restart,
            one_handle_is_one_account,
            an_invitation_admits_one_person,
            an_invitation_of_a_failed_registration_stays,
            outstanding_invitations_are_bounded,
            users_are_those_who_can_be_reached,
            a_hash_is_renewed_only_in_place_of_the_same,
            a_password_changes_once_for_one_version,
            the_last_admin_stays,
            deletion_hides_at_once_and_ends_later,
            a_newer_notice_takes_the_place_of_the_older,
            any_text_may_be_asked_for,
            of_many_attempts_at_once_only_the_free_are_let_through,
            a_known_address_is_apart_from_strangers,
            known_addresses_are_bounded,
            of_many_takers_at_once_only_the_burst_is_let_through,
            a_bucket_fills_as_the_quota_says,
            old_attempts_are_forgotten,
            forgetting_on_all_pods_at_once_takes_nothing_that_counts,
            a_lane_has_one_holder_at_a_time,
            a_lane_whose_time_is_over_is_free,
            an_authenticator_is_confirmed_once,
            a_one_time_code_is_taken_once,
            a_recovery_code_is_taken_once_and_by_its_person,
            the_last_strong_factor_is_removed_only_on_purpose,
            factors_go_with_the_account,
            a_step_of_a_login_is_taken_once,
            logins_and_enrolments_that_are_over_are_forgotten,
            a_credential_is_one_key_of_one_account,
            the_count_of_a_key_only_rises,
            the_last_of_the_keys_is_removed_only_on_purpose,
            a_ceremony_is_taken_once,
            a_key_is_renamed_by_its_owner,
            a_session_of_the_account_pages_ends_and_is_over,
            an_erasure_is_worked_on_by_one_and_moved_on_once,
            a_secret_is_sealed_anew_only_in_place_of_the_same,
            a_recovery_code_is_given_back_to_the_same_set,
            a_contact_is_the_persons_once_its_code_is_brought,
            of_many_who_bring_a_code_one_verifies,
            a_contact_that_goes_takes_its_links_along,
            what_applications_may_know_is_told_once_for_each_change,
            a_message_is_given_out_to_one_at_a_time,
            messages_that_wait_are_bounded_and_end,
            a_sign_in_from_a_new_place_is_noticed_and_makes_it_known,
            a_sign_in_forgets_the_attempts_before_it_and_no_others,
            sign_ins_and_attempts_at_once_are_as_one_after_another,
            events_are_bounded_and_refusals_push_out_nothing_else,
            a_link_is_used_once_and_ends_the_others,
            a_link_takes_the_recovery_code_along_or_nothing,
        );
    };
    ($world:expr; $($promise:ident),* $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $promise() {
            if let Some(world) = $world.await {
                $crate::store::conformance::$promise(world).await;
            }
        }
    )*};
}
pub(crate) use suite;

pub(crate) use self::account_sessions::*;
pub(crate) use self::contacts::*;
pub(crate) use self::erasures::*;
pub(crate) use self::factors::*;
pub(crate) use self::history::*;
pub(crate) use self::keys::*;
pub(crate) use self::resets::*;

type Opener = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Arc<dyn Store>>>>>;

/// A store that can be opened again and again.
pub(crate) struct World {
    opener: Opener,
    /// Whether several processes may have it open.
    shared: bool,
    _kept: Box<dyn Any>,
}

impl World {
    /// A store that one process owns. `kept` is what it is in.
    pub(crate) fn of_one<S: Store, F>(kept: impl Any, open: impl Fn() -> F + 'static) -> Self
    where
        F: Future<Output = S> + 'static,
    {
        let opener: Opener = Box::new(move || {
            let opening = open();
            Box::pin(async move { Arc::new(opening.await) as Arc<dyn Store> })
        });
        Self { opener, shared: false, _kept: Box::new(kept) }
    }

    /// A store that pods share.
    pub(crate) fn of_many<S: Store, F: Future<Output = S> + 'static>(open: impl Fn() -> F + 'static) -> Self {
        Self { shared: true, ..Self::of_one((), open) }
    }

    /// The store, as a pod has it after its start.
    async fn open(&self) -> Arc<dyn Store> {
        (self.opener)().await
    }

    /// The store as two pods have it at the same time.
    async fn pods(&self) -> [Arc<dyn Store>; 2] {
        let first = self.open().await;
        let second = if self.shared { self.open().await } else { Arc::clone(&first) };
        [first, second]
    }
}

const NOW: i64 = 1_800_000_000_000;
const DELAYS: Delays = Delays {
    free: 5,
    first: Duration::from_secs(1),
    max: Duration::from_secs(900),
    strangers_max: Duration::from_secs(60),
};

fn handle(text: &str) -> Handle {
    Handle::read(text).unwrap()
}

fn person(text: &str) -> NewAccount {
    NewAccount {
        user: UserId(Uuid::now_v7()),
        handle: handle(text),
        display_name: DisplayName::read(text).unwrap(),
        password_hash: format!("hash of {text}"),
        created_at: flaghoist_runtime::time::from_millis(NOW),
    }
}

async fn register(store: &dyn Store, text: &str) -> UserId {
    let person = person(text);
    assert_eq!(store.create_account(&person, None).await.unwrap(), Created::Done);
    person.user
}

fn named(name: &str) -> AccountChange {
    AccountChange { display_name: Some(DisplayName::read(name).unwrap()), ..AccountChange::default() }
}

fn attempt(account: u8, address: u8) -> AttemptKey {
    AttemptKey { account: [account; 16], address: [address; 16] }
}

pub(crate) async fn accounts_are_kept_over_a_restart(world: World) {
    let store = world.open().await;
    let user = register(&*store, "alice").await;
    let renamed = store.change_account(user, &named("Alice L.")).await.unwrap().unwrap();
    assert_eq!(renamed.display_name.as_str(), "Alice L.");
    drop(store);
    let store = world.open().await;
    let account = store.account(user).await.unwrap().unwrap();
    assert_eq!(account, renamed);
    assert_eq!((account.user, account.admin, account.disabled), (user, false, false));
    assert_eq!(millis(account.created_at), NOW);
    assert_eq!(store.account_by_handle(&handle("alice")).await.unwrap(), Some(account.clone()));
    let credentials = store.credentials(&handle("alice")).await.unwrap().unwrap();
    assert_eq!((credentials.account, credentials.password_hash.as_str()), (account, "hash of alice"));
    assert!(store.account_by_handle(&handle("bob")).await.unwrap().is_none());
    assert!(store.account(UserId(Uuid::now_v7())).await.unwrap().is_none());
    assert!(store.change_account(UserId(Uuid::now_v7()), &named("x")).await.unwrap().is_none());
}

pub(crate) async fn one_handle_is_one_account(world: World) {
    let pods = world.pods().await;
    let people: Vec<_> = (0..16).map(|_| person("alice")).collect();
    let created = people.iter().zip(pods.iter().cycle()).map(|(person, pod)| pod.create_account(person, None));
    let created = futures_util::future::join_all(created).await;
    let created: Vec<_> = created.into_iter().map(Result::unwrap).collect();
    assert_eq!(created.iter().filter(|created| **created == Created::Done).count(), 1);
    assert_eq!(created.iter().filter(|created| **created == Created::HandleTaken).count(), 15);
}

async fn invite(store: &dyn Store, expires_at: i64) -> InvitationDigest {
    let digest = Invitation::generate().digest();
    assert!(store.create_invitation(digest, NOW - 10, expires_at, 100).await.unwrap());
    digest
}

pub(crate) async fn an_invitation_admits_one_person(world: World) {
    let pods = world.pods().await;
    let store = &pods[0];
    let digest = invite(&**store, NOW + 1).await;
    assert!(store.invitation_usable(digest, NOW).await.unwrap());
    let people: Vec<_> = (0..16).map(|number| person(&format!("p{number}"))).collect();
    let created = people.iter().zip(pods.iter().cycle());
    let created = created.map(|(person, pod)| pod.create_account(person, Some(digest)));
    let created = futures_util::future::join_all(created).await;
    assert_eq!(created.iter().filter(|created| matches!(created, Ok(Created::Done))).count(), 1);
    assert_eq!(created.iter().filter(|created| matches!(created, Ok(Created::InvitationInvalid))).count(), 15);
    assert!(!store.invitation_usable(digest, NOW).await.unwrap());
    // Those who were refused left nothing behind.
    let mut there = 0;
    for person in &people {
        there += usize::from(store.account(person.user).await.unwrap().is_some());
    }
    assert_eq!(there, 1);
    let expired = invite(&**store, NOW).await;
    assert!(!store.invitation_usable(expired, NOW).await.unwrap());
    for digest in [expired, Invitation::generate().digest()] {
        let refused = store.create_account(&person("late"), Some(digest)).await.unwrap();
        assert_eq!(refused, Created::InvitationInvalid);
    }
}

pub(crate) async fn an_invitation_of_a_failed_registration_stays(world: World) {
    let store = world.open().await;
    register(&*store, "alice").await;
    let digest = invite(&*store, NOW + 1).await;
    assert_eq!(store.create_account(&person("alice"), Some(digest)).await.unwrap(), Created::HandleTaken);
    assert_eq!(store.create_account(&person("bob"), Some(digest)).await.unwrap(), Created::Done);
}

pub(crate) async fn outstanding_invitations_are_bounded(world: World) {
    let pods = world.pods().await;
    let kept = pods.iter().cycle().take(8).map(|pod| async move {
        let digest = Invitation::generate().digest();
        pod.create_invitation(digest, NOW, NOW + 100, 2).await.unwrap()
    });
    let kept = futures_util::future::join_all(kept).await;
    assert_eq!(kept.iter().filter(|kept| **kept).count(), 2);
    // Expired ones make room.
    assert!(pods[0].create_invitation(Invitation::generate().digest(), NOW + 100, NOW + 200, 2).await.unwrap());
}

pub(crate) async fn users_are_those_who_can_be_reached(world: World) {
    let store = world.open().await;
    let alice = register(&*store, "alice").await;
    let bob = register(&*store, "bob").await;
    let carol = register(&*store, "carol").await;
    store.set_disabled(bob, true, "", NOW).await.unwrap();
    store.begin_deletion(carol, NOW).await.unwrap();
    let asked = [alice, bob, carol, alice, UserId(Uuid::now_v7())];
    assert_eq!(store.users(&asked).await.unwrap(), [(alice, handle("alice"))]);
    assert_eq!(store.users(&[]).await.unwrap(), []);
}

pub(crate) async fn a_hash_is_renewed_only_in_place_of_the_same(world: World) {
    let store = world.open().await;
    let user = register(&*store, "alice").await;
    store.renew_password_hash(user, "hash of someone", "stolen").await.unwrap();
    store.renew_password_hash(user, "hash of alice", "renewed").await.unwrap();
    let credentials = store.credentials_of(user).await.unwrap().unwrap();
    assert_eq!((credentials.password_hash.as_str(), credentials.version), ("renewed", 1));
}

pub(crate) async fn a_password_changes_once_for_one_version(world: World) {
    let pods = world.pods().await;
    let store = &pods[0];
    let user = register(&**store, "alice").await;
    let changes = (0..8).zip(pods.iter().cycle()).map(|(number, pod)| async move {
        let (hash, session) = (format!("hash {number}"), format!("session {number}"));
        pod.change_password(user, 1, &hash, &session, NOW).await.unwrap().then_some((hash, session))
    });
    let changed: Vec<_> = futures_util::future::join_all(changes).await.into_iter().flatten().collect();
    let [(hash, session)] = &changed[..] else { panic!("{changed:?}") };
    let credentials = store.credentials_of(user).await.unwrap().unwrap();
    assert_eq!((&credentials.password_hash, credentials.version, credentials.untold), (hash, 2, true));
    let notices = store.notices(user).await.unwrap();
    assert!(matches!(&notices[..], [(_, Notice::EndSessions { except })] if except == session), "{notices:?}");
    store.set_disabled(user, true, "", NOW).await.unwrap();
    let version = store.credentials_of(user).await.unwrap().unwrap().version;
    assert!(version > 2);
    assert!(!store.change_password(user, version, "fourth", "", NOW).await.unwrap(), "the account is disabled");
}

pub(crate) async fn the_last_admin_stays(world: World) {
    let [store, other] = world.pods().await;
    let alice = register(&*store, "alice").await;
    let bob = register(&*store, "bob").await;
    assert!(matches!(store.set_admin(alice, true, "", NOW).await.unwrap(), Changed::Done(account) if account.admin));
    assert_eq!(store.set_admin(alice, false, "", NOW).await.unwrap(), Changed::LastAdmin);
    assert_eq!(store.set_disabled(alice, true, "", NOW).await.unwrap(), Changed::LastAdmin);
    assert_eq!(store.begin_deletion(alice, NOW).await.unwrap(), Changed::LastAdmin);
    store.set_admin(bob, true, "", NOW).await.unwrap();
    // Of two who are ended at once one stays.
    for _ in 0..20 {
        let (first, second) =
            tokio::join!(store.set_admin(alice, false, "", NOW), other.set_disabled(bob, true, "", NOW));
        let changed = [first.unwrap(), second.unwrap()];
        assert_eq!(changed.iter().filter(|changed| **changed == Changed::LastAdmin).count(), 1);
        store.set_admin(alice, true, "", NOW).await.unwrap();
        other.set_disabled(bob, false, "", NOW).await.unwrap();
    }
    assert_eq!(store.set_admin(UserId(Uuid::now_v7()), true, "", NOW).await.unwrap(), Changed::Unknown);
}

pub(crate) async fn deletion_hides_at_once_and_ends_later(world: World) {
    let store = world.open().await;
    let user = register(&*store, "alice").await;
    let key = attempt(1, 1);
    store.finish_deletion(user, &[key.account]).await.unwrap();
    assert!(store.account(user).await.unwrap().is_some(), "nobody asked for it yet");
    assert!(matches!(store.begin_deletion(user, NOW).await.unwrap(), Changed::Done(_)));
    drop(store);
    let store = world.open().await;
    assert!(store.account(user).await.unwrap().is_none());
    assert!(store.account_by_handle(&handle("alice")).await.unwrap().is_none());
    assert_eq!(store.set_admin(user, true, "", NOW).await.unwrap(), Changed::Unknown);
    let credentials = store.credentials(&handle("alice")).await.unwrap().unwrap();
    assert!(credentials.deleting && !credentials.usable() && credentials.untold);
    assert_eq!(store.create_account(&person("alice"), None).await.unwrap(), Created::HandleTaken);
    assert_eq!(store.users_with_notices(10).await.unwrap(), [user]);
    store.reserve_attempt(key, Delays { free: 1, ..DELAYS }, NOW).await.unwrap();
    store.finish_deletion(user, &[key.account]).await.unwrap();
    assert!(store.credentials_of(user).await.unwrap().is_none());
    assert_eq!(store.reserve_attempt(key, Delays { free: 1, ..DELAYS }, NOW).await.unwrap(), None);
    assert_eq!(store.create_account(&person("alice"), None).await.unwrap(), Created::Done);
}

pub(crate) async fn a_newer_notice_takes_the_place_of_the_older(world: World) {
    let store = world.open().await;
    let user = register(&*store, "alice").await;
    let except = |session: &str| Notice::EndSessions { except: session.into() };
    let by = |name: &str| Notice::State { by: name.into() };
    assert!(store.change_password(user, 1, "second", "one", NOW).await.unwrap());
    let (older, _) = store.notices(user).await.unwrap()[0];
    store.set_admin(user, true, "users/root", NOW).await.unwrap();
    assert!(store.change_password(user, 2, "third", "two", NOW).await.unwrap());
    store.told(older).await.unwrap();
    let notices = store.notices(user).await.unwrap();
    // Neither session was spared by both changes.
    assert_eq!(notices.iter().map(|(_, notice)| notice.clone()).collect::<Vec<_>>(), [by("users/root"), except("")]);
    for (id, _) in notices {
        store.told(id).await.unwrap();
    }
    assert!(store.users_with_notices(10).await.unwrap().is_empty());
}

pub(crate) async fn any_text_may_be_asked_for(world: World) {
    let store = world.open().await;
    for typed in ["", "a\0b", "\u{202e}\u{1f980}", "'; --", &"x".repeat(10_000)] {
        assert!(store.credentials(&Handle::nobodys(typed)).await.unwrap().is_none());
    }
    let name = DisplayName::read("\u{1f980} '; -- \\ \"").unwrap();
    let user = register(&*store, "alice").await;
    assert_eq!(store.change_account(user, &named(name.as_str())).await.unwrap().unwrap().display_name, name);
}

pub(crate) async fn of_many_attempts_at_once_only_the_free_are_let_through(world: World) {
    let pods = world.pods().await;
    let key = attempt(1, 1);
    let tries = pods.iter().cycle().take(100).map(|pod| pod.reserve_attempt(key, DELAYS, NOW));
    let waits: Vec<_> = futures_util::future::join_all(tries).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(waits.iter().filter(|wait| wait.is_none()).count(), 5);
    assert!(waits.iter().flatten().all(|wait| *wait == Duration::from_secs(1)));
    drop(pods);
    let store = world.open().await;
    assert_eq!(store.reserve_attempt(key, DELAYS, NOW + 400).await.unwrap(), Some(Duration::from_millis(600)));
    assert_eq!(store.reserve_attempt(key, DELAYS, NOW + 1000).await.unwrap(), None);
    assert_eq!(store.reserve_attempt(key, DELAYS, NOW + 1000).await.unwrap(), Some(Duration::from_secs(2)));
    assert_eq!(store.reserve_attempt(attempt(2, 1), DELAYS, NOW).await.unwrap(), None, "another account is free");
    store.attempt_succeeded(key, Some(8), NOW + 1000).await.unwrap();
    assert_eq!(store.reserve_attempt(key, DELAYS, NOW + 1000).await.unwrap(), None);
}

pub(crate) async fn a_known_address_is_apart_from_strangers(world: World) {
    let store = world.open().await;
    let owner = attempt(1, 200);
    assert_eq!(store.reserve_attempt(owner, DELAYS, NOW).await.unwrap(), None);
    store.attempt_succeeded(owner, Some(8), NOW).await.unwrap();
    let mut let_through = 0;
    for address in 1..=100 {
        let_through += usize::from(store.reserve_attempt(attempt(1, address), DELAYS, NOW).await.unwrap().is_none());
    }
    assert_eq!(let_through, 20, "all unknown addresses together have four times what one has");
    assert_eq!(store.reserve_attempt(owner, DELAYS, NOW).await.unwrap(), None);
    let long_after = NOW + i64::try_from(KNOWN_FOR.as_millis()).unwrap();
    assert_eq!(store.reserve_attempt(owner, DELAYS, long_after - 1).await.unwrap(), None);
}

pub(crate) async fn known_addresses_are_bounded(world: World) {
    let store = world.open().await;
    for address in 1..=10 {
        let key = attempt(1, address);
        assert_eq!(store.reserve_attempt(key, DELAYS, NOW + i64::from(address)).await.unwrap(), None);
        store.attempt_succeeded(key, Some(3), NOW + i64::from(address)).await.unwrap();
    }
    let later = NOW + 20;
    let wait = Delays { free: 1, ..DELAYS };
    // Strangers use up what they have together; who is known does not care.
    for address in 101..=110 {
        let _answer = store.reserve_attempt(attempt(1, address), wait, later).await.unwrap();
    }
    let mut known = Vec::new();
    for address in 1..=10 {
        if store.reserve_attempt(attempt(1, address), wait, later).await.unwrap().is_none() {
            known.push(address);
        }
    }
    assert_eq!(known, [8, 9, 10]);
}

pub(crate) async fn of_many_takers_at_once_only_the_burst_is_let_through(world: World) {
    let pods = world.pods().await;
    let quota = Quota { burst: 7, refill: Duration::from_secs(2) };
    let takes = pods.iter().cycle().take(100).map(|pod| pod.take(BucketKey([1; 16]), quota, NOW));
    let waits: Vec<_> = futures_util::future::join_all(takes).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(waits.iter().filter(|wait| wait.is_none()).count(), 7);
    assert!(waits.iter().flatten().all(|wait| *wait == quota.refill));
    assert_eq!(pods[1].take(BucketKey([2; 16]), quota, NOW).await.unwrap(), None, "another bucket is full");
}

pub(crate) async fn a_bucket_fills_as_the_quota_says(world: World) {
    let [store, other] = world.pods().await;
    let quota = Quota { burst: 3, refill: Duration::from_secs(2) };
    let (bucket, mut full_at) = (BucketKey([1; 16]), 0);
    // Also by clocks that are apart, or set back.
    for (number, after) in [0, 0, 0, 0, 500, 2000, 2001, 2000, 9000, 1000, 9000, 9000, -500_000, 0].iter().enumerate() {
        let expected = quota.take(full_at, NOW + after);
        let pod = if number % 2 == 0 { &store } else { &other };
        let answer = pod.take(bucket, quota, NOW + after).await.unwrap();
        assert_eq!(answer, expected.err(), "take {number}");
        full_at = expected.unwrap_or(full_at);
    }
}

pub(crate) async fn old_attempts_are_forgotten(world: World) {
    let store = world.open().await;
    let once = Delays { free: 1, first: FORGET_AFTER * 10, max: FORGET_AFTER * 10, ..DELAYS };
    let known = attempt(1, 1);
    store.reserve_attempt(known, DELAYS, NOW).await.unwrap();
    store.attempt_succeeded(known, Some(8), NOW).await.unwrap();
    for (account, at) in [(2, NOW), (3, NOW + 1), (4, NOW + 2)] {
        assert_eq!(store.reserve_attempt(attempt(account, 1), once, at).await.unwrap(), None);
    }
    let day_later = NOW + 1 + i64::try_from(FORGET_AFTER.as_millis()).unwrap();
    store.forget(day_later, 100).await.unwrap();
    assert_eq!(store.reserve_attempt(attempt(2, 1), once, NOW + 10).await.unwrap(), None, "forgotten");
    assert!(store.reserve_attempt(attempt(3, 1), once, NOW + 10).await.unwrap().is_some(), "not yet");
    // One row is kept: the known address, although it is the oldest.
    store.forget(NOW + 10, 1).await.unwrap();
    assert_eq!(store.reserve_attempt(attempt(3, 1), once, NOW + 10).await.unwrap(), None);
    let hammered = Delays { free: 0, ..once };
    let _counted = store.reserve_attempt(attempt(1, 9), hammered, NOW + 10).await.unwrap();
    assert!(store.reserve_attempt(attempt(1, 8), hammered, NOW + 10).await.unwrap().is_some());
    assert_eq!(store.reserve_attempt(known, DELAYS, NOW + 10).await.unwrap(), None, "still known");
}

pub(crate) async fn forgetting_on_all_pods_at_once_takes_nothing_that_counts(world: World) {
    let pods = world.pods().await;
    let once = Delays { free: 1, first: FORGET_AFTER, max: FORGET_AFTER, ..DELAYS };
    let quota = Quota { burst: 1, refill: Duration::from_secs(3600) };
    let day_later = NOW + millis_of(FORGET_AFTER) + 1;
    let invitation = invite(&*pods[0], day_later + 1).await;
    for account in 0..40 {
        assert_eq!(pods[0].reserve_attempt(attempt(account, 1), once, NOW).await.unwrap(), None);
        assert_eq!(pods[0].take(BucketKey([account; 16]), quota, NOW).await.unwrap(), None);
    }
    let calls = (100..140).zip(pods.iter().cycle()).map(|(account, pod)| async move {
        assert_eq!(pod.reserve_attempt(attempt(account, 1), once, day_later).await.unwrap(), None);
        assert_eq!(pod.take(BucketKey([account; 16]), quota, day_later).await.unwrap(), None);
        pod.forget(day_later, 100).await.unwrap();
    });
    futures_util::future::join_all(calls).await;
    for account in 0..40 {
        assert_eq!(pods[1].reserve_attempt(attempt(account, 1), once, NOW + 2).await.unwrap(), None, "forgotten");
    }
    for account in 100..140 {
        assert!(pods[1].reserve_attempt(attempt(account, 1), once, day_later).await.unwrap().is_some());
        assert!(pods[1].take(BucketKey([account; 16]), quota, day_later).await.unwrap().is_some());
    }
    assert!(pods[1].invitation_usable(invitation, day_later).await.unwrap());
}

fn holder() -> Holder {
    Holder(Uuid::now_v7())
}

const LONG: Duration = Duration::from_secs(600);

pub(crate) async fn a_lane_has_one_holder_at_a_time(world: World) {
    let pods = world.pods().await;
    let user = UserId(Uuid::now_v7());
    let holders: Vec<_> = (0..16).map(|_| holder()).collect();
    let taken = holders.iter().zip(pods.iter().cycle()).map(|(holder, pod)| pod.take_lane(user, *holder, LONG));
    let taken: Vec<_> = futures_util::future::join_all(taken).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(taken.iter().filter(|taken| **taken).count(), 1);
    let winner = holders[taken.iter().position(|taken| *taken).unwrap()];
    let other = holder();
    assert!(pods[1].take_lane(UserId(Uuid::now_v7()), other, LONG).await.unwrap(), "another person's is free");
    assert!(pods[1].keep_lane(user, winner, LONG).await.unwrap());
    assert!(!pods[0].keep_lane(user, other, LONG).await.unwrap());
    // Only who is in it can leave it.
    pods[0].leave_lane(user, other).await.unwrap();
    assert!(!pods[0].take_lane(user, other, LONG).await.unwrap());
    pods[0].leave_lane(user, winner).await.unwrap();
    assert!(pods[1].take_lane(user, other, LONG).await.unwrap());
}

pub(crate) async fn a_lane_whose_time_is_over_is_free(world: World) {
    let [store, other] = world.pods().await;
    let user = UserId(Uuid::now_v7());
    let (frozen, next) = (holder(), holder());
    assert!(store.take_lane(user, frozen, Duration::ZERO).await.unwrap());
    // Nobody wanted it meanwhile, so it is still theirs.
    assert!(store.keep_lane(user, frozen, Duration::ZERO).await.unwrap());
    assert!(other.take_lane(user, next, LONG).await.unwrap());
    assert!(!store.keep_lane(user, frozen, LONG).await.unwrap(), "they notice");
    store.leave_lane(user, frozen).await.unwrap();
    other.forget(NOW, 100).await.unwrap();
    assert!(other.keep_lane(user, next, LONG).await.unwrap());
    let (gone, gone_holder) = (UserId(Uuid::now_v7()), holder());
    assert!(store.take_lane(gone, gone_holder, Duration::ZERO).await.unwrap());
    store.forget(NOW, 100).await.unwrap();
    assert!(!store.keep_lane(gone, gone_holder, LONG).await.unwrap());
}

fn millis_of(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap()
}
