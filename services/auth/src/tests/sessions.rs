//! People and their sessions.

use super::*;
use crate::audit::{Action, Filter};

#[tokio::test]
async fn sessions_are_listed_newest_first_in_pages() {
    let world = World::new().await;
    let user = somebody();
    let mut names = Vec::new();
    for _ in 0..5 {
        names.push(world.sign_in(user).await.0.name);
    }
    names.reverse();
    world.sign_in(somebody()).await;
    let (current, tokens) = world.sign_in(user).await;
    names.insert(0, current.name.clone());
    let mut sessions = world.sessions(&tokens.access_token);
    let (mut listed, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListSessionsRequest { page_size: 2, page_token: page_token.clone() };
        let page = sessions.list_sessions(request).await.unwrap().into_inner();
        assert!(page.sessions.len() <= 2);
        listed.extend(page.sessions);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(listed.iter().map(|session| &session.name).collect::<Vec<_>>(), names.iter().collect::<Vec<_>>());
    assert!(listed[0].current && listed[1..].iter().all(|session| !session.current));
    assert_eq!((listed[0].label.as_str(), listed[0].last_address.as_str()), ("laptop", "192.0.2.7"));
    assert_eq!(listed[0].amr, ["pwd"]);
}

#[tokio::test]
async fn a_page_token_is_good_for_its_owner_only() {
    let world = World::new().await;
    let (user, other) = (somebody(), somebody());
    let (_, tokens) = world.sign_in(user).await;
    world.sign_in(user).await;
    let (_, others) = world.sign_in(other).await;
    let request = ListSessionsRequest { page_size: 1, page_token: String::new() };
    let page = world.sessions(&tokens.access_token).list_sessions(request).await.unwrap().into_inner();
    let again = ListSessionsRequest { page_size: 1, page_token: page.next_page_token };
    world.sessions(&tokens.access_token).list_sessions(again.clone()).await.unwrap();
    let stolen = world.sessions(&others.access_token).list_sessions(again).await;
    refused(stolen, Code::InvalidArgument, Reason::PageTokenInvalid);
}

#[tokio::test]
async fn case_94_another_persons_session_is_not_found() {
    let world = World::new().await;
    let (victim, victims) = world.sign_in(somebody()).await;
    let (own, tokens) = world.sign_in(somebody()).await;
    let mut sessions = world.sessions(&tokens.access_token);
    let theirs = RevokeSessionRequest { name: victim.name.clone() };
    refused(sessions.revoke_session(theirs).await, Code::NotFound, Reason::NotFound);
    // Their session under one's own name is not found either.
    let user = own.name.split("/sessions/").next().unwrap();
    let id = victim.name.split("/sessions/").last().unwrap();
    let mixed = RevokeSessionRequest { name: format!("{user}/sessions/{id}") };
    refused(sessions.revoke_session(mixed).await, Code::NotFound, Reason::NotFound);
    let bad = RevokeSessionRequest { name: "users/x/sessions/y".into() };
    refused(sessions.revoke_session(bad).await, Code::InvalidArgument, Reason::FieldViolation);
    world.refresh(&victims.refresh_token).await.unwrap();
    sessions.revoke_session(RevokeSessionRequest { name: own.name }).await.unwrap();
    refused(world.refresh(&tokens.refresh_token).await, Code::Unauthenticated, Reason::GrantInvalid);
}

#[tokio::test]
async fn a_person_has_a_bounded_number_of_sessions() {
    let world = World::with(Settings { sessions_max: 3, ..Settings::default() }).await;
    let user = somebody();
    let (_, oldest) = world.sign_in(user).await;
    let mut last = None;
    for _ in 0..3 {
        last = Some(world.sign_in(user).await.1);
    }
    refused(world.refresh(&oldest.refresh_token).await, Code::Unauthenticated, Reason::GrantInvalid);
    let request = ListSessionsRequest::default();
    let page = world.sessions(&last.unwrap().access_token).list_sessions(request).await.unwrap().into_inner();
    assert_eq!(page.sessions.len(), 3);
}

#[tokio::test]
async fn the_scope_admin_is_granted_as_long_as_login_says_so() {
    let world = World::new().await;
    let user = somebody();
    let state = |admin| SetSubjectStateRequest { user: user.name(), enabled: true, admin, ..Default::default() };
    world.subjects().set_subject_state(state(true)).await.unwrap();
    let (_, admin) = world.try_sign_in(user, "flaghoist-cli", &["admin", "chat.read", "unheard.of"]).await.unwrap();
    assert_eq!(admin.scope, "chat.read admin");
    world.subjects().set_subject_state(state(false)).await.unwrap();
    refused(world.refresh(&admin.refresh_token).await, Code::Unauthenticated, Reason::GrantInvalid);
    let (_, person) = world.try_sign_in(user, "flaghoist-cli", &["admin", "chat.read"]).await.unwrap();
    assert_eq!(person.scope, "chat.read");
    let disabled = SetSubjectStateRequest { enabled: false, ..state(false) };
    world.subjects().set_subject_state(disabled).await.unwrap();
    let answer = world.try_sign_in(user, "flaghoist-cli", &[]).await;
    refused(answer, Code::PermissionDenied, Reason::PermissionDenied);
}

#[tokio::test]
async fn all_sessions_but_one_end() {
    let world = World::new().await;
    let user = somebody();
    let (kept, kept_tokens) = world.sign_in(user).await;
    let (_, gone) = world.sign_in(user).await;
    let except_session = kept.name.split("/sessions/").last().unwrap().to_owned();
    let request = RevokeSubjectSessionsRequest { user: user.name(), except_session };
    assert_eq!(world.subjects().revoke_subject_sessions(request).await.unwrap().into_inner().revoked_count, 1);
    world.refresh(&kept_tokens.refresh_token).await.unwrap();
    refused(world.refresh(&gone.refresh_token).await, Code::Unauthenticated, Reason::GrantInvalid);
}

#[tokio::test]
async fn a_person_ends_all_their_sessions_but_the_one_that_asks() {
    let world = World::new().await;
    let (user, other) = (somebody(), somebody());
    let (_, elsewhere) = world.sign_in(user).await;
    let (kept, tokens) = world.sign_in(user).await;
    let (_, newest) = world.sign_in(user).await;
    let (_, others) = world.sign_in(other).await;
    let mut sessions = world.sessions(&tokens.access_token);
    let answer = sessions.revoke_other_sessions(RevokeOtherSessionsRequest {}).await.unwrap().into_inner();
    assert_eq!(answer.revoked_count, 2);
    for gone in [elsewhere, newest] {
        refused(world.refresh(&gone.refresh_token).await, Code::Unauthenticated, Reason::GrantInvalid);
    }
    let left = sessions.list_sessions(ListSessionsRequest::default()).await.unwrap().into_inner().sessions;
    assert_eq!(left.iter().map(|session| (&session.name, session.current)).collect::<Vec<_>>(), [(&kept.name, true)]);
    world.refresh(&tokens.refresh_token).await.unwrap();
    world.refresh(&others.refresh_token).await.expect("nobody else's end");
    // Asked once more there is nothing to end.
    let again = sessions.revoke_other_sessions(RevokeOtherSessionsRequest {}).await.unwrap().into_inner();
    assert_eq!(again.revoked_count, 0);
    // The log says who did it.
    let filter = Filter { action: Some(Action::SessionEnded), ..Filter::default() };
    let events = world.issuer.audit_events(&filter, 10).await.unwrap();
    assert_eq!(events.len(), 2);
    assert!(events.iter().all(|event| event.actor == user.name() && event.detail == "revoked"), "{events:?}");
}

#[tokio::test]
async fn a_session_that_is_idle_or_old_ends() {
    let world = World::new().await;
    let (_, idle) = world.sign_in(somebody()).await;
    world.wait(Duration::from_secs(14 * 24 * 3600));
    refused(world.refresh(&idle.refresh_token).await, Code::Unauthenticated, Reason::GrantInvalid);
    let (_, mut tokens) = world.sign_in(somebody()).await;
    for _ in 0..8 {
        world.wait(Duration::from_secs(10 * 24 * 3600));
        tokens = world.refresh(&tokens.refresh_token).await.unwrap();
    }
    world.wait(Duration::from_secs(10 * 24 * 3600));
    refused(world.refresh(&tokens.refresh_token).await, Code::Unauthenticated, Reason::GrantInvalid);
}
