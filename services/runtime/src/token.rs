//! Who calls: access tokens are verified here, without asking anyone, from the issuer's published keys and its revocations.

mod jwt;
pub mod proof;
mod public_key;
mod revoked;
mod seen;
mod verifier;
mod watch;

use std::sync::Arc;
use std::time::SystemTime;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use tonic::{Code, Request, Status};
use uuid::Uuid;

use crate::fault::{Fault, Reason};
use crate::names::{SessionId, UserId};

pub use jwt::KeysError;
pub use proof::{Addresses, Proof, ProofError};
pub use public_key::{ALGORITHMS, PublicKey};
pub use verifier::Verifier;

/// The API's name, the `aud` of every access token.
pub const AUDIENCE: &str = "flaghoist";

/// The scope that makes a person an admin.
pub const SCOPE_ADMIN: &str = "admin";

/// The scope for what changes nothing, and for the streams and positions of a device.
pub const SCOPE_READ: &str = "chat.read";

/// The scope for everything else that a person may do.
pub const SCOPE_SEND: &str = "chat.send";

/// The domain of the errors that are answered before a service is reached.
pub(crate) const DOMAIN: &str = "runtime.flaghoist";

/// The person or client behind a verified access token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The person; none if the token is a client's own.
    pub user: Option<UserId>,
    /// The token's `sub`: the person's id or the client's.
    pub subject: String,
    /// The client that the token was given to.
    pub client_id: String,
    /// The session that the token belongs to; a client's own token has none.
    pub session: Option<SessionId>,
    /// What the token allows.
    pub scopes: Vec<String>,
    /// The token's id, `jti`.
    pub token_id: Uuid,
    /// The id of the key that signed it.
    pub key_id: String,
    /// When the person proved who they are, if the token says so; a client's own token does not.
    pub authenticated_at: Option<SystemTime>,
    /// The thumbprint of the key that the token is bound to (`cnf.jkt`, RFC 9449 §6): it is good with a proof of that key only.
    pub key_thumbprint: Option<String>,
    /// Whether they proved it by two factors: `mfa` in the token's `amr` (RFC 8176).
    pub two_factors: bool,
    /// When it was issued.
    pub issued_at: SystemTime,
    /// When it ends.
    pub expires_at: SystemTime,
}

impl Caller {
    /// The caller that the access layer found, if any.
    pub fn of<T>(request: &Request<T>) -> Option<Arc<Self>> {
        request.extensions().get::<Arc<Self>>().cloned()
    }

    /// The person who calls a method for people.
    pub fn user_of<T>(request: &Request<T>) -> Result<(UserId, Arc<Self>), Status> {
        match request.extensions().get::<Arc<Self>>() {
            Some(caller) => match caller.user {
                Some(user) => Ok((user, Arc::clone(caller))),
                None => Err(TokenError::Invalid("belongs to a client, not to a person").fault().into_status(DOMAIN)),
            },
            None => Err(TokenError::Missing.fault().into_status(DOMAIN)),
        }
    }

    /// Whether a person with the scope `admin` calls.
    pub fn admin(&self) -> bool {
        self.user.is_some() && self.has_scope(SCOPE_ADMIN)
    }

    /// Whether the token allows `scope`.
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scopes.iter().any(|held| held == scope)
    }
}

/// How an access token is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Whoever holds it may use it (RFC 6750).
    Bearer,
    /// With a proof of the key to which it is bound (RFC 9449 §7.1).
    DPoP,
}

/// An access token as a call brings it; nothing is known of it yet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Presented<'a> {
    /// How it is sent.
    pub scheme: Scheme,
    /// The token.
    pub token: &'a str,
}

impl<'a> Presented<'a> {
    /// The token of `authorization: Bearer …` or `DPoP …`, the only place where one is looked for.
    pub fn among(headers: &'a HeaderMap) -> Result<Self, TokenError> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let value = values.next().ok_or(TokenError::Missing)?;
        if values.next().is_some() {
            return Err(TokenError::Invalid("came twice"));
        }
        let text = value.to_str().map_err(|_| TokenError::Invalid("is malformed"))?;
        let (scheme, token) = text.split_once(' ').ok_or(TokenError::Missing)?;
        let scheme = match scheme {
            bearer if bearer.eq_ignore_ascii_case("bearer") => Scheme::Bearer,
            dpop if dpop.eq_ignore_ascii_case("dpop") => Scheme::DPoP,
            _ => return Err(TokenError::Missing),
        };
        Ok(Self { scheme, token: token.trim_ascii() })
    }
}

impl std::fmt::Debug for Presented<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Presented").field("scheme", &self.scheme).finish_non_exhaustive()
    }
}

/// What is revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RevocationTarget {
    /// Every token with this `sid`.
    Session(SessionId),
    /// Every token with this `sub`, a person's or a client's id, that was issued before the revocation.
    Subject(String),
    /// The one token with this `jti`.
    Token(Uuid),
    /// Every token that the signing key with this id has signed, whenever that was.
    Key(String),
}

/// One revocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// What is revoked.
    pub target: RevocationTarget,
    /// When.
    pub revoked_at: SystemTime,
}

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// There is none.
    #[error("no access token")]
    Missing,
    /// It is malformed, not signed by the issuer, or meant for something else.
    #[error("the access token {0}")]
    Invalid(&'static str),
    /// It has ended.
    #[error("the access token has expired")]
    Expired,
    /// It, its session or its subject was revoked.
    #[error("the access token was revoked")]
    Revoked,
    /// It is bound to a key of which there is no good proof, or it is sent as one that is and is not.
    #[error("{0}")]
    Unproven(ProofError),
    /// The issuer's keys have not been fetched yet.
    #[error("the keys of the issuer are not known yet")]
    KeysUnknown,
}

impl TokenError {
    /// What it is on the wire.
    pub fn fault(self) -> Fault {
        let reason = match self {
            Self::Missing => Reason::TokenMissing,
            Self::Invalid(_) => Reason::TokenInvalid,
            Self::Expired => Reason::TokenExpired,
            Self::Revoked => Reason::TokenRevoked,
            Self::Unproven(_) => Reason::ProofInvalid,
            Self::KeysUnknown => return Fault::unavailable(self.to_string()),
        };
        Fault::new(Code::Unauthenticated, reason, self.to_string())
    }

    /// Whether newer keys of the issuer may help.
    pub(crate) fn wants_keys(self) -> bool {
        matches!(self, jwt::UNKNOWN_KEY | Self::KeysUnknown)
    }
}

#[cfg(test)]
pub(crate) mod tests;
