//! `LoginService`.

use flaghoist_proto::login::v1 as login;
use flaghoist_proto::login::v1::login_service_server::LoginService;
use tonic::{Request, Response, Status};

use super::{Reader, Rpc, address, check, shown};
use crate::accounts::SignIn;
use crate::password::Password;

#[tonic::async_trait]
impl LoginService for Rpc {
    async fn login(&self, request: Request<login::LoginRequest>) -> Result<Response<login::LoginResponse>, Status> {
        let address = address(&request);
        let request = request.into_inner();
        check(&request)?;
        let wanted = SignIn {
            handle: request.handle,
            password: Password::read(request.password),
            client_id: request.client_id,
            label: request.label,
            address,
        };
        let welcome = self.accounts.sign_in(wanted).await?;
        Ok(Response::new(login::LoginResponse {
            account: Some(shown(welcome.account, Reader::Themselves)),
            session: welcome.opened.session,
            tokens: welcome.opened.tokens,
        }))
    }
}
