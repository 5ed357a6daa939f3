//! People who register and use security keys, and two kinds of keys in software that know nothing of one another.

use flaghoist_proto::login::v1 as login;
use flaghoist_proto::login::v1::credential_service_client::CredentialServiceClient;
use flaghoist_proto::login::v1::login_service_client::LoginServiceClient;
use passkey::authenticator::{Authenticator, UiHint, UserCheck, UserValidationMethod};
use passkey::client::{Client, DefaultClientData};
use passkey::crypto::aws_lc_rs::AwsLcRsBackend;
use passkey::types::ctap2::{Aaguid, Ctap2Error};
use serde_json::Value;
use tonic::Status;
use url::Url;
use webauthn_authenticator_rs::WebauthnAuthenticator as _;
use webauthn_authenticator_rs::softpasskey::SoftPasskey;

use super::Person;

/// The origin of the pages.
pub(crate) const ORIGIN: &str = "https://chat.example.com";

/// A key that was plugged into a browser.
pub(crate) enum Key {
    /// By the `webauthn-authenticator-rs` crate: it counts its uses, and stores nobody's name.
    Counting(Box<SoftPasskey>),
    /// By the `passkey` crate: it knows whose it is, and does not count. What it stores is here, and a browser is made for each use.
    Storing(Box<Option<passkey::types::Passkey>>),
}

/// Someone who touches the key whenever it blinks.
pub(crate) struct Willing;

#[async_trait::async_trait]
impl UserValidationMethod for Willing {
    type PasskeyItem = passkey::types::Passkey;

    async fn check_user<'a>(
        &self,
        _hint: UiHint<'a, Self::PasskeyItem>,
        _presence: bool,
        _verification: bool,
    ) -> Result<UserCheck, Ctap2Error> {
        Ok(UserCheck { presence: true, verification: true })
    }

    fn is_presence_enabled(&self) -> bool {
        true
    }

    fn is_verification_enabled(&self) -> Option<bool> {
        Some(true)
    }
}

impl Key {
    pub(crate) fn counting() -> Self {
        Self::Counting(Box::new(SoftPasskey::new(true)))
    }

    pub(crate) fn storing() -> Self {
        Self::Storing(Box::default())
    }

    /// What a browser makes of `navigator.credentials.create`, on a page of this origin.
    pub(crate) async fn create(&mut self, options: &str, origin: &str) -> String {
        let origin = Url::parse(origin).unwrap();
        match self {
            Self::Counting(key) => {
                let made = key.do_registration(origin, serde_json::from_str(options).unwrap()).unwrap();
                serde_json::to_string(&made).unwrap()
            }
            Self::Storing(stored) => {
                let authenticator = Authenticator::new(Aaguid::new_empty(), stored.take(), Willing, AwsLcRsBackend);
                let mut client = Client::new(authenticator);
                let options = serde_json::from_str(options).unwrap();
                let made = client.register(&origin, options, DefaultClientData).await.unwrap();
                **stored = client.authenticator().store().clone();
                as_browsers_write(serde_json::to_value(&made).unwrap()).to_string()
            }
        }
    }

    /// What a browser makes of `navigator.credentials.get`.
    pub(crate) async fn get(&mut self, options: &str, origin: &str) -> String {
        let origin = Url::parse(origin).unwrap();
        match self {
            Self::Counting(key) => {
                let answer = key.do_authentication(origin, serde_json::from_str(options).unwrap()).unwrap();
                serde_json::to_string(&answer).unwrap()
            }
            Self::Storing(stored) => {
                let authenticator =
                    Authenticator::new(Aaguid::new_empty(), (**stored).clone(), Willing, AwsLcRsBackend);
                let mut client = Client::new(authenticator);
                let options = serde_json::from_str(options).unwrap();
                let answer = client.authenticate(&origin, options, DefaultClientData).await.unwrap();
                as_browsers_write(serde_json::to_value(&answer).unwrap()).to_string()
            }
        }
    }
}

/// The `passkey` crate writes bytes as lists of numbers, browsers as base64url.
fn as_browsers_write(value: Value) -> Value {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    let byte = |number: &Value| number.as_u64().and_then(|number| u8::try_from(number).ok());
    match value {
        Value::Array(list) => match list.iter().map(byte).collect::<Option<Vec<_>>>() {
            Some(bytes) if !bytes.is_empty() => URL_SAFE_NO_PAD.encode(bytes).into(),
            _ => Value::Array(list.into_iter().map(as_browsers_write).collect()),
        },
        Value::Object(members) => members.into_iter().map(|(name, value)| (name, as_browsers_write(value))).collect(),
        other => other,
    }
}

/// An answer with one byte of a part of it changed.
pub(crate) fn spoiled(answer: &str, part: &str) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    let mut answer: Value = serde_json::from_str(answer).unwrap();
    let mut bytes = URL_SAFE_NO_PAD.decode(answer["response"][part].as_str().unwrap()).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    answer["response"][part] = URL_SAFE_NO_PAD.encode(bytes).into();
    answer.to_string()
}

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
