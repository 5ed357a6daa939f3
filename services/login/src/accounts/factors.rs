//! Second factors: checking one, and what people do with their own.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, SystemTime};

use flaghoist_runtime::Caller;
use flaghoist_runtime::fault::chain;
use flaghoist_runtime::names::{SessionId, UserId};
use flaghoist_runtime::time::millis;
use secrecy::SecretString;

use super::sign_in::{DEFAULT_CLIENT, KNOWN_ADDRESSES_MAX};
use super::{Accounts, now};
use crate::error::Error;
use crate::factor::{FactorKind, Factors};
use crate::history::{EventKind, NewEvent, Origin};
use crate::recovery_code::RecoveryCode;
use crate::relying_party;
use crate::store::factors::{Confirmed, FirstFactor, Removed, TakenCode};
use crate::throttle::quota::Limit;
use crate::throttle::{Delays, FACTOR_STRANGERS_DELAY_MAX};
use crate::totp::{TotpCode, TotpSecret};

/// How long ago someone may have signed in who adds or removes a factor.
const FRESH_FOR: Duration = Duration::from_secs(10 * 60);
/// How long an authenticator app can be confirmed.
const ENROLMENT_LIFETIME: Duration = Duration::from_secs(10 * 60);

/// A code, as someone brings it.
#[derive(Debug)]
pub(crate) enum Code {
    /// Of an authenticator app.
    Totp(TotpCode),
    /// A recovery code; none where what was typed cannot be one, which is counted like any that is wrong.
    Recovery(Option<RecoveryCode>),
}

impl Code {
    fn kind(&self) -> FactorKind {
        match self {
            Self::Totp(_) => FactorKind::Totp,
            Self::Recovery(_) => FactorKind::RecoveryCode,
        }
    }

    /// Reads what someone types where either is asked for: six digits are of an authenticator app, which shows them with a space at
    /// times.
    pub(crate) fn typed(typed: &str) -> Self {
        let joined: String = typed.chars().filter(|letter| !letter.is_whitespace()).collect();
        match TotpCode::read(joined) {
            Some(code) => Self::Totp(code),
            None => Self::Recovery(RecoveryCode::read(typed.trim())),
        }
    }
}

/// A secret for an authenticator app, for the one answer that carries it.
#[derive(Debug)]
pub(crate) struct Enrolment {
    pub(crate) secret: SecretString,
    pub(crate) uri: SecretString,
    pub(crate) expires_at: SystemTime,
}

/// Someone who changes their factors.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    pub(super) user: UserId,
    /// The session that they do it in.
    session: Option<SessionId>,
    /// Whether they signed in by two factors.
    two_factors: bool,
    /// Where they are.
    pub(super) origin: Origin,
}

impl Owner {
    /// Whoever has signed in lately, and not to an application: a person's consent to write messages for them is none to sign in as them.
    pub(crate) fn of(caller: &Caller, user: UserId) -> Result<Self, Error> {
        Self::at_home(caller)?;
        // A time that is yet to come is that of a clock which is ahead of this one.
        let age = caller.authenticated_at.map(|at| SystemTime::now().duration_since(at).unwrap_or_default());
        if age.is_none_or(|age| age > FRESH_FOR) {
            return Err(Error::LoginNotFresh);
        }
        let origin = Origin::from(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        Ok(Self { user, session: caller.session, two_factors: caller.two_factors, origin })
    }

    /// Refuses applications that a person has signed in to.
    pub(crate) fn at_home(caller: &Caller) -> Result<(), Error> {
        let own = [DEFAULT_CLIENT, relying_party::CLIENT_ID].contains(&caller.client_id.as_str());
        if own { Ok(()) } else { Err(Error::ClientForeign) }
    }

    /// Who it is.
    pub(crate) fn user(&self) -> UserId {
        self.user
    }

    /// The same person, who calls from there.
    pub(crate) fn at(self, origin: Origin) -> Self {
        Self { origin, ..self }
    }

    /// What they have changed.
    pub(super) fn event(&self, kind: EventKind) -> NewEvent {
        NewEvent::change(self.user, kind, self.origin.clone())
    }

    /// The session that a first strong factor leaves, as the issuer knows it.
    pub(super) fn kept_session(&self) -> String {
        self.session.map(|session| session.to_string()).unwrap_or_default()
    }
}

impl Accounts {
    /// Asks for two factors of who has two: a password alone must not change what protects against its loss.
    pub(crate) async fn may_change(&self, owner: &Owner) -> Result<(), Error> {
        if !owner.two_factors && !self.store.factors(owner.user).await?.second().is_empty() {
            return Err(Error::LoginOneFactor);
        }
        Ok(())
    }

    /// Ends the sessions from before a first strong factor, at once where possible.
    pub(super) async fn end_older_sessions(&self, user: UserId) {
        if let Err(error) = self.teller.tell(user).await {
            tracing::warn!(%user, error = %chain(&error), "sessions end later, the issuer could not be told");
        }
    }

    /// Checks a code of a person and takes it; answers the recovery code, if it is one, so that it can be given back. Every attempt is
    /// counted before.
    pub(super) async fn prove_code(
        &self,
        user: UserId,
        code: Code,
        origin: &Origin,
    ) -> Result<Option<TakenCode>, Error> {
        let kind = code.kind();
        self.count_code(user, kind, origin).await?;
        let mut taken = None;
        let passed = match code {
            Code::Totp(code) => match self.store.totp(user).await? {
                Some(totp) => {
                    let secret = TotpSecret::open(&self.sealer, user, &totp.secret)?;
                    match secret.step_of(&code, now_seconds()) {
                        Some(step) if step > totp.last_step => {
                            let anew = secret.reseal(&self.sealer, user, &totp.secret)?;
                            self.store.take_totp(user, &totp.secret, anew.as_ref(), step, now()).await?
                        }
                        _ => false,
                    }
                }
                None => false,
            },
            Code::Recovery(Some(code)) => {
                taken = self.store.take_recovery_code(user, code.digest(user)).await?;
                taken.is_some()
            }
            Code::Recovery(None) => false,
        };
        if !passed {
            return Err(self.refused(user, kind, origin).await);
        }
        self.code_checked(user, kind, origin, true).await?;
        Ok(taken)
    }

    /// A second factor of someone whose password was right was not.
    pub(super) async fn refused(&self, user: UserId, kind: FactorKind, origin: &Origin) -> Error {
        self.note_change(NewEvent::change(user, EventKind::FactorRefused, origin.clone())).await;
        metrics::counter!("flaghoist_login_factor_checks_total", "factor" => kind.label(), "outcome" => "refused")
            .increment(1);
        Error::CodeInvalid
    }

    /// Gives a recovery code back that was taken and opened nothing.
    pub(super) async fn give_back(&self, user: UserId, taken: Option<TakenCode>) {
        let Some(taken) = taken else { return };
        if let Err(error) = self.store.give_back_recovery_code(user, taken).await {
            tracing::warn!(%user, error = %chain(&error), "a recovery code that opened nothing is lost");
        }
    }

    /// Counts an attempt at a factor, or says how long to wait.
    pub(super) async fn count_code(&self, user: UserId, kind: FactorKind, origin: &Origin) -> Result<(), Error> {
        if self.attempt_keys.of_browser(user, &origin.browser).is_none() {
            self.take_from(Limit::Attempts, origin.address).await?;
        }
        let delays = Delays { strangers_max: FACTOR_STRANGERS_DELAY_MAX, ..self.delays };
        let key = self.attempt_keys.of_factor(kind, user, origin);
        if let Some(wait) = self.store.reserve_attempt(key, delays, now()).await? {
            metrics::counter!("flaghoist_login_refused_total", "limit" => kind.label()).increment(1);
            return Err(Error::RateLimited(wait));
        }
        Ok(())
    }

    /// Says what came of an attempt, and forgets those before it if it was right.
    pub(super) async fn code_checked(
        &self,
        user: UserId,
        kind: FactorKind,
        origin: &Origin,
        passed: bool,
    ) -> Result<(), Error> {
        let outcome = if passed { "passed" } else { "refused" };
        metrics::counter!("flaghoist_login_factor_checks_total", "factor" => kind.label(), "outcome" => outcome)
            .increment(1);
        if !passed {
            return Err(Error::CodeInvalid);
        }
        let key = self.attempt_keys.of_factor(kind, user, origin);
        Ok(self.store.attempt_succeeded(key, Some(KNOWN_ADDRESSES_MAX), now()).await?)
    }

    /// What a person has beside the password.
    pub(crate) async fn factors(&self, user: UserId) -> Result<Factors, Error> {
        Ok(self.store.factors(user).await?)
    }

    /// How many recovery codes a person has left.
    pub(crate) async fn recovery_codes_left(&self, user: UserId) -> Result<u32, Error> {
        Ok(self.store.factors(user).await?.recovery_codes)
    }

    /// Makes a secret for an authenticator app.
    pub(crate) async fn enroll_totp(&self, owner: Owner) -> Result<Enrolment, Error> {
        self.may_change(&owner).await?;
        let user = owner.user;
        let account = self.get(user).await?;
        self.take(Limit::Updates, self.attempt_keys.bucket_of_person(Limit::Updates, user)).await?;
        let secret = TotpSecret::generate();
        let expires_at = SystemTime::now() + ENROLMENT_LIFETIME;
        let sealed = secret.seal(&self.sealer, user)?;
        if !self.store.begin_totp(user, &sealed, millis(expires_at)).await? {
            return Err(Error::AccountUnknown(user.name()));
        }
        let uri = secret.uri(&self.host, account.handle.as_str());
        Ok(Enrolment { secret: secret.typed(), uri, expires_at })
    }

    /// The secret for an authenticator app that is yet to be confirmed, as it was made.
    pub(crate) async fn pending_totp(&self, owner: Owner) -> Result<Option<Enrolment>, Error> {
        self.may_change(&owner).await?;
        let account = self.get(owner.user).await?;
        let Some(sealed) = self.store.totp_enrolment(owner.user, now()).await? else { return Ok(None) };
        let secret = TotpSecret::open(&self.sealer, owner.user, &sealed)?;
        let uri = secret.uri(&self.host, account.handle.as_str());
        Ok(Some(Enrolment { secret: secret.typed(), uri, expires_at: SystemTime::now() }))
    }

    /// Takes the first code of an authenticator app, which from then on is asked for. Answers recovery codes for who had no strong
    /// factor.
    pub(crate) async fn confirm_totp(&self, owner: Owner, code: &TotpCode) -> Result<Vec<SecretString>, Error> {
        self.may_change(&owner).await?;
        let user = owner.user;
        self.count_code(user, FactorKind::Totp, &owner.origin).await?;
        let sealed = self.store.totp_enrolment(user, now()).await?.ok_or(Error::EnrolmentUnknown)?;
        let secret = TotpSecret::open(&self.sealer, user, &sealed)?;
        let step = secret.step_of(code, now_seconds());
        self.code_checked(user, FactorKind::Totp, &owner.origin, step.is_some()).await?;
        let Some(step) = step else { return Err(Error::CodeInvalid) };
        let (codes, digests) = RecoveryCode::generate(user);
        let kept_session = owner.kept_session();
        let first = FirstFactor { codes: &digests, kept_session: &kept_session };
        match self.store.confirm_totp(user, &sealed, step, first, now()).await? {
            Confirmed::Done { first } => {
                self.note_change(owner.event(EventKind::FactorAdded)).await;
                if !first {
                    return Ok(Vec::new());
                }
                self.end_older_sessions(user).await;
                Ok(codes)
            }
            Confirmed::Gone => Err(Error::EnrolmentUnknown),
        }
    }

    /// Removes the authenticator app, the last strong factor only where that is meant.
    pub(crate) async fn delete_totp(&self, owner: Owner, allow_last: bool) -> Result<(), Error> {
        self.may_change(&owner).await?;
        self.take(Limit::Updates, self.attempt_keys.bucket_of_person(Limit::Updates, owner.user)).await?;
        match self.store.remove_totp(owner.user, allow_last).await? {
            Removed::Done => {
                self.note_change(owner.event(EventKind::FactorRemoved)).await;
                Ok(())
            }
            Removed::Absent => Ok(()),
            Removed::Last => Err(Error::LastFactor),
        }
    }

    /// Makes recovery codes in the place of those that were there.
    pub(crate) async fn create_recovery_codes(&self, owner: Owner) -> Result<Vec<SecretString>, Error> {
        self.may_change(&owner).await?;
        let user = owner.user;
        self.take(Limit::Updates, self.attempt_keys.bucket_of_person(Limit::Updates, user)).await?;
        let (codes, digests) = RecoveryCode::generate(user);
        if !self.store.replace_recovery_codes(user, &digests, now()).await? {
            return Err(Error::FactorMissing);
        }
        self.note_change(owner.event(EventKind::RecoveryCodesMade)).await;
        Ok(codes)
    }
}

/// Seconds since 1970, by this pod's clock and nobody else's.
fn now_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
