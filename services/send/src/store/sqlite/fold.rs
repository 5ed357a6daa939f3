//! Folding: what the log says is brought into the indexes and counters in bulk, sorted, without a parameter a row. Where a batch
//! of messages would dirty a page of each index for nearly every one of them, a fold of thousands dirties each page once.

use sqlx::sqlite::SqliteConnection;

/// With this many rows to fold a quiet writer folds, so many at a time that nobody waits long.
const QUIET_ROWS: i64 = if cfg!(test) { 5 } else { 512 };

/// When recent batches had fewer events than this there is time for folding.
const QUIET_EVENTS: usize = if cfg!(test) { 3 } else { 16 };

/// With this many rows to fold a busy writer folds them all. (Tried: folding with each batch twice what it brings. Nobody waits
/// long for a fold then, but nearly every row dirties a page of its own, and the sends a second fall from 28,000 to 17,000.)
const BUSY_ROWS: i64 = if cfg!(test) { 12 } else { 8192 };

/// With this much content to fold a busy writer folds it all: until then it is in memory.
const BUSY_BYTES: usize = 16 << 20;

/// How large batches are lately: a maximum that halves with each batch. One batch alone says little: at the limit of the machine a
/// batch of hundreds is followed by one of the first call that comes after it (tried: taking that one for quiet, the writer
/// folded between all large batches, wrote a page a message and spent half its time on it).
pub(super) fn recent(before: usize, batch_events: usize) -> usize {
    batch_events.max(before / 2)
}

/// Up to which row of the log to fold now, if at all. `next` is the row that is written next.
pub(super) fn due(folded_through: i64, next: i64, bytes: usize, recent_events: usize) -> Option<i64> {
    let rows = next - 1 - folded_through;
    if rows >= BUSY_ROWS || bytes >= BUSY_BYTES {
        Some(next - 1)
    } else if rows >= QUIET_ROWS && recent_events < QUIET_EVENTS {
        Some(folded_through + QUIET_ROWS)
    } else {
        None
    }
}

/// Folds the rows after `from` up to `through`.
pub(super) async fn fold(connection: &mut SqliteConnection, from: i64, through: i64) -> Result<(), sqlx::Error> {
    const STEPS: [&str; 4] = [
        "INSERT INTO places (conversation_no, seq, log_no)
         SELECT conversation_no, seq, no FROM log WHERE no > ?1 AND no <= ?2 ORDER BY conversation_no, seq",
        "INSERT INTO requests (key, log_no)
         SELECT request_key, no FROM log WHERE no > ?1 AND no <= ?2 ORDER BY request_key, no",
        "UPDATE conversations SET last_seq = t.last_seq, last_public_seq = max(conversations.last_public_seq, t.public_seq),
             last_message_no = t.message_no
         FROM (SELECT conversation_no, max(seq) AS last_seq, max(message_no) AS message_no,
                   max(CASE WHEN visible_to IS NULL THEN seq ELSE 0 END) AS public_seq
               FROM log WHERE no > ?1 AND no <= ?2 GROUP BY conversation_no) AS t
         WHERE conversations.no = t.conversation_no",
        "UPDATE members SET sent_no = max(members.sent_no, t.sent_no)
         FROM (SELECT conversation_no, sender_id, max(sent_no) AS sent_no
               FROM log WHERE no > ?1 AND no <= ?2 AND kind = 1 GROUP BY conversation_no, sender_id) AS t
         WHERE members.conversation_no = t.conversation_no AND members.user_id = t.sender_id",
    ];
    for step in STEPS {
        sqlx::query(step).bind(from).bind(through).execute(&mut *connection).await?;
    }
    sqlx::query("INSERT OR REPLACE INTO meta (key, value) VALUES ('folded_through', ?1)")
        .bind(through)
        .execute(connection)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_small_batch_after_a_large_one_is_not_taken_for_quiet() {
        let busy = recent(0, 500);
        let after_one = recent(busy, 1);
        assert_eq!(due(0, QUIET_ROWS + 1, 0, after_one), None);
        let after_many = (0..10).fold(busy, |before, _| recent(before, 1));
        assert_eq!(due(0, QUIET_ROWS + 1, 0, after_many), Some(QUIET_ROWS));
    }
}
