//! An open stream of a device, as its person hears it.

use std::collections::VecDeque;
use std::time::Duration;

use flaghoist_proto::receiver::v1::receive_request::Request as Said;
use flaghoist_proto::receiver::v1::receive_response::Response as Heard;
use flaghoist_proto::receiver::v1::{Ack, Heartbeat, Open, OpenFrom, Position, ReceiveRequest, ReceiveResponse};
use flaghoist_proto::send::v1::event::Change;
use flaghoist_proto::send::v1::{Event, Receipt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::person::Person;

/// How long a test waits for what must come. Far above what it takes, so that a busy machine fails no test.
pub const TIME_TO_ARRIVE: Duration = Duration::from_secs(20);
/// How often the device says that it is there; the contract asks for 15 seconds.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(5);

/// How a stream is to be opened.
#[derive(Debug)]
pub struct Opening<'a> {
    person: &'a Person,
    open: Open,
    heartbeats: bool,
}

/// An open stream.
#[derive(Debug)]
pub struct Listening {
    device: String,
    says: mpsc::Sender<ReceiveRequest>,
    hears: Streaming<ReceiveResponse>,
    /// Heard while waiting for something else.
    put_aside: VecDeque<Heard>,
    /// The receipts heard so far.
    pub receipts: Vec<Receipt>,
}

impl<'a> Opening<'a> {
    pub(crate) fn new(person: &'a Person, device: &str) -> Self {
        let open = Open { device: format!("users/me/devices/{device}"), from: OpenFrom::Unspecified as i32, window: 0 };
        Self { person, open, heartbeats: true }
    }

    /// Starts there.
    #[must_use]
    pub fn from(mut self, from: OpenFrom) -> Self {
        self.open.from = from as i32;
        self
    }

    /// Lets so many events be unacknowledged.
    #[must_use]
    pub fn window(mut self, events: i32) -> Self {
        self.open.window = events;
        self
    }

    /// Says nothing by itself, like a device that has vanished.
    #[must_use]
    pub fn without_heartbeats(mut self) -> Self {
        self.heartbeats = false;
        self
    }

    /// Opens it; it must be accepted.
    pub async fn open(self) -> Listening {
        let handle = self.person.handle.clone();
        self.tries().await.unwrap_or_else(|error| panic!("{handle} cannot listen: {error:?}"))
    }

    /// Tries to open it.
    ///
    /// # Errors
    /// What the server answers.
    pub async fn tries(self) -> Result<Listening, Status> {
        let (says, requests) = mpsc::channel(512);
        let device = self.open.device.clone();
        let open = ReceiveRequest { request: Some(Said::Open(self.open)) };
        says.try_send(open).expect("the first of many fits");
        let hears = self.person.calls().receiver().receive(ReceiverStream::new(requests)).await?.into_inner();
        if self.heartbeats {
            let says = says.downgrade();
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(HEARTBEAT_EVERY).await;
                    // It ends with the stream: nobody holds the sender any more.
                    let Some(says) = says.upgrade() else { return };
                    let _ = says.try_send(ReceiveRequest { request: Some(Said::Heartbeat(Heartbeat {})) });
                }
            });
        }
        Ok(Listening { device, says, hears, put_aside: VecDeque::new(), receipts: Vec::new() })
    }
}

impl Listening {
    /// The device's name, `users/me/devices/{device}`.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// What comes next, heartbeats left out; waits for 20 seconds at most.
    ///
    /// # Errors
    /// How the stream ended; `OK` when it ended in order.
    pub async fn next(&mut self) -> Result<Heard, Status> {
        match tokio::time::timeout(TIME_TO_ARRIVE, self.next_whenever()).await {
            Ok(heard) => heard,
            Err(_) => panic!("{} heard nothing for {TIME_TO_ARRIVE:?}", self.device),
        }
    }

    /// What comes next, whenever that is.
    ///
    /// # Errors
    /// How the stream ended; `OK` when it ended in order.
    pub async fn next_whenever(&mut self) -> Result<Heard, Status> {
        if let Some(heard) = self.put_aside.pop_front() {
            return Ok(heard);
        }
        self.hear().await
    }

    async fn hear(&mut self) -> Result<Heard, Status> {
        loop {
            let response = self.hears.message().await?.ok_or_else(|| Status::new(Code::Ok, "the stream has ended"))?;
            match response.response {
                None | Some(Heard::Heartbeat(_)) => {}
                Some(heard) => {
                    if let Heard::Receipt(receipt) = &heard {
                        self.receipts.push(receipt.clone());
                    }
                    return Ok(heard);
                }
            }
        }
    }

    /// The next event; anything else is passed over.
    pub async fn next_event(&mut self) -> Event {
        loop {
            match self.next().await {
                Ok(Heard::Event(event)) => return event,
                Ok(_) => {}
                Err(end) => panic!("{} expected an event, the stream ended: {end:?}", self.device),
            }
        }
    }

    /// The event that a message with this text came with; other events are passed over.
    pub async fn next_message(&mut self, text: &str) -> Event {
        loop {
            let event = self.next_event().await;
            if matches!(&event.change, Some(Change::MessageCreated(message)) if message.text == text) {
                return event;
            }
        }
    }

    /// The events until everything stored has come.
    pub async fn until_caught_up(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            match self.next().await {
                Ok(Heard::Event(event)) => events.push(event),
                Ok(Heard::CaughtUp(_)) => return events,
                Ok(_) => {}
                Err(end) => panic!("{} expected to catch up, the stream ended: {end:?}", self.device),
            }
        }
    }

    /// The same, acknowledging all the way, so that no window holds it up.
    pub async fn until_caught_up_acking(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            match self.next().await {
                Ok(Heard::Event(event)) => {
                    self.says_ack(&event).await;
                    events.push(event);
                }
                Ok(Heard::CaughtUp(_)) => break,
                Ok(_) => {}
                Err(end) => panic!("{} expected to catch up, the stream ended: {end:?}", self.device),
            }
        }
        if let Some(last) = events.last() {
            self.acknowledged(last).await;
        }
        events
    }

    /// Waits until a receipt says at least this much about a member.
    pub async fn until_receipt(&mut self, member: &Person, delivered_seq: u64, read_seq: u64) -> Receipt {
        let enough = |receipt: &Receipt| {
            receipt.member == member.name && receipt.delivered_seq >= delivered_seq && receipt.read_seq >= read_seq
        };
        loop {
            if let Some(receipt) = self.receipts.iter().find(|receipt| enough(receipt)) {
                return receipt.clone();
            }
            if let Err(end) = self.next().await {
                panic!("{} expected a receipt, the stream ended: {end:?}", self.device);
            }
        }
    }

    /// Acknowledges up to an event and waits for the answer.
    pub async fn ack(&mut self, event: &Event) {
        self.says_ack(event).await;
        self.acknowledged(event).await;
    }

    /// Acknowledges up to an event and waits for nothing.
    pub async fn says_ack(&mut self, event: &Event) {
        self.says(Said::Ack(Ack { positions: vec![position(event)] })).await;
    }

    /// Waits for the answer to an acknowledgement; what else comes is kept for later.
    pub async fn acknowledged(&mut self, event: &Event) {
        let mut aside = std::mem::take(&mut self.put_aside);
        let covers = |heard: &Heard| match heard {
            Heard::Acknowledged(acknowledged) => acknowledged.positions.iter().any(|position| {
                position.conversation == event.conversation
                    && position.epoch == event.epoch
                    && position.seq >= event.seq
            }),
            _ => false,
        };
        if !aside.iter().any(covers) {
            loop {
                match tokio::time::timeout(TIME_TO_ARRIVE, self.hear()).await {
                    Ok(Ok(heard)) if covers(&heard) => break,
                    Ok(Ok(heard)) => aside.push_back(heard),
                    Ok(Err(end)) => panic!("{} expected Acknowledged, the stream ended: {end:?}", self.device),
                    Err(_) => panic!("{} was not answered its acknowledgement of {event:?}", self.device),
                }
            }
        }
        self.put_aside = aside;
    }

    /// Says something.
    pub async fn says(&mut self, request: Said) {
        // A stream that has ended is noticed when listening.
        let _ = self.says.send(ReceiveRequest { request: Some(request) }).await;
    }

    /// Listens until the stream ends, and how it did; `OK` when in order.
    pub async fn end(&mut self) -> Status {
        loop {
            if let Err(end) = self.next().await {
                return end;
            }
        }
    }

    /// The same, for 60 seconds at most.
    pub async fn end_within(&mut self, limit: Duration) -> Option<Status> {
        let end = async {
            loop {
                if let Err(end) = self.next_whenever().await {
                    return end;
                }
            }
        };
        tokio::time::timeout(limit, end).await.ok()
    }

    /// Makes sure that no event comes for a while. A promise that something never comes can only be watched for a time.
    pub async fn hears_no_event_for(&mut self, time: Duration) {
        let watch = async {
            loop {
                match self.next_whenever().await {
                    Ok(Heard::Event(event)) => panic!("{} heard {event:?} again", self.device),
                    Ok(_) => {}
                    Err(end) => panic!("{} was cut off: {end:?}", self.device),
                }
            }
        };
        let _: Result<(), _> = tokio::time::timeout(time, watch).await;
    }
}

/// The position of an event.
pub(crate) fn position(event: &Event) -> Position {
    Position { conversation: event.conversation.clone(), epoch: event.epoch, seq: event.seq }
}
