//! What an error says, for assertions.

use flaghoist_proto::errors::v1::Reason;
use tonic::Status;
use tonic_types::StatusExt as _;

/// The reason that an error carries.
pub fn reason(status: &Status) -> Option<Reason> {
    flaghoist_runtime::fault::reason_of(status)
}

/// The fields that an error complains about, sorted.
pub fn violations(status: &Status) -> Vec<String> {
    let details = status.get_error_details();
    let mut fields: Vec<String> = details
        .bad_request()
        .map(|bad| bad.field_violations.iter().map(|violation| violation.field.clone()).collect())
        .unwrap_or_default();
    fields.sort();
    fields
}

/// Makes sure that a call was refused with this code and reason, and gives the error for more.
///
/// # Panics
/// When it was answered, or refused otherwise.
#[track_caller]
pub fn refused<T>(answer: Result<T, Status>, code: tonic::Code, with: Reason) -> Status {
    match answer {
        Ok(_) => panic!("it was answered; expected {code:?} {with:?}"),
        Err(status) => {
            assert_eq!((status.code(), reason(&status)), (code, Some(with)), "{status:?}");
            status
        }
    }
}

/// How long an error asks to wait before the next attempt.
pub fn retry_after(status: &Status) -> Option<std::time::Duration> {
    status.get_error_details().retry_info()?.retry_delay
}
