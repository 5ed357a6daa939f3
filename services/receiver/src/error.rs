//! Everything that can go wrong here, in the words of the domain, and the one place that says what it is on the wire.

use std::sync::Arc;
use std::time::Duration;

use flaghoist_proto::check::Violation;
use flaghoist_runtime::batch::Refused;
use flaghoist_runtime::fault::{Fault, Reason, log_chain};
use flaghoist_runtime::names::ConversationId;
use flaghoist_runtime::token::TokenError;
use tonic::Code;

use crate::log::LogError;
use crate::store::StoreError;
use crate::stream::AckRefused;

/// The domain of the errors that this service answers.
pub(crate) const DOMAIN: &str = "receiver.flaghoist";

/// After what time a stream that found no room may be opened again.
const STREAMS_RETRY: Duration = Duration::from_secs(5);

/// What went wrong.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A field of the request breaks a rule that the contract cannot express.
    #[error("{field} {problem}")]
    Field { field: String, problem: String },
    /// Fields of what was said on a stream break the rules of the contract.
    #[error("{}", fields(.0))]
    Fields(Vec<Violation>),
    /// The device is not one of the caller's.
    #[error("the device {0} was not found")]
    DeviceNotFound(String),
    /// The conversation is not one of the caller's.
    #[error("the conversation {0} was not found")]
    ConversationNotFound(String),
    /// A new device would be one too many.
    #[error("a person may have {0} devices: remove one first")]
    DevicesLimit(u32),
    /// The server holds as many streams as it may.
    #[error("no more streams can be opened here at the moment")]
    StreamsLimit,
    /// A position lies in another epoch or beyond what exists.
    #[error("a position lies in another epoch or beyond what exists")]
    PositionInvalid,
    /// A newer stream of the device took over.
    #[error("a newer stream of this device took over")]
    Replaced,
    /// The other side was silent for too long.
    #[error("nothing was heard for {} s", .0.as_secs())]
    Silent(Duration),
    /// The stream was not used as its contract says.
    #[error("{0}")]
    Protocol(&'static str),
    /// The token of the stream does not count any more.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Typing was said too often.
    #[error("typing is said too often")]
    TypingTooOften(Duration),
    /// The page token is not one of ours.
    #[error("page_token is not one that this method gave out for this request")]
    PageToken,
    /// The server is about to stop.
    #[error("the server is about to stop")]
    Stopping,
    /// The log was replaced under the stream.
    #[error("the log was replaced")]
    LogReplaced,
    /// The queue of the store refused.
    #[error(transparent)]
    Queue(#[from] Refused),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log did not answer.
    #[error(transparent)]
    Log(#[from] Arc<LogError>),
}

impl Error {
    /// What it is on the wire.
    pub(crate) fn fault(&self) -> Fault {
        let text = || self.to_string();
        match self {
            Self::Field { field, problem } => Fault::invalid(field.clone(), problem.clone()),
            Self::Fields(violations) => violations
                .iter()
                .fold(Fault::new(Code::InvalidArgument, Reason::FieldViolation, text()), |fault, violation| {
                    fault.violation(violation.field.clone(), violation.description.clone())
                }),
            Self::DeviceNotFound(name) => Fault::not_found("device", name.clone()),
            Self::ConversationNotFound(name) => Fault::not_found("conversation", name.clone()),
            Self::DevicesLimit(_) => Fault::new(Code::ResourceExhausted, Reason::LimitReached, text()),
            Self::StreamsLimit => {
                Fault::new(Code::ResourceExhausted, Reason::Overloaded, text()).retry_after(STREAMS_RETRY)
            }
            Self::PositionInvalid => Fault::new(Code::InvalidArgument, Reason::PositionInvalid, text()),
            Self::Replaced => Fault::new(Code::Aborted, Reason::StreamReplaced, text()),
            Self::Silent(_) => Fault::new(Code::Aborted, Reason::StreamSilent, text()),
            Self::Protocol(_) => Fault::new(Code::InvalidArgument, Reason::StreamProtocol, text()),
            Self::Token(error) => error.fault(),
            Self::TypingTooOften(wait) => Fault::rate_limited(*wait),
            Self::PageToken => {
                let problem = "is not one that this method gave out for this request";
                Fault::new(Code::InvalidArgument, Reason::PageTokenInvalid, text()).violation("page_token", problem)
            }
            Self::Stopping | Self::LogReplaced => Fault::unavailable(text()),
            Self::Queue(refused) => (*refused).into(),
            Self::Store(error) if error.transient => {
                log_chain("writing to the store of devices", error);
                Fault::unavailable("the store cannot be used at the moment")
            }
            Self::Store(error) => {
                log_chain("using the store of devices", error);
                Fault::internal()
            }
            Self::Log(error) => match &**error {
                LogError::Overloaded(wait) => Fault::overloaded(*wait),
                LogError::NotFound | LogError::Unavailable(_) => Fault::unavailable("the log did not answer"),
                LogError::Failed(_) => {
                    log_chain("asking the log", &**error);
                    Fault::internal()
                }
            },
        }
    }

    /// What a refused acknowledgement is; `conversation` is the first one it names.
    pub(crate) fn refused(refused: AckRefused, conversation: Option<ConversationId>) -> Self {
        match refused {
            AckRefused::NotFound => Self::ConversationNotFound(conversation.map(|id| id.name()).unwrap_or_default()),
            AckRefused::PositionInvalid => Self::PositionInvalid,
        }
    }
}

fn fields(violations: &[Violation]) -> String {
    let texts = violations.iter().map(|violation| format!("{} {}", violation.field, violation.description));
    texts.collect::<Vec<_>>().join("; ")
}

impl From<LogError> for Error {
    fn from(error: LogError) -> Self {
        Self::Log(Arc::new(error))
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        error.fault().into_status(DOMAIN)
    }
}
