//! The audit log as admins read it.

use super::*;

#[tokio::test]
async fn an_admin_reads_who_did_what_from_where() {
    let world = World::new().await;
    let user = somebody();
    let (session, tokens) = world.sign_in(user).await;
    let request = ListAuditEventsRequest::default();
    let refused_to_people =
        AuditServiceClient::new(world.public(&tokens.access_token)).list_audit_events(request).await;
    refused(refused_to_people, Code::PermissionDenied, Reason::ScopeMissing);

    let opened = world.audited(AuditAction::SessionOpened).await;
    let mine = opened.iter().find(|event| event.subject == user.name()).expect("the sign-in is there");
    assert!(session.name.ends_with(&mine.session) && mine.name.starts_with("auditEvents/"));
    assert_eq!((mine.actor.as_str(), mine.client_id.as_str()), (user.name().as_str(), "flaghoist-cli"));
    assert_eq!((mine.address.as_str(), mine.detail.as_str()), ("192.0.2.7", "chat.read chat.send"));
    assert_eq!((mine.outcome(), mine.count), (AuditOutcome::Done, 1));

    world.sessions(&tokens.access_token).revoke_session(RevokeSessionRequest { name: session.name }).await.unwrap();
    let ended = world.audited(AuditAction::SessionEnded).await;
    assert_eq!((ended[0].actor.as_str(), ended[0].detail.as_str()), (user.name().as_str(), "revoked"));

    let state = |admin| SetSubjectStateRequest { user: user.name(), enabled: true, admin, ..Default::default() };
    world.subjects().set_subject_state(state(true)).await.unwrap();
    world.subjects().set_subject_state(state(true)).await.unwrap();
    let granted = world.audited(AuditAction::AdminGranted).await;
    assert_eq!(granted.len(), 1);
    assert_eq!((granted[0].actor.as_str(), &granted[0].subject), ("services/login", &user.name()));
}

#[tokio::test]
async fn who_changes_what_a_person_may_do_is_named() {
    let world = World::new().await;
    let (user, admin) = (somebody(), somebody());
    let say = async |enabled, admin, actor: &str| {
        let state = SetSubjectStateRequest { user: user.name(), enabled, admin, actor: actor.into() };
        world.subjects().set_subject_state(state).await
    };
    say(true, true, "operator").await.unwrap();
    say(true, false, &admin.name()).await.unwrap();
    say(false, false, &admin.name()).await.unwrap();
    for (action, actor) in [
        (AuditAction::AdminGranted, "operator"),
        (AuditAction::AdminWithdrawn, &admin.name()),
        (AuditAction::SubjectDisabled, &admin.name()),
    ] {
        let told = world.audited(action).await;
        assert_eq!((told[0].actor.as_str(), &told[0].subject), (actor, &user.name()));
    }
    for bad in ["system", "users/x", "clients/bot", "users/00000000-0000-0000-0000-00000000000-"] {
        refused(say(true, false, bad).await, Code::InvalidArgument, Reason::FieldViolation);
    }
}

#[tokio::test]
async fn events_come_in_pages_and_a_page_token_is_good_for_its_list_only() {
    let world = World::new().await;
    let user = somebody();
    for _ in 0..5 {
        world.sign_in(user).await;
    }
    let mut log = AuditServiceClient::new(world.public(&world.admin().await));
    let request = ListAuditEventsRequest { page_size: 2, subject: user.name(), ..Default::default() };
    let (mut seen, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListAuditEventsRequest { page_token: page_token.clone(), ..request.clone() };
        let page = log.list_audit_events(request).await.unwrap().into_inner();
        seen.extend(page.audit_events);
        if page.next_page_token.is_empty() {
            break;
        }
        page_token = page.next_page_token;
    }
    assert_eq!(seen.len(), 5);
    assert!(seen.windows(2).all(|pair| pair[0].name > pair[1].name), "newest first, each once");
    let stolen = ListAuditEventsRequest { page_token, ..Default::default() };
    refused(log.list_audit_events(stolen).await, Code::InvalidArgument, Reason::PageTokenInvalid);
    let broken = ListAuditEventsRequest { actor: "users/\0".into(), ..Default::default() };
    refused(log.list_audit_events(broken).await, Code::InvalidArgument, Reason::FieldViolation);
    let (start, end) = (seen[3].event_time, seen[1].event_time);
    let between = ListAuditEventsRequest { start_time: start, end_time: end, ..request };
    let between = log.list_audit_events(between).await.unwrap().into_inner().audit_events;
    let order = |time: Option<prost_types::Timestamp>| time.map(|time| (time.seconds, time.nanos));
    let within = |event: &AuditEvent| (order(start)..order(end)).contains(&order(event.event_time));
    assert!(between.iter().all(within));
}

#[tokio::test]
async fn case_45_failed_client_authentications_are_counted_and_name_no_unknown_client() {
    let world = World::new().await;
    world.confidential("bot", &["chat.read"]).await;
    for _ in 0..500 {
        let wrong = world.client_token(credentials("bot", "a-guess-at-a-secret"), "").await;
        refused(wrong, Code::Unauthenticated, Reason::ClientInvalid);
        let unknown = world.client_token(credentials("a-secret-in-the-wrong-field", ""), "").await;
        refused(unknown, Code::Unauthenticated, Reason::ClientInvalid);
    }
    let failed = AuditAction::ClientAuthenticationFailed;
    let sum = |events: &[AuditEvent], subject: &str| {
        events.iter().filter(|event| event.subject == subject).map(|event| event.count).sum::<i32>()
    };
    eventually("all are counted", Duration::from_secs(20), async || {
        let events = world.audited(failed).await;
        sum(&events, "clients/bot") == 500 && sum(&events, "") == 500
    })
    .await;
    let events = world.audited(failed).await;
    assert!(events.len() <= 20, "{} rows", events.len());
    assert!(events.iter().all(|event| event.outcome() == AuditOutcome::Refused && event.actor.is_empty()));
    let shown = format!("{:?}", world.audited(AuditAction::Unspecified).await);
    assert!(!shown.contains("a-guess-at-a-secret") && !shown.contains("a-secret-in-the-wrong-field"));
}

#[tokio::test]
async fn case_98_no_token_and_no_secret_is_in_the_audit_log() {
    let world = World::new().await;
    let secret = world.confidential("bot", &["chat.read"]).await;
    let own = world.client_token(credentials("bot", &secret), "").await.unwrap();
    world.revoke(credentials("bot", &secret), &own.access_token).await.unwrap();
    let (_, tokens) = world.sign_in(somebody()).await;
    let next = world.refresh(&tokens.refresh_token).await.unwrap();
    world.wait(Duration::from_secs(11));
    refused(world.refresh(&tokens.refresh_token).await, Code::Unauthenticated, Reason::GrantInvalid);
    let events = world.audited(AuditAction::Unspecified).await;
    for expected in [AuditAction::TokenRevoked, AuditAction::RefreshTokenReused, AuditAction::ClientCreated] {
        assert!(events.iter().any(|event| event.action() == expected), "{expected:?}");
    }
    let shown = format!("{events:?}");
    for token in [&own.access_token, &tokens.access_token, &tokens.refresh_token, &next.refresh_token, &secret] {
        assert!(!shown.contains(token.as_str()));
    }
}

#[tokio::test]
async fn revoking_token_after_token_does_not_fill_the_disk() {
    let world = World::new().await;
    let (_, mut tokens) = world.sign_in(somebody()).await;
    for _ in 0..700 {
        world.revoke(cli(), &tokens.access_token).await.unwrap();
        tokens = world.refresh(&tokens.refresh_token).await.unwrap();
    }
    world.wait(Duration::from_secs(60));
    world.issuer.write_tallies().await.unwrap();
    let filter = crate::audit::Filter { action: crate::audit::Action::named("TOKEN_REVOKED"), ..Default::default() };
    let events = world.issuer.store.audit_events(&filter, 2000).await.unwrap();
    assert_eq!(events.iter().map(|event| event.count).sum::<u32>(), 700, "each is counted");
    assert!(events.len() <= 610, "{} rows", events.len());
}

#[tokio::test]
async fn events_older_than_the_retention_leave_the_log() {
    let world = World::new().await;
    let admin = world.admin().await;
    world.sign_in(somebody()).await;
    world.wait(Duration::from_secs(91 * 24 * 3600));
    world.sign_in(somebody()).await;
    while upkeep::purge_some(&world.issuer).await.unwrap() {}
    let opened = world.audited_by(&admin, AuditAction::SessionOpened).await;
    assert_eq!(opened.len(), 1, "the second sign-in");
    // That the older sessions had expired is news of today.
    let ended = world.audited_by(&admin, AuditAction::SessionEnded).await;
    assert_eq!(ended.iter().map(|event| event.detail.as_str()).collect::<Vec<_>>(), ["expired", "expired"]);
}
