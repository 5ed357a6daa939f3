//! A security key in software: what a person plugs into their browser, and what the browser makes of its answers.

use std::future::Future;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flaghoist_proto::login::v1::{FinishSecurityKeyRegistrationRequest, StartSecurityKeyRegistrationRequest};
use passkey::authenticator::{Authenticator, UiHint, UserCheck, UserValidationMethod};
use passkey::client::{Client, DefaultClientData};
use passkey::crypto::aws_lc_rs::AwsLcRsBackend;
use passkey::types::Passkey;
use passkey::types::ctap2::{Aaguid, Ctap2Error};
use serde_json::Value;
use url::Url;

use super::wire::text;
use crate::person::Person;
use crate::world::ISSUER;

/// A key that holds one passkey.
#[derive(Clone)]
pub(super) struct SoftKey {
    stored: Option<Passkey>,
}

/// Someone who touches the key whenever it blinks.
struct Willing;

#[async_trait::async_trait]
impl UserValidationMethod for Willing {
    type PasskeyItem = Passkey;

    async fn check_user<'a>(
        &self,
        _hint: UiHint<'a, Passkey>,
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

impl SoftKey {
    /// A key that a person has registered as a passkey.
    pub(super) async fn registered(person: &Person) -> Result<Self, String> {
        let mut credentials = person.calls().credentials();
        let start = StartSecurityKeyRegistrationRequest { passkey: true };
        let asked = credentials.start_security_key_registration(start).await.map_err(text)?.into_inner();
        let mut client = Client::new(Authenticator::new(Aaguid::new_empty(), None, Willing, AwsLcRsBackend))
            .allows_insecure_localhost(true);
        let options = serde_json::from_str(&asked.options).map_err(text)?;
        let made = in_browser(client.register(origin()?, options, DefaultClientData)).await?;
        let stored = client.authenticator().store().clone();
        let finish = FinishSecurityKeyRegistrationRequest { credential: made, display_name: "bench".into() };
        credentials.finish_security_key_registration(finish).await.map_err(text)?;
        Ok(Self { stored })
    }

    /// What a browser makes of `navigator.credentials.get` with these options.
    pub(super) async fn get(&self, options: &str) -> Result<String, String> {
        let authenticator = Authenticator::new(Aaguid::new_empty(), self.stored.clone(), Willing, AwsLcRsBackend);
        let mut client = Client::new(authenticator).allows_insecure_localhost(true);
        let options = serde_json::from_str(options).map_err(text)?;
        in_browser(client.authenticate(origin()?, options, DefaultClientData)).await
    }
}

/// Where the pages are.
fn origin() -> Result<Url, String> {
    Url::parse(ISSUER).map_err(text)
}

/// A key's answer as a browser sends it.
async fn in_browser<T: serde::Serialize, E: std::fmt::Debug>(
    answer: impl Future<Output = Result<T, E>>,
) -> Result<String, String> {
    let answer = answer.await.map_err(|error| format!("the key refuses: {error:?}"))?;
    Ok(as_browsers_write(serde_json::to_value(&answer).map_err(text)?).to_string())
}

/// The crate writes bytes as lists of numbers, browsers as base64url.
fn as_browsers_write(value: Value) -> Value {
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
