//! Dynamic registration (RFC 7591): programs register themselves as clients, with a token that an admin has made for that. The token says
//! which scopes they may have and how many of them there may be.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::Issuer;
use crate::algorithm::Algorithm;
use crate::audit::{Action, Actor, Event, Origin};
use crate::client::{AuthMethod, Client, ClientSecret, GrantType, Registration};
use crate::code::Secret;
use crate::error::Error;
use crate::refresh_token::Digest;
use crate::scope::Scopes;

/// The longest name that people are shown, in letters.
const NAME_MAX_CHARS: usize = 64;

/// How many addresses of a kind a client may have.
const ADDRESSES_MAX: usize = 20;

/// What a program says of itself (RFC 7591 §2, OpenID Connect Registration §2). What is not known is passed over.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Metadata {
    client_name: Option<String>,
    redirect_uris: Vec<String>,
    post_logout_redirect_uris: Vec<String>,
    grant_types: Option<Vec<String>>,
    response_types: Option<Vec<String>>,
    token_endpoint_auth_method: Option<String>,
    application_type: Option<String>,
    scope: Option<String>,
    jwks: Option<Value>,
    jwks_uri: Option<Value>,
    id_token_signed_response_alg: Option<String>,
    backchannel_logout_uri: String,
    dpop_bound_access_tokens: bool,
}

impl Metadata {
    /// What is to be registered, and whether the client is confidential.
    fn read(&self) -> Result<(Registration, bool), Error> {
        let bad = |field, problem| Error::Invalid { field, problem };
        let method = match self.token_endpoint_auth_method.as_deref() {
            None => AuthMethod::ClientSecretBasic,
            Some(name) => AuthMethod::named(name)
                .filter(|method| *method != AuthMethod::Any)
                .ok_or(bad("token_endpoint_auth_method", "is not one of those in the metadata"))?,
        };
        if self.response_types.as_ref().is_some_and(|types| types.iter().any(|kind| kind != "code")) {
            return Err(bad("response_types", "has another one than code"));
        }
        if self.jwks_uri.is_some() {
            return Err(bad("jwks_uri", "is not read: send the keys themselves, as jwks"));
        }
        let lists = [&self.redirect_uris, &self.post_logout_redirect_uris];
        if lists.iter().any(|list| list.len() > ADDRESSES_MAX) {
            return Err(bad("redirect_uris", "has more than 20 addresses"));
        }
        let native = match self.application_type.as_deref() {
            None | Some("web") => false,
            Some("native") => true,
            Some(_) => return Err(bad("application_type", "is neither web nor native")),
        };
        let named = |name: &String| GrantType::named(name).filter(|grant| *grant != GrantType::TokenExchange);
        let grants = match &self.grant_types {
            // Refresh tokens are what a client of that grant gets that asks for nothing else.
            None => Some(vec![GrantType::AuthorizationCode, GrantType::RefreshToken]),
            Some(names) => names.iter().map(named).collect(),
        };
        let algorithm = match self.id_token_signed_response_alg.as_deref() {
            None => Some(Algorithm::default()),
            Some(name) => Algorithm::named(name),
        };
        let jwks = self.jwks.as_ref().map(Value::to_string).unwrap_or_default();
        let registration = Registration {
            redirect_uris: self.redirect_uris.clone(),
            post_logout_redirect_uris: self.post_logout_redirect_uris.clone(),
            native,
            grant_types: grants.ok_or(bad("grant_types", "has one that is not known, or that only an admin grants"))?,
            auth_method: method,
            id_token_algorithm: algorithm.ok_or(bad("id_token_signed_response_alg", "is not in the metadata"))?,
            keys: if method == AuthMethod::PrivateKeyJwt { Registration::read_keys(&jwks)? } else { Vec::new() },
            backchannel_logout_uri: self.backchannel_logout_uri.clone(),
            logout_uri_self_named: !self.backchannel_logout_uri.is_empty(),
            dpop_bound: self.dpop_bound_access_tokens,
            ..Registration::default()
        };
        let confidential = method != AuthMethod::None;
        registration.check(confidential)?;
        Ok((registration, confidential))
    }
}

impl Issuer {
    /// Makes a token with which so many clients may register.
    pub(crate) async fn create_registration_token(
        &self,
        scopes: Scopes,
        uses: u32,
        lifetime: Duration,
        by: &Origin,
    ) -> Result<Secret, Error> {
        let token = Secret::random();
        let event = Event::new(by, Action::RegistrationTokenCreated, "registrationTokens");
        let event = event.detail(format!("{uses} clients, scopes {scopes}"));
        let expires_at = by.at.plus(lifetime);
        self.store.add_registration_token(token.digest(), scopes, uses, expires_at, &event).await?;
        tracing::info!(target: "audit", event = "registration_token_created", scopes = %scopes, uses);
        Ok(token)
    }

    /// Registers a program with such a token. A token is used by what could be registered, and by nothing else.
    pub(crate) async fn register(
        &self,
        token: &str,
        metadata: &Metadata,
        address: &str,
    ) -> Result<(Arc<Client>, Option<ClientSecret>), Error> {
        let now = self.clock.now();
        let digest = Digest::of(token.as_bytes());
        if !self.store.registration_token(digest, now).await? {
            return Err(Error::RegistrationTokenInvalid);
        }
        let (registration, confidential) = metadata.read()?;
        let scopes = self.store.use_registration_token(digest, now).await?.ok_or(Error::RegistrationTokenInvalid)?;
        let asked = metadata.scope.as_deref().map_or(scopes, |scope| Scopes::known_of(scope) & scopes);
        let name = metadata.client_name.as_deref().unwrap_or_default();
        let name: String = super::printable(name).take(NAME_MAX_CHARS).collect();
        let name = if name.trim().is_empty() { "An application" } else { &name };
        let by = Origin::new(Actor::Unknown, now).at_address(address);
        self.create_client("", name, confidential, asked, registration, &by).await
    }
}
