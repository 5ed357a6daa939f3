//! The issuer itself: sessions, tokens and clients as callers ask for them, whatever they call over.

use std::sync::Arc;
use std::time::Duration;

use flaghoist_runtime::batch::Batcher;
use flaghoist_runtime::names::{SessionId, UserId};
use flaghoist_runtime::token::{RevocationTarget, TokenError};
use flaghoist_runtime::{Caller, Verifier, fault};
use tokio::time::Instant;

use crate::audit::{Action, Actor, Event, Origin, Tally, Why};
use crate::client::{self, AuthMethod, Client, ClientSecret, Registration};
use crate::clients::Clients;
use crate::error::Error;
use crate::feed::Feed;
use crate::keyring::Keyring;
use crate::moment::Clock;
use crate::nonce::Nonces;
use crate::refresh_token::RefreshKeys;
use crate::scope::Scopes;
use crate::session::{Presentation, Session, Verdict};
use crate::settings::Settings;
use crate::store::{Addition, Store, SubjectState};

mod admin;
mod authentication;
mod exchange;
mod logout;
mod possession;
mod registering;
mod tokens;

pub(crate) use authentication::Proof;
pub(crate) use exchange::Exchange;
pub(crate) use possession::{Asker, replayed};
pub(crate) use registering::Metadata;
use tokens::{Commit, Unrefreshed, unsigned};
pub(crate) use tokens::{SignIn, Tokens, Told, asked};

/// How many refreshes go into one commit.
const BATCH_MAX: usize = 512;

/// How many sessions of a removed client are ended in one commit, so that refreshes get their turn in between.
pub(crate) const SWEEP_MAX: u32 = 500;

/// How many revocations and exchanges of single access tokens are told of in the audit log at once, each; what is more is counted.
const TOKENS_BURST: u32 = 600;

/// How long it takes until one more may be.
const TOKEN_EVERY: Duration = Duration::from_secs(10);

/// A token that is worth something.
#[derive(Debug)]
pub(crate) enum Inspected {
    /// An access token, and whom it is for.
    Access(Arc<Caller>, Vec<String>),
    /// The refresh token that is good now.
    Refresh(Box<Session>),
}

/// The issuer.
#[derive(Debug)]
pub(crate) struct Issuer {
    pub(crate) url: String,
    pub(crate) settings: Settings,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clients: Clients,
    pub(crate) keyring: Keyring,
    pub(crate) feed: Arc<Feed>,
    pub(crate) clock: Clock,
    /// Access tokens that were revoked one by one.
    token_revocations: Tally,
    /// Access tokens that were exchanged.
    token_exchanges: Tally,
    pub(crate) refresh_keys: RefreshKeys,
    pub(crate) nonces: Nonces,
    refreshes: Batcher<Presentation, Result<Verdict, Unrefreshed>>,
    /// The clients that are being told of logouts.
    logouts_under_way: logout::UnderWay,
    pub(crate) verifier: Arc<Verifier>,
}

/// What an [`Issuer`] is made from.
#[derive(Debug)]
pub(crate) struct Makings {
    pub(crate) url: String,
    pub(crate) settings: Settings,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clients: Clients,
    pub(crate) keyring: Keyring,
    pub(crate) feed: Arc<Feed>,
    pub(crate) clock: Clock,
    pub(crate) refresh_keys: RefreshKeys,
    pub(crate) nonces: Nonces,
    pub(crate) verifier: Arc<Verifier>,
}

impl Issuer {
    /// Starts committing refreshes.
    pub(crate) fn new(makings: Makings) -> Self {
        let Makings { url, settings, store, clients, keyring, feed, clock, refresh_keys, nonces, verifier } = makings;
        let commit =
            Commit { store: store.clone(), feed: feed.clone(), clock: clock.clone(), lifetimes: settings.lifetimes() };
        let commit = Arc::new(commit);
        let refreshes = Batcher::start("auth_refresh", settings.refresh_queue_max, BATCH_MAX, move |batch| {
            let commit = commit.clone();
            async move { commit.run(batch).await }
        });
        let token_exchanges = Tally::new(Action::TokenExchanged, false, TOKENS_BURST, TOKEN_EVERY);
        let token_revocations = Tally::new(Action::TokenRevoked, false, TOKENS_BURST, TOKEN_EVERY);
        Self {
            url,
            settings,
            store,
            clients,
            keyring,
            feed,
            clock,
            token_revocations,
            token_exchanges,
            refresh_keys,
            nonces,
            refreshes,
            logouts_under_way: logout::UnderWay::default(),
            verifier,
        }
    }

    /// Ends a token: an access token alone, a refresh token with its session. One that is worth nothing is no error.
    pub(crate) async fn revoke(&self, client: &Client, token: &str, address: &str) -> Result<(), Error> {
        let now = self.clock.now();
        let by = Origin::new(Actor::Client(client.id.clone()), now).by_client(&client.id).at_address(address);
        if let Some(token) = self.refresh_keys.read(token) {
            let Some(session) = self.store.session(token.session()).await? else { return Ok(()) };
            if session.client_id != client.id {
                return Err(Error::TokenOfAnother);
            }
            self.store.end_session(session.user, session.id, Why::SignedOut, &by).await?;
            tracing::info!(
                target: "audit", event = "session_revoked", by = "client", session = %session.id, user = %session.user,
                client_id = %client.id
            );
        } else {
            let Some(caller) = self.caller(token)? else { return Ok(()) };
            if *caller.client_id != *client.id {
                return Err(Error::TokenOfAnother);
            }
            let subject = caller.user.map_or_else(|| client_name(&caller.client_id), |user| user.name());
            let event = if self.token_revocations.admits(now) {
                let event = Event::new(&by, Action::TokenRevoked, subject);
                Some(Event { session: caller.session, ..event }.detail(caller.token_id.to_string()))
            } else {
                self.token_revocations.count(subject, &by.address);
                None
            };
            self.store.revoke(&RevocationTarget::Token(caller.token_id), event.as_ref(), now).await?;
            tracing::info!(
                target: "audit", event = "access_token_revoked", token_id = %caller.token_id, client_id = %client.id
            );
        }
        self.publish().await;
        Ok(())
    }

    /// Says what a token is worth now, by whatever was revoked on any pod before the call; nothing if it is worth nothing, or none of the
    /// client's business: an access token concerns the client that it was issued to and whoever it is for, a refresh token the
    /// former alone (RFC 7662 §4).
    pub(crate) async fn inspect(&self, client: &Client, token: &str) -> Result<Option<Inspected>, Error> {
        if !client.confidential() {
            return Err(Error::ClientInvalid);
        }
        let Some(token) = self.refresh_keys.read(token) else {
            let Some((caller, audiences)) = known(self.verifier.verify_for_any(token))? else { return Ok(None) };
            let stands_for = |audience: &String| client.registration.audiences.contains(audience);
            if *caller.client_id != *client.id && !audiences.iter().any(stands_for) {
                return Ok(None);
            }
            // Whoever asks here wants to know what holds now, also by what another pod revoked a moment ago.
            self.feed.publish_until(Instant::now()).await?;
            return Ok((!self.verifier.revoked(&caller)).then_some(Inspected::Access(caller, audiences)));
        };
        let session = self.store.session(token.session()).await?;
        let lifetimes = self.settings.lifetimes();
        let good = session.filter(|session| {
            session.client_id == client.id
                && session.family.current == token.digest()
                && !session.expired(&lifetimes, self.clock.now())
        });
        Ok(good.map(|session| Inspected::Refresh(Box::new(session))))
    }

    /// Who is behind an access token; nobody if it is worth nothing. Who brings one that is bound to a key has proven nothing yet.
    pub(crate) fn caller(&self, token: &str) -> Result<Option<Arc<Caller>>, Error> {
        known(self.verifier.verify(token))
    }

    /// The sessions of a person, newest first.
    pub(crate) async fn sessions(
        &self,
        user: UserId,
        before: Option<SessionId>,
        limit: u32,
    ) -> Result<Vec<Session>, Error> {
        let lifetimes = self.settings.lifetimes();
        Ok(self.store.sessions_of(user, before, limit, &lifetimes, self.clock.now()).await?)
    }

    /// Ends one session of a person.
    pub(crate) async fn end_session(&self, user: UserId, session: SessionId, by: &Origin) -> Result<bool, Error> {
        let ended = self.store.end_session(user, session, Why::Revoked, by).await?;
        if ended {
            tracing::info!(target: "audit", event = "session_revoked", by = "user", session = %session, user = %user);
            self.publish().await;
        }
        Ok(ended)
    }

    /// Ends the sessions of a person but the one that asks; all of them if their token belongs to none.
    pub(crate) async fn end_other_sessions(
        &self,
        user: UserId,
        kept: Option<SessionId>,
        by: &Origin,
    ) -> Result<u64, Error> {
        let ended = self.store.end_sessions_of(user, kept, by).await?;
        tracing::info!(target: "audit", event = "sessions_revoked", by = "user", user = %user, sessions = ended);
        self.publish().await;
        Ok(ended)
    }

    /// Ends the sessions of a person for login, all but `except`.
    pub(crate) async fn end_sessions_of(
        &self,
        user: UserId,
        except: Option<SessionId>,
        by: &Origin,
    ) -> Result<u64, Error> {
        let ended = self.store.end_sessions_of(user, except, by).await?;
        tracing::info!(target: "audit", event = "sessions_revoked", by = "login", user = %user, sessions = ended);
        self.publish().await;
        Ok(ended)
    }

    /// Records what a person may do.
    pub(crate) async fn set_subject(&self, user: UserId, state: SubjectState, by: &Origin) -> Result<(), Error> {
        let ended = self.store.set_subject(user, state, by).await?;
        tracing::info!(
            target: "audit", event = "subject_state_set", user = %user, enabled = state.enabled, admin = state.admin,
            sessions_ended = ended
        );
        self.publish().await;
        Ok(())
    }

    /// Removes what is kept about a person.
    pub(crate) async fn erase_subject(&self, user: UserId, by: &Origin) -> Result<u64, Error> {
        let erased = self.store.erase_subject(user, by).await?;
        tracing::info!(target: "audit", event = "subject_erased", user = %user, rows = erased);
        self.publish().await;
        Ok(erased)
    }

    /// The client called `id`, as it is now.
    pub(crate) async fn client(&self, id: &str) -> Result<Option<Arc<Client>>, Error> {
        self.clients.refresh().await?;
        Ok(self.clients.known(id))
    }

    /// The first `limit` clients by id after `after`, as they are now.
    pub(crate) async fn client_page(&self, after: Option<&str>, limit: usize) -> Result<Vec<Arc<Client>>, Error> {
        self.clients.refresh().await?;
        Ok(self.clients.page(after, limit))
    }

    /// Registers a client. The secret of a confidential one is answered once.
    pub(crate) async fn create_client(
        &self,
        id: &str,
        display_name: &str,
        confidential: bool,
        scopes: Scopes,
        registration: Registration,
        by: &Origin,
    ) -> Result<(Arc<Client>, Option<ClientSecret>), Error> {
        let id = if id.is_empty() { client::new_id() } else { id.to_owned() };
        client::check_new_id(&id)?;
        registration.check(confidential)?;
        // A client that signs is given no secret: the digest of one that nobody knows stands in its place.
        let signs = registration.auth_method == AuthMethod::PrivateKeyJwt;
        let secret = confidential.then(ClientSecret::random);
        let client = Client {
            id: id.into(),
            display_name: printable(display_name).collect(),
            secret: secret.as_ref().map(ClientSecret::digest),
            scopes,
            registration,
            created_at: by.at,
            previous_secret: None,
        };
        match self.store.add_client(&client, self.settings.clients_max, by).await? {
            Addition::Done => {}
            Addition::Exists => return Err(Error::ClientExists(client_name(&client.id))),
            Addition::Full => return Err(Error::ClientsFull(self.settings.clients_max)),
        }
        tracing::info!(
            target: "audit", event = "client_created", client_id = %client.id, confidential, scopes = %client.scopes
        );
        Ok((self.clients.insert(client).await, secret.filter(|_| !signs)))
    }

    /// Removes a client, its sessions and its tokens.
    pub(crate) async fn delete_client(&self, id: &str, by: &Origin) -> Result<(), Error> {
        if client::built_in(id) {
            return Err(Error::ClientBuiltIn(client_name(id)));
        }
        // What could never have been registered is not asked for: a store may not even take it for a text.
        if client::check_id(id).is_err() || !self.store.retire_client(id, by).await? {
            return Err(Error::ClientNotFound(client_name(id)));
        }
        self.clients.remove(id).await;
        tracing::info!(target: "audit", event = "client_deleted", client_id = id);
        self.publish().await;
        while self.store.sweep_retired_clients(SWEEP_MAX, self.clock.now()).await? {
            self.publish().await;
        }
        self.publish().await;
        Ok(())
    }

    /// Sends new revocations. If that fails they are sent a second later; the caller's own part is committed already.
    pub(crate) async fn publish(&self) {
        if let Err(error) = self.feed.publish().await {
            fault::log_chain("sending revocations", &error);
        }
    }
}

/// What was found out about a token; nothing about one that is worth nothing.
fn known<T>(verified: Result<T, TokenError>) -> Result<Option<T>, Error> {
    match verified {
        Ok(found) => Ok(Some(found)),
        Err(TokenError::KeysUnknown) => Err(Error::Unavailable),
        Err(
            TokenError::Missing
            | TokenError::Invalid(_)
            | TokenError::Expired
            | TokenError::Revoked
            | TokenError::Unproven(_),
        ) => Ok(None),
    }
}

/// The resource name of a client.
pub(crate) fn client_name(id: &str) -> String {
    format!("clients/{id}")
}

/// A text without what cannot be shown, and what not every store takes.
pub(crate) fn printable(text: &str) -> impl Iterator<Item = char> {
    text.chars().filter(|letter| !letter.is_control())
}
