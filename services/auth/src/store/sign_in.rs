//! What the issuer keeps while people sign in by a browser, and what it may rely on. Secrets are known by their digests.

use async_trait::async_trait;
use flaghoist_runtime::names::UserId;

use super::Opened;
use super::grants::Once;
use super::traces::{Trace, TraceKind};
use crate::authorization::{AuthorizationRequest, Recognised};
use crate::code::KeptCode;
use crate::error::StoreError;
use crate::moment::Moment;
use crate::profile::Profile;
use crate::refresh_token::Digest;
use crate::scope::Scopes;
use crate::session::Session;

/// Where a login request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Someone has to sign in.
    Login,
    /// Login says that nobody will.
    Rejected,
    /// Login says who has; the browser has not come back yet.
    Accepted,
    /// The browser is theirs; they have to agree.
    SignedIn,
}

impl Stage {
    /// How it is kept.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Rejected => "rejected",
            Self::Accepted => "accepted",
            Self::SignedIn => "signed_in",
        }
    }

    /// What is kept under this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        [Self::Login, Self::Rejected, Self::Accepted, Self::SignedIn].into_iter().find(|stage| stage.name() == name)
    }
}

/// A browser that came to the authorization endpoint and has not been answered yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LoginRequest {
    pub(crate) challenge: Digest,
    /// The cookie of the browser.
    pub(crate) browser: Digest,
    /// Where it came from.
    pub(crate) address: String,
    pub(crate) stage: Stage,
    pub(crate) client_id: String,
    pub(crate) request: AuthorizationRequest,
    /// Who has signed in.
    pub(crate) person: Option<Recognised>,
    pub(crate) expires_at: Moment,
}

/// How many may be open at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenMax {
    /// Of one browser; one more takes the place of the one that expires first.
    pub(crate) of_browser: u32,
    /// Of one address; one more is refused. When many come at once, as many more may slip in as are being added.
    pub(crate) of_address: u32,
}

/// What became of a person that login has recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acceptance {
    /// It is noted.
    Done,
    /// The challenge is unknown, expired, or was answered.
    Unknown,
    /// The person may not hold sessions.
    SubjectDisabled,
}

/// What became of a code.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Redeemed {
    /// Nobody knows it, or it is too old.
    Unknown,
    /// It was for someone else; it is used up.
    Refused,
    /// It was used before; the session that it gave has ended.
    Replayed,
    /// The proof was used before. Nothing has changed.
    ProofUsed,
    /// It was good. Where the session is not open, the code is used up all the same.
    Good(Box<KeptCode>, Opened),
}

/// How long a person stays signed in in a browser.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BrowserLifetimes {
    pub(crate) idle: std::time::Duration,
    pub(crate) absolute: std::time::Duration,
}

/// What a person has allowed a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Consent {
    pub(crate) client_id: String,
    pub(crate) scopes: Scopes,
    pub(crate) updated_at: Moment,
}

/// The tables of the sign-in. What is said of [`super::Store`] holds here too. What ends all sessions of a person, or disables or
/// erases them, also forgets the browsers in which they are signed in, their codes, and the requests for which they have signed in.
#[async_trait]
pub(crate) trait SignInStore: std::fmt::Debug + Send + Sync + 'static {
    /// Adds a login request. Answers whether there was room.
    async fn open_login_request(&self, request: &LoginRequest, max: OpenMax, now: Moment) -> Result<bool, StoreError>;

    /// The login request with this challenge, unless it is expired.
    async fn login_request(&self, challenge: Digest, now: Moment) -> Result<Option<LoginRequest>, StoreError>;

    /// Notes who has signed in for a request in [`Stage::Login`], and what they are called. Of any number of answers to a request
    /// one is taken.
    async fn accept_login_request(
        &self,
        challenge: Digest,
        person: &Recognised,
        profile: &Profile,
        now: Moment,
    ) -> Result<Acceptance, StoreError>;

    /// Notes that nobody signs in for a request in [`Stage::Login`]. Answers whether that was taken.
    async fn reject_login_request(&self, challenge: Digest, now: Moment) -> Result<bool, StoreError>;

    /// Moves a request from [`Stage::Accepted`] to [`Stage::SignedIn`] and signs the person in in the browser that has the cookie
    /// `cookie` from now on, in place of `replaced`: what clients got there for the same person before is of the new one. Answers whether
    /// the request was there, which it is once.
    async fn enter(
        &self,
        challenge: Digest,
        cookie: Digest,
        replaced: Option<Digest>,
        now: Moment,
    ) -> Result<bool, StoreError>;

    /// Takes a request away, if it is in `stage`; any, if none is given. Of any number of calls one gets it.
    async fn take_login_request(
        &self,
        challenge: Digest,
        stage: Option<Stage>,
        now: Moment,
    ) -> Result<Option<LoginRequest>, StoreError>;

    /// Keeps a request that a client pushed from `address`. Answers whether there was room for one more of that address.
    async fn push_request(
        &self,
        reference: Digest,
        address: &str,
        client_id: &str,
        request: &AuthorizationRequest,
        expires_at: Moment,
        max: OpenMax,
    ) -> Result<bool, StoreError>;

    /// Takes away what a client pushed, unless it is expired. Of any number of calls one gets it.
    async fn take_pushed_request(
        &self,
        reference: Digest,
        client_id: &str,
        now: Moment,
    ) -> Result<Option<AuthorizationRequest>, StoreError>;

    /// Adds a code, if the person is still signed in in some browser since the time that the code names. Answers whether that is so.
    async fn add_code(&self, digest: Digest, code: &KeptCode) -> Result<bool, StoreError>;

    /// Uses up a code by one statement and, if `judge` says what session it gives, opens that in the same commit. Of any number of
    /// calls, in any pod, one finds it unused; each other one ends the session that this one opened.
    ///
    /// The proof that comes with an unused code is used up in the same commit. One that was used before changes nothing, neither the code
    /// nor what it gave: of any number of calls with one proof, whatever codes they bring, one gets something. Who brings no code writes
    /// nothing.
    async fn redeem_code(
        &self,
        digest: Digest,
        judge: &(dyn for<'a> Fn(&'a KeptCode) -> Option<Session> + Send + Sync),
        proof: Option<Once>,
        sessions_max: u32,
        now: Moment,
    ) -> Result<Redeemed, StoreError>;

    /// Who is signed in in the browser with this cookie. Counts as a use of it.
    async fn browser_session(
        &self,
        cookie: Digest,
        lifetimes: BrowserLifetimes,
        now: Moment,
    ) -> Result<Option<Recognised>, StoreError>;

    /// Signs whoever it is out in the browser with this cookie. The sessions end that clients got with codes while they were signed in
    /// there, and their unused codes are worth nothing; a session with the scope `offline_access` stays, but its client is told as well
    /// (OpenID Connect Back-Channel Logout 1.0 §2.7). Answers how many have ended.
    async fn end_browser_session(&self, cookie: Digest, now: Moment) -> Result<u64, StoreError>;

    /// What the person has allowed the client.
    async fn consent(&self, user: UserId, client_id: &str) -> Result<Option<Scopes>, StoreError>;

    /// Adds to what the person has allowed the client.
    async fn add_consent(&self, user: UserId, client_id: &str, scopes: Scopes, now: Moment) -> Result<(), StoreError>;

    /// The first `limit` consents of a person by client after `after`.
    async fn consents_of(&self, user: UserId, after: &str, limit: u32) -> Result<Vec<Consent>, StoreError>;

    /// Forgets a consent, with what was allowed the client and not fetched yet: codes, and devices. Where there was a consent the sessions
    /// end that the client has for the person; a client of the installation needs none, and keeps them. Answers whether anything was
    /// forgotten.
    async fn revoke_consent(&self, user: UserId, client_id: &str, now: Moment) -> Result<bool, StoreError>;

    /// The first `limit` things of this kind that are kept of a person, by their ids after `after`.
    async fn traces_of(
        &self,
        user: UserId,
        kind: TraceKind,
        after: Option<Digest>,
        limit: u32,
    ) -> Result<Vec<Trace>, StoreError>;

    /// What the person is called and where they are reached, if login has said so.
    async fn profile(&self, user: UserId) -> Result<Option<Profile>, StoreError>;

    /// Replaces all of that. Answers whether anything was kept before: if not, nothing is now.
    async fn set_profile(&self, user: UserId, profile: &Profile) -> Result<bool, StoreError>;
}
