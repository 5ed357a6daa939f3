//! What can go wrong, in the words of the domain, and what each of it is on the wire.

use std::time::Duration;

use flaghoist_runtime::fault::Reason;
use flaghoist_runtime::names::{BadName, ConversationId, UserId, message_name};
use flaghoist_runtime::{Fault, batch};
use tonic::{Code, Status};

/// The name of the service in errors.
pub(crate) const DOMAIN: &str = "send.flaghoist";

/// When to try again after a bound on what is kept was reached: somebody has to make room first.
const LIMIT_RETRY: Duration = Duration::from_secs(60);

/// Why a call was refused.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Error {
    /// A field breaks a rule that the contract states in words.
    #[error("{field} {problem}")]
    Invalid {
        /// The field.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The conversation does not exist, or the caller may not see it.
    #[error("no such conversation")]
    NoConversation(ConversationId),
    /// The message does not exist, or the caller may not see it.
    #[error("no such message")]
    NoMessage(ConversationId, u64),
    /// The person does not exist, is disabled, or is not in the conversation.
    #[error("no such person")]
    NoPerson(UserId),
    /// The caller's role does not allow it.
    #[error("{0}")]
    Forbidden(&'static str),
    /// The request id was used with other content.
    #[error("request_id was used before with other content")]
    RequestIdReused,
    /// The call does not fit the kind of conversation.
    #[error("{0}")]
    WrongKind(&'static str),
    /// A group must keep one owner.
    #[error("a group keeps at least one owner: hand the role over first")]
    LastOwner,
    /// The message was deleted.
    #[error("the message was deleted")]
    MessageDeleted,
    /// A bound on what is kept was reached.
    #[error("{what}: {max} at most")]
    LimitReached {
        /// What there would be too many of.
        what: &'static str,
        /// The bound.
        max: u32,
    },
    /// The person sends faster than allowed.
    #[error("too many messages")]
    RateLimited(Duration),
    /// The queue to the store is full.
    #[error("too much to do")]
    Overloaded,
    /// The store, or a service that is asked, does not answer; nothing that was answered is lost.
    #[error("{0}")]
    Unavailable(&'static str),
    /// A fault of ours; it was logged where it was met.
    #[error("internal error")]
    Internal,
}

impl Error {
    /// What it is on the wire.
    pub(crate) fn fault(&self) -> Fault {
        match self {
            Self::Invalid { field, problem } => Fault::invalid(field, problem),
            Self::NoConversation(id) => Fault::not_found("conversation", id.name()),
            Self::NoMessage(conversation, seq) => Fault::not_found("message", message_name(*conversation, *seq)),
            Self::NoPerson(id) => Fault::not_found("user", id.name()),
            Self::Forbidden(_) => Fault::new(Code::PermissionDenied, Reason::PermissionDenied, self.to_string()),
            Self::RequestIdReused => Fault::new(Code::FailedPrecondition, Reason::RequestIdReused, self.to_string())
                .precondition(
                    "REQUEST_ID",
                    "request_id",
                    "is kept for repetitions of one request with the same content",
                ),
            Self::WrongKind(what) => Fault::new(Code::FailedPrecondition, Reason::ConversationKind, self.to_string())
                .precondition("CONVERSATION_KIND", "conversation", *what),
            Self::LastOwner => Fault::new(Code::FailedPrecondition, Reason::LastOwner, self.to_string()),
            Self::MessageDeleted => Fault::new(Code::FailedPrecondition, Reason::MessageDeleted, self.to_string()),
            Self::LimitReached { .. } => {
                Fault::new(Code::ResourceExhausted, Reason::LimitReached, self.to_string()).retry_after(LIMIT_RETRY)
            }
            Self::RateLimited(wait) => Fault::rate_limited(*wait),
            Self::Overloaded => Fault::from(batch::Refused::Overloaded),
            Self::Unavailable(what) => Fault::unavailable(*what),
            Self::Internal => Fault::internal(),
        }
    }

    /// A field that is not the name it should be.
    pub(crate) fn name(field: impl Into<String>, bad: BadName) -> Self {
        Self::Invalid { field: field.into(), problem: bad.to_string() }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        error.fault().into_status(DOMAIN)
    }
}

impl From<batch::Refused> for Error {
    fn from(refused: batch::Refused) -> Self {
        match refused {
            batch::Refused::Overloaded => Self::Overloaded,
            batch::Refused::Stopped => Self::Unavailable("the store did not answer"),
        }
    }
}
