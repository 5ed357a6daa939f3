//! What a batch of changes comes to: decided in memory, one change after the other, from the devices as they are, and told as the few
//! kinds of rows that have to be written. Nobody else changes these devices meanwhile: their lane is locked.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use flaghoist_runtime::names::{ConversationId, UserId};
use flaghoist_runtime::time::{from_millis, millis};
use uuid::Uuid;

use crate::store::{DeviceKey, ONLINE_LASTS, Write, Written};
use crate::stream::Position;

/// A device as its row says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) stream: Uuid,
    pub(super) created_at_ms: i64,
    pub(super) last_seen_at_ms: i64,
    pub(super) online_until_ms: i64,
}

/// What becomes of one device.
#[derive(Debug, Default)]
pub(super) struct Fate {
    /// As it was.
    before: Option<Row>,
    /// As it will be.
    after: Option<Row>,
    /// All positions from before go.
    pub(super) wiped: bool,
    /// These positions from before go.
    pub(super) forgotten: BTreeSet<ConversationId>,
    /// These are raised: to the higher one within an epoch, else they replace.
    pub(super) raised: BTreeMap<ConversationId, Position>,
}

impl Fate {
    /// The row goes.
    pub(super) fn deleted(&self) -> bool {
        self.before.is_some() && self.after.is_none()
    }

    /// The row is written.
    pub(super) fn written(&self) -> Option<&Row> {
        self.after.as_ref().filter(|after| self.before.as_ref() != Some(after))
    }

    fn acknowledge(&mut self, position: Position) {
        let raised = self.raised.entry(position.conversation).or_insert(position);
        if raised.epoch == position.epoch {
            raised.seq = raised.seq.max(position.seq);
        } else {
            // It replaces whatever is stored, also what has its own epoch again.
            *raised = position;
            self.forgotten.insert(position.conversation);
        }
    }

    fn forget(&mut self, conversations: Option<&[ConversationId]>) {
        match conversations {
            Some(conversations) => {
                for conversation in conversations {
                    self.raised.remove(conversation);
                    self.forgotten.insert(*conversation);
                }
            }
            None => {
                self.raised.clear();
                self.wiped = true;
            }
        }
    }
}

/// What a batch comes to.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) fates: BTreeMap<DeviceKey, Fate>,
    counts: HashMap<UserId, usize>,
    devices_max: usize,
    now_ms: i64,
}

impl Plan {
    /// Begins with all devices of everybody whom the batch is about.
    pub(super) fn new(found: impl IntoIterator<Item = (DeviceKey, Row)>, devices_max: u32, now_ms: i64) -> Self {
        let mut plan = Self {
            fates: BTreeMap::new(),
            counts: HashMap::new(),
            devices_max: usize::try_from(devices_max).unwrap_or(usize::MAX),
            now_ms,
        };
        for (key, row) in found {
            *plan.counts.entry(key.user).or_default() += 1;
            plan.fates.insert(key, Fate { before: Some(row), after: Some(row), ..Fate::default() });
        }
        plan
    }

    /// Makes one change, and says what became of it.
    pub(super) fn make(&mut self, write: &Write) -> Written {
        match write {
            Write::Open { key, stream } => self.open(key, *stream),
            Write::Acknowledge { key, stream, positions } => match self.named(key, *stream) {
                Ok(fate) => {
                    positions.iter().for_each(|position| fate.acknowledge(*position));
                    Written::Done
                }
                Err(refused) => refused,
            },
            Write::Forget { key, stream, conversations } => match self.named(key, Some(*stream)) {
                Ok(fate) => {
                    fate.forget(conversations.as_deref());
                    Written::Done
                }
                Err(refused) => refused,
            },
            Write::Touch { keys } => {
                for key in keys {
                    if let Some(row) = self.fates.get_mut(key).and_then(|fate| fate.after.as_mut()) {
                        row.last_seen_at_ms = row.last_seen_at_ms.max(self.now_ms);
                    }
                }
                Written::Done
            }
            Write::Present { streams, open } => {
                let online_until_ms = if *open { self.online_until_ms() } else { self.now_ms };
                for (key, stream) in streams {
                    let row = self.fates.get_mut(key).and_then(|fate| fate.after.as_mut());
                    if let Some(row) = row.filter(|row| row.stream == *stream) {
                        row.online_until_ms = online_until_ms;
                    }
                }
                Written::Done
            }
            Write::Delete { key } => match self.named(key, None) {
                Ok(fate) => {
                    fate.after = None;
                    fate.forget(None);
                    *self.counts.entry(key.user).or_default() -= 1;
                    Written::Done
                }
                Err(refused) => refused,
            },
        }
    }

    fn open(&mut self, key: &DeviceKey, stream: Uuid) -> Written {
        let (now_ms, online_until_ms) = (self.now_ms, self.online_until_ms());
        if let Some(row) = self.fates.get_mut(key).and_then(|fate| fate.after.as_mut()) {
            let last_seen_at_ms = row.last_seen_at_ms;
            *row = Row { stream, last_seen_at_ms: last_seen_at_ms.max(now_ms), online_until_ms, ..*row };
            return Written::Opened(Some(from_millis(last_seen_at_ms)));
        }
        let count = self.counts.entry(key.user).or_default();
        if *count >= self.devices_max {
            return Written::LimitReached;
        }
        *count += 1;
        let row = Row { stream, created_at_ms: now_ms, last_seen_at_ms: now_ms, online_until_ms };
        self.fates.entry(key.clone()).or_default().after = Some(row);
        Written::Opened(None)
    }

    fn online_until_ms(&self) -> i64 {
        millis(from_millis(self.now_ms) + ONLINE_LASTS)
    }

    /// The device, if its row names the stream; without a stream, if it is there.
    fn named(&mut self, key: &DeviceKey, stream: Option<Uuid>) -> Result<&mut Fate, Written> {
        let fate = self.fates.get_mut(key).ok_or(Written::NoDevice)?;
        match fate.after {
            None => Err(Written::NoDevice),
            Some(row) if stream.is_some_and(|stream| stream != row.stream) => Err(Written::Replaced),
            Some(_) => Ok(fate),
        }
    }
}
