//! `CredentialService`.

use flaghoist_proto::login::v1 as login;
use flaghoist_proto::login::v1::credential_service_server::CredentialService;
use flaghoist_runtime::Caller;
use flaghoist_runtime::names::strict_uuid;
use flaghoist_runtime::time::timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use tonic::{Request, Response, Status};

use super::{Rpc, address, check, origin};
use crate::account::DisplayName;
use crate::accounts::Owner;
use crate::error::Error;
use crate::password::Password;
use crate::security_key::StoredKey;
use crate::totp::TotpCode;

#[tonic::async_trait]
impl CredentialService for Rpc {
    async fn change_password(
        &self,
        request: Request<login::ChangePasswordRequest>,
    ) -> Result<Response<login::ChangePasswordResponse>, Status> {
        let (me, caller) = Caller::user_of(&request)?;
        let origin = origin(&request);
        let request = request.into_inner();
        check(&request)?;
        let (current, new) = (Password::read(request.current_password), Password::read(request.new_password));
        self.accounts.change_password(me, caller.session, current, new, origin).await?;
        Ok(Response::new(login::ChangePasswordResponse {}))
    }

    async fn list_factors(
        &self,
        request: Request<login::ListFactorsRequest>,
    ) -> Result<Response<login::ListFactorsResponse>, Status> {
        let me = owner(&request)?.user();
        let factors = self.accounts.factors(me).await?;
        Ok(Response::new(login::ListFactorsResponse {
            totp: factors.totp.map(|totp| login::Totp {
                create_time: Some(timestamp(totp.created_at)),
                use_time: Some(timestamp(totp.used_at)),
            }),
            recovery_codes_left: i32::try_from(factors.recovery_codes).unwrap_or(i32::MAX),
            security_keys: self.accounts.security_keys(me).await?.iter().map(shown_key).collect(),
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
        let owner = owner(&request)?;
        let request = request.into_inner();
        check(&request)?;
        let code = TotpCode::read(request.code).ok_or(Error::CodeInvalid)?;
        let codes = self.accounts.confirm_totp(owner, &code).await?;
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

    async fn start_security_key_registration(
        &self,
        request: Request<login::StartSecurityKeyRegistrationRequest>,
    ) -> Result<Response<login::StartSecurityKeyRegistrationResponse>, Status> {
        let owner = owner(&request)?;
        let options = self.accounts.start_key_registration(owner, request.into_inner().passkey).await?;
        Ok(Response::new(login::StartSecurityKeyRegistrationResponse { options }))
    }

    async fn finish_security_key_registration(
        &self,
        request: Request<login::FinishSecurityKeyRegistrationRequest>,
    ) -> Result<Response<login::FinishSecurityKeyRegistrationResponse>, Status> {
        let (owner, address) = (owner(&request)?, address(&request));
        let request = request.into_inner();
        check(&request)?;
        let name = DisplayName::read(&request.display_name).map_err(Error::from)?.into_string();
        let (key, codes) = self.accounts.finish_key_registration(owner, &request.credential, name, address).await?;
        Ok(Response::new(login::FinishSecurityKeyRegistrationResponse {
            security_key: Some(shown_key(&key)),
            recovery_codes: written(&codes),
        }))
    }

    async fn update_security_key(
        &self,
        request: Request<login::UpdateSecurityKeyRequest>,
    ) -> Result<Response<login::UpdateSecurityKeyResponse>, Status> {
        let owner = owner(&request)?;
        let (me, _) = Caller::user_of(&request)?;
        let request = request.into_inner();
        check(&request)?;
        let name = DisplayName::read(&request.display_name).map_err(Error::from)?;
        let id = request.name.strip_prefix(&format!("{}/securityKeys/", me.name())).and_then(strict_uuid);
        let key = self.accounts.rename_key(owner, id.ok_or(Error::KeyUnknown)?, name.as_str()).await?;
        Ok(Response::new(login::UpdateSecurityKeyResponse { security_key: Some(shown_key(&key)) }))
    }

    async fn delete_security_key(
        &self,
        request: Request<login::DeleteSecurityKeyRequest>,
    ) -> Result<Response<login::DeleteSecurityKeyResponse>, Status> {
        let owner = owner(&request)?;
        let (me, _) = Caller::user_of(&request)?;
        let request = request.into_inner();
        check(&request)?;
        // Another's key is one that is not there.
        let id = request.name.strip_prefix(&format!("{}/securityKeys/", me.name())).and_then(strict_uuid);
        self.accounts.delete_key(owner, id.ok_or(Error::KeyUnknown)?, request.allow_last).await?;
        Ok(Response::new(login::DeleteSecurityKeyResponse {}))
    }
}

/// A key as its owner sees it.
fn shown_key(key: &StoredKey) -> login::SecurityKey {
    login::SecurityKey {
        name: format!("{}/securityKeys/{}", key.user.name(), key.id),
        display_name: key.name.clone(),
        passkey: key.passkey,
        create_time: Some(timestamp(key.created_at)),
        use_time: key.used_at.map(timestamp),
    }
}

/// Whoever calls, if they may change factors.
pub(super) fn owner<T>(request: &Request<T>) -> Result<Owner, Status> {
    let (me, caller) = Caller::user_of(request)?;
    Ok(Owner::of(&caller, me)?.at(origin(request)))
}

/// Codes for the one answer that carries them.
fn written(codes: &[SecretString]) -> Vec<String> {
    codes.iter().map(|code| code.expose_secret().to_owned()).collect()
}
