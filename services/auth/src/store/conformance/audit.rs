//! The promises about the audit log.

use super::*;

async fn all(store: &dyn Store) -> Vec<Event> {
    store.audit_events(&Filter::default(), 1000).await.unwrap()
}

/// Action and detail, oldest first.
async fn told(store: &dyn Store) -> Vec<(Action, String)> {
    all(store).await.into_iter().rev().map(|event| (event.action, event.detail)).collect()
}

pub(super) async fn what_is_done_is_in_the_audit_log_and_what_is_not_is_not(store: &dyn Store) {
    use Action::*;
    let user = somebody();
    let (session, _) = opened(store, user, NOW).await;
    let entry = all(store).await.remove(0);
    assert_eq!((entry.action, entry.at, entry.count, entry.refused), (SessionOpened, NOW, 1, false));
    assert_eq!((entry.subject, entry.session), (format!("users/{user}"), Some(session.id)));
    assert_eq!(entry.actor, format!("users/{}", Uuid::from_u128(7)));
    assert_eq!((entry.client_id.as_str(), entry.address.as_str()), ("console", "192.0.2.3"));

    store.end_session(user, session.id, Why::SignedOut, by(NOW)).await.unwrap();
    store.end_session(user, session.id, Why::SignedOut, by(NOW)).await.unwrap();
    let (admin, off) = (SubjectState { enabled: true, admin: true }, SubjectState { enabled: false, admin: false });
    for state in [admin, admin, off, off, admin] {
        store.set_subject(user, state, by(NOW)).await.unwrap();
    }
    let (second, _) = sign_in(user, NOW);
    store.open_session(&second, MAX, by(NOW)).await.unwrap();
    store.open_session(&sign_in(user, NOW).0, 1, by(NOW)).await.unwrap();
    store.end_sessions_of(user, None, by(NOW)).await.unwrap();
    store.erase_subject(user, by(NOW)).await.unwrap();
    store.erase_subject(user, by(NOW)).await.unwrap();
    store.set_subject(user, admin, by(NOW)).await.unwrap();
    store.retire_client("web", by(NOW)).await.unwrap();
    store.retire_client("web", by(NOW)).await.unwrap();
    let event = Event::new(by(NOW), TokenRevoked, "clients/web");
    store.revoke(&RevocationTarget::Token(Uuid::now_v7()), Some(&event), NOW).await.unwrap();

    let told = told(store).await;
    let (of_client, scopes) = (Scopes::API.to_string(), Scopes::ALL.to_string());
    let expected = [
        (ClientCreated, of_client.as_str()),
        (SessionOpened, &scopes),
        (SessionEnded, "signed_out"),
        (AdminGranted, ""),
        (SubjectDisabled, ""),
        (AdminWithdrawn, ""),
        (SubjectEnabled, ""),
        (AdminGranted, ""),
        (SessionOpened, &scopes),
    ];
    for (told, expected) in told.iter().zip(expected) {
        assert_eq!((told.0, told.1.as_str()), expected);
    }
    // Which of two within one transaction comes first is the backend's.
    let rest: Vec<_> = told[9..].iter().map(|(action, detail)| (*action, detail.as_str())).collect();
    assert!(rest[..2].contains(&(SessionEnded, "too_many_sessions")) && rest[..2].contains(&(SessionOpened, &scopes)));
    assert_eq!(
        rest[2..],
        [(SessionEnded, "revoked"), (SubjectErased, ""), (ClientDeleted, ""), (TokenRevoked, "")],
        "what changes nothing is not told of"
    );
}

pub(super) async fn case_35_who_reused_a_token_is_in_the_audit_log(store: &dyn Store) {
    let user = somebody();
    let (session, token) = opened(store, user, NOW).await;
    let (old, old_token) = opened(store, user, NOW).await;
    let before = all(store).await.len();
    present(store, &[presented(&token), presented(&old_token)], NOW).await;
    assert_eq!(all(store).await.len(), before, "an ordinary refresh is not told of");
    let late = NOW.plus(Duration::from_secs(11));
    let thief = Presentation { client_id: "other".into(), address: "203.0.113.9".into(), ..presented(&token) };
    assert_eq!(present(store, &[thief], late).await, [Verdict::Reused]);
    let events = all(store).await;
    let reuse = events.iter().find(|event| event.action == Action::RefreshTokenReused).expect("it is told of");
    assert_eq!((reuse.session, reuse.refused, reuse.at), (Some(session.id), true, late));
    assert_eq!((reuse.client_id.as_str(), reuse.address.as_str()), ("other", "203.0.113.9"));
    let ended = events.iter().find(|event| event.action == Action::SessionEnded).expect("its session ended");
    assert_eq!((ended.session, ended.detail.as_str()), (Some(session.id), "refresh_token_reused"));
    assert_eq!((ended.actor.as_str(), ended.client_id.as_str()), ("system", "web"));
    let last = NOW.plus(LIFETIMES.idle);
    let idle = presented(&keys().successor(&old_token));
    assert_eq!(present(store, &[idle], last).await, [Verdict::Expired]);
    let newest = all(store).await.remove(0);
    assert_eq!((newest.session, newest.detail.as_str()), (Some(old.id), "expired"));
}

pub(super) async fn audit_events_are_found_by_time_actor_subject_and_action(store: &dyn Store) {
    let at = |no: i64| Moment(NOW.0 + no * 1000);
    let mut written = Vec::new();
    for no in 0..40_i64 {
        let actor = Actor::Client(format!("bot-{}", no % 4).into());
        let action = if no % 5 == 0 { Action::ClientAuthenticationFailed } else { Action::TokenRevoked };
        let origin = Origin::new(actor, at(no)).at_address("2001:db8::1");
        let event = Event::new(&origin, action, format!("users/{}", no % 3)).detail("ünï 🦀 \" ' \\");
        written.push(Event { count: 7, session: (no % 2 == 0).then(|| SessionId(Uuid::now_v7())), ..event });
    }
    store.audit(&written).await.unwrap();
    written.reverse();
    assert_eq!(all(store).await, written);
    let found = async |filter: Filter, fits: &dyn Fn(&Event) -> bool| {
        let expected: Vec<_> = written.iter().filter(|event| fits(event)).cloned().collect();
        assert!(!expected.is_empty());
        // In pages of three.
        let (mut pages, mut before) = (Vec::new(), None);
        loop {
            let page = store.audit_events(&Filter { before, ..filter.clone() }, 3).await.unwrap();
            before = page.last().map(|event| event.id);
            let more = page.len() == 3;
            pages.extend(page);
            if !more {
                break;
            }
        }
        assert_eq!(pages, expected, "{filter:?}");
    };
    let (bot, person) = (|| Some("clients/bot-1".to_owned()), || Some("users/2".to_owned()));
    let failed = Action::ClientAuthenticationFailed;
    found(Filter { actor: bot(), ..Filter::default() }, &|event| event.actor == "clients/bot-1").await;
    found(Filter { subject: person(), ..Filter::default() }, &|event| event.subject == "users/2").await;
    found(Filter { action: Some(failed), ..Filter::default() }, &|event| event.action == failed).await;
    let between = Filter { since: Some(at(5)), until: Some(at(9)), ..Filter::default() };
    found(between, &|event| (at(5)..at(9)).contains(&event.at)).await;
    let narrow = Filter { actor: bot(), subject: person(), since: Some(at(3)), ..Filter::default() };
    found(narrow, &|event| event.actor == "clients/bot-1" && event.subject == "users/2" && event.at >= at(3)).await;
    let nobody = Filter { actor: Some("clients/' OR 1=1 --".into()), ..Filter::default() };
    assert!(store.audit_events(&nobody, 10).await.unwrap().is_empty());
}

pub(super) async fn audit_events_leave_when_their_time_is_over_and_no_earlier(store: &dyn Store) {
    let event = |at: i64| Event::new(by(Moment(NOW.0 + at)), Action::TokenRevoked, "clients/bot");
    let events: Vec<_> = (0..10).map(event).collect();
    store.audit(&events).await.unwrap();
    let purge = |before: i64| {
        let audited_before = Moment(NOW.0 + before);
        let what = Purge { audited_before, ..purge(NOW, NOW) };
        async move { store.purge(&what, 2, NOW).await.unwrap() }
    };
    assert!(!purge(0).await);
    assert_eq!(all(store).await.len(), 10);
    assert!(purge(5).await);
    assert_eq!(all(store).await.len(), 8, "in small steps");
    join_all((0..4).map(|_| async { while purge(5).await {} })).await;
    let mut left = all(store).await;
    left.reverse();
    assert_eq!(left, events[5..]);
    assert!(!purge(3).await, "a longer retention brings nothing back, and takes nothing more");
    assert_eq!(all(store).await.len(), 5);
}

/// What somebody who holds the database itself may try.
const TAMPERING: [&str; 4] = [
    "UPDATE audit_events SET actor = 'somebody else'",
    "UPDATE audit_events SET event_count = 1",
    "DELETE FROM audit_events",
    "DELETE FROM audit_events WHERE subject = 'clients/bot'",
];

#[tokio::test]
async fn the_sqlite_file_refuses_to_change_or_drop_an_audit_event() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("auth.db");
    let store = SqliteStore::open(&path).await.unwrap();
    store.audit(&[Event::new(by(NOW), Action::TokenRevoked, "clients/bot")]).await.unwrap();
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
    let mut raw = <sqlx::SqliteConnection as sqlx::Connection>::connect_with(&options).await.unwrap();
    for statement in TAMPERING {
        let refused = sqlx::query(statement).execute(&mut raw).await.unwrap_err();
        assert!(refused.to_string().contains("audit events"), "{refused}");
    }
    assert_eq!(all(&store).await.len(), 1);
}

#[tokio::test]
async fn the_database_refuses_to_change_or_drop_an_audit_event() {
    let Some(url) = pods::database().await else { return };
    let store = pods::store(&url).await;
    store.audit(&[Event::new(by(NOW), Action::TokenRevoked, "clients/bot")]).await.unwrap();
    let mut raw = <sqlx::PgConnection as sqlx::Connection>::connect(&url).await.unwrap();
    sqlx::query("SET search_path TO auth").execute(&mut raw).await.unwrap();
    for statement in TAMPERING.into_iter().chain(["TRUNCATE audit_events"]) {
        let refused = sqlx::query(statement).execute(&mut raw).await.unwrap_err();
        assert!(refused.to_string().contains("audit events"), "{refused}");
    }
    assert_eq!(all(&store).await.len(), 1);
}
