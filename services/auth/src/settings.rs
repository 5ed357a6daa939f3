//! The settings of the issuer.

use std::path::PathBuf;
use std::time::Duration;

use flaghoist_runtime::StoreAddress;
use flaghoist_runtime::settings::{Reader, Setting};

use crate::key::KeyTimes;
use crate::session::Lifetimes;
use crate::store::BrowserLifetimes;

const STORE: Setting = Setting {
    name: "FLAGHOIST_AUTH_STORE",
    default: "sqlite",
    doc: "Where clients, keys and sessions are kept: `sqlite`, a file in the data folder, or an address like \
          postgres://USER:PASSWORD@HOST:5432/DATABASE, which several pods can share.",
};
const CONNECTIONS: Setting = Setting {
    name: "FLAGHOIST_AUTH_STORE_CONNECTIONS",
    default: "16",
    doc: "How many connections to PostgreSQL each pod keeps at most.",
};
const ACCESS_LIFETIME: Setting = Setting {
    name: "FLAGHOIST_AUTH_ACCESS_TOKEN_LIFETIME",
    default: "300s",
    doc: "How long an access token is good for.",
};
const GRACE: Setting = Setting {
    name: "FLAGHOIST_AUTH_REFRESH_GRACE",
    default: "10s",
    doc: "How long a used refresh token still gets its successor, for a client whose answer was lost. Used later, it ends \
          the session.",
};
const IDLE: Setting =
    Setting { name: "FLAGHOIST_AUTH_REFRESH_IDLE", default: "14d", doc: "How long a session lives without a refresh." };
const ABSOLUTE: Setting =
    Setting { name: "FLAGHOIST_AUTH_REFRESH_ABSOLUTE", default: "90d", doc: "How long a session lives at most." };
const SESSIONS_MAX: Setting = Setting {
    name: "FLAGHOIST_AUTH_SESSIONS_MAX",
    default: "100",
    doc: "How many sessions a person has at most; one more ends the oldest.",
};
const CLIENTS_MAX: Setting =
    Setting { name: "FLAGHOIST_AUTH_CLIENTS_MAX", default: "1000", doc: "How many OAuth clients may be registered." };
const KEY_PERIOD: Setting = Setting {
    name: "FLAGHOIST_AUTH_KEY_PERIOD",
    default: "30d",
    doc: "How long one signing key signs before the next takes over.",
};
const KEY_LEAD: Setting = Setting {
    name: "FLAGHOIST_AUTH_KEY_LEAD",
    default: "24h",
    doc: "How long a signing key is published before it signs. Below 2h a mesh may not know it yet: for tests only.",
};
const KEY_KEEP: Setting = Setting {
    name: "FLAGHOIST_AUTH_KEY_KEEP",
    default: "24h",
    doc: "How long a signing key stays published after it has signed last; no less than the lifetime of an access token.",
};
const SEAL_FILES: Setting = Setting {
    name: "FLAGHOIST_AUTH_SEAL_FILES",
    default: "",
    doc: "Key files (32 random bytes each, separated by commas) with which private keys are sealed in the store, the newest first; \
          the first seals, all open, and so does the key file of the service, which does both if none is given.",
};
const AUDIT_RETENTION: Setting =
    Setting { name: "FLAGHOIST_AUTH_AUDIT_RETENTION", default: "90d", doc: "How long events stay in the audit log." };
const QUEUE: Setting = Setting {
    name: "FLAGHOIST_AUTH_REFRESH_QUEUE",
    default: "4096",
    doc: "How many refreshes may wait for the store; more are refused at once.",
};
const BROWSER_IDLE: Setting = Setting {
    name: "FLAGHOIST_AUTH_BROWSER_IDLE",
    default: "12h",
    doc: "How long a person stays signed in in a browser without using that.",
};
const BROWSER_ABSOLUTE: Setting = Setting {
    name: "FLAGHOIST_AUTH_BROWSER_ABSOLUTE",
    default: "30d",
    doc: "How long a person stays signed in in a browser at most.",
};
const LOGIN_REQUESTS_MAX: Setting = Setting {
    name: "FLAGHOIST_AUTH_LOGIN_REQUESTS_MAX",
    default: "500",
    doc: "How many sign-ins by a browser may be under way from one address, and how many pushed requests.",
};

/// All settings of the issuer.
pub const SETTINGS: &[Setting] = &[
    STORE,
    CONNECTIONS,
    ACCESS_LIFETIME,
    GRACE,
    IDLE,
    ABSOLUTE,
    SESSIONS_MAX,
    CLIENTS_MAX,
    KEY_PERIOD,
    KEY_LEAD,
    KEY_KEEP,
    SEAL_FILES,
    AUDIT_RETENTION,
    QUEUE,
    BROWSER_IDLE,
    BROWSER_ABSOLUTE,
    LOGIN_REQUESTS_MAX,
];

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// What the issuer is told at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where clients, keys and sessions are kept.
    pub store: StoreAddress,
    /// How many connections to a database are kept at most.
    pub store_connections: u32,
    /// How long an access token is good for.
    pub access_lifetime: Duration,
    /// How long a used refresh token still gets its successor.
    pub refresh_grace: Duration,
    /// How long a session lives without a refresh.
    pub refresh_idle: Duration,
    /// How long a session lives at most.
    pub refresh_absolute: Duration,
    /// How many sessions a person has at most.
    pub sessions_max: u32,
    /// How many clients may be registered.
    pub clients_max: u32,
    /// How long one signing key signs.
    pub key_period: Duration,
    /// How long a signing key is published before it signs.
    pub key_lead: Duration,
    /// How long a signing key stays published after it has signed last.
    pub key_keep: Duration,
    /// The files of the keys that seal private keys, the newest first.
    pub seal_files: Vec<PathBuf>,
    /// How long audit events are kept.
    pub audit_retention: Duration,
    /// How many refreshes may wait.
    pub refresh_queue_max: usize,
    /// How long a person stays signed in in a browser without using that.
    pub browser_idle: Duration,
    /// How long a person stays signed in in a browser at most.
    pub browser_absolute: Duration,
    /// How many sign-ins by a browser may be under way from one address.
    pub login_requests_max: u32,
}

impl Settings {
    /// Reads the settings; mistakes are noted in the reader.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        let settings = Self {
            store: StoreAddress::read(reader, &STORE),
            store_connections: reader.number(&CONNECTIONS, 1..=256),
            access_lifetime: reader.duration(&ACCESS_LIFETIME, SECOND..=HOUR),
            refresh_grace: reader.duration(&GRACE, Duration::ZERO..=Duration::from_secs(60)),
            refresh_idle: reader.duration(&IDLE, SECOND..=YEAR),
            refresh_absolute: reader.duration(&ABSOLUTE, SECOND..=YEAR),
            sessions_max: reader.number(&SESSIONS_MAX, 1..=1000),
            clients_max: reader.number(&CLIENTS_MAX, 1..=10_000),
            key_period: reader.duration(&KEY_PERIOD, SECOND..=YEAR),
            key_lead: reader.duration(&KEY_LEAD, SECOND..=30 * 24 * HOUR),
            key_keep: reader.duration(&KEY_KEEP, SECOND..=YEAR),
            seal_files: flaghoist_runtime::seal::files(&reader.text(&SEAL_FILES)),
            audit_retention: reader.duration(&AUDIT_RETENTION, 24 * HOUR..=10 * YEAR),
            refresh_queue_max: reader.number(&QUEUE, 1..=65_536),
            browser_idle: reader.duration(&BROWSER_IDLE, SECOND..=YEAR),
            browser_absolute: reader.duration(&BROWSER_ABSOLUTE, SECOND..=YEAR),
            login_requests_max: reader.number(&LOGIN_REQUESTS_MAX, 1..=1_000_000),
        };
        if settings.key_keep < settings.access_lifetime {
            reader.mistake(KEY_KEEP.name, format!("is less than {}", ACCESS_LIFETIME.name));
        }
        if settings.key_period < settings.key_lead {
            reader.mistake(KEY_PERIOD.name, format!("is less than {}", KEY_LEAD.name));
        }
        if settings.refresh_absolute < settings.refresh_idle {
            reader.mistake(ABSOLUTE.name, format!("is less than {}", IDLE.name));
        }
        if settings.browser_absolute < settings.browser_idle {
            reader.mistake(BROWSER_ABSOLUTE.name, format!("is less than {}", BROWSER_IDLE.name));
        }
        settings
    }

    pub(crate) fn lifetimes(&self) -> Lifetimes {
        Lifetimes { grace: self.refresh_grace, idle: self.refresh_idle, absolute: self.refresh_absolute }
    }

    pub(crate) fn browser_lifetimes(&self) -> BrowserLifetimes {
        BrowserLifetimes { idle: self.browser_idle, absolute: self.browser_absolute }
    }

    pub(crate) fn key_times(&self) -> KeyTimes {
        let times = KeyTimes { period: self.key_period, lead: self.key_lead, keep: self.key_keep };
        // A pod signs with a retired key until it looks at the store again, and what it signed last is to verify to its end.
        KeyTimes { keep: times.keep.max(self.access_lifetime + times.trusted_for()), ..times }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::read(&mut Reader::new(&std::collections::BTreeMap::<&str, &str>::new()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_defaults_are_what_the_design_says() {
        let settings = Settings::default();
        assert_eq!(settings.access_lifetime, Duration::from_secs(300));
        assert_eq!(settings.refresh_grace, Duration::from_secs(10));
        assert_eq!(settings.refresh_idle, 14 * 24 * HOUR);
        assert_eq!(settings.refresh_absolute, 90 * 24 * HOUR);
        assert_eq!((settings.browser_idle, settings.browser_absolute), (12 * HOUR, 30 * 24 * HOUR));
        assert!(settings.key_lead >= 2 * HOUR && settings.key_keep >= settings.access_lifetime);
        let none = BTreeMap::<&str, &str>::new();
        let mut reader = Reader::new(&none);
        Settings::read(&mut reader);
        reader.finish().unwrap();
    }

    #[test]
    fn settings_that_contradict_each_other_are_all_reported() {
        let source = BTreeMap::from([
            ("FLAGHOIST_AUTH_KEY_KEEP", "10s"),
            ("FLAGHOIST_AUTH_KEY_PERIOD", "1h"),
            ("FLAGHOIST_AUTH_REFRESH_ABSOLUTE", "1h"),
            ("FLAGHOIST_AUTH_REFRESH_GRACE", "2h"),
        ]);
        let mut reader = Reader::new(&source);
        Settings::read(&mut reader);
        assert_eq!(reader.finish().unwrap_err().0.len(), 4);
    }
}
