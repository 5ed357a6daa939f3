//! Times on the wire and in the stores: protobuf timestamps and milliseconds since 1970. Times before 1970 or past the year 9999
//! do not occur and are clamped.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost_types::Timestamp;

/// The last second that a protobuf timestamp may name, the end of the year 9999.
const SECONDS_MAX: u64 = 253_402_300_799;

/// A time as a protobuf timestamp.
pub fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp { seconds: since.as_secs().min(SECONDS_MAX).cast_signed(), nanos: since.subsec_nanos().cast_signed() }
}

/// A protobuf timestamp as a time.
pub fn from_timestamp(timestamp: &Timestamp) -> SystemTime {
    let seconds = u64::try_from(timestamp.seconds).unwrap_or(0).min(SECONDS_MAX);
    let nanos = u32::try_from(timestamp.nanos).unwrap_or(0).min(999_999_999);
    UNIX_EPOCH + Duration::new(seconds, nanos)
}

/// A time in milliseconds since 1970.
pub fn millis(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Milliseconds since 1970 as a time.
pub fn from_millis(millis: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or(0).min(SECONDS_MAX * 1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_the_way_out_and_back() {
        let time = UNIX_EPOCH + Duration::new(1_700_000_000, 123_000_000);
        assert_eq!(from_timestamp(&timestamp(time)), time);
        assert_eq!(from_millis(millis(time)), time);
        assert_eq!(from_millis(-5), UNIX_EPOCH);
        assert_eq!(from_timestamp(&Timestamp { seconds: i64::MAX, nanos: -1 }), from_millis(i64::MAX));
    }
}
