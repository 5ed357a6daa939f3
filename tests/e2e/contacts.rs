//! How people are reached: an address is theirs once they bring the code that was sent to it, and from then on applications are told.

use flaghoist_proto::login::v1::{ContactKind, RemoveContactRequest, SetContactRequest, VerifyContactRequest};
use flaghoist_tests::letters::{AS_FILES, Letters};
use flaghoist_tests::unique;

use crate::prelude::*;
use crate::sign_in::userinfo;

/// A world in which messages to people are files.
pub(crate) async fn world_with_letters() -> (World, Letters) {
    let world = World::builder().setting(AS_FILES.0, AS_FILES.1).start().await;
    let letters = Letters::of(&world);
    (world, letters)
}

/// An address that nobody has.
pub(crate) fn address(name: &str) -> String {
    format!("{name}-{}@example.com", unique())
}

pub(crate) async fn sets(person: &Person, address: &str) {
    let request = SetContactRequest { kind: ContactKind::Email.into(), value: address.into() };
    person.calls().accounts().set_contact(request).await.expect("a code is sent");
}

pub(crate) async fn verifies(person: &Person, code: &str) -> Result<(), Status> {
    let request = VerifyContactRequest { kind: ContactKind::Email.into(), code: code.into() };
    person.calls().accounts().verify_contact(request).await.map(drop)
}

/// The email addresses of an account, and whether each is verified.
async fn addresses(person: &Person) -> Vec<(String, bool)> {
    let account = person.calls().whoami().await.expect("their own account");
    account.contacts.into_iter().map(|contact| (contact.value, contact.verified)).collect()
}

#[tokio::test]
async fn a_contact_is_set_verified_changed_and_removed_and_applications_are_told() {
    let (world, letters) = world_with_letters().await;
    let (bob, first, second) = (world.person("bob").await, address("bob"), address("robert"));
    sets(&bob, &first).await;
    assert_eq!(addresses(&bob).await, [(first.clone(), false)]);
    let code = letters.code(&first, 1).await;
    let wrong = if code == "00000000" { "00000001" } else { "00000000" };
    refused(verifies(&bob, wrong).await, Code::Unauthenticated, Reason::CredentialsInvalid);
    // Somebody else's code it is not.
    let eve = world.person("eve").await;
    sets(&eve, &address("eve")).await;
    refused(verifies(&eve, &code).await, Code::Unauthenticated, Reason::CredentialsInvalid);
    verifies(&bob, &code).await.expect("the code that was sent");
    refused(verifies(&bob, &code).await, Code::Unauthenticated, Reason::CredentialsInvalid);
    assert_eq!(addresses(&bob).await, [(first.clone(), true)]);

    // An application that may know is told at the sign-in, and of every change after it.
    let application = userinfo(&world, &bob, "openid email").await;
    let told = application.ask().await;
    assert_eq!((&told["email"], &told["email_verified"]), (&first.as_str().into(), &true.into()), "{told}");
    let stranger = userinfo(&world, &bob, "openid profile").await.ask().await;
    assert!(stranger.get("email").is_none(), "{stranger}");
    sets(&bob, &second).await;
    assert_eq!(addresses(&bob).await, [(first.clone(), true), (second.clone(), false)]);
    assert_eq!(application.ask().await["email"], first, "the next one is not told before it is verified");
    verifies(&bob, &letters.code(&second, 1).await).await.expect("the code that was sent");
    letters.with("has another email address now", &first, 1).await;
    eventually("the application is told", async || (application.ask().await["email"] == second).then_some(())).await;

    // What was verified outlives the processes.
    world.restart().await;
    assert_eq!(addresses(&bob).await, [(second.clone(), true)]);
    let remove = RemoveContactRequest { kind: ContactKind::Email.into() };
    bob.calls().accounts().remove_contact(remove).await.expect("removed");
    assert!(addresses(&bob).await.is_empty());
    letters.with("does not use this email address any more", &second, 1).await;
    eventually("the application is told", async || application.ask().await.get("email").is_none().then_some(())).await;
}
