//! The settings that belong to a process rather than to a service: where it listens, where its peers are, how it logs and stops.
//! Each process has its own, named after it.

use flaghoist_runtime::settings::Setting;

use super::process::{Process, Service};

/// The settings of one process.
#[derive(Debug)]
pub(crate) struct Keys {
    pub(crate) data: Setting,
    pub(crate) secret_file: Setting,
    pub(crate) grpc_addr: Setting,
    pub(crate) internal_addr: Option<Setting>,
    pub(crate) internal_credential_file: Option<Setting>,
    pub(crate) http_addr: Option<Setting>,
    pub(crate) jwks_addr: Option<Setting>,
    pub(crate) metrics_addr: Setting,
    pub(crate) peers: &'static [(Service, Setting)],
    pub(crate) auth_public_addr: Option<Setting>,
    pub(crate) issuer: Setting,
    pub(crate) public_urls: Setting,
    pub(crate) log_format: Setting,
    pub(crate) grace: Setting,
    pub(crate) trusted_hops: Setting,
    pub(crate) connections_max: Setting,
}

macro_rules! setting {
    ($process:literal, $key:literal, $default:expr, $doc:expr) => {
        Setting { name: concat!("FLAGHOIST_", $process, "_", $key), default: $default, doc: $doc }
    };
}

macro_rules! http_addr {
    ($process:literal, $host:literal, $what:literal) => {
        Some(setting!(
            $process,
            "HTTP_ADDR",
            concat!($host, ":8080"),
            concat!("Where ", $what, " and `/healthz` are; port 0 is any free one.")
        ))
    };
}

macro_rules! keys {
    ($process:literal, $host:literal) => {
        Keys {
            data: setting!(
                $process,
                "DATA",
                "./data",
                "The folder of the SQLite stores and the key file; made if it is needed and not there. Only one server may use it."
            ),
            secret_file: setting!(
                $process,
                "SECRET_FILE",
                "",
                "The key file that all who share a store share, 32 random bytes (`head -c 32 /dev/urandom`); without one, \
                 `secret.key` in the data folder."
            ),
            grpc_addr: setting!(
                $process,
                "GRPC_ADDR",
                concat!($host, ":9000"),
                "Where gRPC and gRPC-Web calls are taken; port 0 is any free one."
            ),
            internal_addr: None,
            internal_credential_file: None,
            http_addr: None,
            jwks_addr: None,
            metrics_addr: setting!(
                $process,
                "METRICS_ADDR",
                concat!($host, ":9464"),
                "Where `/metrics`, `/livez` and `/readyz` are; port 0 is any free one."
            ),
            peers: &[],
            auth_public_addr: None,
            issuer: setting!(
                $process,
                "ISSUER",
                "http://localhost:8080",
                "The address under which people and programs reach the HTTP port of auth; it is the `iss` of every token."
            ),
            public_urls: setting!(
                $process,
                "PUBLIC_URLS",
                "",
                "Further addresses under which clients call, like `https://api.example.com`, separated by spaces: what the `htu` of a DPoP \
                 proof may say beside the issuer's scheme and host."
            ),
            log_format: setting!($process, "LOG_FORMAT", "text", "How the log is written: `text` or `json`."),
            grace: setting!(
                $process,
                "GRACE",
                "30s",
                "How long running calls and streams may take to end when the server is told to stop."
            ),
            trusted_hops: setting!(
                $process,
                "TRUSTED_HOPS",
                "0",
                "How many proxies in front are trusted to have added to `X-Forwarded-For`."
            ),
            connections_max: setting!(
                $process,
                "CONNECTIONS_MAX",
                "0",
                "How many gRPC connections are kept at most; 0 leaves it to the limit of open files."
            ),
        }
    };
}

macro_rules! keys_of_one {
    ($process:literal) => {
        Keys {
            internal_addr: Some(setting!(
                $process,
                "INTERNAL_ADDR",
                "127.0.0.1:9001",
                "Where the calls of other services are taken. No gateway may lead there."
            )),
            internal_credential_file: Some(setting!(
                $process,
                "INTERNAL_CREDENTIAL_FILE",
                "",
                "A file with a secret that the services share, where no mesh vouches for who calls: shown to the others, asked of \
                 them. One a line; the first is shown, each is accepted. Without it the internal port asks for none."
            )),
            ..keys!($process, "0.0.0.0")
        }
    };
}

macro_rules! peer {
    ($process:literal, $service:ident, $key:literal, $default:literal, $for:literal) => {
        (
            Service::$service,
            setting!($process, $key, $default, concat!("Where the internal port of ", $for, "; plain HTTP/2.")),
        )
    };
}

macro_rules! auth_peer {
    ($process:literal) => {
        peer!(
            $process,
            Auth,
            "AUTH_ADDR",
            "http://auth:9001",
            "auth is: keys and revocations of tokens come from there"
        )
    };
}

static ALL: Keys = Keys {
    http_addr: http_addr!("SERVE", "127.0.0.1", "the OAuth endpoints, the pages for people"),
    ..keys!("SERVE", "127.0.0.1")
};

static AUTH: Keys = Keys {
    http_addr: http_addr!("AUTH", "0.0.0.0", "the OAuth endpoints"),
    jwks_addr: Some(setting!(
        "AUTH",
        "JWKS_ADDR",
        "0.0.0.0:8081",
        "Where the JWKS is and nothing else, for a mesh that fetches it without a sidecar."
    )),
    ..keys_of_one!("AUTH")
};

static LOGIN: Keys = Keys {
    http_addr: http_addr!("LOGIN", "0.0.0.0", "the pages for people"),
    peers: &[
        auth_peer!("LOGIN"),
        peer!("LOGIN", Send, "SEND_ADDR", "http://send:9001", "send is: messages are erased and exported there"),
        peer!("LOGIN", Receiver, "RECEIVER_ADDR", "http://receiver:9001", "the receiver is: so are devices"),
    ],
    auth_public_addr: Some(setting!(
        "LOGIN",
        "AUTH_PUBLIC_ADDR",
        "http://auth:9000",
        "Where the public port of auth is: the account pages are a client of it; plain HTTP/2."
    )),
    ..keys_of_one!("LOGIN")
};

static SEND: Keys = Keys {
    peers: &[
        auth_peer!("SEND"),
        peer!("SEND", Login, "LOGIN_ADDR", "http://login:9001", "login is: it knows who exists"),
        peer!("SEND", Receiver, "RECEIVER_ADDR", "http://receiver:9001", "the receiver is: it takes events to streams"),
    ],
    ..keys_of_one!("SEND")
};

static RECEIVER: Keys = Keys {
    peers: &[
        auth_peer!("RECEIVER"),
        peer!("RECEIVER", Send, "SEND_ADDR", "http://send:9001", "send is: it has the log"),
    ],
    ..keys_of_one!("RECEIVER")
};

impl Keys {
    /// The settings of a process.
    pub(crate) fn of(process: Process) -> &'static Self {
        match process {
            Process::All => &ALL,
            Process::One(Service::Auth) => &AUTH,
            Process::One(Service::Login) => &LOGIN,
            Process::One(Service::Send) => &SEND,
            Process::One(Service::Receiver) => &RECEIVER,
        }
    }

    /// All of them, in the order of the documents.
    pub(crate) fn list(&self) -> Vec<Setting> {
        let mut list = vec![self.data, self.secret_file, self.grpc_addr];
        list.extend(
            [self.internal_addr, self.internal_credential_file, self.http_addr, self.jwks_addr].into_iter().flatten(),
        );
        list.push(self.metrics_addr);
        list.extend(self.peers.iter().map(|(_, setting)| *setting));
        list.extend(self.auth_public_addr);
        list.extend([
            self.issuer,
            self.public_urls,
            self.log_format,
            self.grace,
            self.trusted_hops,
            self.connections_max,
        ]);
        list
    }

    /// The setting that a flag stands for, by the end of its name.
    pub(crate) fn named(&self, key: &str) -> Option<Setting> {
        self.list().into_iter().find(|setting| setting.name.splitn(3, '_').nth(2) == Some(key))
    }
}
