//! What the store keeps in memory: the conversations in use, with the events that the indexes do not know yet, and what changed
//! in the last half minute. Only the writer changes it, after each commit; readers look here first.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use flaghoist_runtime::names::{ConversationId, UserId};
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::conversation::Known;
use crate::event::{Event, Watermark};

/// How many conversations and members are kept, together.
const KEPT_MAX: usize = 200_000;

/// How far back changes are kept, in milliseconds; receivers ask for 15 seconds.
const RECENT_MS: i64 = 30_000;

/// An event that the indexes do not know yet.
#[derive(Debug)]
pub(super) struct TailEvent {
    pub(super) log_no: i64,
    pub(super) event: Arc<Event>,
}

/// A conversation in use.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) known: Known,
    pub(super) tail: VecDeque<TailEvent>,
    /// The batch that used it last.
    pub(super) used: u64,
}

/// What changed in a conversation lately; times are in milliseconds.
#[derive(Debug)]
pub(super) struct Recent {
    pub(super) id: ConversationId,
    pub(super) at: i64,
    pub(super) last_seq: u64,
    pub(super) added: Vec<(i64, UserId)>,
    pub(super) removed: Vec<(i64, UserId)>,
    pub(super) receipts: HashMap<UserId, (i64, Watermark)>,
}

/// Everything in memory.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) conversations: HashMap<ConversationId, Entry>,
    /// By the number of the conversation.
    pub(super) recent: HashMap<i64, Recent>,
    /// How often conversations were dropped from memory: a reader that found nothing here, and an old state in the file, sees by
    /// it whether it has to look again.
    pub(super) drops: u64,
    kept: usize,
    batch: u64,
    pruned_at: i64,
}

/// The memory and its lock, which is never held across an await.
#[derive(Debug, Default)]
pub(super) struct Live(RwLock<Shared>);

/// What looking for a conversation answered.
pub(super) enum Look<T> {
    /// It is in memory.
    Found(T),
    /// It is not; the file says what it is, unless `drops` has changed meanwhile.
    Absent {
        /// How often conversations were dropped from memory.
        drops: u64,
    },
}

impl Live {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, Shared> {
        self.0.read()
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Shared> {
        self.0.write()
    }

    /// Looks at a conversation.
    pub(super) fn look<T>(&self, id: ConversationId, at: impl FnOnce(&Entry) -> T) -> Look<T> {
        let shared = self.0.read();
        match shared.conversations.get(&id) {
            Some(entry) => Look::Found(at(entry)),
            None => Look::Absent { drops: shared.drops },
        }
    }
}

impl Shared {
    /// Begins a batch: what it uses counts as used last.
    pub(super) fn next_batch(&mut self) -> u64 {
        self.batch += 1;
        self.batch
    }

    /// Takes a conversation in.
    pub(super) fn insert(&mut self, known: Known) -> &mut Entry {
        self.kept += 1 + known.members.len();
        let used = self.batch;
        let id = known.head.id;
        self.conversations.entry(id).insert_entry(Entry { known, tail: VecDeque::new(), used }).into_mut()
    }

    /// Notes that people came to a conversation.
    pub(super) fn grow(&mut self, by: usize) {
        self.kept += by;
    }

    /// Drops the half that was used longest ago, if there is too much. What the indexes do not know stays.
    pub(super) fn shrink(&mut self) {
        if self.kept <= KEPT_MAX {
            return;
        }
        let mut uses: Vec<u64> = self.conversations.values().map(|entry| entry.used).collect();
        let middle = uses.len() / 2;
        let (_, middle, _) = uses.select_nth_unstable(middle);
        let middle = *middle;
        self.conversations.retain(|_, entry| entry.used > middle || !entry.tail.is_empty());
        self.drops += 1;
        self.kept = self.conversations.values().map(|entry| 1 + entry.known.members.len()).sum();
    }

    /// Notes a change in a conversation.
    pub(super) fn changed(&mut self, no: i64, id: ConversationId, last_seq: u64, now: i64) -> &mut Recent {
        if now - self.pruned_at > RECENT_MS / 3 {
            self.pruned_at = now;
            self.recent.retain(|_, recent| recent.keep_since(now - RECENT_MS));
        }
        let recent = self.recent.entry(no).or_insert_with(|| Recent {
            id,
            at: now,
            last_seq,
            added: Vec::new(),
            removed: Vec::new(),
            receipts: HashMap::new(),
        });
        recent.at = now;
        recent.last_seq = last_seq;
        recent
    }
}

impl Recent {
    fn keep_since(&mut self, since: i64) -> bool {
        self.added.retain(|(at, _)| *at >= since);
        self.removed.retain(|(at, _)| *at >= since);
        self.receipts.retain(|_, (at, _)| *at >= since);
        self.at >= since
    }
}
