//! Telling clients that sessions have ended (OpenID Connect Back-Channel Logout 1.0). What is to be told lies in the store, so a pod
//! that stops loses nothing; every pod takes what is due, and what one has taken another gets only if it was not told in time.

use futures_util::future::join_all;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use uuid::Uuid;

use super::{Issuer, unsigned};
use crate::error::{Error, StoreError};
use crate::moment::Moment;
use crate::outgoing::{self, Reach};
use crate::store::logout::LogoutNotice;

/// How many clients are told at once.
const AT_ONCE: u32 = 20;

/// How long to wait for the second try; each further one is twice as long after the one before.
const PAUSE: Duration = Duration::from_secs(30);

/// How often a client is tried in all: for about an hour.
const TRIES_MAX: u32 = 8;

/// How long a logout token is good.
const TOKEN_LIFETIME: Duration = Duration::from_secs(120);

/// What a logout token says (Back-Channel Logout §2.4).
#[derive(Debug, Serialize)]
struct LogoutClaims<'a> {
    iss: &'a str,
    sub: String,
    aud: &'a str,
    iat: i64,
    exp: i64,
    jti: String,
    events: Value,
    sid: String,
}

impl Issuer {
    /// Tells clients of some ends of sessions. Answers whether there may be more to tell.
    pub(crate) async fn tell_of_logouts(&self) -> Result<bool, StoreError> {
        let notices = self.store.take_logout_notices(AT_ONCE, PAUSE, self.clock.now()).await?;
        let told = join_all(notices.iter().map(|notice| self.tell(notice))).await;
        let told = told.into_iter().collect::<Result<Vec<_>, _>>()?;
        // Who is not there now is asked once more later, and not for each notice: others wait for the same round.
        let mut away: BTreeMap<&str, Moment> = BTreeMap::new();
        for (notice, until) in notices.iter().zip(told) {
            let Some(until) = until else { continue };
            let latest = away.entry(&notice.client_id).or_insert(until);
            *latest = until.max(*latest);
        }
        for (client_id, until) in away {
            self.store.put_off_logout_notices(client_id, until, self.clock.now()).await?;
        }
        Ok(notices.len() >= AT_ONCE as usize)
    }

    /// Tells one client. If nobody is there, answers until when whatever else it is to be told can wait.
    async fn tell(&self, notice: &LogoutNotice) -> Result<Option<Moment>, StoreError> {
        let LogoutNotice { session, client_id, tries, .. } = notice;
        let client = self.clients.get(client_id).await?;
        let address = client.as_ref().map(|client| client.registration.backchannel_logout_uri.as_str());
        let Some((client, address)) = client.as_ref().zip(address.filter(|address| !address.is_empty())) else {
            // It is gone, or does not want to be told any more.
            self.store.drop_logout_notice(*session).await?;
            return Ok(None);
        };
        let reach = if client.registration.logout_uri_self_named { Reach::Outside } else { Reach::Anywhere };
        let sent = match self.logout_token(client, notice).await {
            Ok(token) => outgoing::post_form(address, format!("logout_token={token}"), reach).await,
            // Its keys are not there yet: the next try finds them.
            Err(_) => return Ok(None),
        };
        match sent {
            Ok(()) => {
                tracing::info!(target: "audit", event = "logout_told", client_id, session = %session, tries);
                self.store.drop_logout_notice(*session).await?;
                Ok(None)
            }
            Err(error) => {
                let pause = PAUSE * (1 << tries.saturating_sub(1).min(TRIES_MAX));
                let until = error.nobody_there().then(|| self.clock.now().plus(pause));
                let error = flaghoist_runtime::fault::chain(&error);
                tracing::warn!(client_id, session = %session, tries, error, "a client was not told of a logout");
                if *tries < TRIES_MAX {
                    return Ok(until);
                }
                tracing::warn!(target: "audit", event = "logout_not_told", client_id, session = %session, tries);
                self.store.drop_logout_notice(*session).await?;
                Ok(until)
            }
        }
    }

    async fn logout_token(&self, client: &crate::client::Client, notice: &LogoutNotice) -> Result<String, Error> {
        let algorithm = client.registration.id_token_algorithm;
        let published = self.keyring.published().ok_or(Error::Unavailable)?;
        let signer = published.signer_with(algorithm).ok_or(Error::Unavailable)?;
        let now = self.clock.now();
        let claims = LogoutClaims {
            iss: &self.url,
            sub: notice.user.to_string(),
            aud: &client.id,
            iat: now.seconds(),
            exp: now.plus(TOKEN_LIFETIME).seconds(),
            jti: Uuid::now_v7().to_string(),
            events: json!({"http://schemas.openid.net/event/backchannel-logout": {}}),
            sid: notice.session.to_string(),
        };
        signer.sign_logout_token(&claims).map_err(unsigned)
    }
}
