//! What a batch of refresh tokens comes to, whatever the backend: they are judged in memory one after the other, and what has to be
//! written is told in bulk.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use flaghoist_runtime::names::SessionId;

use crate::moment::Moment;
use crate::session::{Family, Lifetimes, Presentation, Session, Verdict};

/// What is to be answered, and what is to be written first.
pub(super) struct Judgement {
    /// In the order of the presentations.
    pub(super) verdicts: Vec<Verdict>,
    /// The sessions whose family moved on.
    pub(super) moved: Vec<Moved>,
    /// The sessions that are to be ended.
    pub(super) ended: Vec<SessionId>,
}

/// A session whose family moved on.
pub(super) struct Moved {
    /// As it is now.
    pub(super) session: Session,
    /// Where its family was.
    pub(super) found: Family,
    found_use: (Moment, String),
}

impl Moved {
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
            (session.id, Moved { found: session.family, found_use, session })
        })
        .collect();
    let mut ended = Vec::new();
    let verdicts = presentations
        .iter()
        .map(|token| {
            let Entry::Occupied(mut entry) = live.entry(token.session) else { return Verdict::Ended };
            let verdict = entry.get_mut().session.present(token, lifetimes, now);
            if matches!(verdict, Verdict::Reused | Verdict::Expired) {
                ended.push(token.session);
                entry.remove();
            }
            verdict
        })
        .collect();
    let moved = live.into_values().filter(|moved| moved.session.family != moved.found).collect();
    Judgement { verdicts, moved, ended }
}
