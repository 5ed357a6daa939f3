//! One stream of `listen`, from its opening to its end: events are printed, then acknowledged in batches; a sign of life
//! goes out every ten seconds, and the token is renewed within the stream.

use std::collections::HashMap;
use std::future::ready;
use std::time::Duration;

use flaghoist_proto::receiver::v1::receive_request::Request;
use flaghoist_proto::receiver::v1::receive_response::Response;
use flaghoist_proto::receiver::v1::receiver_service_client::ReceiverServiceClient;
use flaghoist_proto::receiver::v1::{Ack, Heartbeat, Open, OpenFrom, Position, ReceiveRequest, RefreshToken};
use flaghoist_proto::send::v1::Event;
use flaghoist_proto::send::v1::event::Change;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{Listener, Place};
use crate::exit::{Exit, Failure};

/// How many requests may wait to be sent.
const REQUESTS_MAX: usize = 16;
/// How many events are printed at most before they are acknowledged; a quarter of the window.
const UNACKNOWLEDGED_MAX: u32 = 64;
/// How often a sign of life goes out; the server expects one every 15 seconds.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// How long the server may be silent.
const SILENCE: Duration = Duration::from_secs(30);
/// How long the opening of a stream may take.
const OPENING: Duration = Duration::from_secs(20);
/// How long to wait at the end for the answer to the last acknowledgement.
const FAREWELL: Duration = Duration::from_secs(5);
/// How long to wait before the token is renewed again, should the clocks differ so much that it never looks fresh.
const RENEWAL_MIN: Duration = Duration::from_secs(2);

/// How a stream ended.
#[derive(Debug)]
pub(super) enum End {
    /// There is nothing more to print.
    Finished,
    /// The server is about to stop and asked to be left alone for so long.
    Drained(Duration),
    /// The server has said nothing for too long.
    Silent,
    /// The server or the connection ended it.
    Refused(Status),
}

/// What was printed and what became of it.
#[derive(Debug, Default)]
struct Positions {
    /// Printed, not yet said.
    pending: HashMap<String, Place>,
    pending_events: u32,
    /// Said, not yet answered.
    unanswered: HashMap<String, Place>,
}

impl Listener<'_> {
    /// Opens a stream and prints what comes until it ends. Also answers whether the server took the opening.
    pub(super) async fn stream(&mut self) -> Result<(bool, End), Failure> {
        let (requests, outgoing) = mpsc::channel(REQUESTS_MAX);
        let open = Open {
            device: format!("{}/devices/{}", self.signed.user(), self.signed.device()),
            from: self.from.into(),
            window: 0,
        };
        let mut service = ReceiverServiceClient::new(self.signed.channel(&self.token)?);
        let _ = requests.try_send(request(Request::Open(open)));
        let mut incoming = match timeout(OPENING, service.receive(ReceiverStream::new(outgoing))).await {
            Ok(Ok(answer)) => answer.into_inner(),
            Ok(Err(status)) => return Ok((false, End::Refused(status))),
            Err(_) => return Ok((false, End::Refused(Status::deadline_exceeded("the server did not answer in time")))),
        };

        let mut positions = Positions::default();
        let mut heard = false;
        let mut finished = false;
        let mut drained: Option<Instant> = None;
        let mut deadline = Instant::now() + SILENCE;
        let mut heartbeat_at = Instant::now() + HEARTBEAT;
        let mut renewal_at = Instant::now() + self.signed.fresh_for().await.max(RENEWAL_MIN);
        loop {
            if finished && positions.pending.is_empty() && positions.unanswered.is_empty() {
                return Ok((heard, End::Finished));
            }
            tokio::select! {
                biased;
                _ = self.interrupt.recv(), if !finished => (finished, deadline) = (true, Instant::now() + FAREWELL),
                _ = self.terminate.recv(), if !finished => (finished, deadline) = (true, Instant::now() + FAREWELL),
                () = sleep_until(renewal_at) => {
                    let token = self.renewed_token().await?;
                    if token != self.token {
                        self.token.clone_from(&token);
                        let _ = requests.try_send(request(Request::RefreshToken(RefreshToken { access_token: token })));
                    }
                    renewal_at = Instant::now() + self.signed.fresh_for().await.max(RENEWAL_MIN);
                }
                () = sleep_until(heartbeat_at) => {
                    // A full queue means that the server reads nothing; its silence ends the stream.
                    let _ = requests.try_send(request(Request::Heartbeat(Heartbeat {})));
                    heartbeat_at = Instant::now() + HEARTBEAT;
                }
                () = ready(()), if positions.pending_events >= UNACKNOWLEDGED_MAX && requests.capacity() > 0 => {
                    positions.say(&requests);
                }
                received = incoming.message() => {
                    let response = match received {
                        Ok(Some(message)) => message.response,
                        Ok(None) if finished => return Ok((heard, End::Finished)),
                        Ok(None) => return Ok((heard, ended(drained, Status::unavailable("the server ended the stream")))),
                        Err(_) if finished => return Ok((heard, End::Finished)),
                        Err(status) => return Ok((heard, ended(drained, status))),
                    };
                    heard = true;
                    // From here on the device's own positions say where to go on.
                    self.from = OpenFrom::Stored;
                    if !finished {
                        deadline = Instant::now() + SILENCE;
                    }
                    match response {
                        Some(Response::Event(event)) if !finished => {
                            finished = self.take(&event, &mut positions).await?;
                        }
                        Some(Response::Acknowledged(answered)) => positions.answered(&answered.positions),
                        Some(Response::CaughtUp(_)) if !finished => {
                            self.output.show(&json!({"type": "caught_up"}), || "-- caught up --".into())?;
                            finished = self.until_caught_up;
                        }
                        Some(Response::Drain(drain)) => {
                            let wait = drain.reconnect_after.and_then(|wait| Duration::try_from(wait).ok());
                            drained = Some(Instant::now() + wait.unwrap_or_default().min(Duration::from_secs(300)));
                        }
                        Some(Response::Reset(reset)) => {
                            if reset.conversation.is_empty() {
                                self.printed.clear();
                            } else {
                                self.printed.remove(&reset.conversation);
                            }
                            self.print(Response::Reset(reset)).await?;
                        }
                        Some(other) if !finished => self.print(other).await?,
                        _ => {}
                    }
                    if finished && deadline > Instant::now() + FAREWELL {
                        deadline = Instant::now() + FAREWELL;
                    }
                }
                // Nothing more is there to be read: a good moment to acknowledge what was printed.
                () = ready(()), if !positions.pending.is_empty() && requests.capacity() > 0 => positions.say(&requests),
                () = sleep_until(deadline) => {
                    return Ok((heard, if finished { End::Finished } else { End::Silent }));
                }
            }
        }
    }

    /// Prints an event unless that was done on an earlier stream, and notes it for acknowledgement. Answers whether it was
    /// the last one wanted.
    async fn take(&mut self, event: &Event, positions: &mut Positions) -> Result<bool, Failure> {
        let place = Place { epoch: event.epoch, seq: event.seq };
        let before = self.printed.get(&event.conversation).copied();
        let again = before.is_some_and(|before| before.epoch == place.epoch && place.seq <= before.seq);
        if let Some(before) = before
            && before.epoch == place.epoch
            && event.previous_seq > before.seq
        {
            // Acknowledging this event would cover the one that is missing.
            return Err(Failure::new(
                Exit::Failed,
                format!(
                    "the server left out events of {} between {} and {}: listen again",
                    event.conversation, before.seq, event.seq
                ),
            ));
        }
        if !again {
            self.print(Response::Event(event.clone())).await?;
            self.printed.insert(event.conversation.clone(), place);
            if matches!(event.change, Some(Change::MessageCreated(_)))
                && let Some(left) = &mut self.left
            {
                *left = left.saturating_sub(1);
            }
        }
        positions.pending.insert(event.conversation.clone(), place);
        positions.pending_events += 1;
        Ok(self.left == Some(0))
    }
}

impl Positions {
    /// Acknowledges what was printed.
    fn say(&mut self, requests: &mpsc::Sender<ReceiveRequest>) {
        let positions = self
            .pending
            .iter()
            .map(|(conversation, place)| Position {
                conversation: conversation.clone(),
                epoch: place.epoch,
                seq: place.seq,
            })
            .collect();
        if requests.try_send(request(Request::Ack(Ack { positions }))).is_ok() {
            self.unanswered.extend(self.pending.drain());
            self.pending_events = 0;
        }
    }

    /// Notes what is durable.
    fn answered(&mut self, positions: &[Position]) {
        for position in positions {
            let place = Place { epoch: position.epoch, seq: position.seq };
            if self.unanswered.get(&position.conversation).is_some_and(|said| *said <= place) {
                self.unanswered.remove(&position.conversation);
            }
        }
    }
}

fn request(request: Request) -> ReceiveRequest {
    ReceiveRequest { request: Some(request) }
}

fn ended(drained: Option<Instant>, status: Status) -> End {
    match drained {
        Some(until) => End::Drained(until.saturating_duration_since(Instant::now())),
        None => End::Refused(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_is_cumulative_and_answered_once_it_is_durable() {
        let (requests, mut outgoing) = mpsc::channel(1);
        let mut positions = Positions::default();
        positions.pending.insert("conversations/1".into(), Place { epoch: 7, seq: 5 });
        positions.pending_events = 3;
        positions.say(&requests);
        let Some(Request::Ack(ack)) = outgoing.try_recv().unwrap().request else { panic!("no acknowledgement") };
        assert_eq!(ack.positions, [Position { conversation: "conversations/1".into(), epoch: 7, seq: 5 }]);
        assert!(positions.pending.is_empty() && positions.pending_events == 0);

        let answer = |seq| Position { conversation: "conversations/1".into(), epoch: 7, seq };
        positions.answered(&[answer(4)]);
        assert_eq!(positions.unanswered.len(), 1);
        positions.answered(&[answer(5)]);
        assert!(positions.unanswered.is_empty());
    }

    #[test]
    fn what_cannot_be_said_now_is_kept() {
        let (requests, _outgoing) = mpsc::channel(1);
        requests.try_send(request(Request::Heartbeat(Heartbeat {}))).unwrap();
        let mut positions = Positions::default();
        positions.pending.insert("conversations/1".into(), Place { epoch: 7, seq: 5 });
        positions.say(&requests);
        assert_eq!(positions.pending.len(), 1);
        assert!(positions.unanswered.is_empty());
    }
}
