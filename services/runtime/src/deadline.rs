//! Deadlines that a caller set with `grpc-timeout`: the call is given up when they pass, since nobody waits for its answer. What a
//! call asks of other services is given the same deadline.

use std::future::Future;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use tokio::time::Instant;
use tokio::time::error::Elapsed;
use tonic::{Code, Status};

/// The most digits that `grpc-timeout` may have.
const DIGITS_MAX: usize = 8;

/// The header that says how long the caller waits.
const TIMEOUT: &str = "grpc-timeout";

tokio::task_local! {
    /// The deadline of the call that is being answered.
    static OF_CALL: Instant;
}

/// Does `call` until `deadline`; what it asks of other services has that deadline too.
pub(crate) async fn within<F: Future>(deadline: Instant, call: F) -> Result<F::Output, Elapsed> {
    tokio::time::timeout_at(deadline, OF_CALL.scope(deadline, call)).await
}

/// The deadline of a call to another service: its own, or that of the call that is being answered, whichever is sooner.
pub(crate) fn of_outgoing(headers: &HeaderMap) -> Option<Instant> {
    let outer = OF_CALL.try_with(|deadline| *deadline).ok();
    of(headers).into_iter().chain(outer).min()
}

/// Tells the other side how long the caller waits.
pub(crate) fn write(headers: &mut HeaderMap, deadline: Instant) {
    let left = deadline.saturating_duration_since(Instant::now());
    let text = if left.as_secs() < 10_000 { format!("{}m", left.as_millis()) } else { format!("{}S", left.as_secs()) };
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(TIMEOUT, value);
    }
}

/// When the caller stops waiting, if it said so. What cannot be read counts as not said, as in other gRPC servers.
pub(crate) fn of(headers: &HeaderMap) -> Option<Instant> {
    let text = headers.get(TIMEOUT)?.to_str().ok()?;
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

    #[tokio::test]
    async fn a_call_gives_what_is_left_of_its_deadline_to_those_it_makes() {
        let mut headers = HeaderMap::new();
        assert_eq!(of_outgoing(&headers), None);
        let deadline = Instant::now() + Duration::from_millis(50);
        let late = within(deadline, async {
            assert_eq!(of_outgoing(&headers), Some(deadline));
            headers.insert(TIMEOUT, "1m".parse().unwrap());
            assert!(of_outgoing(&headers).unwrap() < deadline, "its own is sooner");
            write(&mut headers, deadline);
            let left = parse(headers[TIMEOUT].to_str().unwrap()).unwrap();
            assert!(left > Duration::ZERO && left <= Duration::from_millis(50), "{left:?}");
            std::future::pending::<()>().await;
        });
        assert!(late.await.is_err());
        write(&mut headers, deadline);
        assert_eq!(headers[TIMEOUT], "0m");
        write(&mut headers, Instant::now() + Duration::from_millis(100_000_500));
        assert_eq!(headers[TIMEOUT], "100000S");
    }
}
