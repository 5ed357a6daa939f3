//! Two kinds of security keys in software that know nothing of one another.

use passkey::authenticator::{Authenticator, UiHint, UserCheck, UserValidationMethod};
use passkey::client::{Client, DefaultClientData};
use passkey::crypto::aws_lc_rs::AwsLcRsBackend;
use passkey::types::ctap2::{Aaguid, Ctap2Error};
use serde_json::Value;
use url::Url;
use webauthn_authenticator_rs::WebauthnAuthenticator as _;
use webauthn_authenticator_rs::softpasskey::SoftPasskey;

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
