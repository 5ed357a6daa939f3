//! Acknowledgements, which are nearly all that is written: those of a batch by one statement that is a transaction of its own. It
//! stores the positions of every device whose row names the stream that they came on, and tells which devices these were.
//!
//! It holds their lanes together with other such statements, and the rows of the devices until it is committed. A device that was opened
//! by another stream, or removed, while it waited for either is seen as it is then. What else a batch holds, and an acknowledgement
//! that was not stored, is left to the transaction that has the lanes alone and says why.

use std::collections::btree_map::{BTreeMap, Entry};

use flaghoist_runtime::names::ConversationId;
use sqlx::Row as _;
use sqlx::postgres::PgPool;
use uuid::Uuid;

use super::{LOCKS, bytes, columns, decode, lanes_of, sql};
use crate::store::{DeviceKey, Write};
use crate::stream::Position;

/// What a device acknowledges in one batch.
#[derive(Debug)]
struct Acknowledged {
    stream: Option<Uuid>,
    /// The places of the calls in the batch.
    places: Vec<usize>,
    positions: BTreeMap<ConversationId, Position>,
}

/// What can be stored by one statement: the acknowledgements of devices of which the batch wants nothing else.
#[derive(Debug)]
pub(super) struct Acknowledgements<'w>(BTreeMap<&'w DeviceKey, Acknowledged>);

impl<'w> Acknowledgements<'w> {
    /// Those of a batch.
    pub(super) fn of(writes: &'w [Write]) -> Self {
        // None for a device of which more is wanted.
        let mut of_devices: BTreeMap<&DeviceKey, Option<Acknowledged>> = BTreeMap::new();
        for (place, write) in writes.iter().enumerate() {
            match write {
                Write::Acknowledge { key, stream, positions } => {
                    let device = match of_devices.entry(key) {
                        Entry::Occupied(entry) => entry.into_mut(),
                        Entry::Vacant(entry) => entry.insert(Some(Acknowledged {
                            stream: *stream,
                            places: Vec::new(),
                            positions: BTreeMap::new(),
                        })),
                    };
                    if device.as_mut().is_some_and(|device| !device.add(place, *stream, positions)) {
                        *device = None;
                    }
                }
                Write::Open { key, .. } | Write::Forget { key, .. } | Write::Delete { key } => {
                    of_devices.insert(key, None);
                }
                // Neither asks for positions nor changes them.
                Write::Touch { .. } | Write::Present { .. } => {}
            }
        }
        Self(of_devices.into_iter().filter_map(|(key, device)| Some((key, device?))).collect())
    }

    /// Stores them; answers the places of the calls whose positions are on disk.
    pub(super) async fn store(&self, pool: &PgPool) -> sqlx::Result<Vec<usize>> {
        if self.0.is_empty() {
            return Ok(Vec::new());
        }
        let (users, devices) = columns(self.0.keys().copied());
        let streams: Vec<Option<&[u8]>> = self.0.values().map(|device| device.stream.as_ref().map(bytes)).collect();
        let positions = || {
            // As the statement counts the devices.
            let numbered = (1_i64..).zip(self.0.values());
            numbered.flat_map(|(number, device)| device.positions.values().map(move |position| (number, position)))
        };
        let rows = sqlx::query(sql::ACKNOWLEDGE)
            .bind(LOCKS)
            .bind(lanes_of(self.0.keys().map(|key| key.user)))
            .bind(users)
            .bind(devices)
            .bind(streams)
            .bind(positions().map(|(number, _)| number).collect::<Vec<_>>())
            .bind(positions().map(|(_, position)| bytes(&position.conversation.0)).collect::<Vec<_>>())
            .bind(positions().map(|(_, position)| position.epoch.cast_signed()).collect::<Vec<_>>())
            .bind(positions().map(|(_, position)| position.seq.cast_signed()).collect::<Vec<_>>())
            .fetch_all(pool)
            .await?;
        let of_devices: Vec<&Acknowledged> = self.0.values().collect();
        let mut stored = Vec::new();
        for row in &rows {
            let number = usize::try_from(row.try_get::<i64, _>(0)?).map_err(decode)?;
            if let Some(device) = number.checked_sub(1).and_then(|index| of_devices.get(index)) {
                stored.extend_from_slice(&device.places);
            }
        }
        Ok(stored)
    }
}

impl Acknowledged {
    /// Adds a call; whether it fits to those before it, which are of one stream and say one epoch of a conversation.
    fn add(&mut self, place: usize, stream: Option<Uuid>, positions: &[Position]) -> bool {
        if stream != self.stream {
            return false;
        }
        self.places.push(place);
        positions.iter().all(|position| {
            let highest = self.positions.entry(position.conversation).or_insert(*position);
            highest.seq = highest.seq.max(position.seq);
            highest.epoch == position.epoch
        })
    }
}
