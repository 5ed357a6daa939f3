//! The flags of `serve` and of the single services: each stands for a setting, and goes before it. They are kept as text here, so
//! that mistakes in them are reported together with the others.

/// A flag that was or was not given.
#[derive(Clone, Debug)]
pub(crate) struct Flag {
    /// Its name with the dashes.
    pub(crate) name: &'static str,
    /// The end of the setting that it stands for, after the name of the process.
    pub(crate) key: &'static str,
    /// What was given.
    pub(crate) value: Option<String>,
}

/// The flags that every process has.
#[derive(Clone, Debug, Default, clap::Args)]
#[group(skip)]
pub(crate) struct Common {
    /// The folder of the SQLite stores and the key file [default: ./data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<String>,
    /// The key file that pods share [default: secret.key in the data folder]
    #[arg(long, value_name = "FILE")]
    pub(crate) secret_file: Option<String>,
    /// Where gRPC calls are taken [default: port 9000]
    #[arg(long, value_name = "ADDR")]
    pub(crate) grpc_addr: Option<String>,
    /// Where the metrics, /livez and /readyz are [default: port 9464]
    #[arg(long, value_name = "ADDR")]
    pub(crate) metrics_addr: Option<String>,
    /// The address under which people reach the HTTP port of auth [default: `http://localhost:8080`]
    #[arg(long, value_name = "URL")]
    pub(crate) issuer: Option<String>,
    /// How the log is written: text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) log_format: Option<String>,
    /// How long running calls and streams may take to end at a stop [default: 30s]
    #[arg(long, value_name = "TIME")]
    pub(crate) grace: Option<String>,
}

/// The flags of `serve`.
#[derive(Clone, Debug, Default, clap::Args)]
#[group(skip)]
pub(crate) struct OfAll {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Where the OAuth endpoints and the sign-in page are [default: port 8080]
    #[arg(long, value_name = "ADDR")]
    pub(crate) http_addr: Option<String>,
}

/// The flags of a service by itself.
#[derive(Clone, Debug, Default, clap::Args)]
#[group(skip)]
pub(crate) struct OfOne {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Where the calls of other services are taken [default: 127.0.0.1:9001]
    #[arg(long, value_name = "ADDR")]
    pub(crate) internal_addr: Option<String>,
    /// Where the OAuth endpoints of auth, or the sign-in page of login, are [default: port 8080]
    #[arg(long, value_name = "ADDR")]
    pub(crate) http_addr: Option<String>,
}

impl Common {
    fn named(&self) -> Vec<Flag> {
        let flag = |name, key, value: &Option<String>| Flag { name, key, value: value.clone() };
        vec![
            flag("--data", "DATA", &self.data),
            flag("--secret-file", "SECRET_FILE", &self.secret_file),
            flag("--grpc-addr", "GRPC_ADDR", &self.grpc_addr),
            flag("--metrics-addr", "METRICS_ADDR", &self.metrics_addr),
            flag("--issuer", "ISSUER", &self.issuer),
            flag("--log-format", "LOG_FORMAT", &self.log_format),
            flag("--grace", "GRACE", &self.grace),
        ]
    }
}

impl OfAll {
    /// Each flag beside the setting that it stands for.
    pub(crate) fn named(&self) -> Vec<Flag> {
        let http = Flag { name: "--http-addr", key: "HTTP_ADDR", value: self.http_addr.clone() };
        [self.common.named(), vec![http]].concat()
    }
}

impl OfOne {
    /// Each flag beside the setting that it stands for.
    pub(crate) fn named(&self) -> Vec<Flag> {
        let internal = Flag { name: "--internal-addr", key: "INTERNAL_ADDR", value: self.internal_addr.clone() };
        let http = Flag { name: "--http-addr", key: "HTTP_ADDR", value: self.http_addr.clone() };
        [self.common.named(), vec![internal, http]].concat()
    }
}

/// Whether the words after a service's name are flags of a service and nothing else: `flaghoist send --data d` runs the service,
/// `flaghoist send @bob hi` sends a message.
pub(crate) fn only_of_a_service<'a>(words: impl IntoIterator<Item = &'a str>) -> bool {
    let known = OfOne::default().named();
    let known = |name: &str| known.iter().any(|flag| flag.name == name);
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let service = match word.split_once('=') {
            Some((name, _)) => known(name),
            None => known(word) && words.next().is_some(),
        };
        if !service {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_meant_only_where_nothing_of_the_client_is_said() {
        for words in [&[][..], &["--data", "d"], &["--data=d", "--internal-addr", "127.0.0.1:0"]] {
            assert!(only_of_a_service(words.iter().copied()), "{words:?}");
        }
        for words in [&["@bob", "hi"][..], &["alice"], &["--help"], &["--data"], &["--data", "d", "alice"], &["--json"]]
        {
            assert!(!only_of_a_service(words.iter().copied()), "{words:?}");
        }
    }
}
