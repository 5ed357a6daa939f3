//! The settings of login.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use flaghoist_runtime::StoreAddress;
use flaghoist_runtime::settings::{Reader, Setting};

use crate::hashing::Cost;
use crate::notify::{SmtpSettings, Tls, Way};
use crate::store::account_sessions::LIFETIME_MAX;

const STORE: Setting = Setting {
    name: "FLAGHOIST_LOGIN_STORE",
    default: "sqlite",
    doc: "Where the accounts are: `sqlite` for a file in the data folder, or `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, which several pods share",
};
const STORE_CONNECTIONS: Setting = Setting {
    name: "FLAGHOIST_LOGIN_STORE_CONNECTIONS",
    default: "16",
    doc: "How many connections to PostgreSQL a pod has at most",
};
const SEAL_FILES: Setting = Setting {
    name: "FLAGHOIST_LOGIN_SEAL_FILES",
    default: "",
    doc: "Key files (32 random bytes each, separated by commas) with which the secrets of authenticator apps are sealed in the \
          store, the newest first; the first seals, all open, and so does the key file of the service, which does both if none is given",
};
const REGISTRATION: Setting = Setting {
    name: "FLAGHOIST_LOGIN_REGISTRATION",
    default: "open",
    doc: "Who may register: open (anyone), invitation (who has a code that an admin made), closed (nobody)",
};
const REGISTRATION_BURST: Setting = Setting {
    name: "FLAGHOIST_LOGIN_REGISTRATION_BURST",
    default: "20",
    doc: "How many registrations one address may try at once",
};
const REGISTRATION_REFILL: Setting = Setting {
    name: "FLAGHOIST_LOGIN_REGISTRATION_REFILL",
    default: "30s",
    doc: "How long it takes until an address may try one more registration",
};
const ADDRESS_BURST: Setting = Setting {
    name: "FLAGHOIST_LOGIN_ADDRESS_BURST",
    default: "30",
    doc: "How many passwords one address may try at once, for whatever accounts",
};
const ADDRESS_REFILL: Setting = Setting {
    name: "FLAGHOIST_LOGIN_ADDRESS_REFILL",
    default: "2s",
    doc: "How long it takes until an address may try one more password",
};
const ACCOUNT_FREE: Setting = Setting {
    name: "FLAGHOIST_LOGIN_ACCOUNT_FREE",
    default: "5",
    doc: "How many passwords one address may try for one account without delay",
};
const ACCOUNT_DELAY: Setting = Setting {
    name: "FLAGHOIST_LOGIN_ACCOUNT_DELAY",
    default: "1s",
    doc: "The delay after that; each further wrong password doubles it",
};
const ACCOUNT_DELAY_MAX: Setting =
    Setting { name: "FLAGHOIST_LOGIN_ACCOUNT_DELAY_MAX", default: "15m", doc: "The longest such delay" };
const UPDATE_BURST: Setting = Setting {
    name: "FLAGHOIST_LOGIN_UPDATE_BURST",
    default: "20",
    doc: "How often a person may change their account at once",
};
const UPDATE_REFILL: Setting = Setting {
    name: "FLAGHOIST_LOGIN_UPDATE_REFILL",
    default: "30s",
    doc: "How long it takes until a person may change their account once more",
};
const INVITATION_LIFETIME: Setting =
    Setting { name: "FLAGHOIST_LOGIN_INVITATION_LIFETIME", default: "7d", doc: "How long an invitation can be used" };
const ERASURE_SETTLE: Setting = Setting {
    name: "FLAGHOIST_LOGIN_ERASURE_SETTLE",
    default: "6m",
    doc: "How long after an account was deleted its devices and messages are looked for once more, before its handle is free: longer \
          than an access token lives",
};
const PASSWORD_SCORE: Setting = Setting {
    name: "FLAGHOIST_LOGIN_PASSWORD_SCORE",
    default: "2",
    doc: "The least strength of a new password on zxcvbn's scale from 0 to 4",
};
const HASH_MEMORY_KIB: Setting = Setting {
    name: "FLAGHOIST_LOGIN_HASH_MEMORY_KIB",
    default: "19456",
    doc: "Memory of a password hash (argon2id) in KiB; hashes are renewed at sign-in when this rises",
};
const HASH_PASSES: Setting =
    Setting { name: "FLAGHOIST_LOGIN_HASH_PASSES", default: "2", doc: "Passes of a password hash" };
const HASH_LANES: Setting =
    Setting { name: "FLAGHOIST_LOGIN_HASH_LANES", default: "1", doc: "Lanes of a password hash" };
const HASH_THREADS: Setting = Setting {
    name: "FLAGHOIST_LOGIN_HASH_THREADS",
    default: "0",
    doc: "Threads that hash passwords, each with the memory of one hash; 0 is half of the cores",
};
const HASH_QUEUE: Setting = Setting {
    name: "FLAGHOIST_LOGIN_HASH_QUEUE",
    default: "64",
    doc: "How many calls may wait for a password to be hashed; the next is refused at once",
};

const ACCOUNT_IDLE: Setting = Setting {
    name: "FLAGHOIST_LOGIN_ACCOUNT_IDLE",
    default: "30m",
    doc: "How long a browser that is unused stays signed in to the account pages",
};
const ACCOUNT_ABSOLUTE: Setting = Setting {
    name: "FLAGHOIST_LOGIN_ACCOUNT_ABSOLUTE",
    default: "12h",
    doc: "How long a browser stays signed in to the account pages at most",
};
const NOTIFIER: Setting = Setting {
    name: "FLAGHOIST_LOGIN_NOTIFIER",
    default: "log",
    doc: "How messages to people leave (codes that verify a contact, links for a new password, notices of new sign-ins): log (they do \
          not, a line says that there was one), smtp (by mail), folder (files in `notices` of the data folder, for laptops and \
          tests: whoever reads them can open accounts)",
};
const SMTP_ADDRESS: Setting = Setting {
    name: "FLAGHOIST_LOGIN_SMTP_ADDRESS",
    default: "",
    doc: "The mail relay, as `HOST:PORT`; authorities beside those of the machine are named by the variable `SSL_CERT_FILE`",
};
const SMTP_FROM: Setting = Setting {
    name: "FLAGHOIST_LOGIN_SMTP_FROM",
    default: "",
    doc: "Who mail comes from, such as `Chat <chat@example.com>`",
};
const SMTP_USER: Setting = Setting {
    name: "FLAGHOIST_LOGIN_SMTP_USER",
    default: "",
    doc: "The name by which the relay knows login; empty for a relay that asks for none",
};
const SMTP_PASSWORD_FILE: Setting = Setting {
    name: "FLAGHOIST_LOGIN_SMTP_PASSWORD_FILE",
    default: "",
    doc: "The file with the password that belongs to the name",
};
const SMTP_TLS: Setting = Setting {
    name: "FLAGHOIST_LOGIN_SMTP_TLS",
    default: "starttls",
    doc: "Whether the way to the relay is encrypted: required (from the first byte, as on port 465), starttls (as on port 587, and \
          nothing is sent to a relay that cannot), none",
};
const SMTP_PHONE_DOMAIN: Setting = Setting {
    name: "FLAGHOIST_LOGIN_SMTP_PHONE_DOMAIN",
    default: "",
    doc: "The domain of a gateway that makes a text message of mail to `NUMBER@DOMAIN`; without one phone numbers cannot be verified",
};

/// All settings of login.
pub const SETTINGS: &[Setting] = &[
    STORE,
    STORE_CONNECTIONS,
    SEAL_FILES,
    REGISTRATION,
    REGISTRATION_BURST,
    REGISTRATION_REFILL,
    ADDRESS_BURST,
    ADDRESS_REFILL,
    ACCOUNT_FREE,
    ACCOUNT_DELAY,
    ACCOUNT_DELAY_MAX,
    UPDATE_BURST,
    UPDATE_REFILL,
    INVITATION_LIFETIME,
    ERASURE_SETTLE,
    PASSWORD_SCORE,
    HASH_MEMORY_KIB,
    HASH_PASSES,
    HASH_LANES,
    HASH_THREADS,
    HASH_QUEUE,
    ACCOUNT_IDLE,
    ACCOUNT_ABSOLUTE,
    NOTIFIER,
    SMTP_ADDRESS,
    SMTP_FROM,
    SMTP_USER,
    SMTP_PASSWORD_FILE,
    SMTP_TLS,
    SMTP_PHONE_DOMAIN,
];

/// Who may register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Registration {
    /// Anyone.
    Open,
    /// Who has an invitation.
    Invitation,
    /// Nobody.
    Closed,
}

/// What the settings say.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the accounts are.
    pub store: StoreAddress,
    /// How many connections to PostgreSQL there are at most.
    pub store_connections: u32,
    /// The files of the keys that seal the secrets of authenticator apps, the newest first.
    pub seal_files: Vec<PathBuf>,
    /// Who may register.
    pub registration: Registration,
    /// How many registrations one address may try at once.
    pub registration_burst: u32,
    /// How long it takes until an address may try one more.
    pub registration_refill: Duration,
    /// How many passwords one address may try at once.
    pub address_burst: u32,
    /// How long it takes until an address may try one more.
    pub address_refill: Duration,
    /// How many passwords one address may try for one account without delay.
    pub account_free: u32,
    /// The first delay after that.
    pub account_delay: Duration,
    /// The longest delay.
    pub account_delay_max: Duration,
    /// How often a person may change their account at once.
    pub update_burst: u32,
    /// How long it takes until they may once more.
    pub update_refill: Duration,
    /// How long an invitation can be used.
    pub invitation_lifetime: Duration,
    /// How long after a deletion it is looked for what came late.
    pub erasure_settle: Duration,
    /// The least strength of a new password, 0 to 4.
    pub password_score: u8,
    /// The cost of a password hash.
    pub hash_cost: Cost,
    /// Threads that hash.
    pub hash_threads: usize,
    /// Calls that may wait for them.
    pub hash_queue: usize,
    /// How long a browser that is unused stays signed in to the account pages.
    pub account_idle: Duration,
    /// How long a browser stays signed in to them at most.
    pub account_absolute: Duration,
    /// How messages to people leave.
    pub notifier: Way,
    /// The mail relay.
    pub smtp: SmtpSettings,
}

impl Settings {
    /// Reads the settings; mistakes are noted in `reader`.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        const MILLISECOND: Duration = Duration::from_millis(1);
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        let registrations =
            [("open", Registration::Open), ("invitation", Registration::Invitation), ("closed", Registration::Closed)];
        let lanes = reader.number(&HASH_LANES, 1..=16);
        let threads = reader.number(&HASH_THREADS, 0..=256);
        let settings = Self {
            store: StoreAddress::read(reader, &STORE),
            store_connections: reader.number(&STORE_CONNECTIONS, 1..=256),
            seal_files: flaghoist_runtime::seal::files(&reader.text(&SEAL_FILES)),
            registration: reader.choice(&REGISTRATION, &registrations),
            registration_burst: reader.number(&REGISTRATION_BURST, 1..=1_000_000),
            registration_refill: reader.duration(&REGISTRATION_REFILL, MILLISECOND..=DAY),
            address_burst: reader.number(&ADDRESS_BURST, 1..=1_000_000),
            address_refill: reader.duration(&ADDRESS_REFILL, MILLISECOND..=DAY),
            account_free: reader.number(&ACCOUNT_FREE, 1..=1_000_000),
            account_delay: reader.duration(&ACCOUNT_DELAY, MILLISECOND..=DAY),
            account_delay_max: reader.duration(&ACCOUNT_DELAY_MAX, MILLISECOND..=DAY),
            update_burst: reader.number(&UPDATE_BURST, 1..=1_000_000),
            update_refill: reader.duration(&UPDATE_REFILL, MILLISECOND..=DAY),
            invitation_lifetime: reader.duration(&INVITATION_LIFETIME, MILLISECOND..=DAY * 365),
            erasure_settle: reader.duration(&ERASURE_SETTLE, MILLISECOND..=DAY),
            password_score: reader.number(&PASSWORD_SCORE, 0..=4),
            hash_cost: Cost {
                memory_kib: reader.number(&HASH_MEMORY_KIB, 8..=1024 * 1024),
                passes: reader.number(&HASH_PASSES, 1..=1000),
                lanes,
            },
            hash_threads: if threads == 0 { half_of_the_cores() } else { threads },
            hash_queue: reader.number(&HASH_QUEUE, 1..=100_000),
            account_idle: reader.duration(&ACCOUNT_IDLE, MILLISECOND..=LIFETIME_MAX),
            account_absolute: reader.duration(&ACCOUNT_ABSOLUTE, MILLISECOND..=LIFETIME_MAX),
            notifier: reader.choice(&NOTIFIER, &[("log", Way::Log), ("smtp", Way::Smtp), ("folder", Way::Folder)]),
            smtp: read_smtp(reader),
        };
        if settings.notifier == Way::Smtp && settings.smtp.host.is_empty() {
            reader.mistake(SMTP_ADDRESS.name, format!("is needed: {} is smtp", NOTIFIER.name));
        }
        if settings.notifier == Way::Smtp && settings.smtp.from.is_none() {
            reader.mistake(SMTP_FROM.name, format!("is needed: {} is smtp", NOTIFIER.name));
        }
        if settings.smtp.user.is_empty() != settings.smtp.password_file.as_os_str().is_empty() {
            reader.mistake(SMTP_USER.name, format!("and {} belong together", SMTP_PASSWORD_FILE.name));
        }
        if settings.account_delay > settings.account_delay_max {
            reader.mistake(ACCOUNT_DELAY.name, format!("is longer than {}", ACCOUNT_DELAY_MAX.name));
        }
        if settings.hash_cost.memory_kib < 8 * lanes {
            reader.mistake(HASH_MEMORY_KIB.name, "is below 8 for each lane");
        }
        settings
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::read(&mut Reader::new(&BTreeMap::<String, String>::new()))
    }
}

fn read_smtp(reader: &mut Reader<'_>) -> SmtpSettings {
    let address = |text: &str| {
        let (host, port) = text.rsplit_once(':')?;
        let port = port.parse::<u16>().ok().filter(|port| *port > 0)?;
        (!host.is_empty()).then(|| (host.trim_start_matches('[').trim_end_matches(']').to_owned(), port))
    };
    // Empty is not given, and no mistake by itself.
    let address = |text: &str| if text.is_empty() { Some((String::new(), 0)) } else { address(text) };
    let (host, port) = reader.parsed(&SMTP_ADDRESS, "HOST:PORT", address).unwrap_or_default();
    let from = |text: &str| if text.is_empty() { Some(None) } else { text.parse().ok().map(Some) };
    let from = reader.parsed(&SMTP_FROM, "an address such as Chat <chat@example.com>", from).flatten();
    SmtpSettings {
        host,
        port,
        from,
        user: reader.text(&SMTP_USER),
        password_file: PathBuf::from(reader.text(&SMTP_PASSWORD_FILE)),
        tls: reader.choice(&SMTP_TLS, &[("required", Tls::Required), ("starttls", Tls::StartTls), ("none", Tls::None)]),
        phone_domain: reader.text(&SMTP_PHONE_DOMAIN),
    }
}

/// At least one, and at least half of the cores stay free for calls that hash nothing.
fn half_of_the_cores() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_documents() {
        let map = BTreeMap::<String, String>::new();
        let mut reader = Reader::new(&map);
        let settings = Settings::read(&mut reader);
        reader.finish().unwrap();
        assert!(matches!(settings.store, StoreAddress::Folder));
        assert_eq!((settings.store_connections, settings.update_burst), (16, 20));
        assert_eq!(settings.registration, Registration::Open);
        assert_eq!(settings.hash_cost, Cost { memory_kib: 19_456, passes: 2, lanes: 1 });
        assert_eq!((settings.hash_queue, settings.invitation_lifetime), (64, Duration::from_secs(7 * 86_400)));
        assert!(settings.hash_threads >= 1);
    }

    #[test]
    fn every_mistake_is_named() {
        let map = BTreeMap::from([
            ("FLAGHOIST_LOGIN_REGISTRATION", "maybe"),
            ("FLAGHOIST_LOGIN_HASH_QUEUE", "0"),
            ("FLAGHOIST_LOGIN_ACCOUNT_DELAY", "1h"),
            ("FLAGHOIST_LOGIN_HASH_MEMORY_KIB", "16"),
            ("FLAGHOIST_LOGIN_HASH_LANES", "4"),
            ("FLAGHOIST_LOGIN_STORE", "postgres://login:hunter2@"),
            ("FLAGHOIST_LOGIN_STORE_CONNECTIONS", "0"),
        ]);
        let mut reader = Reader::new(&map);
        let _settings = Settings::read(&mut reader);
        let mistakes = reader.finish().unwrap_err().to_string();
        for name in ["REGISTRATION", "HASH_QUEUE", "ACCOUNT_DELAY", "HASH_MEMORY_KIB", "STORE", "STORE_CONNECTIONS"] {
            assert!(mistakes.contains(&format!("FLAGHOIST_LOGIN_{name}:")), "{mistakes}");
        }
        assert!(!mistakes.contains("hunter2"), "{mistakes}");
    }
}
