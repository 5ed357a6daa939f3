//! Conversations: how they begin, who may do what in them, and how they end.

use flaghoist_proto::send::v1::{
    AddMembersRequest, ConversationKind, DeleteConversationRequest, LeaveConversationRequest, ListConversationsRequest,
    ListMembersRequest, MemberRole, RemoveMemberRequest, UpdateConversationRequest, UpdateMemberRequest,
};
use flaghoist_tests::Group;

use crate::prelude::*;

async fn gives_role(by: &Person, group: &Group, to: &Person, role: MemberRole) -> Result<(), Status> {
    let request = UpdateMemberRequest {
        parent: group.name.clone(),
        request_id: request_id(),
        member: to.name.clone(),
        role: role as i32,
    };
    by.calls().conversations().update_member(request).await.map(drop)
}

async fn removes(by: &Person, group: &Group, member: &Person) -> Result<(), Status> {
    let request =
        RemoveMemberRequest { parent: group.name.clone(), request_id: request_id(), member: member.name.clone() };
    by.calls().conversations().remove_member(request).await.map(drop)
}

async fn adds(by: &Person, group: &str, member: &Person) -> Result<(), Status> {
    let request =
        AddMembersRequest { parent: group.into(), request_id: request_id(), members: vec![member.name.clone()] };
    by.calls().conversations().add_members(request).await.map(drop)
}

async fn renames(by: &Person, group: &Group) -> Result<(), Status> {
    let request = UpdateConversationRequest { name: group.name.clone(), request_id: request_id(), title: "new".into() };
    by.calls().conversations().update_conversation(request).await.map(drop)
}

async fn leaves(person: &Person, name: &str) -> Result<(), Status> {
    let request = LeaveConversationRequest { name: name.into(), request_id: request_id() };
    person.calls().conversations().leave_conversation(request).await.map(drop)
}

#[tokio::test]
async fn two_people_who_begin_at_once_meet_in_one_conversation() {
    let world = World::shared().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let (hers, his) = tokio::join!(alice.direct(&bob), bob.direct(&alice));
    assert_eq!(hers, his);
    let seen = alice.sees(&hers).await;
    assert_eq!((seen.kind, seen.member_count), (ConversationKind::Direct as i32, 2));
    assert_eq!((seen.peer, seen.last_seq), (bob.name.clone(), 1));
}

#[tokio::test]
async fn roles_say_who_may_do_what() {
    let world = World::shared().await;
    let (owner, admin, member) = (world.person("own").await, world.person("adm").await, world.person("mem").await);
    let (other, outsider) = (world.person("oth").await, world.person("out").await);
    let group = owner.creates_group("team", &[&admin, &member]).await;
    gives_role(&owner, &group, &admin, MemberRole::Admin).await.expect("an owner gives roles");

    let not_allowed = |answer| refused(answer, Code::PermissionDenied, Reason::PermissionDenied);
    not_allowed(renames(&member, &group).await);
    not_allowed(adds(&member, &group.name, &other).await);
    not_allowed(removes(&member, &group, &admin).await);
    not_allowed(gives_role(&admin, &group, &member, MemberRole::Admin).await);
    not_allowed(removes(&admin, &group, &owner).await);
    renames(&admin, &group).await.expect("an admin renames");
    adds(&admin, &group.name, &other).await.expect("an admin adds");
    removes(&admin, &group, &member).await.expect("an admin removes members");

    refused(renames(&outsider, &group).await, Code::NotFound, Reason::NotFound);
    refused(renames(&member, &group).await, Code::NotFound, Reason::NotFound);
}

#[tokio::test]
async fn a_group_keeps_an_owner() {
    let world = World::shared().await;
    let (owner, member) = (world.person("own").await, world.person("mem").await);
    let group = owner.creates_group("team", &[&member]).await;
    let alone = leaves(&owner, &group.name).await;
    refused(alone, Code::FailedPrecondition, Reason::LastOwner);
    let down = gives_role(&owner, &group, &owner, MemberRole::Member).await;
    refused(down, Code::FailedPrecondition, Reason::LastOwner);
    gives_role(&owner, &group, &member, MemberRole::Owner).await.expect("the role is handed over");
    leaves(&owner, &group.name).await.expect("now there is another owner");
    leaves(&member, &group.name).await.expect("nobody else is left");
}

#[tokio::test]
async fn a_direct_conversation_has_no_membership_changes() {
    let world = World::shared().await;
    let (alice, bob, cem) = (world.person("alice").await, world.person("bob").await, world.person("cem").await);
    let conversation = alice.direct(&bob).await;
    refused(adds(&alice, &conversation, &cem).await, Code::FailedPrecondition, Reason::ConversationKind);
    refused(leaves(&alice, &conversation).await, Code::FailedPrecondition, Reason::ConversationKind);
}

#[tokio::test]
async fn a_hidden_direct_conversation_comes_back_with_the_next_message() {
    let world = World::shared().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let conversation = alice.direct(&bob).await;
    alice.sends("hi").to(&conversation).await;
    let listed = async |person: &Person| {
        let request = ListConversationsRequest::default();
        let page = person.calls().conversations().list_conversations(request).await.expect("listed").into_inner();
        page.conversations.iter().any(|listed| listed.name == conversation)
    };
    let request = DeleteConversationRequest { name: conversation.clone(), request_id: request_id() };
    bob.calls().conversations().delete_conversation(request).await.expect("hidden");
    assert!(!listed(&bob).await && listed(&alice).await);
    alice.sends("again").to(&conversation).await;
    assert!(listed(&bob).await);
    // `seq` went on: nothing was begun again.
    assert!(alice.sees(&conversation).await.last_seq >= 3);
}

#[tokio::test]
async fn a_deleted_group_is_gone_for_everyone_and_their_streams_are_told() {
    let world = World::shared().await;
    let (owner, member) = (world.person("own").await, world.person("mem").await);
    let group = owner.creates_group("team", &[&member]).await;
    let mut phone = member.listens().await;
    phone.until_caught_up().await;
    let request = DeleteConversationRequest { name: group.name.clone(), request_id: request_id() };
    let not_owner = member.calls().conversations().delete_conversation(request.clone()).await;
    refused(not_owner, Code::PermissionDenied, Reason::PermissionDenied);
    owner.calls().conversations().delete_conversation(request).await.expect("deleted");
    let event = phone.next_event().await;
    assert!(matches!(event.change, Some(Change::ConversationDeleted(_))), "{event:?}");
    phone.ack(&event).await;
    for person in [&owner, &member] {
        let sent = person.sends("anyone?").tries(&group).await;
        refused(sent, Code::NotFound, Reason::NotFound);
    }
}

#[tokio::test]
async fn who_was_removed_sees_the_removal_and_nothing_after_it() {
    let world = World::shared().await;
    let (owner, member) = (world.person("own").await, world.person("mem").await);
    let group = owner.creates_group("team", &[&member]).await;
    let mut phone = member.listens().await;
    phone.until_caught_up().await;
    removes(&owner, &group, &member).await.expect("removed");
    owner.sends("a secret").to(&group).await;
    let event = phone.next_event().await;
    assert!(matches!(event.change, Some(Change::MemberRemoved(_))), "{event:?}");
    phone.ack(&event).await;
    phone.hears_no_event_for(Duration::from_millis(500)).await;

    // Coming back, they see what happens from then on.
    adds(&owner, &group.name, &member).await.expect("added again");
    owner.sends("welcome back").to(&group).await;
    let added = phone.next_event().await;
    assert!(matches!(added.change, Some(Change::MembersAdded(_))), "{added:?}");
    assert_eq!((added.seq, added.previous_seq), (4, 2));
    assert_eq!(phone.next_message("welcome back").await.seq, 5);
    let texts: Vec<String> = member.reads_all(&group.name).await.into_iter().map(|m| m.text).collect();
    assert_eq!(texts, ["welcome back"]);
}

#[tokio::test]
async fn who_is_added_while_listening_hears_of_it_at_once() {
    let world = World::shared().await;
    let (owner, member) = (world.person("own").await, world.person("mem").await);
    let mut phone = member.listens().await;
    phone.until_caught_up().await;
    let group = owner.creates_group("team", &[&member]).await;
    owner.sends("hello").to(&group).await;
    assert_eq!(phone.next_message("hello").await.seq, 2);
}

#[tokio::test]
async fn fault_14_a_send_to_a_large_group_is_one_event() {
    let world = World::builder().without_limits().start().await;
    let owner = world.person("own").await;
    let mut members = Vec::new();
    for chunk in 0..6 {
        let people = (0..20).map(|number| world.person(if number % 2 == 0 { "even" } else { "odd" }));
        members.extend(futures_util::future::join_all(people).await);
        assert_eq!(members.len(), (chunk + 1) * 20);
    }
    let everyone: Vec<&Person> = members.iter().collect();
    let group = owner.creates_group("crowd", &everyone).await;
    let before = owner.sees(&group.name).await.last_seq;
    for number in 0..10 {
        owner.sends(format!("{number}")).to(&group).await;
    }
    assert_eq!(owner.sees(&group.name).await.last_seq, before + 10);
    let mut listed = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListMembersRequest { parent: group.name.clone(), page_size: 50, page_token };
        let page = owner.calls().conversations().list_members(request).await.expect("listed").into_inner();
        listed.extend(page.members);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(listed.len(), 121);
}
