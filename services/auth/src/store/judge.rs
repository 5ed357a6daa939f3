//! What is the same whatever the backend. A batch of refresh tokens is judged in memory one after the other, and what has to be written
//! is told in bulk; the events of the audit log are made here, and the revocation of a key is read.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use flaghoist_runtime::names::{SessionId, UserId};
use flaghoist_runtime::token::RevocationTarget;

use crate::audit::{Action, Actor, Event, Origin};
use crate::moment::Moment;
use crate::scope::Scopes;
use crate::session::{Family, Lifetimes, Presentation, Session, Verdict};
use crate::store::SubjectState;

/// What is to be answered, and what is to be written first.
pub(super) struct Judgement {
    /// In the order of the presentations.
    pub(super) verdicts: Vec<Verdict>,
    /// The sessions whose family moved on.
    pub(super) moved: Vec<Moved>,
    /// The sessions that are to be ended because a token was used twice.
    pub(super) reused: Vec<SessionId>,
    /// Who did so.
    pub(super) reuses: Vec<Event>,
    /// The sessions that are to be ended because they are too old.
    pub(super) expired: Vec<SessionId>,
}

impl Judgement {
    /// Whether nothing is to be written.
    pub(super) fn idle(&self) -> bool {
        self.moved.is_empty() && self.reused.is_empty() && self.expired.is_empty()
    }
}

/// A session whose family moved on.
pub(super) struct Moved {
    /// As it is now.
    pub(super) session: Session,
    /// Where its family was.
    pub(super) found: Family,
    found_use: (Moment, String),
    found_key: String,
}

impl Moved {
    /// Whether its refresh tokens are bound to a key from now on, and were not before.
    pub(super) fn newly_bound(&self) -> bool {
        self.session.key_thumbprint != self.found_key
    }

    /// Whether it was used in another minute, or from another address, than is stored.
    pub(super) fn used_otherwise(&self) -> bool {
        self.session.last_use_at != self.found_use.0 || self.session.last_address != self.found_use.1
    }
}

/// The sessions that the presentations ask for, each once and in order: the order in which every backend locks them.
pub(super) fn asked(presentations: &[Presentation]) -> Vec<SessionId> {
    let mut ids: Vec<_> = presentations.iter().map(|token| token.session).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Judges `presentations` one after the other against the sessions that were found for them.
pub(super) fn judge(
    found: Vec<Session>,
    presentations: &[Presentation],
    lifetimes: &Lifetimes,
    now: Moment,
) -> Judgement {
    let mut live: HashMap<_, _> = found
        .into_iter()
        .map(|session| {
            let found_use = (session.last_use_at, session.last_address.clone());
            let found_key = session.key_thumbprint.clone();
            (session.id, Moved { found: session.family, found_use, found_key, session })
        })
        .collect();
    let (mut reused, mut reuses, mut expired) = (Vec::new(), Vec::new(), Vec::new());
    let verdicts = presentations
        .iter()
        .map(|token| {
            let Entry::Occupied(mut entry) = live.entry(token.session) else { return Verdict::Ended };
            let verdict = entry.get_mut().session.present(token, lifetimes, now);
            match verdict {
                Verdict::Reused => {
                    let user = entry.remove().session.user;
                    reused.push(token.session);
                    // The client has proven itself; a public one is nobody in particular.
                    let by = Origin::new(Actor::Unknown, now).by_client(&token.client_id).at_address(&token.address);
                    reuses.push(Event::of_session(&by, Action::RefreshTokenReused, user, token.session).refused());
                }
                Verdict::Expired => {
                    entry.remove();
                    expired.push(token.session);
                }
                Verdict::Granted(_) | Verdict::Ended | Verdict::ScopeExceeded => {}
            }
            verdict
        })
        .collect();
    let moved = live.into_values().filter(|moved| moved.session.family != moved.found).collect();
    Judgement { verdicts, moved, reused, reuses, expired }
}

/// The event of a session that was opened with `scopes`.
pub(super) fn opened(session: &Session, scopes: Scopes, by: &Origin) -> Event {
    Event::of_session(by, Action::SessionOpened, session.user, session.id).detail(scopes.to_string())
}

/// The events of what login has said about a person; before, it had said `enabled`, `admin`, and whether they are erased. Only what is
/// another state is one: login says the same again and again.
pub(super) fn subject_events(
    before: Option<(bool, bool, bool)>,
    state: SubjectState,
    user: UserId,
    by: &Origin,
) -> Vec<Event> {
    let (was_enabled, was_admin) = match before {
        Some((_, _, true)) => return Vec::new(),
        Some((enabled, admin, false)) => (enabled, admin),
        None => (true, false),
    };
    let mut actions = Vec::new();
    if state.enabled != was_enabled {
        actions.push(if state.enabled { Action::SubjectEnabled } else { Action::SubjectDisabled });
    }
    if state.admin != was_admin {
        actions.push(if state.admin { Action::AdminGranted } else { Action::AdminWithdrawn });
    }
    actions.into_iter().map(|action| Event::new(by, action, user.name())).collect()
}

/// What is revoked by the subject in a row. A key is kept as the subject `keys/{kid}`: pods of the version before read it as one that no
/// token has, and no client can be called so.
pub(super) fn subject(target: String) -> RevocationTarget {
    match target.strip_prefix("keys/") {
        Some(kid) => RevocationTarget::Key(kid.to_owned()),
        None => RevocationTarget::Subject(target),
    }
}
