//! What can go wrong, in the words of the issuer, and what that is over gRPC and over HTTP.

use std::time::Duration;

use flaghoist_runtime::batch::Refused;
use flaghoist_runtime::fault::{self, Fault, Reason};
use flaghoist_runtime::token::ProofError;
use tonic::{Code, Status};

/// The domain of the errors that this service answers.
pub(crate) const DOMAIN: &str = "auth.flaghoist";

/// Why a call was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A field is wrong in a way that its contract cannot say.
    #[error("{field} {problem}")]
    Invalid { field: &'static str, problem: &'static str },
    /// The client is unknown, or its secret is wrong; which of these is not said.
    #[error("the client is unknown or did not prove that it is the one it says")]
    ClientInvalid,
    /// The client may not use this grant.
    #[error("this client may not use this grant")]
    ClientUnauthorized,
    /// The refresh token or code is unknown, used, expired or revoked, or not for who brings it.
    #[error("the token or code is unknown, used, expired or revoked, or not for this client")]
    GrantInvalid,
    /// The initial access token is no good.
    #[error("the initial access token is missing, unknown, used up or expired")]
    RegistrationTokenInvalid,
    /// The token that is to be exchanged is worth nothing.
    #[error("the subject token is not an access token of a person that is good now")]
    SubjectTokenInvalid,
    /// The client may get no token for this audience.
    #[error("the audience is unknown, or not one that this client may get tokens for")]
    TargetInvalid,
    /// Nobody has decided about the device yet.
    #[error("nobody has decided about this device yet: ask again after the interval")]
    DevicePending,
    /// Nobody has decided about the device yet, and it asks too often.
    #[error("the device asks too often: it has to wait 5 seconds longer between two questions from now on")]
    DeviceTooSoon,
    /// The person does not want the device.
    #[error("the person has refused this device")]
    DeviceDenied,
    /// Nobody has decided in time.
    #[error("the device code has expired: ask for a new one")]
    DeviceExpired,
    /// The token belongs to another client.
    #[error("the token was not issued to this client")]
    TokenOfAnother,
    /// The proof of a key is missing where one is needed, or is no good.
    #[error(transparent)]
    ProofInvalid(ProofError),
    /// The proof lacks a nonce that was given out lately.
    #[error("the proof needs a nonce that was given out lately: send a new one with the nonce of this answer")]
    ProofNonceRequired,
    /// The scope is unknown, or more than was granted.
    #[error("the scope is unknown or exceeds what was granted")]
    ScopeInvalid,
    /// The person may not hold sessions.
    #[error("this person may not sign in")]
    SubjectDisabled,
    /// There is no such session of this person.
    #[error("session {0} was not found")]
    SessionNotFound(String),
    /// There is no such client.
    #[error("client {0} was not found")]
    ClientNotFound(String),
    /// The id is taken.
    #[error("client {0} exists already")]
    ClientExists(String),
    /// The client is part of the product.
    #[error("client {0} is built in")]
    ClientBuiltIn(String),
    /// A challenge that is unknown, expired or answered.
    #[error("the login request is unknown, expired or answered")]
    LoginRequestNotFound,
    /// The client keeps no secret.
    #[error("client {0} has no secret")]
    ClientPublic(String),
    /// There is no such signing key.
    #[error("signing key {0} was not found")]
    KeyNotFound(String),
    /// The signing key cannot be revoked, since no other could take over.
    #[error("no other signing key has been published long enough to take over")]
    KeyReserveMissing { ready_in: Duration, forced_in: Duration },
    /// There are as many clients as may be.
    #[error("no more than {0} clients may be registered")]
    ClientsFull(u32),
    /// Too much waits for the store.
    #[error("too much to do at the moment")]
    Overloaded,
    /// The store cannot be written or read at the moment.
    #[error("the store did not answer")]
    Unavailable,
    /// A fault of ours. The cause was logged where it was met.
    #[error("internal error")]
    Internal,
}

impl Error {
    /// What it is over gRPC.
    pub(crate) fn fault(&self) -> Fault {
        let (code, reason) = match self {
            Self::Invalid { field, problem } => return Fault::invalid(*field, *problem),
            Self::ClientInvalid => (Code::Unauthenticated, Reason::ClientInvalid),
            Self::ClientUnauthorized => (Code::PermissionDenied, Reason::ClientUnauthorized),
            Self::GrantInvalid => (Code::Unauthenticated, Reason::GrantInvalid),
            Self::RegistrationTokenInvalid => (Code::Unauthenticated, Reason::TokenInvalid),
            Self::SubjectTokenInvalid => (Code::Unauthenticated, Reason::GrantInvalid),
            Self::TargetInvalid => (Code::InvalidArgument, Reason::TargetInvalid),
            Self::DevicePending => (Code::FailedPrecondition, Reason::AuthorizationPending),
            Self::DeviceTooSoon => {
                return Fault::new(Code::ResourceExhausted, Reason::SlowDown, self.to_string())
                    .retry_after(crate::flow::DEVICE_INTERVAL * 2);
            }
            Self::DeviceDenied => (Code::PermissionDenied, Reason::AuthorizationDenied),
            Self::DeviceExpired => (Code::Unauthenticated, Reason::DeviceCodeExpired),
            Self::TokenOfAnother => (Code::InvalidArgument, Reason::GrantInvalid),
            Self::ScopeInvalid => (Code::InvalidArgument, Reason::ScopeInvalid),
            Self::ProofInvalid(_) => (Code::Unauthenticated, Reason::ProofInvalid),
            Self::ProofNonceRequired => (Code::Unauthenticated, Reason::ProofNonceRequired),
            Self::SubjectDisabled => (Code::PermissionDenied, Reason::PermissionDenied),
            Self::SessionNotFound(name) => return Fault::not_found("session", name),
            Self::ClientNotFound(name) => return Fault::not_found("client", name),
            Self::ClientExists(name) => {
                return Fault::new(Code::AlreadyExists, Reason::AlreadyExists, self.to_string())
                    .resource("client", name);
            }
            Self::ClientBuiltIn(name) => {
                return Fault::new(Code::FailedPrecondition, Reason::PermissionDenied, self.to_string()).precondition(
                    "BUILT_IN",
                    name,
                    "this client is part of the product and cannot be changed or removed",
                );
            }
            Self::ClientPublic(name) => {
                return Fault::new(Code::FailedPrecondition, Reason::ClientUnauthorized, self.to_string())
                    .precondition(
                        "PUBLIC",
                        name,
                        "only a confidential client that signs no assertions has a secret that can be replaced",
                    );
            }
            Self::KeyNotFound(name) => return Fault::not_found("key", name),
            Self::KeyReserveMissing { ready_in, forced_in } => {
                let seconds = |time: &Duration| time.as_millis().div_ceil(1000);
                let what = format!(
                    "the oldest pending key may sign in {} s; with `force` it may in {} s, but sidecars refuse its tokens until \
                         they have fetched the keys again",
                    seconds(ready_in),
                    seconds(forced_in)
                );
                return Fault::new(Code::FailedPrecondition, Reason::KeyReserveMissing, self.to_string()).precondition(
                    "NO_RESERVE",
                    "keys",
                    what,
                );
            }
            Self::LoginRequestNotFound => (Code::NotFound, Reason::NotFound),
            Self::ClientsFull(_) => (Code::ResourceExhausted, Reason::LimitReached),
            Self::Overloaded => return Fault::overloaded(Duration::from_millis(200)),
            Self::Unavailable => return Fault::unavailable(self.to_string()),
            Self::Internal => return Fault::internal(),
        };
        Fault::new(code, reason, self.to_string())
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        error.fault().into_status(DOMAIN)
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Overloaded => Self::Overloaded,
            Refused::Stopped => Self::Unavailable,
        }
    }
}

/// The store did not do what it was asked for. Nothing of it is committed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing}")]
pub(crate) struct StoreError {
    pub(crate) doing: &'static str,
    /// Trying again is safe and may help.
    pub(crate) transient: bool,
    #[source]
    pub(crate) source: Box<dyn std::error::Error + Send + Sync>,
}

/// Logs the cause, once.
impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        fault::log_chain("using the store of auth", &error);
        if error.transient { Self::Unavailable } else { Self::Internal }
    }
}
