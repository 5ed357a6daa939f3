//! Deadlines that a caller set with `grpc-timeout`: the call is given up when they pass, since nobody waits for its answer.

use std::time::Duration;

use http::HeaderMap;
use tokio::time::Instant;
use tonic::{Code, Status};

/// The most digits that `grpc-timeout` may have.
const DIGITS_MAX: usize = 8;

/// When the caller stops waiting, if it said so. What cannot be read counts as not said, as in other gRPC servers.
pub(crate) fn of(headers: &HeaderMap) -> Option<Instant> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    Instant::now().checked_add(parse(text)?)
}

fn parse(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if number.len() > DIGITS_MAX || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = number.parse::<u64>().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// What a call is answered whose deadline passed.
pub(crate) fn exceeded() -> Status {
    Status::new(Code::DeadlineExceeded, "the deadline of the call has passed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_the_protocol_writes_them() {
        assert_eq!(parse("5S"), Some(Duration::from_secs(5)));
        assert_eq!(parse("100m"), Some(Duration::from_millis(100)));
        assert_eq!(parse("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for text in ["", "S", "5", "5s", "-5S", "+5S", "123456789S", "5 S", "ß", "5ß"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
