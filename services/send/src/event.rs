//! Events as the log keeps them, and the calls that become events.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use bytes::Bytes;
use flaghoist_runtime::names::{ConversationId, UserId};

use crate::conversation::{Role, first_16};
use crate::error::Error;

/// What an event is about. The numbers are those that the store keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i64)]
pub(crate) enum EventKind {
    /// A message was sent.
    MessageCreated = 1,
    /// A message was edited.
    MessageUpdated = 2,
    /// A message was deleted.
    MessageDeleted = 3,
    /// The conversation was begun.
    ConversationCreated = 4,
    /// Its settings changed.
    ConversationUpdated = 5,
    /// It was ended for everyone.
    ConversationDeleted = 6,
    /// A member hid it.
    ConversationHidden = 7,
    /// People became members.
    MembersAdded = 8,
    /// A person is no longer a member.
    MemberRemoved = 9,
    /// A member has another role.
    MemberUpdated = 10,
}

/// An event in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// The conversation.
    pub(crate) conversation: ConversationId,
    /// The place in its order.
    pub(crate) seq: u64,
    /// How many messages there are up to this event.
    pub(crate) message_no: u64,
    /// What it is about.
    pub(crate) kind: EventKind,
    /// Who made the change.
    pub(crate) actor: UserId,
    /// The request that it came with.
    pub(crate) request_id: Arc<str>,
    /// What the request asked for, in a form that tells nothing.
    pub(crate) digest: Digest,
    /// The message that an edit or a deletion is about, or 0.
    pub(crate) target_seq: u64,
    /// The only person who may see it.
    pub(crate) only_for: Option<UserId>,
    /// The content: the contract's message of the kind, without what the other fields say. Messages are kept as
    /// `flaghoist.send.v1.Message`, of which `buf breaking` sees to it that old bytes stay readable.
    pub(crate) body: Bytes,
    /// When it was committed, in milliseconds.
    pub(crate) created_at: i64,
    /// When its text was overwritten.
    pub(crate) deleted_at: Option<i64>,
}

/// A message as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// The event that it was sent with.
    pub(crate) event: Event,
    /// Content and time of its newest edit.
    pub(crate) edit: Option<(Bytes, i64)>,
}

/// A keyed digest over what a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digest(pub [u8; 16]);

/// The key of the digests: without it nobody can check a guess at a text that was deleted.
#[derive(Clone)]
pub(crate) struct DigestKey(hmac::Key);

/// A call that writes.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    /// Who calls.
    pub(crate) actor: UserId,
    /// The conversation that is written to.
    pub(crate) conversation: ConversationId,
    /// The id of the request.
    pub(crate) request_id: Arc<str>,
    /// Sender and request in 8 bytes.
    pub(crate) request_hash: [u8; 8],
    /// What it asks for.
    pub(crate) digest: Digest,
    /// What to do.
    pub(crate) action: Action,
}

/// What a call wants done.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// Begin the direct conversation with a person.
    BeginDirect {
        /// The other person.
        peer: UserId,
        /// Why this person cannot be added.
        refused: Option<Error>,
    },
    /// Begin a group.
    BeginGroup {
        /// Its title.
        title: Arc<str>,
        /// The other people, each once, without the caller.
        people: Vec<UserId>,
        /// Why one of them cannot be added.
        refused: Option<Error>,
    },
    /// Send a message.
    Send {
        /// Its content.
        body: Bytes,
    },
    /// Replace the content of a message.
    Edit {
        /// The message.
        target: u64,
        /// Text and metadata from now on.
        text: String,
        /// The metadata from now on.
        metadata: std::collections::BTreeMap<String, String>,
    },
    /// Overwrite a message and its edits.
    Erase {
        /// The message.
        target: u64,
    },
    /// Give a group another title.
    Retitle {
        /// The title.
        title: Arc<str>,
    },
    /// End a group, or hide a direct conversation.
    End,
    /// Add people to a group.
    Add {
        /// The people, each once.
        people: Vec<UserId>,
        /// Why one of them cannot be added.
        refused: Option<Error>,
    },
    /// Remove a person from a group.
    Remove {
        /// The person.
        person: UserId,
    },
    /// Give a member another role.
    Promote {
        /// The member.
        person: UserId,
        /// The role.
        role: Role,
    },
    /// Leave a group.
    Leave,
    /// Overwrite a message of a person who is being erased, whether or not they are a member still.
    Expunge {
        /// The message.
        target: u64,
    },
    /// End the membership of a person who is being erased, also in a direct conversation, and as the last owner.
    Depart,
}

/// How far a person has come in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Watermark {
    /// The conversation.
    pub(crate) conversation: ConversationId,
    /// The person.
    pub(crate) member: UserId,
    /// The epoch that the numbers belong to.
    pub(crate) epoch: u64,
    /// Everything up to here reached a device.
    pub(crate) delivered_seq: u64,
    /// Everything up to here was read.
    pub(crate) read_seq: u64,
}

/// One call to the writer.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// A call that becomes an event.
    Write(Write),
    /// Watermarks to raise.
    Raise(Vec<Watermark>),
}

/// What became of a call that writes.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    /// The event; none for a direct conversation that the other person had begun.
    pub(crate) event: Option<Arc<Event>>,
    /// Whether it was there before.
    pub(crate) deduplicated: bool,
    /// People who became members by it.
    pub(crate) added: Vec<UserId>,
    /// People who ceased to be members by it.
    pub(crate) removed: Vec<UserId>,
}

/// The answer to an [`Op`].
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// To [`Op::Write`].
    Written(Result<Written, Error>),
    /// To [`Op::Raise`]: the watermarks that rose, those of large groups left out.
    Raised(Result<Vec<Watermark>, Error>),
}

impl Write {
    /// A call of `actor` with a request id.
    pub(crate) fn new(
        actor: UserId,
        conversation: ConversationId,
        request_id: &str,
        digest: Digest,
        action: Action,
    ) -> Self {
        let request_hash = request_hash(actor, request_id);
        Self { actor, conversation, request_id: request_id.into(), request_hash, digest, action }
    }
}

impl EventKind {
    /// The kind with a number.
    pub(crate) fn from_number(number: i64) -> Option<Self> {
        use EventKind::*;
        [
            MessageCreated,
            MessageUpdated,
            MessageDeleted,
            ConversationCreated,
            ConversationUpdated,
            ConversationDeleted,
            ConversationHidden,
            MembersAdded,
            MemberRemoved,
            MemberUpdated,
        ]
        .into_iter()
        .find(|kind| *kind as i64 == number)
    }
}

impl std::fmt::Debug for DigestKey {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("DigestKey")
    }
}

impl DigestKey {
    /// The key made from a secret.
    pub(crate) fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The digest of a request: the method, and what it was asked.
    pub(crate) fn digest(&self, method: &str, parts: &[&[u8]]) -> Digest {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(method.as_bytes());
        for part in parts {
            // The lengths keep the parts apart.
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        Digest(first_16(context.sign().as_ref()))
    }
}

/// Sender and request in 8 bytes, for looking up; two requests may share them, so the request itself decides.
fn request_hash(sender: UserId, request_id: &str) -> [u8; 8] {
    let mut text = [0; 16 + 256];
    let id = request_id.as_bytes();
    let taken = id.len().min(256);
    text[..16].copy_from_slice(sender.0.as_bytes());
    text[16..16 + taken].copy_from_slice(&id[..taken]);
    let mut hash = [0; 8];
    hash.copy_from_slice(&digest(&SHA256, &text[..16 + taken]).as_ref()[..8]);
    hash
}
