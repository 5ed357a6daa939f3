//! `LoginService`.

use flaghoist_proto::login::v1 as login;
use flaghoist_proto::login::v1::login_service_server::LoginService;
use flaghoist_proto::login::v1::submit_password_response;
use flaghoist_runtime::time::timestamp;
use tonic::{Request, Response, Status};

use super::{Reader, Rpc, address, check, origin, reset, shown};
use crate::accounts::{Code, Next, SignIn, StartLogin, Welcome};
use crate::error::Error;
use crate::factor::FactorKind;
use crate::login_token::LoginToken;
use crate::password::Password;
use crate::recovery_code::RecoveryCode;
use crate::totp::TotpCode;

#[tonic::async_trait]
impl LoginService for Rpc {
    async fn login(&self, request: Request<login::LoginRequest>) -> Result<Response<login::LoginResponse>, Status> {
        let origin = origin(&request);
        let request = request.into_inner();
        check(&request)?;
        let wanted = SignIn {
            handle: request.handle,
            password: Password::read(request.password),
            client_id: request.client_id,
            label: request.label,
            origin,
        };
        let welcome = self.accounts.sign_in(wanted).await?;
        Ok(Response::new(login::LoginResponse {
            account: Some(shown(welcome.account, Reader::Themselves)),
            session: welcome.opened.session,
            tokens: welcome.opened.tokens,
        }))
    }

    async fn start_login(
        &self,
        request: Request<login::StartLoginRequest>,
    ) -> Result<Response<login::StartLoginResponse>, Status> {
        let address = address(&request);
        let request = request.into_inner();
        check(&request)?;
        let login::StartLoginRequest { handle, client_id, label } = request;
        let started = self.accounts.start_login(StartLogin { handle, client_id, label, address }).await?;
        Ok(Response::new(login::StartLoginResponse {
            login: started.token.text().to_owned(),
            expire_time: Some(timestamp(started.expires_at)),
        }))
    }

    async fn submit_password(
        &self,
        request: Request<login::SubmitPasswordRequest>,
    ) -> Result<Response<login::SubmitPasswordResponse>, Status> {
        let origin = origin(&request);
        let request = request.into_inner();
        check(&request)?;
        let token = LoginToken::read(request.login);
        let next = self.accounts.submit_password(&token, Password::read(request.password), origin).await?;
        let next = match next {
            Next::SignedIn(welcome) => submit_password_response::Next::SignedIn(signed_in(*welcome)),
            Next::SecondFactors(kinds) => {
                let factors = kinds.into_iter().map(|kind| factor(kind).into()).collect();
                submit_password_response::Next::SecondFactors(login::SecondFactors { factors })
            }
        };
        Ok(Response::new(login::SubmitPasswordResponse { next: Some(next) }))
    }

    async fn submit_totp(
        &self,
        request: Request<login::SubmitTotpRequest>,
    ) -> Result<Response<login::SubmitTotpResponse>, Status> {
        let origin = origin(&request);
        let request = request.into_inner();
        check(&request)?;
        let token = LoginToken::read(request.login);
        let code = TotpCode::read(request.code).ok_or(Error::CodeInvalid)?;
        let welcome = self.accounts.submit_code(&token, Code::Totp(code), origin).await?;
        Ok(Response::new(login::SubmitTotpResponse { signed_in: Some(signed_in(welcome)) }))
    }

    async fn submit_recovery_code(
        &self,
        request: Request<login::SubmitRecoveryCodeRequest>,
    ) -> Result<Response<login::SubmitRecoveryCodeResponse>, Status> {
        let origin = origin(&request);
        let request = request.into_inner();
        check(&request)?;
        let token = LoginToken::read(request.login);
        let code = RecoveryCode::read(&request.code);
        let welcome = self.accounts.submit_code(&token, Code::Recovery(code), origin).await?;
        let left = self.accounts.recovery_codes_left(welcome.account.user).await?;
        Ok(Response::new(login::SubmitRecoveryCodeResponse {
            signed_in: Some(signed_in(welcome)),
            recovery_codes_left: i32::try_from(left).unwrap_or(i32::MAX),
        }))
    }

    async fn start_security_key(
        &self,
        request: Request<login::StartSecurityKeyRequest>,
    ) -> Result<Response<login::StartSecurityKeyResponse>, Status> {
        let address = address(&request);
        let request = request.into_inner();
        check(&request)?;
        let options = self.accounts.start_key(&LoginToken::read(request.login), address).await?;
        Ok(Response::new(login::StartSecurityKeyResponse { options }))
    }

    async fn finish_security_key(
        &self,
        request: Request<login::FinishSecurityKeyRequest>,
    ) -> Result<Response<login::FinishSecurityKeyResponse>, Status> {
        let origin = origin(&request);
        let request = request.into_inner();
        check(&request)?;
        let token = LoginToken::read(request.login);
        let welcome = self.accounts.finish_key(&token, &request.credential, origin).await?;
        Ok(Response::new(login::FinishSecurityKeyResponse { signed_in: Some(signed_in(welcome)) }))
    }

    async fn request_password_reset(
        &self,
        request: Request<login::RequestPasswordResetRequest>,
    ) -> Result<Response<login::RequestPasswordResetResponse>, Status> {
        reset::request(self, request).await
    }

    async fn get_password_reset(
        &self,
        request: Request<login::GetPasswordResetRequest>,
    ) -> Result<Response<login::GetPasswordResetResponse>, Status> {
        reset::get(self, request).await
    }

    async fn start_password_reset_key(
        &self,
        request: Request<login::StartPasswordResetKeyRequest>,
    ) -> Result<Response<login::StartPasswordResetKeyResponse>, Status> {
        reset::start_key(self, request).await
    }

    async fn reset_password(
        &self,
        request: Request<login::ResetPasswordRequest>,
    ) -> Result<Response<login::ResetPasswordResponse>, Status> {
        reset::reset(self, request).await
    }
}

fn signed_in(welcome: Welcome) -> login::SignedIn {
    login::SignedIn {
        account: Some(shown(welcome.account, Reader::Themselves)),
        session: welcome.opened.session,
        tokens: welcome.opened.tokens,
    }
}

pub(super) fn factor(kind: FactorKind) -> login::Factor {
    match kind {
        FactorKind::Totp => login::Factor::Totp,
        FactorKind::SecurityKey => login::Factor::SecurityKey,
        FactorKind::RecoveryCode => login::Factor::RecoveryCode,
    }
}
