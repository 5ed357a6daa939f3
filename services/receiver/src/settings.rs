//! What can be set about the receiver.

use std::time::Duration;

use flaghoist_runtime::StoreAddress;
use flaghoist_runtime::settings::{Reader, Setting};

use crate::bus::BusAddress;

const STORE: Setting = Setting {
    name: "FLAGHOIST_RECEIVER_STORE",
    default: "sqlite",
    doc: "where devices and positions are kept: `sqlite`, or postgres://USER:PASSWORD@HOST:5432/DATABASE",
};
const STORE_CONNECTIONS: Setting = Setting {
    name: "FLAGHOIST_RECEIVER_STORE_CONNECTIONS",
    default: "16",
    doc: "how many connections to PostgreSQL this process opens at most",
};
const BUS: Setting = Setting {
    name: "FLAGHOIST_RECEIVER_BUS",
    default: "local",
    doc: "how the pods of the receiver tell one another what is new: `local` if there is one, or nats://USER:PASSWORD@HOST:4222, several separated by commas",
};
const STREAMS_MAX: Setting = Setting {
    name: "FLAGHOIST_RECEIVER_STREAMS_MAX",
    default: "100000",
    doc: "how many streams may be open at once in this process; more are refused with RESOURCE_EXHAUSTED",
};
const DEVICES_MAX: Setting =
    Setting { name: "FLAGHOIST_RECEIVER_DEVICES_MAX", default: "20", doc: "how many devices a person may have" };
const DEVICE_EXPIRY: Setting = Setting {
    name: "FLAGHOIST_RECEIVER_DEVICE_EXPIRY",
    default: "90d",
    doc: "after what time a device that was not seen is removed with its positions",
};
const HEARTBEAT: Setting = Setting {
    name: "FLAGHOIST_RECEIVER_HEARTBEAT",
    default: "12s",
    doc: "after what time without anything to say a stream says that it is there; clients count on 15 s",
};
const SILENCE: Setting = Setting {
    name: "FLAGHOIST_RECEIVER_SILENCE",
    default: "30s",
    doc: "after what time a device that says nothing is counted as gone",
};
const SWEEP: Setting = Setting {
    name: "FLAGHOIST_RECEIVER_SWEEP",
    default: "4s",
    doc: "how often the log is asked for what hints may have been lost; at least every 2 s while the bus is away",
};
const RECONNECT_SPREAD: Setting = Setting {
    name: "FLAGHOIST_RECEIVER_RECONNECT_SPREAD",
    default: "5s",
    doc: "over what time the devices of a stopping server are told to come back",
};
const TYPING_PER_MINUTE: Setting = Setting {
    name: "FLAGHOIST_RECEIVER_TYPING_PER_MINUTE",
    default: "60",
    doc: "how often a minute a person may say that they are typing",
};

/// Every setting of the receiver.
pub const SETTINGS: &[Setting] = &[
    STORE,
    STORE_CONNECTIONS,
    BUS,
    STREAMS_MAX,
    DEVICES_MAX,
    DEVICE_EXPIRY,
    HEARTBEAT,
    SILENCE,
    SWEEP,
    RECONNECT_SPREAD,
    TYPING_PER_MINUTE,
];

/// The settings of the receiver.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where devices and positions are kept.
    pub store: StoreAddress,
    /// How many connections to PostgreSQL this process opens at most.
    pub store_connections: u32,
    /// How the pods tell one another what is new.
    pub bus: BusAddress,
    /// How many streams may be open at once in this process.
    pub streams_max: usize,
    /// How many devices a person may have.
    pub devices_max: u32,
    /// After what time a device that was not seen is removed.
    pub device_expiry: Duration,
    /// After what time without anything to say a stream says that it is there.
    pub heartbeat: Duration,
    /// After what time a device that says nothing is counted as gone.
    pub silence: Duration,
    /// How often the log is asked for what hints may have been lost.
    pub sweep: Duration,
    /// Over what time the devices of a stopping server are told to come back.
    pub reconnect_spread: Duration,
    /// How often a minute a person may say that they are typing.
    pub typing_per_minute: u32,
}

impl Settings {
    /// Reads the settings; mistakes are noted in the reader.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        let seconds = Duration::from_secs;
        Self {
            store: StoreAddress::read(reader, &STORE),
            store_connections: reader.number(&STORE_CONNECTIONS, 1..=256),
            bus: BusAddress::read(reader, &BUS),
            streams_max: reader.number(&STREAMS_MAX, 1..=10_000_000),
            devices_max: reader.number(&DEVICES_MAX, 1..=1000),
            device_expiry: reader.duration(&DEVICE_EXPIRY, seconds(3600)..=seconds(10 * 365 * 86_400)),
            heartbeat: reader.duration(&HEARTBEAT, seconds(1)..=seconds(15)),
            silence: reader.duration(&SILENCE, seconds(5)..=seconds(300)),
            sweep: reader.duration(&SWEEP, Duration::from_millis(100)..=seconds(60)),
            reconnect_spread: reader.duration(&RECONNECT_SPREAD, Duration::from_millis(1)..=seconds(300)),
            typing_per_minute: reader.number(&TYPING_PER_MINUTE, 1..=6000),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        let none = std::collections::BTreeMap::<String, String>::new();
        Self::read(&mut Reader::new(&none))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_defaults_are_read_without_mistakes() {
        let none = BTreeMap::<String, String>::new();
        let mut reader = Reader::new(&none);
        let settings = Settings::read(&mut reader);
        reader.finish().unwrap();
        assert_eq!(settings.devices_max, 20);
        assert_eq!(settings.device_expiry, Duration::from_secs(90 * 86_400));
    }

    #[test]
    fn every_mistake_is_named() {
        let wrong = SETTINGS.iter().map(|setting| (setting.name, "x")).collect::<BTreeMap<_, _>>();
        let mut reader = Reader::new(&wrong);
        Settings::read(&mut reader);
        assert_eq!(reader.finish().unwrap_err().0.len(), SETTINGS.len());
    }
}
