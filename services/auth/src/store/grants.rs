//! What the issuer keeps for further ways to prove who one is and to get tokens, and what it may rely on. Secrets are known by their
//! digests.

use std::time::Duration;

use async_trait::async_trait;
use flaghoist_runtime::names::SessionId;

use super::Opened;
use crate::audit::Event;
use crate::authorization::Recognised;
use crate::error::StoreError;
use crate::moment::Moment;
use crate::refresh_token::Digest;
use crate::scope::Scopes;
use crate::session::Session;

/// How long a device that was never used is kept when its time is over: it asks once a minute at least, and is told so.
pub(crate) const UNUSED_KEPT: Duration = Duration::from_secs(120);

/// A device whose person signs in elsewhere (RFC 8628).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    /// What the device holds.
    pub(crate) device_code: Digest,
    /// What the person types.
    pub(crate) user_code: Digest,
    pub(crate) client_id: String,
    pub(crate) scopes: Scopes,
    /// Where it is.
    pub(crate) address: String,
    /// The session that it will give.
    pub(crate) session: SessionId,
    /// How long it has to wait between two questions.
    pub(crate) interval: Duration,
    pub(crate) expires_at: Moment,
}

/// A device that somebody has approved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Approved {
    pub(crate) session: SessionId,
    pub(crate) scopes: Scopes,
    pub(crate) person: Recognised,
}

/// What is good once and comes with what it is used for: a proof of possession.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Once {
    pub(crate) id: Digest,
    /// When it is worth nothing any more, so that it need not be remembered.
    pub(crate) over_at: Moment,
}

/// What a device's question comes to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Polled {
    /// Nobody knows the code, or it is another client's.
    Unknown,
    /// Nobody has decided yet.
    Pending,
    /// Nobody has decided yet, and the question came too soon: from now on the device waits longer.
    TooSoon,
    /// Somebody refused.
    Denied,
    /// Nobody decided in time, or the device asked too late.
    Expired,
    /// It was used before; the session that it gave has ended.
    Replayed,
    /// The proof was used before. Nothing has changed.
    ProofUsed,
    /// It was approved, and is used up by this. Where the session is not open, it is used up all the same.
    Good(Box<Approved>, Opened),
}

/// The tables of further grants. What is said of [`super::Store`] holds here too.
#[async_trait]
pub(crate) trait GrantStore: std::fmt::Debug + Send + Sync + 'static {
    /// Notes that this id was used, by one statement. Answers whether it is the first time: of any number of calls, in any pod, one
    /// is. It is forgotten some time after `expires_at`.
    async fn use_once(&self, id: Digest, expires_at: Moment, now: Moment) -> Result<bool, StoreError>;

    /// Keeps a token with which `uses` clients may register that may ask for `scopes`.
    async fn add_registration_token(
        &self,
        token: Digest,
        scopes: Scopes,
        uses: u32,
        expires_at: Moment,
        event: &Event,
    ) -> Result<(), StoreError>;

    /// Whether such a token is good for one more client.
    async fn registration_token(&self, token: Digest, now: Moment) -> Result<bool, StoreError>;

    /// Uses such a token for one client, by one statement, and answers the scopes; none if it is not good any more. Of any number of calls,
    /// in any pod, as many get them as there were uses.
    async fn use_registration_token(&self, token: Digest, now: Moment) -> Result<Option<Scopes>, StoreError>;

    /// Adds a device that nobody has approved yet. Answers whether there was room: `max` of one address may wait.
    async fn add_device(&self, device: &Device, max: u32, now: Moment) -> Result<bool, StoreError>;

    /// The client and the scopes of the device with this user code, while nobody has decided about it.
    async fn pending_device(&self, user_code: Digest, now: Moment) -> Result<Option<(String, Scopes)>, StoreError>;

    /// Approves a device for a person who is still signed in in some browser since the time that is named; refuses it if there is none.
    /// Of any number of decisions one is taken. Answers whether this one was.
    async fn decide_device(
        &self,
        user_code: Digest,
        person: Option<&Recognised>,
        now: Moment,
    ) -> Result<bool, StoreError>;

    /// Judges a question of a device of `client_id`. One that was approved is used up by one statement, and the session that `opens` makes
    /// of it is opened in the same commit. Of any number of calls, in any pod, one finds it unused; each other one ends that session.
    /// Where it was approved, or a question was in time, the proof that came with it is used up in the same commit, as in
    /// [`super::SignInStore::redeem_code`]: so who has no device code, or asks too often, writes nothing.
    async fn poll_device(
        &self,
        device_code: Digest,
        client_id: &str,
        opens: &(dyn for<'a> Fn(&'a Approved) -> Session + Send + Sync),
        proof: Option<Once>,
        sessions_max: u32,
        now: Moment,
    ) -> Result<Polled, StoreError>;

    /// Counts one more try of a user code by `who`, and answers how many there were until `expires_at` of the first of them.
    async fn count_guess(&self, who: Digest, expires_at: Moment, now: Moment) -> Result<u32, StoreError>;

    /// Takes one try back: it was none.
    async fn forgive_guess(&self, who: Digest) -> Result<(), StoreError>;
}
