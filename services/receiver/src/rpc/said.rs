//! What a stream says, as it is on the wire.

use std::sync::Arc;

use flaghoist_proto::receiver::v1::receive_response::Response;
use flaghoist_proto::receiver::v1::{
    Acknowledged, CaughtUp, Drain, Heartbeat, Position, ReceiveResponse, Reset, SubscribeResponse, Typing,
};
use flaghoist_proto::send::v1::Event;
use flaghoist_proto::send::v1::event::Change;
use flaghoist_runtime::names::{ConversationId, UserId};

use crate::live::Live;
use crate::log::Receipt;
use crate::stream::Said;

/// For `Receive`.
pub(super) fn receive_response(live: &Live, said: Said) -> ReceiveResponse {
    let response = match said {
        Said::Event { event, previous_seq, .. } => {
            let mut event = Arc::unwrap_or_clone(event);
            event.previous_seq = previous_seq;
            hide_request_id(&mut event, live.user());
            Response::Event(event)
        }
        Said::Acknowledged(positions) => {
            let epoch = live.look(|state| state.stream.epoch());
            let position =
                |(conversation, seq): (ConversationId, u64)| Position { conversation: conversation.name(), epoch, seq };
            Response::Acknowledged(Acknowledged { positions: positions.into_iter().map(position).collect() })
        }
        Said::CaughtUp => Response::CaughtUp(CaughtUp {}),
        Said::Receipt(conversation, member, watermarks) => {
            Response::Receipt(Receipt { conversation, member, watermarks }.wire())
        }
        Said::Typing(conversation, member) => {
            Response::Typing(Typing { conversation: conversation.name(), member: member.name() })
        }
        Said::Reset(reason, conversation) => Response::Reset(Reset {
            reason: reason.into(),
            conversation: conversation.map(|conversation| conversation.name()).unwrap_or_default(),
        }),
        Said::Heartbeat => Response::Heartbeat(Heartbeat {}),
        Said::Drain(after) => Response::Drain(Drain { reconnect_after: after.try_into().ok() }),
    };
    ReceiveResponse { response: Some(response) }
}

/// For `Subscribe`.
pub(super) fn subscribe_response(live: &Live, said: Said) -> SubscribeResponse {
    SubscribeResponse { response: Some(receive_response(live, said)) }
}

/// The id that a client gave a message is told to its sender only.
fn hide_request_id(event: &mut Event, reader: UserId) {
    if let Some(Change::MessageCreated(message) | Change::MessageUpdated(message) | Change::MessageDeleted(message)) =
        &mut event.change
        && !message.request_id.is_empty()
        && UserId::parse(&message.sender) != Ok(reader)
    {
        message.request_id.clear();
    }
}
