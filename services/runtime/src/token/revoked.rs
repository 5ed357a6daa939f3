//! What was revoked lately: looked up by session, subject and token, and forgotten once every token it concerns has expired anyway.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, SystemTime};

use uuid::Uuid;

use super::{Caller, Revocation, RevocationTarget};
use crate::names::SessionId;

/// After how many new revocations the old ones are looked through.
const PRUNE_EVERY: usize = 256;

/// How many revoked keys are remembered. They are never forgotten by their age, for an issuer that was cut off may publish one much
/// later; each was an emergency, so there are few.
const KEYS_MAX: usize = 256;

/// The revocations that still concern a token.
#[derive(Debug, Default)]
pub(super) struct Revoked {
    sessions: HashMap<SessionId, SystemTime>,
    subjects: HashMap<String, SystemTime>,
    tokens: HashMap<Uuid, SystemTime>,
    keys: HashMap<String, SystemTime>,
    since_prune: usize,
}

impl Revoked {
    /// Takes note of a revocation, and says whether it is news. Those older than `keep` are forgotten from time to time.
    pub(super) fn add(&mut self, revocation: &Revocation, keep: Duration, now: SystemTime) -> bool {
        let at = revocation.revoked_at;
        if at + keep < now {
            return false;
        }
        self.since_prune += 1;
        if self.since_prune >= PRUNE_EVERY {
            self.since_prune = 0;
            self.sessions.retain(|_, at| *at + keep >= now);
            self.subjects.retain(|_, at| *at + keep >= now);
            self.tokens.retain(|_, at| *at + keep >= now);
        }
        match &revocation.target {
            RevocationTarget::Session(session) => later(&mut self.sessions, *session, at),
            RevocationTarget::Subject(subject) => later(&mut self.subjects, subject.clone(), at),
            RevocationTarget::Token(token) => later(&mut self.tokens, *token, at),
            RevocationTarget::Key(kid) => self.add_key(kid, at),
        }
    }

    fn add_key(&mut self, kid: &str, at: SystemTime) -> bool {
        if self.keys.len() >= KEYS_MAX && !self.keys.contains_key(kid) {
            let oldest = self.keys.iter().min_by_key(|(_, at)| **at).map(|(kid, _)| kid.clone());
            oldest.and_then(|kid| self.keys.remove(&kid));
        }
        later(&mut self.keys, kid.to_owned(), at)
    }

    /// Whether the caller's token, session, subject or client was revoked, or the key that signed the token.
    pub(super) fn concerns(&self, caller: &Caller) -> bool {
        caller.session.is_some_and(|session| self.sessions.contains_key(&session))
            // A token says only the second in which it was issued, so one of the same second counts as issued before.
            || [&caller.subject, &caller.client_id]
                .into_iter()
                .any(|who| self.subjects.get(who).is_some_and(|at| caller.issued_at <= *at))
            || self.tokens.contains_key(&caller.token_id)
            || self.keys.contains_key(&caller.key_id)
    }

    /// How many revocations are kept.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.sessions.len() + self.subjects.len() + self.tokens.len() + self.keys.len()
    }
}

/// Keeps the later of the times, and says whether that changed anything.
fn later<K: Eq + Hash>(times: &mut HashMap<K, SystemTime>, key: K, at: SystemTime) -> bool {
    match times.get_mut(&key) {
        Some(known) if *known >= at => false,
        Some(known) => {
            *known = at;
            true
        }
        None => times.insert(key, at).is_none(),
    }
}
