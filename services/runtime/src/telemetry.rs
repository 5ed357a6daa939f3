//! What the process says about itself: logs, traces, and the page of figures that Prometheus reads.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::HeaderMap;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

/// Where spans go, if anywhere; the name is OpenTelemetry's own.
const OTLP_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// What is logged; the name is the one that Rust programs share.
const LOG_FILTER: &str = "RUST_LOG";

/// What is logged unless said otherwise.
const LOG_FILTER_DEFAULT: &str = "info,h2=warn,hyper=warn,sqlx=warn";

/// How often recorded durations are put into their buckets, so that they do not pile up in memory.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The bounds of the buckets of durations, in seconds.
const BUCKETS: [f64; 14] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Whether spans are exported.
static EXPORTING: AtomicBool = AtomicBool::new(false);

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For log collectors: one JSON object a line.
    Json,
}

/// Keeps logs, traces and figures going; dropped, it sends what is left of the traces.
#[derive(Debug)]
pub struct Telemetry {
    figures: PrometheusHandle,
    spans: Option<SdkTracerProvider>,
}

/// Starts logs on standard error, figures, and, where `OTEL_EXPORTER_OTLP_ENDPOINT` is set, the export of spans. To be called
/// within the runtime, once, before anything is counted.
pub fn init(format: LogFormat, service: &'static str) -> Telemetry {
    let (spans, problem) = match exporter(service) {
        Some(Ok(spans)) => (Some(spans), None),
        Some(Err(error)) => (None, Some(error)),
        None => (None, None),
    };
    let filter = EnvFilter::try_from_env(LOG_FILTER).unwrap_or_else(|_| EnvFilter::new(LOG_FILTER_DEFAULT));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let traces = spans.as_ref().map(|spans| tracing_opentelemetry::layer().with_tracer(spans.tracer("flaghoist")));
    let started = tracing_subscriber::registry().with(lines.with_filter(filter)).with(traces).try_init();
    if started.is_ok() {
        EXPORTING.store(spans.is_some(), Ordering::Relaxed);
    }
    if let Some(error) = problem {
        tracing::error!(error = %crate::fault::chain(&error), "no traces: is {OTLP_ENDPOINT} an address like http://collector:4317?");
    }
    Telemetry { figures: recorder(), spans }
}

/// Starts the recorder of figures, and keeps its memory small.
fn recorder() -> PrometheusHandle {
    let builder = PrometheusBuilder::new();
    let builder = match builder.set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS) {
        Ok(builder) => builder,
        Err(error) => {
            tracing::error!(%error, "durations are counted without buckets");
            PrometheusBuilder::new()
        }
    };
    let recorder = builder.build_recorder();
    let figures = recorder.handle();
    if metrics::set_global_recorder(recorder).is_err() {
        tracing::error!("figures are recorded elsewhere already");
    }
    let upkeep = figures.clone();
    tokio::spawn(async move {
        let mut interval = tokio::time::interval(UPKEEP_INTERVAL);
        loop {
            interval.tick().await;
            upkeep.run_upkeep();
        }
    });
    figures
}

/// The export of spans, if the environment asks for it.
fn exporter(service: &'static str) -> Option<Result<SdkTracerProvider, opentelemetry_otlp::ExporterBuildError>> {
    std::env::var_os(OTLP_ENDPOINT).filter(|endpoint| !endpoint.is_empty())?;
    let exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic().build();
    Some(exporter.map(|exporter| {
        let resource = Resource::builder().with_service_name(service).build();
        SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build()
    }))
}

impl Telemetry {
    /// The page that Prometheus reads, with the memory and the open files of the process.
    pub fn metrics_page(&self) -> String {
        let mut page = self.figures.render();
        for (name, value) in process_figures() {
            // Writing to a string does not fail.
            let _ok = writeln!(page, "# TYPE {name} gauge\n{name} {value}");
        }
        page
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(spans) = self.spans.take() {
            // What cannot be sent any more is lost; the process ends.
            let _sent = spans.shutdown().is_ok();
        }
    }
}

/// What Linux says about the process; nothing elsewhere.
fn process_figures() -> Vec<(&'static str, u64)> {
    let mut figures = Vec::new();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
    figures.extend(resident.map(|kib: u64| ("process_resident_memory_bytes", kib * 1024)));
    let files = std::fs::read_dir("/proc/self/fd").map(Iterator::count);
    figures.extend(files.ok().map(|count| ("process_open_fds", count as u64)));
    figures
}

/// Whether spans are exported, so that making them is worth its price.
pub(crate) fn exporting() -> bool {
    EXPORTING.load(Ordering::Relaxed)
}

/// The span of a call that was received, below the caller's own.
pub(crate) fn server_span(path: &str, headers: &HeaderMap) -> Span {
    let name = path.trim_start_matches('/');
    let span = tracing::info_span!("call", otel.name = name, otel.kind = "server", rpc.system = "grpc");
    let parent = TraceContextPropagator::new().extract(&Headers(headers));
    // Without a layer for spans there is nothing to set.
    let _set = span.set_parent(parent).is_ok();
    span
}

/// Writes the current span into the headers of a call to another process, as `traceparent`.
pub(crate) fn inject(headers: &mut HeaderMap) {
    let mut fields = HashMap::new();
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut Fields(&mut fields));
    for (name, value) in fields {
        if let (Ok(name), Ok(value)) = (http::HeaderName::try_from(name), http::HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

struct Fields<'a>(&'a mut HashMap<String, String>);

impl Injector for Fields<'_> {
    fn set(&mut self, key: &str, value: String) {
        self.0.insert(key.to_owned(), value);
    }
}
