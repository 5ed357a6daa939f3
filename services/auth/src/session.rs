//! Sessions, and what happens when a refresh token of one is presented.

use std::sync::Arc;
use std::time::Duration;

use flaghoist_runtime::names::{SessionId, UserId};

use crate::moment::Moment;
use crate::refresh_token::Digest;
use crate::scope::Scopes;

/// One sign-in of a person with one client, and its family of refresh tokens.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) user: UserId,
    pub(crate) client_id: Arc<str>,
    /// The scopes granted at the sign-in.
    pub(crate) scopes: Scopes,
    /// How the person proved who they are (RFC 8176).
    pub(crate) amr: Vec<String>,
    /// What the person or their program called the device.
    pub(crate) label: String,
    /// When the person proved it.
    pub(crate) authenticated_at: Moment,
    pub(crate) created_at: Moment,
    /// To the minute.
    pub(crate) last_use_at: Moment,
    /// Empty if not known.
    pub(crate) last_address: String,
    pub(crate) family: Family,
    /// What userinfo was asked for by name.
    pub(crate) claims: Vec<String>,
    /// The thumbprint of the key to which its refresh tokens are bound; empty if to none.
    pub(crate) key_thumbprint: String,
}

impl Session {
    /// Whether its refresh tokens are too old by now.
    pub(crate) fn expired(&self, lifetimes: &Lifetimes, now: Moment) -> bool {
        now >= self.family.rotated_at.plus(lifetimes.idle) || now >= self.created_at.plus(lifetimes.absolute)
    }

    /// When its refresh token expires if it is not used before.
    pub(crate) fn expires_at(&self, lifetimes: &Lifetimes) -> Moment {
        self.family.rotated_at.plus(lifetimes.idle).min(self.created_at.plus(lifetimes.absolute))
    }
}

/// What is known of a session's refresh tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Family {
    /// The token that is good now.
    pub(crate) current: Digest,
    /// The one that was exchanged for it.
    pub(crate) previous: Option<Digest>,
    /// When the current one was issued.
    pub(crate) rotated_at: Moment,
}

/// How long refresh tokens are good for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifetimes {
    /// How long a used token still gets its successor.
    pub(crate) grace: Duration,
    /// How long a session lives without a refresh.
    pub(crate) idle: Duration,
    /// How long a session lives at most.
    pub(crate) absolute: Duration,
}

/// A refresh token as a client presents it.
#[derive(Clone, Debug)]
pub(crate) struct Presentation {
    pub(crate) session: SessionId,
    pub(crate) presented: Digest,
    /// What it is exchanged for.
    pub(crate) successor: Digest,
    pub(crate) client_id: Arc<str>,
    /// The scopes asked for; none given means all.
    pub(crate) scopes: Option<Scopes>,
    /// Where the client calls from; empty if not known.
    pub(crate) address: String,
    /// The thumbprint of the key that a public client has proven.
    pub(crate) key: Option<String>,
}

/// What the presentation of a genuine refresh token comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The successor is good now, whether by this presentation or by one a moment ago.
    Granted(Grant),
    /// The token was used before, or came from another client or without its key: its session has ended.
    Reused,
    /// The session had ended.
    Ended,
    /// The session is too old; it has ended.
    Expired,
    /// More was asked for than was granted at the sign-in. Nothing changed.
    ScopeExceeded,
}

/// What an access token of a session says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) session: SessionId,
    pub(crate) user: UserId,
    pub(crate) scopes: Scopes,
    pub(crate) amr: Vec<String>,
    pub(crate) authenticated_at: Moment,
}

impl Session {
    /// What its access tokens say.
    pub(crate) fn grant(&self) -> Grant {
        Grant {
            session: self.id,
            user: self.user,
            scopes: self.scopes,
            amr: self.amr.clone(),
            authenticated_at: self.authenticated_at,
        }
    }

    /// Judges a refresh token of this session and, when it is the current one, moves the family on. After
    /// [`Verdict::Reused`] and [`Verdict::Expired`] the session is to be deleted.
    pub(crate) fn present(&mut self, token: &Presentation, lifetimes: &Lifetimes, now: Moment) -> Verdict {
        let current = token.presented == self.family.current;
        let repeated = self.family.previous == Some(token.presented)
            && self.family.current == token.successor
            && now.since(self.family.rotated_at) <= lifetimes.grace;
        let bound = !self.key_thumbprint.is_empty();
        let holds_key = !bound || token.key.as_ref() == Some(&self.key_thumbprint);
        if token.client_id != self.client_id || !(current || repeated) || !holds_key {
            return Verdict::Reused;
        }
        if self.expired(lifetimes, now) {
            return Verdict::Expired;
        }
        if token.scopes.is_some_and(|asked| !self.scopes.includes(asked)) {
            return Verdict::ScopeExceeded;
        }
        if current {
            if let (false, Some(key)) = (bound, &token.key) {
                // The successor is bound, as every refresh token that a public client gets with a proof (RFC 9449 §5).
                self.key_thumbprint.clone_from(key);
            }
            self.family = Family { current: token.successor, previous: Some(token.presented), rotated_at: now };
            self.last_use_at = now.minute();
            if !token.address.is_empty() {
                self.last_address.clone_from(&token.address);
            }
        }
        Verdict::Granted(self.grant())
    }
}

#[cfg(test)]
mod tests;
