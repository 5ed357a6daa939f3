//! Promise 2: one `request_id`, one effect, whatever happens in between.

use flaghoist_proto::send::v1::create_conversation_request::Kind;
use flaghoist_proto::send::v1::{
    AddMembersRequest, CreateConversationRequest, CreateMessageRequest, CreateMessageResponse, DeleteMessageRequest,
    Event, GroupConversation, LeaveConversationRequest, MemberRole, RemoveMemberRequest, UpdateConversationRequest,
    UpdateMemberRequest, UpdateMessageRequest,
};
use futures_util::future::join_all;

use crate::prelude::*;

/// The same call 32 times at once, over connections of their own.
async fn thirty_two_times(alice: &Person, conversation: &str, id: &str, text: &str) -> Vec<CreateMessageResponse> {
    let calls = (0..32).map(|_| {
        let calls = alice.world().with_token(alice.token());
        let request = CreateMessageRequest {
            parent: conversation.into(),
            request_id: id.into(),
            text: text.into(),
            metadata: Default::default(),
        };
        async move { calls.messages().create_message(request).await.map(tonic::Response::into_inner) }
    });
    join_all(calls).await.into_iter().map(|answer| answer.expect("each of the calls is answered")).collect()
}

#[tokio::test]
async fn promise_02_one_request_id_one_effect_from_32_parallel_calls_before_and_after_a_restart() {
    let world = World::builder().without_limits().start().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let conversation = alice.direct(&bob).await;
    let id = request_id();

    let before = thirty_two_times(&alice, &conversation, &id, "only once").await;
    let first = before.iter().find(|answer| !answer.deduplicated).expect("one of them sent it");
    assert_eq!(before.iter().filter(|answer| !answer.deduplicated).count(), 1);
    assert!(before.iter().all(|answer| answer.message == first.message));

    for kill in [false, true] {
        if kill {
            world.kill().await;
            world.start_again().await;
        } else {
            world.restart().await;
        }
        let after = thirty_two_times(&alice, &conversation, &id, "only once").await;
        assert!(after.iter().all(|answer| answer.deduplicated && answer.message == first.message));
    }
    assert_eq!(alice.reads_all(&conversation).await.len(), 1);
}

#[tokio::test]
async fn fault_01_a_lost_answer_and_a_second_attempt_are_one_message() {
    let world = World::start().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let conversation = alice.direct(&bob).await;
    let mut ids = Vec::new();
    for number in 0..20 {
        let id = request_id();
        // The client goes away at any moment of the call.
        let send = alice.sends(format!("hello {number}")).request_id(&id).tries(&conversation);
        let _: Result<_, _> = tokio::time::timeout(Duration::from_micros(number * 150), send).await;
        ids.push(id);
    }
    world.restart().await;
    for (number, id) in ids.iter().enumerate() {
        alice.sends(format!("hello {number}")).request_id(id).to(&conversation).await;
    }
    let mut texts: Vec<String> = alice.reads_all(&conversation).await.into_iter().map(|m| m.text).collect();
    texts.sort();
    let mut expected: Vec<String> = (0..20).map(|number| format!("hello {number}")).collect();
    expected.sort();
    assert_eq!(texts, expected);
}

#[tokio::test]
async fn promise_02_the_same_id_with_other_content_is_refused() {
    let world = World::shared().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let conversation = alice.direct(&bob).await;
    let first = alice.sends("this").metadata("color", "red").request_id("r").to(&conversation).await;

    let other_text = alice.sends("that").metadata("color", "red").request_id("r").tries(&conversation).await;
    refused(other_text, Code::FailedPrecondition, Reason::RequestIdReused);
    let other_metadata = alice.sends("this").metadata("color", "blue").request_id("r").tries(&conversation).await;
    refused(other_metadata, Code::FailedPrecondition, Reason::RequestIdReused);
    let name = first.message.as_ref().expect("the answer has the message").name.clone();
    let request = DeleteMessageRequest { name, request_id: "r".into() };
    let other_method = alice.calls().messages().delete_message(request).await;
    refused(other_method, Code::FailedPrecondition, Reason::RequestIdReused);

    let same = alice.sends("this").metadata("color", "red").request_id("r").to(&conversation).await;
    assert!(same.deduplicated);
    assert_eq!(same.message, first.message);
}

#[tokio::test]
async fn promise_02_after_a_deletion_the_repeated_send_gets_the_tombstone() {
    let world = World::shared().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let conversation = alice.direct(&bob).await;
    let sent = alice.sends("regretted").request_id("once").to(&conversation).await.message.expect("sent");
    let request = DeleteMessageRequest { name: sent.name.clone(), request_id: request_id() };
    alice.calls().messages().delete_message(request).await.expect("one's own message can be deleted");

    let again = alice.sends("regretted").request_id("once").to(&conversation).await;
    assert!(again.deduplicated);
    let tombstone = again.message.expect("the answer has the message");
    assert_eq!((tombstone.name, tombstone.text.as_str()), (sent.name, ""));
    assert!(tombstone.delete_time.is_some());
    assert_eq!(alice.reads_all(&conversation).await.len(), 1);
}

#[tokio::test]
async fn fault_04_a_request_id_counts_for_its_sender_and_conversation_and_nothing_else() {
    let world = World::shared().await;
    let (alice, bob, cem) = (world.person("alice").await, world.person("bob").await, world.person("cem").await);
    let group = alice.creates_group("team", &[&bob, &cem]).await;
    let direct = alice.direct(&bob).await;
    for (sender, to) in [(&alice, &group.name), (&bob, &group.name), (&alice, &direct), (&bob, &direct)] {
        let sent = sender.sends(format!("from {}", sender.handle)).request_id("same").to(to).await;
        assert!(!sent.deduplicated);
    }
    assert_eq!(alice.reads_all(&group.name).await.len(), 2);
    assert_eq!(alice.reads_all(&direct).await.len(), 2);
}

#[tokio::test]
async fn fault_05_a_request_id_is_remembered_past_thousands_of_others_and_a_restart() {
    let world = World::builder().without_limits().start().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let conversation = alice.direct(&bob).await;
    let first = alice.sends("first").request_id("first").to(&conversation).await;
    for chunk in 0..30 {
        join_all((0..50).map(|number| alice.sends(format!("{chunk} {number}")).to(&conversation))).await;
    }
    world.restart().await;
    let again = alice.sends("first").request_id("first").to(&conversation).await;
    assert!(again.deduplicated);
    assert_eq!(again.message, first.message);
    assert_eq!(alice.reads_all(&conversation).await.len(), 1_501);
}

#[tokio::test]
async fn fault_06_a_call_that_is_repeated_while_the_first_runs_gets_its_outcome() {
    let world = World::builder().without_limits().start().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let conversation = alice.direct(&bob).await;
    for round in 0..10 {
        let id = request_id();
        let text = format!("round {round}");
        let answers = thirty_two_times(&alice, &conversation, &id, &text).await;
        assert!(answers.windows(2).all(|pair| pair[0].message == pair[1].message));
    }
    assert_eq!(alice.reads_all(&conversation).await.len(), 10);
}

/// Calls a writing method twice and compares the answers.
macro_rules! twice {
    ($person:expr, $service:ident.$method:ident($request:expr)) => {{
        let request = $request;
        let mut client = $person.calls().$service();
        let first = client.$method(request.clone()).await.expect(stringify!($method)).into_inner();
        let second = client.$method(request).await.expect(concat!(stringify!($method), " again")).into_inner();
        assert!(!first.deduplicated, "{} is new", stringify!($method));
        assert!(second.deduplicated, "{} is known", stringify!($method));
        let event: Event = first.event.expect("the answer has the event");
        assert_eq!(Some(&event.seq), second.event.as_ref().map(|event| &event.seq), stringify!($method));
        event
    }};
}

#[tokio::test]
async fn promise_02_holds_for_every_method_that_writes() {
    let world = World::shared().await;
    let (alice, bob, cem) = (world.person("alice").await, world.person("bob").await, world.person("cem").await);

    let group = GroupConversation { title: "team".into(), members: vec![bob.name.clone()] };
    let request = CreateConversationRequest { request_id: "create".into(), kind: Some(Kind::Group(group)) };
    let mut conversations = alice.calls().conversations();
    let first = conversations.create_conversation(request.clone()).await.expect("created").into_inner();
    let second = conversations.create_conversation(request).await.expect("created").into_inner();
    assert!(!first.deduplicated && second.deduplicated);
    let name = first.conversation.expect("the answer has it").name;
    assert_eq!(name, second.conversation.expect("the answer has it").name);

    let id = || request_id();
    let members = vec![cem.name.clone()];
    let added =
        twice!(alice, conversations.add_members(AddMembersRequest { parent: name.clone(), request_id: id(), members }));
    let titled = twice!(
        alice,
        conversations.update_conversation(UpdateConversationRequest {
            name: name.clone(),
            request_id: id(),
            title: "crew".into()
        })
    );
    let promoted = twice!(
        alice,
        conversations.update_member(UpdateMemberRequest {
            parent: name.clone(),
            request_id: id(),
            member: bob.name.clone(),
            role: MemberRole::Admin as i32
        })
    );
    let removed = twice!(
        bob,
        conversations.remove_member(RemoveMemberRequest {
            parent: name.clone(),
            request_id: id(),
            member: cem.name.clone()
        })
    );
    let sent = bob.sends("hi").to(&name).await.message.expect("sent");
    let edited = twice!(
        bob,
        messages.update_message(UpdateMessageRequest {
            name: sent.name.clone(),
            request_id: id(),
            text: "hello".into(),
            metadata: Default::default()
        })
    );
    let deleted =
        twice!(bob, messages.delete_message(DeleteMessageRequest { name: sent.name.clone(), request_id: id() }));
    let left = twice!(
        bob,
        conversations.leave_conversation(LeaveConversationRequest { name: name.clone(), request_id: id() })
    );

    let seqs = [added, titled, promoted, removed, edited, deleted, left].map(|event| event.seq);
    // 1 began the group, 6 is the message.
    assert_eq!(seqs, [2, 3, 4, 5, 7, 8, 9]);
}
