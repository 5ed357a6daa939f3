//! What admins ask of the issuer: other clients, other keys, and what was done.

use std::sync::Arc;
use std::time::Duration;

use flaghoist_runtime::fault;

use super::{Issuer, client_name, printable};
use crate::audit::{Action, Event, Filter, Origin};
use crate::client::{self, Client, ClientChange, ClientSecret};
use crate::error::{Error, StoreError};
use crate::key::{KeyChange, KeyRefusal, SigningKey, key_name};

/// How often a change of a client is tried when others change it too.
const REPLACE_TRIES_MAX: u32 = 5;

impl Issuer {
    /// Changes a client.
    pub(crate) async fn update_client(
        &self,
        id: &str,
        change: &ClientChange,
        by: &Origin,
    ) -> Result<Arc<Client>, Error> {
        let event = Event::new(by, Action::ClientUpdated, client_name(id)).detail(change.names());
        self.replace_client(id, event, |client| {
            let display_name = change.display_name.as_deref().map(|name| printable(name).collect());
            let changed = match &change.registration {
                Some(registration) => client.with_registration(registration.clone())?,
                None => client.clone(),
            };
            Ok(Client {
                display_name: display_name.unwrap_or_else(|| client.display_name.clone()),
                scopes: change.scopes.unwrap_or(client.scopes),
                ..changed
            })
        })
        .await
    }

    /// Gives a confidential client a new secret; the present one is good for `grace`.
    pub(crate) async fn rotate_client_secret(
        &self,
        id: &str,
        grace: Duration,
        by: &Origin,
    ) -> Result<(Arc<Client>, ClientSecret), Error> {
        let secret = ClientSecret::random();
        let event = Event::new(by, Action::ClientSecretRotated, client_name(id));
        let client = self.replace_client(id, event, |client| {
            if client.keeps_secret() {
                Ok(client.with_secret(&secret, by.at.plus(grace)))
            } else {
                Err(Error::ClientPublic(client_name(id)))
            }
        });
        Ok((client.await?, secret))
    }

    /// Puts what `change` makes of a client in its place; once more if another admin changed it meanwhile.
    async fn replace_client(
        &self,
        id: &str,
        event: Event,
        change: impl Fn(&Client) -> Result<Client, Error>,
    ) -> Result<Arc<Client>, Error> {
        if client::built_in(id) {
            return Err(Error::ClientBuiltIn(client_name(id)));
        }
        let not_found = || Error::ClientNotFound(client_name(id));
        // What could never have been registered is not asked for: a store may not even take it for a text.
        client::check_id(id).map_err(|_| not_found())?;
        for _ in 0..REPLACE_TRIES_MAX {
            let before = self.clients.now(id).await?.ok_or_else(not_found)?;
            let client = change(&before)?;
            if client == *before {
                return Ok(before);
            }
            if self.store.replace_client(&before, &client, &event).await? {
                tracing::info!(
                    target: "audit", event = event.action.name(), client_id = id, detail = event.detail
                );
                return Ok(self.clients.insert(client).await);
            }
        }
        Err(Error::Unavailable)
    }

    /// Changes the signing keys out of turn, and answers them.
    pub(crate) async fn change_keys(&self, change: &KeyChange, by: &Origin) -> Result<Vec<SigningKey>, Error> {
        let changed = self.keyring.change(change, by).await.map_err(|error| {
            fault::log_chain("changing the signing keys", &error);
            if error.transient() { Error::Unavailable } else { Error::Internal }
        })?;
        let keys = changed.map_err(|refusal| match (refusal, change) {
            (KeyRefusal::NoReserve { ready_at, forced_at }, _) => {
                Error::KeyReserveMissing { ready_in: ready_at.since(by.at), forced_in: forced_at.since(by.at) }
            }
            (KeyRefusal::Unknown, KeyChange::Revoke { kid, .. }) => Error::KeyNotFound(key_name(kid)),
            (KeyRefusal::Unknown, KeyChange::Rotate) => Error::Internal,
        })?;
        tracing::info!(target: "audit", event = "signing_keys_changed_by_admin", change = ?change, actor = %by.actor);
        self.publish().await;
        Ok(keys)
    }

    /// Audit events, newest first.
    pub(crate) async fn audit_events(&self, filter: &Filter, limit: u32) -> Result<Vec<Event>, Error> {
        Ok(self.store.audit_events(filter, limit).await?)
    }

    /// Writes the audit events of what was counted, as far as they may be now.
    pub(crate) async fn write_tallies(&self) -> Result<(), StoreError> {
        let mut events = self.clients.failures();
        events.extend(self.token_revocations.take(self.clock.now()));
        events.extend(self.token_exchanges.take(self.clock.now()));
        if events.is_empty() { Ok(()) } else { self.store.audit(&events).await }
    }
}
