//! `CredentialService`.

use flaghoist_proto::login::v1 as login;
use flaghoist_proto::login::v1::credential_service_server::CredentialService;
use flaghoist_runtime::Caller;
use tonic::{Request, Response, Status};

use super::{Rpc, address, check};
use crate::password::Password;

#[tonic::async_trait]
impl CredentialService for Rpc {
    async fn change_password(
        &self,
        request: Request<login::ChangePasswordRequest>,
    ) -> Result<Response<login::ChangePasswordResponse>, Status> {
        let (me, caller) = Caller::user_of(&request)?;
        let address = address(&request);
        let request = request.into_inner();
        check(&request)?;
        let (current, new) = (Password::read(request.current_password), Password::read(request.new_password));
        self.accounts.change_password(me, caller.session, current, new, address).await?;
        Ok(Response::new(login::ChangePasswordResponse {}))
    }
}
