//! What a status from the server means to the person at the keyboard: an exit code, and a message that says what to do.

use std::error::Error as _;
use std::time::Duration;

use flaghoist_proto::errors::v1::Reason;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::output::harmless;
use crate::exit::{Exit, Failure};

/// The reason that a status carries.
pub(crate) fn reason(status: &Status) -> Option<Reason> {
    let reason = status.get_details_error_info()?.reason;
    Reason::from_str_name(&format!("REASON_{reason}"))
}

/// When the server wants to be asked again.
pub(crate) fn retry_after(status: &Status) -> Option<Duration> {
    status.get_details_retry_info()?.retry_delay
}

/// Whether the status was made on this side, because the connection failed.
pub(crate) fn unreachable(status: &Status) -> bool {
    // What a server answers carries no source.
    status.source().is_some() && status.code() != Code::DeadlineExceeded
}

/// Whether the same call may succeed if it is repeated at once.
pub(crate) fn passing(status: &Status) -> bool {
    unreachable(status) || status.code() == Code::Unavailable
}

/// Whether the access token was not accepted.
pub(crate) fn unauthenticated(status: &Status) -> bool {
    status.code() == Code::Unauthenticated
        && !matches!(reason(status), Some(Reason::CredentialsInvalid | Reason::GrantInvalid | Reason::ClientInvalid))
}

/// What to say about a status.
pub(crate) fn failure(status: &Status, server: &str) -> Failure {
    if unreachable(status) {
        return Failure::new(
            Exit::Unreachable,
            format!("cannot reach the server at {server}{}: is `flaghoist serve` running?", cause(status)),
        );
    }
    if unauthenticated(status) {
        return not_signed_in("the server does not accept this sign-in any more", "HANDLE");
    }
    let exit = match status.code() {
        Code::InvalidArgument | Code::FailedPrecondition | Code::NotFound | Code::AlreadyExists | Code::OutOfRange => {
            Exit::BadInput
        }
        Code::Unauthenticated | Code::PermissionDenied => Exit::Refused,
        Code::ResourceExhausted if reason(status) == Some(Reason::LimitReached) => Exit::BadInput,
        Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded | Code::Aborted => Exit::TryLater,
        _ => Exit::Failed,
    };
    Failure::new(exit, text(status))
}

/// What to say to someone who is not signed in.
pub(crate) fn not_signed_in(why: &str, handle: &str) -> Failure {
    Failure::new(Exit::Refused, format!("{why}: run `flaghoist login {handle}`"))
}

/// The server's message with its details, harmless to print.
fn text(status: &Status) -> String {
    let details = status.get_error_details();
    let mut text = harmless(status.message());
    if text.is_empty() {
        text = format!("the server answered {:?}", status.code());
    }
    if status.code() == Code::Unimplemented {
        text.push_str(": is the server older than this program?");
    }
    for violation in details.bad_request().map_or(&[][..], |bad| &bad.field_violations) {
        text.push_str(&format!("\n  {}: {}", harmless(&violation.field), harmless(&violation.description)));
    }
    for violation in details.precondition_failure().map_or(&[][..], |failed| &failed.violations) {
        text.push_str(&format!("\n  {}: {}", harmless(&violation.subject), harmless(&violation.description)));
    }
    if let Some(resource) = details.resource_info() {
        text.push_str(&format!("\n  {} {}", harmless(&resource.resource_type), harmless(&resource.resource_name)));
    }
    if let Some(delay) = details.retry_info().and_then(|retry| retry.retry_delay).filter(|delay| !delay.is_zero()) {
        text.push_str(&format!("\n  try again in {} s", delay.as_millis().div_ceil(1000)));
    }
    text
}

/// The innermost cause of a connection's failure, in parentheses.
fn cause(status: &Status) -> String {
    let mut cause = status.source();
    while let Some(inner) = cause.and_then(std::error::Error::source) {
        cause = Some(inner);
    }
    cause.map_or_else(String::new, |cause| format!(" ({})", harmless(&cause.to_string())))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::ErrorDetails;

    use super::*;

    fn refused(code: Code, reason: &str, fill: impl FnOnce(&mut ErrorDetails)) -> Status {
        let mut details = ErrorDetails::with_error_info(reason, "send.flaghoist", HashMap::new());
        fill(&mut details);
        Status::with_error_details(code, "no", details)
    }

    #[test]
    fn every_refusal_has_an_exit_code_that_says_what_to_do() {
        let exit = |code, reason| failure(&refused(code, reason, |_| ()), "here").exit;
        assert_eq!(exit(Code::InvalidArgument, "FIELD_VIOLATION"), Exit::BadInput);
        assert_eq!(exit(Code::NotFound, "NOT_FOUND"), Exit::BadInput);
        assert_eq!(exit(Code::Unauthenticated, "TOKEN_REVOKED"), Exit::Refused);
        assert_eq!(exit(Code::Unauthenticated, "CREDENTIALS_INVALID"), Exit::Refused);
        assert_eq!(exit(Code::PermissionDenied, "REGISTRATION_CLOSED"), Exit::Refused);
        assert_eq!(exit(Code::ResourceExhausted, "RATE_LIMITED"), Exit::TryLater);
        assert_eq!(exit(Code::ResourceExhausted, "LIMIT_REACHED"), Exit::BadInput);
        assert_eq!(exit(Code::Unavailable, "UNAVAILABLE"), Exit::TryLater);
        assert_eq!(exit(Code::Internal, "INTERNAL"), Exit::Failed);
    }

    #[test]
    fn details_are_told_and_cannot_command_the_terminal() {
        let status = refused(Code::InvalidArgument, "FIELD_VIOLATION", |details| {
            details.add_bad_request_violation("password", "is too short\u{1b}[2J");
            details.set_retry_info(Some(Duration::from_millis(1_200)));
        });
        assert_eq!(failure(&status, "here").message, "no\n  password: is too short\\u{1b}[2J\n  try again in 2 s");
    }

    #[test]
    fn only_tokens_that_were_refused_lead_to_a_fresh_one() {
        assert!(unauthenticated(&Status::unauthenticated("from a proxy")));
        assert!(unauthenticated(&refused(Code::Unauthenticated, "TOKEN_EXPIRED", |_| ())));
        assert!(!unauthenticated(&refused(Code::Unauthenticated, "CREDENTIALS_INVALID", |_| ())));
    }
}
