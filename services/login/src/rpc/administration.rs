//! `AdministrationService`.

use flaghoist_proto::login::v1 as login;
use flaghoist_proto::login::v1::administration_service_server::AdministrationService;
use flaghoist_runtime::time::timestamp;
use tonic::{Request, Response, Status};

use super::{Reader, Rpc, check, person, shown};

#[tonic::async_trait]
impl AdministrationService for Rpc {
    async fn set_account_disabled(
        &self,
        request: Request<login::SetAccountDisabledRequest>,
    ) -> Result<Response<login::SetAccountDisabledResponse>, Status> {
        let request = request.into_inner();
        check(&request)?;
        let account = self.accounts.set_disabled(person("name", &request.name)?, request.disabled).await?;
        Ok(Response::new(login::SetAccountDisabledResponse { account: Some(shown(account, Reader::Admin)) }))
    }

    async fn set_account_admin(
        &self,
        request: Request<login::SetAccountAdminRequest>,
    ) -> Result<Response<login::SetAccountAdminResponse>, Status> {
        let request = request.into_inner();
        check(&request)?;
        let account = self.accounts.set_admin(person("name", &request.name)?, request.admin).await?;
        Ok(Response::new(login::SetAccountAdminResponse { account: Some(shown(account, Reader::Admin)) }))
    }

    async fn create_invitation(
        &self,
        request: Request<login::CreateInvitationRequest>,
    ) -> Result<Response<login::CreateInvitationResponse>, Status> {
        check(request.get_ref())?;
        let (invitation, expires_at) = self.accounts.invite().await?;
        Ok(Response::new(login::CreateInvitationResponse {
            invitation: invitation.code().to_owned(),
            expire_time: Some(timestamp(expires_at)),
        }))
    }
}
