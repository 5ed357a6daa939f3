//! Errors on the wire: a code, a reason that programs branch on, and the details of `google.rpc`. The services map the words of
//! their domain to a [`Fault`] in one place each.

use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

pub use flaghoist_proto::errors::v1::Reason;

/// How many violations an answer names.
const VIOLATIONS_MAX: usize = flaghoist_proto::check::VIOLATIONS_MAX;

/// After what time a call to something unavailable may be tried again.
const UNAVAILABLE_RETRY: Duration = Duration::from_millis(100);

/// What a domain error is on the wire.
#[derive(Debug)]
pub struct Fault {
    code: Code,
    reason: Reason,
    message: String,
    details: Box<ErrorDetails>,
    violations: usize,
}

impl Fault {
    /// A fault without details.
    pub fn new(code: Code, reason: Reason, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: Box::default(), violations: 0 }
    }

    /// Says when to try again (`google.rpc.RetryInfo`).
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.details.set_retry_info(Some(delay));
        self
    }

    /// Names what it is about (`google.rpc.ResourceInfo`).
    #[must_use]
    pub fn resource(mut self, kind: &'static str, name: impl Into<String>) -> Self {
        self.details.set_resource_info(kind, name, "", "");
        self
    }

    /// Names a field and what is wrong with it (`google.rpc.BadRequest`); only the first 20 are kept.
    #[must_use]
    pub fn violation(mut self, field: impl Into<String>, description: impl Into<String>) -> Self {
        if self.violations < VIOLATIONS_MAX {
            self.violations += 1;
            self.details.add_bad_request_violation(field, description);
        }
        self
    }

    /// Names what would have to be otherwise first (`google.rpc.PreconditionFailure`).
    #[must_use]
    pub fn precondition(
        mut self,
        kind: &'static str,
        subject: impl Into<String>,
        description: impl Into<String>,
    ) -> Self {
        self.details.add_precondition_failure_violation(kind, subject, description);
        self
    }

    /// A field that breaks its rules.
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        let (field, description) = (field.into(), description.into());
        Self::new(Code::InvalidArgument, Reason::FieldViolation, format!("{field} {description}"))
            .violation(field, description)
    }

    /// Something that does not exist, or that the caller may not see.
    pub fn not_found(kind: &'static str, name: impl Into<String>) -> Self {
        let name = name.into();
        Self::new(Code::NotFound, Reason::NotFound, format!("{kind} {name} was not found")).resource(kind, name)
    }

    /// A full queue.
    pub fn overloaded(retry_after: Duration) -> Self {
        Self::new(Code::ResourceExhausted, Reason::Overloaded, "too much to do at the moment").retry_after(retry_after)
    }

    /// A limit on calls that was reached.
    pub fn rate_limited(retry_after: Duration) -> Self {
        Self::new(Code::ResourceExhausted, Reason::RateLimited, "too many calls").retry_after(retry_after)
    }

    /// A store or a service that does not answer; `what` says which.
    pub fn unavailable(what: impl Into<String>) -> Self {
        Self::new(Code::Unavailable, Reason::Unavailable, what).retry_after(UNAVAILABLE_RETRY)
    }

    /// A fault of ours. Whoever makes it logs the cause, with [`log_chain`].
    pub fn internal() -> Self {
        Self::new(Code::Internal, Reason::Internal, "internal error")
    }

    /// Its code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// Its reason.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// Its message.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The status that goes out; `domain` is the service that answers, for example `send.flaghoist`.
    pub fn into_status(mut self, domain: &'static str) -> Status {
        self.details.set_error_info(wire_reason(self.reason), domain, std::collections::HashMap::new());
        Status::with_error_details(self.code, self.message, *self.details)
    }
}

/// A reason as it is written in `google.rpc.ErrorInfo`.
fn wire_reason(reason: Reason) -> &'static str {
    let name = reason.as_str_name();
    name.strip_prefix("REASON_").unwrap_or(name)
}

/// The reason that a status carries, for clients of other services.
pub fn reason_of(status: &Status) -> Option<Reason> {
    let details = status.get_details_error_info()?;
    Reason::from_str_name(&format!("REASON_{}", details.reason))
}

/// Checks a request against the rules of its contract, and names all violations at once.
pub fn check<M: flaghoist_proto::check::Check>(message: &M, domain: &'static str) -> Result<(), Status> {
    let violations = message.check();
    if violations.is_empty() { Ok(()) } else { Err(refuse(violations, domain)) }
}

#[cold]
fn refuse(violations: Vec<flaghoist_proto::check::Violation>, domain: &'static str) -> Status {
    let text = violations.iter().map(|violation| format!("{} {}", violation.field, violation.description));
    let text = text.collect::<Vec<_>>().join("; ");
    violations
        .into_iter()
        .fold(Fault::new(Code::InvalidArgument, Reason::FieldViolation, text), |fault, violation| {
            fault.violation(violation.field, violation.description)
        })
        .into_status(domain)
}

/// An error and what caused it, as one line: `cannot commit: disk I/O error: no space left on device`.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let layer = error.to_string();
        // Some errors repeat their source in their own text.
        if !text.ends_with(&layer) {
            // Writing to a string does not fail.
            let _ok = write!(text, ": {layer}");
        }
        cause = error.source();
    }
    text
}

/// Logs an error once, as a chain, where it is turned into [`Fault::internal`].
pub fn log_chain(doing: &'static str, error: &(dyn Error + 'static)) {
    tracing::error!(doing, error = %chain(error), "call failed");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_carries_the_reason_and_every_detail() {
        let fault =
            Fault::invalid("name", "is empty").retry_after(Duration::from_secs(2)).precondition("KIND", "s", "d");
        let fault = (0..40).fold(fault, |fault, index| fault.violation(format!("f{index}"), "is bad"));
        let status = fault.into_status("send.flaghoist");
        let details = status.get_error_details();
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "name is empty"));
        let info = details.error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("FIELD_VIOLATION", "send.flaghoist"));
        assert_eq!(details.bad_request().unwrap().field_violations.len(), VIOLATIONS_MAX);
        assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_secs(2)));
        assert_eq!(reason_of(&status), Some(Reason::FieldViolation));
        assert_eq!(reason_of(&Status::internal("x")), None);
    }

    #[test]
    fn a_chain_names_each_layer_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot commit")]
        struct Outer(#[source] std::io::Error);
        assert_eq!(chain(&Outer(std::io::Error::other("disk full"))), "cannot commit: disk full");
    }
}
