//! What the issuer keeps, and what it may rely on. A backend is what passes the suite in `store/conformance.rs`.

use async_trait::async_trait;
use flaghoist_runtime::names::{SessionId, UserId};
use flaghoist_runtime::token::{Revocation, RevocationTarget};

use crate::audit::{Event, Filter, Origin, Why};
use crate::client::Client;
use crate::error::StoreError;
use crate::key::{KeyChange, KeyRefusal, KeyTimes, Sealed, SigningKey};
use crate::moment::Moment;
use crate::session::{Lifetimes, Presentation, Session, Verdict};

#[cfg(test)]
mod conformance;
pub(crate) mod grants;
mod judge;
pub(crate) mod logout;
mod postgres;
pub(crate) mod sign_in;
mod sqlite;
pub(crate) mod traces;
pub(crate) mod transfer;

pub(crate) use grants::GrantStore;
pub(crate) use logout::LogoutStore;
pub(crate) use postgres::PostgresStore;
pub(crate) use sign_in::{BrowserLifetimes, SignInStore};
pub(crate) use sqlite::SqliteStore;

/// What login has said about a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SubjectState {
    /// Whether they may hold sessions.
    pub(crate) enabled: bool,
    /// Whether they may hold the scope `admin`.
    pub(crate) admin: bool,
}

/// What became of a session that was to be opened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    /// It is open, and these older ones of the same person have ended for it. It has the scopes named here.
    Open { scopes: crate::scope::Scopes, ended: Vec<SessionId> },
    /// The person may not hold sessions.
    SubjectDisabled,
    /// The client is not registered, or is being removed.
    ClientUnknown,
}

/// The private half of a signing key, sealed anew.
#[derive(Clone, Debug)]
pub(crate) struct Resealed {
    pub(crate) kid: String,
    /// The id of the key that it was sealed with before.
    pub(crate) before: String,
    pub(crate) sealed: Sealed,
}

/// What became of a client that was to be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Addition {
    /// It is there.
    Done,
    /// There is one with that id, or one that is still being removed.
    Exists,
    /// There are as many as may be.
    Full,
}

/// A revocation and its place in the order of all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Numbered {
    pub(crate) no: i64,
    pub(crate) revocation: Revocation,
}

/// What may be thrown away.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Purge {
    /// Sessions that these lifetimes have ended.
    pub(crate) lifetimes: Lifetimes,
    /// Revocations made before.
    pub(crate) revocations_before: Moment,
    /// Marks of erased people made before.
    pub(crate) erased_before: Moment,
    /// Sign-ins in browsers that these lifetimes have ended; open requests that have expired go with them.
    pub(crate) browsers: BrowserLifetimes,
    /// Codes that expired before.
    pub(crate) codes_before: Moment,
    /// Audit events from before.
    pub(crate) audited_before: Moment,
}

/// The tables of the issuer. Every method that writes answers after its commit is on disk. After an error nothing of it is
/// committed, unless the answer to the commit itself was lost: then the error is transient, and to ask again is safe. What ends a
/// session also records the revocation, in the same commit. What is done `by` somebody is told of in the audit log, in the same commit
/// too, and not told of if it changes nothing. Any number of pods may use one store at once, where the backend is
/// one that can be shared.
#[async_trait]
pub(crate) trait Store: SignInStore + GrantStore + LogoutStore {
    /// Judges refresh tokens by [`Session::present`], one after the other in the order given, against what is committed,
    /// and commits what follows: so of any number of presentations, in one call or in parallel ones, each sees what those
    /// before it did. Answers in the same order.
    async fn present(
        &self,
        presentations: &[Presentation],
        lifetimes: &Lifetimes,
        now: Moment,
    ) -> Result<Vec<Verdict>, StoreError>;

    /// Opens a session unless its person is disabled or its client unknown. A scope `admin` is left out if the person is
    /// known not to be an admin. A person's oldest sessions end so that no more than `sessions_max` remain, however many are opened
    /// at once.
    async fn open_session(&self, session: &Session, sessions_max: u32, by: &Origin) -> Result<Opened, StoreError>;

    /// The session, unless it has ended.
    async fn session(&self, session: SessionId) -> Result<Option<Session>, StoreError>;

    /// The first `limit` sessions of a person before `before`, newest first, without those that the lifetimes ended.
    async fn sessions_of(
        &self,
        user: UserId,
        before: Option<SessionId>,
        limit: u32,
        lifetimes: &Lifetimes,
        now: Moment,
    ) -> Result<Vec<Session>, StoreError>;

    /// Ends a session of `user`. Answers whether there was one.
    async fn end_session(&self, user: UserId, session: SessionId, why: Why, by: &Origin) -> Result<bool, StoreError>;

    /// Ends the sessions of a person, all but `except`. Answers how many.
    async fn end_sessions_of(&self, user: UserId, except: Option<SessionId>, by: &Origin) -> Result<u64, StoreError>;

    /// Records what a person may do. Their sessions end if they are not enabled, or are no admin any more. Answers how many
    /// ended.
    async fn set_subject(&self, user: UserId, state: SubjectState, by: &Origin) -> Result<u64, StoreError>;

    /// Removes what is kept about a person, and refuses them new sessions until [`Purge::erased_before`] has passed. Answers
    /// how many rows were removed: none when it is repeated.
    async fn erase_subject(&self, user: UserId, by: &Origin) -> Result<u64, StoreError>;

    /// Records a revocation, and the event that tells of it, if one does.
    async fn revoke(&self, target: &RevocationTarget, event: Option<&Event>, now: Moment) -> Result<(), StoreError>;

    /// The first `limit` revocations after number `after` made at `since` or later, in order. The order is that of the commits: a
    /// reader that goes on from the last number it has seen misses nothing, whoever writes meanwhile.
    async fn revocations(&self, since: Moment, after: i64, limit: u32) -> Result<Vec<Numbered>, StoreError>;

    /// Every client that is not being removed, and the version of that list; nothing if it is `known`. Whatever changes the list
    /// changes its version.
    async fn clients(&self, known: Option<i64>) -> Result<Option<(i64, Vec<Client>)>, StoreError>;

    /// The client, unless it is being removed.
    async fn client(&self, client_id: &str) -> Result<Option<Client>, StoreError>;

    /// Adds a client if its id is free and there are fewer than `clients_max`, however many are added at once.
    async fn add_client(&self, client: &Client, clients_max: u32, by: &Origin) -> Result<Addition, StoreError>;

    /// Puts `client` in the place of `before`. Answers whether it was there like that: another may have changed it meanwhile.
    async fn replace_client(&self, before: &Client, client: &Client, event: &Event) -> Result<bool, StoreError>;

    /// Begins to remove a client: it is unknown from now on, and its tokens are revoked, but its id stays taken. Answers
    /// whether there was one.
    async fn retire_client(&self, client_id: &str, by: &Origin) -> Result<bool, StoreError>;

    /// Ends up to `sessions_max` sessions of clients that are being removed, and frees the ids of those that have none left.
    /// Answers whether there is more to do.
    async fn sweep_retired_clients(&self, sessions_max: u32, now: Moment) -> Result<bool, StoreError>;

    /// Brings the signing keys to where [`crate::key::advance`] says they should be, in one step that every replica sees
    /// alike, and answers all.
    async fn advance_keys(
        &self,
        spare: Vec<SigningKey>,
        times: &KeyTimes,
        now: Moment,
    ) -> Result<Vec<SigningKey>, StoreError>;

    /// Makes a change to the signing keys, takes the steps that are due, and answers all. A key that is revoked is among the
    /// revocations from the same commit on.
    async fn change_keys(
        &self,
        change: &KeyChange,
        spare: Vec<SigningKey>,
        times: &KeyTimes,
        by: &Origin,
    ) -> Result<Result<Vec<SigningKey>, KeyRefusal>, StoreError>;

    /// The signing keys as they are.
    async fn keys(&self) -> Result<Vec<SigningKey>, StoreError>;

    /// Puts private keys that were sealed anew in the place of those that are there, unless another did so meanwhile. Answers how
    /// many were.
    async fn reseal_keys(&self, resealed: &[Resealed], by: &Origin) -> Result<u64, StoreError>;

    /// Writes audit events of what nothing else is written for.
    async fn audit(&self, events: &[Event]) -> Result<(), StoreError>;

    /// The newest `limit` audit events that fit the filter, newest first.
    async fn audit_events(&self, filter: &Filter, limit: u32) -> Result<Vec<Event>, StoreError>;

    /// Throws away up to `rows_max` rows of each kind. Answers whether there is more.
    async fn purge(&self, what: &Purge, rows_max: u32, now: Moment) -> Result<bool, StoreError>;
}
