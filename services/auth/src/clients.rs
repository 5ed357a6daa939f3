//! All clients, in memory: they are few, and every refresh asks for one. The store is asked every second whether another pod has
//! changed them, and at once when a client cannot be found or proven, so that one that was registered a moment ago is known.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::audit::{Action, Event, Tally};
use crate::client::{self, ACCOUNT_PAGES, BUILT_IN, Client};
use crate::error::{Error, StoreError};
use crate::issuer::client_name;
use crate::moment::Clock;
use crate::redirect;
use crate::store::Store;

/// How many failed authentications are told of in the audit log at once, each kind as one event with its number.
const FAILURES_BURST: u32 = 60;

/// How long it takes until one more may be: 8640 a day at most.
const FAILURE_EVERY: Duration = Duration::from_secs(10);

/// The clients of the store as they were a moment ago.
pub(crate) struct Clients {
    store: Arc<dyn Store>,
    clock: Clock,
    /// The address of the issuer.
    issuer: String,
    known: RwLock<Known>,
    asked: Mutex<Asked>,
    failures: Tally,
}

/// The clients in memory.
#[derive(Debug, Default)]
struct Known {
    by_id: HashMap<Arc<str>, Arc<Client>>,
    /// What the pages call themselves to which public clients may be sent codes; asked for at every call of a page.
    origins: HashSet<String>,
}

impl Known {
    fn of(by_id: HashMap<Arc<str>, Arc<Client>>) -> Self {
        let public = by_id.values().filter(|client| !client.confidential());
        let addresses = public.flat_map(|client| &client.registration.redirect_uris);
        let origins = addresses.map(|address| redirect::origin(address)).collect();
        Self { by_id, origins }
    }

    fn change(&mut self, change: impl FnOnce(&mut HashMap<Arc<str>, Arc<Client>>)) {
        let mut by_id = std::mem::take(&mut self.by_id);
        change(&mut by_id);
        *self = Self::of(by_id);
    }
}

/// What is known of the store. Whoever holds it is the only one who changes the clients in memory.
#[derive(Debug, Default)]
struct Asked {
    /// The version of the list in memory.
    version: Option<i64>,
    /// When the store was asked last.
    at: Option<Instant>,
}

impl Clients {
    /// Knows nobody before the first [`Self::refresh`].
    pub(crate) fn new(store: Arc<dyn Store>, clock: Clock, issuer: String) -> Self {
        let failures = Tally::new(Action::ClientAuthenticationFailed, true, FAILURES_BURST, FAILURE_EVERY);
        Self { store, clock, issuer, known: RwLock::default(), asked: Mutex::default(), failures }
    }

    /// Takes over what has changed in the store.
    pub(crate) async fn refresh(&self) -> Result<(), StoreError> {
        let asking_since = Instant::now();
        let mut asked = self.asked.lock().await;
        // Of those who waited meanwhile, the first asks for all.
        if asked.at.is_some_and(|at| at > asking_since) {
            return Ok(());
        }
        let at = Instant::now();
        if let Some((version, clients)) = self.store.clients(asked.version).await? {
            let current = clients.into_iter().map(|client| self.current(client));
            let known = Known::of(current.map(|client| (client.id.clone(), client)).collect());
            *self.known.write() = known;
            asked.version = Some(version);
        }
        asked.at = Some(at);
        Ok(())
    }

    /// The client called `id`, if it is known here.
    pub(crate) fn known(&self, id: &str) -> Option<Arc<Client>> {
        self.known.read().by_id.get(id).cloned()
    }

    /// Whether any public client may be sent codes at the page that calls itself `origin`.
    pub(crate) fn any_public_at(&self, origin: &str) -> bool {
        self.known.read().origins.contains(origin)
    }

    /// The client called `id`.
    pub(crate) async fn get(&self, id: &str) -> Result<Option<Arc<Client>>, StoreError> {
        if let Some(client) = self.known(id) {
            return Ok(Some(client));
        }
        self.refresh().await?;
        Ok(self.known(id))
    }

    /// The client that `id` and `secret` prove; no secret for a public one. An unknown client costs what a wrong secret
    /// costs and is answered alike. That it failed is counted for the audit log.
    pub(crate) async fn authenticate(&self, id: &str, secret: &str, address: &str) -> Result<Arc<Client>, Error> {
        if let Some(client) = self.proven(id, secret) {
            return Ok(client);
        }
        self.refresh().await?;
        let proven = self.proven(id, secret);
        if proven.is_none() {
            self.failed(id, address);
        }
        proven.ok_or(Error::ClientInvalid)
    }

    /// Counts somebody who did not prove that they are the client `id`. What is not registered is not kept: it may be anything,
    /// even a secret in the wrong field.
    pub(crate) fn failed(&self, id: &str, address: &str) {
        let subject = self.known(id).map(|client| client_name(&client.id)).unwrap_or_default();
        self.failures.count(subject, address);
    }

    /// The failed authentications that may be told of in the audit log now.
    pub(crate) fn failures(&self) -> Vec<Event> {
        self.failures.take(self.clock.now())
    }

    fn proven(&self, id: &str, secret: &str) -> Option<Arc<Client>> {
        let client = self.known(id);
        if client.is_none() {
            client::prove_nothing(secret);
        }
        client.filter(|client| client.proven_by(secret, self.clock.now()))
    }

    /// The client as it is in the store now.
    pub(crate) async fn now(&self, id: &str) -> Result<Option<Arc<Client>>, StoreError> {
        Ok(self.store.client(id).await?.map(|client| self.current(client)))
    }

    /// A client of the store; what is stored of a built-in one gives way to what this version says of it.
    fn current(&self, stored: Client) -> Arc<Client> {
        let created_at = stored.created_at;
        match &*stored.id {
            BUILT_IN => Arc::new(Client::built_in(created_at)),
            ACCOUNT_PAGES => Arc::new(Client::account_pages(&self.issuer, created_at)),
            _ => Arc::new(stored),
        }
    }

    /// Takes note of a client that was added or changed here.
    pub(crate) async fn insert(&self, client: Client) -> Arc<Client> {
        let _alone = self.asked.lock().await;
        let client = Arc::new(client);
        self.known.write().change(|known| _ = known.insert(client.id.clone(), client.clone()));
        client
    }

    /// Forgets a client that was removed here.
    pub(crate) async fn remove(&self, id: &str) {
        let _alone = self.asked.lock().await;
        self.known.write().change(|known| _ = known.remove(id));
    }

    /// The first `limit` clients by id after `after`.
    pub(crate) fn page(&self, after: Option<&str>, limit: usize) -> Vec<Arc<Client>> {
        let mut clients: Vec<_> = self
            .known
            .read()
            .by_id
            .values()
            .filter(|client| after.is_none_or(|after| *client.id > *after))
            .cloned()
            .collect();
        clients.sort_unstable_by(|one, other| one.id.cmp(&other.id));
        clients.truncate(limit);
        clients
    }
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients").field("known", &self.known).finish_non_exhaustive()
    }
}
