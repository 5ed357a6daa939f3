//! What clients learn of a person with an access token, and how people sign out.

use axum::http::HeaderMap;
use flaghoist_runtime::Caller;
use flaghoist_runtime::names::UserId;
use flaghoist_runtime::token::{Presented, ProofError, TokenError};
use std::sync::Arc;

use super::{Issuer, Visitor, cookie_of};
use crate::audit::{Actor, Origin, Why};
use crate::code::Secret;
use crate::error::{Error, StoreError};
use crate::http::USERINFO_PATH;
use crate::id_token::Hint;
use crate::profile::{self, ProfileClaims};
use crate::redirect;
use crate::refresh_token::Digest;
use crate::scope::Scopes;

/// What userinfo says.
#[derive(Debug, serde::Serialize)]
pub(crate) struct UserInfo {
    sub: String,
    #[serde(flatten)]
    profile: ProfileClaims,
}

/// Why userinfo says nothing.
#[derive(Debug)]
pub(crate) enum UserInfoError {
    /// The token is worth nothing.
    TokenInvalid,
    /// It lacks the scope `openid`.
    ScopeMissing,
    /// It is bound to a key, which was not proven; or it is sent as one that is and is not.
    Unproven(ProofError),
    /// Something else.
    Failed(Error),
}

impl From<StoreError> for UserInfoError {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<Error> for UserInfoError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// What a client asks for when it sends someone to sign out.
#[derive(Debug, Default)]
pub(crate) struct SignOutRequest<'a> {
    pub(crate) id_token_hint: Option<&'a str>,
    pub(crate) client_id: Option<&'a str>,
    pub(crate) post_logout_redirect_uri: Option<&'a str>,
    pub(crate) state: Option<&'a str>,
    /// What the page asked back with; proves that the person was asked.
    pub(crate) confirmation: Option<&'a str>,
}

/// What becomes of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SignOut {
    /// They are signed out; the browser goes there, if anywhere.
    Done(Option<String>),
    /// They have to be asked, with this to be sent back.
    Ask(String),
    /// It is not done.
    Refused(&'static str),
}

impl Issuer {
    /// Who is behind an access token with the scope `openid`, and what they are called as far as that was granted.
    pub(crate) async fn user_info(
        &self,
        presented: Presented<'_>,
        headers: &HeaderMap,
        method: &str,
    ) -> Result<UserInfo, UserInfoError> {
        let caller: Arc<Caller> = self.caller(presented.token)?.ok_or(UserInfoError::TokenInvalid)?;
        let path = self.path_of(USERINFO_PATH);
        self.verifier.prove(&caller, presented, headers, method, &path).map_err(|error| match error {
            TokenError::Unproven(problem) => UserInfoError::Unproven(problem),
            _ => UserInfoError::TokenInvalid,
        })?;
        if !caller.scopes.iter().any(|scope| scope == "openid") {
            return Err(UserInfoError::ScopeMissing);
        }
        let (Some(user), Some(session)) = (caller.user, caller.session) else {
            return Err(UserInfoError::TokenInvalid);
        };
        // A session that was ended a moment ago, on whichever pod, tells nothing any more.
        let session = self.store.session(session).await?.ok_or(UserInfoError::TokenInvalid)?;
        let granted = Scopes::of(caller.scopes.iter().map(String::as_str)) & session.scopes;
        // Of what was asked for by name, too, a client is told only what it may have now.
        let client = self.clients.get(&session.client_id).await?;
        let allowed = client.map_or(Scopes::NONE, |client| client.scopes);
        let named = profile::within(&session.claims, allowed);
        let asks = profile::SCOPES.iter().any(|scope| granted.includes(*scope)) || !named.is_empty();
        let profile = if asks { self.store.profile(user).await? } else { None };
        Ok(UserInfo { sub: user.to_string(), profile: ProfileClaims::of(profile, granted, &named) })
    }

    /// The hint that an ID token gives, if it is one of this issuer's.
    pub(crate) fn hint(&self, token: &str) -> Result<Option<Hint>, Error> {
        let published = self.keyring.published().ok_or(Error::Unavailable)?;
        Ok(Hint::read(token, &published, &self.url))
    }

    /// Signs the person out in the browser, out of what clients got while they were signed in there, and out of the session that the hint
    /// names.
    pub(crate) async fn sign_out(&self, asked: &SignOutRequest<'_>, visitor: &Visitor) -> Result<SignOut, Error> {
        let hint = match asked.id_token_hint.map(|token| self.hint(token)).transpose()? {
            Some(None) => return Ok(SignOut::Refused("id_token_hint is not an ID token of this issuer")),
            hint => hint.flatten(),
        };
        let hinted = hint.as_ref().map(|hint| hint.client_id.as_str());
        if let (Some(hinted), Some(named)) = (hinted, asked.client_id)
            && hinted != named
        {
            return Ok(SignOut::Refused("client_id is not the client that id_token_hint was issued to"));
        }
        let to = match asked.post_logout_redirect_uri {
            None => None,
            Some(address) => {
                let Some(client_id) = hinted.or(asked.client_id) else {
                    return Ok(SignOut::Refused("post_logout_redirect_uri needs an id_token_hint or a client_id"));
                };
                let client = self.clients.get(client_id).await?;
                if !client.is_some_and(|client| client.registration.redirects_after_logout_to(address)) {
                    return Ok(SignOut::Refused("post_logout_redirect_uri is not registered for this client"));
                }
                let state: Vec<_> = asked.state.map(|state| ("state", state)).into_iter().collect();
                // Without a state the address stays as it was given.
                if state.is_empty() { Some(address.to_owned()) } else { redirect::with(address, &state, false) }
            }
        };
        let signed_in = self.signed_in(visitor).await?;
        let same = hint.as_ref().is_some_and(|hint| signed_in.as_ref().is_none_or(|person| person.user == hint.user));
        let confirmed = match (asked.confirmation, visitor.session.as_deref()) {
            (Some(given), Some(cookie)) => given == confirmation_of("sign out", cookie),
            // There is nothing to sign out of that somebody else could have meant.
            (Some(_), None) => true,
            (None, _) => false,
        };
        if !same && !confirmed {
            let cookie = visitor.session.as_deref().map(|cookie| confirmation_of("sign out", cookie));
            return Ok(SignOut::Ask(cookie.unwrap_or_else(|| Secret::random().text().to_owned())));
        }
        let mut ended = 0;
        if let Some(cookie) = cookie_of(visitor) {
            ended = self.store.end_browser_session(cookie, self.clock.now()).await?;
        }
        if let Some(hint) = hint {
            let by = Origin::new(Actor::Person(hint.user), self.clock.now());
            ended += u64::from(self.store.end_session(hint.user, hint.session, Why::SignedOut, &by).await?);
        }
        if ended > 0 {
            self.publish().await;
        }
        let user = signed_in.map(|person: crate::authorization::Recognised| person.user);
        let user = user.map(|user: UserId| user.to_string());
        tracing::info!(target: "audit", event = "signed_out", user, sessions = ended);
        Ok(SignOut::Done(to))
    }
}

/// What only a page that was given to the browser with this cookie can send back.
pub(super) fn confirmation_of(purpose: &str, cookie: &str) -> String {
    use base64::Engine as _;
    let digest = Digest::of(format!("{purpose} {cookie}").as_bytes());
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&digest.0[..16])
}
