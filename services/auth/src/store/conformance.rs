//! The suite that a backend must pass: one function per promise of [`Store`], and the macro that lists them. A promise that is
//! missing from the list is an unused function and fails the build.

use std::time::Duration;

use futures_util::future::join_all;
use uuid::Uuid;

use super::*;
use crate::audit::{Action, Actor};
use crate::key::{KeyState, Sealer};
use crate::refresh_token::{Digest, RefreshKeys, RefreshToken};
use crate::scope::Scopes;
use crate::session::Family;

mod at_once;
mod audit;
mod grants;
mod keys;
mod logout;
mod pods;
mod sign_in;

use at_once::*;
use audit::*;
use grants::*;
use keys::*;
use logout::*;
use sign_in::*;

const NOW: Moment = Moment(1_700_000_000_000);
const LIFETIMES: Lifetimes = Lifetimes {
    grace: Duration::from_secs(10),
    idle: Duration::from_secs(14 * 24 * 3600),
    absolute: Duration::from_secs(90 * 24 * 3600),
};
const BROWSERS: BrowserLifetimes =
    BrowserLifetimes { idle: Duration::from_secs(12 * 3600), absolute: Duration::from_secs(30 * 24 * 3600) };
const MAX: u32 = 100;

/// Makes a test of each promise for the backend that `$open` opens; nothing is tested where it is not on this machine.
macro_rules! conformance {
    ($open:path) => {
        conformance! { $open;
            case_36_fifty_presentations_in_one_call_rotate_once,
            case_36_fifty_parallel_presentations_rotate_once,
            presentations_of_many_sessions_are_judged_each_by_its_own,
            batches_that_meet_in_any_order_do_not_hinder_each_other,
            case_35_a_reused_token_ends_its_session_and_records_it,
            case_40_what_ends_a_session_is_recorded,
            case_40_a_session_ends_once_however_many_end_it,
            a_session_is_kept_as_it_was_opened,
            a_session_is_bound_to_the_first_key_that_is_proven,
            a_profile_is_replaced_where_one_is_kept_and_goes_with_the_person,
            the_oldest_sessions_make_room,
            the_limit_of_sessions_holds_when_many_are_opened_at_once,
            sessions_of_many_people_open_at_once_each_by_its_own,
            sessions_are_listed_newest_first_in_pages,
            case_94_a_session_ends_for_its_owner_only,
            case_40_a_disabled_person_gets_no_session,
            case_40_no_session_slips_past_a_disabling,
            a_person_who_is_no_admin_any_more_loses_their_sessions,
            an_erased_person_stays_refused_for_a_while,
            revocations_are_read_in_order_and_in_pages,
            fault_03_no_revocation_is_missed_while_others_are_recorded,
            a_client_is_added_once_and_up_to_the_limit,
            the_limit_of_clients_holds_when_many_are_added_at_once,
            the_list_of_clients_is_read_when_it_has_changed,
            a_removed_client_takes_its_sessions_with_it,
            no_session_slips_past_the_removal_of_its_client,
            keys_are_advanced_once_however_many_try,
            keys_change_when_asked_to_and_all_pods_read_the_same,
            a_revoked_key_is_gone_and_among_the_revocations,
            private_keys_are_sealed_anew_once,
            a_client_is_replaced_as_it_was_read_or_not_at_all,
            what_is_done_is_in_the_audit_log_and_what_is_not_is_not,
            case_35_who_reused_a_token_is_in_the_audit_log,
            audit_events_are_found_by_time_actor_subject_and_action,
            audit_events_leave_when_their_time_is_over_and_no_earlier,
            what_is_old_is_purged_and_nothing_else,
            what_is_old_is_purged_once_however_many_do_it,
            a_login_request_is_kept_as_it_was_opened_until_it_expires,
            case_23_a_login_request_is_answered_and_taken_once,
            open_login_requests_have_bounds,
            case_40_who_may_not_hold_sessions_is_not_accepted_and_loses_what_they_have,
            case_33_a_code_is_redeemed_once_however_many_bring_it,
            case_33_a_proof_is_used_up_with_an_unused_code_and_once,
            case_27_a_code_that_is_refused_or_late_is_worth_nothing,
            a_pushed_request_is_taken_once_by_its_client,
            a_browser_stays_signed_in_while_it_is_used,
            a_session_that_stays_when_its_person_signs_out_in_a_browser_is_told_of,
            who_signs_out_in_a_browser_is_signed_out_of_what_clients_got_there,
            consents_add_up_are_listed_and_end_with_their_sessions,
            what_is_left_of_sign_ins_is_purged,
            an_id_is_used_once_however_many_bring_it,
            a_registration_token_is_good_for_as_many_as_it_says,
            who_wants_to_be_told_of_the_end_of_a_session_is_and_nobody_else,
            a_notice_is_taken_once_at_a_time_and_again_when_it_was_not_dropped,
            a_registration_that_cannot_be_read_stops_nobody_else,
            what_a_client_that_is_away_is_due_is_put_off_and_nobody_elses,
            case_53_and_54_a_device_is_told_where_it_stands,
            case_33_a_device_code_is_redeemed_once_however_many_bring_it,
            case_33_a_proof_is_used_up_by_a_device_that_asks_in_time,
            case_40_a_device_gets_nothing_of_a_person_who_is_signed_out,
            case_40_a_device_gets_nothing_of_what_was_taken_back,
            a_device_that_was_never_used_is_forgotten_soon,
            devices_that_wait_have_bounds,
            case_55_guesses_are_counted_until_they_are_forgotten,
        }
    };
    ($open:path; $($promise:ident),* $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $promise() {
            if let Some((store, _kept)) = $open().await {
                super::$promise(&*store).await;
            }
        }
    )*};
}

/// A store, and what has to be kept for as long as it is used.
type Bed = (Box<dyn Store>, Option<tempfile::TempDir>);

mod sqlite {
    use super::Bed;
    use crate::store::SqliteStore;

    async fn open() -> Option<Bed> {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("auth.db")).await.unwrap();
        Some((Box::new(store), Some(folder)))
    }

    conformance! { open }
}

mod postgres {
    use super::Bed;

    async fn open() -> Option<Bed> {
        let url = super::pods::database().await?;
        Some((Box::new(super::pods::store(&url).await), None))
    }

    conformance! { open }
}

/// Two stores on one database, as two pods have them. Each call goes to the other one.
mod postgres_twice {
    use super::Bed;
    use super::pods::{InTurn, database, store};

    async fn open() -> Option<Bed> {
        let url = database().await?;
        Some((Box::new(InTurn::new([store(&url).await, store(&url).await])), None))
    }

    conformance! { open }
}

fn keys() -> RefreshKeys {
    RefreshKeys::new(&[1; 32], &[2; 32])
}

/// An admin at that moment. Tests do not end, so to speak, so it may live as long as they do.
fn by(at: Moment) -> &'static Origin {
    let admin = Actor::Person(UserId(Uuid::from_u128(7)));
    Box::leak(Box::new(Origin::new(admin, at).by_client(&"console".into()).at_address("192.0.2.3")))
}

async fn client(store: &dyn Store, id: &str) {
    let client = Client { id: id.into(), ..Client::built_in(NOW) };
    store.add_client(&client, MAX, by(NOW)).await.unwrap();
}

fn purge(revocations_before: Moment, erased_before: Moment) -> Purge {
    let codes_before = revocations_before;
    Purge {
        lifetimes: LIFETIMES,
        revocations_before,
        erased_before,
        browsers: BROWSERS,
        codes_before,
        audited_before: NOW,
    }
}

/// A session that is not opened yet, and its first token.
fn sign_in(user: UserId, now: Moment) -> (Session, RefreshToken) {
    let id = SessionId(Uuid::now_v7());
    let token = keys().first(id);
    let session = Session {
        id,
        user,
        client_id: "web".into(),
        scopes: Scopes::ALL,
        amr: vec!["pwd".into(), "otp".into()],
        label: "Anna's phone".into(),
        authenticated_at: now,
        created_at: now,
        last_use_at: now.minute(),
        last_address: "192.0.2.1".into(),
        family: Family { current: token.digest(), previous: None, rotated_at: now },
        claims: vec!["name".into()],
        key_thumbprint: String::new(),
    };
    (session, token)
}

/// A session that is open, and its first token.
async fn opened(store: &dyn Store, user: UserId, now: Moment) -> (Session, RefreshToken) {
    client(store, "web").await;
    let (session, token) = sign_in(user, now);
    assert!(matches!(store.open_session(&session, MAX, by(NOW)).await.unwrap(), Opened::Open { .. }));
    (session, token)
}

async fn a_session_is_bound_to_the_first_key_that_is_proven(store: &dyn Store) {
    let (session, token) = opened(store, somebody(), NOW).await;
    let (other, other_token) = opened(store, somebody(), NOW).await;
    let proven = |token: &RefreshToken, key: &str| Presentation { key: Some(key.into()), ..presented(token) };
    let verdicts = present(store, &[proven(&token, "mine"), presented(&other_token)], NOW).await;
    assert!(granted(&verdicts[0]) && granted(&verdicts[1]));
    let kept = |session: SessionId| async move { store.session(session).await.unwrap().unwrap().key_thumbprint };
    assert_eq!((kept(session.id).await, kept(other.id).await), ("mine".into(), String::new()));
    let second = keys().successor(&token);
    assert!(granted(&present(store, &[proven(&second, "mine")], NOW).await[0]));
    let third = keys().successor(&second);
    assert_eq!(present(store, &[proven(&third, "other")], NOW).await, [Verdict::Reused]);
    assert!(store.session(session.id).await.unwrap().is_none());
    // What is bound from the start is kept as such.
    let (bound, _) = sign_in(somebody(), NOW);
    let bound = Session { key_thumbprint: "mine".into(), ..bound };
    store.open_session(&bound, MAX, by(NOW)).await.unwrap();
    assert_eq!(kept(bound.id).await, "mine");
}

fn somebody() -> UserId {
    UserId(Uuid::now_v7())
}

fn presented(token: &RefreshToken) -> Presentation {
    Presentation {
        session: token.session(),
        presented: token.digest(),
        successor: keys().successor(token).digest(),
        client_id: "web".into(),
        scopes: None,
        address: "192.0.2.9".into(),
        key: None,
    }
}

fn granted(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Granted(_))
}

async fn present(store: &dyn Store, tokens: &[Presentation], now: Moment) -> Vec<Verdict> {
    store.present(tokens, &LIFETIMES, now).await.unwrap()
}

async fn current(store: &dyn Store, session: SessionId) -> Option<Digest> {
    store.session(session).await.unwrap().map(|session| session.family.current)
}

async fn revoked(store: &dyn Store) -> Vec<RevocationTarget> {
    let all = store.revocations(Moment(0), 0, 1000).await.unwrap();
    all.into_iter().map(|numbered| numbered.revocation.target).collect()
}

async fn case_36_fifty_presentations_in_one_call_rotate_once(store: &dyn Store) {
    let (session, token) = opened(store, somebody(), NOW).await;
    let verdicts = present(store, &vec![presented(&token); 50], NOW).await;
    assert!(verdicts.len() == 50 && verdicts.iter().all(granted));
    assert_eq!(current(store, session.id).await, Some(keys().successor(&token).digest()));
    let stored = store.session(session.id).await.unwrap().unwrap();
    assert_eq!((stored.family.previous, stored.last_address.as_str()), (Some(token.digest()), "192.0.2.9"));
}

async fn presentations_of_many_sessions_are_judged_each_by_its_own(store: &dyn Store) {
    let (good, good_token) = opened(store, somebody(), NOW).await;
    let (bad, bad_token) = opened(store, somebody(), NOW).await;
    let gone = keys().first(SessionId(Uuid::now_v7()));
    let foreign = Presentation { client_id: "other".into(), ..presented(&bad_token) };
    let wider = Presentation { scopes: Some(Scopes::ALL), ..presented(&good_token) };
    let batch = [presented(&gone), foreign, wider, presented(&bad_token), presented(&keys().successor(&good_token))];
    let verdicts = present(store, &batch, NOW).await;
    assert_eq!(verdicts[..2], [Verdict::Ended, Verdict::Reused]);
    assert!(granted(&verdicts[2]) && verdicts[3] == Verdict::Ended && granted(&verdicts[4]));
    assert_eq!(current(store, bad.id).await, None);
    let twice = keys().successor(&keys().successor(&good_token));
    assert_eq!(current(store, good.id).await, Some(twice.digest()));
}

async fn case_35_a_reused_token_ends_its_session_and_records_it(store: &dyn Store) {
    let (session, token) = opened(store, somebody(), NOW).await;
    assert!(granted(&present(store, &[presented(&token)], NOW).await[0]));
    let late = NOW.plus(Duration::from_secs(11));
    assert_eq!(present(store, &[presented(&token)], late).await, [Verdict::Reused]);
    let successor = presented(&keys().successor(&token));
    assert_eq!(present(store, &[successor], late).await, [Verdict::Ended]);
    assert_eq!(revoked(store).await, [RevocationTarget::Session(session.id)]);
}

async fn case_40_what_ends_a_session_is_recorded(store: &dyn Store) {
    let user = somebody();
    let (one, token) = opened(store, user, NOW).await;
    let (two, _) = opened(store, user, NOW).await;
    let (kept, _) = opened(store, user, NOW).await;
    assert!(store.end_session(user, one.id, Why::Revoked, by(NOW)).await.unwrap());
    assert!(!store.end_session(user, one.id, Why::Revoked, by(NOW)).await.unwrap());
    assert_eq!(present(store, &[presented(&token)], NOW).await, [Verdict::Ended]);
    assert_eq!(store.end_sessions_of(user, Some(kept.id), by(NOW)).await.unwrap(), 1);
    assert!(current(store, kept.id).await.is_some());
    assert_eq!(store.end_sessions_of(user, None, by(NOW)).await.unwrap(), 1);
    let ended = [one.id, two.id, kept.id].map(RevocationTarget::Session);
    assert_eq!(revoked(store).await, ended);
}

async fn a_session_is_kept_as_it_was_opened(store: &dyn Store) {
    let (session, _) = opened(store, somebody(), NOW).await;
    let stored = store.session(session.id).await.unwrap().unwrap();
    assert_eq!(format!("{stored:?}"), format!("{session:?}"));
    assert_eq!(stored.family, session.family);
    let (mut stray, _) = sign_in(somebody(), NOW);
    stray.client_id = "nobody".into();
    assert_eq!(store.open_session(&stray, MAX, by(NOW)).await.unwrap(), Opened::ClientUnknown);
}

async fn the_oldest_sessions_make_room(store: &dyn Store) {
    let user = somebody();
    let (first, _) = opened(store, user, NOW).await;
    let (second, _) = opened(store, user, NOW).await;
    let (other, _) = opened(store, somebody(), NOW).await;
    let (third, _) = sign_in(user, NOW);
    let Opened::Open { ended, .. } = store.open_session(&third, 2, by(NOW)).await.unwrap() else { panic!("it opens") };
    assert_eq!(ended, [first.id]);
    assert_eq!(revoked(store).await, [RevocationTarget::Session(first.id)]);
    for kept in [second, third, other] {
        assert!(current(store, kept.id).await.is_some());
    }
}

async fn sessions_are_listed_newest_first_in_pages(store: &dyn Store) {
    let user = somebody();
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(opened(store, user, NOW).await.0.id);
    }
    opened(store, somebody(), NOW).await;
    ids.reverse();
    let page = async |before, now| -> Vec<_> {
        let sessions = store.sessions_of(user, before, 3, &LIFETIMES, now).await.unwrap();
        sessions.into_iter().map(|session| session.id).collect()
    };
    assert_eq!(page(None, NOW).await, ids[..3]);
    assert_eq!(page(Some(ids[2]), NOW).await, ids[3..]);
    assert!(page(None, NOW.plus(LIFETIMES.idle)).await.is_empty());
}

async fn case_94_a_session_ends_for_its_owner_only(store: &dyn Store) {
    let (session, _) = opened(store, somebody(), NOW).await;
    assert!(!store.end_session(somebody(), session.id, Why::Revoked, by(NOW)).await.unwrap());
    assert!(current(store, session.id).await.is_some());
    assert!(revoked(store).await.is_empty());
}

async fn case_40_a_disabled_person_gets_no_session(store: &dyn Store) {
    let user = somebody();
    let (session, token) = opened(store, user, NOW).await;
    let disabled = SubjectState { enabled: false, admin: false };
    assert_eq!(store.set_subject(user, disabled, by(NOW)).await.unwrap(), 1);
    assert_eq!(store.set_subject(user, disabled, by(NOW)).await.unwrap(), 0);
    assert_eq!(present(store, &[presented(&token)], NOW).await, [Verdict::Ended]);
    assert_eq!(revoked(store).await, [RevocationTarget::Session(session.id)]);
    assert_eq!(store.open_session(&sign_in(user, NOW).0, MAX, by(NOW)).await.unwrap(), Opened::SubjectDisabled);
    store.set_subject(user, SubjectState { enabled: true, admin: false }, by(NOW)).await.unwrap();
    let scopes = Scopes::ALL - Scopes::ADMIN;
    let opened = store.open_session(&sign_in(user, NOW).0, MAX, by(NOW)).await.unwrap();
    assert_eq!(opened, Opened::Open { scopes, ended: Vec::new() });
}

async fn a_person_who_is_no_admin_any_more_loses_their_sessions(store: &dyn Store) {
    let (admin, person) = (SubjectState { enabled: true, admin: true }, SubjectState { enabled: true, admin: false });
    let user = somebody();
    store.set_subject(user, admin, by(NOW)).await.unwrap();
    opened(store, user, NOW).await;
    assert_eq!(store.set_subject(user, admin, by(NOW)).await.unwrap(), 0);
    assert_eq!(store.set_subject(user, person, by(NOW)).await.unwrap(), 1);
    opened(store, user, NOW).await;
    assert_eq!(store.set_subject(user, person, by(NOW)).await.unwrap(), 0);
    // Nothing was said of this one, who holds the scope.
    let unknown = somebody();
    opened(store, unknown, NOW).await;
    assert_eq!(store.set_subject(unknown, person, by(NOW)).await.unwrap(), 1);
}

async fn an_erased_person_stays_refused_for_a_while(store: &dyn Store) {
    let user = somebody();
    let (session, _) = opened(store, user, NOW).await;
    store.set_subject(user, SubjectState { enabled: true, admin: true }, by(NOW)).await.unwrap();
    assert_eq!(store.erase_subject(user, by(NOW)).await.unwrap(), 2);
    assert_eq!(store.erase_subject(user, by(NOW)).await.unwrap(), 0);
    assert_eq!(revoked(store).await, [RevocationTarget::Session(session.id)]);
    store.set_subject(user, SubjectState { enabled: true, admin: true }, by(NOW)).await.unwrap();
    assert_eq!(store.open_session(&sign_in(user, NOW).0, MAX, by(NOW)).await.unwrap(), Opened::SubjectDisabled);
    let late = Moment(NOW.0 + 1);
    let what = purge(NOW, late);
    assert!(!store.purge(&what, 10, late).await.unwrap());
    assert!(matches!(store.open_session(&sign_in(user, NOW).0, MAX, by(NOW)).await.unwrap(), Opened::Open { .. }));
}

async fn revocations_are_read_in_order_and_in_pages(store: &dyn Store) {
    let (token, session) = (Uuid::now_v7(), SessionId(Uuid::now_v7()));
    let targets =
        [RevocationTarget::Token(token), RevocationTarget::Subject("bot".into()), RevocationTarget::Session(session)];
    for (index, target) in targets.iter().enumerate() {
        store.revoke(target, None, NOW.plus(Duration::from_secs(index as u64))).await.unwrap();
    }
    assert_eq!(revoked(store).await, targets);
    let page = store.revocations(Moment(0), 0, 2).await.unwrap();
    assert_eq!(page.len(), 2);
    let rest = store.revocations(Moment(0), page[1].no, 2).await.unwrap();
    assert_eq!((rest.len(), &rest[0].revocation.target), (1, &targets[2]));
    assert_eq!(store.revocations(NOW.plus(Duration::from_secs(1)), 0, 9).await.unwrap().len(), 2);
}

async fn a_client_is_added_once_and_up_to_the_limit(store: &dyn Store) {
    let secret = Some(Digest::of(b"secret"));
    let bot = Client { id: "bot".into(), secret, ..Client::built_in(NOW) };
    assert_eq!(store.add_client(&bot, 2, by(NOW)).await.unwrap(), Addition::Done);
    assert_eq!(store.add_client(&bot, 2, by(NOW)).await.unwrap(), Addition::Exists);
    assert_eq!(store.add_client(&Client::built_in(NOW), 2, by(NOW)).await.unwrap(), Addition::Done);
    let third = Client { id: "third".into(), ..bot.clone() };
    assert_eq!(store.add_client(&third, 2, by(NOW)).await.unwrap(), Addition::Full);
    let (_, mut clients) = store.clients(None).await.unwrap().unwrap();
    clients.sort_by_key(|client| client.id.clone());
    assert_eq!(clients, [bot, Client::built_in(NOW)]);
}

async fn the_list_of_clients_is_read_when_it_has_changed(store: &dyn Store) {
    let (empty, _) = store.clients(None).await.unwrap().unwrap();
    assert!(store.clients(Some(empty)).await.unwrap().is_none());
    assert_eq!(store.client("web").await.unwrap(), None);
    client(store, "web").await;
    let (one, clients) = store.clients(Some(empty)).await.unwrap().unwrap();
    assert_eq!(Some(&clients[0]), store.client("web").await.unwrap().as_ref());
    assert!(store.clients(Some(one)).await.unwrap().is_none());
    store.retire_client("web", by(NOW)).await.unwrap();
    assert!(store.clients(Some(one)).await.unwrap().unwrap().1.is_empty());
    assert_eq!(store.client("web").await.unwrap(), None);
}

async fn a_removed_client_takes_its_sessions_with_it(store: &dyn Store) {
    for _ in 0..3 {
        opened(store, somebody(), NOW).await;
    }
    assert!(store.retire_client("web", by(NOW)).await.unwrap());
    assert!(!store.retire_client("web", by(NOW)).await.unwrap());
    assert!(store.clients(None).await.unwrap().unwrap().1.is_empty());
    assert_eq!(store.open_session(&sign_in(somebody(), NOW).0, MAX, by(NOW)).await.unwrap(), Opened::ClientUnknown);
    assert!(store.sweep_retired_clients(2, NOW).await.unwrap());
    let again = Client { id: "web".into(), ..Client::built_in(NOW) };
    assert_eq!(store.add_client(&again, MAX, by(NOW)).await.unwrap(), Addition::Exists);
    assert!(!store.sweep_retired_clients(2, NOW).await.unwrap());
    assert_eq!(store.add_client(&again, MAX, by(NOW)).await.unwrap(), Addition::Done);
    assert!(!store.sweep_retired_clients(2, NOW).await.unwrap());
    let revoked = revoked(store).await;
    assert_eq!((revoked.len(), &revoked[0]), (4, &RevocationTarget::Subject("web".into())));
}

async fn what_is_old_is_purged_and_nothing_else(store: &dyn Store) {
    let (unused, _) = opened(store, somebody(), NOW).await;
    store.revoke(&RevocationTarget::Subject("old".into()), None, NOW).await.unwrap();
    let later = NOW.plus(LIFETIMES.idle).plus(Duration::from_secs(120));
    let (fresh, _) = opened(store, somebody(), later).await;
    store.revoke(&RevocationTarget::Subject("new".into()), None, later).await.unwrap();
    let what = purge(later, later);
    while store.purge(&what, 1, later).await.unwrap() {}
    assert_eq!(current(store, unused.id).await, None);
    assert!(current(store, fresh.id).await.is_some());
    let left = revoked(store).await;
    assert_eq!(left, [RevocationTarget::Subject("new".into()), RevocationTarget::Session(unused.id)]);
}
