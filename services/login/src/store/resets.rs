//! What is kept of links by which a password is set anew. As with [`super::Store`], the comments are promises.

use async_trait::async_trait;

use super::StoreError;
use super::factors::Proven;
use super::outbox::{Also, Outgoing};
use crate::login_token::LoginDigest;
use crate::recovery_code::RecoveryDigest;

/// Links. They go with the account.
#[async_trait]
pub(crate) trait ResetStore: Send + Sync + 'static {
    /// Keeps a link until it is used or expires, and the message that carries it.
    async fn begin_reset(
        &self,
        digest: LoginDigest,
        whose: Proven,
        expires_at: i64,
        message: &Outgoing,
        now: i64,
    ) -> Result<(), StoreError>;

    /// Whose link it is, if it can be used.
    async fn reset(&self, digest: LoginDigest, now: i64) -> Result<Option<Proven>, StoreError>;

    /// Uses a link: puts a new password in place, ends all sessions, forgets all links of the person and takes the recovery code that stood in
    /// for a second factor, all or nothing. Of many at once one does it.
    async fn finish_reset(
        &self,
        digest: LoginDigest,
        hash: &str,
        code: Option<RecoveryDigest>,
        also: &Also,
        now: i64,
    ) -> Result<Finished, StoreError>;
}

/// What came of using a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Finished {
    /// The password is another one.
    Done,
    /// The link is used or expired, or the password was changed since.
    Over,
    /// There is no such recovery code.
    CodeUnknown,
}
