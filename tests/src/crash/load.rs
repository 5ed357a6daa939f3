//! The people of the crash test: what they do until the server dies, and what they look at afterwards.

use std::sync::Arc;
use std::time::Duration;

use flaghoist_proto::receiver::v1::receive_response::Response as Heard;
use flaghoist_proto::receiver::v1::{MarkReadRequest, OpenFrom, Position};
use flaghoist_proto::send::v1::{CreateMessageRequest, CreateMessageResponse, Event, GetMessageStatusRequest};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::{Code, Status};

use super::Book;
use crate::listening::Listening;
use crate::person::Person;
use crate::wait::eventually_within;

/// The devices of every person.
const DEVICES: [&str; 2] = ["phone", "tablet"];

/// How long a device waits until it opens a stream again, where people go on after an error.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// How long opening a stream may take there; a frozen process answers nothing.
const OPEN_MAX: Duration = Duration::from_secs(5);

/// How the people behave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// How many messages everybody has under way in each of their conversations.
    pub(crate) senders_each: usize,
    /// The longest pause between two sends of one of them.
    pub(crate) pause_max: Duration,
    /// Whether they go on after an error. Otherwise the first one means that the server is gone.
    pub(crate) goes_on: bool,
    /// Whether a send may fail and a stream break off. During a rolling restart they may not: promise 13.
    pub(crate) faults: bool,
    /// Whether a pod gets no more calls before it is told to stop, as `preStop` sees to it in Kubernetes. Otherwise a call may meet a
    /// closed port, again and again; that is the proxy's to say and never a pod's.
    pub(crate) pre_stop: bool,
}

/// Nobody sends and nothing fails: what is there is looked at.
const CALM: Manner =
    Manner { senders_each: 0, pause_max: Duration::ZERO, goes_on: false, faults: false, pre_stop: false };

/// Who takes part, and the conversations with the places of their members.
#[derive(Debug)]
pub(crate) struct Cast {
    pub(crate) people: Vec<Person>,
    pub(crate) conversations: Vec<(String, Vec<usize>)>,
}

/// A send that may have to be repeated.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) sender: usize,
    pub(crate) conversation: String,
    pub(crate) request_id: String,
    pub(crate) text: String,
}

/// The load while it runs.
#[derive(Debug)]
pub(crate) struct Load {
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
    book: Arc<Book>,
}

impl Load {
    /// Tells everybody to stop, or lets them notice that the server is gone, and waits for it.
    pub(crate) async fn end(mut self) -> Result<(), String> {
        self.stop.send_replace(true);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(Duration::from_secs(30), all).await.is_err() {
            return Err("a call hangs although the server is gone, or there again".into());
        }
        self.book.broken()
    }
}

/// Begins to send and to listen.
pub(crate) fn start(cast: &Cast, book: &Arc<Book>, manner: Manner, seed: u64) -> Load {
    let mut random = StdRng::seed_from_u64(seed);
    let mut tasks = JoinSet::new();
    let (stop, stopped) = watch::channel(false);
    for (conversation, members) in &cast.conversations {
        for &member in members {
            for _ in 0..manner.senders_each {
                let person = cast.people[member].clone();
                let (conversation, book) = (conversation.clone(), Arc::clone(book));
                let sender = Sender { place: member, person, conversation, manner, book };
                tasks.spawn(sender.send_until_the_end(StdRng::seed_from_u64(random.random()), stopped.clone()));
            }
        }
        let watcher = Watcher {
            person: cast.people[members[0]].clone(),
            conversation: conversation.clone(),
            goes_on: manner.goes_on,
            book: Arc::clone(book),
        };
        tasks.spawn(watcher.look_until_the_end(stopped.clone()));
    }
    for (place, person) in cast.people.iter().enumerate() {
        for device in DEVICES {
            let reader = Reader { place, device, person: person.clone(), manner, book: Arc::clone(book) };
            tasks.spawn(reader.read_until_the_end(StdRng::seed_from_u64(random.random()), stopped.clone()));
        }
    }
    Load { tasks, stop, book: Arc::clone(book) }
}

/// Someone who sends to one conversation.
struct Sender {
    place: usize,
    person: Person,
    conversation: String,
    manner: Manner,
    book: Arc<Book>,
}

impl Sender {
    async fn send_until_the_end(self, mut random: StdRng, stopped: watch::Receiver<bool>) {
        while !*stopped.borrow() {
            let request_id = crate::request_id();
            let length = random.random_range(0..200);
            let attempt = Attempt {
                sender: self.place,
                conversation: self.conversation.clone(),
                text: format!("{request_id} {}", "x".repeat(length)),
                request_id,
            };
            // Now and then a client is impatient and asks twice at once.
            let again = random.random_bool(0.1);
            let calls = [Some(()), again.then_some(())].into_iter().flatten();
            let answers = futures_util::future::join_all(calls.map(|()| attempt.send(&self.person))).await;
            let mut answered = false;
            let mut lost = None;
            for answer in answers {
                match answer {
                    Ok(answer) => {
                        answered = true;
                        self.book.sent(&attempt, &answer, false);
                    }
                    Err(error) => {
                        check_code(&self.book, &error);
                        lost = Some(error);
                    }
                }
            }
            if !answered {
                self.book.lost(attempt);
            }
            if let Some(error) = lost {
                let met_nobody = !self.manner.pre_stop && error.message().starts_with("upstream connect error");
                if !self.manner.faults && !met_nobody {
                    let broken = "promise 13: a send failed, and nothing that it needs was away";
                    self.book.breaks(format!("{broken}: {error:?}"));
                }
                if !self.manner.goes_on {
                    return;
                }
            }
            tokio::time::sleep(random.random_range(Duration::ZERO..self.manner.pause_max)).await;
        }
    }
}

impl Attempt {
    async fn send(&self, person: &Person) -> Result<CreateMessageResponse, Status> {
        let request = CreateMessageRequest {
            parent: self.conversation.clone(),
            request_id: self.request_id.clone(),
            text: self.text.clone(),
            metadata: Default::default(),
        };
        Ok(person.calls().messages().create_message(request).await?.into_inner())
    }
}

/// A server that dies may say that it is unavailable, or the connection breaks; nothing else is an excuse.
fn check_code(book: &Book, error: &Status) {
    let excuses = [Code::Unavailable, Code::Unknown, Code::Cancelled, Code::ResourceExhausted, Code::DeadlineExceeded];
    if !excuses.contains(&error.code()) {
        // A connection that breaks within an answer is told by tonic as an internal error of the transport.
        if !(error.code() == Code::Internal && std::error::Error::source(error).is_some()) {
            book.breaks(format!("a call failed with {error:?}"));
        }
    }
}

/// A device that listens and acknowledges now and then.
struct Reader {
    place: usize,
    device: &'static str,
    person: Person,
    manner: Manner,
    book: Arc<Book>,
}

impl Reader {
    async fn read_until_the_end(self, mut random: StdRng, stopped: watch::Receiver<bool>) {
        while !*stopped.borrow() {
            let opening = tokio::time::timeout(OPEN_MAX, self.person.opens(self.device).tries()).await;
            if let Ok(Ok(stream)) = opening {
                self.book.opened(self.place, self.device);
                let again = self.read(stream, &mut random, &stopped).await;
                self.book.closed(self.place, self.device);
                if again {
                    continue;
                }
            }
            if !self.manner.goes_on {
                return;
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    /// Reads one stream. Whether the next one is opened at once: the app was started anew, the old stream may be there still.
    async fn read(&self, mut stream: Listening, random: &mut StdRng, stopped: &watch::Receiver<bool>) -> bool {
        let mut drained = false;
        loop {
            let heard = match tokio::time::timeout(Duration::from_millis(500), stream.next_whenever()).await {
                Ok(Ok(heard)) => heard,
                Ok(Err(end)) => {
                    if !self.manner.faults && !drained {
                        self.book.breaks(format!("promise 13: a stream ended without being told to go: {end:?}"));
                    }
                    return false;
                }
                Err(_) if *stopped.borrow() => return false,
                Err(_) => continue,
            };
            drained |= matches!(heard, Heard::Drain(_));
            self.note(&mut stream, &heard, random).await;
            // Those who do not go on read until the server is dead, so that nothing is on its way when it dies.
            if self.manner.goes_on && *stopped.borrow() {
                return false;
            }
            if random.random_bool(0.002) {
                return true;
            }
        }
    }

    async fn note(&self, stream: &mut Listening, heard: &Heard, random: &mut StdRng) {
        match heard {
            Heard::Event(event) => {
                self.book.heard(self.place, self.device, event);
                if random.random_bool(0.3) {
                    self.book.says_ack(self.place, self.device, event);
                    stream.says_ack(event).await;
                }
                if random.random_bool(0.05) {
                    self.mark_read(event).await;
                }
            }
            Heard::Acknowledged(acknowledged) => {
                self.book.acknowledged(self.place, self.device, &acknowledged.positions);
            }
            Heard::CaughtUp(_) => self.book.caught_up(self.place, self.device),
            Heard::Reset(reset) => self.book.breaks(format!("promise 12: nothing was restored, yet {reset:?}")),
            _ => {}
        }
    }

    async fn mark_read(&self, event: &Event) {
        let position = Position { conversation: event.conversation.clone(), epoch: event.epoch, seq: event.seq };
        let before = self.book.watermarks(&event.conversation);
        let request = MarkReadRequest { position: Some(position) };
        if let Ok(answer) = self.person.calls().receiver().mark_read(request).await {
            let receipt = answer.into_inner().receipt.unwrap_or_default();
            if receipt.read_seq < event.seq {
                self.book.breaks(format!("promise 6: read up to {}, answered {receipt:?}", event.seq));
            }
            self.book.saw_receipts(&before, &[receipt]);
        }
    }
}

/// Someone who looks at the watermarks of one conversation.
struct Watcher {
    person: Person,
    conversation: String,
    goes_on: bool,
    book: Arc<Book>,
}

impl Watcher {
    async fn look_until_the_end(self, stopped: watch::Receiver<bool>) {
        while !*stopped.borrow() {
            match self.look().await {
                // There is no message yet.
                Err(error) if error.code() == Code::NotFound => {}
                Err(_) if !self.goes_on => return,
                Err(_) | Ok(()) => {}
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    async fn look(&self) -> Result<(), Status> {
        let before = self.book.watermarks(&self.conversation);
        // The second event is the first message: the first one begins the conversation.
        let request = GetMessageStatusRequest { name: format!("{}/messages/2", self.conversation) };
        let answer = self.person.calls().messages().get_message_status(request).await?.into_inner();
        self.book.saw_receipts(&before, &answer.receipts);
        Ok(())
    }
}

/// Repeats every send that got no answer, until it gets one.
pub(crate) async fn repeat_unanswered(cast: &Cast, book: &Book) -> Result<(), String> {
    for attempt in book.unanswered() {
        let person = &cast.people[attempt.sender];
        let answer = eventually_within(Duration::from_secs(20), "a repeated send is answered", async || {
            attempt.send(person).await.ok()
        })
        .await;
        book.sent(&attempt, &answer, true);
    }
    book.broken()
}

/// Compares what is stored now with what was answered.
pub(crate) async fn check_answered(cast: &Cast, book: &Arc<Book>) -> Result<(), String> {
    for (conversation, members) in &cast.conversations {
        let person = &cast.people[members[0]];
        book.compare(conversation, &person.reads_all(conversation).await);
        let (conversation, book) = (conversation.clone(), Arc::clone(book));
        let watcher = Watcher { person: person.clone(), conversation, goes_on: false, book };
        match watcher.look().await {
            Err(error) if error.code() != Code::NotFound => {
                return Err(format!("watermarks cannot be read: {error:?}"));
            }
            _ => {}
        }
    }
    book.broken()
}

/// Lets every device listen until it has heard everything, and acknowledge it. After a long run that takes longer than a token lives.
pub(crate) async fn listen_to_the_end(cast: &mut Cast, book: &Arc<Book>) -> Result<(), String> {
    for place in 0..cast.people.len() {
        cast.refresh_token(place).await?;
        let person = &cast.people[place];
        for device in DEVICES {
            let manner = CALM;
            let reader = Reader { place, device, person: person.clone(), manner, book: Arc::clone(book) };
            let mut stream = person.opens(device).open().await;
            book.opened(place, device);
            loop {
                match stream.next().await {
                    Ok(Heard::Event(event)) => {
                        book.heard(place, device, &event);
                        book.says_ack(place, device, &event);
                        stream.says_ack(&event).await;
                    }
                    Ok(Heard::CaughtUp(_)) => break,
                    Ok(heard) => reader.note(&mut stream, &heard, &mut StdRng::seed_from_u64(0)).await,
                    Err(end) => return Err(format!("a stream ended: {end:?}")),
                }
            }
            for (conversation, _) in cast.conversations.iter().filter(|(_, members)| members.contains(&place)) {
                let last_seq = person.sees(conversation).await.last_seq;
                let heard = book.heard_through(place, device, conversation);
                if heard != last_seq {
                    return Err(format!("promise 4: {device} of person {place} heard {heard} of {last_seq}"));
                }
            }
        }
    }
    book.broken()
}

/// Lets a new device of everyone hear everything from the beginning: `seq` must be dense from 1 on.
pub(crate) async fn check_from_the_beginning(cast: &mut Cast, book: &Arc<Book>) -> Result<(), String> {
    for place in 0..cast.people.len() {
        cast.refresh_token(place).await?;
        let person = &cast.people[place];
        let mut stream = person.opens("new").from(OpenFrom::Beginning).open().await;
        let events = stream.until_caught_up_acking().await;
        for event in &events {
            book.says_ack(place, "new", event);
            book.heard(place, "new", event);
        }
        for (conversation, _) in cast.conversations.iter().filter(|(_, members)| members.contains(&place)) {
            let last_seq = person.sees(conversation).await.last_seq;
            let count = events.iter().filter(|event| &event.conversation == conversation).count() as u64;
            if count != last_seq {
                return Err(format!("promise 3: {conversation} ends at {last_seq} and has {count} events"));
            }
        }
    }
    book.broken()
}
