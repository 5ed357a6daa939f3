//! How long a send takes, from within the mesh or beside it: one person sends to another, one message after the other or so many at a
//! time, and the quantiles are printed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use flaghoist_proto::login::v1::account_service_client::AccountServiceClient;
use flaghoist_proto::login::v1::login_service_client::LoginServiceClient;
use flaghoist_proto::login::v1::{CreateAccountRequest, LoginRequest};
use flaghoist_proto::send::v1::conversation_service_client::ConversationServiceClient;
use flaghoist_proto::send::v1::create_conversation_request::Kind;
use flaghoist_proto::send::v1::message_service_client::MessageServiceClient;
use flaghoist_proto::send::v1::{CreateConversationRequest, CreateMessageRequest, DirectConversation};
use hdrhistogram::Histogram;
use tokio::sync::Mutex;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use uuid::Uuid;

/// Sends over `send`, signed in over `login`, for so many seconds, so many at a time, and prints what it took.
pub(crate) async fn measure(options: &[&str]) -> Result<(), String> {
    let [send, login, seconds, at_a_time] = options else {
        return Err("probe sends SEND LOGIN SECONDS AT_A_TIME".into());
    };
    let number = |text: &str| text.parse::<u64>().map_err(|error| format!("{text}: {error}"));
    let (lasts, at_a_time) = (Duration::from_secs(number(seconds)?), number(at_a_time)?);
    let begun = conversation(channel(login)?, channel(send)?).await.map_err(|status| format!("{status:?}"))?;
    let messages = MessageServiceClient::new(channel(send)?);
    let histogram = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).map_err(|error| error.to_string())?;
    let histogram = Arc::new(Mutex::new(histogram));
    // Connections, caches and branch predictors are not what is asked for.
    run(&messages, &begun, Duration::from_secs(2), at_a_time, &histogram).await?;
    histogram.lock().await.reset();
    let began = Instant::now();
    run(&messages, &begun, lasts, at_a_time, &histogram).await?;
    let took = began.elapsed().as_secs_f64();
    let histogram = histogram.lock().await;
    let at = |quantile| histogram.value_at_quantile(quantile);
    println!(
        "sends={} seconds={took:.3} mean_us={:.0} p50_us={} p99_us={}",
        histogram.len(),
        histogram.mean(),
        at(0.5),
        at(0.99)
    );
    // The figures of a pod are read while it is there.
    std::future::pending().await
}

/// A conversation and the token of someone who may send to it.
#[derive(Clone, Debug)]
struct Begun {
    conversation: String,
    token: String,
}

fn channel(address: &str) -> Result<Channel, String> {
    Ok(Endpoint::from_shared(format!("http://{address}")).map_err(|error| error.to_string())?.connect_lazy())
}

fn with_token<T>(message: T, token: &str) -> Result<Request<T>, Status> {
    let mut request = Request::new(message);
    let value = format!("Bearer {token}").parse().map_err(|_| Status::internal("the token cannot be sent"))?;
    request.metadata_mut().insert("authorization", value);
    Ok(request)
}

async fn person(login: &Channel) -> Result<(String, String), Status> {
    let id = Uuid::now_v7().simple().to_string();
    let (handle, password) = (format!("probe-{}", &id[16..]), id);
    let account = CreateAccountRequest {
        handle: handle.clone(),
        display_name: "Probe".into(),
        password: password.clone(),
        ..CreateAccountRequest::default()
    };
    AccountServiceClient::new(login.clone()).create_account(account).await?;
    let request = LoginRequest { handle, password, ..LoginRequest::default() };
    let answer = LoginServiceClient::new(login.clone()).login(request).await?.into_inner();
    let missing = || Status::internal("the answer to a sign-in holds no account or no tokens");
    Ok((answer.account.ok_or_else(missing)?.name, answer.tokens.ok_or_else(missing)?.access_token))
}

async fn conversation(login: Channel, send: Channel) -> Result<Begun, Status> {
    let ((_, token), (other, _)) = (person(&login).await?, person(&login).await?);
    let begin = CreateConversationRequest {
        request_id: Uuid::now_v7().to_string(),
        kind: Some(Kind::Direct(DirectConversation { user: other })),
    };
    let answer = ConversationServiceClient::new(send).create_conversation(with_token(begin, &token)?).await?;
    let conversation = answer.into_inner().conversation.ok_or_else(|| Status::internal("no conversation"))?.name;
    Ok(Begun { conversation, token })
}

async fn run(
    messages: &MessageServiceClient<Channel>,
    begun: &Begun,
    lasts: Duration,
    at_a_time: u64,
    histogram: &Arc<Mutex<Histogram<u64>>>,
) -> Result<(), String> {
    let until = Instant::now() + lasts;
    let mut tasks = Vec::new();
    for _ in 0..at_a_time {
        let (mut messages, begun, histogram) = (messages.clone(), begun.clone(), Arc::clone(histogram));
        tasks.push(tokio::spawn(async move {
            while Instant::now() < until {
                let request_id = Uuid::now_v7().to_string();
                let message = CreateMessageRequest {
                    parent: begun.conversation.clone(),
                    text: format!("a message of some length, {request_id}"),
                    request_id,
                    ..CreateMessageRequest::default()
                };
                let request = with_token(message, &begun.token)?;
                let began = Instant::now();
                messages.create_message(request).await?;
                let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
                histogram.lock().await.saturating_record(took);
            }
            Ok::<(), Status>(())
        }));
    }
    for task in tasks {
        task.await.map_err(|error| error.to_string())?.map_err(|status| format!("a send failed: {status:?}"))?;
    }
    Ok(())
}
