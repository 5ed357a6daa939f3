//! What a person writes for a conversation: `@bob` for the direct one with Bob, or a conversation by its name or id.

use std::str::FromStr;

use flaghoist_proto::login::v1::LookupAccountRequest;
use flaghoist_proto::login::v1::account_service_client::AccountServiceClient;
use flaghoist_proto::send::v1::conversation_service_client::ConversationServiceClient;
use flaghoist_proto::send::v1::create_conversation_request::Kind;
use flaghoist_proto::send::v1::{
    Conversation, CreateConversationRequest, DirectConversation, GetConversationRequest, ListConversationsRequest,
};
use uuid::Uuid;

use super::connection::Signed;
use crate::exit::{Exit, Failure};

/// A conversation as a person names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The direct conversation with the person of this handle.
    Person(String),
    /// The conversation of this name, `conversations/{conversation}`.
    Conversation(String),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(handle) = text.strip_prefix('@') {
            return if handle.is_empty() {
                Err("a handle follows the `@`".into())
            } else {
                Ok(Self::Person(handle.into()))
            };
        }
        let id = text.strip_prefix("conversations/").unwrap_or(text);
        Uuid::try_parse(id)
            .map(|id| Self::Conversation(format!("conversations/{}", id.hyphenated())))
            .map_err(|_| "neither a person like @bob nor a conversation like conversations/0199…".into())
    }
}

impl Target {
    /// The conversation's name, for sending to it: a direct one is begun if there is none yet.
    pub(crate) async fn begin(&self, signed: &Signed) -> Result<String, Failure> {
        let handle = match self {
            Self::Conversation(name) => return Ok(name.clone()),
            Self::Person(handle) => handle,
        };
        let user = person(signed, handle).await?;
        let request = CreateConversationRequest {
            request_id: new_request_id(),
            kind: Some(Kind::Direct(DirectConversation { user })),
        };
        let answer = signed
            .call(|service| {
                let request = request.clone();
                async move { ConversationServiceClient::new(service).create_conversation(request).await }
            })
            .await?;
        answer
            .conversation
            .map(|conversation| conversation.name)
            .ok_or_else(|| Failure::new(Exit::Failed, "the server answered without the conversation"))
    }

    /// The conversation, for reading it: nothing is begun.
    pub(crate) async fn find(&self, signed: &Signed) -> Result<Conversation, Failure> {
        match self {
            Self::Conversation(name) => {
                let answer = signed
                    .call(|service| {
                        let request = GetConversationRequest { name: name.clone() };
                        async move { ConversationServiceClient::new(service).get_conversation(request).await }
                    })
                    .await?;
                answer
                    .conversation
                    .ok_or_else(|| Failure::new(Exit::Failed, "the server answered without the conversation"))
            }
            Self::Person(handle) => {
                let user = person(signed, handle).await?;
                let mut conversations = Conversations::new(signed);
                while let Some(page) = conversations.next().await? {
                    if let Some(found) = page.into_iter().find(|conversation| conversation.peer == user) {
                        return Ok(found);
                    }
                }
                Err(Failure::new(
                    Exit::BadInput,
                    format!(
                        "there is no conversation with @{handle} yet: begin it with `flaghoist send @{handle} TEXT`"
                    ),
                ))
            }
        }
    }
}

/// The resource name of the person with this handle.
pub(crate) async fn person(signed: &Signed, handle: &str) -> Result<String, Failure> {
    let answer = signed
        .call(|service| {
            let request = LookupAccountRequest { handle: handle.to_owned() };
            async move { AccountServiceClient::new(service).lookup_account(request).await }
        })
        .await?;
    answer
        .account
        .map(|account| account.name)
        .ok_or_else(|| Failure::new(Exit::Failed, "the server answered without the account"))
}

/// A new id for a request that may be repeated.
pub(crate) fn new_request_id() -> String {
    Uuid::now_v7().to_string()
}

/// The pages of the caller's conversations.
#[derive(Debug)]
pub(crate) struct Conversations<'a> {
    signed: &'a Signed,
    page_token: Option<String>,
}

impl<'a> Conversations<'a> {
    /// From the first page on.
    pub(crate) fn new(signed: &'a Signed) -> Self {
        Self { signed, page_token: Some(String::new()) }
    }

    /// The next page, if there is one.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<Conversation>>, Failure> {
        let Some(page_token) = self.page_token.take() else { return Ok(None) };
        let answer = self
            .signed
            .call(|service| {
                let request = ListConversationsRequest { page_size: 200, page_token: page_token.clone() };
                async move { ConversationServiceClient::new(service).list_conversations(request).await }
            })
            .await?;
        self.page_token = Some(answer.next_page_token).filter(|token| !token.is_empty());
        Ok(Some(answer.conversations))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_or_a_conversation() {
        let id = "0199f0a1-0000-7000-8000-000000000001";
        let conversation = Target::Conversation(format!("conversations/{id}"));
        assert_eq!("@Bob".parse(), Ok(Target::Person("Bob".into())));
        assert_eq!(id.parse(), Ok(conversation.clone()));
        assert_eq!(format!("conversations/{}", id.to_uppercase()).parse(), Ok(conversation));
        for text in ["", "@", "bob", "users/1", "conversations/", "conversations/x"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
