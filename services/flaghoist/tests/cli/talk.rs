//! What people do at services that run by themselves, through the generated clients: each service is called at its own address, as
//! a gateway would.

use flaghoist_proto::login::v1::account_service_client::AccountServiceClient;
use flaghoist_proto::login::v1::login_service_client::LoginServiceClient;
use flaghoist_proto::login::v1::{CreateAccountRequest, LoginRequest};
use flaghoist_proto::receiver::v1::receive_response::Response as Kind;
use flaghoist_proto::receiver::v1::receiver_service_client::ReceiverServiceClient;
use flaghoist_proto::receiver::v1::{Open, ReceiveResponse, SubscribeRequest, SubscribeResponse};
use flaghoist_proto::send::v1::conversation_service_client::ConversationServiceClient;
use flaghoist_proto::send::v1::create_conversation_request::Kind as ConversationKind;
use flaghoist_proto::send::v1::message_service_client::MessageServiceClient;
use flaghoist_proto::send::v1::{CreateConversationRequest, CreateMessageRequest, DirectConversation};
use tonic::{Request, Status, Streaming};

use crate::pods::Site;
use crate::stage::PASSWORD;

/// Someone who is signed in.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub(crate) name: String,
    token: String,
}

impl Person {
    /// Registers and signs in.
    pub(crate) async fn registers(site: &Site, handle: &str) -> Self {
        let channel = site.channel("login", "grpc");
        let account = CreateAccountRequest { handle: handle.into(), password: PASSWORD.into(), ..Default::default() };
        AccountServiceClient::new(channel.clone()).create_account(account).await.unwrap();
        Self::signs_in(site, handle, |request| request).await.unwrap()
    }

    /// Signs in, with whatever else `dress` puts on the request.
    pub(crate) async fn signs_in(
        site: &Site,
        handle: &str,
        dress: impl Fn(Request<LoginRequest>) -> Request<LoginRequest>,
    ) -> Result<Self, Status> {
        let request = LoginRequest { handle: handle.into(), password: PASSWORD.into(), ..Default::default() };
        let mut logins = LoginServiceClient::new(site.channel("login", "grpc"));
        let answer = logins.login(dress(Request::new(request))).await?.into_inner();
        Ok(Self { name: answer.account.unwrap().name, token: answer.tokens.unwrap().access_token })
    }

    /// The access token of the person.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// A request with that token.
    pub(crate) fn asks<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", format!("Bearer {}", self.token).parse().unwrap());
        request
    }

    /// Begins a conversation with someone and sends one message; answers the status of the sending.
    pub(crate) async fn sends(&self, site: &Site, to: &Self, text: &str) -> Result<i32, Status> {
        let channel = site.channel("send", "grpc");
        let kind = ConversationKind::Direct(DirectConversation { user: to.name.clone() });
        let begin = CreateConversationRequest { request_id: to.name.clone(), kind: Some(kind) };
        let mut conversations = ConversationServiceClient::new(channel.clone());
        let conversation =
            conversations.create_conversation(self.asks(begin)).await?.into_inner().conversation.unwrap();
        let message = CreateMessageRequest {
            parent: conversation.name,
            request_id: text.into(),
            text: text.into(),
            ..Default::default()
        };
        let answer = MessageServiceClient::new(channel).create_message(self.asks(message)).await?.into_inner();
        Ok(answer.status)
    }

    /// Opens a stream and waits until it has caught up.
    pub(crate) async fn listens(&self, site: &Site) -> Hears {
        let open = Open { device: "users/me/devices/one".into(), ..Default::default() };
        let request = self.asks(SubscribeRequest { open: Some(open) });
        let mut receiver = ReceiverServiceClient::new(site.channel("receiver", "grpc"));
        let mut hears = Hears(receiver.subscribe(request).await.unwrap().into_inner());
        hears.next(|kind| matches!(kind, Kind::CaughtUp(_))).await;
        hears
    }
}

/// What a device hears.
#[derive(Debug)]
pub(crate) struct Hears(Streaming<SubscribeResponse>);

impl Hears {
    /// Waits for something.
    pub(crate) async fn next(&mut self, wanted: impl Fn(&Kind) -> bool) -> Kind {
        loop {
            let message = self.0.message().await.unwrap().expect("the stream goes on");
            if let Some(ReceiveResponse { response: Some(kind), .. }) = message.response
                && wanted(&kind)
            {
                return kind;
            }
        }
    }

    /// Waits for an event whose text is `text`.
    pub(crate) async fn hears(&mut self, text: &str) {
        self.next(|kind| matches!(kind, Kind::Event(event) if format!("{event:?}").contains(text))).await;
    }
}
