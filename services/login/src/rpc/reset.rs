//! The methods of `LoginService` by which a password is set anew.

use flaghoist_proto::login::v1 as login;
use flaghoist_proto::login::v1::reset_password_request::SecondFactor;
use tonic::{Request, Response, Status};

use super::sign_in::factor;
use super::{Rpc, check, origin};
use crate::accounts::{Code, ResetFactor};
use crate::error::Error;
use crate::login_token::LoginToken;
use crate::password::Password;
use crate::recovery_code::RecoveryCode;
use crate::totp::TotpCode;

pub(super) async fn request(
    rpc: &Rpc,
    request: Request<login::RequestPasswordResetRequest>,
) -> Result<Response<login::RequestPasswordResetResponse>, Status> {
    let origin = origin(&request);
    let request = request.into_inner();
    check(&request)?;
    rpc.accounts.request_reset(request.identifier, origin).await?;
    Ok(Response::new(login::RequestPasswordResetResponse {}))
}

pub(super) async fn get(
    rpc: &Rpc,
    request: Request<login::GetPasswordResetRequest>,
) -> Result<Response<login::GetPasswordResetResponse>, Status> {
    let origin = origin(&request);
    let request = request.into_inner();
    check(&request)?;
    let asked = rpc.accounts.reset_asked(&LoginToken::read(request.token), &origin).await?;
    let factors = asked.factors.into_iter().map(|kind| factor(kind).into()).collect();
    Ok(Response::new(login::GetPasswordResetResponse { handle: asked.handle, factors }))
}

pub(super) async fn start_key(
    rpc: &Rpc,
    request: Request<login::StartPasswordResetKeyRequest>,
) -> Result<Response<login::StartPasswordResetKeyResponse>, Status> {
    let origin = origin(&request);
    let request = request.into_inner();
    check(&request)?;
    let options = rpc.accounts.start_reset_key(&LoginToken::read(request.token), &origin).await?;
    Ok(Response::new(login::StartPasswordResetKeyResponse { options }))
}

pub(super) async fn reset(
    rpc: &Rpc,
    request: Request<login::ResetPasswordRequest>,
) -> Result<Response<login::ResetPasswordResponse>, Status> {
    let origin = origin(&request);
    let request = request.into_inner();
    check(&request)?;
    let factor = match request.second_factor {
        None => None,
        Some(SecondFactor::TotpCode(code)) => {
            Some(ResetFactor::Code(Code::Totp(TotpCode::read(code).ok_or(Error::CodeInvalid)?)))
        }
        Some(SecondFactor::RecoveryCode(code)) => Some(ResetFactor::Code(Code::Recovery(RecoveryCode::read(&code)))),
        Some(SecondFactor::Credential(answer)) => Some(ResetFactor::Key(answer)),
    };
    let (token, new) = (LoginToken::read(request.token), Password::read(request.new_password));
    rpc.accounts.reset_password(&token, new, factor, origin).await?;
    Ok(Response::new(login::ResetPasswordResponse {}))
}
