//! Who a client is, by whatever it proves that with: a secret, an assertion that it has signed, or nothing if it is public.

use std::sync::Arc;

use super::Issuer;
use crate::client::{Client, assertion};
use crate::error::{Error, StoreError};
use crate::http::{PUSHED_PATH, TOKEN_PATH};

/// What a client brings to prove who it is.
#[derive(Clone, Copy)]
pub(crate) enum Proof<'a> {
    /// Its id and secret; no secret for a public client.
    Secret {
        /// The client's id.
        id: &'a str,
        /// Empty if it has none.
        secret: &'a str,
    },
    /// An assertion, and the id that was sent beside it, if any.
    Assertion {
        /// Empty if none was sent.
        id: &'a str,
        /// A JWT.
        assertion: &'a str,
    },
}

impl Issuer {
    /// The client that this proves.
    pub(crate) async fn authenticate(&self, proof: Proof<'_>, address: &str) -> Result<Arc<Client>, Error> {
        match proof {
            Proof::Secret { id, secret } => self.clients.authenticate(id, secret, address).await,
            Proof::Assertion { id, assertion } => {
                let named = assertion::client_named(assertion).filter(|named| id.is_empty() || named == id);
                let named = named.unwrap_or_default();
                match self.asserted(&named, assertion).await? {
                    Some(client) => Ok(client),
                    None => {
                        self.clients.failed(&named, address);
                        Err(Error::ClientInvalid)
                    }
                }
            }
        }
    }

    /// The client called `id`, if `assertion` is its own and was not used before.
    ///
    /// For a client that is not known no signature is checked, so that a clock may tell which ids are registered. That is nobody's
    /// secret: an id stands in every address that a browser is sent to (RFC 6749 §2.2: "The client identifier is not a secret").
    async fn asserted(&self, id: &str, assertion: &str) -> Result<Option<Arc<Client>>, StoreError> {
        let url = self.url.trim_end_matches('/');
        let audiences = [self.url.clone(), format!("{url}{TOKEN_PATH}"), format!("{url}{PUSHED_PATH}")];
        let now = self.clock.now();
        let proven = |client: &Arc<Client>| assertion::check(client, assertion, &audiences, now);
        let mut client = self.clients.known(id);
        let mut used = client.as_ref().and_then(proven);
        if used.is_none() {
            // It may have been registered, or have got another key, a moment ago on another pod.
            self.clients.refresh().await?;
            client = self.clients.known(id);
            used = client.as_ref().and_then(proven);
        }
        let Some(used) = used else { return Ok(None) };
        // Last, so that nobody fills the store who cannot sign.
        let first = self.store.use_once(used.digest, used.expires_at, now).await?;
        if !first {
            tracing::warn!(target: "audit", event = "client_assertion_replayed", client_id = id);
        }
        Ok(client.filter(|_| first))
    }
}
