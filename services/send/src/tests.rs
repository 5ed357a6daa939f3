//! The whole service, called as its clients call it; login and the receivers are stood in for.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant, SystemTime};

use flaghoist_proto::login::v1 as login;
use flaghoist_proto::login::v1::directory_service_server::{DirectoryService, DirectoryServiceServer};
use flaghoist_proto::receiver::v1 as receiver;
use flaghoist_proto::receiver::v1::delivery_service_server::{DeliveryService, DeliveryServiceServer};
use flaghoist_proto::send::v1 as pb;
use flaghoist_proto::send::v1::conversation_service_client::ConversationServiceClient;
use flaghoist_proto::send::v1::log_service_client::LogServiceClient;
use flaghoist_proto::send::v1::message_service_client::MessageServiceClient;
use flaghoist_runtime::fault::{Reason, reason_of};
use flaghoist_runtime::local::Slot;
use flaghoist_runtime::names::UserId;
use flaghoist_runtime::{Caller, Drain, Readiness, Verifier};
use parking_lot::Mutex;
use tempfile::TempDir;
use tonic::{Code, Request, Response, Status};
use uuid::Uuid;

use super::*;

mod erasure;
mod pods;

/// What the stand-in for a receiver does instead of taking events.
const REFUSES: u8 = 1;
const HANGS: u8 = 2;

/// Stands in for login and the receivers.
#[derive(Clone, Default)]
struct Others {
    gone: Arc<Mutex<Vec<String>>>,
    told: Arc<Mutex<Vec<receiver::Delivery>>>,
    mood: Arc<AtomicU8>,
}

#[tonic::async_trait]
impl DirectoryService for Others {
    async fn batch_get_users(
        &self,
        request: Request<login::BatchGetUsersRequest>,
    ) -> Result<Response<login::BatchGetUsersResponse>, Status> {
        let gone = self.gone.lock().clone();
        let names = request.into_inner().names.into_iter().filter(|name| !gone.contains(name));
        let users = names.map(|name| login::User { name, handle: String::new() }).collect();
        Ok(Response::new(login::BatchGetUsersResponse { users }))
    }
}

#[tonic::async_trait]
impl DeliveryService for Others {
    async fn deliver(
        &self,
        request: Request<receiver::DeliverRequest>,
    ) -> Result<Response<receiver::DeliverResponse>, Status> {
        match self.mood.load(Ordering::SeqCst) {
            REFUSES => return Err(Status::unavailable("away")),
            HANGS => std::future::pending().await,
            _ => {}
        }
        let deliveries = request.into_inner().deliveries;
        let handed_over = vec![true; deliveries.len()];
        self.told.lock().extend(deliveries);
        Ok(Response::new(receiver::DeliverResponse { handed_over }))
    }
}

struct World {
    folder: TempDir,
    others: Others,
    settings: Settings,
    public: Peer,
    internal: Peer,
    _trigger: flaghoist_runtime::DrainTrigger,
}

#[derive(Clone)]
struct Person {
    id: UserId,
    caller: Arc<Caller>,
    peer: Peer,
}

impl World {
    async fn new() -> Self {
        Self::with(Settings::default()).await
    }

    async fn with(settings: Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::start(folder, Others::default(), settings).await
    }

    async fn restart(self) -> Self {
        let Self { folder, others, settings, public, internal, .. } = self;
        drop((public, internal));
        Self::start(folder, others, settings).await
    }

    async fn start(folder: TempDir, others: Others, settings: Settings) -> Self {
        let (login, receiver, public, internal) =
            (Slot::new("login"), Slot::new("receiver"), Slot::new("send"), Slot::new("send-internal"));
        login.fill(Routes::new(DirectoryServiceServer::new(others.clone())));
        receiver.fill(Routes::new(DeliveryServiceServer::new(others.clone())));
        let (trigger, drain) = Drain::new();
        let context = Context {
            verifier: Verifier::new("http://localhost"),
            drain,
            readiness: Arc::new(Readiness::new()),
            issuer: "http://localhost".into(),
            trusted_hops: 0,
        };
        let peers = Peers { login: login.peer(), receiver: receiver.peer() };
        let place = Place::new(folder.path());
        let parts = super::start(settings.clone(), &place, peers, &context).await.unwrap();
        public.fill(parts.public);
        internal.fill(parts.internal);
        Self { folder, others, settings, public: public.peer(), internal: internal.peer(), _trigger: trigger }
    }

    fn person(&self, number: u128) -> Person {
        let id = UserId(Uuid::from_u128(number + (1 << 100)));
        let caller = Arc::new(Caller {
            user: Some(id),
            subject: id.to_string(),
            client_id: "test".into(),
            session: None,
            scopes: vec![],
            token_id: Uuid::nil(),
            key_id: "key".into(),
            authenticated_at: None,
            key_thumbprint: None,
            two_factors: false,
            issued_at: SystemTime::now(),
            expires_at: SystemTime::now() + Duration::from_secs(300),
        });
        Person { id, caller, peer: self.public.clone() }
    }

    fn log(&self) -> LogServiceClient<Peer> {
        LogServiceClient::new(self.internal.clone())
    }
}

impl Person {
    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.extensions_mut().insert(self.caller.clone());
        request
    }

    fn messages(&self) -> MessageServiceClient<Peer> {
        MessageServiceClient::new(self.peer.clone())
    }

    fn conversations(&self) -> ConversationServiceClient<Peer> {
        ConversationServiceClient::new(self.peer.clone())
    }

    async fn begins(
        &self,
        kind: pb::create_conversation_request::Kind,
    ) -> Result<pb::CreateConversationResponse, Status> {
        let request = pb::CreateConversationRequest { request_id: "begin".into(), kind: Some(kind) };
        Ok(self.conversations().create_conversation(self.request(request)).await?.into_inner())
    }

    async fn meets(&self, other: &Self) -> String {
        let direct = pb::DirectConversation { user: other.id.name() };
        let begun = self.begins(pb::create_conversation_request::Kind::Direct(direct)).await.unwrap();
        begun.conversation.unwrap().name
    }

    async fn gathers(&self, others: &[&Self]) -> Result<String, Status> {
        let members = others.iter().map(|other| other.id.name()).collect();
        let group = pb::GroupConversation { title: "friends".into(), members };
        Ok(self.begins(pb::create_conversation_request::Kind::Group(group)).await?.conversation.unwrap().name)
    }

    async fn sends(&self, text: &str, to: &str, request_id: &str) -> Result<pb::CreateMessageResponse, Status> {
        let request = pb::CreateMessageRequest {
            parent: to.into(),
            request_id: request_id.into(),
            text: text.into(),
            metadata: [("k".to_owned(), "v".to_owned())].into(),
        };
        Ok(self.messages().create_message(self.request(request)).await?.into_inner())
    }
}

fn failure<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, Option<Reason>) {
    let status = answer.unwrap_err();
    (status.code(), reason_of(&status))
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..500 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within 5 s: {what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_2_and_faults_1_5_6_the_same_request_from_32_parallel_calls_and_after_a_restart_is_one_message() {
    let mut world = World::new().await;
    let names = (world.person(1), world.person(2));
    let to = names.0.meets(&names.1).await;
    for round in 0..2 {
        let alice = world.person(1);
        let calls: Vec<_> = (0..32)
            .map(|_| {
                let (alice, to) = (alice.clone(), to.clone());
                tokio::spawn(async move { alice.sends("hi", &to, "r").await.unwrap() })
            })
            .collect();
        let mut first = 0;
        for call in calls {
            let answer = call.await.unwrap();
            first += u32::from(!answer.deduplicated);
            let message = answer.message.unwrap();
            assert_eq!((message.name, message.text), (format!("{to}/messages/2"), "hi".to_owned()));
            assert_eq!((message.request_id.as_str(), message.metadata.len()), ("r", 1));
        }
        assert_eq!(first, u32::from(round == 0));
        let reused = failure(alice.sends("other", &to, "r").await);
        assert_eq!(reused, (Code::FailedPrecondition, Some(Reason::RequestIdReused)));
        world = world.restart().await;
    }
}

#[tokio::test]
async fn a_receiver_that_takes_a_message_is_told_of_it_in_order() {
    let world = World::new().await;
    let (alice, bob) = (world.person(1), world.person(2));
    let to = alice.meets(&bob).await;
    let sent = alice.sends("hi", &to, "0").await.unwrap();
    assert_eq!(sent.status(), pb::MessageStatus::HandedOver);
    for number in 1..20 {
        alice.sends("hi", &to, &number.to_string()).await.unwrap();
    }
    let told = world.others.told.clone();
    eventually("everything is told", || told.lock().len() == 21).await;
    let told = told.lock();
    let seqs: Vec<u64> = told.iter().map(|delivery| delivery.event.as_ref().unwrap().seq).collect();
    assert_eq!(seqs, (1..=21).collect::<Vec<_>>());
    assert_eq!(told[0].added_members.len(), 2);
    let Some(pb::event::Change::MessageCreated(message)) = told[1].event.as_ref().unwrap().change.clone() else {
        panic!()
    };
    assert_eq!((message.text.as_str(), message.request_id.as_str()), ("hi", ""), "the request id is the sender's");
}

#[tokio::test]
async fn an_absent_or_slow_receiver_does_not_delay_answers() {
    for mood in [REFUSES, HANGS] {
        let world = World::new().await;
        world.others.mood.store(mood, Ordering::SeqCst);
        let (alice, bob) = (world.person(1), world.person(2));
        let to = alice.meets(&bob).await;
        let begun = Instant::now();
        for number in 0..100 {
            let sent = alice.sends("hi", &to, &number.to_string()).await.unwrap();
            assert_eq!(sent.status(), pb::MessageStatus::Stored);
        }
        // 100 waits would be two seconds at least.
        assert!(begun.elapsed() < Duration::from_millis(1_900), "{mood}: {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn what_a_stranger_may_not_see_is_not_found() {
    let world = World::new().await;
    let (alice, bob, eve) = (world.person(1), world.person(2), world.person(3));
    let to = alice.meets(&bob).await;
    let name = alice.sends("hi", &to, "r").await.unwrap().message.unwrap().name;
    let not_found = (Code::NotFound, Some(Reason::NotFound));
    let get = |name: &str| pb::GetMessageRequest { name: name.into() };
    assert_eq!(failure(eve.messages().get_message(eve.request(get(&name))).await), not_found);
    assert_eq!(failure(bob.messages().get_message(bob.request(get(&format!("{to}/messages/99")))).await), not_found);
    assert_eq!(failure(eve.sends("hi", &to, "r").await), not_found);
    let list = pb::ListMessagesRequest { parent: to.clone(), ..Default::default() };
    assert_eq!(failure(eve.messages().list_messages(eve.request(list)).await), not_found);
    let get = pb::GetConversationRequest { name: to.clone() };
    assert_eq!(failure(eve.conversations().get_conversation(eve.request(get)).await), not_found);
    let status = pb::GetMessageStatusRequest { name: name.clone() };
    assert_eq!(failure(eve.messages().get_message_status(eve.request(status)).await), not_found);
    let erase = pb::DeleteMessageRequest { name: name.clone(), request_id: "d".into() };
    assert_eq!(failure(eve.messages().delete_message(eve.request(erase)).await), not_found);
    let seen = bob.messages().get_message(bob.request(pb::GetMessageRequest { name })).await.unwrap().into_inner();
    assert_eq!(seen.message.unwrap().request_id, "", "it is told to the sender only");
}

#[tokio::test]
async fn bad_fields_are_named_all_at_once_and_page_tokens_are_authentic() {
    let world = World::new().await;
    let (alice, bob) = (world.person(1), world.person(2));
    let invalid = (Code::InvalidArgument, Some(Reason::FieldViolation));
    let status = alice.sends(&"x".repeat(16_385), "", "").await.unwrap_err();
    let details = tonic_types::StatusExt::get_error_details(&status);
    assert_eq!(details.bad_request().unwrap().field_violations.len(), 3);
    assert_eq!(failure(alice.sends("hi", "conversations/nonsense", "r").await), invalid);
    let to = alice.meets(&bob).await;
    let empty = pb::CreateMessageRequest { parent: to.clone(), request_id: "e".into(), ..Default::default() };
    assert_eq!(failure(alice.messages().create_message(alice.request(empty)).await), invalid);
    let metadata = [("a".to_owned(), "x".repeat(4000)), ("b".to_owned(), "x".repeat(200))].into();
    let much = pb::CreateMessageRequest { parent: to.clone(), request_id: "m".into(), text: "t".into(), metadata };
    assert_eq!(failure(alice.messages().create_message(alice.request(much)).await), invalid);
    for number in 0..5 {
        alice.sends("hi", &to, &number.to_string()).await.unwrap();
    }
    let mut page = pb::ListMessagesRequest { parent: to.clone(), page_size: 2, ..Default::default() };
    let first = bob.messages().list_messages(bob.request(page.clone())).await.unwrap().into_inner();
    assert_eq!(first.messages.iter().map(|message| message.message_no).collect::<Vec<_>>(), [5, 4]);
    page.page_token = first.next_page_token;
    let second = bob.messages().list_messages(bob.request(page.clone())).await.unwrap().into_inner();
    assert_eq!(second.messages.iter().map(|message| message.message_no).collect::<Vec<_>>(), [3, 2]);
    let bad_token = (Code::InvalidArgument, Some(Reason::PageTokenInvalid));
    assert_eq!(
        failure(alice.messages().list_messages(alice.request(page.clone())).await),
        bad_token,
        "another person's"
    );
    page.oldest_first = true;
    assert_eq!(failure(bob.messages().list_messages(bob.request(page)).await), bad_token, "another request's");
}

#[tokio::test]
async fn promise_8_a_person_who_sends_too_fast_is_told_when_to_go_on() {
    let settings = Settings { rate_per_second: 1, rate_burst: 3, ..Settings::default() };
    let world = World::with(settings).await;
    let (alice, bob) = (world.person(1), world.person(2));
    let to = alice.meets(&bob).await;
    alice.sends("1", &to, "1").await.unwrap();
    alice.sends("2", &to, "2").await.unwrap();
    let status = alice.sends("3", &to, "3").await.unwrap_err();
    assert_eq!((status.code(), reason_of(&status)), (Code::ResourceExhausted, Some(Reason::RateLimited)));
    let details = tonic_types::StatusExt::get_error_details(&status);
    assert!(details.retry_info().unwrap().retry_delay.unwrap() <= Duration::from_secs(1));
    bob.sends("others are not held up", &to, "1").await.unwrap();
}

#[tokio::test]
async fn people_must_exist_when_they_are_added_but_not_when_the_call_is_repeated() {
    let world = World::new().await;
    let (alice, bob, carol) = (world.person(1), world.person(2), world.person(3));
    let group = alice.gathers(&[&bob]).await.unwrap();
    let add = |request_id: &str| pb::AddMembersRequest {
        parent: group.clone(),
        request_id: request_id.into(),
        members: vec![carol.id.name()],
    };
    let first = alice.conversations().add_members(alice.request(add("r"))).await.unwrap().into_inner();
    assert_eq!((first.event.as_ref().unwrap().previous_seq, first.deduplicated), (1, false));
    let remove = pb::RemoveMemberRequest { parent: group.clone(), request_id: "x".into(), member: carol.id.name() };
    alice.conversations().remove_member(alice.request(remove)).await.unwrap();
    world.others.gone.lock().push(carol.id.name());
    let again = alice.conversations().add_members(alice.request(add("r"))).await.unwrap().into_inner();
    assert_eq!((again.event, again.deduplicated), (first.event, true));
    let fresh = failure(alice.conversations().add_members(alice.request(add("r2"))).await);
    assert_eq!(fresh, (Code::NotFound, Some(Reason::NotFound)));
    let alone = pb::create_conversation_request::Kind::Direct(pb::DirectConversation { user: carol.id.name() });
    assert_eq!(failure(alice.begins(alone).await), (Code::NotFound, Some(Reason::NotFound)));
    let notes = alice.meets(&alice).await;
    assert_eq!(alice.sends("to myself", &notes, "n").await.unwrap().message.unwrap().message_no, 1);
    let leave = pb::LeaveConversationRequest { name: group.clone(), request_id: "l".into() };
    let left = failure(alice.conversations().leave_conversation(alice.request(leave)).await);
    assert_eq!(left, (Code::FailedPrecondition, Some(Reason::LastOwner)));
    let members = pb::ListMembersRequest { parent: group.clone(), ..Default::default() };
    let members = bob.conversations().list_members(bob.request(members)).await.unwrap().into_inner();
    assert_eq!(members.members.len(), 2);
}

#[tokio::test]
async fn receipts_become_the_status_of_a_message() {
    let world = World::new().await;
    let (alice, bob) = (world.person(1), world.person(2));
    let to = alice.meets(&bob).await;
    let name = alice.sends("hi", &to, "r").await.unwrap().message.unwrap().name;
    let status = async || {
        let request = alice.request(pb::GetMessageStatusRequest { name: name.clone() });
        alice.messages().get_message_status(request).await.unwrap().into_inner()
    };
    assert_eq!(status().await.status(), pb::MessageStatus::Stored);
    let heads = pb::ListHeadsRequest { user: bob.id.name(), ..Default::default() };
    let heads = world.log().list_heads(heads).await.unwrap().into_inner();
    assert_eq!((heads.heads[0].unread_count, heads.heads[0].last_seq, heads.heads[0].first_seq), (1, 2, 1));
    let record = async |delivered_seq, read_seq| {
        let (conversation, member) = (to.clone(), bob.id.name());
        let receipt = pb::Receipt { conversation, member, epoch: heads.epoch, delivered_seq, read_seq };
        let request = pb::RecordReceiptsRequest { receipts: vec![receipt] };
        world.log().record_receipts(request).await.unwrap().into_inner().raised
    };
    assert_eq!(record(2, 0).await.len(), 1);
    assert_eq!(status().await.status(), pb::MessageStatus::Delivered);
    let raised = record(0, 2).await;
    assert_eq!((raised[0].delivered_seq, raised[0].read_seq), (2, 2));
    assert_eq!((status().await.status(), status().await.receipts.len()), (pb::MessageStatus::Read, 1));
    assert_eq!(record(1, 1).await, []);

    let events = |user: &Person| pb::ListEventsRequest {
        user: user.id.name(),
        conversation: to.clone(),
        after_seq: 1,
        ..Default::default()
    };
    let request_id = |answer: pb::ListEventsResponse| match &answer.events[0].change {
        Some(pb::event::Change::MessageCreated(message)) => message.request_id.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(request_id(world.log().list_events(events(&alice)).await.unwrap().into_inner()), "r");
    assert_eq!(request_id(world.log().list_events(events(&bob)).await.unwrap().into_inner()), "");
    let since_time = Some(flaghoist_runtime::time::timestamp(SystemTime::now() - Duration::from_secs(5)));
    let changes = pb::ListRecentChangesRequest { since_time, ..Default::default() };
    let changes = world.log().list_recent_changes(changes).await.unwrap().into_inner();
    assert_eq!((changes.changes.len(), changes.changes[0].last_seq), (1, 2));
}

#[tokio::test]
async fn edits_and_deletions_are_events_and_change_what_is_read() {
    let world = World::new().await;
    let (alice, bob) = (world.person(1), world.person(2));
    let to = alice.meets(&bob).await;
    let name = alice.sends("hi", &to, "r").await.unwrap().message.unwrap().name;
    let edit = |request_id: &str| pb::UpdateMessageRequest {
        name: name.clone(),
        request_id: request_id.into(),
        text: "edited".into(),
        ..Default::default()
    };
    let edited = alice.messages().update_message(alice.request(edit("e"))).await.unwrap().into_inner().event.unwrap();
    let Some(pb::event::Change::MessageUpdated(message)) = edited.change else { panic!() };
    assert_eq!((message.name.as_str(), message.text.as_str(), message.message_no), (name.as_str(), "edited", 1));
    assert_eq!((message.sender, edited.seq, edited.previous_seq), (alice.id.name(), 3, 2));
    let denied = failure(bob.messages().update_message(bob.request(edit("e"))).await);
    assert_eq!(denied, (Code::PermissionDenied, Some(Reason::PermissionDenied)));
    let get = || pb::GetMessageRequest { name: name.clone() };
    let now = bob.messages().get_message(bob.request(get())).await.unwrap().into_inner().message.unwrap();
    assert!(now.text == "edited" && now.update_time.is_some() && now.metadata.is_empty());
    let delete = pb::DeleteMessageRequest { name: name.clone(), request_id: "d".into() };
    alice.messages().delete_message(alice.request(delete)).await.unwrap();
    let now = bob.messages().get_message(bob.request(get())).await.unwrap().into_inner().message.unwrap();
    assert!(now.text.is_empty() && now.delete_time.is_some() && now.update_time.is_none());
    let late = failure(alice.messages().update_message(alice.request(edit("late"))).await);
    assert_eq!(late, (Code::FailedPrecondition, Some(Reason::MessageDeleted)));
    let again = alice.sends("hi", &to, "r").await.unwrap();
    assert!(again.deduplicated && again.message.unwrap().delete_time.is_some());
}
