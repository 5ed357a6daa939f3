//! Handles and titles in place of resource names: asked for once, then remembered while the command runs.

use std::collections::HashMap;

use flaghoist_proto::login::v1::GetAccountRequest;
use flaghoist_proto::login::v1::account_service_client::AccountServiceClient;
use flaghoist_proto::send::v1::conversation_service_client::ConversationServiceClient;
use flaghoist_proto::send::v1::{Conversation, ConversationKind, GetConversationRequest};

use super::connection::Signed;
use super::output::harmless;

/// How many names are remembered of each kind; past it all are forgotten and asked for again.
const REMEMBERED_MAX: usize = 10_000;

/// What is known about names. A name that cannot be found out now is shown as it is.
#[derive(Debug)]
pub(crate) struct Names<'a> {
    signed: &'a Signed,
    handles: HashMap<String, Option<String>>,
    labels: HashMap<String, String>,
}

impl<'a> Names<'a> {
    /// Nothing but the name of the person who is signed in.
    pub(crate) fn new(signed: &'a Signed) -> Self {
        let own = (signed.user().to_owned(), Some(signed.handle().to_owned()));
        Self { signed, handles: HashMap::from([own]), labels: HashMap::new() }
    }

    /// The handle of `user`; none if the account is gone or the server does not say.
    pub(crate) async fn handle(&mut self, user: &str) -> Option<String> {
        if let Some(known) = self.handles.get(user) {
            return known.clone();
        }
        let answer = self
            .signed
            .call(|service| {
                let request = GetAccountRequest { name: user.to_owned() };
                async move { AccountServiceClient::new(service).get_account(request).await }
            })
            .await;
        let handle = match answer {
            Ok(answer) => answer.account.map(|account| account.handle),
            // An account that is gone stays gone; anything else may pass.
            Err(failure) if failure.exit == crate::exit::Exit::BadInput => None,
            Err(_) => return None,
        };
        remember(&mut self.handles, user, handle.clone());
        handle
    }

    /// `user` as people are shown it: `@handle`, else the resource name.
    pub(crate) async fn person(&mut self, user: &str) -> String {
        self.handle(user).await.map_or_else(|| harmless(user), |handle| format!("@{}", harmless(&handle)))
    }

    /// Several people, separated by commas.
    pub(crate) async fn people(&mut self, users: &[String]) -> String {
        let mut shown = String::new();
        for user in users.iter().take(20) {
            if !shown.is_empty() {
                shown.push_str(", ");
            }
            shown.push_str(&self.person(user).await);
        }
        if users.len() > 20 {
            shown.push_str(&format!(" and {} more", users.len() - 20));
        }
        shown
    }

    /// A conversation as people are shown it: `@peer`, else its title, else its resource name.
    pub(crate) async fn conversation(&mut self, name: &str) -> String {
        if let Some(known) = self.labels.get(name) {
            return known.clone();
        }
        let answer = self
            .signed
            .call(|service| {
                let request = GetConversationRequest { name: name.to_owned() };
                async move { ConversationServiceClient::new(service).get_conversation(request).await }
            })
            .await;
        match answer.ok().and_then(|answer| answer.conversation) {
            Some(conversation) => self.label(&conversation).await,
            None => harmless(name),
        }
    }

    /// A conversation that was just read, as people are shown it.
    pub(crate) async fn label(&mut self, conversation: &Conversation) -> String {
        let label = match conversation.kind() {
            ConversationKind::Direct if !conversation.peer.is_empty() => self.person(&conversation.peer).await,
            _ if !conversation.title.is_empty() => harmless(&conversation.title),
            _ => harmless(&conversation.name),
        };
        remember(&mut self.labels, &conversation.name, label.clone());
        label
    }

    /// Forgets how a conversation is called, because its title changed.
    pub(crate) fn renamed(&mut self, conversation: &str) {
        self.labels.remove(conversation);
    }
}

fn remember<V>(known: &mut HashMap<String, V>, name: &str, value: V) {
    if known.len() >= REMEMBERED_MAX {
        known.clear();
    }
    known.insert(name.to_owned(), value);
}
