//! Readiness: each part that must be there before the process may answer holds a token while it is not; the process is ready while
//! no token is held.
//!
//! A name like `send: PostgreSQL` or `send` says whose part it is: only that service is then not ready.

use std::collections::BTreeMap;
use std::sync::Arc;

use flaghoist_proto::METHODS;
use parking_lot::Mutex;
use tokio::sync::watch;

/// What the process is waiting for.
#[derive(Debug, Clone)]
pub struct Readiness(Arc<Waiting>);

#[derive(Debug)]
struct Waiting {
    tokens: Mutex<Tokens>,
    count: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Tokens {
    next: u64,
    held: BTreeMap<u64, &'static str>,
}

/// Held by a part that is not ready yet; dropping it says that it is.
#[derive(Debug)]
pub struct ReadyToken {
    number: u64,
    waiting: Arc<Waiting>,
}

/// Something outside that a service cannot work without, such as its store: while it is away the service is not ready.
///
/// Another service is none. Two that call one another would each wait for the other, and a mesh that sees no ready pod answers in
/// the service's place; a peer that does not answer is said in the log, and calls that need it are answered UNAVAILABLE.
#[derive(Debug)]
pub struct Dependency {
    readiness: Readiness,
    name: &'static str,
    missing: Mutex<Option<ReadyToken>>,
}

impl Dependency {
    /// It answers.
    pub fn up(&self) {
        if self.missing.lock().take().is_some() {
            tracing::info!(dependency = self.name, "there");
        }
    }

    /// It does not answer, and this is why.
    pub fn down(&self, why: &dyn std::fmt::Display) {
        let mut missing = self.missing.lock();
        if missing.is_none() {
            tracing::warn!(dependency = self.name, error = %why, "missing: not ready until it is back");
            *missing = Some(self.readiness.token(self.name));
        }
    }
}

impl Readiness {
    /// What a service cannot work without; it is missing until it is said to be up. The name begins with the service's, as in
    /// `send: PostgreSQL`.
    pub fn dependency(&self, name: &'static str) -> Dependency {
        Dependency { readiness: self.clone(), name, missing: Mutex::new(Some(self.token(name))) }
    }

    /// Readiness that waits for nothing yet.
    pub fn new() -> Self {
        Self(Arc::new(Waiting { tokens: Mutex::default(), count: watch::Sender::new(0) }))
    }

    /// A token for the part `name`.
    pub fn token(&self, name: &'static str) -> ReadyToken {
        let mut tokens = self.0.tokens.lock();
        let number = tokens.next;
        tokens.next += 1;
        tokens.held.insert(number, name);
        self.0.count.send_replace(tokens.held.len());
        ReadyToken { number, waiting: Arc::clone(&self.0) }
    }

    /// Waits until no token is held.
    pub async fn ready(&self) {
        let mut count = self.0.count.subscribe();
        // The sender lives as long as `self`.
        let _gone = count.wait_for(|count| *count == 0).await;
    }

    /// Whether no token is held.
    pub fn is_ready(&self) -> bool {
        *self.0.count.borrow() == 0
    }

    /// The parts that hold a token, in the order in which they took it.
    pub fn waiting_for(&self) -> Vec<&'static str> {
        self.0.tokens.lock().held.values().copied().collect()
    }

    /// Whether a proto service may be called, by its full name: nothing is missing that is its service's or everybody's.
    pub fn serves(&self, proto_service: &str) -> bool {
        let owner = owner_of(proto_service);
        self.0.tokens.lock().held.values().all(|name| match subject(name) {
            Some(subject) => owner.is_some_and(|owner| owner != subject),
            None => false,
        })
    }

    /// Wakes whenever something went missing or came back.
    pub fn changes(&self) -> watch::Receiver<usize> {
        self.0.count.subscribe()
    }
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for ReadyToken {
    fn drop(&mut self) {
        let mut tokens = self.waiting.tokens.lock();
        tokens.held.remove(&self.number);
        self.waiting.count.send_replace(tokens.held.len());
    }
}

/// The service that a proto service belongs to: `send` for `flaghoist.send.v1.LogService`.
fn owner_of(proto_service: &str) -> Option<&str> {
    proto_service.strip_prefix("flaghoist.")?.split('.').next()
}

/// The service whose part `name` is: `send` for `send: PostgreSQL`; none if it is everybody's.
fn subject(name: &str) -> Option<&str> {
    let subject = name.split(": ").next().unwrap_or(name);
    METHODS.iter().any(|method| owner_of(method.service) == Some(subject)).then_some(subject)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn the_last_token_dropped_makes_the_process_ready() {
        let readiness = Readiness::new();
        let (store, keys) = (readiness.token("store"), readiness.token("keys"));
        assert_eq!(readiness.waiting_for(), ["store", "keys"]);
        drop(store);
        assert!(readiness.ready().now_or_never().is_none() && !readiness.is_ready());
        drop(keys);
        readiness.ready().await;
        assert!(readiness.is_ready() && readiness.waiting_for().is_empty());
    }

    #[test]
    fn what_is_missing_concerns_its_own_service_or_everybody() {
        let readiness = Readiness::new();
        let serves = || {
            ["send.v1.LogService", "login.v1.LoginService"].map(|name| readiness.serves(&format!("flaghoist.{name}")))
        };
        assert_eq!(serves(), [true, true]);
        let store = readiness.dependency("send: PostgreSQL");
        assert_eq!(serves(), [false, true]);
        store.up();
        assert_eq!(serves(), [true, true]);
        store.down(&"connection refused");
        store.down(&"connection refused");
        assert_eq!(serves(), [false, true]);
        assert_eq!(readiness.waiting_for(), ["send: PostgreSQL"]);
        store.up();
        let keys = readiness.token("token keys");
        assert_eq!(serves(), [false, false]);
        drop(keys);
        let starting = readiness.token("login");
        assert_eq!(serves(), [true, false]);
        drop(starting);
        assert!(readiness.is_ready());
    }
}
