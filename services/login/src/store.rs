//! What login keeps. The doc comments of [`Store`] are promises; `conformance` checks them for every backend.

pub(crate) mod account_sessions;
pub(crate) mod contacts;
pub(crate) mod erasures;
pub(crate) mod factors;
pub(crate) mod history;
pub(crate) mod keys;
pub(crate) mod outbox;
pub(crate) mod postgres;
pub(crate) mod resets;
pub(crate) mod sqlite;
pub(crate) mod transfer;

#[cfg(test)]
pub(crate) mod conformance;

use std::time::Duration;

use async_trait::async_trait;
use flaghoist_runtime::names::UserId;

use crate::account::{Account, AccountChange, Credentials, NewAccount};
use crate::contact::Contacts;
use crate::handle::Handle;
use crate::invitation::InvitationDigest;
use crate::throttle::quota::{BucketKey, Quota};
use crate::throttle::{AttemptKey, Delays};
use account_sessions::AccountSessionStore;
use contacts::ContactStore;
use erasures::ErasureStore;
use factors::{FactorStore, LoginStore};
use history::HistoryStore;
use keys::KeyStore;
use outbox::OutboxStore;
use resets::ResetStore;

/// Accounts, invitations, attempts and notices; every write of those is on disk once it is answered. Buckets and lanes live for
/// seconds and may be forgotten when the store itself crashes. What is promised of many calls at once holds for calls of all pods
/// that share the store. Times are milliseconds of the caller's clock, those of lanes the store's own.
#[async_trait]
pub(crate) trait Store:
    FactorStore
    + LoginStore
    + KeyStore
    + AccountSessionStore
    + ErasureStore
    + ContactStore
    + OutboxStore
    + HistoryStore
    + ResetStore
{
    /// Makes an account, and uses the invitation up, both or neither. Of many at once with one handle or one
    /// invitation exactly one succeeds.
    async fn create_account(
        &self,
        new: &NewAccount,
        invitation: Option<InvitationDigest>,
    ) -> Result<Created, StoreError>;

    /// The account of a person. One that is being deleted is gone.
    async fn account(&self, user: UserId) -> Result<Option<Account>, StoreError>;

    /// The account with a handle. One that is being deleted is gone.
    async fn account_by_handle(&self, handle: &Handle) -> Result<Option<Account>, StoreError>;

    /// Those of the people who exist and are neither disabled nor being deleted, in no order.
    async fn users(&self, users: &[UserId]) -> Result<Vec<(UserId, Handle)>, StoreError>;

    /// What proves the person with a handle, also while they are being deleted.
    async fn credentials(&self, handle: &Handle) -> Result<Option<Credentials>, StoreError>;

    /// What proves a person, also while they are being deleted.
    async fn credentials_of(&self, user: UserId) -> Result<Option<Credentials>, StoreError>;

    /// What proves a person, and their contacts.
    async fn person(&self, user: UserId, now: i64) -> Result<Option<(Credentials, Contacts)>, StoreError> {
        let Some(credentials) = self.credentials_of(user).await? else { return Ok(None) };
        Ok(Some((credentials, self.contacts(user, now).await?)))
    }

    /// Changes what a person says of themselves, and notes that the issuer is to be told; answers the account as it is then.
    async fn change_account(&self, user: UserId, change: &AccountChange) -> Result<Option<Account>, StoreError>;

    /// Puts a hash of the same password in the place of `old`; does nothing when the hash is another by now.
    async fn renew_password_hash(&self, user: UserId, old: &str, new: &str) -> Result<(), StoreError>;

    /// Puts a new password in place and notes that all sessions but `kept_session` are to end. Does nothing, and
    /// answers `false`, when the credentials are not those of `version` any more.
    async fn change_password(
        &self,
        user: UserId,
        version: i64,
        hash: &str,
        kept_session: &str,
        now: i64,
    ) -> Result<bool, StoreError>;

    /// Disables or enables an account and notes that the issuer is to be told, with who did it. Never disables the last admin.
    async fn set_disabled(&self, user: UserId, disabled: bool, by: &str, now: i64) -> Result<Changed, StoreError>;

    /// Makes a person an admin or ends that, and notes that the issuer is to be told, with who did it. Never ends it for the last one.
    async fn set_admin(&self, user: UserId, admin: bool, by: &str, now: i64) -> Result<Changed, StoreError>;

    /// Marks an account as being deleted and notes that the issuer is to erase it. Never the last admin's.
    async fn begin_deletion(&self, user: UserId, now: i64) -> Result<Changed, StoreError>;

    /// Removes what is left of an account that is being deleted, with its factors and the attempts at it and at them.
    async fn finish_deletion(&self, user: UserId, attempts_at: &[[u8; 16]]) -> Result<(), StoreError>;

    /// Keeps an invitation until it expires. Answers `false` when `outstanding_max` are waiting to be used.
    async fn create_invitation(
        &self,
        digest: InvitationDigest,
        now: i64,
        expires_at: i64,
        outstanding_max: u32,
    ) -> Result<bool, StoreError>;

    /// Whether an invitation could be used now.
    async fn invitation_usable(&self, digest: InvitationDigest, now: i64) -> Result<bool, StoreError>;

    /// Counts an attempt before it is made, or answers how long to wait. Of many at once no more are let through than
    /// would be one after another.
    async fn reserve_attempt(&self, key: AttemptKey, delays: Delays, now: i64) -> Result<Option<Duration>, StoreError>;

    /// Forgets the attempts from an address, and takes its last one off the shared count if it was counted there. With `known_max` the
    /// address is known from now on; so many known addresses an account are kept, the latest.
    async fn attempt_succeeded(&self, key: AttemptKey, known_max: Option<u32>, now: i64) -> Result<(), StoreError>;

    /// Takes a call out of a bucket, or answers how long to wait for one. Of many at once no more are let through than it holds.
    async fn take(&self, bucket: BucketKey, quota: Quota, now: i64) -> Result<Option<Duration>, StoreError>;

    /// Forgets what is over: old attempts and, beyond `rows_max`, the oldest of the rest; full buckets; expired invitations,
    /// enrolments, logins and ceremonies; sessions of the account pages that no setting lets live; lanes that nobody left. May be called by several pods at once.
    /// enrolments, logins, ceremonies, codes, links and messages; old events; lanes that nobody left. May be called by several pods at once.
    async fn forget(&self, now: i64, rows_max: u32) -> Result<(), StoreError>;

    /// Takes the lane of a person for so long. Answers `false` when another holder has it and their time is not over.
    async fn take_lane(&self, user: UserId, holder: Holder, hold: Duration) -> Result<bool, StoreError>;

    /// Holds a lane for so long from now on. Answers `false` when another holder had it meanwhile, or it was
    /// over and forgotten.
    async fn keep_lane(&self, user: UserId, holder: Holder, hold: Duration) -> Result<bool, StoreError>;

    /// Leaves a lane, if the holder has it.
    async fn leave_lane(&self, user: UserId, holder: Holder) -> Result<(), StoreError>;

    /// Notes that the issuer is to be told a person's state once more.
    async fn note_state(&self, user: UserId, now: i64) -> Result<(), StoreError>;

    /// What the issuer has yet to be told about a person, in the order it was noted; each with its id.
    async fn notices(&self, user: UserId) -> Result<Vec<(i64, Notice)>, StoreError>;

    /// Some of the people about whom the issuer has yet to be told something, those who wait longest first.
    async fn users_with_notices(&self, max: u32) -> Result<Vec<UserId>, StoreError>;

    /// Removes a notice that was told, unless a newer one has taken its place.
    async fn told(&self, id: i64) -> Result<(), StoreError>;
}

/// Whoever is in a lane: a new one for each call that enters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Holder(pub(crate) uuid::Uuid);

/// What came of making an account.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Created {
    /// It is there.
    Done,
    /// The handle belongs to someone.
    HandleTaken,
    /// The invitation is unknown, used or expired.
    InvitationInvalid,
}

/// What came of changing an account.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Changed {
    /// The account as it is now.
    Done(Account),
    /// There is no such account.
    Unknown,
    /// The last admin would be gone.
    LastAdmin,
}

/// Whoever works beside the server, as the issuer calls them.
pub(crate) const OPERATOR: &str = "operator";

/// Something that the issuer is to be told about a person. A newer notice takes the place of an older one of its kind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Notice {
    /// Whether the person may hold sessions and be an admin, as it is when told.
    State {
        /// Who changed it: the resource name of an admin, or [`OPERATOR`]; empty if nobody in particular.
        by: String,
    },
    /// Sessions end.
    EndSessions {
        /// All but this one, if it is not empty.
        except: String,
    },
    /// Everything about the person is to be removed.
    Erase,
}

/// The store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk is full or read-only, or the database is away: it may be otherwise soon.
    #[error("the accounts' store is not available: is its disk full or read-only, or its PostgreSQL away?")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It should not have happened.
    #[error("the accounts' store failed")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}
