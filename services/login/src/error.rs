//! What can go wrong in login, in the words of the domain, and the one place that says what it is on the wire.

use std::time::Duration;

use flaghoist_runtime::fault::{Fault, Reason, log_chain};
use flaghoist_runtime::seal::SealError;
use tonic::{Code, Status};

use crate::account::BadDisplayName;
use crate::contact::BadContact;
use crate::handle::BadHandle;
use crate::hashing::{Full, HashError, Stopped};
use crate::issuer::IssuerError;
use crate::others::OtherError;
use crate::password::BadPassword;
use crate::security_key::KeyError;
use crate::store::StoreError;

/// The domain of the reasons that login gives.
pub(crate) const DOMAIN: &str = "login.flaghoist";

/// When to try again after the hash pool was full: about as long as it takes to work off its queue.
const OVERLOADED_RETRY: Duration = Duration::from_secs(1);

/// When to try again after too many exports were being made.
const EXPORTS_RETRY: Duration = Duration::from_secs(10);

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A handle that is none.
    #[error("handle {0}")]
    Handle(#[from] BadHandle),
    /// A display name that is none.
    #[error("display_name {0}")]
    DisplayName(#[from] BadDisplayName),
    /// A contact that is none.
    #[error("value {0}")]
    Contact(#[from] BadContact),
    /// A text that is not taken.
    #[error("{field} {problem}")]
    Text {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// No message leaves the installation for such a contact.
    #[error("this installation sends no messages to {0}: its administrator sets FLAGHOIST_LOGIN_NOTIFIER")]
    ContactUnreachable(&'static str),
    /// There is no such contact.
    #[error("the account has no such contact")]
    ContactUnknown,
    /// A link for a new password is unknown, used or expired.
    #[error("this link is used or expired, or the password was changed since; ask for another one")]
    ResetOver,
    /// A new password was set by a link for an account with a second factor, and none came along.
    #[error("the account has a second factor, which is asked for together with the new password")]
    ResetSecondFactor,
    /// A resource name that is none.
    #[error("name is not a name like users/{{user}}")]
    Name {
        /// The field.
        field: String,
    },
    /// A new password that is not taken.
    #[error("{field} {source}")]
    Password {
        /// The field.
        field: &'static str,
        /// Why.
        source: BadPassword,
    },
    /// Handle and password do not belong together, or the account may not sign in.
    #[error("handle and password do not belong together, or the account may not sign in")]
    CredentialsInvalid,
    /// The account has a second factor.
    #[error("the account has a second factor; sign in by StartLogin, which asks for it")]
    SecondFactorRequired,
    /// The code is wrong, or was taken before.
    #[error("the code is wrong, expired or used")]
    CodeInvalid,
    /// The login is unknown, finished or expired, or somebody else's.
    #[error("this login is over or was begun elsewhere; begin again")]
    LoginOver,
    /// The login awaits another step.
    #[error("the login awaits another step, or another call has taken this one")]
    LoginStep,
    /// Whoever calls has signed in too long ago.
    #[error("this asks for a login of the last 10 minutes; sign in again")]
    LoginNotFresh,
    /// Whoever calls has signed in by one factor, and has two.
    #[error("this asks for a login by two factors; sign in again with the second one")]
    LoginOneFactor,
    /// An application calls, to which the person has signed in.
    #[error("second factors are not changed through an application; sign in to flaghoist itself")]
    ClientForeign,
    /// The last strong factor is not removed by mistake.
    #[error("this is the last second factor: enrol another one first, or say allow_last")]
    LastFactor,
    /// There is nothing that recovery codes could stand in for.
    #[error("recovery codes stand in for a second factor, and the account has none; enrol one first")]
    FactorMissing,
    /// There is no authenticator app to confirm.
    #[error("no authenticator app is being enrolled, or its time is over; enrol it again")]
    EnrolmentUnknown,
    /// No registration of a key is under way.
    #[error("no security key is being registered, or its time is over; begin again")]
    RegistrationUnknown,
    /// The key was registered before, by whomever.
    #[error("this key was registered before")]
    KeyKnown,
    /// There is no such key.
    #[error("there is no such security key")]
    KeyUnknown,
    /// There are as many keys as may be.
    #[error("the account has as many security keys as it may have; remove one first")]
    KeysLimit,
    /// A ceremony came to nothing.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// There is no such account, or it is being deleted.
    #[error("there is no account {0}")]
    AccountUnknown(String),
    /// The handle belongs to someone.
    #[error("the handle {0} is taken")]
    HandleTaken(String),
    /// Nobody may register.
    #[error("this installation takes no new accounts")]
    RegistrationClosed,
    /// The invitation is missing, unknown, used or expired.
    #[error("registering takes an invitation that is neither used nor expired")]
    InvitationInvalid,
    /// There is no such erasure.
    #[error("there is no erasure {0}")]
    ErasureUnknown(uuid::Uuid),
    /// An export of the same person is being made.
    #[error("an export of yours is being made; take it to its end, or try again later")]
    ExportRunning,
    /// As many exports are being made as may be.
    #[error("too many exports are being made; try again later")]
    ExportsLimit,
    /// Another service did not do its part.
    #[error(transparent)]
    Other(#[from] OtherError),
    /// An archive cannot be written.
    #[error("writing an archive")]
    Archive(#[from] zip::result::ZipError),
    /// Too many invitations wait to be used.
    #[error("too many invitations wait to be used")]
    InvitationsLimit,
    /// The last admin would be gone.
    #[error("an installation keeps one admin who is not disabled; make someone else an admin first")]
    LastAdmin,
    /// Too many attempts.
    #[error("too many attempts")]
    RateLimited(Duration),
    /// Another call about the same person takes long.
    #[error("another call about the same account is under way")]
    Busy,
    /// The queue before the hash pool is full.
    #[error(transparent)]
    Full(#[from] Full),
    /// The hash pool has ended.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// A hash could not be made or read.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// The issuer did not do what was asked.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// A secret of the store cannot be read.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The store did not do what was asked.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Error {
    /// What it is on the wire. What nobody expected is logged here.
    pub(crate) fn fault(&self) -> Fault {
        let text = || self.to_string();
        match self {
            Self::Handle(bad) => Fault::invalid("handle", bad.to_string()),
            Self::DisplayName(bad) => Fault::invalid("display_name", bad.to_string()),
            Self::Contact(bad) => Fault::invalid("value", bad.to_string()),
            Self::Text { field, problem } => Fault::invalid(*field, *problem),
            Self::ContactUnreachable(_) => Fault::new(Code::FailedPrecondition, Reason::ContactUnreachable, text()),
            Self::ContactUnknown => Fault::not_found("contact", ""),
            Self::ResetOver => Fault::new(Code::FailedPrecondition, Reason::ResetOver, text()),
            Self::ResetSecondFactor => Fault::new(Code::FailedPrecondition, Reason::SecondFactorRequired, text()),
            Self::Name { field } => Fault::invalid(field.clone(), "is not a name like users/{user}"),
            Self::Password { field, source: weak @ BadPassword::Weak(_) } => {
                Fault::new(Code::InvalidArgument, Reason::PasswordWeak, text()).violation(*field, weak.to_string())
            }
            Self::Password { field, source } => Fault::invalid(*field, source.to_string()),
            Self::CredentialsInvalid | Self::Issuer(IssuerError::SubjectRefused) => {
                Fault::new(Code::Unauthenticated, Reason::CredentialsInvalid, Self::CredentialsInvalid.to_string())
            }
            Self::CodeInvalid => Fault::new(Code::Unauthenticated, Reason::CredentialsInvalid, text()),
            Self::SecondFactorRequired => Fault::new(Code::FailedPrecondition, Reason::SecondFactorRequired, text()),
            Self::LoginOver => Fault::new(Code::FailedPrecondition, Reason::LoginOver, text()),
            Self::LoginStep => Fault::new(Code::FailedPrecondition, Reason::LoginStep, text()),
            Self::LoginNotFresh | Self::LoginOneFactor => {
                Fault::new(Code::FailedPrecondition, Reason::LoginNotFresh, text())
            }
            Self::ClientForeign => Fault::new(Code::PermissionDenied, Reason::CallerNotAllowed, text()),
            Self::LastFactor => Fault::new(Code::FailedPrecondition, Reason::LastFactor, text()),
            Self::FactorMissing => Fault::new(Code::FailedPrecondition, Reason::FactorMissing, text()),
            Self::EnrolmentUnknown => Fault::not_found("authenticator app", ""),
            Self::RegistrationUnknown => Fault::not_found("registration of a security key", ""),
            Self::KeyKnown => {
                Fault::new(Code::AlreadyExists, Reason::AlreadyExists, text()).resource("security key", "")
            }
            Self::KeyUnknown => Fault::not_found("security key", ""),
            Self::KeysLimit => Fault::new(Code::ResourceExhausted, Reason::LimitReached, text()),
            Self::Key(KeyError::NoHost) => Fault::new(Code::FailedPrecondition, Reason::FactorUnavailable, text()),
            Self::Key(error @ (KeyError::Malformed | KeyError::Refused(_))) => {
                Fault::invalid("credential", error.to_string())
            }
            Self::AccountUnknown(name) => Fault::not_found("account", name.clone()),
            Self::HandleTaken(handle) => {
                Fault::new(Code::AlreadyExists, Reason::AlreadyExists, text()).resource("account", handle.clone())
            }
            Self::ErasureUnknown(id) => Fault::not_found("erasure", format!("erasures/{id}")),
            Self::ExportRunning | Self::ExportsLimit => {
                Fault::new(Code::ResourceExhausted, Reason::Overloaded, text()).retry_after(EXPORTS_RETRY)
            }
            Self::Other(error) if error.passing() => {
                tracing::warn!(error = %flaghoist_runtime::fault::chain(self), "a service does not answer");
                Fault::unavailable(format!("{} does not answer", error.service))
            }
            Self::RegistrationClosed => Fault::new(Code::PermissionDenied, Reason::RegistrationClosed, text()),
            Self::InvitationInvalid => Fault::new(Code::PermissionDenied, Reason::InvitationInvalid, text()),
            Self::InvitationsLimit => Fault::new(Code::ResourceExhausted, Reason::LimitReached, text()),
            Self::LastAdmin => Fault::new(Code::FailedPrecondition, Reason::LastAdmin, text()),
            Self::RateLimited(wait) => Fault::rate_limited(*wait),
            Self::Full(_) => Fault::overloaded(OVERLOADED_RETRY),
            Self::Issuer(IssuerError::ClientUnknown) => {
                Fault::new(Code::InvalidArgument, Reason::ClientInvalid, "client_id is not a registered client")
                    .violation("client_id", "is not a registered client")
            }
            Self::Issuer(IssuerError::ScopeRefused) => {
                Fault::new(Code::FailedPrecondition, Reason::ScopeInvalid, "the client may not have these scopes")
            }
            Self::Issuer(IssuerError::LimitReached) => {
                Fault::new(Code::ResourceExhausted, Reason::LimitReached, text())
            }
            Self::Issuer(IssuerError::RequestUnknown) => Fault::not_found("login request", ""),
            Self::Issuer(IssuerError::Unavailable(_)) => {
                tracing::warn!(error = %flaghoist_runtime::fault::chain(self), "the issuer does not answer");
                Fault::unavailable("the issuer does not answer")
            }
            Self::Store(StoreError::Unavailable(_)) => {
                tracing::warn!(error = %flaghoist_runtime::fault::chain(self), "the store is not available");
                Fault::unavailable("the store is not available")
            }
            Self::Busy => Fault::unavailable(text()),
            Self::Stopped(_) => Fault::unavailable("shutting down"),
            Self::Hash(_)
            | Self::Seal(_)
            | Self::Other(_)
            | Self::Archive(_)
            | Self::Key(KeyError::Failed(_))
            | Self::Issuer(IssuerError::Failed(_))
            | Self::Store(StoreError::Failed(_)) => {
                log_chain("answering a call to login", self);
                Fault::internal()
            }
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        error.fault().into_status(DOMAIN)
    }
}
