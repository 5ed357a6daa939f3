//! What `listen` prints for each thing that arrives.

use flaghoist_proto::receiver::v1::receive_response::Response;
use flaghoist_proto::send::v1::event::Change;
use flaghoist_proto::send::v1::{Event, Message};
use serde_json::{Value, json};

use super::super::history::{object, shown};
use super::super::output::{harmless, time, time_value};
use super::Listener;
use crate::exit::Failure;

impl Listener<'_> {
    /// Prints one thing. Receipts, typing and signs of life are not for people.
    pub(super) async fn print(&mut self, response: Response) -> Result<(), Failure> {
        match response {
            Response::Event(event) => self.print_event(&event).await,
            Response::Reset(reset) => {
                let reason = reset.reason().as_str_name().trim_start_matches("RESET_REASON_").to_lowercase();
                self.output
                    .show(&json!({"type": "reset", "reason": reason, "conversation": reset.conversation}), || {
                        "-- the server's store was restored or replaced; starting from what exists --".into()
                    })
            }
            Response::Receipt(receipt) if self.output.json() => self.object(&json!({
                "type": "receipt",
                "conversation": receipt.conversation,
                "member": receipt.member,
                "epoch": receipt.epoch,
                "delivered_seq": receipt.delivered_seq,
                "read_seq": receipt.read_seq,
            })),
            Response::Typing(typing) if self.output.json() => self.object(&json!({
                "type": "typing", "conversation": typing.conversation, "member": typing.member,
            })),
            _ => Ok(()),
        }
    }

    fn object(&self, object: &Value) -> Result<(), Failure> {
        self.output.show(object, String::new)
    }

    async fn print_event(&mut self, event: &Event) -> Result<(), Failure> {
        if self.output.json() {
            let handle = self.names.handle(&event.actor).await;
            return self.object(&event_object(event, handle.as_deref()));
        }
        if let Some(Change::ConversationUpdated(_)) = &event.change {
            self.names.renamed(&event.conversation);
        }
        let line = self.line(event).await;
        self.output.show(&Value::Null, || line)
    }

    /// An event for people.
    async fn line(&mut self, event: &Event) -> String {
        let actor = self.names.person(&event.actor).await;
        let label = self.names.conversation(&event.conversation).await;
        let what = match &event.change {
            Some(Change::MessageCreated(message)) => format!(": {}", shown(message)),
            Some(Change::MessageUpdated(message)) => format!(" edited message {}: {}", number(message), shown(message)),
            Some(Change::MessageDeleted(message)) => format!(" deleted message {}", number(message)),
            Some(Change::ConversationCreated(created)) => {
                let members = self.names.people(&created.members).await;
                format!(" began the conversation with {members}")
            }
            Some(Change::ConversationUpdated(updated)) => format!(" changed the title to {}", harmless(&updated.title)),
            Some(Change::ConversationDeleted(_)) => " deleted the conversation".into(),
            Some(Change::ConversationHidden(_)) => " hid the conversation".into(),
            Some(Change::MembersAdded(added)) => format!(" added {}", self.names.people(&added.members).await),
            Some(Change::MemberRemoved(removed)) if removed.member == event.actor => " left".into(),
            Some(Change::MemberRemoved(removed)) => format!(" removed {}", self.names.person(&removed.member).await),
            Some(Change::MemberUpdated(updated)) => {
                let role = updated.role().as_str_name().trim_start_matches("MEMBER_ROLE_").to_lowercase();
                format!(" made {} {role}", self.names.person(&updated.member).await)
            }
            None => " did something that this program is too old to understand".into(),
        };
        format!("{}  [{label}] {actor}{what}", time(event.create_time.as_ref()))
    }
}

/// The message's number within its conversation.
fn number(message: &Message) -> u64 {
    message.message_no
}

/// An event for scripts.
fn event_object(event: &Event, handle: Option<&str>) -> Value {
    let mut value = match &event.change {
        Some(Change::MessageCreated(message)) => typed("message", object(message, handle)),
        Some(Change::MessageUpdated(message)) => typed("message_updated", object(message, handle)),
        Some(Change::MessageDeleted(message)) => typed("message_deleted", object(message, handle)),
        Some(Change::ConversationCreated(created)) => {
            typed("conversation_created", json!({"title": created.title, "members": created.members}))
        }
        Some(Change::ConversationUpdated(updated)) => typed("conversation_updated", json!({"title": updated.title})),
        Some(Change::ConversationDeleted(_)) => typed("conversation_deleted", json!({})),
        Some(Change::ConversationHidden(_)) => typed("conversation_hidden", json!({})),
        Some(Change::MembersAdded(added)) => typed("members_added", json!({"members": added.members})),
        Some(Change::MemberRemoved(removed)) => typed("member_removed", json!({"member": removed.member})),
        Some(Change::MemberUpdated(updated)) => {
            let role = updated.role().as_str_name().trim_start_matches("MEMBER_ROLE_").to_lowercase();
            typed("member_updated", json!({"member": updated.member, "role": role}))
        }
        None => typed("unknown", json!({})),
    };
    value["conversation"] = event.conversation.clone().into();
    value["epoch"] = event.epoch.into();
    value["seq"] = event.seq.into();
    value["actor"] = event.actor.clone().into();
    value["handle"] = handle.into();
    value["event_time"] = time_value(event.create_time.as_ref());
    value
}

fn typed(kind: &str, mut object: Value) -> Value {
    object["type"] = kind.into();
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_gets_the_event_with_the_message_in_it() {
        let message = Message { name: "conversations/1/messages/3".into(), text: "hi".into(), ..Message::default() };
        let event = Event {
            conversation: "conversations/1".into(),
            epoch: 7,
            seq: 3,
            actor: "users/1".into(),
            change: Some(Change::MessageCreated(message)),
            ..Event::default()
        };
        let object = event_object(&event, Some("bob"));
        assert_eq!(object["type"], "message");
        assert_eq!(object["text"], "hi");
        assert_eq!(object["handle"], "bob");
        assert_eq!(object["seq"], 3);
        assert_eq!(object["conversation"], "conversations/1");
    }
}
