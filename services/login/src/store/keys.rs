//! What is kept of security keys and of the ceremonies with them. As with [`super::Store`], the comments are promises.

use async_trait::async_trait;
use flaghoist_runtime::names::UserId;
use uuid::Uuid;

use super::StoreError;
use super::factors::FirstFactor;
use crate::login_token::LoginDigest;
use crate::security_key::StoredKey;

/// Security keys and passkeys, which go with their owner's account, and ceremonies, which live for minutes and may be forgotten when
/// the store itself crashes.
#[async_trait]
pub(crate) trait KeyStore: Send + Sync + 'static {
    /// The keys of a person, the oldest first.
    async fn keys(&self, user: UserId) -> Result<Vec<StoredKey>, StoreError>;

    /// The key with this id of a credential, whoever's it is.
    async fn key(&self, credential_id: &[u8]) -> Result<Option<StoredKey>, StoreError>;

    /// Keeps a new key, and what `first` brings for those who had no strong factor. Keeps none whose credential is known, to whomever, and no
    /// more than `keys_max` of a person: of many at once too.
    async fn add_key(&self, key: &StoredKey, first: FirstFactor<'_>, keys_max: u32) -> Result<Added, StoreError>;

    /// Keeps a key as it is after a use. Answers `false` when its count did not rise, or it is gone: of many uses with one count one
    /// is taken. A key that does not count says 0, always.
    async fn use_key(&self, used: &StoredKey, now: i64) -> Result<bool, StoreError>;

    /// Changes what a key of a person is called; answers it as it is then, or nothing if there is no such key.
    async fn rename_key(&self, user: UserId, id: Uuid, name: &str) -> Result<Option<StoredKey>, StoreError>;

    /// Removes a key of a person. If it is the last strong factor that is done only with `allow_last`, and the recovery codes go too;
    /// of two that are removed at once one is the last.
    async fn remove_key(&self, user: UserId, id: Uuid, allow_last: bool) -> Result<KeyRemoved, StoreError>;

    /// Keeps a ceremony until it is taken or expires, in the place of an earlier one.
    async fn begin_ceremony(&self, of: LoginDigest, state: &str, expires_at: i64) -> Result<(), StoreError>;

    /// Takes a ceremony out: of many at once one gets it.
    async fn take_ceremony(&self, of: LoginDigest, now: i64) -> Result<Option<String>, StoreError>;
}

/// What came of keeping a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Added {
    /// It is kept.
    Done {
        /// Whether it is the first strong factor.
        first: bool,
    },
    /// The credential is known.
    Known,
    /// The person has as many keys as may be.
    Full,
    /// There is no such person any more.
    Gone,
}

/// What came of removing a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum KeyRemoved {
    /// It is gone.
    Done,
    /// The person has no such key.
    Unknown,
    /// It is the last strong factor, and was left.
    Last,
}
