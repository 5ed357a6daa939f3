//! The settings of send.

use std::time::Duration;

use flaghoist_runtime::StoreAddress;
use flaghoist_runtime::settings::{Reader, Setting};

const STORE: Setting = Setting {
    name: "FLAGHOIST_SEND_STORE",
    default: "sqlite",
    doc: "where conversations are kept: `sqlite` is a file in the data folder; postgres://USER:PASSWORD@HOST:PORT/DATABASE is shared by any number of pods",
};
const STORE_CONNECTIONS: Setting = Setting {
    name: "FLAGHOIST_SEND_STORE_CONNECTIONS",
    default: "16",
    doc: "connections to PostgreSQL, per pod; a quarter of them write",
};
const QUEUE_MAX: Setting = Setting {
    name: "FLAGHOIST_SEND_QUEUE_MAX",
    default: "8192",
    doc: "calls that may wait for the store; more are refused at once",
};
const BATCH_MAX: Setting =
    Setting { name: "FLAGHOIST_SEND_BATCH_MAX", default: "1024", doc: "calls that are committed together at most" };
const RATE_PER_SECOND: Setting = Setting {
    name: "FLAGHOIST_SEND_RATE_PER_SECOND",
    default: "50",
    doc: "messages and changes a person may make per second, in the long run",
};
const RATE_BURST: Setting = Setting {
    name: "FLAGHOIST_SEND_RATE_BURST",
    default: "200",
    doc: "messages and changes a person may make at once after a pause",
};
const TEXT_MAX_BYTES: Setting =
    Setting { name: "FLAGHOIST_SEND_TEXT_MAX_BYTES", default: "16384", doc: "length of a message's text" };
const METADATA_MAX_BYTES: Setting = Setting {
    name: "FLAGHOIST_SEND_METADATA_MAX_BYTES",
    default: "4096",
    doc: "length of a message's metadata, keys and values together",
};
const GROUP_MEMBERS_MAX: Setting =
    Setting { name: "FLAGHOIST_SEND_GROUP_MEMBERS_MAX", default: "1000", doc: "members of a group" };
const CONVERSATIONS_MAX: Setting =
    Setting { name: "FLAGHOIST_SEND_CONVERSATIONS_MAX", default: "10000", doc: "conversations of a person" };
const HANDOVER_WAIT: Setting = Setting {
    name: "FLAGHOIST_SEND_HANDOVER_WAIT",
    default: "20ms",
    doc: "how long the answer to a send waits to learn whether a receiver took the message; 0 for not at all",
};

/// All settings of send.
pub const SETTINGS: &[Setting] = &[
    STORE,
    STORE_CONNECTIONS,
    QUEUE_MAX,
    BATCH_MAX,
    RATE_PER_SECOND,
    RATE_BURST,
    TEXT_MAX_BYTES,
    METADATA_MAX_BYTES,
    GROUP_MEMBERS_MAX,
    CONVERSATIONS_MAX,
    HANDOVER_WAIT,
];

/// The settings of send as read.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where conversations are kept.
    pub store: StoreAddress,
    /// Connections to PostgreSQL.
    pub store_connections: u32,
    /// Calls that may wait for the store.
    pub queue_max: usize,
    /// Calls that are committed together.
    pub batch_max: usize,
    /// Calls that write, per person and second.
    pub rate_per_second: u32,
    /// Calls that write, per person at once.
    pub rate_burst: u32,
    /// Length of a text.
    pub text_max_bytes: usize,
    /// Length of the metadata.
    pub metadata_max_bytes: usize,
    /// Members of a group.
    pub group_members_max: u32,
    /// Conversations of a person.
    pub conversations_max: u32,
    /// How long an answer waits for a receiver.
    pub handover_wait: Duration,
}

impl Settings {
    /// Reads the settings; mistakes stay with the reader.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        reader.know(SETTINGS);
        Self {
            store: StoreAddress::read(reader, &STORE),
            // One writes messages, one watermarks, and one reads at least.
            store_connections: reader.number(&STORE_CONNECTIONS, 3..=256),
            queue_max: reader.number(&QUEUE_MAX, 1..=1_000_000),
            batch_max: reader.number(&BATCH_MAX, 1..=4096),
            rate_per_second: reader.number(&RATE_PER_SECOND, 1..=1_000_000),
            rate_burst: reader.number(&RATE_BURST, 1..=1_000_000),
            // The contract's own bounds; a setting may only be stricter.
            text_max_bytes: reader.number(&TEXT_MAX_BYTES, 1..=16_384),
            metadata_max_bytes: reader.number(&METADATA_MAX_BYTES, 0..=65_536),
            group_members_max: reader.number(&GROUP_MEMBERS_MAX, 1..=1001),
            conversations_max: reader.number(&CONVERSATIONS_MAX, 1..=1_000_000),
            handover_wait: reader.duration(&HANDOVER_WAIT, Duration::ZERO..=Duration::from_secs(1)),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        let nothing = std::collections::HashMap::<String, String>::new();
        Self::read(&mut Reader::new(&nothing))
    }
}
