//! The work of the bus beside the calls: the connection to NATS, saying what waits, following what interests the pod, hearing, and
//! finding out every second whether words come through.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::client::PublishErrorKind;
use async_nats::{Client, ConnectOptions, Event, ServerAddr, Subscriber};
use flaghoist_runtime::Drain;
use flaghoist_runtime::fault::chain;
use futures_util::StreamExt as _;
use futures_util::stream::{AbortHandle, AbortRegistration, Abortable, BoxStream, SelectAll};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, timeout};

use super::super::address::{Credentials, credentials};
use super::super::word::said_by;
use super::queue::{Put, Waiting};
use super::{Listener, Shared, State, Subject, Word};

/// How often it is found out whether words come through.
const ECHO_EVERY: Duration = Duration::from_secs(1);

/// How long a pod's word to itself may take.
const ECHO_WITHIN: Duration = Duration::from_secs(2);

/// How often the library asks the server for a sign of life; it gives up a connection after two that were not answered.
const PING_EVERY: Duration = Duration::from_secs(2);

/// How long making a connection may take, and the wait between two tries.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
const RECONNECT_AFTER: Duration = Duration::from_millis(250);

/// How many commands may wait in the library. The words wait in our own queue, which knows what to do when it is full.
const COMMANDS_MAX: usize = 128;

/// How many words of one subject may wait to be heard.
const UNHEARD_MAX: usize = 256;

/// How many new subscriptions may wait to be listened to.
const SUBSCRIBED_MAX: usize = 1024;

/// What a subscription brings, with what it is about.
type Voices = SelectAll<BoxStream<'static, (About, async_nats::Message)>>;

/// A new subscription, and what it ends by.
type Voice = (About, Subscriber, AbortRegistration);

/// What a subscription is about.
#[derive(Clone, Copy, Debug)]
enum About {
    Subject(Subject),
    Myself,
}

/// The tasks of the bus, as long as they run.
struct Connection {
    client: Client,
    shared: Arc<Shared>,
    listener: Arc<dyn Listener>,
    /// The number of the last word to myself that was said, and of the last that came back.
    echoes_said: AtomicU64,
    echoes_heard: watch::Sender<u64>,
}

/// Runs the bus until the drain is over.
pub(super) async fn run(servers: Vec<ServerAddr>, shared: Arc<Shared>, listener: Arc<dyn Listener>, drain: Drain) {
    let connected = Arc::new(Notify::new());
    let client = match options(&servers, &shared, &connected).connect(servers).await {
        Ok(client) => client,
        Err(error) => {
            // The connection is made later and again and again; this is a mistake in the address.
            tracing::error!(bus = shared.place, error = %chain(&error), "cannot use the bus");
            return;
        }
    };
    let (voices, new_voices) = mpsc::channel(SUBSCRIBED_MAX);
    let echoes_heard = watch::Sender::new(0);
    let connection = Connection { client, shared, listener, echoes_said: AtomicU64::new(0), echoes_heard };
    tokio::select! {
        () = connection.speak() => {}
        () = connection.follow(voices) => {}
        () = connection.hear(new_voices) => {}
        () = connection.watch(&connected) => {}
        () = drain.ended() => {}
    }
    connection.shared.mark(false);
}

fn options(servers: &[ServerAddr], shared: &Arc<Shared>, connected: &Arc<Notify>) -> ConnectOptions {
    let options = match credentials(servers) {
        Credentials::None => ConnectOptions::new(),
        Credentials::Token(token) => ConnectOptions::with_token(token),
        Credentials::UserPassword(user, password) => ConnectOptions::with_user_and_password(user, password),
    };
    let (shared, connected) = (Arc::clone(shared), Arc::clone(connected));
    options
        .name("flaghoist-receiver")
        .retry_on_initial_connect()
        .max_reconnects(None)
        .reconnect_delay_callback(|_| RECONNECT_AFTER)
        .connection_timeout(CONNECT_WITHIN)
        .ping_interval(PING_EVERY)
        .client_capacity(COMMANDS_MAX)
        .subscription_capacity(UNHEARD_MAX)
        .event_callback(move |event| {
            match event {
                // Whether words come through is found out by saying one.
                Event::Connected => connected.notify_one(),
                Event::Disconnected => shared.mark(false),
                Event::SlowConsumer(_) => shared.figures.slow.increment(1),
                Event::ServerError(error) => tracing::warn!(error = %error, "the bus complains"),
                other => tracing::debug!(event = %other, "bus"),
            }
            std::future::ready(())
        })
}

impl Connection {
    /// Says what waits.
    async fn speak(&self) {
        let shared = &self.shared;
        loop {
            let (subject, body, head) = match shared.queue.next().await {
                Waiting::Word(subject, body) => (subject, body, None),
                Waiting::Head(conversation, seq) => {
                    let body = Word::Head(seq).encode(shared.origin);
                    (Subject::Conversation(conversation), body, Some((conversation, seq)))
                }
            };
            #[expect(clippy::cast_precision_loss, reason = "a queue is far shorter than 2^52")]
            shared.figures.depth.set(shared.queue.depth() as f64);
            match self.client.publish(name(subject), body.into()).await {
                Ok(()) => shared.figures.told.increment(1),
                Err(error) => {
                    let kept = head.map(|(conversation, seq)| shared.queue.note(conversation, seq));
                    if kept != Some(Put::Noted) {
                        shared.figures.lost.increment(1);
                    }
                    if error.kind() != PublishErrorKind::MaxPayloadExceeded {
                        tracing::debug!(error = %error, "not said on the bus");
                        tokio::time::sleep(RECONNECT_AFTER).await;
                    }
                }
            }
        }
    }

    /// Subscribes to what interests the pod, and to nothing else.
    async fn follow(&self, voices: mpsc::Sender<Voice>) {
        let shared = &self.shared;
        let mut subscribed = HashMap::<Subject, AbortHandle>::new();
        let mut state = shared.state.subscribe();
        // The first one: without it nothing is known to work.
        self.subscribe(About::Myself, &voices).await;
        loop {
            shared.interest_news.notified().await;
            // While NATS is away there is no hurry: streams that open are not waiting, and the sweep goes more often.
            if state.wait_for(|state| matches!(state, State::Up(_))).await.is_err() {
                return;
            }
            let (changed, changes) = {
                let mut interest = shared.interest.lock();
                (std::mem::take(&mut interest.changed), interest.changes)
            };
            let mut new = Vec::new();
            for subject in changed {
                if !self.listener.follows(subject) {
                    if let Some(subscription) = subscribed.remove(&subject) {
                        subscription.abort();
                    }
                } else if let Entry::Vacant(place) = subscribed.entry(subject) {
                    let Some(subscription) = self.subscribe(About::Subject(subject), &voices).await else { return };
                    place.insert(subscription);
                    new.push(subject);
                }
            }
            #[expect(clippy::cast_precision_loss, reason = "there are far fewer than 2^52")]
            shared.figures.subscriptions.set(subscribed.len() as f64);
            if !new.is_empty() {
                // Until NATS has taken them. If that is not known, the sweep finds what was missed meanwhile.
                let _taken = self.echo().await;
                self.listener.followed(&new);
            }
            shared.settled.send_replace(changes);
        }
    }

    async fn subscribe(&self, about: About, voices: &mpsc::Sender<Voice>) -> Option<AbortHandle> {
        let subject = match about {
            About::Subject(subject) => name(subject),
            About::Myself => format!("flaghoist.pod.{}", self.shared.pod),
        };
        let subscriber = self.client.subscribe(subject).await.ok()?;
        let (handle, registration) = AbortHandle::new_pair();
        voices.send((about, subscriber, registration)).await.ok()?;
        Some(handle)
    }

    /// Hears what is said.
    async fn hear(&self, mut new: mpsc::Receiver<Voice>) {
        let mut voices = Voices::new();
        loop {
            tokio::select! {
                subscribed = new.recv() => match subscribed {
                    // A subscription that is aborted is dropped, and taken back by that.
                    Some((about, subscriber, registration)) => {
                        voices.push(Abortable::new(subscriber, registration).map(move |message| (about, message)).boxed());
                    }
                    None => return,
                },
                Some((about, message)) = voices.next(), if !voices.is_empty() => self.heard(about, &message.payload),
            }
        }
    }

    fn heard(&self, about: About, body: &[u8]) {
        match about {
            About::Myself => {
                if let Some(Word::Echo(number)) = Word::decode(body) {
                    self.echoes_heard.send_if_modified(|heard| {
                        let newer = number > *heard;
                        *heard = number.max(*heard);
                        newer
                    });
                }
            }
            About::Subject(subject) if !said_by(body, self.shared.origin) => match Word::decode(body) {
                Some(word) => {
                    self.shared.figures.heard.increment(1);
                    self.listener.heard(subject, word);
                }
                None => self.shared.figures.unread.increment(1),
            },
            // My own word.
            About::Subject(_) => {}
        }
    }

    /// Finds out again and again whether words come through.
    async fn watch(&self, connected: &Notify) {
        loop {
            let began = Instant::now();
            let there = self.echo().await;
            if there {
                self.shared.figures.echo_seconds.record(began.elapsed().as_secs_f64());
            }
            self.shared.mark(there);
            let _at_once = timeout(ECHO_EVERY, connected.notified()).await;
        }
    }

    /// Says a word to myself and waits for it.
    async fn echo(&self) -> bool {
        let mut heard = self.echoes_heard.subscribe();
        let number = self.echoes_said.fetch_add(1, Ordering::Relaxed) + 1;
        let come_back = async {
            let subject = format!("flaghoist.pod.{}", self.shared.pod);
            let said = self.client.publish(subject, Word::Echo(number).encode(self.shared.origin).into()).await;
            said.is_ok() && heard.wait_for(|heard| *heard >= number).await.is_ok()
        };
        timeout(ECHO_WITHIN, come_back).await.unwrap_or(false)
    }
}

fn name(subject: Subject) -> String {
    match subject {
        Subject::Conversation(id) => format!("flaghoist.conversation.{id}"),
        Subject::User(id) => format!("flaghoist.user.{id}"),
    }
}
