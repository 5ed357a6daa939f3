//! Token exchange (RFC 8693): a service that got an access token of a person gets one of its own in their name, for itself or for
//! another service. It says less than the first one and ends no later; who acts is in it (`act`), and the session is the same, so what
//! ends that ends both.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flaghoist_runtime::Caller;
use flaghoist_runtime::token::AUDIENCE;
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::time::Instant;

use super::tokens::asked;
use super::{Asker, Issuer, Tokens, client_name};
use crate::access_token::{Actor as Acting, Claims};
use crate::audit::{Action, Actor, Event, Origin};
use crate::client::{Client, GrantType};
use crate::error::Error;
use crate::moment::Moment;
use crate::scope::Scopes;

/// What is exchanged, as a client brings it.
#[derive(Debug)]
pub(crate) struct Exchange<'a> {
    /// The access token of a person.
    pub(crate) subject_token: &'a str,
    /// Whom the new token is for; the API of the chat if empty.
    pub(crate) audience: &'a str,
    /// Less than the first token allows; as much of it as the client may have if empty.
    pub(crate) scope: &'a str,
}

/// Whether a token, which was verified before, says that a client acts with it (RFC 8693 §4.1).
fn acted_with(token: &str) -> bool {
    #[derive(Deserialize)]
    struct Said {
        act: Option<IgnoredAny>,
    }
    let payload = token.split('.').nth(1).and_then(|payload| URL_SAFE_NO_PAD.decode(payload).ok());
    let said = payload.and_then(|payload| serde_json::from_slice::<Said>(&payload).ok());
    said.is_none_or(|said| said.act.is_some())
}

impl Issuer {
    /// Exchanges an access token of a person for one that the client acts with. Where the first one is bound to a key of the person's client,
    /// this one cannot prove that: it proves who it is itself, and its own key if it has one.
    pub(crate) async fn exchange_token(&self, asker: Asker<'_>, exchange: &Exchange<'_>) -> Result<Tokens, Error> {
        let client = asker.client;
        let now = self.clock.now();
        // What another pod did to the client a moment ago counts: nothing but this token stands behind the next one.
        let stored = self.clients.now(&client.id).await?.filter(|stored| stored.still_proven(client, now));
        let client = stored.ok_or(Error::ClientInvalid)?;
        if !client.confidential() || !client.may_use(GrantType::TokenExchange) {
            return Err(Error::ClientUnauthorized);
        }
        let caller = self.caller(exchange.subject_token)?.ok_or(Error::SubjectTokenInvalid)?;
        self.feed.publish_until(Instant::now()).await?;
        let (Some(user), Some(session)) = (caller.user, caller.session) else {
            return Err(Error::SubjectTokenInvalid);
        };
        if self.verifier.revoked(&caller) {
            return Err(Error::SubjectTokenInvalid);
        }
        if !client.registration.exchanges_of(&client.id, &caller.client_id) {
            return Err(Error::ClientUnauthorized);
        }
        // The next token would name this client alone, and nobody would see who has acted before.
        if caller.client_id != *client.id && acted_with(exchange.subject_token) {
            return Err(Error::SubjectTokenInvalid);
        }
        let audience = if exchange.audience.is_empty() { AUDIENCE } else { exchange.audience };
        if !client.registration.exchange_audiences.iter().any(|allowed| allowed == audience) {
            return Err(Error::TargetInvalid);
        }
        let allowed = Scopes::of(caller.scopes.iter().map(String::as_str)) & client.scopes & Scopes::API;
        let scopes = asked(exchange.scope)?.unwrap_or(allowed);
        if !allowed.includes(scopes) {
            return Err(Error::ScopeInvalid);
        }
        let expires_at = now.plus(self.settings.access_lifetime).min(Moment::from(caller.expires_at));
        let claims = Claims {
            sub: &caller.subject,
            aud: [audience],
            sid: Some(session.0),
            act: Some(Acting { sub: &client.id }),
            cnf: asker.confirmation(),
            ..Claims::of_client(&self.url, &client.id, scopes, now, expires_at)
        };
        self.use_proof(asker.proof).await?;
        let access_token = self.sign(&claims)?;
        let subject = user.name();
        self.note_exchange(&client, &caller, subject, audience, asker.address).await?;
        let bound = asker.proof.is_some();
        Ok(Tokens { access_token, expires_at, refresh_token: None, scopes, id_token: None, bound })
    }

    async fn note_exchange(
        &self,
        client: &Client,
        caller: &Caller,
        subject: String,
        audience: &str,
        address: &str,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let by = Origin::new(Actor::Client(client.id.clone()), now).by_client(&client.id).at_address(address);
        if self.token_exchanges.admits(now) {
            let event = Event::new(&by, Action::TokenExchanged, subject);
            let detail = format!("of {} for {audience}", client_name(&caller.client_id));
            self.store.audit(&[Event { session: caller.session, ..event }.detail(detail)]).await?;
        } else {
            self.token_exchanges.count(subject, &by.address);
        }
        tracing::info!(
            target: "audit", event = "token_exchanged", client_id = %client.id, of_client = caller.client_id, audience
        );
        Ok(())
    }
}
