//! The proto services of login. Each method checks its request, calls [`Accounts`] and answers.

mod account;
mod administration;
mod contact;
mod credential;
mod directory;
mod erasure;
mod history;
mod reset;
mod sign_in;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use flaghoist_proto::check::Check;
use flaghoist_proto::login::v1 as login;
use flaghoist_runtime::fault::{self, Fault, Reason};
use flaghoist_runtime::names::UserId;
use flaghoist_runtime::page::PageKey;
use flaghoist_runtime::server::ClientAddress;
use flaghoist_runtime::time::timestamp;
use tonic::service::Routes;
use tonic::{Code, Request, Status};
use tower::util::MapResponseLayer;

use crate::account::Account;
use crate::accounts::Accounts;
use crate::error::{DOMAIN, Error};
use crate::history::Origin;

/// The largest request that is read; none that keeps its bounds comes near.
const REQUEST_MAX_BYTES: usize = 256 * 1024;

/// The full names of the public proto services.
pub(crate) const PUBLIC: [&str; 4] = [
    "flaghoist.login.v1.AccountService",
    "flaghoist.login.v1.LoginService",
    "flaghoist.login.v1.CredentialService",
    "flaghoist.login.v1.AdministrationService",
];

/// Implements every proto service of login.
#[derive(Clone, Debug)]
pub(crate) struct Rpc {
    accounts: Arc<Accounts>,
    pages: Arc<PageKey>,
}

impl Rpc {
    pub(crate) fn new(accounts: Arc<Accounts>, pages: PageKey) -> Self {
        Self { accounts, pages: Arc::new(pages) }
    }

    /// The services that people and programs outside call.
    pub(crate) fn public(&self) -> Routes {
        let account = login::account_service_server::AccountServiceServer::new(self.clone());
        let sign_in = login::login_service_server::LoginServiceServer::new(self.clone());
        let credential = login::credential_service_server::CredentialServiceServer::new(self.clone());
        let administration = login::administration_service_server::AdministrationServiceServer::new(self.clone());
        let routes = Routes::new(account.max_decoding_message_size(REQUEST_MAX_BYTES))
            .add_service(sign_in.max_decoding_message_size(REQUEST_MAX_BYTES))
            .add_service(credential.max_decoding_message_size(REQUEST_MAX_BYTES))
            .add_service(administration.max_decoding_message_size(REQUEST_MAX_BYTES));
        routes.into_axum_router().layer(MapResponseLayer::new(too_large)).into()
    }

    /// The services that the other parts call.
    pub(crate) fn internal(&self) -> Routes {
        Routes::new(login::directory_service_server::DirectoryServiceServer::new(self.clone()))
    }
}

/// Says in our own words that a request was too large to be read, which tonic answers as `OUT_OF_RANGE`; nothing else here
/// answers so.
fn too_large(response: axum::response::Response) -> axum::response::Response {
    let out_of_range = (Code::OutOfRange as i32).to_string();
    if response.headers().get("grpc-status").is_some_and(|status| status.as_bytes() == out_of_range.as_bytes()) {
        let text = format!("the request is larger than {REQUEST_MAX_BYTES} bytes");
        return Fault::new(Code::ResourceExhausted, Reason::LimitReached, text).into_status(DOMAIN).into_http();
    }
    response
}

/// Who reads an account.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reader {
    Themselves,
    Admin,
    Another,
}

/// An account as `reader` may see it.
fn shown(account: Account, reader: Reader) -> login::Account {
    login::Account {
        name: account.user.name(),
        create_time: Some(timestamp(account.created_at)),
        admin: account.admin && reader != Reader::Another,
        disabled: account.disabled && reader == Reader::Admin,
        handle: account.handle.to_string(),
        display_name: account.display_name.into_string(),
        ..login::Account::default()
    }
}

/// Where a request came from, and what the program called itself.
fn origin<T>(request: &Request<T>) -> Origin {
    let agent = request.metadata().get("user-agent").and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    Origin::new(address(request), agent)
}

fn check(request: &impl Check) -> Result<(), Status> {
    fault::check(request, DOMAIN)
}

/// The person that `field` names.
fn person(field: impl Into<String>, name: &str) -> Result<UserId, Error> {
    UserId::parse(name).map_err(|_| Error::Name { field: field.into() })
}

/// The address that a request came from, as the listener saw it.
fn address<T>(request: &Request<T>) -> IpAddr {
    let unknown = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    request.extensions().get::<ClientAddress>().map_or(unknown, |address| address.0)
}
