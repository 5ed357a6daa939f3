//! The settings of `serve` and, with them, those of every service: read in one place from flags and the environment, all
//! mistakes reported at once, and listed for `--help` and for the documents.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use flaghoist_runtime::settings::{self, Environment, Mistakes, Over, Reader, Setting, Source};
use flaghoist_runtime::telemetry::LogFormat;

use crate::exit::{Exit, Failure};

const DATA: Setting = Setting {
    name: "FLAGHOIST_SERVE_DATA",
    default: "./data",
    doc: "The folder that holds everything; made if it is not there. Only one server may use it.",
};
const GRPC_ADDR: Setting = Setting {
    name: "FLAGHOIST_SERVE_GRPC_ADDR",
    default: "127.0.0.1:9000",
    doc: "Where gRPC and gRPC-Web calls are taken; port 0 is any free one.",
};
const HTTP_ADDR: Setting = Setting {
    name: "FLAGHOIST_SERVE_HTTP_ADDR",
    default: "127.0.0.1:8080",
    doc: "Where the OAuth endpoints and `/healthz` are; port 0 is any free one.",
};
const METRICS_ADDR: Setting = Setting {
    name: "FLAGHOIST_SERVE_METRICS_ADDR",
    default: "127.0.0.1:9464",
    doc: "Where `/metrics`, `/healthz` and `/readyz` are; port 0 is any free one.",
};
const ISSUER: Setting = Setting {
    name: "FLAGHOIST_SERVE_ISSUER",
    default: "http://localhost:8080",
    doc: "The address under which people and programs reach the HTTP port; it is the `iss` of every token.",
};
const LOG_FORMAT: Setting =
    Setting { name: "FLAGHOIST_SERVE_LOG_FORMAT", default: "text", doc: "How the log is written: `text` or `json`." };
const GRACE: Setting = Setting {
    name: "FLAGHOIST_SERVE_GRACE",
    default: "30s",
    doc: "How long running calls and streams may take to end when the server is told to stop.",
};
const TRUSTED_HOPS: Setting = Setting {
    name: "FLAGHOIST_SERVE_TRUSTED_HOPS",
    default: "0",
    doc: "How many proxies in front are trusted to have added to `X-Forwarded-For`.",
};
const CONNECTIONS_MAX: Setting = Setting {
    name: "FLAGHOIST_SERVE_CONNECTIONS_MAX",
    default: "0",
    doc: "How many gRPC connections are kept at most; 0 leaves it to the limit of open files.",
};

/// The settings of `serve` itself.
const SETTINGS: &[Setting] =
    &[DATA, GRPC_ADDR, HTTP_ADDR, METRICS_ADDR, ISSUER, LOG_FORMAT, GRACE, TRUSTED_HOPS, CONNECTIONS_MAX];

/// Names with the same beginning that are not the server's: the client's, and the one that tests read.
const ELSEWHERE: &[Setting] = &[
    Setting { name: "FLAGHOIST_SERVER", default: "", doc: "" },
    Setting { name: "FLAGHOIST_PROFILE", default: "", doc: "" },
    Setting { name: "FLAGHOIST_BIN", default: "", doc: "" },
];

/// All settings, by who reads them.
const ALL: &[&[Setting]] = &[
    SETTINGS,
    flaghoist_auth::SETTINGS,
    flaghoist_login::SETTINGS,
    flaghoist_send::SETTINGS,
    flaghoist_receiver::SETTINGS,
];

/// The flags of `serve`. They are kept as text here, so that mistakes in them are reported together with the others.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Flags {
    /// The folder that holds everything [default: ./data]
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// Where gRPC calls are taken [default: 127.0.0.1:9000]
    #[arg(long, value_name = "ADDR")]
    grpc_addr: Option<String>,
    /// Where the OAuth endpoints are [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    http_addr: Option<String>,
    /// Where the metrics are [default: 127.0.0.1:9464]
    #[arg(long, value_name = "ADDR")]
    metrics_addr: Option<String>,
    /// The address under which people reach the HTTP port [default: `http://localhost:8080`]
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// How the log is written: text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// How long running calls and streams may take to end at a stop [default: 30s]
    #[arg(long, value_name = "TIME")]
    grace: Option<String>,
}

impl Flags {
    /// Each flag beside the setting that it stands for.
    fn named(&self) -> [(&'static str, &'static str, Option<&String>); 7] {
        [
            ("--data", DATA.name, self.data.as_ref()),
            ("--grpc-addr", GRPC_ADDR.name, self.grpc_addr.as_ref()),
            ("--http-addr", HTTP_ADDR.name, self.http_addr.as_ref()),
            ("--metrics-addr", METRICS_ADDR.name, self.metrics_addr.as_ref()),
            ("--issuer", ISSUER.name, self.issuer.as_ref()),
            ("--log-format", LOG_FORMAT.name, self.log_format.as_ref()),
            ("--grace", GRACE.name, self.grace.as_ref()),
        ]
    }
}

/// What `serve` needs to know.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) data: PathBuf,
    pub(crate) grpc_addr: SocketAddr,
    pub(crate) http_addr: SocketAddr,
    pub(crate) metrics_addr: SocketAddr,
    pub(crate) issuer: String,
    pub(crate) log_format: LogFormat,
    pub(crate) grace: Duration,
    pub(crate) trusted_hops: u8,
    pub(crate) connections_max: usize,
    pub(crate) services: Services,
}

/// What each service needs to know.
#[derive(Clone, Debug)]
pub(crate) struct Services {
    pub(crate) auth: flaghoist_auth::Settings,
    pub(crate) login: flaghoist_login::Settings,
    pub(crate) send: flaghoist_send::Settings,
    pub(crate) receiver: flaghoist_receiver::Settings,
}

impl Settings {
    /// Reads flags and environment.
    pub(crate) fn read(flags: &Flags) -> Result<Self, Failure> {
        Self::from(flags, Environment)
    }

    /// Reads flags and, where none is given, `source`.
    fn from(flags: &Flags, source: impl Source) -> Result<Self, Failure> {
        let given: BTreeMap<&str, &String> =
            flags.named().into_iter().filter_map(|(_, name, value)| Some((name, value?))).collect();
        let source = Over(given, source);
        let mut reader = Reader::new(&source);
        reader.know(ELSEWHERE);
        let settings = Self {
            data: reader.path(&DATA),
            grpc_addr: reader.address(&GRPC_ADDR),
            http_addr: reader.address(&HTTP_ADDR),
            metrics_addr: reader.address(&METRICS_ADDR),
            issuer: reader.url(&ISSUER),
            log_format: reader.choice(&LOG_FORMAT, &[("text", LogFormat::Text), ("json", LogFormat::Json)]),
            grace: reader.duration(&GRACE, Duration::from_millis(1)..=Duration::from_secs(3600)),
            trusted_hops: reader.number(&TRUSTED_HOPS, 0..=16),
            connections_max: reader.number(&CONNECTIONS_MAX, 0..=10_000_000),
            services: Services {
                auth: flaghoist_auth::Settings::read(&mut reader),
                login: flaghoist_login::Settings::read(&mut reader),
                send: flaghoist_send::Settings::read(&mut reader),
                receiver: flaghoist_receiver::Settings::read(&mut reader),
            },
        };
        match reader.finish() {
            Ok(()) => Ok(settings),
            Err(mistakes) => Err(Failure::new(Exit::Usage, in_words_of(flags, mistakes).to_string())),
        }
    }
}

/// The mistakes by the names that the person used: a flag where one was given.
fn in_words_of(flags: &Flags, mut mistakes: Mistakes) -> Mistakes {
    for mistake in &mut mistakes.0 {
        for (flag, name, value) in flags.named() {
            if value.is_some() && mistake.name == name {
                mistake.name = flag.into();
            }
        }
    }
    mistakes
}

/// The data folder for commands that work on it: as the flag says, else the environment, else the default.
pub(crate) fn data_folder(flag: Option<PathBuf>) -> PathBuf {
    flag.or_else(|| Environment.get(DATA.name).filter(|data| !data.is_empty()).map(PathBuf::from))
        .unwrap_or_else(|| DATA.default.into())
}

/// All settings for `--help`.
pub(crate) fn help() -> String {
    format!(
        "Settings from the environment, with what holds if they are not given; flags go before them:\n{}\n\
         RUST_LOG chooses what is logged; OTEL_EXPORTER_OTLP_ENDPOINT, where traces are sent.\n\n{}",
        settings::help(ALL),
        crate::exit::TABLE
    )
}

/// All settings as a table for the documents.
pub(crate) fn markdown() -> String {
    settings::markdown(ALL)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing() -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    #[test]
    fn every_setting_has_a_default_that_it_accepts() {
        let settings = Settings::from(&Flags::default(), nothing()).unwrap();
        assert_eq!(settings.data, PathBuf::from("./data"));
        assert_eq!(settings.grpc_addr.to_string(), "127.0.0.1:9000");
        assert_eq!(settings.issuer, "http://localhost:8080");
        assert_eq!(settings.grace, Duration::from_secs(30));
        // Given as they are documented they are accepted as well.
        let documented: BTreeMap<String, String> = ALL
            .iter()
            .copied()
            .flatten()
            .filter(|setting| !setting.default.is_empty())
            .map(|setting| (setting.name.to_owned(), setting.default.to_owned()))
            .collect();
        Settings::from(&Flags::default(), documented).unwrap();
    }

    #[test]
    fn every_mistake_is_reported_at_once_in_the_words_that_were_used() {
        let flags = Flags { grpc_addr: Some("nowhere".into()), ..Flags::default() };
        let environment = BTreeMap::from([
            ("FLAGHOIST_SERVE_GRACE".to_owned(), "soon".to_owned()),
            ("FLAGHOIST_SERVE_ISSUER".to_owned(), "not an address".to_owned()),
            ("FLAGHOIST_SERVE_DATTA".to_owned(), "/tmp".to_owned()),
            ("FLAGHOIST_SERVER".to_owned(), "http://127.0.0.1:9000".to_owned()),
        ]);
        let failure = Settings::from(&flags, environment).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        for part in ["--grpc-addr", "FLAGHOIST_SERVE_GRACE", "FLAGHOIST_SERVE_ISSUER", "is FLAGHOIST_SERVE_DATA meant?"]
        {
            assert!(failure.message.contains(part), "{part} is missing: {}", failure.message);
        }
        assert!(!failure.message.contains("FLAGHOIST_SERVER:"), "{}", failure.message);
    }

    #[test]
    fn a_flag_goes_before_the_environment() {
        let flags = Flags { data: Some("/one".into()), ..Flags::default() };
        let environment = BTreeMap::from([(DATA.name.to_owned(), "/two".to_owned())]);
        assert_eq!(Settings::from(&flags, environment).unwrap().data, PathBuf::from("/one"));
    }

    #[test]
    fn settings_are_named_after_who_reads_them_and_only_once() {
        let mut names = std::collections::BTreeSet::new();
        for (settings, reader) in ALL.iter().zip(["SERVE", "AUTH", "LOGIN", "SEND", "RECEIVER"]) {
            for setting in *settings {
                assert!(setting.name.starts_with(&format!("FLAGHOIST_{reader}_")), "{}", setting.name);
                assert!(!setting.doc.is_empty(), "{} is not explained", setting.name);
                assert!(names.insert(setting.name), "{} is there twice", setting.name);
                assert!(markdown().contains(setting.name) && help().contains(setting.name));
            }
        }
    }
}
