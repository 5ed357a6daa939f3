//! What is said on the bus, and how it is written: protocol buffers, so that pods of two versions understand one another. Nothing that
//! is read is trusted to make sense.

use std::sync::Arc;
use std::time::SystemTime;

use flaghoist_proto::receiver::v1::Delivery;
use flaghoist_proto::send::v1 as send;
use flaghoist_runtime::Caller;
use flaghoist_runtime::names::{ConversationId, DeviceId, SessionId, UserId};
use flaghoist_runtime::time::{from_millis, millis};
use prost::Message as _;
use uuid::Uuid;

use crate::log::Receipt;
use crate::stream::Position;

/// Events of one conversation as they came from `send`, and how far they go.
#[derive(Debug)]
pub(crate) struct Events<'a> {
    pub(crate) deliveries: &'a [&'a Delivery],
    pub(crate) last_seq: u64,
}

/// One thing that is said.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Word {
    /// Events of the conversation were committed.
    Events(Vec<Delivery>),
    /// The conversation goes at least so far.
    Head(u64),
    /// Receipts of the conversation rose.
    Receipts(Vec<Receipt>),
    /// A member of the conversation is typing, and said so then.
    Typing(UserId, SystemTime),
    /// The person became a member of a conversation, by some event up to `seq`.
    Added(ConversationId, u64),
    /// The row of a device of the person has become another one: a newer stream, or it is gone.
    Device(DeviceId),
    /// A device of the person called another pod: it is there, and acknowledges these positions, durably.
    Acknowledged(DeviceId, Vec<Position>, Arc<Caller>),
    /// The word of a pod to itself, to find out whether the bus is there.
    Echo(u64),
}

impl Word {
    /// The word as bytes, said by `origin`.
    pub(super) fn encode(&self, origin: u64) -> Vec<u8> {
        Wire { origin, what: Some(self.wire()) }.encode_to_vec()
    }

    /// The newest event that the word tells of.
    pub(super) fn head(&self) -> Option<u64> {
        match self {
            Self::Head(seq) => Some(*seq),
            _ => None,
        }
    }

    /// Reads a word; nothing if it makes no sense, or is one of a newer version.
    pub(super) fn decode(body: &[u8]) -> Option<Self> {
        read(Wire::decode(body).ok()?.what?)
    }

    fn wire(&self) -> What {
        match self {
            Self::Events(deliveries) => What::Events(EventsWire { deliveries: deliveries.clone() }),
            Self::Head(seq) => What::Head(*seq),
            Self::Receipts(receipts) => {
                What::Receipts(ReceiptsWire { receipts: receipts.iter().map(Receipt::wire).collect() })
            }
            Self::Typing(member, at) => What::Typing(TypingWire { member: id(member.0), at_ms: millis(*at) }),
            Self::Added(conversation, seq) => What::Added(AddedWire { conversation: id(conversation.0), seq: *seq }),
            Self::Device(device) => What::Device(device.as_str().to_owned()),
            Self::Acknowledged(device, positions, caller) => What::Acknowledged(AcknowledgedWire {
                device: device.as_str().to_owned(),
                positions: positions.iter().map(position_wire).collect(),
                caller: Some(caller_wire(caller)),
            }),
            Self::Echo(number) => What::Echo(*number),
        }
    }
}

impl Events<'_> {
    /// The events as bytes, said by `origin`; they are not copied first, most of what is said are these.
    pub(super) fn encode(&self, origin: u64) -> Vec<u8> {
        let events_bytes: usize =
            self.deliveries.iter().map(|delivery| prost::encoding::message::encoded_len(1, *delivery)).sum();
        let mut body = Wire { origin, what: None }.encode_to_vec();
        body.reserve(events_bytes + 16);
        prost::encoding::encode_key(EVENTS_TAG, prost::encoding::WireType::LengthDelimited, &mut body);
        prost::encoding::encode_varint(events_bytes as u64, &mut body);
        for delivery in self.deliveries {
            prost::encoding::message::encode(1, *delivery, &mut body);
        }
        body
    }
}

/// Whether `origin` said this: found out without reading the rest of it.
pub(super) fn said_by(body: &[u8], origin: u64) -> bool {
    let Some((key, rest)) = body.split_first() else { return false };
    *key == ORIGIN_KEY && rest.get(..8).is_some_and(|bytes| bytes == origin.to_le_bytes())
}

/// The first byte of every word: field 1, 64 bits.
const ORIGIN_KEY: u8 = (1 << 3) | 1;

const EVENTS_TAG: u32 = 2;

#[derive(Clone, PartialEq, prost::Message)]
struct Wire {
    /// The pod that says it; never 0, which would not be written.
    #[prost(fixed64, tag = "1")]
    origin: u64,
    #[prost(oneof = "What", tags = "2, 3, 4, 5, 6, 7, 8, 9")]
    what: Option<What>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum What {
    #[prost(message, tag = "2")]
    Events(EventsWire),
    #[prost(uint64, tag = "3")]
    Head(u64),
    #[prost(message, tag = "4")]
    Receipts(ReceiptsWire),
    #[prost(message, tag = "5")]
    Typing(TypingWire),
    #[prost(message, tag = "6")]
    Added(AddedWire),
    #[prost(string, tag = "7")]
    Device(String),
    #[prost(message, tag = "8")]
    Acknowledged(AcknowledgedWire),
    #[prost(uint64, tag = "9")]
    Echo(u64),
}

#[derive(Clone, PartialEq, prost::Message)]
struct EventsWire {
    #[prost(message, repeated, tag = "1")]
    deliveries: Vec<Delivery>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ReceiptsWire {
    #[prost(message, repeated, tag = "1")]
    receipts: Vec<send::Receipt>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct TypingWire {
    #[prost(bytes = "vec", tag = "1")]
    member: Vec<u8>,
    #[prost(int64, tag = "2")]
    at_ms: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AddedWire {
    #[prost(bytes = "vec", tag = "1")]
    conversation: Vec<u8>,
    #[prost(uint64, tag = "2")]
    seq: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AcknowledgedWire {
    #[prost(string, tag = "1")]
    device: String,
    #[prost(message, repeated, tag = "2")]
    positions: Vec<PositionWire>,
    #[prost(message, optional, tag = "3")]
    caller: Option<CallerWire>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PositionWire {
    #[prost(bytes = "vec", tag = "1")]
    conversation: Vec<u8>,
    #[prost(uint64, tag = "2")]
    epoch: u64,
    #[prost(uint64, tag = "3")]
    seq: u64,
}

/// Who called, as the token of the call said; the token itself is told to nobody.
#[derive(Clone, PartialEq, prost::Message)]
struct CallerWire {
    #[prost(bytes = "vec", tag = "1")]
    user: Vec<u8>,
    #[prost(string, tag = "2")]
    client_id: String,
    #[prost(bytes = "vec", tag = "3")]
    session: Vec<u8>,
    #[prost(string, repeated, tag = "4")]
    scopes: Vec<String>,
    #[prost(bytes = "vec", tag = "5")]
    token_id: Vec<u8>,
    #[prost(int64, tag = "6")]
    issued_at_ms: i64,
    #[prost(int64, tag = "7")]
    expires_at_ms: i64,
    #[prost(string, tag = "8")]
    key_id: String,
    /// Empty if the token is bound to no key.
    #[prost(string, tag = "9")]
    key_thumbprint: String,
}

fn read(what: What) -> Option<Word> {
    Some(match what {
        What::Events(events) => Word::Events(events.deliveries),
        What::Head(seq) => Word::Head(seq),
        What::Receipts(receipts) => {
            Word::Receipts(receipts.receipts.iter().map(Receipt::read).collect::<Result<_, _>>().ok()?)
        }
        What::Typing(typing) => Word::Typing(UserId(uuid(&typing.member)?), from_millis(typing.at_ms)),
        What::Added(added) => Word::Added(ConversationId(uuid(&added.conversation)?), added.seq),
        What::Device(device) => Word::Device(DeviceId::from_id(&device).ok()?),
        What::Acknowledged(acknowledged) => Word::Acknowledged(
            DeviceId::from_id(&acknowledged.device).ok()?,
            acknowledged.positions.iter().map(position).collect::<Option<_>>()?,
            Arc::new(caller(acknowledged.caller?)?),
        ),
        What::Echo(number) => Word::Echo(number),
    })
}

fn position_wire(position: &Position) -> PositionWire {
    PositionWire { conversation: id(position.conversation.0), epoch: position.epoch, seq: position.seq }
}

fn position(wire: &PositionWire) -> Option<Position> {
    Some(Position { conversation: ConversationId(uuid(&wire.conversation)?), epoch: wire.epoch, seq: wire.seq })
}

fn caller_wire(caller: &Caller) -> CallerWire {
    CallerWire {
        user: caller.user.map(|user| id(user.0)).unwrap_or_default(),
        client_id: caller.client_id.clone(),
        session: caller.session.map(|session| id(session.0)).unwrap_or_default(),
        scopes: caller.scopes.clone(),
        token_id: id(caller.token_id),
        key_id: caller.key_id.clone(),
        key_thumbprint: caller.key_thumbprint.clone().unwrap_or_default(),
        issued_at_ms: millis(caller.issued_at),
        expires_at_ms: millis(caller.expires_at),
    }
}

fn caller(wire: CallerWire) -> Option<Caller> {
    let user = UserId(uuid(&wire.user)?);
    Some(Caller {
        user: Some(user),
        subject: user.to_string(),
        client_id: wire.client_id,
        session: Some(SessionId(uuid(&wire.session)?)),
        scopes: wire.scopes,
        token_id: uuid(&wire.token_id)?,
        key_id: wire.key_id,
        // Nothing that a pod does for another depends on it.
        authenticated_at: None,
        key_thumbprint: Some(wire.key_thumbprint).filter(|key| !key.is_empty()),
        two_factors: false,
        issued_at: from_millis(wire.issued_at_ms),
        expires_at: from_millis(wire.expires_at_ms),
    })
}

fn id(uuid: Uuid) -> Vec<u8> {
    uuid.as_bytes().to_vec()
}

fn uuid(bytes: &[u8]) -> Option<Uuid> {
    Uuid::from_slice(bytes).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::stream::Watermarks;

    const ORIGIN: u64 = 0x0102_0304_0506_0709;

    fn words() -> Vec<Word> {
        let (conversation, user) = (ConversationId(Uuid::now_v7()), UserId(Uuid::now_v7()));
        let device = DeviceId::from_id("phone").unwrap();
        let caller = Caller {
            user: Some(user),
            subject: user.to_string(),
            client_id: "app".into(),
            session: Some(SessionId(Uuid::now_v7())),
            scopes: vec!["chat".into()],
            token_id: Uuid::now_v7(),
            key_id: "key".into(),
            authenticated_at: None,
            key_thumbprint: Some("thumbprint".into()),
            two_factors: false,
            issued_at: from_millis(1_000),
            expires_at: from_millis(2_000),
        };
        let watermarks = Watermarks { epoch: u64::MAX, delivered_seq: 2, read_seq: 1 };
        let event = send::Event { conversation: conversation.name(), seq: 7, ..send::Event::default() };
        let delivery = Delivery { event: Some(event), added_members: vec![user.name()], ..Delivery::default() };
        vec![
            Word::Events(vec![delivery.clone(), delivery]),
            Word::Head(9),
            Word::Receipts(vec![Receipt { conversation, member: user, watermarks }]),
            Word::Typing(user, from_millis(5_000)),
            Word::Added(conversation, 3),
            Word::Device(device.clone()),
            Word::Acknowledged(device, vec![Position { conversation, epoch: u64::MAX, seq: 4 }], Arc::new(caller)),
            Word::Echo(11),
        ]
    }

    #[test]
    fn words_are_read_as_they_were_said_and_a_pod_knows_its_own() {
        for word in words() {
            let body = word.encode(ORIGIN);
            assert_eq!(Word::decode(&body).as_ref(), Some(&word));
            assert!(said_by(&body, ORIGIN) && !said_by(&body, ORIGIN + 2) && !said_by(&[], ORIGIN));
            if let Word::Events(deliveries) = &word {
                let events = Events { deliveries: &deliveries.iter().collect::<Vec<_>>(), last_seq: 7 };
                assert_eq!(events.encode(ORIGIN), body);
            }
        }
        // Typing is told with the time, so that a late word is not shown.
        assert!(from_millis(5_000).elapsed().unwrap() > Duration::from_secs(10));
    }

    proptest! {
        #[test]
        fn what_makes_no_sense_is_no_word_and_no_panic(
            which in 0usize..8, cut in 0usize..200, flips in prop::collection::vec((0usize..200, any::<u8>()), 0..4),
        ) {
            let mut body = words().swap_remove(which).encode(ORIGIN);
            for (at, flip) in flips {
                let length = body.len();
                body[at % length] ^= flip;
            }
            body.truncate(cut.max(1));
            let _word = Word::decode(&body);
        }
    }
}
