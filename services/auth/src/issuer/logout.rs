//! Telling clients that sessions have ended (OpenID Connect Back-Channel Logout 1.0). What is to be told lies in the store, so a pod
//! that stops loses nothing; every pod takes what is due, and what one has taken another gets only if it was not told in time. Each client
//! is told on its own: one that is slow holds up nobody else.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use flaghoist_runtime::fault;
use futures_util::future::join_all;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Issuer, unsigned};
use crate::error::{Error, StoreError};
use crate::moment::Moment;
use crate::outgoing::{self, Reach};
use crate::store::logout::LogoutNotice;

/// How many notices are taken at a time, so how many may be on their way to one client.
const TAKEN_MAX: u32 = 20;

/// How many are on their way at once.
const UNDER_WAY_MAX: u32 = 100;

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

/// The clients that are being told of something, each with how many notices are on their way to it.
#[derive(Debug, Default)]
pub(super) struct UnderWay(Mutex<HashMap<String, u32>>);

impl UnderWay {
    /// The clients, and how many more notices may go.
    fn now(&self) -> (Vec<String>, u32) {
        let under_way = self.0.lock();
        let room = UNDER_WAY_MAX.saturating_sub(under_way.values().sum());
        (under_way.keys().cloned().collect(), room)
    }
}

/// Notices on their way to one client, until this is dropped.
struct Sending {
    issuer: Arc<Issuer>,
    client_id: String,
    count: u32,
}

impl Sending {
    fn new(issuer: &Arc<Issuer>, client_id: &str, count: usize) -> Self {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        *issuer.logouts_under_way.0.lock().entry(client_id.to_owned()).or_default() += count;
        Self { issuer: issuer.clone(), client_id: client_id.to_owned(), count }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        let mut under_way = self.issuer.logouts_under_way.0.lock();
        if let Some(count) = under_way.get_mut(&self.client_id) {
            *count = count.saturating_sub(self.count);
            if *count == 0 {
                under_way.remove(&self.client_id);
            }
        }
    }
}

impl Issuer {
    /// Begins to tell clients of some ends of sessions: those that are not being told of others yet. Answers whether there may be more to
    /// tell.
    pub(crate) async fn tell_of_logouts(self: &Arc<Self>) -> Result<bool, StoreError> {
        let (busy, room) = self.logouts_under_way.now();
        let limit = room.min(TAKEN_MAX);
        if limit == 0 {
            return Ok(false);
        }
        let notices = self.store.take_logout_notices(limit, &busy, PAUSE, self.clock.now()).await?;
        let more = notices.len() >= limit as usize;
        let mut of_clients: BTreeMap<String, Vec<LogoutNotice>> = BTreeMap::new();
        for notice in notices {
            of_clients.entry(notice.client_id.clone()).or_default().push(notice);
        }
        for (client_id, notices) in of_clients {
            let sending = Sending::new(self, &client_id, notices.len());
            tokio::spawn(async move {
                if let Err(error) = sending.issuer.tell_client(&client_id, &notices).await {
                    fault::log_chain("telling a client of logouts", &error);
                }
            });
        }
        Ok(more)
    }

    /// Tells one client of several ends. Where nobody is there, whatever else it is due to be told waits too, and is not tried.
    async fn tell_client(&self, client_id: &str, notices: &[LogoutNotice]) -> Result<(), StoreError> {
        let told = join_all(notices.iter().map(|notice| self.tell(notice))).await;
        let away = told.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten().max();
        match away {
            Some(until) => self.store.put_off_logout_notices(client_id, until, self.clock.now()).await,
            None => Ok(()),
        }
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
                let error = fault::chain(&error);
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
