//! What is kept of the deletions of accounts: what comes next in each, and what was removed.

use std::collections::BTreeMap;

use async_trait::async_trait;
use flaghoist_runtime::names::UserId;
use uuid::Uuid;

use super::StoreError;

/// How long an erasure that has just begun is left to the call that has begun it.
pub(crate) const BEGINNING_MS: i64 = 30_000;

/// The steps of an erasure, in their order. The numbers are those that the store keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// Count what the issuer keeps.
    CountSessions = 0,
    /// End the sessions, and remove what the issuer keeps.
    EndSessions = 1,
    /// Count the devices.
    CountDevices = 2,
    /// Remove them.
    RemoveDevices = 3,
    /// Remove messages and memberships.
    Messages = 4,
    /// Remove devices that came by a token that was still good.
    LateDevices = 5,
    /// Remove messages that came so.
    LateMessages = 6,
    /// Count what login itself keeps.
    CountFactors = 7,
    /// Remove that.
    Account = 8,
    /// Nothing is left.
    Done = 9,
}

impl Step {
    /// All of them in their order.
    pub(crate) const ALL: [Self; 10] = [
        Self::CountSessions,
        Self::EndSessions,
        Self::CountDevices,
        Self::RemoveDevices,
        Self::Messages,
        Self::LateDevices,
        Self::LateMessages,
        Self::CountFactors,
        Self::Account,
        Self::Done,
    ];

    /// The step with a number.
    pub(crate) fn from_number(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|step| *step as i64 == number)
    }

    /// The one after it.
    pub(crate) fn next(self) -> Self {
        Self::ALL.get(self as usize + 1).copied().unwrap_or(Self::Done)
    }

    /// The service that does it; none when nothing is left.
    pub(crate) fn service(self) -> &'static str {
        match self {
            Self::CountSessions | Self::EndSessions => "auth",
            Self::CountDevices | Self::RemoveDevices | Self::LateDevices => "receiver",
            Self::Messages | Self::LateMessages => "send",
            Self::CountFactors | Self::Account => "login",
            Self::Done => "",
        }
    }
}

/// The deletion of an account. Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Erasure {
    pub(crate) id: Uuid,
    /// Whose; nobody's once it is finished.
    pub(crate) user: Option<UserId>,
    pub(crate) created_at: i64,
    pub(crate) finished_at: Option<i64>,
    /// When the person's sessions were ended.
    pub(crate) signed_out_at: Option<i64>,
    /// What comes next.
    pub(crate) step: Step,
    /// Where in that step.
    pub(crate) step_token: String,
    /// What was removed, by service and kind: `send.messages`.
    pub(crate) counts: BTreeMap<String, i64>,
    /// How often in a row the step failed.
    pub(crate) failures: u32,
    /// When it is done, or tried again.
    pub(crate) next_at: i64,
    /// Rises with every change.
    pub(crate) revision: i64,
}

/// Keeps erasures. What [`super::Store`] says of writes and pods holds here, too.
#[async_trait]
pub(crate) trait ErasureStore: Send + Sync + std::fmt::Debug + 'static {
    /// Begins the erasure of a person whose account is being deleted, unless it was begun. Beginning a deletion does so, too.
    async fn begin_erasure(&self, user: UserId, now: i64) -> Result<(), StoreError>;

    /// The erasure of a person that is under way.
    async fn erasure_of(&self, user: UserId) -> Result<Option<Erasure>, StoreError>;

    /// An erasure whose time has come, the one that waits longest, for the caller alone until `held_until`. Of many callers at once
    /// each gets another one.
    async fn claim_erasure(&self, now: i64, held_until: i64) -> Result<Option<Erasure>, StoreError>;

    /// Puts an erasure in the place of what it was at its `revision`, which rises by one, held until then. Answers `false` when it has
    /// another revision by now.
    async fn advance_erasure(&self, erasure: &Erasure, held_until: i64) -> Result<bool, StoreError>;

    /// An erasure, whether or not it is finished.
    async fn erasure(&self, id: Uuid) -> Result<Option<Erasure>, StoreError>;

    /// The newest `limit` erasures before one.
    async fn erasures(&self, before: Uuid, limit: u32) -> Result<Vec<Erasure>, StoreError>;

    /// Forgets those that were finished before a time.
    async fn forget_erasures(&self, finished_before: i64) -> Result<(), StoreError>;
}
