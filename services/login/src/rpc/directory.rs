//! `DirectoryService`, for the other parts.

use flaghoist_proto::login::v1 as login;
use flaghoist_proto::login::v1::directory_service_server::DirectoryService;
use tonic::{Request, Response, Status};

use super::{Rpc, check, person};
use crate::error::Error;

#[tonic::async_trait]
impl DirectoryService for Rpc {
    async fn batch_get_users(
        &self,
        request: Request<login::BatchGetUsersRequest>,
    ) -> Result<Response<login::BatchGetUsersResponse>, Status> {
        let request = request.into_inner();
        check(&request)?;
        let users = request.names.iter().enumerate().map(|(index, name)| person(format!("names[{index}]"), name));
        let users = users.collect::<Result<Vec<_>, Error>>()?;
        let users = self.accounts.users(&users).await?.into_iter();
        let users = users.map(|(user, handle)| login::User { name: user.name(), handle: handle.to_string() }).collect();
        Ok(Response::new(login::BatchGetUsersResponse { users }))
    }
}
