//! Saturation: how many sends are answered in a second, each of them durable.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use flaghoist_proto::receiver::v1::receive_request::Request as Said;
use flaghoist_proto::receiver::v1::receive_response::Response as Heard;
use flaghoist_proto::receiver::v1::{Ack, Open, Position, ReceiveRequest};
use flaghoist_proto::send::v1::{CreateMessageRequest, Event};
use tokio::task::LocalSet;

use super::Target;
use super::report::{Latencies, Report, Usage};
use super::wire::{Connection, Method, Template};
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
    method: Method,
    template: Template,
    id_place: usize,
    time_place: usize,
}

const ID: &str = "00000000000000000000000000000000";
const TIME: &str = "time:00000000000000000000";

impl Sender {
    pub(super) fn new(person: &Person, conversation: &str, bytes: usize) -> Self {
        let request = CreateMessageRequest {
            parent: conversation.into(),
            request_id: ID.into(),
            text: format!("{TIME:x<bytes$}"),
            metadata: Default::default(),
        };
        let template = Template::new(&request);
        let method = Method::new("/flaghoist.send.v1.MessageService/CreateMessage", &person.token());
        let (id_place, time_place) = (template.place(ID), template.place(TIME) + "time:".len());
        Self { method, template, id_place, time_place }
    }

    /// Sends one message that says when it was meant to go out.
    pub(super) async fn send(&self, over: &mut Connection, id: u128, nanos: u64) -> Result<bytes::Bytes, String> {
        let id = format!("{id:032x}");
        let time = format!("{nanos:020}");
        let body = self.template.with(&[(self.id_place, id.as_bytes()), (self.time_place, time.as_bytes())]);
        over.call(&self.method, body).await
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
    pub(super) fn new() -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self { delivered: Latencies::new(), delivered_in_all: 0, acknowledged: 0, broken: None }))
    }
}

/// Opens a device that acknowledges what it hears, chunk by chunk, for as long as the run lasts.
pub(super) async fn listen(
    over: &mut Connection,
    person: &Person,
    epoch_of_times: Instant,
    seen: Arc<Mutex<Seen>>,
) -> Result<(), String> {
    let method = Method::new("/flaghoist.receiver.v1.ReceiverService/Receive", &person.token());
    let open = Open { device: "users/me/devices/bench".into(), from: 0, window: 0 };
    let mut stream = over.receive(&method, &ReceiveRequest { request: Some(Said::Open(open)) }).await?;
    tokio::spawn(async move {
        let mut heard = Vec::new();
        let broken = loop {
            if let Err(error) = stream.next(&mut heard).await {
                break error;
            }
            let now = epoch_of_times.elapsed();
            let mut last: Option<Event> = None;
            {
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                for response in heard.drain(..) {
                    match response.response {
                        Some(Heard::Event(event)) => {
                            if let Some(intended) = intended(&event) {
                                seen.delivered.add(now.saturating_sub(intended));
                                seen.delivered_in_all += 1;
                            }
                            last = Some(event);
                        }
                        Some(Heard::Acknowledged(acknowledged)) => {
                            seen.acknowledged += acknowledged.positions.len() as u64;
                        }
                        _ => {}
                    }
                }
            }
            if let Some(Event { conversation, epoch, seq, .. }) = last {
                // Each recipient is in one conversation, so the last event covers all.
                let positions = vec![Position { conversation, epoch, seq }];
                let ack = ReceiveRequest { request: Some(Said::Ack(Ack { positions })) };
                if let Err(error) = stream.say(&ack) {
                    break error;
                }
            }
        };
        seen.lock().unwrap_or_else(PoisonError::into_inner).broken.get_or_insert(broken);
    });
    Ok(())
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
    if options.online {
        for chunk in pairs.chunks(options.senders) {
            let mut connection = Connection::open(target.address).await?;
            for (_, to, _) in chunk {
                listen(&mut connection, to, began, Arc::clone(&seen)).await?;
            }
        }
    }

    let measuring = Rc::new(Cell::new(false));
    let stopped = Rc::new(Cell::new(false));
    let answered = Rc::new(std::cell::RefCell::new(Latencies::new()));
    let failed: Rc<std::cell::RefCell<Option<String>>> = Rc::default();
    let tasks = LocalSet::new();
    let run = u128::from(rand::random::<u64>()) << 64;
    let next_id = Rc::new(Cell::new(run));
    for chunk in pairs.chunks(options.senders) {
        let connection = Connection::open(target.address).await?;
        let senders: Rc<Vec<Sender>> = Rc::new(
            chunk.iter().map(|(from, _, conversation)| Sender::new(from, conversation, options.bytes)).collect(),
        );
        for lane in 0..options.in_flight {
            let (mut connection, senders) = (connection.clone(), Rc::clone(&senders));
            let (measuring, stopped, answered) = (Rc::clone(&measuring), Rc::clone(&stopped), Rc::clone(&answered));
            let (failed, next_id) = (Rc::clone(&failed), Rc::clone(&next_id));
            tasks.spawn_local(async move {
                let sender = &senders[lane % senders.len()];
                while !stopped.get() {
                    next_id.set(next_id.get() + 1);
                    let now = began.elapsed();
                    let nanos = u64::try_from(now.as_nanos()).unwrap_or_default();
                    match sender.send(&mut connection, next_id.get(), nanos).await {
                        Ok(_) if measuring.get() => answered.borrow_mut().add(began.elapsed() - now),
                        Ok(_) => {}
                        Err(error) => {
                            failed.borrow_mut().get_or_insert(error);
                            return;
                        }
                    }
                }
            });
        }
    }
    let mut report = Report::new(if options.online { "sends, recipients online" } else { "sends, recipients offline" });
    tasks
        .run_until(async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            measuring.set(true);
            let usage = Usage::begin(target);
            let measured = Instant::now();
            tokio::time::sleep(Duration::from_secs(options.seconds)).await;
            measuring.set(false);
            let seconds = measured.elapsed().as_secs_f64();
            report.figure("answered sends", answered.borrow().count() as f64 / seconds, "/s");
            report.usage(&usage, target);
            stopped.set(true);
        })
        .await;
    // The last answers come in, so that nothing is counted as failed that was only cut off.
    let _ = tokio::time::timeout(Duration::from_secs(5), tasks).await;
    if let Some(error) = failed.take() {
        return Err(format!("a send failed: {error}"));
    }
    report.latencies("answer to a send", &answered.borrow());
    if options.online {
        let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        report.latencies("send to parse", &seen.delivered);
        report.figure("acknowledgements answered", seen.acknowledged as f64, "in all");
        if let Some(broken) = &seen.broken {
            return Err(format!("a stream broke: {broken}"));
        }
    }
    Ok(report)
}
