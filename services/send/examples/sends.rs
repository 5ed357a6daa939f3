//! How many durable sends a second the whole of send does, called in process: `cargo run --release -p flaghoist-send --example
//! sends -- [seconds] [callers] [conversations]`. Not a load test of a server: it shows what the store and the writer cost. On
//! SQLite in a temporary folder, or where `FLAGHOIST_SEND_STORE` says.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use flaghoist_proto::login::v1 as login;
use flaghoist_proto::login::v1::directory_service_server::{DirectoryService, DirectoryServiceServer};
use flaghoist_proto::receiver::v1 as receiver;
use flaghoist_proto::receiver::v1::delivery_service_server::{DeliveryService, DeliveryServiceServer};
use flaghoist_proto::send::v1 as pb;
use flaghoist_proto::send::v1::conversation_service_client::ConversationServiceClient;
use flaghoist_proto::send::v1::message_service_client::MessageServiceClient;
use flaghoist_runtime::local::Slot;
use flaghoist_runtime::names::UserId;
use flaghoist_runtime::settings::{Environment, Reader};
use flaghoist_runtime::{Caller, Context, Drain, Place, Readiness, Verifier};
use flaghoist_send::{Peers, Settings};
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use uuid::Uuid;

struct Everyone;

#[tonic::async_trait]
impl DirectoryService for Everyone {
    async fn batch_get_users(
        &self,
        request: Request<login::BatchGetUsersRequest>,
    ) -> Result<Response<login::BatchGetUsersResponse>, Status> {
        let names = request.into_inner().names.into_iter();
        let users = names.map(|name| login::User { name, handle: String::new() }).collect();
        Ok(Response::new(login::BatchGetUsersResponse { users }))
    }
}

struct Nobody;

#[tonic::async_trait]
impl DeliveryService for Nobody {
    async fn deliver(
        &self,
        request: Request<receiver::DeliverRequest>,
    ) -> Result<Response<receiver::DeliverResponse>, Status> {
        let handed_over = vec![false; request.into_inner().deliveries.len()];
        Ok(Response::new(receiver::DeliverResponse { handed_over }))
    }
}

fn as_caller<T>(message: T, caller: &Arc<Caller>) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(caller.clone());
    request
}

fn caller(user: UserId) -> Arc<Caller> {
    Arc::new(Caller {
        user: Some(user),
        subject: user.to_string(),
        client_id: "bench".into(),
        session: None,
        scopes: vec![],
        token_id: Uuid::nil(),
        key_id: "key".into(),
        authenticated_at: None,
        key_thumbprint: None,
        two_factors: false,
        issued_at: SystemTime::now(),
        expires_at: SystemTime::now() + Duration::from_secs(3600),
    })
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u64>());
    let mut next = |default| arguments.next().and_then(Result::ok).unwrap_or(default);
    let (seconds, callers, conversations) = (next(5), next(512), next(512));

    let folder = std::env::temp_dir().join(format!("flaghoist-sends-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let (login, receiver) = (Slot::new("login"), Slot::new("receiver"));
    login.fill(Routes::new(DirectoryServiceServer::new(Everyone)));
    receiver.fill(Routes::new(DeliveryServiceServer::new(Nobody)));
    let (_trigger, drain) = Drain::new();
    let context = Context {
        verifier: Verifier::new("http://localhost"),
        drain,
        readiness: Arc::new(Readiness::new()),
        issuer: "http://localhost".into(),
        trusted_hops: 0,
    };
    let settings = Settings::read(&mut Reader::new(&Environment));
    let settings = Settings { rate_per_second: 1_000_000, rate_burst: 1_000_000, ..settings };
    let place = Place::new(&folder);
    let peers = Peers { login: login.peer(), receiver: receiver.peer() };
    let parts = flaghoist_send::start(settings, &place, peers, &context).await?;
    let slot = Slot::new("send");
    slot.fill(parts.public);

    let mut names = Vec::new();
    for number in 0..conversations {
        let user = |side: u128| UserId(Uuid::from_u128(u128::from(number) * 2 + side + (7 << 96)));
        let caller = caller(user(0));
        let kind = pb::create_conversation_request::Kind::Direct(pb::DirectConversation { user: user(1).name() });
        let request = pb::CreateConversationRequest { request_id: "begin".into(), kind: Some(kind) };
        let mut client = ConversationServiceClient::new(slot.peer());
        let answer = client.create_conversation(as_caller(request, &caller)).await?.into_inner();
        names.push((caller, answer.conversation.unwrap_or_default().name));
    }

    let names = Arc::new(names);
    let sent = Arc::new(AtomicU64::new(0));
    let slowest = Arc::new(AtomicU64::new(0));
    let end = Instant::now() + Duration::from_secs(seconds);
    let tasks: Vec<_> = (0..callers)
        .map(|number| {
            let (names, sent, slowest, peer) = (names.clone(), sent.clone(), slowest.clone(), slot.peer());
            tokio::spawn(async move {
                let mut client = MessageServiceClient::new(peer);
                let mut turn = 0_u64;
                while Instant::now() < end {
                    let place = (number + turn * callers) % names.len() as u64;
                    let (caller, parent) = &names[usize::try_from(place).unwrap_or(0)];
                    turn += 1;
                    let request = pb::CreateMessageRequest {
                        parent: parent.clone(),
                        request_id: Uuid::now_v7().to_string(),
                        text: "x".repeat(100),
                        ..pb::CreateMessageRequest::default()
                    };
                    let started = Instant::now();
                    match client.create_message(as_caller(request, caller)).await {
                        Ok(_) => sent.fetch_add(1, Ordering::Relaxed),
                        Err(status) => {
                            println!("{status}");
                            return;
                        }
                    };
                    slowest.fetch_max(u64::try_from(started.elapsed().as_micros()).unwrap_or(0), Ordering::Relaxed);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await?;
    }
    let count = sent.load(Ordering::Relaxed);
    let slowest_ms = slowest.load(Ordering::Relaxed) / 1000;
    println!("{} sends/s, {callers} callers, {conversations} conversations, slowest {slowest_ms} ms", count / seconds);
    std::fs::remove_dir_all(folder)?;
    Ok(())
}
