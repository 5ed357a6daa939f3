//! What this pod tells the others, beside telling its own streams: events that `send` brought here, receipts that rose, who is typing.

use std::collections::HashMap;
use std::time::SystemTime;

use flaghoist_proto::receiver::v1::Delivery;
use flaghoist_runtime::names::{ConversationId, UserId};
use prost::Message as _;

use crate::bus::{Events, Subject, Word};
use crate::hub::Hub;
use crate::log::Receipt;

/// How many bytes of events one word carries; a larger event is a word of its own.
const WORD_MAX_BYTES: usize = 64 * 1024;

impl Hub {
    /// Tells the other pods of committed events, those of each conversation in their order.
    pub(crate) fn tell_events(&self, deliveries: &[Delivery]) {
        if !self.bus.shared() {
            return;
        }
        let mut of = HashMap::<ConversationId, Vec<&Delivery>>::new();
        for delivery in deliveries {
            let event = delivery.event.as_ref();
            // What makes no sense is refused to the caller, and told to nobody.
            let Some(Ok(conversation)) = event.map(|event| ConversationId::parse(&event.conversation)) else {
                continue;
            };
            of.entry(conversation).or_default().push(delivery);
            let seq = event.map(|event| event.seq).unwrap_or_default();
            for user in delivery.added_members.iter().filter_map(|name| UserId::parse(name).ok()) {
                self.bus.tell(Subject::User(user), &Word::Added(conversation, seq));
            }
        }
        for (conversation, deliveries) in of {
            let mut rest = deliveries.as_slice();
            while !rest.is_empty() {
                let (now, later) = rest.split_at(fitting(rest));
                let last_seq =
                    now.iter().filter_map(|delivery| Some(delivery.event.as_ref()?.seq)).max().unwrap_or_default();
                self.bus.tell_events(conversation, &Events { deliveries: now, last_seq });
                rest = later;
            }
        }
    }

    /// Receipts have risen: tells the streams of the other members, here and on other pods.
    pub(crate) fn raised(&self, receipts: &[Receipt]) {
        receipts.iter().for_each(|receipt| self.receipt(receipt));
        if !self.bus.shared() {
            return;
        }
        let mut of = HashMap::<ConversationId, Vec<Receipt>>::new();
        for receipt in receipts {
            of.entry(receipt.conversation).or_default().push(*receipt);
        }
        for (conversation, receipts) in of {
            self.bus.tell(Subject::Conversation(conversation), &Word::Receipts(receipts));
        }
    }

    /// A member types at this pod: tells the streams of the other members, here and on other pods.
    pub(crate) fn typing_here(&self, conversation: ConversationId, member: UserId) {
        self.typing(conversation, member);
        if self.bus.shared() {
            self.bus.tell(Subject::Conversation(conversation), &Word::Typing(member, SystemTime::now()));
        }
    }
}

/// How many of these fit into one word; one at least.
fn fitting(deliveries: &[&Delivery]) -> usize {
    let mut bytes = 0;
    let fits = |delivery: &&&Delivery| {
        bytes += delivery.encoded_len();
        bytes <= WORD_MAX_BYTES
    };
    deliveries.iter().take_while(fits).count().max(1)
}
