//! What is kept of second factors and of logins in steps. As with [`super::Store`], the comments are promises.

use async_trait::async_trait;
use flaghoist_runtime::names::UserId;
use flaghoist_runtime::seal::Sealed;

use super::StoreError;
use crate::account::Credentials;
use crate::factor::{Factors, Totp};
use crate::handle::Handle;
use crate::login_token::LoginDigest;
use crate::recovery_code::RecoveryDigest;

/// Second factors. Everything that a person has goes with their account.
#[async_trait]
pub(crate) trait FactorStore: Send + Sync + 'static {
    /// What a person has.
    async fn factors(&self, user: UserId) -> Result<Factors, StoreError>;

    /// Keeps a secret until it is confirmed or expires, in the place of an earlier one. Answers `false` when there is no such person.
    async fn begin_totp(&self, user: UserId, secret: &Sealed, expires_at: i64) -> Result<bool, StoreError>;

    /// The secret that is yet to be confirmed.
    async fn totp_enrolment(&self, user: UserId, now: i64) -> Result<Option<Sealed>, StoreError>;

    /// Makes the secret that is yet to be confirmed the person's own, with a code of `step` taken, and keeps what `first` brings for those who had
    /// no strong factor. Does nothing when the secret is another by now: of many at once one confirms.
    async fn confirm_totp(
        &self,
        user: UserId,
        secret: &Sealed,
        step: i64,
        first: FirstFactor<'_>,
        now: i64,
    ) -> Result<Confirmed, StoreError>;

    /// The authenticator app of a person.
    async fn totp(&self, user: UserId) -> Result<Option<Totp>, StoreError>;

    /// Takes a code of `step`, and keeps the secret as it was sealed anew, if it was. Answers `false` when a code of this step, or of a later
    /// one, was taken before, or the secret is another by now: of many at once one takes it.
    async fn take_totp(
        &self,
        user: UserId,
        secret: &Sealed,
        anew: Option<&Sealed>,
        step: i64,
        now: i64,
    ) -> Result<bool, StoreError>;

    /// The secrets of some authenticator apps, in the order of their people and beginning after one.
    async fn totp_secrets(&self, after: Option<UserId>, max: u32) -> Result<Vec<(UserId, Sealed)>, StoreError>;

    /// Keeps a secret as it was sealed anew. Answers `false` when it is another by now.
    async fn reseal_totp(&self, user: UserId, before: &Sealed, anew: &Sealed) -> Result<bool, StoreError>;

    /// Removes the authenticator app. If it is the last strong factor that is done only with `allow_last`, and the recovery codes go
    /// too; of two that are removed at once one is the last.
    async fn remove_totp(&self, user: UserId, allow_last: bool) -> Result<Removed, StoreError>;

    /// Keeps these recovery codes and no others. Answers `false` when the person has no strong factor.
    async fn replace_recovery_codes(
        &self,
        user: UserId,
        codes: &[RecoveryDigest],
        now: i64,
    ) -> Result<bool, StoreError>;

    /// Takes a recovery code. Of many at once one takes it.
    async fn take_recovery_code(&self, user: UserId, code: RecoveryDigest) -> Result<Option<TakenCode>, StoreError>;

    /// Gives a code back that was taken and opened nothing, unless other ones were made meanwhile or there is nothing that it could stand in for.
    async fn give_back_recovery_code(&self, user: UserId, taken: TakenCode) -> Result<(), StoreError>;
}

/// Logins in steps. They live for minutes and may be forgotten when the store itself crashes.
#[async_trait]
pub(crate) trait LoginStore: Send + Sync + 'static {
    /// Keeps a login until it ends or expires.
    async fn begin_login(&self, digest: LoginDigest, login: &Login, expires_at: i64) -> Result<(), StoreError>;

    /// A login that has not expired.
    async fn login(&self, digest: LoginDigest, now: i64) -> Result<Option<Login>, StoreError>;

    /// Takes the first step of a login. Answers `false` when it was taken before, or the login is over: of many at once one takes it.
    async fn password_proven(&self, digest: LoginDigest, proven: Proven, now: i64) -> Result<bool, StoreError>;

    /// Takes the last step of a login that awaits `step`, and ends it. Answers `false` when it is over or awaits another: of many at
    /// once one takes it.
    async fn end_login(&self, digest: LoginDigest, step: Step, now: i64) -> Result<bool, StoreError>;
}

/// What a first strong factor brings, in the commit that keeps it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FirstFactor<'a> {
    /// The recovery codes.
    pub(crate) codes: &'a [RecoveryDigest],
    /// The one session that does not end: the others were begun by a password alone, whoever knew it.
    pub(crate) kept_session: &'a str,
}

/// A recovery code that was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TakenCode {
    pub(crate) code: RecoveryDigest,
    /// When it was made, together with all others of the person.
    pub(crate) created_at: i64,
}

/// What came of confirming an authenticator app.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Confirmed {
    /// It is the person's.
    Done {
        /// Whether it is the first strong factor.
        first: bool,
    },
    /// Nothing is to be confirmed any more.
    Gone,
}

/// What came of removing a factor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Removed {
    /// It is not there any more.
    Done,
    /// It was not there; nothing has changed.
    Absent,
    /// It is the last strong one, and was left.
    Last,
}

/// A login under way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Login {
    pub(crate) handle: Handle,
    pub(crate) client_id: String,
    pub(crate) label: String,
    /// What else it belongs to; empty for nothing.
    pub(crate) bound_to: Vec<u8>,
    /// Whose password was right; while it is awaited, nobody's.
    pub(crate) proven: Option<Proven>,
}

/// Whose password was right, and which it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Proven {
    pub(crate) user: UserId,
    /// `credential_version` at that time.
    pub(crate) version: i64,
}

/// What a login awaits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// The password.
    Password,
    /// A second factor.
    SecondFactor,
}

impl Proven {
    /// Whose credentials these are.
    pub(crate) fn by(credentials: &Credentials) -> Self {
        Self { user: credentials.account.user, version: credentials.version }
    }
}

impl Login {
    /// What it awaits.
    pub(crate) fn step(&self) -> Step {
        if self.proven.is_some() { Step::SecondFactor } else { Step::Password }
    }
}

impl Step {
    /// As it is kept.
    pub(super) fn number(self) -> i16 {
        match self {
            Self::Password => 1,
            Self::SecondFactor => 2,
        }
    }
}
