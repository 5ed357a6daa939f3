//! What was measured, as a short table for people and as JSON for programs.

use std::fmt;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// The outcome of a scenario.
#[derive(Clone, Debug)]
pub struct Report {
    scenario: &'static str,
    rows: Vec<(String, String)>,
    json: serde_json::Map<String, Value>,
}

/// Latencies in microseconds.
#[derive(Debug)]
pub(super) struct Latencies(Histogram<u64>);

/// Who used the processor while something was measured.
#[derive(Debug)]
pub(super) struct Usage {
    began: Instant,
    server: Option<Duration>,
    generator: Duration,
}

impl Report {
    pub(super) fn new(scenario: &'static str) -> Self {
        Self { scenario, rows: Vec::new(), json: serde_json::Map::new() }
    }

    pub(super) fn figure(&mut self, name: &str, value: f64, unit: &str) {
        let shown = if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") };
        self.rows.push((name.into(), format!("{shown} {unit}")));
        self.json.insert(name.replace(' ', "_"), json!({"value": value, "unit": unit}));
    }

    pub(super) fn latencies(&mut self, name: &str, latencies: &Latencies) {
        let Latencies(histogram) = latencies;
        let ms = |micros: u64| micros as f64 / 1000.0;
        let quantiles = [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p999", 0.999)];
        let mut shown = format!("mean {:.2}", histogram.mean() / 1000.0);
        let mut values = json!({"count": histogram.len(), "mean_ms": histogram.mean() / 1000.0});
        for (label, quantile) in quantiles {
            let value = ms(histogram.value_at_quantile(quantile));
            shown.push_str(&format!(", {label} {value:.2}"));
            values[format!("{label}_ms")] = json!(value);
        }
        shown.push_str(&format!(", max {:.2} ms", ms(histogram.max())));
        values["max_ms"] = json!(ms(histogram.max()));
        self.rows.push((name.into(), shown));
        self.json.insert(name.replace(' ', "_"), values);
    }

    pub(super) fn usage(&mut self, usage: &Usage, target: &super::Target) {
        let elapsed = usage.began.elapsed().as_secs_f64();
        let share = |used: Duration| 100.0 * used.as_secs_f64() / elapsed;
        if let (Some(before), Some(after)) = (usage.server, target.cpu_time()) {
            self.figure("server processor", share(after.saturating_sub(before)), "% of a core");
        }
        let generator = own_cpu_time().saturating_sub(usage.generator);
        self.figure("generator processor", share(generator), "% of a core");
    }

    /// The report as one JSON object.
    pub fn json(&self) -> Value {
        json!({"scenario": self.scenario, "figures": self.json})
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}", self.scenario)?;
        let width = self.rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        for (name, value) in &self.rows {
            writeln!(formatter, "  {name:width$}  {value}")?;
        }
        Ok(())
    }
}

impl Latencies {
    pub(super) fn new() -> Self {
        // Up to a minute, to three digits.
        Self(Histogram::new_with_bounds(1, 60_000_000, 3).expect("the bounds are in order"))
    }

    pub(super) fn add(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1));
    }

    pub(super) fn add_all(&mut self, other: &Self) {
        self.0.add(&other.0).expect("both have the same bounds");
    }

    pub(super) fn count(&self) -> u64 {
        self.0.len()
    }

    pub(super) fn mean_ms(&self) -> f64 {
        self.0.mean() / 1000.0
    }
}

impl Usage {
    pub(super) fn begin(target: &super::Target) -> Self {
        Self { began: Instant::now(), server: target.cpu_time(), generator: own_cpu_time() }
    }
}

/// The processor time of this process.
fn own_cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}
