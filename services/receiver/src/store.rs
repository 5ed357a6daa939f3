//! What the receiver keeps: devices and what each has acknowledged. A backend is what passes the suite in `conformance.rs`.

#[cfg(test)]
pub(crate) mod conformance;
pub(crate) mod postgres;
pub(crate) mod sqlite;
pub(crate) mod transfer;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use flaghoist_runtime::names::{ConversationId, DeviceId, UserId};
use uuid::Uuid;

use crate::stream::Position;

/// A device of a person.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct DeviceKey {
    pub(crate) user: UserId,
    pub(crate) device: DeviceId,
}

/// A device as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) device: DeviceId,
    pub(crate) created_at: SystemTime,
    pub(crate) last_seen_at: SystemTime,
    /// Until when a stream of it counts as open, on whatever pod; nothing where the store has one process, which knows by itself.
    pub(crate) online_until: Option<SystemTime>,
}

/// How long a stream counts as open after its pod has said so; it says so every minute.
const ONLINE_LASTS: Duration = Duration::from_secs(150);

/// One change.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    /// Makes the device if it is not there, and names the stream that may acknowledge from now on.
    Open {
        /// The device.
        key: DeviceKey,
        /// The stream.
        stream: Uuid,
    },
    /// Raises positions. Those of one epoch only rise; one of another epoch replaces.
    Acknowledge {
        /// The device.
        key: DeviceKey,
        /// The stream that they came on; none if they came by a call of their own.
        stream: Option<Uuid>,
        /// The positions.
        positions: Vec<Position>,
    },
    /// Forgets positions of the device, while its row names the stream: those listed, or all.
    Forget {
        /// The device.
        key: DeviceKey,
        /// The stream that asks.
        stream: Uuid,
        /// Which ones; all if none are listed.
        conversations: Option<Vec<ConversationId>>,
    },
    /// The devices were there just now.
    Touch {
        /// The devices.
        keys: Vec<DeviceKey>,
    },
    /// Streams are open now, or are not any more; says nothing about devices that name other streams.
    Present {
        /// The devices and their streams.
        streams: Vec<(DeviceKey, Uuid)>,
        /// Whether they are open.
        open: bool,
    },
    /// Removes the device with its positions.
    Delete {
        /// The device.
        key: DeviceKey,
    },
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// It is durable.
    Done,
    /// The device was opened. It was last seen then; never if it is new.
    Opened(Option<SystemTime>),
    /// The person has as many devices as they may.
    LimitReached,
    /// There is no such device.
    NoDevice,
    /// A newer stream of the device took over.
    Replaced,
}

/// The store failed. What was to be written together is not written.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the store of devices failed")]
pub(crate) struct StoreError {
    /// Whether it may go well later: a full disk, a lock.
    pub(crate) transient: bool,
    #[source]
    pub(crate) source: Arc<sqlx::Error>,
}

impl From<sqlx::Error> for StoreError {
    fn from(source: sqlx::Error) -> Self {
        use sqlx::postgres::PgDatabaseError;
        let postgres =
            source.as_database_error().is_some_and(|error| error.try_downcast_ref::<PgDatabaseError>().is_some());
        let transient = match postgres {
            true => flaghoist_runtime::postgres::transient(&source),
            false => flaghoist_runtime::sqlite::transient(&source),
        };
        Self { transient, source: Arc::new(source) }
    }
}

/// Where devices and positions are kept.
#[async_trait::async_trait]
pub(crate) trait Store: Send + Sync + 'static {
    /// Whether other processes may use the same devices.
    fn shared(&self) -> bool;

    /// Makes all changes, those of one device in their order. They are on disk when this answers, each in its place; where it fails,
    /// acknowledgements may be on disk all the same. What others write to the same devices meanwhile, in this process or another,
    /// comes before or after, never in between.
    async fn write(&self, writes: &[Write], now: SystemTime) -> Result<Vec<Written>, StoreError>;

    /// What the device has acknowledged; sees every write that has been answered.
    async fn positions(&self, key: &DeviceKey) -> Result<Vec<Position>, StoreError>;

    /// The devices of a person in the order of their ids; sees every write that has been answered.
    async fn devices(&self, user: UserId) -> Result<Vec<Device>, StoreError>;

    /// The streams that the rows of the devices name, each in its place; nothing for a device that is not there.
    async fn streams(&self, keys: &[DeviceKey]) -> Result<Vec<Option<Uuid>>, StoreError>;

    /// Removes devices, with their positions, that were last seen before `before`: `count_max` at most. Answers which ones.
    async fn expire(&self, before: SystemTime, count_max: u32) -> Result<Vec<DeviceKey>, StoreError>;
}
