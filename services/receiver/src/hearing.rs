//! What this pod does about the words of others. A word is a hint: an event that follows what a stream has sent goes out directly,
//! everything else only says where to look.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use flaghoist_runtime::Caller;
use flaghoist_runtime::names::{ConversationId, DeviceId, UserId};

use crate::bus::{Listener, Subject, Word};
use crate::rpc;
use crate::service::Receiver;
use crate::store::DeviceKey;
use crate::stream::Position;

/// How old the word that somebody is typing may be.
const TYPING_LASTS: Duration = Duration::from_secs(10);

/// The handle by which the bus reaches a receiver.
pub(crate) struct Hearing(pub(crate) Arc<Receiver>);

impl Listener for Hearing {
    fn follows(&self, subject: Subject) -> bool {
        match subject {
            Subject::Conversation(conversation) => self.0.hub.interested(conversation),
            Subject::User(user) => self.0.hub.has(user),
        }
    }

    fn followed(&self, subjects: &[Subject]) {
        for subject in subjects {
            if let Subject::Conversation(conversation) = subject {
                self.0.hub.suspect(*conversation);
            }
        }
    }

    fn heard(&self, subject: Subject, word: Word) {
        match subject {
            Subject::Conversation(conversation) => self.of_conversation(conversation, word),
            Subject::User(user) => self.of_user(user, word),
        }
    }
}

impl Hearing {
    fn of_conversation(&self, conversation: ConversationId, word: Word) {
        let hub = &self.0.hub;
        match word {
            Word::Events(deliveries) => {
                let name = conversation.name();
                for delivery in deliveries {
                    if delivery.event.as_ref().is_some_and(|event| event.conversation == name)
                        && let Err(error) = rpc::deliver(hub, delivery)
                    {
                        tracing::debug!(error = %error, "an event on the bus makes no sense");
                    }
                }
            }
            Word::Head(seq) => hub.note_head(conversation, seq),
            Word::Receipts(receipts) => {
                for receipt in receipts.iter().filter(|receipt| receipt.conversation == conversation) {
                    hub.receipt(receipt);
                }
            }
            Word::Typing(member, at) if at.elapsed().unwrap_or_default() < TYPING_LASTS => {
                hub.typing(conversation, member);
            }
            _ => {}
        }
    }

    fn of_user(&self, user: UserId, word: Word) {
        let hub = &self.0.hub;
        match word {
            Word::Added(conversation, seq) => {
                for live in hub.of(user) {
                    if !live.look(|state| state.stream.member(conversation)) {
                        live.change(|state| state.stream.joined(conversation, seq));
                        hub.join(conversation, &live);
                    }
                }
            }
            Word::Device(device) => self.look_at(DeviceKey { user, device }),
            Word::Acknowledged(device, positions, caller) => self.acknowledged(user, device, &positions, caller),
            _ => {}
        }
    }

    /// The row of a device has become another one: a stream here may have been replaced.
    fn look_at(&self, key: DeviceKey) {
        if let Some(live) = self.0.hub.of_device(&key) {
            let receiver = Arc::clone(&self.0);
            tokio::spawn(async move {
                if let Err(error) = receiver.end_replaced(&[live]).await {
                    // It is looked at again within a minute, and when it acknowledges.
                    tracing::debug!(error = %error, "a stream that may be replaced not looked at");
                }
            });
        }
    }

    fn acknowledged(&self, user: UserId, device: DeviceId, positions: &[Position], caller: Arc<Caller>) {
        if caller.user != Some(user) || caller.expires_at <= SystemTime::now() {
            return;
        }
        let key = DeviceKey { user, device };
        // The same person called, on another pod.
        rpc::heard(&self.0, &key, caller);
        if let Some(live) = self.0.hub.of_device(&key) {
            live.change(|state| state.stream.acked_elsewhere(positions));
        }
    }
}
