//! What a batch of calls does, decided in memory: one call after the other, each seeing what those before it did. The store
//! gathers what the calls need to know, carries the plan out in one transaction, and drops it whole if that fails.
//!
//! A call that is refused leaves no trace, in particular no gap in `seq`: numbers are given out here, and only to events that
//! the transaction writes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use flaghoist_runtime::names::{ConversationId, UserId};

use crate::conversation::{Head, Known, Member, Role};
use crate::error::Error;
use crate::event::{Answer, Event, Op, Watermark, Write, Written};

mod act;
mod draft;
mod raise;

pub(crate) use draft::Draft;

/// Groups above this size keep no receipts ready.
pub(crate) const RECEIPT_MEMBERS_MAX: u32 = 64;

/// Bounds on what is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Members of a group.
    pub(crate) group_members_max: u32,
    /// Conversations of a person.
    pub(crate) conversations_max: u32,
}

/// A message that a call wants to change.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) log_no: i64,
    pub(crate) sender: UserId,
    pub(crate) message_no: u64,
    pub(crate) created_at: i64,
    pub(crate) deleted: bool,
    pub(crate) edit_no: Option<i64>,
}

/// How much lies before a place in the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadPoint {
    /// How many messages.
    pub(crate) message_no: u64,
    /// How many of them the reader sent.
    pub(crate) sent_no: u64,
}

/// What the store knows before the batch.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// The store's epoch.
    pub(crate) epoch: u64,
    /// The time of the batch, in milliseconds; never lower than that of the batch before.
    pub(crate) now: i64,
    /// The number of the next row of the log.
    pub(crate) next_log_no: i64,
    /// The number of the next conversation.
    pub(crate) next_conversation_no: i64,
    /// Events of earlier requests, by the place of the call in the batch.
    pub(crate) repeated: HashMap<usize, Arc<Event>>,
    /// The messages that calls want to change.
    pub(crate) targets: HashMap<(ConversationId, u64), Target>,
    /// How many conversations people are in.
    pub(crate) people: HashMap<UserId, u32>,
    /// Places that watermarks rise to, where these are not the end of the log.
    pub(crate) read_points: HashMap<(ConversationId, UserId, u64), ReadPoint>,
}

/// A row to append to the log.
#[derive(Debug)]
pub(crate) struct NewEvent {
    pub(crate) conversation_no: i64,
    pub(crate) event: Arc<Event>,
    pub(crate) request_hash: [u8; 8],
    pub(crate) sent_no: u64,
    pub(crate) previous_edit_no: Option<i64>,
}

/// A message to overwrite, with its edits.
#[derive(Debug)]
pub(crate) struct Erasure {
    pub(crate) log_no: i64,
    pub(crate) edit_no: Option<i64>,
    /// What is written over the edits.
    pub(crate) tombstone: bytes::Bytes,
}

/// What the batch does.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// To append, in this order; the first gets `Facts::next_log_no`.
    pub(crate) events: Vec<NewEvent>,
    /// Conversations that are touched, as they are afterwards.
    pub(crate) drafts: HashMap<ConversationId, Draft>,
    /// Messages and their newest edits.
    pub(crate) edits: Vec<(i64, i64)>,
    /// Messages to overwrite.
    pub(crate) erasures: Vec<Erasure>,
    /// By how much people's numbers of conversations change.
    pub(crate) people: HashMap<UserId, i64>,
    /// For each call in order.
    pub(crate) answers: Vec<Answer>,
}

/// Decides a batch. `known` answers what is known of a conversation.
pub(crate) fn plan<'a>(
    ops: &[Op],
    facts: Facts,
    limits: Limits,
    known: impl Fn(ConversationId) -> Option<&'a Known>,
) -> Plan {
    let mut desk = Desk { facts, limits, known, plan: Plan::default(), requests: HashMap::new() };
    desk.plan.events.reserve(ops.len());
    desk.plan.answers.reserve(ops.len());
    for (place, op) in ops.iter().enumerate() {
        let answer = match op {
            Op::Write(write) => Answer::Written(desk.write(place, write)),
            Op::Raise(watermarks) => Answer::Raised(Ok(desk.raise(watermarks))),
        };
        desk.plan.answers.push(answer);
    }
    desk.plan
}

/// Where a batch is worked through.
struct Desk<'o, F> {
    facts: Facts,
    limits: Limits,
    known: F,
    plan: Plan,
    /// Requests of this batch that became events.
    requests: HashMap<(ConversationId, UserId, &'o str), usize>,
}

impl<'a, 'o, F: Fn(ConversationId) -> Option<&'a Known>> Desk<'o, F> {
    fn write(&mut self, place: usize, write: &'o Write) -> Result<Written, Error> {
        // Before any other check: a repeated call gets the first answer even if the caller may no longer make a new one, for
        // example because the first one was to leave.
        if let Some(event) = self.repeated(place, write) {
            if event.digest != write.digest {
                return Err(Error::RequestIdReused);
            }
            return Ok(Written { event: Some(event), deduplicated: true, added: vec![], removed: vec![] });
        }
        let first = self.plan.events.len();
        let written = self.act(write)?;
        if written.event.is_some() {
            self.requests.insert((write.conversation, write.actor, &write.request_id), first);
        }
        Ok(written)
    }

    fn repeated(&self, place: usize, write: &Write) -> Option<Arc<Event>> {
        if let Some(event) = self.facts.repeated.get(&place) {
            return Some(event.clone());
        }
        let index = self.requests.get(&(write.conversation, write.actor, &*write.request_id))?;
        Some(self.plan.events[*index].event.clone())
    }

    /// The conversation as the calls before left it, if there is one.
    fn draft(&mut self, id: ConversationId) -> Option<&mut Draft> {
        match self.plan.drafts.entry(id) {
            Entry::Occupied(entry) => Some(entry.into_mut()),
            Entry::Vacant(entry) => (self.known)(id).map(|known| entry.insert(Draft::of(&known.head))),
        }
    }

    /// A person in a conversation as the calls before left them.
    fn member(&self, id: ConversationId, person: UserId) -> Option<Member> {
        if let Some((member, _)) = self.plan.drafts.get(&id).and_then(|draft| draft.members.get(&person)) {
            return Some(member.clone());
        }
        (self.known)(id).and_then(|known| known.members.get(&person)).cloned()
    }

    /// Everyone who is a member now.
    fn members(&self, id: ConversationId) -> Vec<(UserId, Member)> {
        let changed = self.plan.drafts.get(&id).map(|draft| &draft.members);
        let before = (self.known)(id).into_iter().flat_map(|known| known.members.iter());
        let before = before.filter(|(person, _)| changed.is_none_or(|changed| !changed.contains_key(person)));
        let after = changed.into_iter().flatten().map(|(person, (member, _))| (person, member));
        let all = before.chain(after).filter(|(_, member)| member.role.is_some());
        all.map(|(person, member)| (*person, member.clone())).collect()
    }

    /// The conversation and the caller in it, who is a member.
    fn enter(&mut self, id: ConversationId, actor: UserId) -> Result<(Member, Role), Error> {
        self.draft(id).ok_or(Error::NoConversation(id))?;
        let member = self.member(id, actor).ok_or(Error::NoConversation(id))?;
        let role = member.role.ok_or(Error::NoConversation(id))?;
        Ok((member, role))
    }

    /// The conversation's head; `enter` has been there before.
    fn head(&self, id: ConversationId) -> Result<&Head, Error> {
        self.plan.drafts.get(&id).map(|draft| &draft.head).ok_or(Error::NoConversation(id))
    }

    /// Notes what became of a person. `stored` says whether the row is to be written, or only a counter changed that the log
    /// tells as well.
    fn put(&mut self, id: ConversationId, person: UserId, member: Member, stored: bool) {
        if let Some(draft) = self.plan.drafts.get_mut(&id) {
            let stored = stored || draft.members.get(&person).is_some_and(|(_, before)| *before);
            draft.members.insert(person, (member, stored));
        }
    }

    /// Counts a person's conversations up or down, up to the bound.
    fn count(&mut self, person: UserId, by: i64) -> Result<(), Error> {
        let before = self.facts.people.get(&person).copied().unwrap_or(0);
        let change = self.plan.people.entry(person).or_default();
        if by > 0 && i64::from(before) + *change + by > i64::from(self.limits.conversations_max) {
            return Err(Error::LimitReached { what: "conversations of a person", max: self.limits.conversations_max });
        }
        *change += by;
        Ok(())
    }
}

/// A watermark as it stands.
pub(crate) fn watermark(conversation: ConversationId, person: UserId, member: &Member, epoch: u64) -> Watermark {
    Watermark { conversation, member: person, epoch, delivered_seq: member.delivered_seq, read_seq: member.read_seq }
}
