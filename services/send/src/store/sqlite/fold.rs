//! Folding: what the log says is brought into the indexes and counters in rounds. A round takes everything that the log has got
//! since the one before, sorted by conversation, and a piece of it is folded with each batch. So a page of an index is dirtied
//! about once a round and not once a message, and no batch waits long. What of a round was folded before a crash is folded once
//! more after it, which changes nothing.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

use flaghoist_runtime::names::{ConversationId, UserId};
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::commit::{RequestKey, bind};
use super::rows::{self, HEADS, PLACES, REQUESTS, ROWS_MAX, SENT, signed};

/// With this many rows a round begins. More of them make a page's way to the disk cheaper, and a start after a crash slower.
const ROUND_ROWS: usize = if cfg!(test) { 8 } else { 32_768 };

/// With this much content a round begins: until it is folded it is in memory.
const ROUND_BYTES: usize = 16 << 20;

/// When the oldest row has waited so long a round begins, in milliseconds.
const ROUND_MS: i64 = if cfg!(test) { 20 } else { 4_000 };

/// A piece is twice what the batch brings, so that a round ends before the next one is full, and this many rows more.
const PIECE_ROWS: usize = if cfg!(test) { 1 } else { 16 };

/// What the indexes are to know of an event.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Unfolded {
    pub(super) log_no: i64,
    pub(super) conversation: ConversationId,
    pub(super) conversation_no: i64,
    pub(super) seq: u64,
    pub(super) message_no: u64,
    /// How many messages its sender has sent up to this one; 0 for other events.
    pub(super) sent_no: u64,
    pub(super) sender: UserId,
    /// Whether it is for every member, and not for one person alone.
    pub(super) public: bool,
    pub(super) key: RequestKey,
    pub(super) created_at: i64,
    /// How much of it is in memory.
    pub(super) bytes: usize,
}

/// The rows of the log that the indexes do not know yet.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// In the order of the log.
    waiting: VecDeque<Unfolded>,
    /// What is left of the round: by conversation and `seq`, the next one last.
    round: Vec<Unfolded>,
    /// The last row of the log that belongs to the round.
    round_through: i64,
    bytes: usize,
}

impl Backlog {
    /// Takes the next row of the log.
    pub(super) fn push(&mut self, row: Unfolded) {
        self.bytes += row.bytes;
        self.waiting.push_back(row);
    }

    /// Begins a round if it is time for one, and says how many of its rows to fold with a batch of `batch_events`.
    pub(super) fn due(&mut self, now: i64, batch_events: usize) -> usize {
        if self.round.is_empty() && self.full(now) {
            self.begin_round();
        }
        self.round.len().min(2 * batch_events + PIECE_ROWS)
    }

    fn full(&self, now: i64) -> bool {
        let waited_ms = self.waiting.front().map_or(0, |oldest| now - oldest.created_at);
        self.waiting.len() >= ROUND_ROWS || self.bytes >= ROUND_BYTES || waited_ms >= ROUND_MS
    }

    fn begin_round(&mut self) {
        self.round_through = self.waiting.back().map_or(self.round_through, |newest| newest.log_no);
        self.round = self.waiting.drain(..).collect();
        self.round.sort_unstable_by_key(|row| Reverse((row.conversation_no, row.seq)));
    }

    /// Folds the next `count` rows of the round. Once that is committed, [`Backlog::folded`] forgets them.
    pub(super) async fn fold(&self, connection: &mut SqliteConnection, count: usize) -> Result<(), sqlx::Error> {
        if count == 0 {
            return Ok(());
        }
        let left = self.round.len() - count;
        for piece in self.round[left..].rchunks(ROWS_MAX) {
            write(connection, piece).await?;
        }
        if left == 0 {
            sqlx::query("INSERT OR REPLACE INTO meta (key, value) VALUES ('folded_through', ?1)")
                .bind(self.round_through)
                .execute(connection)
                .await?;
        }
        Ok(())
    }

    /// Forgets the next `count` rows of the round and says which they were, in the order of their conversations' logs.
    pub(super) fn folded(&mut self, count: usize) -> impl Iterator<Item = Unfolded> {
        let folded = self.round.split_off(self.round.len() - count);
        self.bytes -= folded.iter().map(|row| row.bytes).sum::<usize>();
        folded.into_iter().rev()
    }
}

/// Folds what the process before left.
pub(super) async fn settle(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let rows = sqlx::query(
        "SELECT l.no, c.id, c.no, l.seq, l.message_no, l.sent_no, l.sender_id, l.visible_to IS NULL, l.request_key,
             l.created_at
         FROM log l JOIN conversations c ON c.no = l.conversation_no
         WHERE l.no > coalesce((SELECT value FROM meta WHERE key = 'folded_through'), 0) ORDER BY l.no",
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut left = Backlog::default();
    for row in &rows {
        left.push(unfolded(row)?);
    }
    left.begin_round();
    left.fold(connection, left.round.len()).await
}

fn unfolded(row: &SqliteRow) -> Result<Unfolded, sqlx::Error> {
    let key: &[u8] = row.try_get(8)?;
    Ok(Unfolded {
        log_no: row.try_get(0)?,
        conversation: ConversationId(rows::uuid(row, 1)?),
        conversation_no: row.try_get(2)?,
        seq: rows::unsigned(row, 3)?,
        message_no: rows::unsigned(row, 4)?,
        sent_no: rows::unsigned(row, 5)?,
        sender: UserId(rows::uuid(row, 6)?),
        public: row.try_get(7)?,
        key: key.try_into().map_err(|error| rows::broken(8, error))?,
        created_at: row.try_get(9)?,
        bytes: 0,
    })
}

/// Writes a piece of a round, at most [`ROWS_MAX`] rows.
async fn write(connection: &mut SqliteConnection, piece: &[Unfolded]) -> Result<(), sqlx::Error> {
    let mut values = PLACES.arguments(piece.len());
    for row in piece.iter().rev() {
        bind(&mut values, row.conversation_no)?;
        bind(&mut values, signed(row.seq))?;
        bind(&mut values, row.log_no)?;
    }
    PLACES.write(connection, piece.len(), values).await?;

    let mut requests: Vec<(RequestKey, i64)> = piece.iter().map(|row| (row.key, row.log_no)).collect();
    requests.sort_unstable();
    let mut values = REQUESTS.arguments(requests.len());
    for (key, log_no) in &requests {
        bind(&mut values, key.to_vec())?;
        bind(&mut values, *log_no)?;
    }
    REQUESTS.write(connection, requests.len(), values).await?;

    // The later one of a conversation comes first.
    let mut heads: BTreeMap<i64, (u64, u64, u64)> = BTreeMap::new();
    let mut sent: BTreeMap<(i64, UserId), u64> = BTreeMap::new();
    for row in piece {
        let (_, public_seq, _) = heads.entry(row.conversation_no).or_insert((row.seq, 0, row.message_no));
        if row.public {
            *public_seq = row.seq.max(*public_seq);
        }
        if row.sent_no > 0 {
            let newest = sent.entry((row.conversation_no, row.sender)).or_default();
            *newest = row.sent_no.max(*newest);
        }
    }
    let mut values = HEADS.arguments(heads.len());
    for (no, (last_seq, public_seq, message_no)) in &heads {
        bind(&mut values, *no)?;
        bind(&mut values, signed(*last_seq))?;
        bind(&mut values, signed(*public_seq))?;
        bind(&mut values, signed(*message_no))?;
    }
    HEADS.write(connection, heads.len(), values).await?;
    if sent.is_empty() {
        return Ok(());
    }
    let mut values = SENT.arguments(sent.len());
    for ((no, sender), sent_no) in &sent {
        bind(&mut values, *no)?;
        bind(&mut values, sender.0.as_bytes().to_vec())?;
        bind(&mut values, signed(*sent_no))?;
    }
    SENT.write(connection, sent.len(), values).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(log_no: i64, conversation_no: i64, seq: u64, created_at: i64) -> Unfolded {
        let id = uuid::Uuid::from_u128(conversation_no.unsigned_abs().into());
        Unfolded {
            log_no,
            conversation: ConversationId(id),
            conversation_no,
            seq,
            message_no: seq,
            sent_no: seq,
            sender: UserId(id),
            public: true,
            key: [0; 16],
            created_at,
            bytes: 3,
        }
    }

    #[test]
    fn a_round_goes_through_the_conversations_and_ends_before_the_next_one_is_full() {
        let mut backlog = Backlog::default();
        let mut folded = Vec::new();
        let mut log_no = 0;
        let mut longest = 0;
        for now in 0..1000_i64 {
            let events = usize::try_from(now % 5).unwrap();
            let count = backlog.due(now, events);
            assert!(count <= 2 * events + PIECE_ROWS);
            folded.extend(backlog.folded(count));
            for _ in 0..events {
                log_no += 1;
                backlog.push(row(log_no, log_no % 3, log_no.unsigned_abs(), now));
            }
            longest = longest.max(backlog.waiting.len() + backlog.round.len());
        }
        assert!(longest <= 3 * ROUND_ROWS, "{longest}");
        assert_eq!(backlog.bytes, 3 * (backlog.waiting.len() + backlog.round.len()));
        for conversation in 0..3 {
            let seqs: Vec<u64> =
                folded.iter().filter(|row| row.conversation_no == conversation).map(|row| row.seq).collect();
            assert!(seqs.is_sorted() && seqs.len() > 500, "each log is folded in its order");
        }
    }

    #[test]
    fn a_few_rows_wait_for_more_but_not_for_long() {
        let mut backlog = Backlog::default();
        backlog.push(row(1, 1, 1, 0));
        assert_eq!(backlog.due(ROUND_MS - 1, 1), 0);
        assert_eq!(backlog.due(ROUND_MS, 1), 1);
    }
}
