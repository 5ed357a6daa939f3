//! A person of the smoke test: registers under a name that nobody has, sends, listens with one device, and leaves.

use flaghoist_proto::login::v1::account_service_client::AccountServiceClient;
use flaghoist_proto::login::v1::login_service_client::LoginServiceClient;
use flaghoist_proto::login::v1::{CreateAccountRequest, DeleteAccountRequest, LoginRequest};
use flaghoist_proto::receiver::v1::receive_request::Request as Said;
use flaghoist_proto::receiver::v1::receive_response::Response as Heard;
use flaghoist_proto::receiver::v1::receiver_service_client::ReceiverServiceClient;
use flaghoist_proto::receiver::v1::{Ack, Open, OpenFrom, Position, ReceiveRequest, ReceiveResponse};
use flaghoist_proto::send::v1::conversation_service_client::ConversationServiceClient;
use flaghoist_proto::send::v1::create_conversation_request::Kind;
use flaghoist_proto::send::v1::event::Change;
use flaghoist_proto::send::v1::message_service_client::MessageServiceClient;
use flaghoist_proto::send::v1::{CreateConversationRequest, CreateMessageRequest, DirectConversation};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use uuid::Uuid;

use super::calls::of;
use super::in_time;

/// How many requests may wait to be sent on a stream.
const REQUESTS_MAX: usize = 4;

/// A person who is signed in.
#[derive(Debug)]
pub(super) struct Person {
    name: String,
    handle: String,
    password: String,
    token: String,
}

/// The stream of a device.
#[derive(Debug)]
pub(super) struct Stream {
    requests: mpsc::Sender<ReceiveRequest>,
    responses: Streaming<ReceiveResponse>,
}

impl Person {
    /// Registers and signs in.
    pub(super) async fn registers(login: Channel) -> Result<Self, Status> {
        let id = Uuid::now_v7().simple().to_string();
        let (handle, password) = (format!("smoke-{}", &id[16..]), Uuid::now_v7().to_string());
        let account = CreateAccountRequest {
            handle: handle.clone(),
            display_name: "Smoke test".into(),
            password: password.clone(),
            ..CreateAccountRequest::default()
        };
        in_time(AccountServiceClient::new(login.clone()).create_account(account)).await?;
        let request = LoginRequest { handle: handle.clone(), password: password.clone(), ..LoginRequest::default() };
        let answer = in_time(LoginServiceClient::new(login).login(request)).await?.into_inner();
        let missing = || Status::internal("the answer to a sign-in holds no account or no tokens");
        let name = answer.account.ok_or_else(missing)?.name;
        let token = answer.tokens.ok_or_else(missing)?.access_token;
        Ok(Self { name, handle, password, token })
    }

    /// The access token.
    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// The handle.
    pub(super) fn handle(&self) -> &str {
        &self.handle
    }

    /// Begins a conversation with another person and sends a message there; again with the same request ids it has no second effect.
    pub(super) async fn sends(
        &self,
        send: Channel,
        to: &Self,
        [begin_id, message_id]: &[String; 2],
        text: &str,
    ) -> Result<(), Status> {
        let begin = CreateConversationRequest {
            request_id: begin_id.clone(),
            kind: Some(Kind::Direct(DirectConversation { user: to.name.clone() })),
        };
        let mut conversations = ConversationServiceClient::new(send.clone());
        let begun = in_time(conversations.create_conversation(of(begin, Some(&self.token))?)).await?.into_inner();
        let parent = begun.conversation.ok_or_else(|| Status::internal("no conversation was answered"))?.name;
        let message = CreateMessageRequest {
            parent,
            request_id: message_id.clone(),
            text: text.into(),
            ..CreateMessageRequest::default()
        };
        in_time(MessageServiceClient::new(send).create_message(of(message, Some(&self.token))?)).await.map(drop)
    }

    /// Opens the stream of a device.
    pub(super) async fn listens(&self, receiver: Channel) -> Result<Stream, Status> {
        let (requests, outgoing) = mpsc::channel(REQUESTS_MAX);
        let open = Open { device: "users/me/devices/smoke".into(), from: OpenFrom::Stored.into(), window: 0 };
        let stream = Stream::says(&requests, Said::Open(open));
        let call = of(ReceiverStream::new(outgoing), Some(&self.token))?;
        stream?;
        let responses = in_time(ReceiverServiceClient::new(receiver).receive(call)).await?.into_inner();
        let mut stream = Stream { requests, responses };
        in_time(stream.until(|heard| matches!(heard, Heard::CaughtUp(_)).then_some(()))).await?;
        Ok(stream)
    }

    /// Deletes the account.
    pub(super) async fn leaves(&self, login: Channel) -> Result<(), Status> {
        let request = of(DeleteAccountRequest { password: self.password.clone() }, Some(&self.token))?;
        in_time(AccountServiceClient::new(login).delete_account(request)).await.map(drop)
    }
}

impl Stream {
    /// Waits for a message, acknowledges it, and waits for the answer to that.
    pub(super) async fn hears(&mut self, text: &str) -> Result<(), Status> {
        let reached = self
            .until(|heard| match heard {
                Heard::Event(event) => match &event.change {
                    Some(Change::MessageCreated(message)) if message.text == text => {
                        Some(Position { conversation: event.conversation, epoch: event.epoch, seq: event.seq })
                    }
                    _ => None,
                },
                _ => None,
            })
            .await?;
        Self::says(&self.requests, Said::Ack(Ack { positions: vec![reached.clone()] }))?;
        self.until(|heard| match heard {
            Heard::Acknowledged(kept) => kept
                .positions
                .iter()
                .any(|position| position.conversation == reached.conversation && position.seq >= reached.seq)
                .then_some(()),
            _ => None,
        })
        .await
    }

    fn says(requests: &mpsc::Sender<ReceiveRequest>, said: Said) -> Result<(), Status> {
        let request = ReceiveRequest { request: Some(said) };
        requests.try_send(request).map_err(|_| Status::unavailable("the stream has ended"))
    }

    async fn until<T>(&mut self, mut wanted: impl FnMut(Heard) -> Option<T>) -> Result<T, Status> {
        loop {
            let response = self.responses.message().await?;
            let response = response.ok_or_else(|| Status::unavailable("the stream has ended"))?;
            if let Some(found) = response.response.and_then(&mut wanted) {
                return Ok(found);
            }
        }
    }
}
