//! `CredentialService`.

use flaghoist_proto::login::v1 as login;
use flaghoist_proto::login::v1::credential_service_server::CredentialService;
use flaghoist_runtime::Caller;
use flaghoist_runtime::time::timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use tonic::{Request, Response, Status};

use super::{Rpc, address, check};
use crate::accounts::Owner;
use crate::error::Error;
use crate::password::Password;
use crate::totp::TotpCode;

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

    async fn list_factors(
        &self,
        request: Request<login::ListFactorsRequest>,
    ) -> Result<Response<login::ListFactorsResponse>, Status> {
        let (me, _) = Caller::user_of(&request)?;
        let factors = self.accounts.factors(me).await?;
        Ok(Response::new(login::ListFactorsResponse {
            totp: factors.totp.map(|totp| login::Totp {
                create_time: Some(timestamp(totp.created_at)),
                use_time: Some(timestamp(totp.used_at)),
            }),
            recovery_codes_left: i32::try_from(factors.recovery_codes).unwrap_or(i32::MAX),
        }))
    }

    async fn enroll_totp(
        &self,
        request: Request<login::EnrollTotpRequest>,
    ) -> Result<Response<login::EnrollTotpResponse>, Status> {
        let enrolment = self.accounts.enroll_totp(owner(&request)?).await?;
        Ok(Response::new(login::EnrollTotpResponse {
            secret: enrolment.secret.expose_secret().to_owned(),
            uri: enrolment.uri.expose_secret().to_owned(),
            expire_time: Some(timestamp(enrolment.expires_at)),
        }))
    }

    async fn confirm_totp(
        &self,
        request: Request<login::ConfirmTotpRequest>,
    ) -> Result<Response<login::ConfirmTotpResponse>, Status> {
        let (owner, address) = (owner(&request)?, address(&request));
        let request = request.into_inner();
        check(&request)?;
        let code = TotpCode::read(request.code).ok_or(Error::CodeInvalid)?;
        let codes = self.accounts.confirm_totp(owner, &code, address).await?;
        Ok(Response::new(login::ConfirmTotpResponse { recovery_codes: written(&codes) }))
    }

    async fn delete_totp(
        &self,
        request: Request<login::DeleteTotpRequest>,
    ) -> Result<Response<login::DeleteTotpResponse>, Status> {
        let owner = owner(&request)?;
        self.accounts.delete_totp(owner, request.into_inner().allow_last).await?;
        Ok(Response::new(login::DeleteTotpResponse {}))
    }

    async fn create_recovery_codes(
        &self,
        request: Request<login::CreateRecoveryCodesRequest>,
    ) -> Result<Response<login::CreateRecoveryCodesResponse>, Status> {
        let codes = self.accounts.create_recovery_codes(owner(&request)?).await?;
        Ok(Response::new(login::CreateRecoveryCodesResponse { recovery_codes: written(&codes) }))
    }
}

/// Whoever calls, if they have signed in lately.
fn owner<T>(request: &Request<T>) -> Result<Owner, Status> {
    let (me, caller) = Caller::user_of(request)?;
    Ok(Owner::fresh(me, caller.authenticated_at)?)
}

/// Codes for the one answer that carries them.
fn written(codes: &[SecretString]) -> Vec<String> {
    codes.iter().map(|code| code.expose_secret().to_owned()).collect()
}
