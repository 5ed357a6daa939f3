//! What is kept of contacts, and of what applications are told about people. As with [`super::Store`], the comments are promises.

use async_trait::async_trait;
use flaghoist_runtime::names::UserId;

use super::StoreError;
use super::outbox::{Also, Outgoing};
use crate::account::Account;
use crate::contact::{Contact, ContactKind, Contacts};

/// Contacts. They go with the account.
#[async_trait]
pub(crate) trait ContactStore: Send + Sync + 'static {
    /// The contacts of a person.
    async fn contacts(&self, user: UserId, now: i64) -> Result<Contacts, StoreError>;

    /// Keeps a contact until someone brings its code or it expires, in the place of an earlier one of its kind, and the message with the
    /// code. What is verified stays as it is. Answers `false` when there is no such person.
    async fn begin_contact(
        &self,
        user: UserId,
        change: &PendingContact,
        message: &Outgoing,
        now: i64,
    ) -> Result<bool, StoreError>;

    /// Makes a contact the person's by its code, in the place of an earlier one of its kind. Links that were sent to an earlier one are of no use from
    /// then on. Answers `false` when it is not this code, or its time is over: of many at once one does it.
    async fn verify_contact(
        &self,
        user: UserId,
        kind: ContactKind,
        code: CodeDigest,
        also: &Also,
        now: i64,
    ) -> Result<bool, StoreError>;

    /// Removes a contact, verified or not, and the links that were sent to it. Answers `false` when there is none.
    async fn remove_contact(&self, user: UserId, kind: ContactKind, also: &Also, now: i64) -> Result<bool, StoreError>;

    /// Some of the people whose verified contact this is and who may sign in, in no order.
    async fn people_of_contact(&self, contact: &Contact, max: u32) -> Result<Vec<UserId>, StoreError>;

    /// Some of the people of whom the issuer has yet to be told what applications may know.
    async fn people_with_untold_profile(&self, max: u32) -> Result<Vec<UserId>, StoreError>;

    /// What applications may know of a person, and its version.
    async fn profile(&self, user: UserId) -> Result<Option<(Profile, i64)>, StoreError>;

    /// Notes that the issuer knows the profile of this version.
    async fn profile_told(&self, user: UserId, version: i64) -> Result<(), StoreError>;
}

/// A contact that is to be verified.
#[derive(Clone, Debug)]
pub(crate) struct PendingContact {
    pub(crate) contact: Contact,
    pub(crate) code: CodeDigest,
    pub(crate) expires_at: i64,
}

/// What the store keeps of a code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct CodeDigest(pub(crate) [u8; 32]);

/// What applications may know of a person who agrees.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Profile {
    pub(crate) account: Account,
    /// Those that are verified.
    pub(crate) contacts: Contacts,
}
