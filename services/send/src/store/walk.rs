//! Walks one person's stretches of a log: which events belong on a page, and which one each follows. A store says how it reads
//! a range of rows; what the person may see is the same for every store.

use std::future::Future;

use flaghoist_runtime::names::UserId;

use super::{Messages, Slice};
use crate::conversation::View;
use crate::event::{EventKind, Message};

/// How many events one call looks through for messages.
const SCAN_EVENTS: u64 = 1000;

/// How many events are read at once where it is not known how many are needed.
const STEP_EVENTS: u64 = 256;

/// The log of one conversation, as far as it went when `View` was taken.
pub(super) trait Rows: Sync {
    /// Why rows cannot be read.
    type Error;

    /// The events from `low` to `high`, at most `limit` of them, in the order asked for; messages with their newest edit.
    fn range(
        &self,
        low: u64,
        high: u64,
        limit: u64,
        newest_first: bool,
    ) -> impl Future<Output = Result<Vec<Message>, Self::Error>> + Send;
}

/// A page of messages beyond `from`.
pub(super) async fn messages<R: Rows>(
    rows: &R,
    view: &View,
    from: u64,
    oldest_first: bool,
    limit: usize,
) -> Result<Messages, R::Error> {
    let last_seq = view.member.last_seq(&view.head);
    let mut stretches: Vec<(u64, u64)> = view.member.stretches(last_seq).collect();
    if !oldest_first {
        stretches.reverse();
    }
    let mut messages = Vec::new();
    let mut scanned = 0;
    for (low, high) in stretches {
        let (mut low, mut high) =
            if oldest_first { (low.max(from + 1), high) } else { (low, high.min(from.saturating_sub(1))) };
        while low <= high {
            if messages.len() >= limit || scanned >= SCAN_EVENTS {
                let next = if oldest_first { low - 1 } else { high + 1 };
                return Ok(Messages { messages, next: Some(next) });
            }
            let step = STEP_EVENTS.min(high - low + 1).min((limit - messages.len()) as u64 * 2);
            let (first, last) = if oldest_first { (low, low + step - 1) } else { (high - (step - 1), high) };
            let missing = limit - messages.len();
            let read = rows.range(first, last, step, !oldest_first).await?;
            let all = read.into_iter().filter(|message| message.event.kind == EventKind::MessageCreated);
            messages.extend(all.take(missing));
            scanned += step;
            // A page that is full ends at its last message, else at the end of what was read.
            let full = messages.len() >= limit;
            let end = messages.last().filter(|_| full).map(|message: &Message| message.event.seq);
            if oldest_first {
                low = end.unwrap_or(last) + 1;
            } else {
                high = end.unwrap_or(first) - 1;
            }
        }
    }
    Ok(Messages { messages, next: None })
}

/// The events after a position, at most `limit` of them and `bytes_max` of content, but at least one.
pub(super) async fn events<R: Rows>(
    rows: &R,
    view: &View,
    person: UserId,
    after_seq: u64,
    limit: usize,
    bytes_max: usize,
) -> Result<Slice, R::Error> {
    let last_seq = view.member.last_seq(&view.head);
    let visible = |message: &Message| message.event.only_for.is_none_or(|only| only == person);
    let mut slice = Slice { events: Vec::new(), read_through_seq: after_seq.min(last_seq), last_seq };
    let mut previous = None;
    let mut bytes = 0;
    for (low, high) in view.member.stretches(last_seq) {
        // The event at the position itself is read along: most often it is the one before the first.
        let mut at = low.max(after_seq);
        while at <= high && high > after_seq {
            if slice.events.len() >= limit {
                return Ok(slice);
            }
            let step = (limit - slice.events.len()) as u64 + 1;
            let read = rows.range(at, high, step, false).await?;
            let Some(end) = read.last().map(|message| message.event.seq) else { break };
            for message in read {
                let seq = message.event.seq;
                if seq <= after_seq {
                    previous = visible(&message).then_some(seq).or(previous);
                    continue;
                }
                if visible(&message) {
                    bytes += message.event.body.len();
                    if slice.events.len() >= limit || (bytes > bytes_max && !slice.events.is_empty()) {
                        return Ok(slice);
                    }
                    let before = match previous {
                        Some(before) => before,
                        None => seen_before(rows, view, person, seq).await?,
                    };
                    previous = Some(seq);
                    slice.events.push((message.event, before));
                }
                slice.read_through_seq = seq;
            }
            at = end + 1;
        }
    }
    slice.read_through_seq = last_seq;
    Ok(slice)
}

/// The newest event before `seq` that the person may see, or 0.
async fn seen_before<R: Rows>(rows: &R, view: &View, person: UserId, seq: u64) -> Result<u64, R::Error> {
    let stretches = view.member.stretches(seq - 1).filter(|(low, _)| *low < seq);
    for (low, high) in stretches.rev() {
        let mut high = high.min(seq - 1);
        while low <= high {
            let first = low.max(high.saturating_sub(7));
            let read = rows.range(first, high, 8, true).await?;
            let seen = read.iter().find(|message| message.event.only_for.is_none_or(|only| only == person));
            if let Some(seen) = seen {
                return Ok(seen.event.seq);
            }
            high = first - 1;
        }
    }
    Ok(0)
}
