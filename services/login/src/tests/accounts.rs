//! Registering, reading and deleting accounts.

use std::time::Duration;

use flaghoist_proto::login::v1 as login;
use flaghoist_runtime::fault::Reason;
use tonic::Code;
use tonic_types::StatusExt as _;

use super::world::*;
use crate::settings::Registration;

#[tokio::test]
async fn a_person_registers_signs_in_and_is_found() {
    let world = World::new().await;
    let request = login::CreateAccountRequest {
        handle: "Ａlice".into(),
        display_name: " Alice L. ".into(),
        password: PASSWORD.into(),
        ..Default::default()
    };
    let made = world.at("192.0.2.1").register_with(request).await.unwrap();
    assert_eq!((made.handle.as_str(), made.display_name.as_str(), made.admin), ("alice", "Alice L.", false));
    assert!(made.create_time.is_some());
    let request = login::LoginRequest {
        handle: "ALICE".into(),
        password: PASSWORD.into(),
        label: "laptop".into(),
        ..Default::default()
    };
    let welcome = world.at("192.0.2.7").login_with(request).await.unwrap();
    assert_eq!(welcome.account, Some(made.clone()));
    assert_eq!(welcome.tokens.unwrap().scope, "chat.send chat.read");
    let asked = world.issuer.last_request();
    assert_eq!(
        (asked.user, asked.client_id.as_str(), asked.label.as_str()),
        (made.name.clone(), "flaghoist-cli", "laptop")
    );
    assert_eq!((asked.amr, asked.address.as_str()), (vec!["pwd".to_owned()], "192.0.2.7"));
    assert!(asked.auth_time.is_some());

    let alice = world.at("192.0.2.1").signed_in("alice", PASSWORD).await;
    assert_eq!(alice.get("").await.unwrap(), made);
    assert_eq!(alice.rename("Alice Liddell").await.unwrap().display_name, "Alice Liddell");
    let bob = world.person("bob").await;
    for typed in ["alice", "@Alice", "@ＡＬＩＣＥ"] {
        assert_eq!(bob.lookup(typed).await.unwrap().display_name, "Alice Liddell");
    }
    assert_eq!(bob.get(&made.name).await.unwrap().handle, "alice");
    assert_eq!(reason(bob.lookup("nobody").await), Reason::NotFound);
    assert_eq!(reason(bob.get("users/00000000-0000-7000-8000-000000000000").await), Reason::NotFound);
    for name in ["alice", "users/", "users/ALICE", "users/00000000-0000-7000-8000-00000000000G"] {
        assert_eq!(reason(bob.get(name).await), Reason::FieldViolation);
    }
    assert_eq!(reason(world.at("192.0.2.1").get("").await), Reason::TokenMissing);
}

#[tokio::test]
async fn a_handle_is_taken_in_every_spelling() {
    let world = World::new().await;
    world.person("john").await;
    for typed in ["john", "JOHN", "Ｊｏｈｎ"] {
        let refused = world.at("192.0.2.9").register(typed, "other flowers in the sun").await.unwrap_err();
        assert_eq!(refused.code(), Code::AlreadyExists);
        assert_eq!(refused.get_details_resource_info().unwrap().resource_name, "john");
    }
    let people = (0..8).map(|_| async { world.at("192.0.2.9").register("paul", PASSWORD).await.is_ok() });
    let made = futures_util::future::join_all(people).await;
    assert_eq!(made.iter().filter(|made| **made).count(), 1);
}

#[tokio::test]
async fn what_breaks_the_rules_is_refused_before_hashing() {
    let world = World::new().await;
    let someone = world.at("192.0.2.1");
    let request = login::CreateAccountRequest {
        handle: String::new(),
        display_name: "x".repeat(65),
        password: "x".repeat(1025),
        invitation: "x".repeat(65),
    };
    let refused = someone.register_with(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let fields = refused.get_details_bad_request().unwrap().field_violations;
    let fields: Vec<_> = fields.iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!(fields, ["handle", "display_name", "password", "invitation"]);
    // 76, for every password that is sent.
    let long = "é".repeat(513);
    assert_eq!(reason(someone.login("alice", &long).await), Reason::FieldViolation);
    let refused = someone.login("alice", &"x".repeat(1_000_000)).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(reason::<()>(Err(refused)), Reason::LimitReached);
    assert_eq!(world.accounts.pool().begun(), 0);
    let alice = world.person("alice").await;
    let begun = world.accounts.pool().begun();
    assert_eq!(reason(alice.change_password(&long, PASSWORD).await), Reason::FieldViolation);
    assert_eq!(reason(alice.change_password(PASSWORD, &long).await), Reason::FieldViolation);
    assert_eq!(reason(alice.delete_account(&long).await), Reason::FieldViolation);
    assert_eq!(reason(someone.register("a b", PASSWORD).await), Reason::FieldViolation);
    assert_eq!(reason(alice.rename("two\nlines").await), Reason::FieldViolation);
    assert_eq!(world.accounts.pool().begun(), begun);
}

#[tokio::test]
async fn a_person_changes_what_is_shown_of_them_so_often_only() {
    let world = World::with(|settings| settings.update_burst = 3).await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    assert_eq!(
        reason(alice.rename("two\nlines").await),
        Reason::FieldViolation,
        "what is refused anyway does not count"
    );
    for number in 0..3 {
        alice.rename(&format!("Alice {number}")).await.unwrap();
    }
    let refused = alice.moved_to("192.0.2.99").rename("Alice 3").await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(retry_delay(&refused) > Duration::from_secs(20));
    assert_eq!(reason::<()>(Err(refused)), Reason::RateLimited);
    assert_eq!(alice.get("").await.unwrap().display_name, "Alice 2");
    assert_eq!(bob.rename("Bob B.").await.unwrap().display_name, "Bob B.", "each has their own");
}

#[tokio::test]
async fn an_unknown_client_is_named() {
    let world = World::new().await;
    world.person("alice").await;
    let request = login::LoginRequest {
        handle: "alice".into(),
        password: PASSWORD.into(),
        client_id: "unheard-of".into(),
        ..Default::default()
    };
    assert_eq!(reason(world.at("192.0.2.1").login_with(request).await), Reason::ClientInvalid);
}

#[tokio::test]
async fn invitations_admit_one_person_each() {
    let world = World::new().await;
    world.admin("root").await;
    let world = world.restart(|settings| settings.registration = Registration::Invitation).await;
    let root = world.at("192.0.2.1").signed_in("root", PASSWORD).await;
    let invitation = root.invite().await.unwrap();
    let expires_in = flaghoist_runtime::time::from_timestamp(&invitation.expire_time.unwrap())
        .duration_since(std::time::SystemTime::now())
        .unwrap();
    assert!(expires_in > Duration::from_secs(7 * 86_400 - 60), "{expires_in:?}");
    let guest = |number: u32, invitation: &str| login::CreateAccountRequest {
        handle: format!("guest{number}"),
        password: PASSWORD.into(),
        invitation: invitation.into(),
        ..Default::default()
    };
    let someone = world.at("192.0.2.2");
    let begun = world.accounts.pool().begun();
    for typed in ["", "nonsense", "00000-00000-00000-00000-00000-0"] {
        assert_eq!(reason(someone.register_with(guest(0, typed)).await), Reason::InvitationInvalid);
    }
    assert_eq!(world.accounts.pool().begun(), begun, "nothing is hashed without an invitation");
    let guests = (0..8).map(|number| someone.register_with(guest(number, &invitation.invitation)));
    let answers = futures_util::future::join_all(guests).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    for refused in answers.into_iter().filter(Result::is_err) {
        assert_eq!(reason(refused), Reason::InvitationInvalid);
    }
    // Used stays used over a restart.
    let world = world.restart(|settings| settings.registration = Registration::Invitation).await;
    let again = world.at("192.0.2.2").register_with(guest(9, &invitation.invitation)).await;
    assert_eq!(reason(again), Reason::InvitationInvalid);
    let world = world.restart(|settings| settings.registration = Registration::Closed).await;
    assert_eq!(reason(world.at("192.0.2.2").register("late", PASSWORD).await), Reason::RegistrationClosed);
}

#[tokio::test]
async fn a_deleted_account_is_gone_everywhere() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let bob = world.person("bob").await;
    assert_eq!(reason(alice.delete_account("not the password").await), Reason::CredentialsInvalid);
    alice.delete_account(PASSWORD).await.unwrap();
    assert!(world.issuer.sessions(&alice.name()).is_empty() && world.issuer.erased(&alice.name()));
    assert_eq!(reason(bob.get(&alice.name()).await), Reason::NotFound);
    assert_eq!(reason(bob.lookup("alice").await), Reason::NotFound);
    assert_eq!(reason(alice.login("alice", PASSWORD).await), Reason::CredentialsInvalid);
    assert_eq!(world.users(&[&alice.name(), &bob.name()]).await.unwrap().len(), 1);
    // The handle is free again when all is gone, for another person.
    eventually("the handle", async || world.at("192.0.2.2").register("alice", PASSWORD).await.is_ok()).await;
    assert_ne!(bob.lookup("alice").await.unwrap().name, alice.name());
}

#[tokio::test]
async fn a_deletion_that_was_cut_off_is_finished_after_a_restart() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    world.issuer.set_down(true);
    assert_eq!(reason(alice.delete_account(PASSWORD).await), Reason::Unavailable);
    assert_eq!(reason(alice.get("").await), Reason::NotFound, "it is hidden from the first moment on");
    assert_eq!(reason(alice.login("alice", PASSWORD).await), Reason::Unavailable);
    let world = world.restart(|_| ()).await;
    let name = alice.name();
    assert!(!world.issuer.erased(&name));
    assert_eq!(reason(world.at("192.0.2.2").register("alice", PASSWORD).await), Reason::AlreadyExists);
    world.issuer.set_down(false);
    eventually("the erasure", async || world.issuer.erased(&name)).await;
    assert!(world.issuer.sessions(&name).is_empty());
    eventually("the handle", async || world.at("192.0.2.2").register("alice", PASSWORD).await.is_ok()).await;
}

#[tokio::test]
async fn the_directory_knows_who_exists() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let root = world.admin("root").await;
    root.set_disabled(&bob.name(), true).await.unwrap();
    let nobody = "users/00000000-0000-7000-8000-000000000000";
    let users = world.users(&[&alice.name(), &bob.name(), nobody, &alice.name()]).await.unwrap();
    assert_eq!(users, [login::User { name: alice.name(), handle: "alice".into() }]);
    assert!(world.users(&[]).await.unwrap().is_empty());
    let refused = world.users(&[&alice.name(), "bob"]).await.unwrap_err();
    assert_eq!(refused.get_details_bad_request().unwrap().field_violations[0].field, "names[1]");
    let many = vec![nobody; 1001];
    assert_eq!(reason(world.users(&many).await), Reason::FieldViolation);
}
