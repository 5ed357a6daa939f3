//! People who are reached, and what they are sent.

use flaghoist_proto::login::v1 as login;
use flaghoist_proto::login::v1::account_service_client::AccountServiceClient;
use flaghoist_proto::login::v1::credential_service_client::CredentialServiceClient;
use flaghoist_proto::login::v1::login_service_client::LoginServiceClient;
use flaghoist_proto::login::v1::reset_password_request::SecondFactor;
use tonic::Status;

use super::{FOLDER, Person, World, eventually};

pub(crate) const EMAIL: login::ContactKind = login::ContactKind::Email;
pub(crate) const PHONE: login::ContactKind = login::ContactKind::Phone;

impl World {
    /// What was sent to a contact, the oldest first.
    pub(crate) fn letters(&self, to: &str) -> Vec<String> {
        let Ok(files) = std::fs::read_dir(self.ground.folder.path().join(FOLDER)) else { return Vec::new() };
        let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        files.sort_unstable();
        let whole = files.iter().filter(|file| file.extension().is_some());
        let letters = whole.map(|file| std::fs::read_to_string(file).unwrap());
        letters.filter(|letter| letter.starts_with(&format!("To: {to}\n"))).collect()
    }

    /// The latest letter to a contact, once there are so many.
    pub(crate) async fn letter(&self, to: &str, number: usize) -> String {
        eventually("a letter", async || self.letters(to).len() >= number).await;
        self.letters(to).pop().unwrap()
    }

    /// The latest code that was sent to a contact, of so many.
    pub(crate) async fn code(&self, to: &str, number: usize) -> String {
        let letter = self.letter(to, number).await;
        letter
            .split("is ")
            .find_map(|rest| rest.get(..8).filter(|code| code.parse::<u32>().is_ok()))
            .unwrap()
            .to_owned()
    }

    /// The secret in the latest link that was sent to a contact, of so many.
    pub(crate) async fn link(&self, to: &str, number: usize) -> String {
        let letter = self.letter(to, number).await;
        let (_, rest) = letter.split_once("https://chat.example.com/reset?token=").expect("a link");
        rest.lines().next().unwrap().to_owned()
    }
}

impl Person {
    pub(crate) async fn set_contact(
        &self,
        kind: login::ContactKind,
        value: &str,
    ) -> Result<login::SetContactResponse, Status> {
        let request = self.request(login::SetContactRequest { kind: kind.into(), value: value.into() });
        Ok(AccountServiceClient::new(self.public.clone()).set_contact(request).await?.into_inner())
    }

    pub(crate) async fn verify_contact(&self, kind: login::ContactKind, code: &str) -> Result<login::Account, Status> {
        let request = self.request(login::VerifyContactRequest { kind: kind.into(), code: code.into() });
        let answer = AccountServiceClient::new(self.public.clone()).verify_contact(request).await?;
        Ok(answer.into_inner().account.unwrap())
    }

    pub(crate) async fn remove_contact(&self, kind: login::ContactKind) -> Result<(), Status> {
        let request = self.request(login::RemoveContactRequest { kind: kind.into() });
        AccountServiceClient::new(self.public.clone()).remove_contact(request).await.map(|_| ())
    }

    /// Makes an address the person's, who had none to which a letter was sent.
    pub(crate) async fn reached_at(&self, world: &World, email: &str) {
        self.set_contact(EMAIL, email).await.unwrap();
        self.verify_contact(EMAIL, &world.code(email, 1).await).await.unwrap();
    }

    pub(crate) async fn update(&self, request: login::UpdateAccountRequest) -> Result<login::Account, Status> {
        let answer = AccountServiceClient::new(self.public.clone()).update_account(self.request(request)).await?;
        Ok(answer.into_inner().account.unwrap())
    }

    pub(crate) async fn events(
        &self,
        page_size: i32,
        page_token: &str,
    ) -> Result<login::ListLoginEventsResponse, Status> {
        let request = self.request(login::ListLoginEventsRequest { page_size, page_token: page_token.into() });
        Ok(AccountServiceClient::new(self.public.clone()).list_login_events(request).await?.into_inner())
    }

    pub(crate) async fn forgot(&self, identifier: &str) -> Result<(), Status> {
        let request = self.request(login::RequestPasswordResetRequest { identifier: identifier.into() });
        LoginServiceClient::new(self.public.clone()).request_password_reset(request).await.map(|_| ())
    }

    pub(crate) async fn opens(&self, token: &str) -> Result<login::GetPasswordResetResponse, Status> {
        let request = self.request(login::GetPasswordResetRequest { token: token.into() });
        Ok(LoginServiceClient::new(self.public.clone()).get_password_reset(request).await?.into_inner())
    }

    pub(crate) async fn ask_reset_key(&self, token: &str) -> Result<String, Status> {
        let request = self.request(login::StartPasswordResetKeyRequest { token: token.into() });
        let answer = LoginServiceClient::new(self.public.clone()).start_password_reset_key(request).await?;
        Ok(answer.into_inner().options)
    }

    pub(crate) async fn reset(
        &self,
        token: &str,
        new_password: &str,
        second_factor: Option<SecondFactor>,
    ) -> Result<(), Status> {
        let (token, new_password) = (token.into(), new_password.into());
        let request = self.request(login::ResetPasswordRequest { token, new_password, second_factor });
        LoginServiceClient::new(self.public.clone()).reset_password(request).await.map(|_| ())
    }

    pub(crate) async fn rename_key(&self, name: &str, display_name: &str) -> Result<login::SecurityKey, Status> {
        let request =
            self.request(login::UpdateSecurityKeyRequest { name: name.into(), display_name: display_name.into() });
        let answer = CredentialServiceClient::new(self.public.clone()).update_security_key(request).await?;
        Ok(answer.into_inner().security_key.unwrap())
    }
}
