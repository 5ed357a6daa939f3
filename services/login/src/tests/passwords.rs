//! Passwords: which are taken, how they change, and that changing one ends what it opened.

use std::sync::Arc;

use flaghoist_runtime::fault::Reason;
use tonic::Code;
use tonic_types::StatusExt as _;

use super::world::*;
use crate::handle::Handle;
use crate::hashing::Cost;

#[tokio::test]
async fn case_77_any_text_is_a_password_in_one_spelling() {
    let world = World::new().await;
    let someone = world.at("192.0.2.1");
    let composed = "un caf\u{e9} cr\u{e8}me \u{212b}";
    let decomposed = "un cafe\u{301} cre\u{300}me A\u{30a}";
    let long = "seventy characters and more of a sentence that nobody else would think of, ever";
    let longest = "x1 y2 z3 ".repeat(113) + "endings";
    assert_eq!(longest.len(), 1024);
    let passwords = [
        (composed, decomposed),
        (decomposed, composed),
        (long, long),
        (&longest, &longest),
        ("  spaces  around  it  ", "  spaces  around  it  "),
        ("🦀🐙🦑🐚🐡🐠🐟🐬", "🦀🐙🦑🐚🐡🐠🐟🐬"),
        ("nul\0inside of it", "nul\0inside of it"),
    ];
    for (number, (registered, typed)) in passwords.into_iter().enumerate() {
        let handle = format!("user{number}");
        someone.register(&handle, registered).await.unwrap();
        someone.login(&handle, typed).await.unwrap();
        let cut: String = typed.chars().take(typed.chars().count() - 1).collect();
        for wrong in [cut.clone(), format!("{cut}?"), typed.trim().to_uppercase()] {
            if wrong != typed {
                assert_eq!(reason(someone.login(&handle, &wrong).await), Reason::CredentialsInvalid, "{wrong:?}");
            }
        }
        someone.login(&handle, typed).await.unwrap();
    }
}

#[tokio::test]
async fn weak_passwords_are_refused_with_advice() {
    let world = World::new().await;
    let someone = world.at("192.0.2.1");
    for weak in ["password123", "PASSWORD", "aaaaaaaaaa", "gwendolyn1", "Gwendolyn!"] {
        let refused = someone.register("gwendolyn", weak).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{weak}");
        let violation = refused.get_details_bad_request().unwrap().field_violations.remove(0);
        assert_eq!(violation.field, "password");
        assert!(violation.description.len() > 20 && !violation.description.contains(weak));
        assert_eq!(reason::<()>(Err(refused)), Reason::PasswordWeak);
    }
    // Eight characters as they are sent, seven once composed.
    assert_eq!(reason(someone.register("gwendolyn", "e\u{301}x7#Qz9").await), Reason::FieldViolation);
    let alice = world.person("alice").await;
    let refused = alice.change_password(PASSWORD, "password123").await.unwrap_err();
    assert_eq!(refused.get_details_bad_request().unwrap().field_violations[0].field, "new_password");
    alice.login("alice", PASSWORD).await.unwrap();
}

#[tokio::test]
async fn a_new_password_ends_the_other_sessions() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let elsewhere = alice.signed_in("alice", PASSWORD).await;
    assert_eq!(world.issuer.sessions(&alice.name()).len(), 2);
    assert_eq!(
        reason(alice.change_password("not the password", "other flowers in the sun").await),
        Reason::CredentialsInvalid
    );
    elsewhere.change_password(PASSWORD, "other flowers in the sun").await.unwrap();
    assert_eq!(world.issuer.sessions(&alice.name()), [elsewhere.session()]);
    assert_eq!(reason(alice.login("alice", PASSWORD).await), Reason::CredentialsInvalid);
    alice.login("alice", "other flowers in the sun").await.unwrap();
}

#[tokio::test]
async fn sessions_end_after_a_restart_when_the_issuer_was_down() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let other = alice.signed_in("alice", PASSWORD).await;
    world.issuer.set_down(true);
    alice.change_password(PASSWORD, "other flowers in the sun").await.unwrap();
    assert!(world.issuer.sessions(&alice.name()).contains(&other.session()));
    let world = world.restart(|_| ()).await;
    // Nobody gets a session before the issuer has been told.
    assert_eq!(reason(world.at("192.0.2.1").login("alice", "other flowers in the sun").await), Reason::Unavailable);
    world.issuer.set_down(false);
    eventually("the end of the others", async || world.issuer.sessions(&alice.name()) == [alice.session()]).await;
}

#[tokio::test]
async fn no_session_outlives_the_password_that_opened_it() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let user = flaghoist_runtime::names::UserId::parse(&alice.name()).unwrap();
    let begun = world.accounts.pool().begun();
    // A sign-in is held up after its password was checked, and meanwhile the password changes.
    let held = world.accounts.lanes().enter(user).await.unwrap();
    let late = tokio::spawn({
        let alice = alice.clone();
        async move { alice.login("alice", PASSWORD).await }
    });
    eventually("the check", async || world.accounts.pool().begun() == begun + 1).await;
    let change = tokio::spawn({
        let alice = alice.clone();
        async move { alice.change_password(PASSWORD, "other flowers in the sun").await }
    });
    let store = world.store();
    eventually("the change", async || store.credentials_of(user).await.unwrap().unwrap().version == 2).await;
    drop(held);
    change.await.unwrap().unwrap();
    assert_eq!(reason(late.await.unwrap()), Reason::CredentialsInvalid);
    assert_eq!(world.issuer.sessions(&alice.name()), [alice.session()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sign_ins_beside_a_change_of_the_password_leave_no_session() {
    let world = Arc::new(World::with(|settings| settings.account_free = 10_000).await);
    let alice = world.person("alice").await;
    let (mut old, mut new) = (PASSWORD.to_owned(), "other flowers in the sun 0".to_owned());
    for round in 1..=10 {
        let sign_ins: Vec<_> = (0..8)
            .map(|_| {
                let (alice, old) = (alice.clone(), old.clone());
                tokio::spawn(async move { alice.login("alice", &old).await.is_ok() })
            })
            .collect();
        alice.change_password(&old, &new).await.unwrap();
        for sign_in in sign_ins {
            let _succeeded = sign_in.await.unwrap();
        }
        assert_eq!(world.issuer.sessions(&alice.name()), [alice.session()], "round {round}");
        old = std::mem::replace(&mut new, format!("other flowers in the sun {round}"));
    }
}

#[tokio::test]
async fn hashes_are_renewed_at_sign_in_when_the_cost_rises() {
    let world = World::new().await;
    world.person("alice").await;
    let dear = Cost { memory_kib: 128, passes: 2, lanes: 1 };
    let world = world.restart(|settings| settings.hash_cost = dear).await;
    let (store, handle) = (world.store(), Handle::read("alice").unwrap());
    let stored = async || store.credentials(&handle).await.unwrap().unwrap().password_hash;
    assert_eq!(reason(world.at("192.0.2.1").login("alice", "not the password").await), Reason::CredentialsInvalid);
    assert!(stored().await.contains("m=64,t=1"));
    let alice = world.at("192.0.2.1").signed_in("alice", PASSWORD).await;
    assert!(stored().await.contains("m=128,t=2"));
    alice.login("alice", PASSWORD).await.unwrap();
}
