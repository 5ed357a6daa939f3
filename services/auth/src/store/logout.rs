//! What the issuer keeps until clients were told of the ends of sessions, and what it may rely on. Whatever ends a session that was given
//! with the scope `openid` to a client that wants to be told writes a notice in the same commit, so that none is lost, whichever pod ends
//! it and whichever stops.

use std::time::Duration;

use async_trait::async_trait;
use flaghoist_runtime::names::{SessionId, UserId};
use serde::Deserialize;

use crate::error::StoreError;
use crate::moment::Moment;

/// A client that has to be told of the end of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogoutNotice {
    pub(crate) session: SessionId,
    pub(crate) client_id: String,
    pub(crate) user: UserId,
    /// The how manieth try this is, from 1.
    pub(crate) tries: u32,
}

/// Whether who has this registration, as it is stored, wants to be told. One that cannot be read is told nothing: the end of a session
/// never fails for the client that it was given to.
pub(super) fn wants_to_be_told(registration: &str) -> bool {
    #[derive(Deserialize)]
    struct Address {
        #[serde(default)]
        backchannel_logout_uri: String,
    }
    serde_json::from_str::<Address>(registration).is_ok_and(|address| !address.backchannel_logout_uri.is_empty())
}

/// The notices. What is said of [`super::Store`] holds here too.
#[async_trait]
pub(crate) trait LogoutStore: std::fmt::Debug + Send + Sync + 'static {
    /// Takes up to `limit` notices that are due, none of them for the clients `but`. Nobody else gets them for `pause`, and for twice as long after each further try; after
    /// that they are due again, unless they were dropped.
    async fn take_logout_notices(
        &self,
        limit: u32,
        but: &[String],
        pause: Duration,
        now: Moment,
    ) -> Result<Vec<LogoutNotice>, StoreError>;

    /// Puts off to `until` whatever this client is due to be told at `now`, by one statement: it cannot be reached.
    async fn put_off_logout_notices(&self, client_id: &str, until: Moment, now: Moment) -> Result<(), StoreError>;

    /// Forgets the notice of this session: the client was told, or is not to be any more.
    async fn drop_logout_notice(&self, session: SessionId) -> Result<(), StoreError>;
}
