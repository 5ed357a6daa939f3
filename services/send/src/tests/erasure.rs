//! The steps of an erasure as login asks for them.

use flaghoist_proto::send::v1::subject_service_client::SubjectServiceClient;

use super::*;

impl World {
    async fn erasure_step(&self, person: &Person, step_token: &str) -> pb::EraseSubjectResponse {
        let request = pb::EraseSubjectRequest { user: person.id.name(), step_token: step_token.into(), again: false };
        SubjectServiceClient::new(self.internal.clone()).erase_subject(request).await.unwrap().into_inner()
    }
}

#[tokio::test]
async fn a_step_token_that_cannot_be_read_begins_the_walk_anew_and_counts_nothing_twice() {
    let world = World::new().await;
    let (alice, bob) = (world.person(1), world.person(2));
    let direct = alice.meets(&bob).await;
    for number in 0..3 {
        alice.sends("marker", &direct, &format!("m {number}")).await.unwrap();
    }
    let first = world.erasure_step(&alice, "").await;
    assert_eq!((first.message_count, first.conversation_count), (3, 1));
    assert!(!first.next_step_token.is_empty());
    // Somebody writes to her once more by a token that was still good, and what was answered is of another version.
    let notes = alice.meets(&alice).await;
    alice.sends("late marker", &notes, "late").await.unwrap();
    let another_version = format!("{}A", first.next_step_token);
    let (mut token, mut counted) = (another_version, (0, 0));
    for step in 0.. {
        assert!(step < 10, "it never ends");
        let done = world.erasure_step(&alice, &token).await;
        counted = (counted.0 + done.message_count, counted.1 + done.conversation_count);
        token = done.next_step_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(counted, (1, 1), "what was there still");
    let read = pb::ListMessagesRequest { parent: direct, ..Default::default() };
    let seen = bob.messages().list_messages(bob.request(read)).await.unwrap().into_inner().messages;
    assert!(seen.len() == 3 && seen.iter().all(|message| message.text.is_empty()), "{seen:?}");
}
