//! A receiver with a log beside it, and people with devices who listen.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use flaghoist_proto::receiver::v1::delivery_service_client::DeliveryServiceClient;
use flaghoist_proto::receiver::v1::receive_response::Response as Said;
use flaghoist_proto::receiver::v1::receiver_service_client::ReceiverServiceClient;
use flaghoist_proto::receiver::v1::*;
use flaghoist_proto::send::v1::Event;
use flaghoist_proto::send::v1::log_service_server::LogServiceServer;
use flaghoist_runtime::fault::{Reason, reason_of};
use flaghoist_runtime::local::Slot;
use flaghoist_runtime::names::{ConversationId, SessionId, UserId};
use flaghoist_runtime::{Caller, Context, Drain, DrainTrigger, Peer, Place, Readiness, Verifier};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::{Request, Status, Streaming};
use tower::ServiceExt as _;
use uuid::Uuid;

use super::fake_log::FakeLog;
use crate::bus::State;
use crate::service::Receiver;
use crate::{Peers, Settings, assemble, rpc};

/// Long enough for anything that does come.
pub(super) const SOON: Duration = Duration::from_secs(10);

pub(super) const ISSUER: &str = "http://issuer.test";

pub(super) struct World {
    pub(super) log: FakeLog,
    pub(super) verifier: Arc<Verifier>,
    pub(super) drain: DrainTrigger,
    pub(super) receiver: Arc<Receiver>,
    settings: Settings,
    public: Peer,
    internal: Peer,
    folder: Arc<tempfile::TempDir>,
}

/// A person with one session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Person {
    pub(super) id: UserId,
    pub(super) session: SessionId,
    /// How long the person's tokens live.
    pub(super) token_lives: Duration,
}

/// Settings with which what takes long is soon.
pub(super) fn quick() -> Settings {
    Settings {
        sweep: Duration::from_millis(200),
        heartbeat: Duration::from_millis(300),
        silence: Duration::from_secs(20),
        ..Settings::default()
    }
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with(quick()).await
    }

    pub(super) async fn with(settings: Settings) -> Self {
        Self::on(Arc::new(tempfile::tempdir().unwrap()), FakeLog::new(), settings).await
    }

    /// A world whose files are in a folder.
    pub(super) async fn stored_in(folder: Arc<tempfile::TempDir>, settings: Settings) -> Self {
        Self::on(folder, FakeLog::new(), settings).await
    }

    /// Another pod of the same receiver.
    pub(super) async fn beside(&self) -> Self {
        Self::on(Arc::new(tempfile::tempdir().unwrap()), self.log.clone(), self.settings.clone()).await
    }

    /// Waits until the pods can tell one another what is new, or cannot any more.
    pub(super) async fn bus(&self, up: bool) {
        let mut state = self.receiver.bus.state();
        let waited = state.wait_for(|state| matches!(state, State::Up(_)) == up);
        timeout(SOON, waited).await.expect("the bus changes its state").unwrap();
    }

    async fn on(folder: Arc<tempfile::TempDir>, log: FakeLog, settings: Settings) -> Self {
        let send = Slot::new("send");
        send.fill(Routes::new(LogServiceServer::new(log.clone())));
        let (trigger, drain) = Drain::new();
        let verifier = Verifier::new(ISSUER);
        let context = Context {
            verifier: Arc::clone(&verifier),
            drain,
            readiness: Arc::new(Readiness::new()),
            issuer: ISSUER.into(),
            trusted_hops: 0,
        };
        let place = Place::new(folder.path());
        let receiver = assemble(settings.clone(), &place, Peers { send: send.peer() }, &context).await.unwrap();
        let parts = rpc::parts(Arc::clone(&receiver));
        let (public, internal) = (Slot::new("public"), Slot::new("internal"));
        public.fill(parts.public);
        internal.fill(parts.internal);
        let (public, internal) = (signed_in(public.peer()), internal.peer());
        Self { log, verifier, drain: trigger, receiver, settings, public, internal, folder }
    }

    /// The process dies and a new one starts with the same files.
    pub(super) async fn restarts(self) -> Self {
        self.drain.end();
        Self::on(Arc::clone(&self.folder), self.log.clone(), self.settings.clone()).await
    }

    pub(super) fn person(&self) -> Person {
        let session = SessionId(Uuid::now_v7());
        Person { id: UserId(Uuid::now_v7()), session, token_lives: Duration::from_secs(300) }
    }

    /// A conversation whose hint arrives.
    pub(super) async fn conversation(&self, members: &[Person]) -> ConversationId {
        let ids = members.iter().map(|person| person.id).collect::<Vec<_>>();
        let (id, delivery) = self.log.begin(&ids);
        self.deliver(delivery).await;
        id
    }

    /// A message that is committed and delivered.
    pub(super) async fn says(&self, sender: &Person, id: ConversationId, text: &str) -> bool {
        self.deliver(self.log.message(id, sender.id, text)).await
    }

    pub(super) async fn deliver(&self, delivery: Delivery) -> bool {
        self.deliver_all(vec![delivery]).await[0]
    }

    pub(super) async fn deliver_all(&self, deliveries: Vec<Delivery>) -> Vec<bool> {
        let mut client = DeliveryServiceClient::new(self.internal.clone());
        client.deliver(DeliverRequest { deliveries }).await.unwrap().into_inner().handed_over
    }

    pub(super) fn internal(&self) -> Peer {
        self.internal.clone()
    }

    pub(super) fn client(&self) -> ReceiverServiceClient<Peer> {
        ReceiverServiceClient::new(self.public.clone())
    }

    /// Opens a stream of the person's device `phone` from what is stored.
    pub(super) async fn listens(&self, person: &Person) -> Ear {
        self.opens(person, open("phone")).await.unwrap()
    }

    pub(super) async fn opens(&self, person: &Person, open: Open) -> Result<Ear, Status> {
        self.begins(person, receive_request::Request::Open(open)).await
    }

    pub(super) async fn begins(&self, person: &Person, first: receive_request::Request) -> Result<Ear, Status> {
        let (say, requests) = mpsc::channel(64);
        say.send(ReceiveRequest { request: Some(first) }).await.unwrap();
        let stream = self.client().receive(person.asks(ReceiverStream::new(requests))).await?.into_inner();
        Ok(Ear { say: Some(say), stream: Either::Receive(stream), epoch: self.log.epoch() })
    }

    /// Opens a stream that is refused.
    pub(super) async fn listens_or_not(&self, person: &Person) -> (tonic::Code, Option<Reason>) {
        match self.opens(person, open("phone")).await {
            Ok(mut ear) => ear.ends().await,
            Err(status) => (status.code(), reason_of(&status)),
        }
    }

    /// Opens a stream that cannot speak.
    pub(super) async fn subscribes(&self, person: &Person) -> Ear {
        self.subscribed(person, SubscribeRequest { open: Some(open("phone")) }).await
    }

    pub(super) async fn subscribed(&self, person: &Person, request: SubscribeRequest) -> Ear {
        let stream = self.client().subscribe(person.asks(request)).await.unwrap().into_inner();
        Ear { say: None, stream: Either::Subscribe(stream), epoch: self.log.epoch() }
    }

    pub(super) async fn acknowledges(
        &self,
        person: &Person,
        positions: Vec<Position>,
    ) -> Result<Vec<Position>, Status> {
        let request = AcknowledgeRequest { device: "users/me/devices/phone".into(), positions };
        Ok(self.client().acknowledge(person.asks(request)).await?.into_inner().positions)
    }

    pub(super) fn at(&self, id: ConversationId, seq: u64) -> Position {
        Position { conversation: id.name(), epoch: self.log.epoch(), seq }
    }
}

impl Person {
    /// A call of this person.
    pub(super) fn asks<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let lives = self.token_lives.as_millis();
        for (key, value) in
            [("user", self.id.to_string()), ("session", self.session.to_string()), ("lives", lives.to_string())]
        {
            request.metadata_mut().insert(key, value.parse().unwrap());
        }
        request
    }
}

/// Does what the access layer does: says who calls.
fn signed_in(peer: Peer) -> Peer {
    Peer::new(peer.map_request(|mut request: http::Request<tonic::body::Body>| {
        let header = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        if let (Some(user), Some(session), Some(lives)) = (header("user"), header("session"), header("lives")) {
            let caller = Caller {
                user: Some(UserId(user.parse().unwrap())),
                subject: user,
                client_id: "test".into(),
                session: Some(SessionId(session.parse().unwrap())),
                scopes: Vec::new(),
                token_id: Uuid::now_v7(),
                key_id: "key".into(),
                authenticated_at: None,
                two_factors: false,
                issued_at: SystemTime::now(),
                expires_at: SystemTime::now() + Duration::from_millis(lives.parse().unwrap()),
            };
            request.extensions_mut().insert(Arc::new(caller));
        }
        request
    }))
}

pub(super) fn open(device: &str) -> Open {
    Open { device: format!("users/me/devices/{device}"), ..Open::default() }
}

enum Either {
    Receive(Streaming<ReceiveResponse>),
    Subscribe(Streaming<SubscribeResponse>),
}

/// A device that listens.
pub(super) struct Ear {
    say: Option<mpsc::Sender<ReceiveRequest>>,
    stream: Either,
    epoch: u64,
}

impl Ear {
    pub(super) async fn says(&self, request: receive_request::Request) {
        self.say.as_ref().unwrap().send(ReceiveRequest { request: Some(request) }).await.unwrap();
    }

    pub(super) async fn acks(&self, id: ConversationId, seq: u64) {
        let position = Position { conversation: id.name(), epoch: self.epoch, seq };
        self.says(receive_request::Request::Ack(Ack { positions: vec![position] })).await;
    }

    /// Acknowledges and waits for the answer; what else comes meanwhile is dropped.
    pub(super) async fn acked(&mut self, id: ConversationId, seq: u64) {
        self.acks(id, seq).await;
        loop {
            if let Said::Acknowledged(acknowledged) = self.next().await
                && acknowledged
                    .positions
                    .iter()
                    .any(|position| position.conversation == id.name() && position.seq >= seq)
            {
                return;
            }
        }
    }

    /// The next thing that is said, heartbeats too; nothing at the end.
    pub(super) async fn hears(&mut self) -> Result<Option<Said>, Status> {
        let next = async {
            match &mut self.stream {
                Either::Receive(stream) => stream.message().await,
                Either::Subscribe(stream) => Ok(stream.message().await?.map(|wrapped| wrapped.response.unwrap())),
            }
        };
        Ok(timeout(SOON, next).await.expect("nothing is heard")?.map(|response| response.response.unwrap()))
    }

    /// The next thing that is no heartbeat.
    pub(super) async fn next(&mut self) -> Said {
        loop {
            match self.hears().await.unwrap().expect("the stream goes on") {
                Said::Heartbeat(_) => {}
                said => return said,
            }
        }
    }

    /// The next event; anything else on the way is dropped.
    pub(super) async fn event(&mut self) -> Event {
        loop {
            if let Said::Event(event) = self.next().await {
                return event;
            }
        }
    }

    /// The numbers of the next events.
    pub(super) async fn seqs(&mut self, count: usize) -> Vec<u64> {
        let mut seqs = Vec::new();
        while seqs.len() < count {
            seqs.push(self.event().await.seq);
        }
        seqs
    }

    /// The numbers of the events before `CaughtUp`.
    pub(super) async fn catches_up(&mut self) -> Vec<u64> {
        let mut seqs = Vec::new();
        loop {
            match self.next().await {
                Said::Event(event) => seqs.push(event.seq),
                Said::CaughtUp(_) => return seqs,
                _ => {}
            }
        }
    }

    /// The error that ends the stream.
    pub(super) async fn ends(&mut self) -> (tonic::Code, Option<Reason>) {
        loop {
            match self.hears().await {
                Ok(Some(_)) => {}
                Ok(None) => return (tonic::Code::Ok, None),
                Err(status) => return (status.code(), reason_of(&status)),
            }
        }
    }

    /// Nothing but heartbeats is said for a while.
    pub(super) async fn hears_nothing(&mut self) {
        let heard = timeout(Duration::from_millis(300), self.next()).await;
        assert!(heard.is_err(), "{heard:?}");
    }

    /// Stops to speak, and listens on.
    pub(super) fn falls_silent(&mut self) {
        self.say = None;
    }
}

/// Waits until something holds.
pub(super) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let waited = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, waited).await.unwrap_or_else(|_| panic!("never happened: {what}"));
}

/// Code and reason of a refusal.
pub(super) fn refusal<T: std::fmt::Debug>(result: Result<T, Status>) -> (tonic::Code, Option<Reason>) {
    let status = result.unwrap_err();
    (status.code(), reason_of(&status))
}
