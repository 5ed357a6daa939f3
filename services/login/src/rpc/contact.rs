//! The methods of `AccountService` that are about contacts.

use flaghoist_proto::login::v1 as login;
use flaghoist_runtime::Caller;
use flaghoist_runtime::time::{from_millis, timestamp};
use tonic::{Request, Response, Status};

use super::credential::owner;
use super::{Reader, Rpc, check, origin, shown};
use crate::account::Account;
use crate::accounts::Owner;
use crate::contact::{Contact, ContactCode, ContactKind, Contacts};
use crate::error::Error;

pub(super) async fn set(
    rpc: &Rpc,
    request: Request<login::SetContactRequest>,
) -> Result<Response<login::SetContactResponse>, Status> {
    let owner = owner(&request)?;
    let request = request.into_inner();
    check(&request)?;
    let set = rpc.accounts.set_contact(owner, kind(request.kind())?, &request.value).await?;
    let contact = Some(message(&set.contact, None));
    let contact = contact.map(|contact| login::Contact { verified: set.expires_at.is_none(), ..contact });
    Ok(Response::new(login::SetContactResponse { contact, expire_time: set.expires_at.map(timestamp) }))
}

pub(super) async fn verify(
    rpc: &Rpc,
    request: Request<login::VerifyContactRequest>,
) -> Result<Response<login::VerifyContactResponse>, Status> {
    let (me, caller) = Caller::user_of(&request)?;
    Owner::at_home(&caller)?;
    let origin = origin(&request);
    let request = request.into_inner();
    check(&request)?;
    let code = ContactCode::read(&request.code);
    let contacts = rpc.accounts.verify_contact(me, kind(request.kind())?, code, origin).await?;
    let account = whole(rpc.accounts.get(me).await?, &contacts, Reader::Themselves);
    Ok(Response::new(login::VerifyContactResponse { account: Some(account) }))
}

pub(super) async fn remove(
    rpc: &Rpc,
    request: Request<login::RemoveContactRequest>,
) -> Result<Response<login::RemoveContactResponse>, Status> {
    let owner = owner(&request)?;
    let request = request.into_inner();
    check(&request)?;
    rpc.accounts.remove_contact(owner, kind(request.kind())?).await?;
    Ok(Response::new(login::RemoveContactResponse {}))
}

/// An account as its owner sees it, with everything that nobody else does.
pub(super) async fn shown_whole(rpc: &Rpc, account: Account, reader: Reader) -> Result<login::Account, Error> {
    let contacts = rpc.accounts.contacts(account.user).await?;
    Ok(whole(account, &contacts, reader))
}

fn whole(account: Account, contacts: &Contacts, reader: Reader) -> login::Account {
    let (postal_address, language) = (account.postal_address.clone(), account.language.clone());
    let verified = contacts.verified.iter().map(|(contact, at)| message(contact, Some(*at)));
    let contacts = verified.chain(contacts.pending.iter().map(|contact| message(contact, None))).collect();
    login::Account { contacts, postal_address, language, ..shown(account, reader) }
}

fn message(contact: &Contact, verified_at: Option<i64>) -> login::Contact {
    let kind = match contact.kind {
        ContactKind::Email => login::ContactKind::Email,
        ContactKind::Phone => login::ContactKind::Phone,
    };
    login::Contact {
        kind: kind.into(),
        value: contact.value.clone(),
        verified: verified_at.is_some(),
        verify_time: verified_at.map(|at| timestamp(from_millis(at))),
    }
}

fn kind(kind: login::ContactKind) -> Result<ContactKind, Error> {
    match kind {
        login::ContactKind::Email => Ok(ContactKind::Email),
        login::ContactKind::Phone => Ok(ContactKind::Phone),
        login::ContactKind::Unspecified => Err(Error::Text { field: "kind", problem: "is no kind of contact" }),
    }
}
