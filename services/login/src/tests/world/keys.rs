//! People who register and use security keys.

use flaghoist_proto::login::v1 as login;
use flaghoist_proto::login::v1::credential_service_client::CredentialServiceClient;
use flaghoist_proto::login::v1::login_service_client::LoginServiceClient;
use tonic::Status;

use super::Person;
pub(crate) use crate::tests::key::{Key, ORIGIN, spoiled};

impl Person {
    /// Registers a key; answers it as it is listed, and the recovery codes.
    pub(crate) async fn with_key(&self, key: &mut Key, passkey: bool) -> (login::SecurityKey, Vec<String>) {
        let options = self.start_registration(passkey).await.unwrap();
        self.finish_registration(&key.create(&options, ORIGIN).await).await.unwrap()
    }

    pub(crate) async fn start_registration(&self, passkey: bool) -> Result<String, Status> {
        let request = self.request(login::StartSecurityKeyRegistrationRequest { passkey });
        let mut client = CredentialServiceClient::new(self.public.clone());
        Ok(client.start_security_key_registration(request).await?.into_inner().options)
    }

    pub(crate) async fn finish_registration(
        &self,
        credential: &str,
    ) -> Result<(login::SecurityKey, Vec<String>), Status> {
        let (credential, display_name) = (credential.into(), "The blue one".into());
        let request = self.request(login::FinishSecurityKeyRegistrationRequest { credential, display_name });
        let mut client = CredentialServiceClient::new(self.public.clone());
        let answer = client.finish_security_key_registration(request).await?.into_inner();
        Ok((answer.security_key.unwrap(), answer.recovery_codes))
    }

    pub(crate) async fn delete_key(&self, name: &str, allow_last: bool) -> Result<(), Status> {
        let request = self.request(login::DeleteSecurityKeyRequest { name: name.into(), allow_last });
        CredentialServiceClient::new(self.public.clone()).delete_security_key(request).await.map(|_| ())
    }

    pub(crate) async fn ask_key(&self, login: &str) -> Result<String, Status> {
        let request = self.request(login::StartSecurityKeyRequest { login: login.into() });
        Ok(LoginServiceClient::new(self.public.clone()).start_security_key(request).await?.into_inner().options)
    }

    pub(crate) async fn answer_key(&self, login: &str, credential: &str) -> Result<login::SignedIn, Status> {
        let request = login::FinishSecurityKeyRequest { login: login.into(), credential: credential.into() };
        let answer = LoginServiceClient::new(self.public.clone()).finish_security_key(self.request(request)).await?;
        Ok(answer.into_inner().signed_in.unwrap())
    }

    /// The second step with a key.
    pub(crate) async fn touches(&self, key: &mut Key, login: &str) -> Result<login::SignedIn, Status> {
        let options = self.ask_key(login).await?;
        self.answer_key(login, &key.get(&options, ORIGIN).await).await
    }
}
