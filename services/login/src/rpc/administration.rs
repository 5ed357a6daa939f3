//! `AdministrationService`.

use flaghoist_proto::login::v1 as login;
use flaghoist_proto::login::v1::administration_service_server::AdministrationService;
use flaghoist_runtime::Caller;
use flaghoist_runtime::time::timestamp;
use tonic::{Request, Response, Status};

use super::{Reader, Rpc, check, erasure, person, shown};

#[tonic::async_trait]
impl AdministrationService for Rpc {
    async fn set_account_disabled(
        &self,
        request: Request<login::SetAccountDisabledRequest>,
    ) -> Result<Response<login::SetAccountDisabledResponse>, Status> {
        let (by, _) = Caller::user_of(&request)?;
        let request = request.into_inner();
        check(&request)?;
        let account = self.accounts.set_disabled(person("name", &request.name)?, request.disabled, by).await?;
        Ok(Response::new(login::SetAccountDisabledResponse { account: Some(shown(account, Reader::Admin)) }))
    }

    async fn set_account_admin(
        &self,
        request: Request<login::SetAccountAdminRequest>,
    ) -> Result<Response<login::SetAccountAdminResponse>, Status> {
        let (by, _) = Caller::user_of(&request)?;
        let request = request.into_inner();
        check(&request)?;
        let account = self.accounts.set_admin(person("name", &request.name)?, request.admin, by).await?;
        Ok(Response::new(login::SetAccountAdminResponse { account: Some(shown(account, Reader::Admin)) }))
    }

    async fn list_erasures(
        &self,
        request: Request<login::ListErasuresRequest>,
    ) -> Result<Response<login::ListErasuresResponse>, Status> {
        check(request.get_ref())?;
        Ok(Response::new(erasure::list(self, request.into_inner()).await?))
    }

    async fn get_erasure(
        &self,
        request: Request<login::GetErasureRequest>,
    ) -> Result<Response<login::GetErasureResponse>, Status> {
        check(request.get_ref())?;
        Ok(Response::new(erasure::get(self, request.get_ref()).await?))
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
