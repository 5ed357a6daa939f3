//! The proto services: each method checks its request, calls the issuer, and answers.

use std::sync::Arc;

use flaghoist_proto::auth::v1::{ClientCredentials, TokenSet};
use flaghoist_runtime::Caller;
use flaghoist_runtime::server::{ClientAddress, forwarded_address};
use flaghoist_runtime::time::timestamp;
use tonic::{Request, Status};

use crate::audit::{Actor, Origin};
use crate::client::Client;
use crate::error::Error;
use crate::issuer::{Issuer, Proof, Tokens};
use crate::moment::Moment;

mod audit;
mod client;
mod consent;
mod key;
mod login_request;
mod session;
mod subject;
mod token;
mod verification;

pub(crate) use audit::Audit;
pub(crate) use client::Clients;
pub(crate) use consent::Consents;
pub(crate) use key::Keys;
pub(crate) use login_request::LoginRequests;
pub(crate) use session::Sessions;
pub(crate) use subject::Subjects;
pub(crate) use token::TokenRpc;
pub(crate) use verification::Verification;

/// How many entries a page has if nothing was asked for, and at most.
const PAGE_SIZE: (u32, u32) = (50, 200);

fn token_set(tokens: Tokens) -> TokenSet {
    TokenSet {
        access_token: tokens.access_token,
        access_token_expire_time: Some(time(tokens.expires_at)),
        refresh_token: tokens.refresh_token.unwrap_or_default(),
        scope: tokens.scopes.to_string(),
        id_token: tokens.id_token.unwrap_or_default(),
        dpop_bound: false,
    }
}

fn time(moment: Moment) -> prost_types::Timestamp {
    timestamp(moment.into())
}

/// The client that the credentials prove.
async fn authenticate(
    issuer: &Issuer,
    credentials: Option<&ClientCredentials>,
    address: &str,
) -> Result<Arc<Client>, Error> {
    let credentials = credentials.ok_or(Error::ClientInvalid)?;
    let ClientCredentials { client_id: id, client_secret: secret, client_assertion: assertion } = credentials;
    let proof = match (secret.as_str(), assertion.as_str()) {
        (secret, "") => Proof::Secret { id, secret },
        ("", assertion) => Proof::Assertion { id, assertion },
        _ => {
            let problem = "is there beside a client_secret: a client proves who it is in one way";
            return Err(Error::Invalid { field: "client.client_assertion", problem });
        }
    };
    issuer.authenticate(proof, address).await
}

/// Who calls a method that asks for a token, from where.
fn origin_of<T>(issuer: &Issuer, request: &Request<T>, trusted_hops: u8) -> Origin {
    let caller = Caller::of(request);
    Origin::caller(caller.as_deref(), &address_of(request, trusted_hops), issuer.clock.now())
}

/// Where a request comes from; empty if its listener did not say.
fn address_of<T>(request: &Request<T>, trusted_hops: u8) -> String {
    let Some(address) = request.extensions().get::<ClientAddress>() else { return String::new() };
    forwarded_address(request.metadata().as_ref(), address.0, trusted_hops).to_string()
}

/// Login, for somebody whom it knows.
fn login(issuer: &Issuer) -> Origin {
    Origin::new(Actor::Service("login"), issuer.clock.now())
}

/// Runs `work` to its end even if the caller goes away in the middle of it.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Status> {
    match tokio::spawn(work).await {
        Ok(result) => Ok(result?),
        // The panic has been logged where it happened.
        Err(_) => Err(Error::Internal.into()),
    }
}
