//! The proto services of login. Each method checks its request, calls [`Accounts`] and answers.

mod account;
mod administration;
mod credential;
mod directory;
mod sign_in;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use flaghoist_proto::check::Check;
use flaghoist_proto::login::v1 as login;
use flaghoist_runtime::fault;
use flaghoist_runtime::names::UserId;
use flaghoist_runtime::server::ClientAddress;
use flaghoist_runtime::time::timestamp;
use tonic::service::Routes;
use tonic::{Request, Status};

use crate::account::Account;
use crate::accounts::Accounts;
use crate::error::{DOMAIN, Error};

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
}

impl Rpc {
    pub(crate) fn new(accounts: Arc<Accounts>) -> Self {
        Self { accounts }
    }

    /// The services that people and programs outside call.
    pub(crate) fn public(&self) -> Routes {
        Routes::new(login::account_service_server::AccountServiceServer::new(self.clone()))
            .add_service(login::login_service_server::LoginServiceServer::new(self.clone()))
            .add_service(login::credential_service_server::CredentialServiceServer::new(self.clone()))
            .add_service(login::administration_service_server::AdministrationServiceServer::new(self.clone()))
    }

    /// The services that the other parts call.
    pub(crate) fn internal(&self) -> Routes {
        Routes::new(login::directory_service_server::DirectoryServiceServer::new(self.clone()))
    }
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
    }
}

#[expect(clippy::result_large_err, reason = "the type that tonic's servers answer")]
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
