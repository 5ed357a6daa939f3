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
