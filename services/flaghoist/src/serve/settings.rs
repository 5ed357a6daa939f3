//! The settings of a process and, with them, those of the services in it: read in one place from flags and the environment, all
//! mistakes reported at once, and listed for `--help` and for the documents.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::http::Uri;
use flaghoist_runtime::StoreAddress;
use flaghoist_runtime::access::Credential;
use flaghoist_runtime::fault::chain;
use flaghoist_runtime::place::{Place, Secret};
use flaghoist_runtime::settings::{self, Environment, Mistakes, Over, Reader, Setting, Source};
use flaghoist_runtime::telemetry::LogFormat;

use super::flags::Flag;
use super::keys::Keys;
use super::process::{Process, Service};
use crate::exit::{Exit, Failure};

/// Names with the same beginning that are not the server's: the client's, and the one that tests read.
const ELSEWHERE: &[Setting] = &[
    Setting { name: "FLAGHOIST_SERVER", default: "", doc: "" },
    Setting { name: "FLAGHOIST_PROFILE", default: "", doc: "" },
    Setting { name: "FLAGHOIST_BIN", default: "", doc: "" },
];

/// What a process needs to know.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) process: Process,
    pub(crate) data: PathBuf,
    pub(crate) secret_file: Option<PathBuf>,
    pub(crate) ports: Ports,
    pub(crate) credential: Option<Credential>,
    pub(crate) peers: BTreeMap<Service, Uri>,
    /// The public port of auth, where it is elsewhere and asked as a client asks.
    pub(crate) auth_public: Option<Uri>,
    pub(crate) issuer: String,
    pub(crate) public_urls: Vec<String>,
    pub(crate) log_format: LogFormat,
    pub(crate) grace: Duration,
    pub(crate) trusted_hops: u8,
    pub(crate) connections_max: usize,
    /// Whether anything is kept in the data folder: a store, or the key.
    pub(crate) uses_folder: bool,
    pub(crate) services: Services,
}

/// Where a process listens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) grpc: SocketAddr,
    pub(crate) internal: Option<SocketAddr>,
    pub(crate) http: Option<SocketAddr>,
    pub(crate) jwks: Option<SocketAddr>,
    pub(crate) metrics: SocketAddr,
}

/// What each service in the process needs to know.
#[derive(Clone, Debug)]
pub(crate) struct Services {
    pub(crate) auth: Option<flaghoist_auth::Settings>,
    pub(crate) login: Option<flaghoist_login::Settings>,
    pub(crate) send: Option<flaghoist_send::Settings>,
    pub(crate) receiver: Option<flaghoist_receiver::Settings>,
}

impl Settings {
    /// Reads flags and environment.
    pub(crate) fn read(process: Process, flags: &[Flag]) -> Result<Self, Failure> {
        Self::from(process, flags, Environment)
    }

    /// Reads flags and, where none is given, `source`.
    fn from(process: Process, flags: &[Flag], source: impl Source) -> Result<Self, Failure> {
        let keys = Keys::of(process);
        let mut unknown = Vec::new();
        let mut given = BTreeMap::new();
        for flag in flags {
            match (&flag.value, keys.named(flag.key)) {
                (Some(value), Some(setting)) => drop(given.insert(setting.name, value.clone())),
                (Some(_), None) => unknown.push(flag.name),
                (None, _) => {}
            }
        }
        let source = Over(given, source);
        let mut reader = Reader::new(&source);
        for flag in unknown {
            reader.mistake(flag, "this service has no such port");
        }
        let settings = Self::of(process, keys, &mut reader);
        match reader.finish() {
            Ok(()) => Ok(settings),
            Err(mistakes) => Err(Failure::new(Exit::Usage, in_words_of(flags, keys, mistakes).to_string())),
        }
    }

    fn of(process: Process, keys: &Keys, reader: &mut Reader<'_>) -> Self {
        reader.know(ELSEWHERE);
        if let Process::One(_) = process {
            // One environment may hold the settings of every service.
            all().iter().for_each(|settings| reader.know(settings));
        }
        let services = Services::read(process, reader);
        let secret_file = optional_path(reader, &keys.secret_file);
        let (mut in_folder, mut shared) = (secret_file.is_none(), false);
        for service in process.services() {
            let sqlite = store_setting(service).is_none_or(|setting| reader.text(setting).trim() == "sqlite");
            in_folder |= sqlite;
            shared |= !sqlite;
        }
        if matches!(process, Process::One(_)) && secret_file.is_none() && shared {
            reader.mistake(
                keys.secret_file.name,
                "is needed where the store is PostgreSQL: what one pod sealed with its key the others must open",
            );
        }
        let place = Place { data: reader.path(&keys.data), secret_file };
        try_secrets(reader, process, keys, &place);
        Self {
            process,
            data: place.data,
            secret_file: place.secret_file,
            ports: Ports {
                grpc: reader.address(&keys.grpc_addr),
                internal: keys.internal_addr.map(|setting| reader.address(&setting)),
                http: keys.http_addr.map(|setting| reader.address(&setting)),
                jwks: keys.jwks_addr.map(|setting| reader.address(&setting)),
                metrics: reader.address(&keys.metrics_addr),
            },
            credential: keys.internal_credential_file.and_then(|setting| credential(reader, &setting)),
            peers: keys.peers.iter().map(|(service, setting)| (*service, peer(reader, setting))).collect(),
            auth_public: keys.auth_public_addr.map(|setting| peer(reader, &setting)),
            issuer: reader.url(&keys.issuer),
            public_urls: public_urls(reader, &keys.public_urls),
            log_format: reader.choice(&keys.log_format, &[("text", LogFormat::Text), ("json", LogFormat::Json)]),
            grace: reader.duration(&keys.grace, Duration::from_millis(1)..=Duration::from_secs(3600)),
            trusted_hops: reader.number(&keys.trusted_hops, 0..=16),
            connections_max: reader.number(&keys.connections_max, 0..=10_000_000),
            uses_folder: in_folder,
            services,
        }
    }
}

impl Services {
    fn read(process: Process, reader: &mut Reader<'_>) -> Self {
        Self {
            auth: process.runs(Service::Auth).then(|| flaghoist_auth::Settings::read(reader)),
            login: process.runs(Service::Login).then(|| flaghoist_login::Settings::read(reader)),
            send: process.runs(Service::Send).then(|| flaghoist_send::Settings::read(reader)),
            receiver: process.runs(Service::Receiver).then(|| flaghoist_receiver::Settings::read(reader)),
        }
    }
}

/// A path that may be left out.
fn optional_path(reader: &mut Reader<'_>, setting: &Setting) -> Option<PathBuf> {
    let text = reader.text(setting);
    (!text.is_empty()).then(|| PathBuf::from(text))
}

/// The addresses under which clients call beside that of the issuer: nothing but scheme, host and port.
fn public_urls(reader: &mut Reader<'_>, setting: &Setting) -> Vec<String> {
    let read = |text: &str| {
        let origin = |one: &str| {
            let uri = one.parse::<Uri>().ok()?;
            let bare =
                uri.authority().is_some() && uri.query().is_none() && uri.path() == "/" && !one.contains(['@', '#']);
            (bare && matches!(uri.scheme_str(), Some("http" | "https"))).then(|| one.to_owned())
        };
        text.split_whitespace().map(origin).collect::<Option<Vec<_>>>()
    };
    reader.parsed(setting, "addresses like https://api.example.com, separated by spaces", read).unwrap_or_default()
}

fn credential(reader: &mut Reader<'_>, setting: &Setting) -> Option<Credential> {
    let path = optional_path(reader, setting)?;
    match Credential::read(&path) {
        Ok(credential) => Some(credential),
        Err(error) => {
            reader.mistake(setting.name, chain(&error));
            None
        }
    }
}

/// Reads the files with secrets that settings name, as the services will: so what is wrong with them is told with everything else, and
/// before a store is made. The folder's own key file may be named and not be there yet.
fn try_secrets(reader: &mut Reader<'_>, process: Process, keys: &Keys, place: &Place) {
    let own = place.own_key_file();
    let key = |file: &Path| if *file == own && !own.exists() { Ok(()) } else { Secret::read(file).map(drop) };
    let mut wrong = Vec::new();
    if let Some(Err(error)) = place.secret_file.as_deref().map(key) {
        wrong.push((keys.secret_file.name, chain(&error)));
    }
    for setting in process.services().flat_map(of_service) {
        let text = reader.text(setting);
        if setting.name.ends_with("_SEAL_FILES") {
            let files = flaghoist_runtime::seal::files(&text);
            let told: Vec<String> = files.iter().filter_map(|file| Some(chain(&key(file).err()?))).collect();
            wrong.extend((!told.is_empty()).then(|| (setting.name, told.join("; "))));
        } else if setting.name.ends_with("_PASSWORD_FILE") && !text.is_empty() {
            let read = std::fs::read_to_string(&text);
            wrong
                .extend(read.err().map(|error| (setting.name, format!("cannot read the password in {text}: {error}"))));
        }
    }
    wrong.into_iter().for_each(|(name, text)| reader.mistake(name, text));
}

/// The address of a peer: plain HTTP, because what lies between secures it.
fn peer(reader: &mut Reader<'_>, setting: &Setting) -> Uri {
    let address = reader.parsed(setting, "an address like http://login:9001", |text| {
        let uri = text.parse::<Uri>().ok()?;
        let bare = uri.authority().is_some() && uri.query().is_none() && matches!(uri.path(), "" | "/");
        (bare && uri.scheme_str() == Some("http") && !text.contains('#')).then_some(uri)
    });
    address.unwrap_or_default()
}

/// The mistakes by the names that the person used: a flag where one was given.
fn in_words_of(flags: &[Flag], keys: &Keys, mut mistakes: Mistakes) -> Mistakes {
    for mistake in &mut mistakes.0 {
        for flag in flags {
            if flag.value.is_some() && keys.named(flag.key).is_some_and(|setting| setting.name == mistake.name) {
                mistake.name = flag.name.into();
            }
        }
    }
    mistakes
}

/// The data folder of `serve`, for commands that work on it: as the flag says, else the environment, else the default.
pub(crate) fn data_folder(flag: Option<PathBuf>) -> PathBuf {
    let setting = Keys::of(Process::All).data;
    flag.or_else(|| Environment.get(setting.name).filter(|data| !data.is_empty()).map(PathBuf::from))
        .unwrap_or_else(|| setting.default.into())
}

/// The key file of `serve`, for commands that work on its data folder: as the flag says, else the environment; else it is the
/// folder's own.
pub(crate) fn secret_file(flag: Option<PathBuf>) -> Option<PathBuf> {
    let setting = Keys::of(Process::All).secret_file;
    flag.or_else(|| Environment.get(setting.name).filter(|file| !file.is_empty()).map(PathBuf::from))
}

/// The key files that a setting names, with which a service seals what it keeps, for commands that work on its store.
pub(crate) fn seal_files(setting: &str) -> Vec<PathBuf> {
    flaghoist_runtime::seal::files(&Environment.get(setting).unwrap_or_default())
}

/// Where `service` keeps what is its own, for commands that work on it.
pub(crate) fn store_of(service: Service) -> Result<StoreAddress, Failure> {
    let Some(setting) = store_setting(service) else { return Ok(StoreAddress::Folder) };
    store_in(setting.name, Environment.get(setting.name).unwrap_or_else(|| setting.default.to_owned()))
}

/// The store that a setting or a flag of this name says.
pub(crate) fn store_in(name: &'static str, given: String) -> Result<StoreAddress, Failure> {
    let source = BTreeMap::from([(name, given)]);
    let mut reader = Reader::new(&source);
    let store = StoreAddress::read(&mut reader, &Setting { name, default: "", doc: "" });
    reader.finish().map_err(|mistakes| Failure::new(Exit::Usage, mistakes.to_string()))?;
    Ok(store)
}

/// The setting that says where a service keeps what is its own.
fn store_setting(service: Service) -> Option<&'static Setting> {
    of_service(service).iter().find(|setting| setting.name.ends_with("_STORE"))
}

/// The settings of a service itself.
fn of_service(service: Service) -> &'static [Setting] {
    match service {
        Service::Auth => flaghoist_auth::SETTINGS,
        Service::Login => flaghoist_login::SETTINGS,
        Service::Send => flaghoist_send::SETTINGS,
        Service::Receiver => flaghoist_receiver::SETTINGS,
    }
}

/// The settings that a process reads: its own, and those of the services in it.
fn read_by(process: Process) -> Vec<Vec<Setting>> {
    let services = process.services().map(|service| of_service(service).to_vec());
    std::iter::once(Keys::of(process).list()).chain(services).collect()
}

/// All settings: of `serve`, then of each service, both as a process and as itself.
fn all() -> Vec<Vec<Setting>> {
    let mut all = vec![Keys::of(Process::All).list()];
    for service in Service::ALL {
        all.extend(read_by(Process::One(service)));
    }
    all
}

fn slices(settings: &[Vec<Setting>]) -> Vec<&[Setting]> {
    settings.iter().map(Vec::as_slice).collect()
}

/// The settings of a process for `--help`.
pub(crate) fn help(process: Process) -> String {
    format!(
        "Settings from the environment, with what holds if they are not given; flags go before them:\n{}\n\
         RUST_LOG chooses what is logged; OTEL_EXPORTER_OTLP_ENDPOINT, where traces are sent.\n\n{}",
        settings::help(&slices(&read_by(process))),
        crate::exit::TABLE
    )
}

/// The settings of all services for `--help`.
pub(crate) fn help_of_services() -> String {
    let each = Service::ALL.map(|service| settings::help(&slices(&read_by(Process::One(service)))));
    format!(
        "Settings from the environment, with what holds if they are not given; flags go before them:\n{}\n\
         RUST_LOG chooses what is logged; OTEL_EXPORTER_OTLP_ENDPOINT, where traces are sent.\n\n{}",
        each.concat(),
        crate::exit::TABLE
    )
}

/// All settings as a table for the documents.
pub(crate) fn markdown() -> String {
    settings::markdown(&slices(&all()))
}

#[cfg(test)]
mod tests;
