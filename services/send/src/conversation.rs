//! What a conversation and a member of it are: who may see what, what is unread, and how ids are derived.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use flaghoist_runtime::names::{ConversationId, UserId};
use uuid::Builder;

/// The kind of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Two people, or one and their notes.
    Direct,
    /// People with roles.
    Group,
}

/// What a member may do; a higher role may do all that a lower one may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// Reads and sends.
    Member,
    /// Also changes members and settings and deletes messages.
    Admin,
    /// Also changes roles and deletes the conversation.
    Owner,
}

/// A conversation without its members.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    /// Its number in the store.
    pub(crate) no: i64,
    /// Its name.
    pub(crate) id: ConversationId,
    /// Its kind.
    pub(crate) kind: Kind,
    /// Its title; empty for a direct one.
    pub(crate) title: Arc<str>,
    /// The newest event.
    pub(crate) last_seq: u64,
    /// The newest event that is not for one person alone.
    pub(crate) last_public_seq: u64,
    /// How many messages there are.
    pub(crate) last_message_no: u64,
    /// How many members there are now.
    pub(crate) member_count: u32,
    /// Whether it was ended for everyone.
    pub(crate) deleted: bool,
    /// When it was begun, in milliseconds.
    pub(crate) created_at: i64,
}

/// A person in a conversation, or one who was in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Member {
    /// The role; none for those who are not members any more.
    pub(crate) role: Option<Role>,
    /// The event that the present membership began with.
    pub(crate) joined_seq: u64,
    /// When that was, in milliseconds.
    pub(crate) joined_at: i64,
    /// First and last event of each earlier membership.
    pub(crate) past: Vec<(u64, u64)>,
    /// Everything up to here reached a device.
    pub(crate) delivered_seq: u64,
    /// Everything up to here was read.
    pub(crate) read_seq: u64,
    /// How many messages there are up to what was read, or up to joining.
    pub(crate) read_message_no: u64,
    /// How many messages the person sent.
    pub(crate) sent_no: u64,
    /// How many of these lie before what was read.
    pub(crate) read_sent_no: u64,
    /// When a watermark last rose, in milliseconds.
    pub(crate) watermark_at: i64,
    /// The newest event that only this person sees: here they hid the conversation.
    pub(crate) hidden_seq: u64,
}

/// A conversation with everyone who is or was in it.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// The conversation.
    pub(crate) head: Head,
    /// Its people.
    pub(crate) members: HashMap<UserId, Member>,
}

/// A conversation as one person sees it.
#[derive(Clone, Debug)]
pub(crate) struct View {
    /// The conversation.
    pub(crate) head: Head,
    /// The person in it.
    pub(crate) member: Member,
    /// The other person of a direct conversation.
    pub(crate) peer: Option<UserId>,
}

impl Kind {
    /// The number that the store keeps.
    pub(crate) fn number(self) -> i64 {
        match self {
            Self::Direct => 1,
            Self::Group => 2,
        }
    }

    /// The kind with a number.
    pub(crate) fn from_number(number: i64) -> Option<Self> {
        [Self::Direct, Self::Group].into_iter().find(|kind| kind.number() == number)
    }
}

impl Role {
    /// The number that the store keeps; 0 stands for none.
    pub(crate) fn number(self) -> i64 {
        match self {
            Self::Member => 1,
            Self::Admin => 2,
            Self::Owner => 3,
        }
    }

    /// The role with a number.
    pub(crate) fn from_number(number: i64) -> Option<Self> {
        [Self::Member, Self::Admin, Self::Owner].into_iter().find(|role| role.number() == number)
    }
}

impl Member {
    /// Whether the person may see the event at `seq`, if it is for everyone.
    pub(crate) fn sees(&self, seq: u64) -> bool {
        (self.role.is_some() && seq >= self.joined_seq)
            || self.past.iter().any(|(from, to)| (*from..=*to).contains(&seq))
    }

    /// The stretches of the log that the person may see, in order; `last_seq` ends an open one.
    pub(crate) fn stretches(&self, last_seq: u64) -> impl DoubleEndedIterator<Item = (u64, u64)> + '_ {
        let open = self.role.is_some().then_some((self.joined_seq, last_seq));
        self.past.iter().copied().chain(open)
    }

    /// The first event that the person may see.
    pub(crate) fn first_seq(&self) -> u64 {
        self.past.first().map_or(self.joined_seq, |(from, _)| *from)
    }

    /// The newest event that the person may see.
    pub(crate) fn last_seq(&self, head: &Head) -> u64 {
        match (self.role, self.past.last()) {
            (Some(_), _) => head.last_public_seq.max(self.hidden_seq),
            (None, Some((_, to))) => *to,
            (None, None) => 0,
        }
    }

    /// How many messages of others the person has not read.
    pub(crate) fn unread(&self, head: &Head) -> u64 {
        if self.role.is_none() {
            return 0;
        }
        let others = head.last_message_no.saturating_sub(self.read_message_no);
        others.saturating_sub(self.sent_no.saturating_sub(self.read_sent_no))
    }

    /// Whether the person hid the conversation and nothing came since.
    pub(crate) fn hides(&self, head: &Head) -> bool {
        self.hidden_seq > head.last_public_seq
    }

    /// Begins a membership with the event at `seq`; reading starts here.
    pub(crate) fn join(&mut self, role: Role, seq: u64, at: i64, head: &Head) {
        self.role = Some(role);
        self.joined_seq = seq;
        self.joined_at = at;
        self.read_message_no = head.last_message_no;
        self.read_sent_no = self.sent_no;
    }

    /// Ends the membership with the event at `seq`, the last one that the person sees.
    pub(crate) fn part(&mut self, seq: u64) {
        if self.role.take().is_some() {
            self.past.push((self.joined_seq, seq));
        }
    }
}

impl View {
    /// Whether the person is a member now.
    pub(crate) fn member_now(&self) -> bool {
        self.member.role.is_some()
    }
}

/// The direct conversation of two people; it may be one person twice, who then keeps notes.
pub(crate) fn direct_id(one: UserId, other: UserId) -> ConversationId {
    let (low, high) = if one <= other { (one, other) } else { (other, one) };
    derived(b"direct", &[low.0.as_bytes(), high.0.as_bytes()])
}

/// The group that a person begins with a request.
pub(crate) fn group_id(creator: UserId, request_id: &str) -> ConversationId {
    derived(b"group", &[creator.0.as_bytes(), request_id.as_bytes()])
}

/// The part of the conversations that one belongs to, the same everywhere: it comes from the id alone, whose bytes are as good as
/// random.
pub(crate) fn lane(id: ConversationId, lanes: usize) -> usize {
    let [.., a, b, c, d] = *id.0.as_bytes();
    u32::from_be_bytes([a, b, c, d]) as usize % lanes
}

fn derived(purpose: &[u8], parts: &[&[u8]]) -> ConversationId {
    let mut text = purpose.to_vec();
    for part in parts {
        text.extend_from_slice(part);
    }
    ConversationId(Builder::from_custom_bytes(first_16(digest(&SHA256, &text).as_ref())).into_uuid())
}

/// The first 16 bytes of a longer digest.
pub(crate) fn first_16(bytes: &[u8]) -> [u8; 16] {
    let mut first = [0; 16];
    first.copy_from_slice(&bytes[..16]);
    first
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn fault_4_ids_depend_on_who_and_on_nothing_else() {
        let (one, other) = (UserId(Uuid::from_u128(1)), UserId(Uuid::from_u128(2)));
        assert_eq!(direct_id(one, other), direct_id(other, one));
        assert_ne!(direct_id(one, other), direct_id(one, one));
        assert_ne!(group_id(one, "a"), group_id(other, "a"));
        assert_eq!(group_id(one, "a").0.get_version_num(), 8);
    }

    #[test]
    fn a_second_membership_is_a_second_stretch() {
        let mut head = Head {
            no: 1,
            id: ConversationId(Uuid::nil()),
            kind: Kind::Group,
            title: "".into(),
            last_seq: 9,
            last_public_seq: 9,
            last_message_no: 4,
            member_count: 1,
            deleted: false,
            created_at: 0,
        };
        let mut member = Member::default();
        member.join(Role::Member, 2, 0, &head);
        member.part(5);
        assert_eq!((member.last_seq(&head), member.unread(&head)), (5, 0));
        member.join(Role::Member, 8, 0, &head);
        assert_eq!([1, 2, 5, 6, 7, 8, 9].map(|seq| member.sees(seq)), [false, true, true, false, false, true, true]);
        head.last_message_no = 6;
        assert_eq!((member.first_seq(), member.last_seq(&head), member.unread(&head)), (2, 9, 2));
    }
}
