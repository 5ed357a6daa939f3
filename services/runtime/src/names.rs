//! Resource names: how a person, a conversation, a message, a device and a session are called on the wire, parsed and written
//! in this one place. Parsing is strict, so that one thing has exactly one name.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use uuid::Uuid;

/// The longest device id in bytes.
pub const DEVICE_ID_MAX_BYTES: usize = 64;

/// A text that should have been a resource name and is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a name like {expected}")]
pub struct BadName {
    /// What such a name looks like, for example `conversations/{conversation}`.
    pub expected: &'static str,
}

/// A person.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct UserId(pub Uuid);

/// A conversation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ConversationId(pub Uuid);

/// A session: one sign-in of a person.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SessionId(pub Uuid);

/// A device of a person, named by the device itself: 1 to 64 of `a-z 0-9 . _ -`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct DeviceId(Arc<str>);

impl UserId {
    const EXPECTED: BadName = BadName { expected: "users/{user}" };

    /// The resource name, `users/{user}`.
    pub fn name(&self) -> String {
        written("users/", self.0)
    }

    /// Reads a resource name.
    pub fn parse(name: &str) -> Result<Self, BadName> {
        name.strip_prefix("users/").and_then(strict_uuid).map(Self).ok_or(Self::EXPECTED)
    }
}

impl ConversationId {
    const EXPECTED: BadName = BadName { expected: "conversations/{conversation}" };

    /// The resource name, `conversations/{conversation}`.
    pub fn name(&self) -> String {
        written("conversations/", self.0)
    }

    /// Reads a resource name.
    pub fn parse(name: &str) -> Result<Self, BadName> {
        name.strip_prefix("conversations/").and_then(strict_uuid).map(Self).ok_or(Self::EXPECTED)
    }
}

impl SessionId {
    const EXPECTED: BadName = BadName { expected: "sessions/{session}" };

    /// The name below its person, `sessions/{session}`; [`session_name`] writes the whole resource name.
    pub fn name(&self) -> String {
        written("sessions/", self.0)
    }

    /// Reads the name below its person; [`parse_session`] reads the whole resource name.
    pub fn parse(name: &str) -> Result<Self, BadName> {
        name.strip_prefix("sessions/").and_then(strict_uuid).map(Self).ok_or(Self::EXPECTED)
    }
}

impl DeviceId {
    const EXPECTED: BadName = BadName { expected: "devices/{device}" };

    /// The name below its person, `devices/{device}`; [`device_name`] writes the whole resource name.
    pub fn name(&self) -> String {
        format!("devices/{}", self.0)
    }

    /// Reads the name below its person; [`parse_device`] reads the whole resource name.
    pub fn parse(name: &str) -> Result<Self, BadName> {
        name.strip_prefix("devices/").ok_or(Self::EXPECTED).and_then(Self::from_id)
    }

    /// Takes a bare id.
    pub fn from_id(id: &str) -> Result<Self, BadName> {
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        let fits = (1..=DEVICE_ID_MAX_BYTES).contains(&id.len());
        (fits && id.bytes().all(allowed)).then(|| Self(id.into())).ok_or(Self::EXPECTED)
    }

    /// The bare id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for DeviceId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

macro_rules! texts {
    ($($id:ident),*) => {$(
        impl fmt::Display for $id {
            /// Writes the bare id.
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, out)
            }
        }

        impl FromStr for $id {
            type Err = BadName;

            /// Reads the resource name.
            fn from_str(name: &str) -> Result<Self, BadName> {
                Self::parse(name)
            }
        }
    )*};
}
texts!(UserId, ConversationId, SessionId, DeviceId);

const MESSAGE: BadName = BadName { expected: "conversations/{conversation}/messages/{seq}" };
const DEVICE: BadName = BadName { expected: "users/{user}/devices/{device}" };
const SESSION: BadName = BadName { expected: "users/{user}/sessions/{session}" };

/// The resource name of a message, `conversations/{conversation}/messages/{seq}`.
pub fn message_name(conversation: ConversationId, seq: u64) -> String {
    format!("conversations/{conversation}/messages/{seq}")
}

/// Reads the resource name of a message. The `seq` is at least 1, fits an `i64` and has no leading zero.
pub fn parse_message(name: &str) -> Result<(ConversationId, u64), BadName> {
    let (conversation, seq) = name.split_once("/messages/").ok_or(MESSAGE)?;
    let conversation = ConversationId::parse(conversation).map_err(|_| MESSAGE)?;
    let decimal = matches!(seq.as_bytes(), [b'1'..=b'9', rest @ ..] if rest.iter().all(u8::is_ascii_digit));
    let seq = decimal.then(|| seq.parse::<i64>().ok()).flatten().ok_or(MESSAGE)?;
    Ok((conversation, seq.unsigned_abs()))
}

/// The resource name of a device, `users/{user}/devices/{device}`.
pub fn device_name(user: UserId, device: &DeviceId) -> String {
    format!("users/{user}/devices/{device}")
}

/// Reads the resource name of a device; `users/me/…` stands for `me`.
pub fn parse_device(name: &str, me: UserId) -> Result<(UserId, DeviceId), BadName> {
    let (user, device) = name.strip_prefix("users/").and_then(|rest| rest.split_once("/devices/")).ok_or(DEVICE)?;
    let user = if user == "me" { me } else { strict_uuid(user).map(UserId).ok_or(DEVICE)? };
    Ok((user, DeviceId::from_id(device).map_err(|_| DEVICE)?))
}

/// The resource name of a session, `users/{user}/sessions/{session}`.
pub fn session_name(user: UserId, session: SessionId) -> String {
    format!("users/{user}/sessions/{session}")
}

/// Reads the resource name of a session.
pub fn parse_session(name: &str) -> Result<(UserId, SessionId), BadName> {
    let (user, session) = name.strip_prefix("users/").and_then(|rest| rest.split_once("/sessions/")).ok_or(SESSION)?;
    match (strict_uuid(user), strict_uuid(session)) {
        (Some(user), Some(session)) => Ok((UserId(user), SessionId(session))),
        _ => Err(SESSION),
    }
}

/// Reads a UUID that is written as all of ours are: lower case, with hyphens.
pub fn strict_uuid(text: &str) -> Option<Uuid> {
    let lower = text.len() == 36 && !text.bytes().any(|byte| byte.is_ascii_uppercase());
    lower.then(|| Uuid::try_parse(text).ok()).flatten()
}

/// Writes prefix and id with one allocation.
fn written(prefix: &str, id: Uuid) -> String {
    let mut digits = Uuid::encode_buffer();
    let id = id.hyphenated().encode_lower(&mut digits);
    let mut name = String::with_capacity(prefix.len() + id.len());
    name.push_str(prefix);
    name.push_str(id);
    name
}

#[cfg(test)]
mod tests;
