//! The issuer itself: sessions, tokens and clients as callers ask for them, whatever they call over.

use std::sync::Arc;
use std::time::Duration;

use flaghoist_runtime::batch::Batcher;
use flaghoist_runtime::names::{SessionId, UserId};
use flaghoist_runtime::token::{RevocationTarget, TokenError};
use flaghoist_runtime::{Caller, Verifier, fault};
use tokio::time::Instant;
use uuid::Uuid;

use crate::access_token::{Claims, SignError};
use crate::audit::{Action, Actor, Event, Origin, Tally, Why};
use crate::authorization::acr_of;
use crate::client::{self, BUILT_IN, Client, ClientSecret, GrantType, Registration};
use crate::clients::Clients;
use crate::error::{Error, StoreError};
use crate::feed::Feed;
use crate::id_token::{IdClaims, ProfileClaims};
use crate::keyring::Keyring;
use crate::moment::{Clock, Moment};
use crate::refresh_token::RefreshKeys;
use crate::scope::Scopes;
use crate::session::{Family, Grant, Presentation, Session, Verdict};
use crate::settings::Settings;
use crate::store::{Addition, Opened, Store, SubjectState};

mod admin;

/// How many refreshes go into one commit.
const BATCH_MAX: usize = 512;

/// How many sessions of a removed client are ended in one commit, so that refreshes get their turn in between.
pub(crate) const SWEEP_MAX: u32 = 500;

/// The longest name of a device that is kept.
const LABEL_MAX_CHARS: usize = 64;

/// How many revocations of single access tokens are told of in the audit log at once; what is more is counted.
const TOKENS_BURST: u32 = 600;

/// How long it takes until one more may be.
const TOKEN_EVERY: Duration = Duration::from_secs(10);

/// Tokens as they are answered.
#[derive(Debug)]
pub(crate) struct Tokens {
    pub(crate) access_token: String,
    pub(crate) expires_at: Moment,
    /// None for a client's own token, and for a client without that grant.
    pub(crate) refresh_token: Option<String>,
    /// What the access token allows.
    pub(crate) scopes: Scopes,
    /// With the scope `openid`.
    pub(crate) id_token: Option<String>,
}

/// A sign-in that login has checked.
#[derive(Clone, Debug)]
pub(crate) struct SignIn {
    pub(crate) user: UserId,
    pub(crate) client_id: String,
    pub(crate) scopes: Scopes,
    pub(crate) amr: Vec<String>,
    pub(crate) authenticated_at: Option<Moment>,
    pub(crate) label: String,
    pub(crate) address: String,
}

/// A token that is worth something.
#[derive(Debug)]
pub(crate) enum Inspected {
    /// An access token.
    Access(Arc<Caller>),
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
    pub(crate) refresh_keys: RefreshKeys,
    refreshes: Batcher<Presentation, Result<Verdict, Unrefreshed>>,
    pub(crate) verifier: Arc<Verifier>,
}

/// A batch of refreshes was not committed. The cause has been logged.
#[derive(Clone, Copy, Debug)]
enum Unrefreshed {
    Unavailable,
    Internal,
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
    pub(crate) verifier: Arc<Verifier>,
}

impl Issuer {
    /// Starts committing refreshes.
    pub(crate) fn new(makings: Makings) -> Self {
        let Makings { url, settings, store, clients, keyring, feed, clock, refresh_keys, verifier } = makings;
        let commit =
            Commit { store: store.clone(), feed: feed.clone(), clock: clock.clone(), lifetimes: settings.lifetimes() };
        let commit = Arc::new(commit);
        let refreshes = Batcher::start("auth_refresh", settings.refresh_queue_max, BATCH_MAX, move |batch| {
            let commit = commit.clone();
            async move { commit.run(batch).await }
        });
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
            refresh_keys,
            refreshes,
            verifier,
        }
    }

    /// Opens a session and answers its first tokens. Scopes that the client or the person may not have are left out.
    pub(crate) async fn sign_in(&self, sign_in: SignIn) -> Result<(Session, Tokens), Error> {
        let client = self.clients.get(&sign_in.client_id).await?.ok_or(Error::ClientInvalid)?;
        let now = self.clock.now();
        let id = SessionId(Uuid::now_v7());
        let first = self.refresh_keys.first(id);
        let mut session = Session {
            id,
            user: sign_in.user,
            client_id: client.id.clone(),
            scopes: sign_in.scopes & client.scopes,
            amr: sign_in.amr,
            label: printable(&sign_in.label).take(LABEL_MAX_CHARS).collect(),
            authenticated_at: sign_in.authenticated_at.map_or(now, |time| time.min(now)),
            created_at: now,
            last_use_at: now.minute(),
            last_address: printable(&sign_in.address).collect(),
            family: Family { current: first.digest(), previous: None, rotated_at: now },
            claims: Vec::new(),
        };
        let by = Origin::sign_in(&session, now);
        match self.store.open_session(&session, self.settings.sessions_max, &by).await? {
            Opened::Open { scopes, ended } => {
                session.scopes = scopes;
                tracing::info!(
                    target: "audit", event = "session_opened", session = %id, user = %session.user,
                    client_id = %session.client_id, scopes = %scopes, older_ended = ended.len()
                );
                if !ended.is_empty() {
                    self.publish().await;
                }
            }
            Opened::SubjectDisabled => return Err(Error::SubjectDisabled),
            Opened::ClientUnknown => return Err(Error::ClientInvalid),
        }
        let tokens = self.tokens(&session.grant(), &client, session.scopes, first.text(), Told::default())?;
        Ok((session, tokens))
    }

    /// Exchanges a refresh token.
    pub(crate) async fn refresh(
        &self,
        client: &Client,
        refresh_token: &str,
        scope: &str,
        address: String,
    ) -> Result<Tokens, Error> {
        if !client.may_use(GrantType::RefreshToken) {
            return Err(Error::ClientUnauthorized);
        }
        let scopes = asked(scope)?;
        let token = self.refresh_keys.read(refresh_token).ok_or(Error::GrantInvalid)?;
        let successor = self.refresh_keys.successor(&token);
        let presentation = Presentation {
            session: token.session(),
            presented: token.digest(),
            successor: successor.digest(),
            client_id: client.id.clone(),
            scopes,
            address,
        };
        match self.refreshes.submit(presentation).await? {
            Ok(Verdict::Granted(grant)) => {
                // What the client may not have any more is in no new token.
                let scopes = scopes.unwrap_or(grant.scopes) & client.scopes;
                self.tokens(&grant, client, scopes, successor.text(), Told::default())
            }
            Ok(Verdict::ScopeExceeded) => Err(Error::ScopeInvalid),
            Ok(Verdict::Reused | Verdict::Ended | Verdict::Expired) => Err(Error::GrantInvalid),
            Err(Unrefreshed::Unavailable) => Err(Error::Unavailable),
            Err(Unrefreshed::Internal) => Err(Error::Internal),
        }
    }

    /// Answers a token of the client's own.
    pub(crate) async fn client_token(&self, client: &Client, scope: &str) -> Result<Tokens, Error> {
        if !client.confidential() || !client.may_use(GrantType::ClientCredentials) {
            return Err(Error::ClientUnauthorized);
        }
        let now = self.clock.now();
        // No session stands behind this token, so what another pod did to the client a moment ago would be known too late.
        let stored = self.clients.now(&client.id).await?.filter(|stored| stored.still_proven(client, now));
        let client = stored.ok_or(Error::ClientInvalid)?;
        // Nobody has signed in: what is about a person is not for a client by itself.
        let allowed = client.scopes & Scopes::API;
        let scopes = asked(scope)?.unwrap_or(allowed);
        if !allowed.includes(scopes) {
            return Err(Error::ScopeInvalid);
        }
        let expires_at = now.plus(self.settings.access_lifetime);
        let access_token = self.sign(&Claims::of_client(&self.url, &client.id, scopes, now, expires_at))?;
        Ok(Tokens { access_token, expires_at, refresh_token: None, scopes, id_token: None })
    }

    /// The tokens of a session.
    pub(crate) fn tokens(
        &self,
        grant: &Grant,
        client: &Client,
        scopes: Scopes,
        refresh_token: String,
        told: Told<'_>,
    ) -> Result<Tokens, Error> {
        let now = self.clock.now();
        let expires_at = now.plus(self.settings.access_lifetime);
        let mut subject = Uuid::encode_buffer();
        let claims = Claims {
            sub: grant.user.0.hyphenated().encode_lower(&mut subject),
            sid: Some(grant.session.0),
            auth_time: Some(grant.authenticated_at.seconds()),
            amr: &grant.amr,
            ..Claims::of_client(&self.url, &client.id, scopes, now, expires_at)
        };
        let access_token = self.sign(&claims)?;
        let id_token = if scopes.includes(Scopes::OPENID) {
            let algorithm = client.registration.id_token_algorithm;
            let published = self.keyring.published().ok_or(Error::Unavailable)?;
            let signer = published.signer_with(algorithm).ok_or(Error::Unavailable)?;
            let claims = IdClaims {
                iss: &self.url,
                sub: claims.sub,
                aud: &client.id,
                exp: expires_at.seconds(),
                iat: now.seconds(),
                auth_time: grant.authenticated_at.seconds(),
                nonce: told.nonce,
                at_hash: algorithm.half_digest(&access_token),
                sid: grant.session.to_string(),
                amr: &grant.amr,
                acr: acr_of(&grant.amr),
                profile: told.profile,
            };
            Some(signer.sign_id_token(&claims).map_err(unsigned)?)
        } else {
            None
        };
        let refresh_token = client.may_use(GrantType::RefreshToken).then_some(refresh_token);
        Ok(Tokens { access_token, expires_at, refresh_token, scopes, id_token })
    }

    fn sign(&self, claims: &Claims<'_>) -> Result<String, Error> {
        let published = self.keyring.published().ok_or(Error::Unavailable)?;
        published.signer.sign(claims).map_err(unsigned)
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

    /// Says what a token is worth now, by whatever was revoked on any pod before the call; nothing if it is worth nothing. A
    /// refresh token is shown to its own client only.
    pub(crate) async fn inspect(&self, client: &Client, token: &str) -> Result<Option<Inspected>, Error> {
        if !client.confidential() {
            return Err(Error::ClientInvalid);
        }
        let Some(token) = self.refresh_keys.read(token) else {
            let Some(caller) = self.caller(token)? else { return Ok(None) };
            // Whoever asks here wants to know what holds now, also by what another pod revoked a moment ago.
            self.feed.publish_until(Instant::now()).await?;
            return Ok((!self.verifier.revoked(&caller)).then_some(Inspected::Access(caller)));
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

    /// Who is behind an access token; nobody if it is worth nothing.
    pub(crate) fn caller(&self, token: &str) -> Result<Option<Arc<Caller>>, Error> {
        match self.verifier.verify(token) {
            Ok(caller) => Ok(Some(caller)),
            Err(TokenError::KeysUnknown) => Err(Error::Unavailable),
            Err(TokenError::Missing | TokenError::Invalid(_) | TokenError::Expired | TokenError::Revoked) => Ok(None),
        }
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

    /// Ends the sessions of a person, all but `except`.
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
        client::check_id(&id)?;
        registration.check(confidential)?;
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
        Ok((self.clients.insert(client).await, secret))
    }

    /// Removes a client, its sessions and its tokens.
    pub(crate) async fn delete_client(&self, id: &str, by: &Origin) -> Result<(), Error> {
        if id == BUILT_IN {
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

/// What an ID token says beside what every token of the session does.
#[derive(Debug, Default)]
pub(crate) struct Told<'a> {
    pub(crate) nonce: Option<&'a str>,
    pub(crate) profile: ProfileClaims,
}

fn unsigned(error: SignError) -> Error {
    fault::log_chain("writing a token", &error);
    Error::Internal
}

/// The resource name of a client.
pub(crate) fn client_name(id: &str) -> String {
    format!("clients/{id}")
}

/// A text without what cannot be shown, and what not every store takes.
pub(crate) fn printable(text: &str) -> impl Iterator<Item = char> {
    text.chars().filter(|letter| !letter.is_control())
}

/// The scopes that are asked for; none if that is left open.
fn asked(scope: &str) -> Result<Option<Scopes>, Error> {
    let scopes = Scopes::parse(scope).map_err(|_| Error::ScopeInvalid)?;
    Ok((!scopes.empty()).then_some(scopes))
}

/// Commits batches of refreshes.
#[derive(Debug)]
struct Commit {
    store: Arc<dyn Store>,
    feed: Arc<Feed>,
    clock: Clock,
    lifetimes: crate::session::Lifetimes,
}

impl Commit {
    async fn run(&self, batch: Vec<Presentation>) -> Vec<Result<Verdict, Unrefreshed>> {
        match self.store.present(&batch, &self.lifetimes, self.clock.now()).await {
            Ok(verdicts) => {
                for (token, verdict) in batch.iter().zip(&verdicts) {
                    self.take_note(token, verdict);
                }
                verdicts.into_iter().map(Ok).collect()
            }
            Err(error) => {
                let failure = unrefreshed(&error);
                fault::log_chain("refreshing sessions", &error);
                batch.iter().map(|_| Err(failure)).collect()
            }
        }
    }

    fn take_note(&self, token: &Presentation, verdict: &Verdict) {
        let event = match verdict {
            Verdict::Reused => "refresh_token_reused",
            Verdict::Expired => "session_expired",
            Verdict::Granted(_) | Verdict::Ended | Verdict::ScopeExceeded => return,
        };
        self.feed.hint();
        tracing::warn!(
            target: "audit", event, session = %token.session, client_id = %token.client_id, address = token.address
        );
    }
}

fn unrefreshed(error: &StoreError) -> Unrefreshed {
    if error.transient { Unrefreshed::Unavailable } else { Unrefreshed::Internal }
}
