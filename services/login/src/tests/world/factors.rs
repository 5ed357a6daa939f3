//! People who sign in by steps, and their second factors.

use flaghoist_proto::login::v1 as login;
use flaghoist_proto::login::v1::credential_service_client::CredentialServiceClient;
use flaghoist_proto::login::v1::login_service_client::LoginServiceClient;
use flaghoist_proto::login::v1::submit_password_response::Next;
use tonic::Status;

use super::{PASSWORD, Person};
use crate::totp::TotpSecret;

/// An authenticator app, looked at when the secret was typed into it: a test that is slow shows no newer code by chance.
pub(crate) struct App {
    secret: TotpSecret,
    seconds: u64,
}

impl App {
    /// An app into which this secret was typed.
    pub(crate) fn with(secret: &str) -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Self { secret: TotpSecret::of_typed(secret), seconds: now.as_secs() }
    }

    /// The code that the app shows, shows in so many steps, or has shown.
    pub(crate) fn code(&self, steps: i64) -> String {
        self.secret.code(self.seconds.checked_add_signed(30 * steps).unwrap())
    }
}

impl Person {
    /// Enrols an app with the code before the present one, so that two are left; answers it and the recovery codes.
    pub(crate) async fn with_app(&self) -> (App, Vec<String>) {
        let app = App::with(&self.enroll().await.unwrap().secret);
        let codes = self.confirm(&app.code(-1)).await.unwrap();
        (app, codes)
    }

    pub(crate) async fn enroll(&self) -> Result<login::EnrollTotpResponse, Status> {
        let request = self.request(login::EnrollTotpRequest {});
        Ok(CredentialServiceClient::new(self.public.clone()).enroll_totp(request).await?.into_inner())
    }

    pub(crate) async fn confirm(&self, code: &str) -> Result<Vec<String>, Status> {
        let request = self.request(login::ConfirmTotpRequest { code: code.into() });
        let answer = CredentialServiceClient::new(self.public.clone()).confirm_totp(request).await?;
        Ok(answer.into_inner().recovery_codes)
    }

    pub(crate) async fn delete_totp(&self, allow_last: bool) -> Result<(), Status> {
        let request = self.request(login::DeleteTotpRequest { allow_last });
        CredentialServiceClient::new(self.public.clone()).delete_totp(request).await.map(|_| ())
    }

    pub(crate) async fn new_recovery_codes(&self) -> Result<Vec<String>, Status> {
        let request = self.request(login::CreateRecoveryCodesRequest {});
        let answer = CredentialServiceClient::new(self.public.clone()).create_recovery_codes(request).await?;
        Ok(answer.into_inner().recovery_codes)
    }

    pub(crate) async fn factors(&self) -> login::ListFactorsResponse {
        self.try_factors().await.unwrap()
    }

    pub(crate) async fn try_factors(&self) -> Result<login::ListFactorsResponse, Status> {
        let request = self.request(login::ListFactorsRequest {});
        Ok(CredentialServiceClient::new(self.public.clone()).list_factors(request).await?.into_inner())
    }

    pub(crate) async fn start_with(
        &self,
        request: login::StartLoginRequest,
    ) -> Result<login::StartLoginResponse, Status> {
        Ok(LoginServiceClient::new(self.public.clone()).start_login(self.request(request)).await?.into_inner())
    }

    /// Begins a login; answers its secret.
    pub(crate) async fn start(&self, handle: &str) -> String {
        let request = login::StartLoginRequest { handle: handle.into(), ..Default::default() };
        self.start_with(request).await.unwrap().login
    }

    pub(crate) async fn password(&self, login: &str, password: &str) -> Result<Next, Status> {
        let request = login::SubmitPasswordRequest { login: login.into(), password: password.into() };
        let answer = LoginServiceClient::new(self.public.clone()).submit_password(self.request(request)).await?;
        Ok(answer.into_inner().next.unwrap())
    }

    pub(crate) async fn totp(&self, login: &str, code: &str) -> Result<login::SignedIn, Status> {
        let request = login::SubmitTotpRequest { login: login.into(), code: code.into() };
        let answer = LoginServiceClient::new(self.public.clone()).submit_totp(self.request(request)).await?;
        Ok(answer.into_inner().signed_in.unwrap())
    }

    /// Answers how many codes are left.
    pub(crate) async fn recover(&self, login: &str, code: &str) -> Result<i32, Status> {
        let request = login::SubmitRecoveryCodeRequest { login: login.into(), code: code.into() };
        let mut client = LoginServiceClient::new(self.public.clone());
        Ok(client.submit_recovery_code(self.request(request)).await?.into_inner().recovery_codes_left)
    }

    /// Begins a login and takes its first step; answers its secret, with which a second factor is to be submitted.
    pub(crate) async fn half_signed_in(&self, handle: &str) -> String {
        let login = self.start(handle).await;
        let next = self.password(&login, PASSWORD).await.unwrap();
        assert!(matches!(next, Next::SecondFactors(_)), "{next:?}");
        login
    }
}
