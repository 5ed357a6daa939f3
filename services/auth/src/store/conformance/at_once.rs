//! The promises about many calls at once, whichever of the pods they come to.

use std::collections::BTreeSet;

use super::*;

pub(super) async fn batches_that_meet_in_any_order_do_not_hinder_each_other(store: &dyn Store) {
    let user = somebody();
    let mut tokens = Vec::new();
    for _ in 0..20 {
        tokens.push(opened(store, user, NOW).await.1);
    }
    let shuffled = |seed: usize| (0..tokens.len()).map(move |index| (index * 7 + seed) % 20);
    let batches: Vec<Vec<_>> =
        (0..16).map(|seed| shuffled(seed).map(|index| presented(&tokens[index])).collect()).collect();
    let refreshing = join_all(batches.iter().map(|batch| present(store, batch, NOW)));
    // Another three of the person's sessions end beside it, the oldest first.
    let ending =
        join_all(tokens[..3].iter().map(|token| store.end_session(user, token.session(), Why::Revoked, by(NOW))));
    let another = sign_in(user, NOW).0;
    let opening = store.open_session(&another, 15, by(NOW));
    let (verdicts, ended, opening) = tokio::join!(refreshing, ending, opening);
    assert!(matches!(opening.unwrap(), Opened::Open { .. }));
    let ended = ended.into_iter().map(Result::unwrap).filter(|ended| *ended).count();
    assert!(verdicts.concat().iter().all(|verdict| granted(verdict) || *verdict == Verdict::Ended));
    let left = store.sessions_of(user, None, 100, &LIFETIMES, NOW).await.unwrap();
    assert_eq!(left.len() + revoked(store).await.len(), 21, "what is not there any more was revoked, once");
    assert!(ended <= 3 && left.len() <= 15);
}

pub(super) async fn case_40_a_session_ends_once_however_many_end_it(store: &dyn Store) {
    let user = somebody();
    let (session, token) = opened(store, user, NOW).await;
    let late = NOW.plus(Duration::from_secs(11));
    present(store, &[presented(&token)], NOW).await;
    let reuse = [presented(&token)];
    let (ends, reuses) = tokio::join!(
        join_all((0..10).map(|_| store.end_session(user, session.id, Why::Revoked, by(late)))),
        join_all((0..10).map(|_| present(store, &reuse, late))),
    );
    let ends = ends.into_iter().filter(|ended| *ended.as_ref().unwrap()).count();
    let reuses = reuses.concat().into_iter().filter(|verdict| *verdict == Verdict::Reused).count();
    assert_eq!(ends + reuses, 1);
    assert_eq!(revoked(store).await, [RevocationTarget::Session(session.id)]);
}

pub(super) async fn the_limit_of_sessions_holds_when_many_are_opened_at_once(store: &dyn Store) {
    client(store, "web").await;
    let user = somebody();
    let sessions: Vec<_> = (0..20).map(|_| sign_in(user, NOW).0).collect();
    for opened in join_all(sessions.iter().map(|session| store.open_session(session, 3, by(NOW)))).await {
        assert!(matches!(opened.unwrap(), Opened::Open { .. }));
    }
    assert_eq!(store.sessions_of(user, None, MAX, &LIFETIMES, NOW).await.unwrap().len(), 3);
    assert_eq!(revoked(store).await.len(), 17);
}

pub(super) async fn sessions_of_many_people_open_at_once_each_by_its_own(store: &dyn Store) {
    client(store, "web").await;
    let state = |enabled, admin| SubjectState { enabled, admin };
    let mut asked = Vec::new();
    for round in 0..8 {
        for kind in ["unheard of", "no admin", "admin", "disabled", "stray client", "full"] {
            let user = somebody();
            match kind {
                "no admin" => drop(store.set_subject(user, state(true, false), by(NOW)).await.unwrap()),
                "admin" => drop(store.set_subject(user, state(true, true), by(NOW)).await.unwrap()),
                "disabled" => drop(store.set_subject(user, state(false, false), by(NOW)).await.unwrap()),
                "full" => {
                    for _ in 0..3 {
                        opened(store, user, NOW).await;
                    }
                }
                _ => {}
            }
            let mut session = sign_in(user, NOW).0;
            session.label = format!("{kind} \"{round}\" \u{1f980}");
            if kind == "stray client" {
                session.client_id = "nobody".into();
            }
            asked.push((kind, session));
        }
    }
    let opening = asked.iter().map(|(_, session)| store.open_session(session, 3, by(NOW)));
    for ((kind, session), answer) in asked.iter().zip(join_all(opening).await) {
        let answer = answer.unwrap();
        let ended = match (*kind, answer) {
            ("disabled", answer) => {
                assert_eq!(answer, Opened::SubjectDisabled);
                continue;
            }
            ("stray client", answer) => {
                assert_eq!(answer, Opened::ClientUnknown);
                continue;
            }
            (kind, Opened::Open { scopes, ended }) => {
                let without_admin = kind == "no admin";
                assert_eq!(scopes, if without_admin { Scopes::ALL - Scopes::ADMIN } else { Scopes::ALL }, "{kind}");
                ended
            }
            (kind, answer) => panic!("{kind}: {answer:?}"),
        };
        assert_eq!(ended.len(), usize::from(*kind == "full"), "{kind}");
        let kept = store.session(session.id).await.unwrap().unwrap();
        assert_eq!((&kept.label, kept.user, kept.family), (&session.label, session.user, session.family));
    }
    let filter = Filter { action: Some(Action::SessionOpened), ..Filter::default() };
    let opened = store.audit_events(&filter, 1000).await.unwrap();
    // Four kinds opened, and those of who was full before.
    assert_eq!(opened.len(), 8 * (4 + 3));
}

pub(super) async fn case_40_no_session_slips_past_a_disabling(store: &dyn Store) {
    client(store, "web").await;
    let disabled = SubjectState { enabled: false, admin: false };
    for _ in 0..10 {
        let user = somebody();
        let sessions: Vec<_> = (0..6).map(|_| sign_in(user, NOW).0).collect();
        let opening = join_all(sessions.iter().map(|session| store.open_session(session, MAX, by(NOW))));
        let (opened, set) = tokio::join!(opening, store.set_subject(user, disabled, by(NOW)));
        let open = opened.into_iter().filter(|opened| *opened.as_ref().unwrap() != Opened::SubjectDisabled).count();
        assert_eq!(set.unwrap(), u64::try_from(open).unwrap(), "those that opened before have ended");
        assert!(store.sessions_of(user, None, MAX, &LIFETIMES, NOW).await.unwrap().is_empty());
    }
}

pub(super) async fn fault_03_no_revocation_is_missed_while_others_are_recorded(store: &dyn Store) {
    let writing = join_all((0..8).map(|_| async {
        for _ in 0..25 {
            store.revoke(&RevocationTarget::Token(Uuid::now_v7()), None, NOW).await.unwrap();
        }
    }));
    let reading = async {
        let mut seen = Vec::new();
        while seen.len() < 200 {
            let after = seen.last().copied().unwrap_or_default();
            let news = store.revocations(Moment(0), after, 1000).await.unwrap();
            seen.extend(news.iter().map(|numbered| numbered.no));
            tokio::task::yield_now().await;
        }
        seen
    };
    let reading = tokio::time::timeout(Duration::from_secs(60), reading);
    let ((), seen) = tokio::join!(async { drop(writing.await) }, reading);
    assert!(seen.expect("none is missed").is_sorted_by(|one, next| one < next));
}

pub(super) async fn the_limit_of_clients_holds_when_many_are_added_at_once(store: &dyn Store) {
    let clients: Vec<_> =
        (0..10).map(|number| Client { id: format!("bot-{}", number / 2).into(), ..Client::built_in(NOW) }).collect();
    let added = join_all(clients.iter().map(|client| store.add_client(client, 3, by(NOW)))).await;
    assert_eq!(added.into_iter().filter(|added| *added.as_ref().unwrap() == Addition::Done).count(), 3);
    assert_eq!(store.clients(None).await.unwrap().unwrap().1.len(), 3);
}

pub(super) async fn no_session_slips_past_the_removal_of_its_client(store: &dyn Store) {
    for _ in 0..10 {
        client(store, "web").await;
        let sessions: Vec<_> = (0..6).map(|_| sign_in(somebody(), NOW).0).collect();
        let opening = join_all(sessions.iter().map(|session| store.open_session(session, MAX, by(NOW))));
        let removing = async {
            assert!(store.retire_client("web", by(NOW)).await.unwrap());
            while store.sweep_retired_clients(2, NOW).await.unwrap() {}
        };
        let (opened, ()) = tokio::join!(opening, removing);
        for (session, opened) in sessions.iter().zip(opened) {
            assert!(matches!(opened.unwrap(), Opened::Open { .. } | Opened::ClientUnknown));
            assert_eq!(current(store, session.id).await, None);
        }
    }
}

pub(super) async fn what_is_old_is_purged_once_however_many_do_it(store: &dyn Store) {
    let mut old = BTreeSet::new();
    for _ in 0..12 {
        old.insert(opened(store, somebody(), NOW).await.0.id.to_string());
    }
    let (fresh, token) = opened(store, somebody(), NOW).await;
    let later = NOW.plus(LIFETIMES.idle).plus(Duration::from_secs(120));
    // One is refreshed just before it would have been too old.
    present(store, &[presented(&token)], NOW.plus(LIFETIMES.idle / 2)).await;
    let what = purge(NOW, NOW);
    join_all((0..4).map(|_| async { while store.purge(&what, 2, later).await.unwrap() {} })).await;
    while store.purge(&what, 2, later).await.unwrap() {}
    let ended = revoked(store).await.into_iter().map(|target| match target {
        RevocationTarget::Session(session) => session.to_string(),
        other => panic!("{other:?}"),
    });
    let ended: Vec<_> = ended.collect();
    assert_eq!(ended.len(), old.len(), "each is recorded once");
    assert_eq!(ended.into_iter().collect::<BTreeSet<_>>(), old);
    assert!(current(store, fresh.id).await.is_some());
}

pub(super) async fn case_36_fifty_parallel_presentations_rotate_once(store: &dyn Store) {
    let (session, token) = opened(store, somebody(), NOW).await;
    let one = [presented(&token)];
    let calls = (0..50).map(|_| present(store, &one, NOW));
    let verdicts = join_all(calls).await.concat();
    assert!(verdicts.len() == 50 && verdicts.iter().all(granted));
    assert_eq!(current(store, session.id).await, Some(keys().successor(&token).digest()));
}

pub(super) async fn keys_are_advanced_once_however_many_try(store: &dyn Store) {
    let day = Duration::from_secs(24 * 3600);
    let times = KeyTimes { period: 30 * day, lead: day, keep: day };
    let sealer = Sealer::new(&[7; 32]).unwrap();
    let step = |now: Moment| {
        let spare = vec![sealer.generate(now).unwrap(), sealer.generate(now).unwrap()];
        store.advance_keys(spare, &times, now)
    };
    let kids = |keys: Vec<SigningKey>| keys.into_iter().map(|key| key.kid).collect::<BTreeSet<_>>();
    let all = join_all((0..8).map(|_| step(NOW))).await;
    let all: Vec<_> = all.into_iter().map(|keys| kids(keys.unwrap())).collect();
    assert!(all[0].len() == 2 && all.iter().all(|kids| *kids == all[0]));
    let later = NOW.plus(30 * day);
    let keys = step(later).await.unwrap();
    assert_eq!(keys.len(), 3);
    assert_eq!(keys.iter().filter(|key| key.state(later) == KeyState::Active).count(), 1);
    assert!(keys.iter().all(|key| sealer.open(key).is_ok()));
    assert_eq!(step(later.plus(day)).await.unwrap().len(), 2);
}
