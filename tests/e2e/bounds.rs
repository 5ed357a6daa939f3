//! Every field has a bound, and what breaks one is answered with every broken field at once.

use flaghoist_proto::auth::v1::{ClientCredentials, IssueTokenRequest, ListSessionsRequest};
use flaghoist_proto::login::v1::{CreateAccountRequest, LoginRequest, LookupAccountRequest, UpdateAccountRequest};
use flaghoist_proto::receiver::v1::receive_request::Request as Said;
use flaghoist_proto::receiver::v1::{Ack, AcknowledgeRequest, MarkReadRequest, Open, Position, SubscribeRequest};
use flaghoist_proto::send::v1::create_conversation_request::Kind;
use flaghoist_proto::send::v1::{
    AddMembersRequest, CreateConversationRequest, CreateMessageRequest, GetMessageRequest, GroupConversation,
    ListMessagesRequest, UpdateMemberRequest,
};
use flaghoist_tests::violations;

use crate::prelude::*;

/// The call must be refused with exactly these fields.
#[track_caller]
fn names_fields<T>(answer: Result<T, Status>, fields: &[&str]) {
    let status = refused(answer, Code::InvalidArgument, Reason::FieldViolation);
    assert_eq!(violations(&status), fields, "{status:?}");
}

fn long(length: usize) -> String {
    "x".repeat(length)
}

#[tokio::test]
async fn every_violation_of_a_send_is_named_at_once() {
    let world = World::shared().await;
    let alice = world.person("alice").await;
    let mut metadata = std::collections::BTreeMap::new();
    metadata.insert("k".into(), long(4_097));
    let request = CreateMessageRequest { parent: String::new(), request_id: long(65), text: long(16_385), metadata };
    let answer = alice.calls().messages().create_message(request).await;
    names_fields(answer, &["metadata[\"k\"]", "parent", "request_id", "text"]);
}

#[tokio::test]
async fn the_bounds_themselves_are_within() {
    let world = World::shared().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let text = long(16_384);
    let sent = alice.sends(&text).request_id(long(64)).metadata(&long(128), &long(3_900)).to(&bob).await;
    assert_eq!(sent.message.expect("sent").text, text);
    // Bytes count, not characters.
    let four_bytes_each = "🦆".repeat(4_096);
    alice.sends(&four_bytes_each).to(&bob).await;
    let answer = alice.sends(format!("{four_bytes_each}x")).tries(&bob).await;
    names_fields(answer, &["text"]);
}

#[tokio::test]
async fn a_message_needs_a_text_or_metadata_and_metadata_is_bounded_in_all() {
    let world = World::shared().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let nothing = alice.sends("").tries(&bob).await;
    assert_eq!(nothing.expect_err("there is nothing in it").code(), Code::InvalidArgument);
    alice.sends("").metadata("sticker", "duck").to(&bob).await;
    let too_much = alice.sends("x").metadata("a", &long(3_000)).metadata("b", &long(3_000)).tries(&bob).await;
    let status = refused(too_much, Code::InvalidArgument, Reason::FieldViolation);
    assert!(violations(&status).iter().any(|field| field.starts_with("metadata")), "{status:?}");
}

#[tokio::test]
async fn at_most_twenty_violations_are_named() {
    let world = World::shared().await;
    let alice = world.person("alice").await;
    let group = GroupConversation { title: String::new(), members: vec![String::new(); 50] };
    let request = CreateConversationRequest { request_id: String::new(), kind: Some(Kind::Group(group)) };
    let answer = alice.calls().conversations().create_conversation(request).await;
    let status = refused(answer, Code::InvalidArgument, Reason::FieldViolation);
    assert_eq!(violations(&status).len(), 20);
}

#[tokio::test]
async fn the_bounds_of_send_hold() {
    let world = World::shared().await;
    let alice = world.person("alice").await;
    let mut conversations = alice.calls().conversations();
    let none = CreateConversationRequest { request_id: "r".into(), kind: None };
    names_fields(conversations.create_conversation(none).await, &["kind"]);
    let group = GroupConversation { title: long(129), members: vec![long(65)] };
    let request = CreateConversationRequest { request_id: "r".into(), kind: Some(Kind::Group(group)) };
    names_fields(conversations.create_conversation(request).await, &["group.members[0]", "group.title"]);
    let request = AddMembersRequest { parent: long(65), request_id: String::new(), members: Vec::new() };
    names_fields(conversations.add_members(request).await, &["members", "parent", "request_id"]);
    let crowd = vec!["x".to_owned(); 1_001];
    let request = AddMembersRequest { parent: "x".into(), request_id: "r".into(), members: crowd };
    names_fields(conversations.add_members(request).await, &["members"]);
    let request = UpdateMemberRequest { parent: "x".into(), request_id: "r".into(), member: "x".into(), role: 0 };
    names_fields(conversations.update_member(request).await, &["role"]);
    let request = UpdateMemberRequest { parent: "x".into(), request_id: "r".into(), member: "x".into(), role: 9 };
    names_fields(conversations.update_member(request).await, &["role"]);
    let request =
        ListMessagesRequest { parent: "x".into(), page_size: -1, page_token: long(1_025), oldest_first: false };
    let answer = alice.calls().messages().list_messages(request).await;
    names_fields(answer, &["page_size", "page_token"]);
}

#[tokio::test]
async fn names_that_are_no_names_are_violations_too() {
    let world = World::shared().await;
    let alice = world.person("alice").await;
    let id = uuid::Uuid::now_v7();
    for name in [
        "x".to_owned(),
        "conversations/1/messages/1".into(),
        format!("conversations/{id}/messages/0"),
        format!("conversations/{id}/messages/01"),
        format!("conversations/{id}/messages/-1"),
        format!("conversations/{id}/messages/9223372036854775808"),
        format!("conversations/{}/messages/1", id.to_string().to_uppercase()),
        format!("conversations/{id}/messages/1/"),
        format!(" conversations/{id}/messages/1"),
    ] {
        let answer = alice.calls().messages().get_message(GetMessageRequest { name: name.clone() }).await;
        let status = answer.expect_err(&name);
        assert_eq!((status.code(), violations(&status)), (Code::InvalidArgument, vec!["name".to_owned()]), "{name}");
    }
}

#[tokio::test]
async fn the_bounds_of_login_and_auth_hold() {
    let world = World::shared().await;
    let anonymous = world.anonymous();
    let request = CreateAccountRequest {
        handle: long(65),
        display_name: long(65),
        password: "short".into(),
        invitation: long(65),
    };
    let answer = anonymous.accounts().create_account(request).await;
    names_fields(answer, &["display_name", "handle", "invitation", "password"]);
    let request =
        LoginRequest { handle: String::new(), password: String::new(), client_id: long(129), label: long(65) };
    let answer = anonymous.login().login(request).await;
    names_fields(answer, &["client_id", "handle", "label", "password"]);
    let client = ClientCredentials { client_secret: long(257), ..ClientCredentials::default() };
    let request = IssueTokenRequest { client: Some(client), grant: None, scope: long(1_025) };
    let answer = anonymous.tokens().issue_token(request).await;
    names_fields(answer, &["client.client_id", "client.client_secret", "grant", "scope"]);

    let alice = world.person("alice").await;
    let answer = alice.calls().accounts().lookup_account(LookupAccountRequest { handle: String::new() }).await;
    names_fields(answer, &["handle"]);
    let answer = alice
        .calls()
        .accounts()
        .update_account(UpdateAccountRequest { display_name: Some(String::new()), ..Default::default() })
        .await;
    names_fields(answer, &["display_name"]);
    let request = ListSessionsRequest { page_size: -1, page_token: String::new() };
    names_fields(alice.calls().sessions().list_sessions(request).await, &["page_size"]);
}

#[tokio::test]
async fn the_bounds_of_the_receiver_hold() {
    let world = World::shared().await;
    let alice = world.person("alice").await;
    let mut receiver = alice.calls().receiver();
    names_fields(receiver.mark_read(MarkReadRequest { position: None }).await, &["position"]);
    let position = Position { conversation: String::new(), epoch: 0, seq: 1 };
    let request = AcknowledgeRequest { device: String::new(), positions: vec![position; 2] };
    let expected = ["device", "positions[0].conversation", "positions[1].conversation"];
    names_fields(receiver.acknowledge(request).await, &expected);
    let open = Open { device: long(129), from: 9, window: -1 };
    let answer = receiver.subscribe(SubscribeRequest { open: Some(open) }).await;
    names_fields(answer, &["open.device", "open.from", "open.window"]);

    // Within a stream a violation ends it.
    let mut phone = alice.listens().await;
    phone.until_caught_up().await;
    phone.says(Said::Ack(Ack { positions: Vec::new() })).await;
    assert_eq!(phone.end().await.code(), Code::InvalidArgument);
    let mut phone = alice.listens().await;
    phone.until_caught_up().await;
    phone.says(Said::Open(Open { device: "users/me/devices/phone".into(), from: 0, window: 0 })).await;
    assert_eq!(phone.end().await.code(), Code::InvalidArgument, "a stream is opened once");
}

#[tokio::test]
async fn a_message_larger_than_the_server_takes_is_refused() {
    let world = World::shared().await;
    let alice = world.person("alice").await;
    let request = CreateMessageRequest { text: long(5 * 1024 * 1024), ..Default::default() };
    let status = alice.calls().messages().create_message(request).await.expect_err("it is far too large");
    assert!(matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted), "{status:?}");
    alice.calls().whoami().await.expect("the connection lives on");
}
