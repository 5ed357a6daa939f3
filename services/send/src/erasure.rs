//! Erasing a person, a short step at a time.
//!
//! The steps go through the person's conversations in the order in which these were begun. In each the membership ends first, so
//! nothing can follow; then the messages become deletions, by the same writer and in the same log as everything else, so that order,
//! numbers and what devices are told stay what they are. What a step counts depends on its place alone and not on what was there when
//! it came: who repeats a step whose answer was lost counts the same. Only when the end was reached are the memberships
//! forgotten by which all this is found.

use std::time::{Duration, Instant};

use flaghoist_runtime::names::{ConversationId, UserId};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::conversation::{Kind, Member, Role};
use crate::error::Error;
use crate::event::{Action, Digest, Write};
use crate::store::{HeadView, Store};
use crate::writer::Writer;

/// How often another owner is looked for, where each one goes before the person does.
const SUCCESSORS_MAX: u32 = 16;

/// How many messages are overwritten at once: they are one or a few commits, behind which others wait.
const MESSAGES_AT_ONCE: usize = 100;

/// How much one step does, and how long it goes on at most.
const STEP_MESSAGES: u64 = 500;
const STEP_CONVERSATIONS: u64 = 50;
const STEP_TIME: Duration = Duration::from_millis(250);

/// How many conversations are forgotten at once.
const FORGET_AT_ONCE: usize = 500;

/// How many members are looked through at once for who takes over a group.
const MEMBERS_AT_ONCE: usize = 1000;

/// How far an erasure has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// The number of the conversation before the one that is next.
    after: i64,
    /// How far that one has been gone through.
    from: u64,
    /// Whether all were gone through and are to be forgotten.
    forget: bool,
    /// Whether they were gone through before: then only what is new is counted.
    again: bool,
}

/// What a step has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Step {
    /// Where to go on; none at the end.
    pub(crate) next: Option<Place>,
    /// How many messages it went through.
    pub(crate) messages: u64,
    /// How many conversations it went through to their end.
    pub(crate) conversations: u64,
}

impl Place {
    /// The beginning. `again` says that the person was erased before.
    pub(crate) fn first(again: bool) -> Self {
        Self { again, ..Self::default() }
    }
}

/// Erases persons.
#[derive(Debug)]
pub(crate) struct Eraser<'s> {
    pub(crate) store: &'s dyn Store,
    pub(crate) writer: &'s Writer,
    pub(crate) person: UserId,
}

impl Eraser<'_> {
    /// One step, from `place` on.
    pub(crate) async fn step(&self, place: Place) -> Result<Step, Error> {
        if place.forget { self.forget(place).await } else { self.walk(place).await }
    }

    async fn walk(&self, mut place: Place) -> Result<Step, Error> {
        let (begun, mut step) = (Instant::now(), Step::default());
        while step.messages < STEP_MESSAGES && step.conversations < STEP_CONVERSATIONS && begun.elapsed() < STEP_TIME {
            let Some(next) = self.after(place.after, 1).await?.pop() else {
                place = Place { after: 0, from: 0, forget: true, ..place };
                break;
            };
            place = self.go_through(next, place, &mut step).await?;
        }
        step.next = Some(place);
        Ok(step)
    }

    /// Goes through a page of a conversation, as it was found. Answers where to go on, and adds to `step` what was done.
    pub(crate) async fn go_through(&self, found: HeadView, place: Place, step: &mut Step) -> Result<Place, Error> {
        let (no, id) = (found.head.no, found.head.id);
        let member = found.member.role.is_some();
        let (mut head, mut person) = (found.head.clone(), found.member.clone());
        if member {
            self.depart(&found).await?;
            // What the person wrote until then is part of it: by now nothing follows, but something may have since they were found.
            if let Some(now) = self.store.conversation(self.person, id).await? {
                (head, person) = (now.head, now.member);
            }
        }
        let page = self.store.messages(self.person, id, place.from, true, MESSAGES_AT_ONCE).await?;
        let (messages, on) = page.map_or((Vec::new(), None), |page| (page.messages, page.next));
        let own = messages.iter().map(|message| &message.event).filter(|event| event.actor == self.person);
        let (gone, there): (Vec<_>, Vec<_>) = own.partition(|event| event.deleted_at.is_some());
        let overwritten = there.iter().map(|event| self.write(id, Action::Expunge { target: event.seq }));
        join_all(overwritten).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        // As far as that page went, and only where the person was: what lies between is as long as it likes.
        let through = on.unwrap_or(u64::MAX);
        for (low, high) in person.stretches(person.last_seq(&head)) {
            let (after, through) = (place.from.max(low.saturating_sub(1)), through.min(high));
            if after < through {
                self.store.blank(self.person, id, after, through).await?;
            }
        }
        step.messages += there.len() as u64 + if place.again { 0 } else { gone.len() as u64 };
        Ok(match on {
            Some(on) => Place { from: on, ..place },
            None => {
                step.conversations += u64::from(member || !place.again);
                Place { after: no, from: 0, ..place }
            }
        })
    }

    /// Forgets the conversations that were gone through. Somebody may have added the person to one meanwhile, by a call that had
    /// asked whether they exist while they still did: then all begins again.
    async fn forget(&self, place: Place) -> Result<Step, Error> {
        let page = self.after(0, FORGET_AT_ONCE).await?;
        if page.iter().any(|next| next.member.role.is_some()) {
            return Ok(Step { next: Some(Place::first(true)), ..Step::default() });
        }
        let ids: Vec<ConversationId> = page.iter().map(|next| next.head.id).collect();
        let all = ids.len() < FORGET_AT_ONCE;
        self.store.forget(self.person, &ids, all).await?;
        Ok(Step { next: (!all).then_some(place), ..Step::default() })
    }

    /// The next conversations that the person is or was in.
    async fn after(&self, no: i64, limit: usize) -> Result<Vec<HeadView>, Error> {
        Ok(self.store.heads(self.person, &[], None, no, limit).await?.entries)
    }

    /// Ends the membership. A group that would be without an owner gets one: of those with the highest role the one who has been
    /// there longest.
    async fn depart(&self, view: &HeadView) -> Result<(), Error> {
        let id = view.head.id;
        for _ in 0..SUCCESSORS_MAX {
            if view.head.kind == Kind::Group
                && view.member.role == Some(Role::Owner)
                && let Some(person) = self.successor(id).await?
            {
                self.write(id, Action::Promote { person, role: Role::Owner }).await?;
            }
            match self.write(id, Action::Depart).await {
                // Whoever was to own the group, or owned it as well, has gone meanwhile.
                Err(Error::LastOwner) => {}
                done => return done,
            }
        }
        Err(Error::LastOwner)
    }

    /// Who is to own a group of which the person is the last owner.
    async fn successor(&self, id: ConversationId) -> Result<Option<UserId>, Error> {
        let mut best: Option<(UserId, Member)> = None;
        let mut after = None;
        loop {
            let page = self.store.members(id, after, MEMBERS_AT_ONCE).await?;
            after = page.last().map(|(person, _)| *person);
            let full = page.len() == MEMBERS_AT_ONCE;
            for (person, member) in page.into_iter().filter(|(person, _)| *person != self.person) {
                if member.role == Some(Role::Owner) {
                    return Ok(None);
                }
                let rank = |member: &Member| (member.role, std::cmp::Reverse(member.joined_seq));
                if best.as_ref().is_none_or(|(_, best)| rank(&member) > rank(best)) {
                    best = Some((person, member));
                }
            }
            if !full {
                return Ok(best.map(|(person, _)| person));
            }
        }
    }

    /// Makes a change in the person's name. What had been done before is done.
    async fn write(&self, id: ConversationId, action: Action) -> Result<(), Error> {
        // Nobody repeats it, so its request needs no name that anybody knows, and no digest.
        let request_id = Uuid::now_v7().to_string();
        let write = Write::new(self.person, id, &request_id, Digest([0; 16]), action);
        match self.writer.write(write).await {
            Ok(_) | Err(Error::MessageDeleted | Error::NoConversation(_) | Error::NoPerson(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
