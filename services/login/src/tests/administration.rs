//! What admins do.

use flaghoist_runtime::StoreAddress;
use flaghoist_runtime::fault::Reason;
use tonic::Code;

use super::world::*;
use crate::{GrantError, Granted, grant_admin};

#[tokio::test]
async fn the_first_admin_is_made_on_the_machine_while_the_server_runs() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let granted = grant_admin(&world.address(), &world.place(), "@ALICE").await.unwrap();
    assert_eq!(granted, Granted { handle: "alice".into(), already: false });
    let again = grant_admin(&world.address(), &world.place(), "alice").await.unwrap();
    assert!(again.already);
    let welcome = world.at("192.0.2.1").login("alice", PASSWORD).await.unwrap();
    assert!(welcome.account.unwrap().admin);
    assert_eq!(welcome.tokens.unwrap().scope, "chat.send chat.read admin");
    assert_eq!(world.issuer.state(&alice.name()), Some((true, true)), "the issuer was told before");
    assert_eq!(world.issuer.changed_by(&alice.name()), ["operator"]);
    assert!(matches!(grant_admin(&world.address(), &world.place(), "bob").await, Err(GrantError::Unknown(_))));
    assert!(matches!(grant_admin(&world.address(), &world.place(), "b b").await, Err(GrantError::Handle(_))));
    let elsewhere = flaghoist_runtime::Place::new("/nonexistent");
    assert!(matches!(grant_admin(&StoreAddress::Folder, &elsewhere, "alice").await, Err(GrantError::NoStore(_))));
}

#[tokio::test]
async fn a_disabled_account_loses_its_sessions_and_cannot_sign_in() {
    let world = World::new().await;
    let root = world.admin("root").await;
    let bob = world.person("bob").await;
    assert!(root.set_disabled(&bob.name(), true).await.unwrap().disabled);
    assert!(world.issuer.sessions(&bob.name()).is_empty());
    assert_eq!(reason(bob.login("bob", PASSWORD).await), Reason::CredentialsInvalid);
    assert_eq!(reason(bob.change_password(PASSWORD, "other flowers in the sun").await), Reason::CredentialsInvalid);
    assert!(!root.set_disabled(&bob.name(), false).await.unwrap().disabled);
    assert!(bob.login("bob", PASSWORD).await.is_ok());
    assert_eq!(reason(root.set_disabled("users/00000000-0000-7000-8000-000000000000", true).await), Reason::NotFound);
}

#[tokio::test]
async fn an_issuer_that_is_down_is_told_later() {
    let world = World::new().await;
    let root = world.admin("root").await;
    let bob = world.person("bob").await;
    world.issuer.set_down(true);
    assert_eq!(reason(root.set_disabled(&bob.name(), true).await), Reason::Unavailable);
    assert_eq!(world.issuer.sessions(&bob.name()).len(), 1);
    let world = world.restart(|_| ()).await;
    world.issuer.set_down(false);
    eventually("the end of the session", async || world.issuer.sessions(&bob.name()).is_empty()).await;
    assert_eq!(world.issuer.state(&bob.name()), Some((false, false)));
}

#[tokio::test]
async fn an_issuer_that_believes_otherwise_is_told_again() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    world.issuer.believe(&alice.name(), (false, false));
    alice.login("alice", PASSWORD).await.unwrap();
    assert_eq!(world.issuer.state(&alice.name()), Some((true, false)));
}

#[tokio::test]
async fn an_admin_whom_the_issuer_takes_for_none_is_one_again_from_the_next_sign_in_on() {
    let world = World::new().await;
    let root = world.admin("root").await;
    // As it does when its store was restored from before the grant, or a pod that was frozen told an older state last.
    world.issuer.believe(&root.name(), (true, false));
    let welcome = root.login("root", PASSWORD).await.unwrap();
    assert_eq!(welcome.tokens.unwrap().scope, "chat.send chat.read admin");
}

#[tokio::test]
async fn admins_make_and_unmake_admins_but_never_the_last() {
    let world = World::new().await;
    let root = world.admin("root").await;
    let bob = world.person("bob").await;
    for answer in [
        root.set_admin(&root.name(), false).await.map(|_| ()),
        root.set_disabled(&root.name(), true).await.map(|_| ()),
        root.delete_account(PASSWORD).await,
    ] {
        assert_eq!(answer.as_ref().unwrap_err().code(), Code::FailedPrecondition);
        assert_eq!(reason(answer), Reason::LastAdmin);
    }
    assert!(root.set_admin(&bob.name(), true).await.unwrap().admin);
    let bob = bob.signed_in("bob", PASSWORD).await;
    assert_eq!(bob.get("").await.unwrap().name, bob.name());
    assert!(!bob.set_admin(&root.name(), false).await.unwrap().admin);
    let changed_by = [&bob, &root].map(|person| world.issuer.changed_by(&person.name()).pop());
    assert_eq!(changed_by, [Some(root.name()), Some(bob.name())]);
    assert!(world.issuer.sessions(&root.name()).is_empty(), "an admin no more, the sessions end");
    let welcome = root.login("root", PASSWORD).await.unwrap();
    assert_eq!(welcome.tokens.unwrap().scope, "chat.send chat.read");
    assert_eq!(reason(bob.set_admin(&bob.name(), false).await), Reason::LastAdmin);
}

#[tokio::test]
async fn who_is_an_admin_or_disabled_is_told_to_those_who_may_know() {
    let world = World::new().await;
    let root = world.admin("root").await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    root.set_disabled(&bob.name(), true).await.unwrap();
    assert!(root.get("").await.unwrap().admin);
    assert!(!alice.get(&root.name()).await.unwrap().admin);
    assert!(!alice.lookup("root").await.unwrap().admin);
    assert!(!alice.get(&bob.name()).await.unwrap().disabled);
    assert!(root.get(&bob.name()).await.unwrap().disabled);
}
