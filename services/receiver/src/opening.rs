//! How a stream finds out where it begins: which stream the device listens to now, what it has acknowledged, how far each
//! conversation goes, and whether these fit together.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flaghoist_proto::receiver::v1::ResetReason;
use flaghoist_runtime::names::ConversationId;

use crate::error::Error;
use crate::live::Live;
use crate::log::{HeadsOf, LogHead};
use crate::service::{Receiver, device_name};
use crate::store::{Write, Written};
use crate::stream::{Head, Position, Said};

/// How many heads are asked for at once.
const HEADS_MAX: u32 = 500;

/// How much further back than the last sight of the device its receipts are asked for: as long as a dead stream may go unnoticed,
/// and then some.
const RECEIPTS_OVERLAP: Duration = Duration::from_secs(180);

/// Where a stream starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// After what is acknowledged.
    Stored,
    /// At the beginning.
    Beginning,
    /// At what is new.
    Now,
}

/// Opens the stream. When this answers, what is stored goes out as the device acknowledges.
pub(crate) async fn open(receiver: &Receiver, live: &Arc<Live>, from: From) -> Result<(), Error> {
    // The semaphore is never closed.
    let _turn = receiver.openings.acquire().await.map_err(|_| Error::Stopping)?;
    let opened = receiver.write(Write::Open { key: live.key.clone(), stream: live.id }).await?;
    let seen_at = match opened {
        Written::Opened(seen_at) => seen_at,
        Written::LimitReached => return Err(Error::DevicesLimit(receiver.settings.devices_max)),
        Written::Done | Written::NoDevice | Written::Replaced => return Err(Error::Replaced),
    };
    live.name();
    receiver.device_changed(&live.key);
    let stored = match (from, seen_at) {
        (_, None) => Vec::new(),
        (From::Stored, Some(_)) => receiver.store.positions(&live.key).await?,
        (From::Beginning | From::Now, Some(_)) => {
            forget(receiver, live, None).await?;
            Vec::new()
        }
    };
    let receipts_since = match (from, seen_at) {
        (From::Stored, Some(seen_at)) => seen_at.checked_sub(RECEIPTS_OVERLAP).unwrap_or(UNIX_EPOCH),
        (From::Now, _) => SystemTime::now(),
        (From::Stored | From::Beginning, _) => UNIX_EPOCH,
    };
    // The stream hears of its conversations before it asks how far they go, so that nothing falls between the two.
    for position in &stored {
        live.change(|state| state.stream.note_head(position.conversation, 0));
        receiver.hub.join(position.conversation, live);
    }
    // What is said on other pods too.
    receiver.bus.settled().await;
    let known = stored.iter().map(|position| position.conversation).collect::<HashSet<_>>();
    let (epoch, heads) = heads(receiver, live, &known, receipts_since).await?;

    let plan = Plan::new(epoch, heads, stored, from);
    for conversation in &plan.not_member {
        receiver.hub.leave(*conversation, live);
    }
    if plan.epoch_differs {
        forget(receiver, live, None).await?;
    } else if !plan.void.is_empty() {
        forget(receiver, live, Some(plan.void.clone())).await?;
    }
    if from == From::Now {
        for positions in plan.positions().chunks(HEADS_MAX as usize) {
            acknowledge(receiver, live, positions.to_vec()).await?;
        }
    }
    receiver.receipts.note(live.user(), &plan.undelivered);
    live.change(|state| {
        if plan.epoch_differs {
            state.stream.outbox.push(Said::Reset(ResetReason::Epoch, None));
            // What was asked for since the last sight belongs to the former log.
            state.stream.outbox.miss_receipts();
        }
        for conversation in plan.beyond {
            state.stream.outbox.push(Said::Reset(ResetReason::BeyondHead, Some(conversation)));
        }
        state.stream.open(plan.epoch, plan.heads);
    });
    Ok(())
}

/// The heads of all conversations of the person, each read after the stream began to hear of it.
async fn heads(
    receiver: &Receiver,
    live: &Arc<Live>,
    known: &HashSet<ConversationId>,
    receipts_since: SystemTime,
) -> Result<(u64, Vec<LogHead>), Error> {
    let mut all = Vec::new();
    let mut epoch = None;
    let mut page = String::new();
    loop {
        let of = HeadsOf { receipts_since: Some(receipts_since), page_size: HEADS_MAX, page, ..HeadsOf::default() };
        let answer = receiver.log.heads(live.user(), of).await?;
        if *epoch.get_or_insert(answer.epoch) != answer.epoch {
            return Err(Error::LogReplaced);
        }
        let (mut heads, new): (Vec<_>, Vec<_>) =
            answer.heads.into_iter().partition(|head| !head.member || known.contains(&head.conversation));
        if !new.is_empty() {
            let conversations = new.into_iter().map(|head| head.conversation).collect::<Vec<_>>();
            for conversation in &conversations {
                live.change(|state| state.stream.note_head(*conversation, 0));
                receiver.hub.join(*conversation, live);
            }
            receiver.bus.settled().await;
            let of =
                HeadsOf { conversations, receipts_since: Some(receipts_since), page_size: 1000, page: String::new() };
            let again = receiver.log.heads(live.user(), of).await?;
            if again.epoch != answer.epoch {
                return Err(Error::LogReplaced);
            }
            heads.extend(again.heads);
        }
        live.change(|state| {
            for head in &mut heads {
                for (member, watermarks) in std::mem::take(&mut head.receipts) {
                    state.stream.outbox.receipt(head.conversation, member, watermarks);
                }
            }
        });
        all.append(&mut heads);
        page = answer.next_page;
        if page.is_empty() {
            return Ok((epoch.unwrap_or_default(), all));
        }
    }
}

/// What positions and heads together say.
struct Plan {
    epoch: u64,
    heads: Vec<Head>,
    epoch_differs: bool,
    /// Conversations whose position lies beyond their head.
    beyond: Vec<ConversationId>,
    /// Conversations whose position does not count.
    void: Vec<ConversationId>,
    /// Conversations that the stream heard of and has no part in.
    not_member: Vec<ConversationId>,
    /// Acknowledged positions that the log does not know of.
    undelivered: Vec<Position>,
}

impl Plan {
    fn new(epoch: u64, heads: Vec<LogHead>, stored: Vec<Position>, from: From) -> Self {
        let epoch_differs = stored.iter().any(|position| position.epoch != epoch);
        let mut stored =
            stored.into_iter().map(|position| (position.conversation, position)).collect::<HashMap<_, _>>();
        let mut plan = Self {
            epoch,
            heads: Vec::with_capacity(heads.len()),
            epoch_differs,
            beyond: Vec::new(),
            void: Vec::new(),
            not_member: Vec::new(),
            undelivered: Vec::new(),
        };
        for head in heads {
            let conversation = head.conversation;
            let position = stored.remove(&conversation).filter(|_| !epoch_differs);
            let acked_seq = match position {
                _ if from == From::Now => head.last_seq,
                Some(position) if position.seq > head.last_seq => {
                    plan.beyond.push(conversation);
                    plan.void.push(conversation);
                    0
                }
                Some(position) => position.seq,
                None => 0,
            };
            if !head.member {
                plan.not_member.push(conversation);
            }
            if acked_seq > head.own.delivered_seq || (acked_seq > 0 && head.own.epoch != epoch) {
                plan.undelivered.push(Position { conversation, epoch, seq: acked_seq });
            }
            let LogHead { last_seq, first_seq, member, .. } = head;
            plan.heads.push(Head { conversation, last_seq, first_seq, member, acked_seq });
        }
        // What is left are positions in conversations that the person has no more.
        plan.not_member.extend(stored.keys());
        plan.void.extend(stored.keys());
        plan
    }

    fn positions(&self) -> Vec<Position> {
        let position =
            |head: &Head| Position { conversation: head.conversation, epoch: self.epoch, seq: head.acked_seq };
        self.heads.iter().map(position).collect()
    }
}

async fn forget(receiver: &Receiver, live: &Live, conversations: Option<Vec<ConversationId>>) -> Result<(), Error> {
    let write = Write::Forget { key: live.key.clone(), stream: live.id, conversations };
    done(receiver.write(write).await?, live)
}

/// Makes positions of the stream durable.
pub(crate) async fn acknowledge(receiver: &Receiver, live: &Live, positions: Vec<Position>) -> Result<(), Error> {
    let write = Write::Acknowledge { key: live.key.clone(), stream: Some(live.id), positions };
    done(receiver.write(write).await?, live)
}

fn done(written: Written, live: &Live) -> Result<(), Error> {
    match written {
        Written::Done | Written::Opened(_) | Written::LimitReached => Ok(()),
        Written::NoDevice => Err(Error::DeviceNotFound(device_name(&live.key))),
        Written::Replaced => Err(Error::Replaced),
    }
}
