//! What is kept of browsers that are signed in to the account pages. As with [`super::Store`], the comments are promises.

use std::time::Duration;

use async_trait::async_trait;
use flaghoist_runtime::names::UserId;
use flaghoist_runtime::seal::Sealed;

use super::StoreError;
use crate::login_token::LoginDigest;

/// Sessions of the account pages. They live for hours, go with their owner's account, and may be forgotten when the store itself
/// crashes.
#[async_trait]
pub(crate) trait AccountSessionStore: Send + Sync + 'static {
    /// Keeps a session that begins at `now`.
    async fn open_account_session(&self, session: &AccountSession, now: i64) -> Result<(), StoreError>;

    /// A session that is not over by `limits`; it was used at `now`.
    async fn account_session(
        &self,
        digest: LoginDigest,
        limits: Limits,
        now: i64,
    ) -> Result<Option<AccountSession>, StoreError>;

    /// Puts newer tokens in the place of those of a session. One that has ended meanwhile stays so.
    async fn renew_account_session(&self, digest: LoginDigest, tokens: &Sealed) -> Result<(), StoreError>;

    /// Ends a session; answers it as it was. Of many at once one gets it.
    async fn end_account_session(&self, digest: LoginDigest) -> Result<Option<AccountSession>, StoreError>;
}

/// A browser that is signed in to the account pages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct AccountSession {
    /// Of its cookie.
    pub(crate) digest: LoginDigest,
    pub(crate) user: UserId,
    /// The tokens that the issuer gave for it.
    pub(crate) tokens: Sealed,
}

/// When a session is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Limits {
    /// So long after its last use.
    pub(crate) idle: Duration,
    /// So long after its beginning.
    pub(crate) absolute: Duration,
}

/// What no setting lets a session live longer than; later it is forgotten.
pub(crate) const LIFETIME_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);
