//! The one task of a stream: it hears what the device says, makes acknowledgements durable, reads the log when there is room, and
//! keeps the time. What it has to say it leaves in the stream, from where the transport takes it.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flaghoist_runtime::token::TokenError;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, Stream as Requests, StreamExt as _};
use tokio::time::Instant;

use crate::bus::State;
use crate::error::Error;
use crate::live::{End, Live};
use crate::log::{HeadsOf, LogError};
use crate::opening::{self, From, acknowledge};
use crate::service::{Receiver, passing};
use crate::store::Write;
use crate::stream::{Position, Read, ReadAnswer, Said};

/// The shortest and the longest wait before something that failed is tried again.
const BACKOFF: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// What a device says.
#[derive(Debug)]
pub(crate) enum Request {
    /// It has got everything up to these positions.
    Acknowledge(Vec<Position>),
    /// Its person is typing.
    Typing(flaghoist_runtime::names::ConversationId),
    /// It is there.
    Heartbeat,
    /// A new access token.
    RefreshToken(String),
}

/// What comes from a device; an error ends its stream.
pub(crate) type Incoming = Pin<Box<dyn Requests<Item = Result<Request, Error>> + Send>>;

/// What the task does beside listening. Each lives in a box while it is done, so that an idle stream is small.
type Work<T> = Option<BoxFuture<'static, T>>;

/// Runs a registered stream until it has ended, and lets it go.
pub(crate) async fn drive(receiver: Arc<Receiver>, live: Arc<Live>, from: From, incoming: Option<Incoming>) {
    let opening = {
        let (receiver, live) = (Arc::clone(&receiver), Arc::clone(&live));
        async move { opening::open(&receiver, &live, from).await }.boxed()
    };
    let opened = tokio::select! {
        opened = opening => opened,
        () = ended(&live) => Ok(()),
    };
    match opened {
        Ok(()) => {
            if receiver.drain.is_started() {
                receiver.drain_stream(&live);
            }
            // What was revoked before the stream could be found has told nobody.
            receiver.end_if_revoked(&live);
            live.change(|state| state.heard_at = Instant::now());
            Task::new(Arc::clone(&receiver), Arc::clone(&live), incoming).run().await;
        }
        Err(error) => live.fail(error),
    }
    let seen = live.look(|state| state.stream.outbox.is_empty());
    receiver.hub.remove(&live);
    if receiver.store.shared() {
        let streams = vec![(live.key.clone(), live.id)];
        let _lost = receiver.write(Write::Present { streams, open: false }).await;
    }
    if seen {
        // Only a note; the next minute's would have said the same.
        let _lost = receiver.write(Write::Touch { keys: vec![live.key.clone()] }).await;
    }
}

async fn ended(live: &Live) {
    while !live.look(|state| state.ended()) {
        live.work().await;
    }
}

/// What the log answers to a question: the epoch and the events.
type Answered = Result<(u64, ReadAnswer), LogError>;

struct Task {
    receiver: Arc<Receiver>,
    live: Arc<Live>,
    incoming: Option<Incoming>,
    committing: Work<(Vec<Position>, Result<(), Error>)>,
    reading: Work<(Read, Answered)>,
    asking_receipts: Work<Result<(), Error>>,
    asking_credit: Work<Result<Vec<Position>, Error>>,
    /// When the positions are read again because there is no credit, and the wait after that.
    credit_at: Option<Instant>,
    credit_backoff: Duration,
    backoff: Duration,
    /// When what failed is tried again.
    retry_at: Option<Instant>,
}

impl Task {
    fn new(receiver: Arc<Receiver>, live: Arc<Live>, incoming: Option<Incoming>) -> Self {
        Self {
            receiver,
            live,
            incoming,
            committing: None,
            reading: None,
            asking_receipts: None,
            asking_credit: None,
            credit_at: None,
            credit_backoff: BACKOFF,
            backoff: BACKOFF,
            retry_at: None,
        }
    }

    async fn run(&mut self) {
        let sleep = tokio::time::sleep_until(Instant::now());
        tokio::pin!(sleep);
        loop {
            let Some(wake_at) = self.keep_time() else { return };
            self.begin_work();
            if wake_at < sleep.deadline() || sleep.is_elapsed() {
                sleep.as_mut().reset(wake_at);
            }
            tokio::select! {
                request = next(&mut self.incoming) => self.hear(request).await,
                (positions, result) = work(&mut self.committing) => self.committed(&positions, result),
                (read, result) = work(&mut self.reading) => self.read(read, result),
                result = work(&mut self.asking_receipts) => {
                    if let Err(error) = result {
                        tracing::debug!(error = %error, "receipts not read yet");
                        self.live.tend(|state| state.stream.outbox.miss_receipts());
                        self.try_later();
                    }
                }
                result = work(&mut self.asking_credit) => match result {
                    Ok(positions) => self.live.tend(|state| state.stream.acked_elsewhere(&positions)),
                    Err(error) => tracing::debug!(error = %error, "positions not read again yet"),
                },
                () = self.live.work() => {}
                () = &mut sleep => {}
            }
        }
    }

    /// Does what is due by now. Answers when the next thing is; nothing when the stream has ended.
    fn keep_time(&mut self) -> Option<Instant> {
        let (heartbeat, silence) = (self.receiver.settings.heartbeat, self.receiver.settings.silence);
        let now = Instant::now();
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
        }
        let (committing, retry_at) = (self.committing.is_some(), self.retry_at);
        let credit_at = self.keep_credit(now);
        let hears_calls = self.incoming.is_none() && self.receiver.store.shared();
        let bus = hears_calls.then(|| *self.receiver.bus.state().borrow());
        self.live.tend(|state| {
            if state.ended() {
                return None;
            }
            // Its calls may go to other pods, and while the bus is away nothing is heard of them.
            let heard_at = match bus {
                Some(State::Down) => now,
                Some(State::Up(since)) => state.heard_at.max(since),
                None => state.heard_at,
            };
            if now >= heard_at + silence {
                state.end(End::Failed(Error::Silent(silence)));
                return None;
            }
            let lives = state.caller.expires_at.duration_since(SystemTime::now()).unwrap_or_default();
            if lives.is_zero() {
                state.end(End::Failed(TokenError::Expired.into()));
                return None;
            }
            if state.drained_at.is_some_and(|at| at <= now) && !committing && !state.stream.has_acks() {
                state.end(End::Done);
                return None;
            }
            let speaks = !state.stream.outbox.is_empty();
            if now >= state.said_at + heartbeat && !speaks {
                state.stream.outbox.push(Said::Heartbeat);
                state.said_at = now;
            }
            // While something waits for the transport, a sign of life would only wait behind it.
            let say_at = if speaks { now + heartbeat } else { state.said_at + heartbeat };
            let drained_at = state.drained_at.map(|at| at.max(now + Duration::from_millis(50)));
            let due = [Some(say_at), Some(heard_at + silence), Some(now + lives), drained_at, retry_at, credit_at];
            due.into_iter().flatten().min()
        })
    }

    /// Without credit, and with pods that may take acknowledgements in this one's place, the positions are read again after a while.
    /// Answers when.
    fn keep_credit(&mut self, now: Instant) -> Option<Instant> {
        if !self.receiver.store.shared() || !self.live.look(|state| state.stream.out_of_credit()) {
            (self.credit_at, self.credit_backoff) = (None, BACKOFF);
            return None;
        }
        let credit_at = *self.credit_at.get_or_insert(now + self.credit_backoff);
        if credit_at > now || self.asking_credit.is_some() {
            return Some(credit_at.max(now + BACKOFF));
        }
        let (receiver, key) = (Arc::clone(&self.receiver), self.live.key.clone());
        self.asking_credit = Some(async move { Ok(receiver.store.positions(&key).await?) }.boxed());
        self.credit_backoff = (self.credit_backoff * 2).min(BACKOFF_MAX);
        self.credit_at = Some(now + self.credit_backoff);
        self.credit_at
    }

    /// Begins whatever can be done now.
    fn begin_work(&mut self) {
        if self.retry_at.is_some() {
            return;
        }
        let live = &self.live;
        if self.committing.is_none() && live.look(|state| state.stream.has_acks()) {
            let positions = live.tend(|state| state.stream.take_acks());
            let (receiver, live) = (Arc::clone(&self.receiver), Arc::clone(live));
            self.committing = Some(
                async move {
                    let result = acknowledge(&receiver, &live, positions.clone()).await;
                    (positions, result)
                }
                .boxed(),
            );
        }
        let reads = |state: &crate::live::State| state.stream.wants_read() && state.drained_at.is_none();
        if self.reading.is_none()
            && live.look(reads)
            && let Some(read) = live.tend(|state| state.stream.next_read())
        {
            let (receiver, user) = (Arc::clone(&self.receiver), live.user());
            self.reading = Some(
                async move {
                    // The semaphore is never closed.
                    let _turn = receiver.reads.acquire().await;
                    (read, receiver.log.events(user, read).await)
                }
                .boxed(),
            );
        }
        if self.asking_receipts.is_none() && live.tend(|state| state.stream.take_receipts_missed()) {
            self.asking_receipts = Some(all_receipts(Arc::clone(&self.receiver), Arc::clone(live)).boxed());
        }
    }

    /// The device said something, or will not say anything more.
    async fn hear(&mut self, request: Option<Result<Request, Error>>) {
        let live = &self.live;
        let Some(request) = request else {
            // It only listens from now on, and is heard by its calls.
            self.incoming = None;
            return;
        };
        live.tend(|state| state.heard_at = Instant::now());
        let done = match request {
            Ok(Request::Acknowledge(positions)) => live
                .tend(|state| state.stream.acknowledge(&positions))
                .map_err(|refused| Error::refused(refused, positions.first().map(|position| position.conversation))),
            Ok(Request::Heartbeat) => Ok(()),
            Ok(Request::Typing(conversation)) => {
                let typing = self.receiver.typing(live.user(), conversation).boxed().await;
                // Not worth a stream: said too often, or in a conversation that was just left.
                typing.or_else(|error| {
                    tracing::debug!(error = %error, "typing not told");
                    Ok(())
                })
            }
            Ok(Request::RefreshToken(token)) => refresh(&self.receiver, live, &token).boxed().await,
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            live.tend(|state| state.end(End::Failed(error)));
        }
    }

    fn committed(&mut self, positions: &[Position], result: Result<(), Error>) {
        match result {
            Ok(()) => {
                self.backoff = BACKOFF;
                self.live.tend(|state| state.stream.acked(positions));
                self.receiver.receipts.note(self.live.user(), positions);
            }
            Err(error) if passing(&error) => {
                self.live.tend(|state| state.stream.acks_failed(positions));
                self.try_later();
            }
            Err(error) => self.live.tend(|state| state.end(End::Failed(error))),
        }
    }

    fn read(&mut self, read: Read, result: Answered) {
        match result {
            Ok((epoch, answer)) => {
                let useful = self.live.tend(|state| {
                    if epoch != state.stream.epoch() {
                        state.drain(Duration::ZERO, Duration::ZERO);
                        return true;
                    }
                    state.stream.read(read, answer)
                });
                if useful {
                    self.backoff = BACKOFF;
                } else {
                    self.try_later();
                }
            }
            Err(LogError::NotFound) => {
                self.receiver.hub.leave(read.conversation, &self.live);
                self.live.tend(|state| state.stream.read_gone(read));
            }
            Err(error) => {
                tracing::debug!(error = %error, "log not read yet");
                self.live.tend(|state| state.stream.read_failed(read));
                self.try_later();
            }
        }
    }

    fn try_later(&mut self) {
        self.retry_at = Some(Instant::now() + self.backoff);
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
    }
}

/// From now on the stream lives by another token of the same person.
async fn refresh(receiver: &Receiver, live: &Live, token: &str) -> Result<(), Error> {
    let caller = receiver.verifier.verify_fresh(token).await?;
    if caller.user != Some(live.user()) {
        return Err(TokenError::Invalid("belongs to someone else").into());
    }
    // The stream was opened with a proof of the key, or without any: what comes in it is of the same kind.
    if live.look(|state| state.caller.key_thumbprint != caller.key_thumbprint) {
        return Err(TokenError::Invalid("is not bound to the key of the token that opened the stream").into());
    }
    live.tend(|state| state.caller = caller);
    Ok(())
}

/// Asks for all receipts again, a few conversations at a time and only as the device takes them.
async fn all_receipts(receiver: Arc<Receiver>, live: Arc<Live>) -> Result<(), Error> {
    let mut page = String::new();
    loop {
        let of = HeadsOf { receipts_since: Some(UNIX_EPOCH), page_size: 8, page, ..HeadsOf::default() };
        let answer = receiver.log.heads(live.user(), of).await?;
        while !live.look(|state| state.ended() || state.stream.outbox.is_empty()) {
            tokio::time::sleep(BACKOFF).await;
        }
        live.change(|state| {
            for head in &answer.heads {
                for (member, watermarks) in &head.receipts {
                    state.stream.outbox.receipt(head.conversation, *member, *watermarks);
                }
            }
        });
        page = answer.next_page;
        if page.is_empty() || live.look(|state| state.ended()) {
            return Ok(());
        }
    }
}

async fn next(incoming: &mut Option<Incoming>) -> Option<Result<Request, Error>> {
    match incoming {
        Some(incoming) => incoming.next().await,
        None => std::future::pending().await,
    }
}

async fn work<T>(work: &mut Work<T>) -> T {
    match work {
        Some(running) => {
            let done = running.await;
            *work = None;
            done
        }
        None => std::future::pending().await,
    }
}
