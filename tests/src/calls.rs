//! The clients of every service, with a token or without.

use std::sync::{Arc, PoisonError, RwLock};

use flaghoist_proto::auth::v1::audit_service_client::AuditServiceClient;
use flaghoist_proto::auth::v1::client_service_client::ClientServiceClient;
use flaghoist_proto::auth::v1::consent_service_client::ConsentServiceClient;
use flaghoist_proto::auth::v1::key_service_client::KeyServiceClient;
use flaghoist_proto::auth::v1::session_service_client::SessionServiceClient;
use flaghoist_proto::auth::v1::token_service_client::TokenServiceClient;
use flaghoist_proto::login::v1::account_service_client::AccountServiceClient;
use flaghoist_proto::login::v1::administration_service_client::AdministrationServiceClient;
use flaghoist_proto::login::v1::credential_service_client::CredentialServiceClient;
use flaghoist_proto::login::v1::login_service_client::LoginServiceClient;
use flaghoist_proto::login::v1::{Account, GetAccountRequest};
use flaghoist_proto::receiver::v1::receiver_service_client::ReceiverServiceClient;
use flaghoist_proto::send::v1::conversation_service_client::ConversationServiceClient;
use flaghoist_proto::send::v1::message_service_client::MessageServiceClient;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;

/// A channel whose calls carry a token.
pub type Authorized = InterceptedService<Channel, Bearer>;

/// Puts the token into every call. Clones share it, so that a refreshed token reaches all clients.
#[derive(Clone, Debug, Default)]
pub struct Bearer {
    token: Arc<RwLock<Option<String>>>,
}

/// Clients of all services over one connection.
#[derive(Clone, Debug)]
pub struct Calls {
    channel: Channel,
    bearer: Bearer,
}

impl Bearer {
    /// Uses this token from now on.
    pub fn set(&self, token: Option<String>) {
        *self.token.write().unwrap_or_else(PoisonError::into_inner) = token;
    }

    /// The token in use.
    pub fn get(&self) -> Option<String> {
        self.token.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = self.get() {
            let value = format!("Bearer {token}").parse().map_err(|_| Status::internal("not a header value"))?;
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }
}

impl Calls {
    /// Clients over `channel`.
    pub fn new(channel: Channel, token: Option<String>) -> Self {
        let bearer = Bearer::default();
        bearer.set(token);
        Self { channel, bearer }
    }

    /// The token that the calls carry.
    pub fn bearer(&self) -> &Bearer {
        &self.bearer
    }

    /// The channel with the token, for a client that is not named here.
    pub fn channel(&self) -> Authorized {
        InterceptedService::new(self.channel.clone(), self.bearer.clone())
    }

    /// `auth.v1.TokenService`
    pub fn tokens(&self) -> TokenServiceClient<Authorized> {
        TokenServiceClient::new(self.channel())
    }

    /// `auth.v1.SessionService`
    pub fn sessions(&self) -> SessionServiceClient<Authorized> {
        SessionServiceClient::new(self.channel())
    }

    /// `auth.v1.ConsentService`
    pub fn consents(&self) -> ConsentServiceClient<Authorized> {
        ConsentServiceClient::new(self.channel())
    }

    /// `auth.v1.ClientService`
    pub fn clients(&self) -> ClientServiceClient<Authorized> {
        ClientServiceClient::new(self.channel())
    }

    /// `auth.v1.KeyService`
    pub fn keys(&self) -> KeyServiceClient<Authorized> {
        KeyServiceClient::new(self.channel())
    }

    /// `auth.v1.AuditService`
    pub fn audit(&self) -> AuditServiceClient<Authorized> {
        AuditServiceClient::new(self.channel())
    }

    /// `login.v1.AccountService`
    pub fn accounts(&self) -> AccountServiceClient<Authorized> {
        AccountServiceClient::new(self.channel())
    }

    /// `login.v1.LoginService`
    pub fn login(&self) -> LoginServiceClient<Authorized> {
        LoginServiceClient::new(self.channel())
    }

    /// `login.v1.CredentialService`
    pub fn credentials(&self) -> CredentialServiceClient<Authorized> {
        CredentialServiceClient::new(self.channel())
    }

    /// `login.v1.AdministrationService`
    pub fn administration(&self) -> AdministrationServiceClient<Authorized> {
        AdministrationServiceClient::new(self.channel())
    }

    /// `send.v1.ConversationService`
    pub fn conversations(&self) -> ConversationServiceClient<Authorized> {
        ConversationServiceClient::new(self.channel())
    }

    /// `send.v1.MessageService`
    pub fn messages(&self) -> MessageServiceClient<Authorized> {
        MessageServiceClient::new(self.channel())
    }

    /// `receiver.v1.ReceiverService`
    pub fn receiver(&self) -> ReceiverServiceClient<Authorized> {
        ReceiverServiceClient::new(self.channel())
    }

    /// `grpc.health.v1.Health`
    pub fn health(&self) -> HealthClient<Authorized> {
        HealthClient::new(self.channel())
    }

    /// `grpc.reflection.v1.ServerReflection`
    pub fn reflection(&self) -> ServerReflectionClient<Authorized> {
        ServerReflectionClient::new(self.channel())
    }

    /// The account that the token belongs to: the simplest call that needs one.
    ///
    /// # Errors
    /// What the server answers.
    pub async fn whoami(&self) -> Result<Account, Status> {
        let answer = self.accounts().get_account(GetAccountRequest::default()).await?.into_inner();
        answer.account.ok_or_else(|| Status::internal("an answer without an account"))
    }

    /// Any unary method by its path, as bytes in and out; for methods that the public port must not know.
    ///
    /// # Errors
    /// What the server answers.
    pub async fn raw(&self, path: &'static str, body: Vec<u8>) -> Result<Vec<u8>, Status> {
        let mut client = tonic::client::Grpc::new(self.channel());
        client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = http::uri::PathAndQuery::from_static(path);
        let answer = client.unary(Request::new(body), path, RawCodec).await?;
        Ok(answer.into_inner())
    }
}

/// Takes messages as the bytes that they are.
#[derive(Clone, Copy, Debug)]
pub struct RawCodec;

impl tonic::codec::Codec for RawCodec {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl tonic::codec::Encoder for RawCodec {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, into: &mut tonic::codec::EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put_slice(into, &item);
        Ok(())
    }
}

impl tonic::codec::Decoder for RawCodec {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut tonic::codec::DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        use bytes::Buf as _;
        let mut item = vec![0; from.remaining()];
        from.copy_to_slice(&mut item);
        Ok(Some(item))
    }
}
