//! `Receive` and `Subscribe`: the same stream, opened in two ways. A device that cannot speak on its stream is heard by its calls of
//! `Acknowledge`.

use std::sync::Arc;

use flaghoist_proto::check::Check as _;
use flaghoist_proto::receiver::v1::receive_request::Request as Wire;
use flaghoist_proto::receiver::v1::{
    Open, OpenFrom, ReceiveRequest, ReceiveResponse, SubscribeRequest, SubscribeResponse,
};
use flaghoist_runtime::Caller;
use flaghoist_runtime::fault::check;
use flaghoist_runtime::names::UserId;
use futures_util::StreamExt as _;
use tokio::time::{Instant, timeout};
use tonic::{Request, Response, Status, Streaming};

use super::{Pieces, devices, positions, said};
use crate::drive::{Incoming, Request as Heard, drive};
use crate::error::{DOMAIN, Error};
use crate::live::{Live, Response as Said};
use crate::opening::From;
use crate::service::Receiver;
use crate::store::DeviceKey;
use crate::unread::conversation;

pub(super) async fn receive(
    receiver: &Arc<Receiver>,
    request: Request<Streaming<ReceiveRequest>>,
) -> Result<Response<Pieces<ReceiveResponse>>, Status> {
    let (me, caller) = Caller::user_of(&request)?;
    let mut incoming = request.into_inner();
    let silence = receiver.settings.silence;
    let first = timeout(silence, incoming.message()).await.map_err(|_| Error::Silent(silence))??;
    let first = first.ok_or(Error::Protocol("the stream ended before it was opened"))?;
    check(&first, DOMAIN)?;
    let Some(Wire::Open(open)) = first.request else {
        return Err(Error::Protocol("the first request must be open").into());
    };
    let incoming: Incoming = Box::pin(incoming.map(heard_on_stream));
    let live = begin(receiver, &open, "open.device", me, caller, Some(incoming))?;
    let pieces = Said::new(live, said::receive_response).map(|piece| piece.map_err(Status::from));
    Ok(Response::new(Box::pin(pieces)))
}

pub(super) fn subscribe(
    receiver: &Arc<Receiver>,
    request: Request<SubscribeRequest>,
) -> Result<Response<Pieces<SubscribeResponse>>, Status> {
    let (me, caller) = Caller::user_of(&request)?;
    let request = request.into_inner();
    check(&request, DOMAIN)?;
    let open = request.open.unwrap_or_default();
    let live = begin(receiver, &open, "open.device", me, caller, None)?;
    let pieces = Said::new(live, said::subscribe_response).map(|piece| piece.map_err(Status::from));
    Ok(Response::new(Box::pin(pieces)))
}

/// The device has called: its stream is alive, and lives by the call's token if that holds longer.
pub(crate) fn heard(receiver: &Receiver, key: &DeviceKey, caller: Arc<Caller>) {
    if let Some(live) = receiver.hub.of_device(key) {
        live.change(|state| {
            state.heard_at = Instant::now();
            // A stream that was opened with a proof of a key, or without one, goes on by tokens of the same kind.
            let of_same_key = caller.key_thumbprint == state.caller.key_thumbprint;
            if of_same_key && caller.expires_at > state.caller.expires_at {
                state.caller = caller;
            }
        });
    }
}

/// Registers a stream and has it driven.
fn begin(
    receiver: &Arc<Receiver>,
    open: &Open,
    field: &str,
    me: UserId,
    caller: Arc<Caller>,
    incoming: Option<Incoming>,
) -> Result<Arc<Live>, Error> {
    if receiver.drain.is_started() {
        return Err(Error::Stopping);
    }
    let key = devices::key(&open.device, field, me)?;
    let from = match open.from() {
        OpenFrom::Unspecified | OpenFrom::Stored => From::Stored,
        OpenFrom::Beginning => From::Beginning,
        OpenFrom::Now => From::Now,
    };
    let live = Live::new(key, open.window, caller);
    receiver.hub.register(&live, receiver.settings.streams_max)?;
    tokio::spawn(drive(Arc::clone(receiver), Arc::clone(&live), from, incoming));
    Ok(live)
}

/// What a device said after the opening.
fn heard_on_stream(request: Result<ReceiveRequest, Status>) -> Result<Heard, Error> {
    // A device that is gone is not told why its stream ended.
    let request = request.map_err(|_| Error::Protocol("the requests broke off"))?;
    let violations = request.check();
    if !violations.is_empty() {
        return Err(Error::Fields(violations));
    }
    match request.request {
        Some(Wire::Ack(ack)) => Ok(Heard::Acknowledge(positions::read(&ack.positions, "ack.positions")?)),
        Some(Wire::Typing(typing)) => {
            Ok(Heard::Typing(conversation(&typing.conversation, || "typing.conversation".into())?))
        }
        Some(Wire::Heartbeat(_)) => Ok(Heard::Heartbeat),
        Some(Wire::RefreshToken(refresh)) => Ok(Heard::RefreshToken(refresh.access_token)),
        Some(Wire::Open(_)) => Err(Error::Protocol("the stream is open already")),
        None => Err(Error::Protocol("a request says nothing")),
    }
}
