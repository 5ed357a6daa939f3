//! The figures of each method: calls by code, how long they took, streams that are open. The handles are looked up once, so that
//! counting a call allocates nothing.

use std::collections::HashMap;
use std::sync::{LazyLock, OnceLock};
use std::time::Instant;

use flaghoist_proto::{METHODS, Method};
use metrics::{Counter, Gauge, Histogram};
use tonic::Code;

/// The codes of gRPC by number.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The figures of one method.
struct Figures {
    method: &'static Method,
    name: &'static str,
    calls: [OnceLock<Counter>; CODES.len()],
    seconds: Histogram,
    open: Gauge,
}

static BY_PATH: LazyLock<HashMap<&'static str, Figures>> = LazyLock::new(|| {
    let figures = METHODS.iter().map(|method| {
        let name = method.path.rsplit('/').next().unwrap_or_default();
        let seconds =
            metrics::histogram!("flaghoist_rpc_duration_seconds", "service" => method.service, "method" => name);
        let open = match method.streaming {
            true => metrics::gauge!("flaghoist_rpc_streams_open", "service" => method.service, "method" => name),
            false => Gauge::noop(),
        };
        (method.path, Figures { method, name, calls: Default::default(), seconds, open })
    });
    figures.collect()
});

/// Measures one call until it is answered in full. Dropped before, it counts the call as cancelled.
pub(super) struct Meter {
    figures: &'static Figures,
    started: Instant,
}

impl Meter {
    /// Starts with a call of the method at `path`; the contracts' methods only.
    pub(super) fn start(path: &str) -> Option<Self> {
        let figures = BY_PATH.get(path)?;
        figures.open.increment(1.0);
        Some(Self { figures, started: Instant::now() })
    }

    /// Ends with the code that the call was answered with.
    pub(super) fn end(self, code: Code) {
        self.count(code);
        std::mem::forget(self);
    }

    fn count(&self, code: Code) {
        let figures = self.figures;
        let number = usize::try_from(code as i32).unwrap_or(2).min(CODES.len() - 1);
        let counter = figures.calls[number].get_or_init(|| {
            metrics::counter!("flaghoist_rpc_requests_total",
                "service" => figures.method.service, "method" => figures.name, "code" => CODES[number])
        });
        counter.increment(1);
        figures.seconds.record(self.started.elapsed().as_secs_f64());
        figures.open.decrement(1.0);
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.count(if std::thread::panicking() { Code::Internal } else { Code::Cancelled });
    }
}
