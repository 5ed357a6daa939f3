//! What belongs to someone else is not there: the answer is the one for what does not exist.

use flaghoist_proto::auth::v1::RevokeSessionRequest;
use flaghoist_proto::login::v1::GetAccountRequest;
use flaghoist_proto::receiver::v1::{
    AcknowledgeRequest, DeleteDeviceRequest, MarkReadRequest, Position, SetTypingRequest,
};
use flaghoist_proto::send::v1::create_conversation_request::Kind;
use flaghoist_proto::send::v1::{
    CreateConversationRequest, DeleteMessageRequest, DirectConversation, GetConversationRequest, GetMessageRequest,
    GetMessageStatusRequest, ListMembersRequest, ListMessagesRequest, UpdateMessageRequest,
};

use crate::prelude::*;

/// Both answers must be `NOT_FOUND` with the same text, up to the conversation that was asked for.
fn alike(theirs: Result<(), Status>, nobodys: Result<(), Status>, names: [&str; 2]) {
    let theirs = refused(theirs, Code::NotFound, Reason::NotFound);
    let nobodys = refused(nobodys, Code::NotFound, Reason::NotFound);
    let conversation = |name: &str| name.split("/messages/").next().unwrap_or_default().to_owned();
    let said = |status: &Status, name: &str| status.message().replace(&conversation(name), "X");
    assert_eq!(said(&theirs, names[0]), said(&nobodys, names[1]));
}

#[tokio::test]
async fn someone_elses_conversation_and_message_do_not_exist() {
    let world = World::shared().await;
    let (alice, bob, eve) = (world.person("alice").await, world.person("bob").await, world.person("eve").await);
    let theirs = alice.direct(&bob).await;
    let message = alice.sends("private").to(&theirs).await.message.expect("sent").name;
    let epoch = alice.sees(&theirs).await.epoch;
    let nobodys = format!("conversations/{}", uuid::Uuid::now_v7());
    let no_message = format!("{nobodys}/messages/2");

    let mut conversations = eve.calls().conversations();
    let mut messages = eve.calls().messages();
    let mut receiver = eve.calls().receiver();
    macro_rules! both {
        ($client:ident.$method:ident, $theirs:expr, $nobodys:expr, |$name:ident| $request:expr) => {{
            let mut answers = Vec::new();
            for $name in [$theirs.clone(), $nobodys.clone()] {
                answers.push($client.$method($request).await.map(drop));
            }
            let nobody = answers.pop().expect("two");
            alike(answers.pop().expect("two"), nobody, [&$theirs, &$nobodys]);
        }};
    }
    both!(conversations.get_conversation, theirs, nobodys, |name| GetConversationRequest { name });
    both!(conversations.list_members, theirs, nobodys, |parent| ListMembersRequest { parent, ..Default::default() });
    both!(messages.list_messages, theirs, nobodys, |parent| ListMessagesRequest { parent, ..Default::default() });
    both!(messages.get_message, message, no_message, |name| GetMessageRequest { name });
    both!(messages.get_message_status, message, no_message, |name| GetMessageStatusRequest { name });
    both!(messages.update_message, message, no_message, |name| UpdateMessageRequest {
        name,
        request_id: request_id(),
        text: "mine".into(),
        metadata: Default::default()
    });
    both!(messages.delete_message, message, no_message, |name| DeleteMessageRequest { name, request_id: request_id() });
    both!(receiver.mark_read, theirs, nobodys, |conversation| MarkReadRequest {
        position: Some(Position { conversation, epoch, seq: 1 })
    });
    both!(receiver.set_typing, theirs, nobodys, |conversation| SetTypingRequest { conversation });
    for conversation in [theirs.clone(), nobodys.clone()] {
        refused(eve.sends("hi").tries(&conversation).await, Code::NotFound, Reason::NotFound);
    }
    assert_eq!(alice.reads_all(&theirs).await.len(), 1);
}

#[tokio::test]
async fn someone_elses_message_in_ones_own_conversation_can_be_read_and_not_changed() {
    let world = World::shared().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let name = alice.sends("hers").to(&bob).await.message.expect("sent").name;
    let mut messages = bob.calls().messages();
    messages.get_message(GetMessageRequest { name: name.clone() }).await.expect("he may read it");
    let edit = UpdateMessageRequest {
        name: name.clone(),
        request_id: request_id(),
        text: "his".into(),
        metadata: Default::default(),
    };
    refused(messages.update_message(edit).await, Code::PermissionDenied, Reason::PermissionDenied);
    let deletion = DeleteMessageRequest { name, request_id: request_id() };
    refused(messages.delete_message(deletion).await, Code::PermissionDenied, Reason::PermissionDenied);
}

#[tokio::test]
async fn case_94_someone_elses_session_does_not_exist() {
    let world = World::shared().await;
    let (alice, eve) = (world.person("alice").await, world.person("eve").await);
    let nobodys = format!("{}/sessions/{}", eve.name, uuid::Uuid::now_v7());
    let id = alice.session.name.rsplit('/').next().expect("a session's name has an id").to_owned();
    let disguised = format!("{}/sessions/{id}", eve.name);
    for name in [alice.session.name.clone(), nobodys, disguised] {
        let answer = eve.calls().sessions().revoke_session(RevokeSessionRequest { name }).await;
        refused(answer, Code::NotFound, Reason::NotFound);
    }
    alice.calls().accounts().get_account(GetAccountRequest::default()).await.expect("her session goes on");
}

#[tokio::test]
async fn someone_elses_device_does_not_exist() {
    let world = World::shared().await;
    let (alice, eve) = (world.person("alice").await, world.person("eve").await);
    let mut phone = alice.listens().await;
    phone.until_caught_up().await;
    let theirs = format!("{}/devices/phone", alice.name);
    let mut receiver = eve.calls().receiver();
    let deletion = receiver.delete_device(DeleteDeviceRequest { name: theirs.clone() }).await;
    refused(deletion, Code::NotFound, Reason::NotFound);
    let request = AcknowledgeRequest { device: theirs.clone(), positions: Vec::new() };
    refused(receiver.acknowledge(request).await, Code::NotFound, Reason::NotFound);
    let nobodys = receiver.delete_device(DeleteDeviceRequest { name: "users/me/devices/none".into() }).await;
    refused(nobodys, Code::NotFound, Reason::NotFound);
    phone.hears_no_event_for(Duration::from_millis(200)).await;
}

#[tokio::test]
async fn a_conversation_with_nobody_cannot_be_begun() {
    let world = World::shared().await;
    let alice = world.person("alice").await;
    let nobody = format!("users/{}", uuid::Uuid::now_v7());
    let kind = Kind::Direct(DirectConversation { user: nobody });
    let request = CreateConversationRequest { request_id: request_id(), kind: Some(kind) };
    let answer = alice.calls().conversations().create_conversation(request).await;
    refused(answer, Code::NotFound, Reason::NotFound);
}
