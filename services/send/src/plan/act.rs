//! The rules of each call that writes: who may, what it changes, and which event it becomes.

use std::sync::Arc;

use bytes::Bytes;
use flaghoist_proto::send::v1 as pb;
use flaghoist_runtime::names::{ConversationId, UserId};

use super::{Desk, Draft, Erasure, NewEvent, Target};
use crate::conversation::{Head, Kind, Known, Member, Role};
use crate::error::Error;
use crate::event::{Action, Event, EventKind, Write, Written};
use crate::render;

const GROUPS_ONLY: &str = "a direct conversation has no settings, roles or membership changes";
const SENDER_ONLY: &str = "only the sender may edit a message";
const ADMINS_ONLY: &str = "only admins and owners may do this";
const OWNERS_ONLY: &str = "only owners may do this";

/// An event before it has its number.
struct Change {
    kind: EventKind,
    body: Bytes,
    target_seq: u64,
    only_for: Option<UserId>,
    previous_edit_no: Option<i64>,
}

impl Change {
    fn new(kind: EventKind, body: &impl prost::Message) -> Self {
        Self { kind, body: body.encode_to_vec().into(), target_seq: 0, only_for: None, previous_edit_no: None }
    }
}

impl<'a, F: Fn(ConversationId) -> Option<&'a Known>> Desk<'_, F> {
    pub(super) fn act(&mut self, write: &Write) -> Result<Written, Error> {
        match &write.action {
            Action::Send { body } => self.send(write, body.clone()),
            Action::BeginDirect { peer, refused } => self.begin_direct(write, *peer, refused.as_ref()),
            Action::BeginGroup { title, people, refused } => {
                refused.clone().map_or(Ok(()), Err)?;
                self.begin(write, Kind::Group, title, people)
            }
            Action::Edit { target, text, metadata } => self.edit(write, *target, text, metadata),
            Action::Erase { target } => self.erase(write, *target),
            Action::Retitle { title } => self.retitle(write, title),
            Action::End => self.end(write),
            Action::Add { people, refused } => self.add(write, people, refused.as_ref()),
            Action::Remove { person } => self.remove(write, *person),
            Action::Promote { person, role } => self.promote(write, *person, *role),
            Action::Leave => self.leave(write),
            Action::Expunge { target } => self.expunge(write, *target),
            Action::Depart => self.depart(write),
        }
    }

    fn send(&mut self, write: &Write, body: Bytes) -> Result<Written, Error> {
        let (mut member, _) = self.enter(write.conversation, write.actor)?;
        member.sent_no += 1;
        let sent_no = member.sent_no;
        self.put(write.conversation, write.actor, member, false);
        let kind = EventKind::MessageCreated;
        let change = Change { kind, body, target_seq: 0, only_for: None, previous_edit_no: None };
        self.append(write, change, sent_no)
    }

    fn edit(
        &mut self,
        write: &Write,
        seq: u64,
        text: &str,
        metadata: &std::collections::BTreeMap<String, String>,
    ) -> Result<Written, Error> {
        let (target, _) = self.target(write, seq)?;
        if target.sender != write.actor {
            return Err(Error::Forbidden(SENDER_ONLY));
        }
        if target.deleted {
            return Err(Error::MessageDeleted);
        }
        let edited = pb::Message { text: text.into(), metadata: metadata.clone(), ..remains(&target) };
        let mut change = Change::new(EventKind::MessageUpdated, &edited);
        change.target_seq = seq;
        change.previous_edit_no = target.edit_no;
        let edit_no = self.next_log_no();
        self.plan.edits.push((target.log_no, edit_no));
        if let Some(target) = self.facts.targets.get_mut(&(write.conversation, seq)) {
            target.edit_no = Some(edit_no);
        }
        self.append(write, change, 0)
    }

    fn erase(&mut self, write: &Write, seq: u64) -> Result<Written, Error> {
        let (target, role) = self.target(write, seq)?;
        let group = self.head(write.conversation)?.kind == Kind::Group;
        if target.sender != write.actor && !(group && role >= Role::Admin) {
            return Err(Error::Forbidden("only the sender, and in groups admins and owners, may delete a message"));
        }
        self.overwrite(write, seq, &target)
    }

    /// A message of a person who is being erased: it does not matter whether they may still see it.
    fn expunge(&mut self, write: &Write, seq: u64) -> Result<Written, Error> {
        let id = write.conversation;
        self.draft(id).ok_or(Error::NoConversation(id))?;
        let target = self.facts.targets.get(&(id, seq)).filter(|target| target.sender == write.actor).cloned();
        self.overwrite(write, seq, &target.ok_or(Error::NoMessage(id, seq))?)
    }

    fn overwrite(&mut self, write: &Write, seq: u64, target: &Target) -> Result<Written, Error> {
        if target.deleted {
            return Err(Error::MessageDeleted);
        }
        let remains = remains(target);
        let mut change = Change::new(EventKind::MessageDeleted, &remains);
        change.target_seq = seq;
        self.plan.erasures.push(Erasure {
            log_no: target.log_no,
            edit_no: target.edit_no,
            tombstone: change.body.clone(),
        });
        if let Some(target) = self.facts.targets.get_mut(&(write.conversation, seq)) {
            target.deleted = true;
        }
        self.append(write, change, 0)
    }

    /// A message that the caller, who is a member, may see.
    fn target(&mut self, write: &Write, seq: u64) -> Result<(Target, Role), Error> {
        let (member, role) = self.enter(write.conversation, write.actor)?;
        let target = self.facts.targets.get(&(write.conversation, seq)).filter(|_| member.sees(seq)).cloned();
        Ok((target.ok_or(Error::NoMessage(write.conversation, seq))?, role))
    }

    fn begin_direct(&mut self, write: &Write, peer: UserId, refused: Option<&Error>) -> Result<Written, Error> {
        if self.draft(write.conversation).is_some() {
            return Ok(Written { event: None, deduplicated: true, added: vec![], removed: vec![] });
        }
        refused.cloned().map_or(Ok(()), Err)?;
        let people = if peer == write.actor { &[][..] } else { &[peer][..] };
        self.begin(write, Kind::Direct, &"".into(), people)
    }

    fn begin(&mut self, write: &Write, kind: Kind, title: &Arc<str>, people: &[UserId]) -> Result<Written, Error> {
        let id = write.conversation;
        // The id comes from the request, so one that is there without this request's event is not this caller's doing.
        if self.draft(id).is_some() {
            return Err(Error::RequestIdReused);
        }
        self.room(people.len() + 1)?;
        self.count_all(&[people, &[write.actor]].concat(), 1)?;
        let head = Head {
            no: self.facts.next_conversation_no,
            id,
            kind,
            title: title.clone(),
            last_seq: 0,
            last_public_seq: 0,
            last_message_no: 0,
            member_count: u32::try_from(people.len() + 1).unwrap_or(u32::MAX),
            deleted: false,
            created_at: self.facts.now,
        };
        self.facts.next_conversation_no += 1;
        let mut draft = Draft::of(&head);
        draft.created = true;
        self.plan.drafts.insert(id, draft);
        let owner = if kind == Kind::Group { Role::Owner } else { Role::Member };
        for (person, role) in people.iter().map(|person| (*person, Role::Member)).chain([(write.actor, owner)]) {
            let mut member = Member::default();
            member.join(role, 1, self.facts.now, &head);
            self.put(id, person, member, true);
        }
        let mut members = vec![write.actor];
        members.extend_from_slice(people);
        let created = pb::ConversationCreated {
            kind: render::kind(kind).into(),
            title: title.to_string(),
            members: members.iter().map(UserId::name).collect(),
        };
        let mut written = self.append(write, Change::new(EventKind::ConversationCreated, &created), 0)?;
        written.added = members;
        Ok(written)
    }

    fn retitle(&mut self, write: &Write, title: &Arc<str>) -> Result<Written, Error> {
        self.enter_group(write, Role::Admin)?;
        if let Some(draft) = self.draft(write.conversation) {
            draft.head.title = title.clone();
            draft.changed = true;
        }
        let updated = pb::ConversationUpdated { title: title.to_string() };
        self.append(write, Change::new(EventKind::ConversationUpdated, &updated), 0)
    }

    fn end(&mut self, write: &Write) -> Result<Written, Error> {
        let id = write.conversation;
        let (mut member, role) = self.enter(id, write.actor)?;
        if self.head(id)?.kind == Kind::Direct {
            let mut change = Change::new(EventKind::ConversationHidden, &pb::ConversationHidden {});
            change.only_for = Some(write.actor);
            let written = self.append(write, change, 0)?;
            member.hidden_seq = written.event.as_ref().map_or(0, |event| event.seq);
            self.put(id, write.actor, member, true);
            return Ok(written);
        }
        if role < Role::Owner {
            return Err(Error::Forbidden(OWNERS_ONLY));
        }
        let mut written =
            self.append(write, Change::new(EventKind::ConversationDeleted, &pb::ConversationDeleted {}), 0)?;
        let seq = self.head(id)?.last_seq;
        for (person, mut member) in self.members(id) {
            member.part(seq);
            self.put(id, person, member, true);
            self.count(person, -1)?;
            written.removed.push(person);
        }
        if let Some(draft) = self.draft(id) {
            draft.head.deleted = true;
            draft.head.member_count = 0;
            draft.changed = true;
        }
        Ok(written)
    }

    fn add(&mut self, write: &Write, people: &[UserId], refused: Option<&Error>) -> Result<Written, Error> {
        self.enter_group(write, Role::Admin)?;
        let id = write.conversation;
        let absent = |person: &&UserId| self.member(id, **person).is_none_or(|member| member.role.is_none());
        let people: Vec<UserId> = people.iter().filter(absent).copied().collect();
        if !people.is_empty() {
            refused.cloned().map_or(Ok(()), Err)?;
        }
        self.room(self.head(id)?.member_count as usize + people.len())?;
        self.count_all(&people, 1)?;
        let head = self.head(id)?.clone();
        for person in &people {
            let mut member = self.member(id, *person).unwrap_or_default();
            member.join(Role::Member, head.last_seq + 1, self.facts.now, &head);
            self.put(id, *person, member, true);
        }
        self.resize(id, people.len() as i64);
        let added = pb::MembersAdded { members: people.iter().map(UserId::name).collect() };
        let mut written = self.append(write, Change::new(EventKind::MembersAdded, &added), 0)?;
        written.added = people;
        Ok(written)
    }

    fn remove(&mut self, write: &Write, person: UserId) -> Result<Written, Error> {
        let role = self.enter_group(write, Role::Admin)?;
        let member = self.member(write.conversation, person).filter(|member| member.role.is_some());
        let member = member.ok_or(Error::NoPerson(person))?;
        if member.role >= Some(role) {
            return Err(Error::Forbidden("only members of a role below the caller's own may be removed"));
        }
        self.part(write, person, member)
    }

    fn leave(&mut self, write: &Write) -> Result<Written, Error> {
        let id = write.conversation;
        let role = self.enter_group(write, Role::Member)?;
        let member = self.member(id, write.actor).ok_or(Error::NoConversation(id))?;
        if role == Role::Owner && self.head(id)?.member_count > 1 {
            self.another_owner(id, write.actor)?;
        }
        self.part(write, write.actor, member)
    }

    fn depart(&mut self, write: &Write) -> Result<Written, Error> {
        let id = write.conversation;
        let (member, role) = self.enter(id, write.actor)?;
        let head = self.head(id)?;
        // Whoever was to own the group may be gone by now.
        if head.kind == Kind::Group && role == Role::Owner && head.member_count > 1 {
            self.another_owner(id, write.actor)?;
        }
        let written = self.part(write, write.actor, member)?;
        if let Some(draft) = self.draft(id).filter(|draft| draft.head.member_count == 0) {
            draft.head.deleted = true;
        }
        Ok(written)
    }

    fn part(&mut self, write: &Write, person: UserId, mut member: Member) -> Result<Written, Error> {
        let id = write.conversation;
        let removed = pb::MemberRemoved { member: person.name() };
        let mut written = self.append(write, Change::new(EventKind::MemberRemoved, &removed), 0)?;
        member.part(self.head(id)?.last_seq);
        self.put(id, person, member, true);
        self.count(person, -1)?;
        self.resize(id, -1);
        written.removed = vec![person];
        Ok(written)
    }

    fn promote(&mut self, write: &Write, person: UserId, role: Role) -> Result<Written, Error> {
        self.enter_group(write, Role::Owner)?;
        let id = write.conversation;
        let member = self.member(id, person).filter(|member| member.role.is_some());
        let mut member = member.ok_or(Error::NoPerson(person))?;
        if member.role == Some(Role::Owner) && role < Role::Owner {
            self.another_owner(id, person)?;
        }
        member.role = Some(role);
        self.put(id, person, member, true);
        let updated = pb::MemberUpdated { member: person.name(), role: render::role(role).into() };
        self.append(write, Change::new(EventKind::MemberUpdated, &updated), 0)
    }

    /// The caller's role in a group, which is `least` or higher.
    fn enter_group(&mut self, write: &Write, least: Role) -> Result<Role, Error> {
        let (_, role) = self.enter(write.conversation, write.actor)?;
        if self.head(write.conversation)?.kind != Kind::Group {
            return Err(Error::WrongKind(GROUPS_ONLY));
        }
        if role < least {
            return Err(Error::Forbidden(if least == Role::Owner { OWNERS_ONLY } else { ADMINS_ONLY }));
        }
        Ok(role)
    }

    fn another_owner(&self, id: ConversationId, than: UserId) -> Result<(), Error> {
        let mut owners = self.members(id).into_iter().filter(|(_, member)| member.role == Some(Role::Owner));
        if owners.any(|(person, _)| person != than) { Ok(()) } else { Err(Error::LastOwner) }
    }

    fn room(&self, members: usize) -> Result<(), Error> {
        let max = self.limits.group_members_max;
        if members > max as usize { Err(Error::LimitReached { what: "members of a group", max }) } else { Ok(()) }
    }

    fn count_all(&mut self, people: &[UserId], by: i64) -> Result<(), Error> {
        for (place, person) in people.iter().enumerate() {
            if let Err(error) = self.count(*person, by) {
                // A refused call leaves no trace.
                for counted in &people[..place] {
                    *self.plan.people.entry(*counted).or_default() -= by;
                }
                return Err(error);
            }
        }
        Ok(())
    }

    fn resize(&mut self, id: ConversationId, by: i64) {
        if let Some(draft) = self.draft(id) {
            draft.head.member_count = u32::try_from(i64::from(draft.head.member_count) + by).unwrap_or(0);
            draft.changed = true;
        }
    }

    fn next_log_no(&self) -> i64 {
        self.facts.next_log_no + self.plan.events.len() as i64
    }

    /// Gives the change its number. The last step that may be refused lies before it.
    fn append(&mut self, write: &Write, change: Change, sent_no: u64) -> Result<Written, Error> {
        let (now, place) = (self.facts.now, self.plan.events.len());
        let draft = self.draft(write.conversation).ok_or(Error::NoConversation(write.conversation))?;
        let head = &mut draft.head;
        head.last_seq += 1;
        if change.only_for.is_none() {
            head.last_public_seq = head.last_seq;
        }
        if change.kind == EventKind::MessageCreated {
            head.last_message_no += 1;
        }
        draft.events.push(place);
        let event = Arc::new(Event {
            conversation: write.conversation,
            seq: head.last_seq,
            message_no: head.last_message_no,
            kind: change.kind,
            actor: write.actor,
            request_id: write.request_id.clone(),
            digest: write.digest,
            target_seq: change.target_seq,
            only_for: change.only_for,
            body: change.body,
            created_at: now,
            deleted_at: None,
        });
        let (conversation_no, previous_edit_no) = (head.no, change.previous_edit_no);
        let request_hash = write.request_hash;
        self.plan.events.push(NewEvent {
            conversation_no,
            event: event.clone(),
            request_hash,
            sent_no,
            previous_edit_no,
        });
        Ok(Written { event: Some(event), deduplicated: false, added: vec![], removed: vec![] })
    }
}

/// What an edit or a deletion tells of the message besides its content, and what is left when that is gone.
fn remains(target: &Target) -> pb::Message {
    pb::Message {
        sender: target.sender.name(),
        message_no: target.message_no,
        create_time: Some(render::time(target.created_at)),
        ..pb::Message::default()
    }
}
