//! The account pages of a browser that is signed in, and the issuer behind them: where else someone is signed in, and what ends that.

use std::time::Duration;

use axum::http::StatusCode;
use flaghoist_runtime::fault::{Fault, Reason};
use tonic::{Code, Status};

use super::account_contacts::Visitor;
use super::world::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_22_one_button_signs_out_everywhere_else() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let bob = world.person("bob").await;
    world.at("192.0.2.2").login("alice", PASSWORD).await.unwrap();
    let visitor = Visitor::is(&world, &alice, Duration::ZERO).await;
    world.issuer.opened(&alice.name(), &visitor.session);
    let page = visitor.looks("/account/sessions").await;
    assert!(page.body.contains("Sign out everywhere else"), "{}", page.body);
    assert!(page.body.contains("What happened lately") && page.body.contains("<h3>Signed in</h3>"), "{}", page.body);
    assert!(page.body.contains("192.0.2.2"), "where from: {}", page.body);
    assert_eq!(world.issuer.sessions(&alice.name()).len(), 3);

    let mut stranger = visitor.clone();
    stranger.token = "x".into();
    assert_eq!(stranger.sends("/account/sessions", &[]).await.status, StatusCode::FORBIDDEN);
    assert_eq!(world.issuer.sessions(&alice.name()).len(), 3, "a form of nobody ends nothing");
    let done = visitor.done(visitor.sends("/account/sessions", &[]).await).await;
    assert!(done.contains("Signed out everywhere else.") && !done.contains("class=\"actions\""), "{done}");
    assert_eq!(world.issuer.sessions(&alice.name()).join(" "), visitor.session);
    assert_eq!(world.issuer.sessions(&bob.name()).len(), 1, "nobody else's end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_an_answer_that_says_so_ends_the_session_of_a_browser() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let (visitor, keys) = Visitor::comes(&world, &alice, Duration::ZERO, Duration::from_secs(10)).await;
    world.verifier.set_keys(&keys).unwrap();
    let refusal = |code, reason| Fault::new(code, reason, "no").into_status("auth.flaghoist");
    for passing in [
        Status::unavailable("away"),
        Status::internal("broken"),
        Status::unknown("?"),
        Status::permission_denied("RBAC: access denied"),
        refusal(Code::ResourceExhausted, Reason::RateLimited),
        // The issuer was restored from before it had this client, or a proxy knows another.
        refusal(Code::Unauthenticated, Reason::ClientInvalid),
    ] {
        let said = passing.clone();
        world.issuer.issue_no_tokens(passing);
        let page = visitor.looks("/account").await;
        assert!(!page.status.is_success() && !page.status.is_redirection(), "{said}: {}", page.status);
    }
    world.issuer.issue_no_tokens(refusal(Code::Unauthenticated, Reason::GrantInvalid));
    assert_eq!(visitor.looks("/account").await.status, StatusCode::SEE_OTHER);
    // It stays over.
    world.issuer.issue_no_tokens(Status::internal("broken"));
    assert_eq!(visitor.looks("/account").await.status, StatusCode::SEE_OTHER);
}
