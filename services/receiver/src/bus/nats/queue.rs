//! What waits to be said to NATS. It has a bound in words and in bytes; past it, and while NATS is away, only how far each conversation
//! goes is kept in mind, and said later: whoever hears that reads the rest of the log.

use std::collections::{HashMap, VecDeque};

use flaghoist_runtime::names::ConversationId;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::super::Subject;

/// How many words may wait.
const WORDS_MAX: usize = 16_384;

/// How many bytes of them.
const BYTES_MAX: usize = 8 * 1024 * 1024;

/// Of how many conversations it is kept in mind how far they go.
const HEADS_MAX: usize = 65_536;

/// A word on its way.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    /// Something to say as it is.
    Word(Subject, Vec<u8>),
    /// How far a conversation goes.
    Head(ConversationId, u64),
}

/// What became of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// It waits.
    Waits,
    /// Its place is taken by how far its conversation goes.
    Noted,
    /// It is lost.
    Lost,
}

/// What waits to be said.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Inside>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Inside {
    words: VecDeque<(Subject, Vec<u8>)>,
    bytes: usize,
    heads: HashMap<ConversationId, u64>,
    /// Whether words are taken; if not, only heads are.
    open: bool,
}

impl Queue {
    /// Whether words are taken, beside heads.
    pub(super) fn open(&self, open: bool) {
        self.waiting.lock().open = open;
        self.news.notify_one();
    }

    /// Adds a word. `head` says how far its conversation goes with it.
    pub(super) fn put(&self, subject: Subject, body: Vec<u8>, head: Option<u64>) -> Put {
        let mut waiting = self.waiting.lock();
        let put = if waiting.open && waiting.words.len() < WORDS_MAX && waiting.bytes + body.len() <= BYTES_MAX {
            waiting.bytes += body.len();
            waiting.words.push_back((subject, body));
            Put::Waits
        } else if let (Subject::Conversation(conversation), Some(seq)) = (subject, head) {
            waiting.note(conversation, seq)
        } else {
            Put::Lost
        };
        drop(waiting);
        self.news.notify_one();
        put
    }

    /// Keeps in mind how far a conversation goes.
    pub(super) fn note(&self, conversation: ConversationId, seq: u64) -> Put {
        let put = self.waiting.lock().note(conversation, seq);
        self.news.notify_one();
        put
    }

    /// The next thing to say, in the order of the words; how far conversations go comes when no words wait.
    pub(super) async fn next(&self) -> Waiting {
        loop {
            if let Some(waiting) = self.take() {
                return waiting;
            }
            self.news.notified().await;
        }
    }

    pub(super) fn take(&self) -> Option<Waiting> {
        let mut waiting = self.waiting.lock();
        if !waiting.open {
            return None;
        }
        if let Some((subject, body)) = waiting.words.pop_front() {
            waiting.bytes -= body.len();
            if waiting.words.is_empty() {
                waiting.words = VecDeque::new();
            }
            return Some(Waiting::Word(subject, body));
        }
        let conversation = *waiting.heads.keys().next()?;
        let seq = waiting.heads.remove(&conversation)?;
        if waiting.heads.is_empty() {
            waiting.heads = HashMap::new();
        }
        Some(Waiting::Head(conversation, seq))
    }

    /// How many things wait.
    pub(super) fn depth(&self) -> usize {
        let waiting = self.waiting.lock();
        waiting.words.len() + waiting.heads.len()
    }
}

impl Inside {
    fn note(&mut self, conversation: ConversationId, seq: u64) -> Put {
        if self.heads.len() >= HEADS_MAX && !self.heads.contains_key(&conversation) {
            return Put::Lost;
        }
        let head = self.heads.entry(conversation).or_default();
        *head = seq.max(*head);
        Put::Noted
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn conversation() -> ConversationId {
        ConversationId(Uuid::now_v7())
    }

    #[test]
    fn promise_8_past_its_bound_only_the_newest_head_of_each_conversation_is_kept() {
        let (queue, hall, yard) = (Queue::default(), conversation(), conversation());
        queue.open(true);
        let large = vec![0; 1024 * 1024];
        for seq in 1..=8 {
            assert_eq!(queue.put(Subject::Conversation(hall), large.clone(), Some(seq)), Put::Waits);
        }
        for seq in [11, 9, 10] {
            assert_eq!(queue.put(Subject::Conversation(hall), large.clone(), Some(seq)), Put::Noted);
        }
        assert_eq!(queue.put(Subject::Conversation(yard), vec![0; 9], None), Put::Lost, "typing is not kept");
        assert_eq!(queue.depth(), 9);
        for _ in 1..=8 {
            assert!(matches!(queue.take(), Some(Waiting::Word(..))));
        }
        assert_eq!(queue.take(), Some(Waiting::Head(hall, 11)));
        assert_eq!(queue.take(), None);
        for number in 0..=WORDS_MAX {
            let put = queue.put(Subject::Conversation(yard), Vec::new(), None);
            assert_eq!(put, if number < WORDS_MAX { Put::Waits } else { Put::Lost });
        }
    }

    #[test]
    fn while_nats_is_away_heads_are_kept_up_to_a_bound_and_said_when_it_is_back() {
        let (queue, hall) = (Queue::default(), conversation());
        assert_eq!(queue.put(Subject::Conversation(hall), vec![1], Some(4)), Put::Noted);
        for _ in 1..HEADS_MAX {
            assert_eq!(queue.note(conversation(), 1), Put::Noted);
        }
        assert_eq!(queue.note(conversation(), 1), Put::Lost);
        assert_eq!(queue.note(hall, 5), Put::Noted);
        assert_eq!((queue.take(), queue.depth()), (None, HEADS_MAX));
        queue.open(true);
        let heads = std::iter::from_fn(|| queue.take()).collect::<Vec<_>>();
        assert!(heads.len() == HEADS_MAX && heads.contains(&Waiting::Head(hall, 5)));
    }
}
