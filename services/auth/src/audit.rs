//! The audit log: who did what to sessions, clients, keys and rights, from where, and what came of it.
//!
//! An event is written in the transaction of what it records, so there is neither one without the other. What anybody may cause as
//! often as they like goes through a [`Tally`], which counts what is too much, so that nobody fills the disk with it. An ordinary
//! refresh is no event. Nothing secret is in an event: names, ids, addresses, and words of this file.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use flaghoist_runtime::Caller;
use flaghoist_runtime::names::{SessionId, UserId};
use uuid::Uuid;

use crate::moment::Moment;
use crate::refresh_token::random_bytes;
use crate::session::Session;

mod tally;

pub(crate) use tally::Tally;

/// The longest address that is kept.
const ADDRESS_MAX_CHARS: usize = 64;

/// Who does something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Actor {
    /// A person.
    Person(UserId),
    /// A client by itself.
    Client(Arc<str>),
    /// Another service, for somebody whom it knows.
    Service(&'static str),
    /// Nobody: it happens by itself.
    System,
    /// Whoever works beside the server.
    Operator,
    /// Somebody who did not prove who they are.
    Unknown,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Person(user) => write!(f, "users/{user}"),
            Self::Client(client) => write!(f, "clients/{client}"),
            Self::Service(service) => write!(f, "services/{service}"),
            Self::System => f.write_str("system"),
            Self::Operator => f.write_str("operator"),
            Self::Unknown => Ok(()),
        }
    }
}

/// Who does something, by which client, from where, and when.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) actor: Actor,
    /// Empty if none.
    pub(crate) client_id: Arc<str>,
    /// Empty if not known.
    pub(crate) address: String,
    pub(crate) at: Moment,
}

impl Origin {
    /// `actor`, by no client and from no known address.
    pub(crate) fn new(actor: Actor, at: Moment) -> Self {
        Self { actor, client_id: "".into(), address: String::new(), at }
    }

    /// The person who signs in, as their session tells of it.
    pub(crate) fn sign_in(session: &Session, at: Moment) -> Self {
        Self::new(Actor::Person(session.user), at).by_client(&session.client_id).at_address(&session.last_address)
    }

    /// What happens by itself.
    pub(crate) fn system(at: Moment) -> Self {
        Self::new(Actor::System, at)
    }

    /// The person or client whose access token was checked; nobody where none was asked for.
    pub(crate) fn caller(caller: Option<&Caller>, address: &str, at: Moment) -> Self {
        let (actor, client_id) = match caller {
            Some(Caller { user: Some(user), client_id, .. }) => (Actor::Person(*user), client_id.as_str().into()),
            Some(Caller { client_id, .. }) => (Actor::Client(client_id.as_str().into()), client_id.as_str().into()),
            None => (Actor::Unknown, "".into()),
        };
        Self { client_id, ..Self::new(actor, at) }.at_address(address)
    }

    /// The same by this client.
    pub(crate) fn by_client(self, client_id: &Arc<str>) -> Self {
        Self { client_id: client_id.clone(), ..self }
    }

    /// The same from this address.
    pub(crate) fn at_address(self, address: &str) -> Self {
        let address = address.chars().filter(|letter| !letter.is_control()).take(ADDRESS_MAX_CHARS).collect();
        Self { address, ..self }
    }
}

/// The names of the actions, as the store keeps them and as the contract has them.
macro_rules! actions {
    ($($action:ident = $name:literal,)*) => {
        /// What is done; `Unknown` is read where a newer version has written something else.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum Action {
            $($action,)*
        }

        impl Action {
            /// Its name in the store, and in the contract behind `AUDIT_ACTION_`.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$action => $name,)* }
            }

            /// The action of that name.
            pub(crate) fn named(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$action),)* _ => None }
            }

            /// All of them.
            #[cfg(test)]
            pub(crate) const ALL: &[Self] = &[$(Self::$action,)*];
        }
    };
}

actions! {
    Unknown = "UNSPECIFIED",
    SessionOpened = "SESSION_OPENED",
    SessionEnded = "SESSION_ENDED",
    RefreshTokenReused = "REFRESH_TOKEN_REUSED",
    TokenRevoked = "TOKEN_REVOKED",
    TokenExchanged = "TOKEN_EXCHANGED",
    SubjectEnabled = "SUBJECT_ENABLED",
    SubjectDisabled = "SUBJECT_DISABLED",
    AdminGranted = "ADMIN_GRANTED",
    AdminWithdrawn = "ADMIN_WITHDRAWN",
    SubjectErased = "SUBJECT_ERASED",
    ClientCreated = "CLIENT_CREATED",
    ClientUpdated = "CLIENT_UPDATED",
    ClientSecretRotated = "CLIENT_SECRET_ROTATED",
    ClientDeleted = "CLIENT_DELETED",
    RegistrationTokenCreated = "REGISTRATION_TOKEN_CREATED",
    ClientAuthenticationFailed = "CLIENT_AUTHENTICATION_FAILED",
    KeyPublished = "KEY_PUBLISHED",
    KeyActivated = "KEY_ACTIVATED",
    KeyRetired = "KEY_RETIRED",
    KeyRemoved = "KEY_REMOVED",
    KeyRevoked = "KEY_REVOKED",
    KeyRotationRequested = "KEY_ROTATION_REQUESTED",
    KeyResealed = "KEY_RESEALED",
}

/// Why a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// Its client gave the refresh token back.
    SignedOut,
    /// Its person, or login for them, ended it.
    Revoked,
    /// A newer one of the person needed its place.
    TooMany,
    /// It was not used for too long, or is too old.
    Expired,
    /// A refresh token of it was used twice.
    Reused,
    /// The code that it was given for was used twice.
    CodeReplayed,
    /// Its person may not hold it any more.
    SubjectChanged,
    /// Its person is no more.
    SubjectErased,
    /// Its client was removed.
    ClientDeleted,
}

impl Why {
    fn word(self) -> &'static str {
        match self {
            Self::SignedOut => "signed_out",
            Self::Revoked => "revoked",
            Self::TooMany => "too_many_sessions",
            Self::Expired => "expired",
            Self::Reused => "refresh_token_reused",
            Self::CodeReplayed => "code_replayed",
            Self::SubjectChanged => "subject_changed",
            Self::SubjectErased => "subject_erased",
            Self::ClientDeleted => "client_deleted",
        }
    }
}

/// One thing that was done, or refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// Its place in the order: time first.
    pub(crate) id: Uuid,
    pub(crate) at: Moment,
    /// A resource name, or a word for whoever has none.
    pub(crate) actor: String,
    /// The resource name of whom or what it concerns; may be empty.
    pub(crate) subject: String,
    pub(crate) session: Option<SessionId>,
    pub(crate) client_id: String,
    pub(crate) address: String,
    pub(crate) action: Action,
    pub(crate) refused: bool,
    /// How many alike it stands for.
    pub(crate) count: u32,
    pub(crate) detail: String,
}

impl Event {
    /// `action`, done by `by` to `subject`.
    pub(crate) fn new(by: &Origin, action: Action, subject: impl Into<String>) -> Self {
        Self {
            id: new_id(by.at),
            at: by.at,
            actor: by.actor.to_string(),
            subject: subject.into(),
            session: None,
            client_id: by.client_id.to_string(),
            address: by.address.clone(),
            action,
            refused: false,
            count: 1,
            detail: String::new(),
        }
    }

    /// `action`, done to a session of `user`.
    pub(crate) fn of_session(by: &Origin, action: Action, user: UserId, session: SessionId) -> Self {
        Self { session: Some(session), ..Self::new(by, action, user.name()) }
    }

    /// The end of a session that was opened with `client_id`.
    pub(crate) fn session_ended(by: &Origin, why: Why, user: UserId, session: SessionId, client_id: &str) -> Self {
        let event = Self::of_session(by, Action::SessionEnded, user, session).detail(why.word());
        Self { client_id: client_id.to_owned(), ..event }
    }

    /// The same, refused.
    pub(crate) fn refused(self) -> Self {
        Self { refused: true, ..self }
    }

    /// The same with a few words about it.
    pub(crate) fn detail(self, detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), ..self }
    }
}

/// What of the log is asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) since: Option<Moment>,
    pub(crate) until: Option<Moment>,
    pub(crate) actor: Option<String>,
    pub(crate) subject: Option<String>,
    pub(crate) action: Option<Action>,
    /// Only what comes before this one, newest first.
    pub(crate) before: Option<Uuid>,
}

impl Filter {
    /// The ids that fit by time: from the first on, and below the second.
    pub(crate) fn bounds(&self) -> (Uuid, Uuid) {
        let from = self.since.map_or(Uuid::nil(), first_id);
        let until = self.until.map_or(Uuid::max(), first_id);
        (from, self.before.map_or(until, |before| before.min(until)))
    }
}

/// A new id for an event of that moment. Those of one process keep their order within a millisecond; the rest is random.
fn new_id(at: Moment) -> Uuid {
    static LAST: AtomicU16 = AtomicU16::new(0);
    let mut bytes = first_id(at).into_bytes();
    bytes[6..8].copy_from_slice(&LAST.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    bytes[8..].copy_from_slice(&random_bytes::<8>());
    Uuid::from_bytes(bytes)
}

/// The least id of that moment.
fn first_id(at: Moment) -> Uuid {
    let millis = u64::try_from(at.0).unwrap_or(0).min((1 << 48) - 1);
    Uuid::from_u128(u128::from(millis) << 80)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_in_the_order_of_the_events() {
        let ids: Vec<_> = (0..1000).map(|no| new_id(Moment(1_700_000_000_000 + no / 10))).collect();
        // The counter may start over within a millisecond, once in 65,536 events.
        assert!(ids.windows(2).filter(|pair| pair[0] >= pair[1]).count() <= 1);
        let filter = Filter { since: Some(Moment(5)), until: Some(Moment(7)), ..Filter::default() };
        let (from, until) = filter.bounds();
        let within = |at| (from..until).contains(&new_id(Moment(at)));
        assert_eq!([4, 5, 6, 7].map(within), [false, true, true, false]);
        assert!(new_id(Moment(-1)) < new_id(Moment(1)));
    }

    #[test]
    fn every_action_is_one_of_the_contract() {
        use flaghoist_proto::auth::v1::AuditAction;
        for action in Action::ALL {
            let name = format!("AUDIT_ACTION_{}", action.name());
            assert!(AuditAction::from_str_name(&name).is_some(), "{name}");
            assert_eq!(Action::named(action.name()), Some(*action));
        }
        assert_eq!(Action::ALL.len(), 24, "the contract has no other");
        assert!(AuditAction::try_from(23).is_ok() && AuditAction::try_from(24).is_err());
    }

    #[test]
    fn an_address_is_bounded_and_has_no_control_characters() {
        let origin = Origin::system(Moment(0)).at_address(&format!("192.0.2.1\0\n{}", "x".repeat(1000)));
        assert!(origin.address.starts_with("192.0.2.1x") && origin.address.len() == ADDRESS_MAX_CHARS);
    }
}
