//! From the domain to the contract, and back where the contract is what the log keeps.

use std::collections::BTreeMap;

use bytes::Bytes;
use flaghoist_proto::send::v1 as pb;
use flaghoist_runtime::names::{ConversationId, UserId, message_name};
use flaghoist_runtime::time::{from_millis, timestamp};
use prost::Message as _;
use prost_types::Timestamp;

use crate::conversation::{Head, Kind, Member, Role, View};
use crate::event::{Event, EventKind, Message, Watermark};

/// Milliseconds as the contract writes them.
pub(crate) fn time(millis: i64) -> Timestamp {
    timestamp(from_millis(millis))
}

pub(crate) fn kind(kind: Kind) -> pb::ConversationKind {
    match kind {
        Kind::Direct => pb::ConversationKind::Direct,
        Kind::Group => pb::ConversationKind::Group,
    }
}

pub(crate) fn role(role: Role) -> pb::MemberRole {
    match role {
        Role::Member => pb::MemberRole::Member,
        Role::Admin => pb::MemberRole::Admin,
        Role::Owner => pb::MemberRole::Owner,
    }
}

pub(crate) fn conversation(view: &View, epoch: u64) -> pb::Conversation {
    let View { head, member, peer } = view;
    pb::Conversation {
        name: head.id.name(),
        kind: kind(head.kind).into(),
        title: head.title.to_string(),
        last_seq: member.last_seq(head),
        member_count: head.member_count.cast_signed(),
        role: member.role.map_or(pb::MemberRole::Unspecified, role).into(),
        peer: peer.map(|peer| peer.name()).unwrap_or_default(),
        create_time: Some(time(head.created_at)),
        unread_count: member.unread(head),
        read_seq: member.read_seq,
        epoch,
    }
}

pub(crate) fn member(person: UserId, member: &Member) -> pb::Member {
    pb::Member {
        user: person.name(),
        role: member.role.map_or(pb::MemberRole::Unspecified, role).into(),
        join_time: Some(time(member.joined_at)),
    }
}

pub(crate) fn receipt(watermark: &Watermark) -> pb::Receipt {
    pb::Receipt {
        conversation: watermark.conversation.name(),
        member: watermark.member.name(),
        epoch: watermark.epoch,
        delivered_seq: watermark.delivered_seq,
        read_seq: watermark.read_seq,
    }
}

pub(crate) fn head(head: &Head, person: UserId, member: &Member, receipts: &[Watermark], epoch: u64) -> pb::Head {
    pb::Head {
        conversation: head.id.name(),
        last_seq: member.last_seq(head),
        member: member.role.is_some(),
        unread_count: member.unread(head),
        own: Some(receipt(&crate::plan::watermark(head.id, person, member, epoch))),
        receipts: receipts.iter().map(receipt).collect(),
        first_seq: member.first_seq(),
        member_count: head.member_count.cast_signed(),
    }
}

/// The content of a message as the log keeps it.
pub(crate) fn body(text: &str, metadata: &BTreeMap<String, String>) -> Bytes {
    let message = pb::Message { text: text.to_owned(), metadata: metadata.clone(), ..pb::Message::default() };
    message.encode_to_vec().into()
}

/// A message as it was sent, or its tombstone. `viewer` learns the request id if it is the sender's.
pub(crate) fn message_sent(event: &Event, viewer: Option<UserId>) -> pb::Message {
    let content = if event.deleted_at.is_some() { pb::Message::default() } else { decoded(&event.body) };
    pb::Message {
        name: message_name(event.conversation, event.seq),
        sender: event.actor.name(),
        message_no: event.message_no,
        create_time: Some(time(event.created_at)),
        delete_time: event.deleted_at.map(time),
        request_id: if viewer == Some(event.actor) { event.request_id.to_string() } else { String::new() },
        ..content
    }
}

/// A message as it is now.
pub(crate) fn message_now(message: &Message, viewer: UserId) -> pb::Message {
    let mut now = message_sent(&message.event, Some(viewer));
    if let Some((body, at)) = message.edit.as_ref().filter(|_| message.event.deleted_at.is_none()) {
        let edited: pb::Message = decoded(body);
        now.text = edited.text;
        now.metadata = edited.metadata;
        now.update_time = Some(time(*at));
    }
    now
}

/// An event for a viewer, or for everyone it concerns.
pub(crate) fn event(event: &Event, previous_seq: u64, epoch: u64, viewer: Option<UserId>) -> pb::Event {
    pb::Event {
        conversation: event.conversation.name(),
        epoch,
        seq: event.seq,
        previous_seq,
        create_time: Some(time(event.created_at)),
        actor: event.actor.name(),
        change: Some(change(event, viewer)),
    }
}

fn change(event: &Event, viewer: Option<UserId>) -> pb::event::Change {
    use pb::event::Change;
    match event.kind {
        EventKind::MessageCreated => Change::MessageCreated(message_sent(event, viewer)),
        EventKind::MessageUpdated => {
            let mut message = target(event);
            match event.deleted_at {
                None => message.update_time = Some(time(event.created_at)),
                Some(at) => message.delete_time = Some(time(at)),
            }
            Change::MessageUpdated(message)
        }
        EventKind::MessageDeleted => {
            let mut message = target(event);
            message.delete_time = Some(time(event.created_at));
            Change::MessageDeleted(message)
        }
        EventKind::ConversationCreated => Change::ConversationCreated(decoded(&event.body)),
        EventKind::ConversationUpdated => Change::ConversationUpdated(decoded(&event.body)),
        EventKind::ConversationDeleted => Change::ConversationDeleted(pb::ConversationDeleted {}),
        EventKind::ConversationHidden => Change::ConversationHidden(pb::ConversationHidden {}),
        EventKind::MembersAdded => Change::MembersAdded(decoded(&event.body)),
        EventKind::MemberRemoved => Change::MemberRemoved(decoded(&event.body)),
        EventKind::MemberUpdated => Change::MemberUpdated(decoded(&event.body)),
    }
}

/// The message that an edit or a deletion is about.
fn target(event: &Event) -> pb::Message {
    pb::Message { name: message_name(event.conversation, event.target_seq), ..decoded(&event.body) }
}

/// Bytes that this service wrote itself.
fn decoded<M: prost::Message + Default>(body: &Bytes) -> M {
    M::decode(&body[..]).unwrap_or_else(|error| {
        flaghoist_runtime::fault::log_chain("reading the content of an event", &error);
        M::default()
    })
}

/// The conversation of a watermark, for callers that have only the name.
pub(crate) fn watermark(receipt: &pb::Receipt) -> Option<Watermark> {
    Some(Watermark {
        conversation: ConversationId::parse(&receipt.conversation).ok()?,
        member: UserId::parse(&receipt.member).ok()?,
        epoch: receipt.epoch,
        delivered_seq: receipt.delivered_seq,
        read_seq: receipt.read_seq,
    })
}
