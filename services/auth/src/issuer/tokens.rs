//! Making tokens: for a sign-in, for a refresh token, for a client by itself. Whatever grant they come from, they are made by
//! [`Issuer::tokens`] and signed here.

use std::sync::Arc;

use flaghoist_runtime::fault;
use flaghoist_runtime::names::{SessionId, UserId};
use uuid::Uuid;

use super::{Asker, Issuer, printable};
use crate::access_token::{Claims, SignError};
use crate::audit::Origin;
use crate::authorization::acr_of;
use crate::client::GrantType;
use crate::error::{Error, StoreError};
use crate::feed::Feed;
use crate::id_token::IdClaims;
use crate::moment::{Clock, Moment};
use crate::profile::ProfileClaims;
use crate::scope::Scopes;
use crate::session::{Family, Grant, Lifetimes, Presentation, Session, Verdict};
use crate::store::{Opened, Store};

/// The longest name of a device that is kept.
const LABEL_MAX_CHARS: usize = 64;

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
    /// Whether the access token is bound to a key.
    pub(crate) bound: bool,
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

/// A batch of refreshes was not committed. The cause has been logged.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unrefreshed {
    Unavailable,
    Internal,
}

impl Issuer {
    /// Opens a session and answers its first tokens. Scopes that the client or the person may not have are left out.
    pub(crate) async fn sign_in(&self, sign_in: SignIn) -> Result<(Session, Tokens), Error> {
        let client = self.clients.get(&sign_in.client_id).await?.ok_or(Error::ClientInvalid)?;
        if client.registration.dpop_bound {
            // Login has no proof of the client's key.
            return Err(Error::ClientUnauthorized);
        }
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
            key_thumbprint: String::new(),
        };
        let by = Origin::sign_in(&session, now);
        let opened = self.store.open_session(&session, self.settings.sessions_max, &by).await?;
        session.scopes = self.note_opened(opened, id, session.user, &client.id).await?;
        let asker = Asker::new(&client, &session.last_address, None)?;
        let tokens = self.tokens(&session.grant(), asker, session.scopes, first.text(), Told::default())?;
        Ok((session, tokens))
    }

    /// Takes note of a session that was to be opened, and answers the scopes that it has.
    pub(crate) async fn note_opened(
        &self,
        opened: Opened,
        session: SessionId,
        user: UserId,
        client_id: &str,
    ) -> Result<Scopes, Error> {
        let (scopes, ended) = match opened {
            Opened::Open { scopes, ended } => (scopes, ended),
            Opened::SubjectDisabled => return Err(Error::SubjectDisabled),
            Opened::ClientUnknown => return Err(Error::ClientInvalid),
        };
        tracing::info!(
            target: "audit", event = "session_opened", session = %session, user = %user, client_id, scopes = %scopes,
            older_ended = ended.len()
        );
        if !ended.is_empty() {
            self.publish().await;
        }
        Ok(scopes)
    }

    /// Exchanges a refresh token.
    pub(crate) async fn refresh(&self, asker: Asker<'_>, refresh_token: &str, scope: &str) -> Result<Tokens, Error> {
        let client = asker.client;
        if !client.may_use(GrantType::RefreshToken) {
            return Err(Error::ClientUnauthorized);
        }
        let scopes = asked(scope)?;
        let token = self.refresh_keys.read(refresh_token).ok_or(Error::GrantInvalid)?;
        if asker.proof.is_some() {
            // Whoever had a session once has a token that was good, and would fill the store with it.
            self.store.session(token.session()).await?.ok_or(Error::GrantInvalid)?;
            self.use_proof(asker.proof).await?;
        }
        let successor = self.refresh_keys.successor(&token);
        let presentation = Presentation {
            session: token.session(),
            presented: token.digest(),
            successor: successor.digest(),
            client_id: client.id.clone(),
            scopes,
            address: asker.address.to_owned(),
            key: asker.refresh_key().map(str::to_owned),
        };
        match self.refreshes.submit(presentation).await? {
            Ok(Verdict::Granted(grant)) => {
                // What the client may not have any more is in no new token.
                let scopes = scopes.unwrap_or(grant.scopes) & client.scopes;
                self.tokens(&grant, asker, scopes, successor.text(), Told::default())
            }
            Ok(Verdict::ScopeExceeded) => Err(Error::ScopeInvalid),
            Ok(Verdict::Reused | Verdict::Ended | Verdict::Expired) => Err(Error::GrantInvalid),
            Err(Unrefreshed::Unavailable) => Err(Error::Unavailable),
            Err(Unrefreshed::Internal) => Err(Error::Internal),
        }
    }

    /// Answers a token of the client's own.
    pub(crate) async fn client_token(&self, asker: Asker<'_>, scope: &str) -> Result<Tokens, Error> {
        let client = asker.client;
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
        self.use_proof(asker.proof).await?;
        let claims = Claims::of_client(&self.url, &client.id, scopes, now, expires_at);
        let access_token = self.sign(&Claims { cnf: asker.confirmation(), ..claims })?;
        let bound = asker.proof.is_some();
        Ok(Tokens { access_token, expires_at, refresh_token: None, scopes, id_token: None, bound })
    }

    /// The tokens of a session.
    pub(crate) fn tokens(
        &self,
        grant: &Grant,
        asker: Asker<'_>,
        scopes: Scopes,
        refresh_token: String,
        told: Told<'_>,
    ) -> Result<Tokens, Error> {
        let client = asker.client;
        let now = self.clock.now();
        let expires_at = now.plus(self.settings.access_lifetime);
        let mut subject = Uuid::encode_buffer();
        let claims = Claims {
            sub: grant.user.0.hyphenated().encode_lower(&mut subject),
            sid: Some(grant.session.0),
            auth_time: Some(grant.authenticated_at.seconds()),
            amr: &grant.amr,
            cnf: asker.confirmation(),
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
        Ok(Tokens { access_token, expires_at, refresh_token, scopes, id_token, bound: asker.proof.is_some() })
    }

    pub(super) fn sign(&self, claims: &Claims<'_>) -> Result<String, Error> {
        let published = self.keyring.published().ok_or(Error::Unavailable)?;
        published.signer.sign(claims).map_err(unsigned)
    }
}

/// What an ID token says beside what every token of the session does.
#[derive(Debug, Default)]
pub(crate) struct Told<'a> {
    pub(crate) nonce: Option<&'a str>,
    pub(crate) profile: ProfileClaims,
}

pub(super) fn unsigned(error: SignError) -> Error {
    fault::log_chain("writing a token", &error);
    Error::Internal
}

/// The scopes that are asked for; none if that is left open.
pub(crate) fn asked(scope: &str) -> Result<Option<Scopes>, Error> {
    let scopes = Scopes::parse(scope).map_err(|_| Error::ScopeInvalid)?;
    Ok((!scopes.empty()).then_some(scopes))
}

/// Commits batches of refreshes.
#[derive(Debug)]
pub(super) struct Commit {
    pub(super) store: Arc<dyn Store>,
    pub(super) feed: Arc<Feed>,
    pub(super) clock: Clock,
    pub(super) lifetimes: Lifetimes,
}

impl Commit {
    /// Judges and commits a batch.
    pub(super) async fn run(&self, batch: Vec<Presentation>) -> Vec<Result<Verdict, Unrefreshed>> {
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
