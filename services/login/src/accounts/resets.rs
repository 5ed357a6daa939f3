//! A new password by a link that is sent to the email address of the account. It stands in for the old password and for nothing else: a second
//! factor is asked for as at a sign-in, and all sessions end.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use flaghoist_runtime::fault::chain;
use flaghoist_runtime::names::UserId;
use flaghoist_runtime::time::millis;

use super::check::read_handle;
use super::factors::Code;
use super::{Accounts, now};
use crate::contact::{Contact, ContactKind};
use crate::error::Error;
use crate::factor::FactorKind;
use crate::history::{EventKind, NewEvent, Origin};
use crate::login_token::{LoginDigest, LoginToken, sha256};
use crate::notify::Content;
use crate::password::{BadPassword, Password};
use crate::security_key::Ceremony;
use crate::store::factors::{Login, Proven};
use crate::store::resets::Finished;
use crate::throttle::quota::Limit;

/// How long a link is good.
const LINK_FOR: Duration = Duration::from_secs(30 * 60);
/// To how many accounts one address is sent links at once.
const ACCOUNTS_MAX: u32 = 5;
/// How many requests are worked on at once.
pub(super) const REQUESTS_MAX: usize = 64;

/// The second factor that comes with a new password.
#[derive(Debug)]
pub(crate) enum ResetFactor {
    /// A code.
    Code(Code),
    /// The answer of a security key, as JSON.
    Key(String),
}

/// What a link opens.
#[derive(Debug)]
pub(crate) struct ResetAsked {
    pub(crate) handle: String,
    /// One of these is asked for; nothing if there are none.
    pub(crate) factors: Vec<FactorKind>,
}

impl Accounts {
    /// Sends a link to the email address of an account. Whether there is one makes no difference to the answer, nor to when it comes: the
    /// work is done afterwards. Requests of a network are limited before anything is looked up.
    pub(crate) async fn request_reset(self: &Arc<Self>, typed: String, origin: Origin) -> Result<(), Error> {
        self.take_from(Limit::Resets, origin.address).await?;
        let Ok(working) = Arc::clone(&self.requests).try_acquire_owned() else { return Err(Error::Busy) };
        let accounts = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = accounts.send_links(&typed).await {
                tracing::warn!(error = %chain(&error), "a link for a new password was not sent");
            }
            drop(working);
        });
        Ok(())
    }

    async fn send_links(&self, typed: &str) -> Result<(), Error> {
        if !self.post.notifier.reaches(ContactKind::Email) {
            tracing::info!("no link for a new password was made: FLAGHOIST_LOGIN_NOTIFIER sends no mail");
            return Ok(());
        }
        let people = match Contact::read(ContactKind::Email, typed) {
            Ok(contact) => self.store.people_of_contact(&contact, ACCOUNTS_MAX).await?,
            Err(_) => {
                let found = self.store.credentials(&read_handle(typed.trim().trim_start_matches('@'))).await?;
                found.map(|found| found.account.user).into_iter().collect()
            }
        };
        for user in people {
            match self.send_link(user).await {
                // Enough of them are on their way.
                Ok(()) | Err(Error::RateLimited(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn send_link(&self, user: UserId) -> Result<(), Error> {
        let Some(found) = self.store.credentials_of(user).await?.filter(|found| found.usable()) else { return Ok(()) };
        let contacts = self.store.contacts(user, now()).await?;
        let Some(to) = contacts.verified(ContactKind::Email) else { return Ok(()) };
        self.take(Limit::Links, self.attempt_keys.bucket_of_person(Limit::Links, user)).await?;
        let token = LoginToken::generate();
        let link = format!("{}/reset?token={}", self.issuer_address, token.text());
        let message = self.message(&found.account, to.clone(), Content::Reset(link), LINK_FOR)?;
        let expires_at = millis(SystemTime::now() + LINK_FOR);
        self.store.begin_reset(token.digest(), Proven::by(&found), expires_at, &message, now()).await?;
        self.post.wake.notify_one();
        Ok(())
    }

    /// What a link opens, if it can be used. It stays as it is.
    pub(crate) async fn reset_asked(&self, token: &LoginToken, origin: &Origin) -> Result<ResetAsked, Error> {
        self.take_from(Limit::Attempts, origin.address).await?;
        self.reset_opened(token).await
    }

    /// What a link opens, for who was counted when they brought it.
    pub(crate) async fn reset_opened(&self, token: &LoginToken) -> Result<ResetAsked, Error> {
        let whose = self.store.reset(token.digest(), now()).await?.ok_or(Error::ResetOver)?;
        let account = self.get(whose.user).await?;
        let factors = self.store.factors(whose.user).await?.second();
        Ok(ResetAsked { handle: account.handle.to_string(), factors })
    }

    /// Asks for a key of the account that a link opens. Answers what a browser is to be asked, as JSON.
    pub(crate) async fn start_reset_key(&self, token: &LoginToken, origin: &Origin) -> Result<String, Error> {
        self.take_from(Limit::Logins, origin.address).await?;
        let whose = self.store.reset(token.digest(), now()).await?.ok_or(Error::ResetOver)?;
        let keys = self.store.keys(whose.user).await?;
        if keys.is_empty() {
            return Err(Error::FactorMissing);
        }
        let (options, ceremony) = self.keys.start_second(&keys)?;
        self.begin_ceremony(ceremony_of(token), &ceremony).await?;
        Ok(options.to_string())
    }

    /// Sets a new password by a link, which is used up; with a second factor where the account has one. Ends all sessions.
    pub(crate) async fn reset_password(
        &self,
        token: &LoginToken,
        new: Result<Password, BadPassword>,
        factor: Option<ResetFactor>,
        origin: Origin,
    ) -> Result<(), Error> {
        let new = new.map_err(|source| Error::Password { field: "new_password", source })?;
        let place = self.pool.place()?;
        self.take_from(Limit::Attempts, origin.address).await?;
        let whose = self.store.reset(token.digest(), now()).await?.ok_or(Error::ResetOver)?;
        let user = whose.user;
        let account = self.get(user).await?;
        if factor.is_none() && !self.store.factors(user).await?.second().is_empty() {
            return Err(Error::ResetSecondFactor);
        }
        // A password that is not taken costs no code.
        let about = [account.handle.to_string(), account.display_name.as_str().to_owned()];
        let hash = self.hash_new(&place, new, "new_password", about).await?;
        drop(place);
        let code = self.prove_reset_factor(token, whose, factor, &origin).await?;
        let also = self.also_changed(NewEvent::change(user, EventKind::PasswordReset, origin.clone())).await?;
        match self.store.finish_reset(token.digest(), &hash, code, &also, now()).await? {
            Finished::Done => {}
            Finished::Over => return Err(Error::ResetOver),
            Finished::CodeUnknown => return Err(self.refused(user, FactorKind::RecoveryCode, &origin).await),
        }
        self.post.wake.notify_one();
        if code.is_some() {
            self.code_checked(user, FactorKind::RecoveryCode, &origin, true).await?;
        }
        // Whoever forgot it has tried it.
        self.store.attempt_succeeded(self.attempt_keys.of(&account.handle, origin.address), None, now()).await?;
        if let Err(error) = self.teller.tell(user).await {
            tracing::warn!(%user, error = %chain(&error), "sessions end later, the issuer could not be told");
        }
        Ok(())
    }

    /// Checks and takes the second factor; a recovery code is taken together with the link.
    async fn prove_reset_factor(
        &self,
        token: &LoginToken,
        whose: Proven,
        factor: Option<ResetFactor>,
        origin: &Origin,
    ) -> Result<Option<crate::recovery_code::RecoveryDigest>, Error> {
        match factor {
            None => Ok(None),
            Some(ResetFactor::Code(Code::Recovery(code))) => {
                self.count_code(whose.user, FactorKind::RecoveryCode, origin).await?;
                match code {
                    Some(code) => Ok(Some(code.digest(whose.user))),
                    None => Err(self.refused(whose.user, FactorKind::RecoveryCode, origin).await),
                }
            }
            Some(ResetFactor::Code(code)) => self.prove_code(whose.user, code, origin).await.map(|_| None),
            Some(ResetFactor::Key(answer)) => {
                let ceremony = self.take_ceremony(ceremony_of(token)).await?.ok_or(Error::LoginStep)?;
                if !matches!(ceremony, Ceremony::Second(_)) {
                    return Err(Error::LoginStep);
                }
                let login = Login {
                    handle: read_handle(""),
                    client_id: String::new(),
                    label: String::new(),
                    bound_to: Vec::new(),
                    proven: Some(whose),
                };
                match self.prove_key(&login, ceremony, &answer).await {
                    Ok(_) => Ok(None),
                    Err(Error::CodeInvalid) => Err(self.refused(whose.user, FactorKind::SecurityKey, origin).await),
                    Err(error) => Err(error),
                }
            }
        }
    }
}

/// What the ceremony that belongs to a link is kept by.
fn ceremony_of(token: &LoginToken) -> LoginDigest {
    LoginDigest(sha256(format!("a new password by {}", token.text()).as_bytes()))
}
