//! What all calls and streams of the receiver share, and the work that goes on beside them.

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use flaghoist_runtime::batch::{Batcher, Refused};
use flaghoist_runtime::names::{ConversationId, UserId};
use flaghoist_runtime::page::PageKey;
use flaghoist_runtime::token::TokenError;
use flaghoist_runtime::{Caller, Drain, Verifier};
use governor::{Quota, RateLimiter};
use tokio::sync::Semaphore;
use tokio::sync::broadcast::error::RecvError;

use crate::bus::{Bus, State, Subject, Word};
use crate::error::Error;
use crate::hearing::Hearing;
use crate::hub::{Hub, LINGER, jitter};
use crate::live::Live;
use crate::log::Log;
use crate::receipts::Receipts;
use crate::settings::Settings;
use crate::store::{DeviceKey, Store, StoreError, Write, Written};
use crate::stream::{AckRefused, Position};
use crate::sweep::Sweep;

/// How many changes of devices may wait to be written.
const WRITES_WAITING_MAX: usize = 65_536;

/// How many of them are written at once.
const WRITES_BATCH_MAX: usize = 512;

/// How far apart the commits of acknowledgements begin: a device does not wait for them, and a commit costs what a message costs. Far below
/// the time in which a device at full speed uses up its credit.
const PACE: Duration = Duration::from_millis(10);

/// The same in a store that pods share, where each pod commits by itself, over a network.
const PACE_SHARED: Duration = Duration::from_millis(20);

/// How many streams read the log at once, for each processor, and in all at least: devices that come back together to long backlogs
/// must leave room for live delivery, which waits behind whatever is being read.
const READS_EACH: usize = 2;
const READS_MIN: usize = 4;

/// How many streams are being opened at once.
const OPENINGS_AT_ONCE: usize = 64;

/// How many devices are touched by one change.
const TOUCHED_MAX: usize = 512;

/// How often live devices are noted as seen.
const TOUCHED_EVERY: Duration = Duration::from_secs(60);

/// How often unused devices are looked for, and how many are removed at once.
const EXPIRED_EVERY: Duration = Duration::from_secs(3600);
const EXPIRED_MAX: u32 = 200;

/// How long revocations are collected before the streams are looked through.
const REVOCATIONS_COLLECTED: Duration = Duration::from_millis(100);

/// How often all streams are looked through for revoked tokens in any case.
const REVOCATIONS_SWEPT_EVERY: Duration = Duration::from_secs(2);

type Writer = Batcher<Write, Result<Written, StoreError>>;

/// What the receiver works with.
pub(crate) struct Parts {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) log: Log,
}

type Typists = governor::DefaultKeyedRateLimiter<UserId>;

/// The receiver.
pub(crate) struct Receiver {
    pub(crate) settings: Settings,
    pub(crate) hub: Arc<Hub>,
    pub(crate) log: Log,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) receipts: Arc<Receipts>,
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) drain: Drain,
    pub(crate) page_key: PageKey,
    pub(crate) reads: Semaphore,
    pub(crate) openings: Semaphore,
    writes: Writer,
    typists: Typists,
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Receiver").field("hub", &self.hub).finish_non_exhaustive()
    }
}

impl Receiver {
    /// A receiver with its work going on beside it until the drain is over.
    pub(crate) fn start(
        settings: Settings,
        parts: Parts,
        verifier: Arc<Verifier>,
        drain: Drain,
        page_key: PageKey,
    ) -> Arc<Self> {
        let Parts { store, bus, log } = parts;
        let writes = writer(&store);
        let per_minute = NonZeroU32::new(settings.typing_per_minute).unwrap_or(NonZeroU32::MIN);
        let burst = NonZeroU32::new(per_minute.get().min(10)).unwrap_or(NonZeroU32::MIN);
        let receiver = Arc::new(Self {
            hub: Arc::new(Hub::new(Arc::clone(&bus))),
            log,
            store,
            bus,
            receipts: Arc::default(),
            verifier,
            drain,
            page_key,
            reads: Semaphore::new(reads_at_once()),
            openings: Semaphore::new(OPENINGS_AT_ONCE),
            writes,
            typists: RateLimiter::keyed(Quota::per_minute(per_minute).allow_burst(burst)),
            settings,
        });
        receiver.bus.start(Arc::new(Hearing(Arc::clone(&receiver))), receiver.drain.clone());
        let receipts = Arc::clone(&receiver.receipts);
        tokio::spawn(receipts.run(receiver.log.clone(), Arc::clone(&receiver.hub), receiver.drain.clone()));
        tokio::spawn(Sweep::default().run(Arc::clone(&receiver)));
        tokio::spawn(Arc::clone(&receiver).watch_revocations());
        tokio::spawn(Arc::clone(&receiver).watch_drain());
        tokio::spawn(Arc::clone(&receiver).keep_devices());
        if receiver.store.shared() {
            tokio::spawn(Arc::clone(&receiver).watch_replaced());
        }
        receiver
    }

    /// Makes one change durable, together with whatever else is to be written.
    pub(crate) async fn write(&self, write: Write) -> Result<Written, Error> {
        Ok(self.writes.submit(write).await??)
    }

    /// Tells the other pods that the row of a device has become another one.
    pub(crate) fn device_changed(&self, key: &DeviceKey) {
        if self.bus.shared() {
            self.bus.tell(Subject::User(key.user), &Word::Device(key.device.clone()));
        }
    }

    /// Moves positions of a device, by a call that is not on its stream. Answers what is durable then.
    pub(crate) async fn acknowledge(
        &self,
        key: &DeviceKey,
        positions: Vec<Position>,
        caller: Arc<Caller>,
    ) -> Result<Vec<Position>, Error> {
        let live = self.hub.of_device(key);
        if positions.is_empty() && live.is_some() {
            // A heartbeat.
            return Ok(positions);
        }
        let checked = live.as_ref().filter(|live| live.look(|state| state.stream.epoch() != 0));
        let found = match checked.map(|live| live.look(|state| state.stream.check(&positions))) {
            Some(Ok(())) => Ok(()),
            // The stream may not have heard of a conversation that is there.
            Some(Err(_)) | None => self.check(key.user, &positions).await?,
        };
        found.map_err(|refused| Error::refused(refused, positions.first().map(|position| position.conversation)))?;
        let write = Write::Acknowledge { key: key.clone(), stream: None, positions: positions.clone() };
        match self.write(write).await? {
            Written::NoDevice => return Err(Error::DeviceNotFound(device_name(key))),
            Written::Done | Written::Opened(_) | Written::LimitReached | Written::Replaced => {}
        }
        // Asked again: the stream may have been opened meanwhile, and read its positions before they were written.
        if let Some(live) = self.hub.of_device(key) {
            live.change(|state| state.stream.acked_elsewhere(&positions));
        } else if self.bus.shared() {
            let word = Word::Acknowledged(key.device.clone(), positions.clone(), caller);
            self.bus.tell(Subject::User(key.user), &word);
        }
        self.receipts.note(key.user, &positions);
        Ok(positions)
    }

    /// Whether the person may acknowledge these positions, by the log.
    async fn check(&self, user: UserId, positions: &[Position]) -> Result<Result<(), AckRefused>, Error> {
        if positions.is_empty() {
            return Ok(Ok(()));
        }
        let mut conversations = positions.iter().map(|position| position.conversation).collect::<Vec<_>>();
        conversations.sort_unstable();
        conversations.dedup();
        let of = crate::log::HeadsOf { conversations, page_size: 1000, ..Default::default() };
        let page = match self.log.heads(user, of).await {
            Err(crate::log::LogError::NotFound) => return Ok(Err(AckRefused::NotFound)),
            page => page?,
        };
        for position in positions {
            let Some(head) = page.heads.iter().find(|head| head.conversation == position.conversation) else {
                return Ok(Err(AckRefused::NotFound));
            };
            if position.epoch != page.epoch || position.seq > head.last_seq {
                return Ok(Err(AckRefused::PositionInvalid));
            }
        }
        Ok(Ok(()))
    }

    /// Says that a person is typing.
    pub(crate) async fn typing(&self, user: UserId, conversation: ConversationId) -> Result<(), Error> {
        if let Err(not_until) = self.typists.check_key(&user) {
            use governor::clock::Clock as _;
            let wait = not_until.wait_time_from(governor::clock::DefaultClock::default().now());
            return Err(Error::TypingTooOften(wait));
        }
        let known = self.hub.of(user).iter().any(|live| live.look(|state| state.stream.member(conversation)));
        if !known && !self.log.head(user, conversation).await?.1.is_some_and(|head| head.member) {
            return Err(Error::ConversationNotFound(conversation.name()));
        }
        self.hub.typing_here(conversation, user);
        Ok(())
    }

    /// Ends the streams whose token, session or person was revoked.
    async fn watch_revocations(self: Arc<Self>) {
        let mut revocations = self.verifier.revocations();
        let mut sweeps = tokio::time::interval(REVOCATIONS_SWEPT_EVERY);
        loop {
            tokio::select! {
                revocation = revocations.recv() => match revocation {
                    Ok(_) | Err(RecvError::Lagged(_)) => {
                        // Every pod learns of revocations from auth by itself.
                        tokio::time::sleep(REVOCATIONS_COLLECTED).await;
                        // All streams are looked through below, whatever was revoked.
                        while !matches!(revocations.try_recv(), Err(tokio::sync::broadcast::error::TryRecvError::Empty | tokio::sync::broadcast::error::TryRecvError::Closed)) {}
                    }
                    Err(RecvError::Closed) => return,
                },
                _ = sweeps.tick() => {}
                () = self.drain.ended() => return,
            }
            for live in self.hub.all() {
                self.end_if_revoked(&live);
            }
        }
    }

    /// Ends a stream if its token was revoked.
    pub(crate) fn end_if_revoked(&self, live: &Live) {
        let caller = live.look(|state| Arc::clone(&state.caller));
        if self.verifier.revoked(&caller) {
            live.fail(TokenError::Revoked.into());
        }
    }

    /// Tells every stream to come back elsewhere when the server stops.
    async fn watch_drain(self: Arc<Self>) {
        self.drain.started().await;
        for live in self.hub.all() {
            self.drain_stream(&live);
        }
    }

    /// Tells one stream to come back elsewhere.
    pub(crate) fn drain_stream(&self, live: &Live) {
        live.change(|state| state.drain(jitter(self.settings.reconnect_spread), LINGER));
        live.nudge();
    }

    /// Notes which devices are there, and removes those that have not been for long.
    async fn keep_devices(self: Arc<Self>) {
        let mut touches = tokio::time::interval(TOUCHED_EVERY);
        let mut expiries = tokio::time::interval(EXPIRED_EVERY);
        loop {
            tokio::select! {
                _ = touches.tick() => self.touch_live().await,
                _ = expiries.tick() => self.expire().await,
                () = self.drain.started() => return,
            }
            self.typists.retain_recent();
        }
    }

    async fn touch_live(&self) {
        let all = self.hub.all();
        // Only those that have heard everything: what they are told when they come back begins at their last sight.
        let up_to_date = all.iter().filter(|live| live.look(|state| state.stream.outbox.is_empty()));
        let touches = up_to_date.map(|live| live.key.clone()).collect::<Vec<_>>();
        let touches = touches.chunks(TOUCHED_MAX).map(|keys| Write::Touch { keys: keys.to_vec() });
        let streams =
            all.iter().filter(|_| self.store.shared()).map(|live| (live.key.clone(), live.id)).collect::<Vec<_>>();
        let present =
            streams.chunks(TOUCHED_MAX).map(|streams| Write::Present { streams: streams.to_vec(), open: true });
        for write in touches.chain(present) {
            if let Err(error) = self.write(write).await {
                tracing::warn!(error = %error, "devices not noted as seen");
            }
        }
    }

    /// Ends the streams here whose device names another one now: it listens on another pod, or is gone. Otherwise they notice when they
    /// acknowledge.
    pub(crate) async fn end_replaced(&self, lives: &[Arc<Live>]) -> Result<(), Error> {
        for lives in lives.chunks(TOUCHED_MAX) {
            let keys = lives.iter().map(|live| live.key.clone()).collect::<Vec<_>>();
            let named = self.store.streams(&keys).await?;
            for (live, named) in lives.iter().zip(named) {
                match named {
                    Some(named) if named == live.id => {}
                    // One that is being opened is not named yet.
                    _ if !live.named() => {}
                    Some(_) => live.fail(Error::Replaced),
                    None => live.fail(Error::DeviceNotFound(device_name(&live.key))),
                }
            }
        }
        Ok(())
    }

    /// Looks for replaced streams: every minute, and when the bus is back, for what it said meanwhile was lost.
    async fn watch_replaced(self: Arc<Self>) {
        let mut looks = tokio::time::interval(TOUCHED_EVERY);
        let mut bus = self.bus.state();
        loop {
            tokio::select! {
                _ = looks.tick() => {}
                Ok(()) = bus.changed() => {
                    if *bus.borrow_and_update() == State::Down {
                        continue;
                    }
                }
                () = self.drain.started() => return,
            }
            if let Err(error) = self.end_replaced(&self.hub.all()).await {
                tracing::warn!(error = %error, "replaced streams not looked for");
            }
        }
    }

    async fn expire(&self) {
        let before = SystemTime::now() - self.settings.device_expiry;
        loop {
            match self.store.expire(before, EXPIRED_MAX).await {
                Ok(expired) if expired.is_empty() => return,
                Ok(expired) => tracing::info!(devices = expired.len(), "unused devices removed"),
                Err(error) => {
                    tracing::warn!(error = %flaghoist_runtime::fault::chain(&error), "unused devices not removed");
                    return;
                }
            }
        }
    }
}

/// How many streams read the log at once.
fn reads_at_once() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    (READS_EACH * processors).max(READS_MIN)
}

/// What collects changes and has them written.
fn writer(store: &Arc<dyn Store>) -> Writer {
    let store = Arc::clone(store);
    let pace = if store.shared() { PACE_SHARED } else { PACE };
    Batcher::paced("receiver_writes", WRITES_WAITING_MAX, WRITES_BATCH_MAX, pace, move |batch: Vec<Write>| {
        let store = Arc::clone(&store);
        async move {
            match store.write(&batch, SystemTime::now()).await {
                Ok(answers) => answers.into_iter().map(Ok).collect(),
                Err(error) => batch.iter().map(|_| Err(error.clone())).collect(),
            }
        }
    })
}

/// The resource name of a device.
pub(crate) fn device_name(key: &DeviceKey) -> String {
    flaghoist_runtime::names::device_name(key.user, &key.device)
}

/// Whether trying again may help.
pub(crate) fn passing(error: &Error) -> bool {
    match error {
        Error::Queue(Refused::Overloaded) => true,
        Error::Store(error) => error.transient,
        _ => false,
    }
}
