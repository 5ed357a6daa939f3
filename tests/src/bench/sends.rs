//! Saturation: how many sends are answered in a second, each of them durable.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use flaghoist_proto::receiver::v1::receive_request::Request as Said;
use flaghoist_proto::receiver::v1::receive_response::Response as Answer;
use flaghoist_proto::receiver::v1::{Ack, Open, Position, ReceiveRequest, ReceiveResponse};
use flaghoist_proto::send::v1::{CreateMessageRequest, Event};
use prost::Message as _;
use tokio::task::LocalSet;

use super::Target;
use super::frames::{Heard, Named, Wire};
use super::report::{Latencies, Report, Usage};
use super::wire::{Connection, Method, Template, text, unframe};
use crate::cluster::Service;
use crate::person::Person;

/// How hard to press.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// For how long, after two seconds of warming up
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// How many HTTP/2 connections the senders share
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// How many people send over each; few enough that the token of each stays in the connection's header table
    #[arg(long, default_value_t = 4)]
    senders: usize,
    /// How many calls are under way on each connection
    #[arg(long, default_value_t = 32)]
    in_flight: usize,
    /// Whether the recipients listen and acknowledge
    #[arg(long)]
    online: bool,
    /// The length of each text in bytes
    #[arg(long, default_value_t = 100)]
    bytes: usize,
}

/// Someone who sends to one conversation.
pub(super) struct Sender {
    token: String,
    template: Template,
    id_place: usize,
    time_place: usize,
}

const ID: &str = "00000000000000000000000000000000";
const TIME: &str = "time:00000000000000000000";
const CREATE_MESSAGE: &str = "/flaghoist.send.v1.MessageService/CreateMessage";

impl Sender {
    pub(super) fn new(person: &Person, conversation: &str, bytes: usize) -> Self {
        let request = CreateMessageRequest {
            parent: conversation.into(),
            request_id: ID.into(),
            text: format!("{TIME:x<bytes$}"),
            metadata: Default::default(),
        };
        let template = Template::new(&request);
        let (id_place, time_place) = (template.place(ID), template.place(TIME) + "time:".len());
        Self { token: person.token(), template, id_place, time_place }
    }

    /// What this sender calls, on one connection.
    pub(super) fn named(&self, wire: &mut Wire) -> Named {
        wire.named(CREATE_MESSAGE, &self.token)
    }

    /// A message that says when it was meant to go out.
    pub(super) fn message(&mut self, id: u128, meant: Duration) -> &[u8] {
        let nanos = u64::try_from(meant.as_nanos()).unwrap_or_default();
        self.template.fill(self.id_place, format_args!("{id:032x}"));
        self.template.fill(self.time_place, format_args!("{nanos:020}"));
        self.template.bytes()
    }

    /// Sends a message on a connection where every header is checked; says why it is refused.
    pub(super) async fn send(&mut self, over: &mut Connection, id: u128) -> Result<(), String> {
        let body = bytes::Bytes::copy_from_slice(self.message(id, Duration::ZERO));
        over.call(&Method::new(CREATE_MESSAGE, &self.token), body).await.map(drop)
    }
}

/// Sends under way on one connection.
pub(super) struct Sending {
    wire: Wire,
    senders: Vec<(Sender, Named)>,
    /// By stream: who sends, when it was meant to, and whether an answer came.
    calls: HashMap<u32, (usize, Duration, bool)>,
    epoch_of_times: Instant,
}

impl Sending {
    /// Connection `number` of those who send.
    pub(super) async fn open(
        target: &Target,
        number: usize,
        senders: Vec<Sender>,
        epoch_of_times: Instant,
    ) -> Result<Self, String> {
        let mut wire = Wire::open(target.place(Service::Send, number)).await?;
        let name = |sender: Sender| {
            let named = sender.named(&mut wire);
            (sender, named)
        };
        let senders = senders.into_iter().map(name).collect();
        Ok(Self { wire, senders, calls: HashMap::new(), epoch_of_times })
    }

    /// Whether another message may go out now.
    pub(super) fn may_send(&self) -> bool {
        // The longest request there is.
        self.wire.may_call(20 * 1_024)
    }

    /// The time by which messages are meant to go out.
    pub(super) fn now(&self) -> Duration {
        self.epoch_of_times.elapsed()
    }

    /// How many messages are not answered.
    pub(super) fn under_way(&self) -> usize {
        self.calls.len()
    }

    pub(super) fn send(&mut self, number: usize, id: u128, meant: Duration) {
        let who = number % self.senders.len();
        let (sender, named) = &mut self.senders[who];
        let stream = self.wire.call(*named, sender.message(id, meant));
        self.calls.insert(stream, (who, meant, false));
    }

    /// Writes what is to go out.
    pub(super) async fn flush(&mut self) -> Result<(), String> {
        self.wire.flush().await
    }

    /// Waits for the server to say something. May be given up without loss.
    pub(super) async fn fill(&mut self) -> Result<(), String> {
        self.wire.fill().await
    }

    /// Tells of each answer whose message it was and how long it took.
    pub(super) fn answers(&mut self, mut tell: impl FnMut(usize, Duration)) -> Result<(), String> {
        let Self { wire, calls, epoch_of_times, .. } = self;
        let now = epoch_of_times.elapsed();
        let mut refused = false;
        wire.each(|stream, heard| match (heard, calls.get_mut(&stream)) {
            (Heard::Data(content), Some(call)) => call.2 |= !content.is_empty(),
            (Heard::End, Some(&mut (who, meant, answered))) => {
                calls.remove(&stream);
                refused |= !answered;
                tell(who, now.saturating_sub(meant));
            }
            (_, None) => {}
        })?;
        // An answer without a message is a refusal.
        if refused { Err("a send was refused".into()) } else { Ok(()) }
    }
}

/// The intended time in a message's text, in nanoseconds since the run's beginning.
pub(super) fn intended(event: &Event) -> Option<Duration> {
    let flaghoist_proto::send::v1::event::Change::MessageCreated(message) = event.change.as_ref()? else { return None };
    let nanos = message.text.strip_prefix("time:")?.get(..20)?.parse().ok()?;
    Some(Duration::from_nanos(nanos))
}

/// What the listening devices have seen.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) delivered: Latencies,
    /// All that were delivered, those of the warming up too.
    pub(super) delivered_in_all: u64,
    pub(super) acknowledged: u64,
    pub(super) broken: Option<String>,
}

impl Seen {
    pub(super) fn new() -> Rc<RefCell<Self>> {
        let seen = Self { delivered: Latencies::new(), delivered_in_all: 0, acknowledged: 0, broken: None };
        Rc::new(RefCell::new(seen))
    }
}

/// Opens a device for each of the people over connection `number` of those who listen, which acknowledge what they hear, chunk by chunk, for as long as the run lasts.
pub(super) async fn listen(
    target: &Target,
    number: usize,
    people: Vec<&Person>,
    epoch_of_times: Instant,
    seen: Rc<RefCell<Seen>>,
) -> Result<impl Future<Output = ()> + use<>, String> {
    let mut wire = Wire::open(target.place(Service::Receiver, number)).await?;
    let mut devices = HashMap::new();
    for person in people {
        let method = wire.named("/flaghoist.receiver.v1.ReceiverService/Receive", &person.token());
        let open = Open { device: "users/me/devices/bench".into(), from: 0, window: 0 };
        let stream = wire.begin(method, &ReceiveRequest { request: Some(Said::Open(open)) });
        devices.insert(stream, BytesMut::new());
    }
    wire.flush().await?;
    Ok(async move {
        let broken = loop {
            if let Err(error) = turn(&mut wire, &mut devices, epoch_of_times, &seen).await {
                break error;
            }
        };
        seen.borrow_mut().broken.get_or_insert(broken);
    })
}

async fn turn(
    wire: &mut Wire,
    devices: &mut HashMap<u32, BytesMut>,
    epoch_of_times: Instant,
    seen: &RefCell<Seen>,
) -> Result<(), String> {
    wire.fill().await?;
    let now = epoch_of_times.elapsed();
    let mut touched = Vec::new();
    let mut ended = false;
    wire.each(|stream, heard| match (heard, devices.get_mut(&stream)) {
        (Heard::Data(content), Some(buffer)) => {
            buffer.extend_from_slice(content);
            touched.push(stream);
        }
        (Heard::End, Some(_)) => ended = true,
        (_, None) => {}
    })?;
    if ended {
        return Err("a stream has ended".into());
    }
    touched.sort_unstable();
    touched.dedup();
    for stream in touched {
        let Some(buffer) = devices.get_mut(&stream) else { continue };
        let mut seen = seen.borrow_mut();
        let mut last: Option<Event> = None;
        while let Some(message) = unframe(buffer) {
            match ReceiveResponse::decode(message).map_err(text)?.response {
                Some(Answer::Event(event)) => {
                    if let Some(intended) = intended(&event) {
                        seen.delivered.add(now.saturating_sub(intended));
                        seen.delivered_in_all += 1;
                    }
                    last = Some(event);
                }
                Some(Answer::Acknowledged(acknowledged)) => seen.acknowledged += acknowledged.positions.len() as u64,
                _ => {}
            }
        }
        if let Some(Event { conversation, epoch, seq, .. }) = last {
            // Each recipient is in one conversation, so the last event covers all. One that the server does not want to hear
            // now is covered by the next.
            let positions = vec![Position { conversation, epoch, seq }];
            wire.say(stream, &ReceiveRequest { request: Some(Said::Ack(Ack { positions })) });
        }
    }
    wire.flush().await
}

/// Registers pairs of people and begins their conversations.
pub(super) async fn pairs(target: &Target, count: usize) -> Vec<(Person, Person, String)> {
    let mut people = target.people(count * 2).await;
    let mut pairs = Vec::with_capacity(count);
    while let (Some(from), Some(to)) = (people.pop(), people.pop()) {
        let conversation = from.direct(&to).await;
        pairs.push((from, to, conversation));
    }
    pairs
}

pub(super) async fn run(options: Options, target: &Target) -> Result<Report, String> {
    let pairs = pairs(target, options.connections * options.senders).await;
    let began = Instant::now();
    let seen = Seen::new();
    let tasks = LocalSet::new();
    if options.online {
        for (number, chunk) in pairs.chunks(options.senders).enumerate() {
            let people = chunk.iter().map(|(_, to, _)| to).collect();
            tasks.spawn_local(listen(target, number, people, began, Rc::clone(&seen)).await?);
        }
    }

    let run = Run::default();
    let first_id = u128::from(rand::random::<u64>()) << 64;
    for (number, chunk) in pairs.chunks(options.senders).enumerate() {
        let senders =
            chunk.iter().map(|(from, _, conversation)| Sender::new(from, conversation, options.bytes)).collect();
        let sending = Sending::open(target, number, senders, began).await?;
        let first_id = first_id + ((number as u128) << 48);
        tasks.spawn_local(press(sending, options.in_flight, first_id, began, run.clone()));
    }
    let mut report = Report::new(if options.online { "sends, recipients online" } else { "sends, recipients offline" });
    tasks
        .run_until(async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            *run.answered.borrow_mut() = Latencies::new();
            let usage = Usage::begin(target);
            let measured = Instant::now();
            tokio::time::sleep(Duration::from_secs(options.seconds)).await;
            let seconds = measured.elapsed().as_secs_f64();
            report.figure("answered sends", run.answered.borrow().count() as f64 / seconds, "/s");
            report.usage(&usage, target);
            report.latencies("answer to a send", &run.answered.borrow());
            run.stopped.set(true);
            // The last answers come in, so that nothing is counted as failed that was only cut off.
            tokio::time::sleep(Duration::from_secs(1)).await;
        })
        .await;
    if let Some(error) = run.failed.take() {
        return Err(why_refused(target, &pairs, error).await);
    }
    if options.online {
        let seen = seen.borrow();
        report.latencies("send to parse", &seen.delivered);
        report.figure("acknowledgements answered", seen.acknowledged as f64, "in all");
        if let Some(broken) = &seen.broken {
            return Err(format!("a stream broke: {broken}"));
        }
    }
    Ok(report)
}

/// What the connections of a run share.
#[derive(Clone)]
pub(super) struct Run {
    pub(super) answered: Rc<RefCell<Latencies>>,
    pub(super) stopped: Rc<Cell<bool>>,
    pub(super) failed: Rc<RefCell<Option<String>>>,
}

impl Default for Run {
    fn default() -> Self {
        let answered = Rc::new(RefCell::new(Latencies::new()));
        Self { answered, stopped: Rc::default(), failed: Rc::default() }
    }
}

/// Keeps `in_flight` sends under way: each answer is followed by the next send of the same sender.
async fn press(mut sending: Sending, in_flight: usize, first_id: u128, began: Instant, run: Run) {
    let mut next_id = first_id;
    let mut due: Vec<usize> = (0..in_flight).collect();
    let pressed = async {
        while !run.stopped.get() || sending.under_way() > 0 {
            let now = began.elapsed();
            while !run.stopped.get() && sending.may_send() {
                let Some(who) = due.pop() else { break };
                sending.send(who, next_id, now);
                next_id += 1;
            }
            sending.flush().await?;
            sending.fill().await?;
            let mut answered = run.answered.borrow_mut();
            sending.answers(|who, took| {
                answered.add(took);
                due.push(who);
            })?;
        }
        Ok(())
    };
    let pressed: Result<(), String> = pressed.await;
    if let Err(error) = pressed {
        run.failed.borrow_mut().get_or_insert(error);
    }
}

/// Asks once more, where the reason of a refusal can be read.
pub(super) async fn why_refused(target: &Target, pairs: &[(Person, Person, String)], error: String) -> String {
    let asked = async {
        let (from, _, conversation) = pairs.first().ok_or("there is no pair")?;
        let mut connection = Connection::open(target.place(Service::Send, 0)).await?;
        Sender::new(from, conversation, 100).send(&mut connection, rand::random()).await
    };
    match asked.await {
        Ok(()) => error,
        Err(reason) => format!("{error}: {reason}"),
    }
}
