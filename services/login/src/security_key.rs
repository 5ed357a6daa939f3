//! Security keys and passkeys (WebAuthn), by webauthn-rs, and the ceremonies in which they are registered and used.
//!
//! A ceremony is a challenge and what belongs to it. It is kept by the store and never given away, and taken out before an answer is
//! looked at: the library would take the same answer twice.

use std::time::SystemTime;

use flaghoist_runtime::names::UserId;
use flaghoist_runtime::time::{from_millis, millis};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;
use uuid::Uuid;
use webauthn_rs::prelude::{
    AuthenticationResult, CredentialID, DiscoverableAuthentication, Passkey, PasskeyRegistration, PublicKeyCredential,
    RegisterPublicKeyCredential, SecurityKey, SecurityKeyAuthentication, SecurityKeyRegistration, Webauthn,
    WebauthnBuilder, WebauthnError,
};

use crate::account::Account;

/// The longest id of a credential (WebAuthn §4).
const CREDENTIAL_ID_MAX_BYTES: usize = 1023;

/// A key that was registered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct StoredKey {
    pub(crate) id: Uuid,
    pub(crate) user: UserId,
    /// As the key itself names it; no two keys have one, whoever's they are.
    pub(crate) credential_id: Vec<u8>,
    /// What its owner calls it.
    pub(crate) name: String,
    /// Whether it signs in without a password.
    pub(crate) passkey: bool,
    /// Its public key and what else the library keeps of it, as JSON.
    pub(crate) credential: String,
    /// How often it was used, as it says itself; 0 for those that do not count.
    pub(crate) counter: u32,
    pub(crate) created_at: SystemTime,
    pub(crate) used_at: Option<SystemTime>,
}

/// What is under way with a key.
#[derive(Serialize, Deserialize)]
pub(crate) enum Ceremony {
    /// A security key is registered.
    Key(SecurityKeyRegistration),
    /// A passkey is.
    Passkey(PasskeyRegistration),
    /// One of a person's keys is asked for after the password.
    Second(SecurityKeyAuthentication),
    /// Any passkey is asked for, which says whose it is.
    Alone(DiscoverableAuthentication),
}

impl std::fmt::Debug for Ceremony {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Ceremony(…)")
    }
}

/// Why a ceremony comes to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    /// The issuer has no host that keys could be registered for.
    #[error("security keys need an issuer whose address has a host name, and no IP address")]
    NoHost,
    /// What a browser sent is no answer of a key, or of another size than any has.
    #[error("is not what a browser makes of the answer of a key")]
    Malformed,
    /// The answer is not one to this challenge, of this origin, by this key.
    #[error("the answer of the key does not hold")]
    Refused(#[source] WebauthnError),
    /// The library refuses to begin, or cannot read what it has written.
    #[error("the ceremony of a key failed")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Registers and checks keys for one host.
pub(crate) struct Keys(Option<Webauthn>);

impl std::fmt::Debug for Keys {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_tuple("Keys").field(&self.0.is_some()).finish()
    }
}

impl Keys {
    /// The keys for the host of the issuer, where browsers find the pages.
    pub(crate) fn of(issuer: &str) -> Self {
        let Ok(origin) = Url::parse(issuer) else { return Self(None) };
        let Some(host) = origin.domain() else { return Self(None) };
        Self(WebauthnBuilder::new(host, &origin).and_then(|builder| builder.rp_name("flaghoist").build()).ok())
    }

    fn webauthn(&self) -> Result<&Webauthn, KeyError> {
        self.0.as_ref().ok_or(KeyError::NoHost)
    }

    /// Begins to register a key for a person who has these. Answers what a browser is to be asked, as JSON.
    pub(crate) fn start_registration(
        &self,
        account: &Account,
        passkey: bool,
        have: &[StoredKey],
    ) -> Result<(String, Ceremony), KeyError> {
        let webauthn = self.webauthn()?;
        let (id, handle, name) = (account.user.0, account.handle.as_str(), account.display_name.as_str());
        let have = Some(have.iter().map(|key| CredentialID::from(key.credential_id.clone())).collect());
        if !passkey {
            let started = webauthn.start_securitykey_registration(id, handle, name, have, None, None);
            let (options, state) = started.map_err(failed)?;
            let mut options = serde_json::to_value(&options).map_err(failed)?;
            // The library asks that the key be protected by a PIN, but asks for none: browsers refuse the contradiction, and a key that
            // only comes after the password needs none.
            if let Some(extensions) = options["publicKey"]["extensions"].as_object_mut() {
                extensions.retain(|name, _| !name.to_lowercase().contains("credentialprotectionpolicy"));
            }
            return Ok((options.to_string(), Ceremony::Key(state)));
        }
        let (options, state) = webauthn.start_passkey_registration(id, handle, name, have).map_err(failed)?;
        let mut options = serde_json::to_value(&options).map_err(failed)?;
        // Without the person's handle being typed it must be the key that knows whose it is.
        options["publicKey"]["authenticatorSelection"]["residentKey"] = "required".into();
        options["publicKey"]["authenticatorSelection"]["requireResidentKey"] = true.into();
        Ok((options.to_string(), Ceremony::Passkey(state)))
    }

    /// Checks what a new key has answered.
    pub(crate) fn finish_registration(
        &self,
        ceremony: &Ceremony,
        answer: &str,
        user: UserId,
        name: String,
    ) -> Result<StoredKey, KeyError> {
        let webauthn = self.webauthn()?;
        let answer: RegisterPublicKeyCredential = serde_json::from_str(answer).map_err(|_| KeyError::Malformed)?;
        let (credential_id, credential, passkey) = match ceremony {
            Ceremony::Key(state) => {
                let key = webauthn.finish_securitykey_registration(&answer, state).map_err(KeyError::Refused)?;
                (key.cred_id().to_vec(), serde_json::to_string(&key), false)
            }
            Ceremony::Passkey(state) => {
                let key = webauthn.finish_passkey_registration(&answer, state).map_err(KeyError::Refused)?;
                (key.cred_id().to_vec(), serde_json::to_string(&key), true)
            }
            Ceremony::Second(_) | Ceremony::Alone(_) => return Err(KeyError::Malformed),
        };
        if !(1..=CREDENTIAL_ID_MAX_BYTES).contains(&credential_id.len()) {
            return Err(KeyError::Malformed);
        }
        let credential = credential.map_err(failed)?;
        // Milliseconds are what is kept, so that the answer and every later one agree.
        let created_at = from_millis(millis(SystemTime::now()));
        let id = Uuid::now_v7();
        // What a key counts before its first use is in what the library keeps, which compares it itself.
        Ok(StoredKey { id, user, credential_id, name, passkey, credential, counter: 0, created_at, used_at: None })
    }

    /// Asks for one of these keys.
    pub(crate) fn start_second(&self, keys: &[StoredKey]) -> Result<(Value, Ceremony), KeyError> {
        let keys = keys.iter().map(|key| serde_json::from_str::<SecurityKey>(&key.credential));
        let keys = keys.collect::<Result<Vec<_>, _>>().map_err(failed)?;
        let (options, state) = self.webauthn()?.start_securitykey_authentication(&keys).map_err(failed)?;
        Ok((serde_json::to_value(&options).map_err(failed)?, Ceremony::Second(state)))
    }

    /// Asks for any passkey.
    pub(crate) fn start_alone(&self) -> Result<(Value, Ceremony), KeyError> {
        let (mut options, state) = self.webauthn()?.start_discoverable_authentication().map_err(failed)?;
        // A person who asks for it gets the dialogue of the browser, and no hint in a form.
        options.mediation = None;
        Ok((serde_json::to_value(&options).map_err(failed)?, Ceremony::Alone(state)))
    }

    /// Which key has answered; nothing is checked yet.
    pub(crate) fn answered_by(answer: &str) -> Result<(PublicKeyCredential, Vec<u8>), KeyError> {
        let answer: PublicKeyCredential = serde_json::from_str(answer).map_err(|_| KeyError::Malformed)?;
        let credential_id = answer.get_credential_id().to_vec();
        Ok((answer, credential_id))
    }

    /// Checks what `key` has answered; answers the key as it is to be kept then.
    pub(crate) fn finish(
        &self,
        ceremony: Ceremony,
        answer: &PublicKeyCredential,
        key: &StoredKey,
    ) -> Result<StoredKey, KeyError> {
        let webauthn = self.webauthn()?;
        let mut kept: Passkey = serde_json::from_str(&key.credential).map_err(failed)?;
        let result: AuthenticationResult = match ceremony {
            Ceremony::Second(state) => webauthn.finish_securitykey_authentication(answer, &state),
            Ceremony::Alone(state) => {
                let (user, _) = webauthn.identify_discoverable_authentication(answer).map_err(KeyError::Refused)?;
                if user != key.user.0 || !key.passkey {
                    return Err(KeyError::Refused(WebauthnError::InvalidUserUniqueId));
                }
                webauthn.finish_discoverable_authentication_v2(answer, state, &kept)
            }
            Ceremony::Key(_) | Ceremony::Passkey(_) => return Err(KeyError::Malformed),
        }
        .map_err(KeyError::Refused)?;
        kept.update_credential(&result);
        let credential = serde_json::to_string(&kept).map_err(failed)?;
        Ok(StoredKey { credential, counter: result.counter(), ..key.clone() })
    }
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> KeyError {
    KeyError::Failed(Box::new(error))
}
