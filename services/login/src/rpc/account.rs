//! `AccountService`.

use std::mem::take;

use flaghoist_proto::login::v1 as login;
use flaghoist_proto::login::v1::account_service_server::AccountService;
use flaghoist_runtime::Caller;
use tonic::{Request, Response, Status};
use zeroize::Zeroize as _;

use super::{Reader, Rpc, address, check, contact, erasure, history, person, shown};
use crate::accounts::{Owner, Register, Typed};
use crate::invitation::Invitation;
use crate::password::Password;

#[tonic::async_trait]
impl AccountService for Rpc {
    type ExportAccountStream = erasure::Archive;

    async fn export_account(
        &self,
        request: Request<login::ExportAccountRequest>,
    ) -> Result<Response<Self::ExportAccountStream>, Status> {
        let (me, caller) = Caller::user_of(&request)?;
        check(request.get_ref())?;
        let pieces = self.accounts.export(Owner::of(&caller, me)?).await?;
        Ok(Response::new(erasure::archive(pieces)))
    }

    async fn create_account(
        &self,
        request: Request<login::CreateAccountRequest>,
    ) -> Result<Response<login::CreateAccountResponse>, Status> {
        let address = address(&request);
        let mut request = request.into_inner();
        check(&request)?;
        let wanted = Register {
            handle: take(&mut request.handle),
            display_name: take(&mut request.display_name),
            password: Password::read(take(&mut request.password)),
            invitation: Invitation::read(&request.invitation),
            address,
        };
        request.invitation.zeroize();
        let account = self.accounts.register(wanted).await?;
        Ok(Response::new(login::CreateAccountResponse { account: Some(shown(account, Reader::Themselves)) }))
    }

    async fn get_account(
        &self,
        request: Request<login::GetAccountRequest>,
    ) -> Result<Response<login::GetAccountResponse>, Status> {
        let (me, caller) = Caller::user_of(&request)?;
        let request = request.into_inner();
        check(&request)?;
        let user = if request.name.is_empty() { me } else { person("name", &request.name)? };
        let reader = reader(user == me, caller.admin());
        // Applications are told where people are reached by the scopes for that.
        let at_home = Owner::at_home(&caller).is_ok();
        let account = self.accounts.get(user).await?;
        let account = if user == me && at_home {
            contact::shown_whole(self, account, reader).await?
        } else {
            shown(account, reader)
        };
        Ok(Response::new(login::GetAccountResponse { account: Some(account) }))
    }

    async fn update_account(
        &self,
        request: Request<login::UpdateAccountRequest>,
    ) -> Result<Response<login::UpdateAccountResponse>, Status> {
        let (me, caller) = Caller::user_of(&request)?;
        let request = request.into_inner();
        check(&request)?;
        let login::UpdateAccountRequest { display_name, postal_address, language } = request;
        let known_at_home = Owner::at_home(&caller);
        let at_home = known_at_home.is_ok();
        if postal_address.is_some() || language.is_some() {
            known_at_home?;
        }
        let account = self.accounts.update(me, Typed { display_name, postal_address, language }).await?;
        let account = if at_home {
            contact::shown_whole(self, account, Reader::Themselves).await?
        } else {
            shown(account, Reader::Themselves)
        };
        Ok(Response::new(login::UpdateAccountResponse { account: Some(account) }))
    }

    async fn delete_account(
        &self,
        request: Request<login::DeleteAccountRequest>,
    ) -> Result<Response<login::DeleteAccountResponse>, Status> {
        let (me, _caller) = Caller::user_of(&request)?;
        let address = address(&request);
        let request = request.into_inner();
        check(&request)?;
        self.accounts.delete(me, Password::read(request.password), address).await?;
        Ok(Response::new(login::DeleteAccountResponse {}))
    }

    async fn lookup_account(
        &self,
        request: Request<login::LookupAccountRequest>,
    ) -> Result<Response<login::LookupAccountResponse>, Status> {
        let (me, caller) = Caller::user_of(&request)?;
        let request = request.into_inner();
        check(&request)?;
        let account = self.accounts.lookup(&request.handle).await?;
        let reader = reader(account.user == me, caller.admin());
        Ok(Response::new(login::LookupAccountResponse { account: Some(shown(account, reader)) }))
    }

    async fn set_contact(
        &self,
        request: Request<login::SetContactRequest>,
    ) -> Result<Response<login::SetContactResponse>, Status> {
        contact::set(self, request).await
    }

    async fn verify_contact(
        &self,
        request: Request<login::VerifyContactRequest>,
    ) -> Result<Response<login::VerifyContactResponse>, Status> {
        contact::verify(self, request).await
    }

    async fn remove_contact(
        &self,
        request: Request<login::RemoveContactRequest>,
    ) -> Result<Response<login::RemoveContactResponse>, Status> {
        contact::remove(self, request).await
    }

    async fn list_login_events(
        &self,
        request: Request<login::ListLoginEventsRequest>,
    ) -> Result<Response<login::ListLoginEventsResponse>, Status> {
        history::list(self, request).await
    }
}

fn reader(themselves: bool, admin: bool) -> Reader {
    match (themselves, admin) {
        (_, true) => Reader::Admin,
        (true, false) => Reader::Themselves,
        (false, false) => Reader::Another,
    }
}
