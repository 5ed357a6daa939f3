//! A person: registered and signed in over the real port, and what they do in the words of the domain.

use std::collections::BTreeMap;
use std::pin::Pin;

use flaghoist_proto::auth::v1::issue_token_request::Grant;
use flaghoist_proto::auth::v1::{ClientCredentials, IssueTokenRequest, RefreshTokenGrant, Session, TokenSet};
use flaghoist_proto::login::v1::{CreateAccountRequest, LoginRequest, LoginResponse};
use flaghoist_proto::send::v1::create_conversation_request::Kind;
use flaghoist_proto::send::v1::{
    Conversation, CreateConversationRequest, CreateMessageRequest, CreateMessageResponse, DirectConversation,
    GetConversationRequest, GroupConversation, ListMessagesRequest, Message,
};
use tonic::Status;

use crate::calls::Calls;
use crate::listening::{Listening, Opening};
use crate::request_id;
use crate::world::World;

/// Everybody's password.
pub const PASSWORD: &str = "gentle otters paint nine moons";

/// A registered person with a session.
#[derive(Clone, Debug)]
pub struct Person {
    world: World,
    calls: Calls,
    /// The resource name, `users/{user}`.
    pub name: String,
    /// The handle in its normal form.
    pub handle: String,
    /// The session of this sign-in.
    pub session: Session,
    /// Its tokens as they were issued.
    pub tokens: TokenSet,
}

/// A group that someone made.
#[derive(Clone, Debug)]
pub struct Group {
    /// The resource name, `conversations/{conversation}`.
    pub name: String,
}

/// Whom a message can go to: a person, a group, or a conversation by its name.
pub trait Recipient {
    /// The conversation in which `sender` reaches them.
    fn conversation<'a>(&'a self, sender: &'a Person) -> Pin<Box<dyn Future<Output = String> + Send + 'a>>;
}

/// A message on its way.
#[derive(Clone, Debug)]
pub struct Sending<'a> {
    sender: &'a Person,
    text: String,
    metadata: BTreeMap<String, String>,
    request_id: String,
}

impl Person {
    pub(crate) async fn register(world: &World, name: &str) -> Self {
        let handle = format!("{name}-{}", crate::unique());
        let request = CreateAccountRequest {
            handle: handle.clone(),
            display_name: name.into(),
            password: PASSWORD.into(),
            invitation: String::new(),
        };
        let mut accounts = world.anonymous().accounts();
        accounts.create_account(request).await.unwrap_or_else(|error| panic!("{name} cannot register: {error:?}"));
        Self::signs_in(world, &handle).await
    }

    /// Signs a person in who is registered; each time it is another session.
    pub async fn signs_in(world: &World, handle: &str) -> Self {
        Self::try_sign_in(world, handle, PASSWORD)
            .await
            .unwrap_or_else(|error| panic!("{handle} cannot sign in: {error:?}"))
    }

    /// Tries to sign a person in.
    ///
    /// # Errors
    /// What the server answers.
    pub async fn try_sign_in(world: &World, handle: &str, password: &str) -> Result<Self, Status> {
        let request = LoginRequest {
            handle: handle.into(),
            password: password.into(),
            client_id: String::new(),
            label: "test".into(),
        };
        let calls = world.anonymous();
        let LoginResponse { account, session, tokens } = calls.login().login(request).await?.into_inner();
        let account = account.expect("an answer to a login has an account");
        let tokens = tokens.expect("an answer to a login has tokens");
        calls.bearer().set(Some(tokens.access_token.clone()));
        Ok(Self {
            world: world.quiet(),
            calls,
            name: account.name,
            handle: account.handle,
            session: session.expect("an answer to a login has a session"),
            tokens,
        })
    }

    /// Another sign-in of the same person, over a connection of its own.
    pub async fn another_session(&self) -> Self {
        Self::signs_in(&self.world, &self.handle).await
    }

    /// Uses the refresh token: the session goes on with new tokens.
    ///
    /// # Errors
    /// What the server answers.
    pub async fn refreshes(&mut self) -> Result<(), Status> {
        let grant = Grant::RefreshToken(RefreshTokenGrant { refresh_token: self.tokens.refresh_token.clone() });
        let answer = self.world.anonymous().tokens().issue_token(cli_asks(grant)).await?.into_inner();
        self.tokens = answer.tokens.ok_or_else(|| Status::internal("an answer without tokens"))?;
        self.calls.bearer().set(Some(self.tokens.access_token.clone()));
        Ok(())
    }

    /// The same person, with the same tokens, in a world that carries on with this one's stores.
    pub fn in_world(&self, world: &World) -> Self {
        let calls = world.with_token(self.token());
        Self { world: world.quiet(), calls, ..self.clone() }
    }

    /// The clients of all services with this person's token.
    pub fn calls(&self) -> &Calls {
        &self.calls
    }

    /// The access token in use.
    pub fn token(&self) -> String {
        self.calls.bearer().get().expect("a signed-in person has a token")
    }

    /// The world that the person lives in.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// The id of the person without `users/`.
    pub fn id(&self) -> &str {
        self.name.strip_prefix("users/").expect("a person's name begins with users/")
    }

    /// Begins to send a text.
    pub fn sends(&self, text: impl Into<String>) -> Sending<'_> {
        Sending { sender: self, text: text.into(), metadata: BTreeMap::new(), request_id: request_id() }
    }

    /// The direct conversation with `other`, begun if need be.
    pub async fn direct(&self, other: &Person) -> String {
        let kind = Kind::Direct(DirectConversation { user: other.name.clone() });
        self.creates(kind).await.name
    }

    /// Makes a group with these people in it.
    pub async fn creates_group(&self, title: &str, members: &[&Person]) -> Group {
        let members = members.iter().map(|member| member.name.clone()).collect();
        Group { name: self.creates(Kind::Group(GroupConversation { title: title.into(), members })).await.name }
    }

    async fn creates(&self, kind: Kind) -> Conversation {
        let request = CreateConversationRequest { request_id: request_id(), kind: Some(kind) };
        let answer = self.calls.conversations().create_conversation(request).await;
        let answer = answer.unwrap_or_else(|error| panic!("{} cannot begin a conversation: {error:?}", self.handle));
        answer.into_inner().conversation.expect("the answer has the conversation")
    }

    /// A conversation as this person sees it.
    pub async fn sees(&self, conversation: &str) -> Conversation {
        let request = GetConversationRequest { name: conversation.into() };
        let answer = self.calls.conversations().get_conversation(request).await;
        let answer = answer.unwrap_or_else(|error| panic!("{} does not see it: {error:?}", self.handle));
        answer.into_inner().conversation.expect("the answer has the conversation")
    }

    /// All messages of a conversation that this person may see, from the oldest on.
    pub async fn reads_all(&self, conversation: &str) -> Vec<Message> {
        let mut client = self.calls.messages();
        let mut all = Vec::new();
        let mut page_token = String::new();
        loop {
            let request =
                ListMessagesRequest { parent: conversation.into(), page_size: 200, page_token, oldest_first: true };
            let page = client.list_messages(request).await;
            let page = page.unwrap_or_else(|error| panic!("{} cannot read: {error:?}", self.handle)).into_inner();
            all.extend(page.messages);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return all;
            }
        }
    }

    /// Opens the stream of the device `phone`.
    pub async fn listens(&self) -> Listening {
        self.listens_on("phone").await
    }

    /// Opens the stream of a device.
    pub async fn listens_on(&self, device: &str) -> Listening {
        self.opens(device).open().await
    }

    /// Describes a stream to open.
    pub fn opens(&self, device: &str) -> Opening<'_> {
        Opening::new(self, device)
    }
}

/// A request for tokens by the command line's own public client.
pub fn cli_asks(grant: Grant) -> IssueTokenRequest {
    let client = ClientCredentials { client_id: "flaghoist-cli".into(), ..ClientCredentials::default() };
    IssueTokenRequest { client: Some(client), grant: Some(grant), scope: String::new() }
}

impl Sending<'_> {
    /// Sends with this request id instead of a new one.
    #[must_use]
    pub fn request_id(mut self, id: impl Into<String>) -> Self {
        self.request_id = id.into();
        self
    }

    /// Adds an entry of metadata.
    #[must_use]
    pub fn metadata(mut self, key: &str, value: &str) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// Sends it; it must be answered.
    pub async fn to(self, recipient: &impl Recipient) -> CreateMessageResponse {
        let handle = self.sender.handle.clone();
        self.tries(recipient).await.unwrap_or_else(|error| panic!("{handle} cannot send: {error:?}"))
    }

    /// Tries to send it.
    ///
    /// # Errors
    /// What the server answers.
    pub async fn tries(self, recipient: &impl Recipient) -> Result<CreateMessageResponse, Status> {
        let request = CreateMessageRequest {
            parent: recipient.conversation(self.sender).await,
            request_id: self.request_id,
            text: self.text,
            metadata: self.metadata,
        };
        Ok(self.sender.calls.messages().create_message(request).await?.into_inner())
    }
}

impl Recipient for Person {
    fn conversation<'a>(&'a self, sender: &'a Person) -> Pin<Box<dyn Future<Output = String> + Send + 'a>> {
        Box::pin(sender.direct(self))
    }
}

impl Recipient for Group {
    fn conversation<'a>(&'a self, _sender: &'a Person) -> Pin<Box<dyn Future<Output = String> + Send + 'a>> {
        Box::pin(std::future::ready(self.name.clone()))
    }
}

impl Recipient for String {
    fn conversation<'a>(&'a self, _sender: &'a Person) -> Pin<Box<dyn Future<Output = String> + Send + 'a>> {
        Box::pin(std::future::ready(self.clone()))
    }
}
