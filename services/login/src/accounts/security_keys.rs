//! Security keys and passkeys: registering and removing them, and signing in with one, after the password or without.
//!
//! Nobody guesses at a key, so it is not counted: whoever hammers an account keeps no one out who has one.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use flaghoist_runtime::fault::chain;
use flaghoist_runtime::names::UserId;
use flaghoist_runtime::time::millis;
use secrecy::SecretString;
use serde_json::Value;
use uuid::Uuid;

use super::check::read_handle;
use super::factors::Owner;
use super::logins::Browser;
use super::sign_in::{Accepted, Arrived, SessionClient, Welcome};
use super::{Accounts, now};
use crate::account::DisplayName;
use crate::error::Error;
use crate::factor::{FactorKind, Factors, Proof};
use crate::history::{EventKind, Origin};
use crate::login_token::{LoginDigest, LoginToken, sha256};
use crate::recovery_code::RecoveryCode;
use crate::security_key::{Ceremony, KeyError, Keys, StoredKey};
use crate::store::factors::{FirstFactor, Login, Proven, Step};
use crate::store::keys::{Added, KeyRemoved};
use crate::throttle::quota::Limit;

/// How long a key may take to answer.
const CEREMONY_LIFETIME: Duration = Duration::from_secs(5 * 60);
/// How many keys a person may have.
const KEYS_MAX: u32 = 20;

impl Accounts {
    /// Begins to register a key. Answers what a browser is to be asked, as JSON.
    pub(crate) async fn start_key_registration(&self, owner: Owner, passkey: bool) -> Result<String, Error> {
        self.may_change(&owner).await?;
        let account = self.get(owner.user).await?;
        self.take(Limit::Updates, self.attempt_keys.bucket_of_person(Limit::Updates, owner.user)).await?;
        let have = self.store.keys(owner.user).await?;
        let (options, ceremony) = self.keys.start_registration(&account, passkey, &have)?;
        self.begin_ceremony(registration_of(owner.user), &ceremony).await?;
        Ok(options)
    }

    /// Registers the key that has answered. Who had no strong factor gets recovery codes.
    pub(crate) async fn finish_key_registration(
        &self,
        owner: Owner,
        answer: &str,
        name: String,
        address: IpAddr,
    ) -> Result<(StoredKey, Vec<SecretString>), Error> {
        self.take_from(Limit::Attempts, address).await?;
        self.may_change(&owner).await?;
        let ceremony = self.take_ceremony(registration_of(owner.user)).await?.ok_or(Error::RegistrationUnknown)?;
        let key = self.keys.finish_registration(&ceremony, answer, owner.user, name)?;
        let (codes, digests) = RecoveryCode::generate(owner.user);
        let kept_session = owner.kept_session();
        let first = FirstFactor { codes: &digests, kept_session: &kept_session };
        match self.store.add_key(&key, first, KEYS_MAX).await? {
            Added::Done { first } => {
                self.note_change(owner.event(EventKind::FactorAdded)).await;
                if !first {
                    return Ok((key, Vec::new()));
                }
                self.end_older_sessions(owner.user).await;
                Ok((key, codes))
            }
            Added::Gone => Err(Error::AccountUnknown(owner.user.name())),
            Added::Known => Err(Error::KeyKnown),
            Added::Full => Err(Error::KeysLimit),
        }
    }

    /// The keys of a person.
    pub(crate) async fn security_keys(&self, user: UserId) -> Result<Vec<StoredKey>, Error> {
        Ok(self.store.keys(user).await?)
    }

    /// Changes what a key is called.
    pub(crate) async fn rename_key(&self, owner: Owner, id: Uuid, name: &str) -> Result<StoredKey, Error> {
        self.may_change(&owner).await?;
        self.take(Limit::Updates, self.attempt_keys.bucket_of_person(Limit::Updates, owner.user)).await?;
        let name = DisplayName::read(name)?.into_string();
        self.store.rename_key(owner.user, id, &name).await?.ok_or(Error::KeyUnknown)
    }

    /// Removes a key, the last strong factor only where that is meant.
    pub(crate) async fn delete_key(&self, owner: Owner, id: Uuid, allow_last: bool) -> Result<(), Error> {
        self.may_change(&owner).await?;
        self.take(Limit::Updates, self.attempt_keys.bucket_of_person(Limit::Updates, owner.user)).await?;
        match self.store.remove_key(owner.user, id, allow_last).await? {
            KeyRemoved::Done => {
                self.note_change(owner.event(EventKind::FactorRemoved)).await;
                Ok(())
            }
            KeyRemoved::Unknown => Err(Error::KeyUnknown),
            KeyRemoved::Last => Err(Error::LastFactor),
        }
    }

    /// Asks for a key: one of the person's after the password, any passkey before. Answers what a browser is to be asked, as JSON.
    pub(crate) async fn start_key(&self, token: &LoginToken, address: IpAddr) -> Result<String, Error> {
        self.take_from(Limit::Logins, address).await?;
        let login = self.login_bound_to(token, &[]).await?;
        let options = self.ask_key(token, &login).await?;
        Ok(serde_json::to_string(&options).map_err(|error| KeyError::Failed(Box::new(error)))?)
    }

    /// Asks for a key on the page: for `login`, whose password was right in this browser for the same request, or for a new one, which
    /// any passkey signs in. Answers the login, and what the browser is to be asked.
    pub(crate) async fn start_key_for_request(
        &self,
        login: Option<LoginToken>,
        browser: &Browser,
        challenge: &str,
        address: IpAddr,
    ) -> Result<(LoginToken, Value), Error> {
        self.take_from(Limit::Logins, address).await?;
        // A challenge that is over begins nothing.
        self.issuer.login_request(challenge).await?;
        let bound_to = browser.bound_to(challenge);
        let token = match login {
            Some(token) => token,
            None => {
                let (handle, client_id, label) = (read_handle(""), String::new(), String::new());
                let login = Login { handle, client_id, label, bound_to: bound_to.clone(), proven: None };
                self.begin_login(&login).await?.token
            }
        };
        let login = self.login_bound_to(&token, &bound_to).await?;
        let options = self.ask_key(&token, &login).await?;
        Ok((token, options))
    }

    async fn ask_key(&self, token: &LoginToken, login: &Login) -> Result<Value, Error> {
        let (options, ceremony) = match login.proven {
            Some(proven) => {
                let keys = self.store.keys(proven.user).await?;
                if keys.is_empty() {
                    return Err(Error::FactorMissing);
                }
                self.keys.start_second(&keys)?
            }
            None => self.keys.start_alone()?,
        };
        self.begin_ceremony(token.digest(), &ceremony).await?;
        Ok(options)
    }

    /// What the person whose second factor a login awaits has; nothing where it awaits none.
    pub(crate) async fn factors_of_login(&self, token: &LoginToken) -> Result<Factors, Error> {
        let proven = self.store.login(token.digest(), now()).await?.and_then(|login| login.proven);
        match proven {
            Some(proven) => Ok(self.store.factors(proven.user).await?),
            None => Ok(Factors::default()),
        }
    }

    /// Takes the answer of a key, which signs in.
    pub(crate) async fn finish_key(
        &self,
        token: &LoginToken,
        answer: &str,
        origin: impl Into<Origin> + Send,
    ) -> Result<Welcome, Error> {
        let origin = origin.into();
        self.take_from(Limit::Attempts, origin.address).await?;
        let login = self.login_bound_to(token, &[]).await?;
        let (proven, proof) = self.take_key(token, &login, answer, &origin).await?;
        let client = SessionClient { client_id: login.client_id, label: login.label, origin };
        self.open_session(Arrived::by(proof, proven), client).await
    }

    /// Takes the answer of a key on the page, in the browser that was asked for it.
    pub(crate) async fn finish_key_for_request(
        &self,
        token: &LoginToken,
        answer: &str,
        browser: &Browser,
        challenge: String,
        origin: Origin,
    ) -> Result<Accepted, Error> {
        self.take_from(Limit::Attempts, origin.address).await?;
        let login = self.login_bound_to(token, &browser.bound_to(&challenge)).await?;
        // A challenge that is over costs no ceremony.
        self.issuer.login_request(&challenge).await?;
        let (proven, proof) = self.take_key(token, &login, answer, &origin).await?;
        self.accept_request(Arrived::by(proof, proven), challenge, origin).await
    }

    /// Checks the answer of a key and takes the last step of the login.
    async fn take_key(
        &self,
        token: &LoginToken,
        login: &Login,
        answer: &str,
        origin: &Origin,
    ) -> Result<(Proven, Proof), Error> {
        // It is gone from here on, whatever comes of it.
        let ceremony = self.take_ceremony(token.digest()).await?.ok_or(Error::LoginStep)?;
        let expected = match ceremony {
            Ceremony::Second(_) => Step::SecondFactor,
            Ceremony::Alone(_) => Step::Password,
            Ceremony::Key(_) | Ceremony::Passkey(_) => return Err(Error::LoginStep),
        };
        if login.step() != expected {
            return Err(Error::LoginStep);
        }
        let checked = self.prove_key(login, ceremony, answer).await;
        let factor = FactorKind::SecurityKey;
        let proven = match (checked, login.proven) {
            (Ok(proven), _) => proven,
            (Err(Error::CodeInvalid), Some(whose)) => return Err(self.refused(whose.user, factor, origin).await),
            (Err(error), _) => {
                let (factor, outcome) = (factor.label(), "refused");
                metrics::counter!("flaghoist_login_factor_checks_total", "factor" => factor, "outcome" => outcome)
                    .increment(1);
                return Err(error);
            }
        };
        metrics::counter!("flaghoist_login_factor_checks_total", "factor" => factor.label(), "outcome" => "passed")
            .increment(1);
        self.end(token, expected).await?;
        Ok((proven, if expected == Step::Password { Proof::Passkey } else { Proof::PasswordAndKey }))
    }

    /// Checks the answer of a key and takes it; answers whose it is.
    pub(super) async fn prove_key(&self, login: &Login, ceremony: Ceremony, answer: &str) -> Result<Proven, Error> {
        let (answer, credential_id) = Keys::answered_by(answer)?;
        let key = self.store.key(&credential_id).await?.ok_or(Error::CodeInvalid)?;
        let proven = match login.proven {
            Some(proven) if proven.user == key.user => proven,
            Some(_) => return Err(Error::CodeInvalid),
            None => {
                let current = self.store.credentials_of(key.user).await?.ok_or(Error::CodeInvalid)?;
                // Who said for whom the login is gets no other account.
                if login.handle != current.account.handle && login.handle != read_handle("") {
                    return Err(Error::CodeInvalid);
                }
                Proven::by(&current)
            }
        };
        let used = match self.keys.finish(ceremony, &answer, &key) {
            Ok(used) => used,
            Err(KeyError::Refused(error)) => {
                tracing::info!(user = %key.user, key = %key.id, error = %chain(&error), "the answer of a key was refused");
                return Err(Error::CodeInvalid);
            }
            Err(error) => return Err(error.into()),
        };
        // Of two answers with one count, begun before either came, one is taken.
        if self.store.use_key(&used, now()).await? { Ok(proven) } else { Err(Error::CodeInvalid) }
    }

    /// A login of the browser and the request that `bound_to` says; of neither, if that is empty.
    async fn login_bound_to(&self, token: &LoginToken, bound_to: &[u8]) -> Result<Login, Error> {
        let found = self.store.login(token.digest(), now()).await?;
        found.filter(|login| login.bound_to == bound_to).ok_or(Error::LoginOver)
    }

    pub(super) async fn begin_ceremony(&self, of: LoginDigest, ceremony: &Ceremony) -> Result<(), Error> {
        let state = serde_json::to_string(ceremony).map_err(|error| KeyError::Failed(Box::new(error)))?;
        let expires_at = millis(SystemTime::now() + CEREMONY_LIFETIME);
        Ok(self.store.begin_ceremony(of, &state, expires_at).await?)
    }

    pub(super) async fn take_ceremony(&self, of: LoginDigest) -> Result<Option<Ceremony>, Error> {
        let Some(state) = self.store.take_ceremony(of, now()).await? else { return Ok(None) };
        Ok(Some(serde_json::from_str(&state).map_err(|error| KeyError::Failed(Box::new(error)))?))
    }
}

/// What the one registration of a person that may be under way is kept by.
fn registration_of(user: UserId) -> LoginDigest {
    LoginDigest(sha256(&[b"registration of a key ".as_slice(), user.0.as_bytes()].concat()))
}
