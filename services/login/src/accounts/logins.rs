//! Logins in steps: the password, then a second factor where the account has one.
//!
//! A login is a row of the store, named by a secret that only whoever began it has. Each step is taken by one statement that asks for
//! the step before, so none is skipped, and of many calls at once one takes it. A wrong answer takes no step; the throttles say how
//! many there may be.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use flaghoist_runtime::time::millis;

use super::check::{read_handle, taken};
use super::sign_in::{Accepted, Arrived, SessionClient, Welcome};
use super::{Accounts, now};
use crate::error::Error;
use crate::factor::{FactorKind, Proof};
use crate::history::Origin;
use crate::login_token::{LoginToken, sha256};
use crate::password::{BadPassword, Password};
use crate::store::factors::{Login, Proven, Step, TakenCode};
use crate::throttle::quota::Limit;

use super::factors::Code;

/// How long a login may take from its beginning.
const LIFETIME: Duration = Duration::from_secs(10 * 60);

/// Someone who begins a login.
#[derive(Debug)]
pub(crate) struct StartLogin {
    pub(crate) handle: String,
    /// Empty for the command line's own.
    pub(crate) client_id: String,
    pub(crate) label: String,
    pub(crate) address: IpAddr,
}

/// A login that has begun.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) token: LoginToken,
    pub(crate) expires_at: SystemTime,
}

/// How a login goes on after the password.
pub(crate) enum Next {
    /// The person is signed in.
    SignedIn(Box<Welcome>),
    /// One of these is asked for.
    SecondFactors(Vec<FactorKind>),
}

/// The browser in which someone signs in on the page: the value of its cookie.
#[derive(Clone, Debug)]
pub(crate) struct Browser(pub(crate) String);

impl Browser {
    /// What a login of this browser for a request of the issuer is bound to. The cookie has a length of its own, so no two pairs read
    /// alike.
    pub(super) fn bound_to(&self, challenge: &str) -> Vec<u8> {
        sha256(format!("{} {challenge}", self.0).as_bytes()).to_vec()
    }
}

impl Accounts {
    /// Begins a login. Whether anybody has the handle makes no difference.
    pub(crate) async fn start_login(&self, wanted: StartLogin) -> Result<Started, Error> {
        self.take_from(Limit::Logins, wanted.address).await?;
        let login = Login {
            handle: read_handle(&wanted.handle),
            client_id: wanted.client_id,
            // Not every store takes a NUL, and nobody is shown one.
            label: wanted.label.chars().filter(|letter| !letter.is_control()).collect(),
            bound_to: Vec::new(),
            proven: None,
        };
        self.begin_login(&login).await
    }

    pub(super) async fn begin_login(&self, login: &Login) -> Result<Started, Error> {
        let (token, expires_at) = (LoginToken::generate(), SystemTime::now() + LIFETIME);
        self.store.begin_login(token.digest(), login, millis(expires_at)).await?;
        Ok(Started { token, expires_at })
    }

    /// The first step: the password. Opens a session, or says which second factors the account has.
    pub(crate) async fn submit_password(
        &self,
        token: &LoginToken,
        password: Result<Password, BadPassword>,
        origin: impl Into<Origin> + Send,
    ) -> Result<Next, Error> {
        let origin = origin.into();
        let password = taken(password)?;
        let login = self.login_at(token, Step::Password, &[]).await?;
        let checked = self.check(&login.handle, password, &origin).await?;
        let proven = Proven::by(&checked.credentials);
        if checked.credentials.second_factor {
            checked.counted.forget().await?;
            let factors = self.store.factors(proven.user).await?.second();
            if !self.store.password_proven(token.digest(), proven, now()).await? {
                return Err(Error::LoginStep);
            }
            return Ok(Next::SecondFactors(factors));
        }
        if let Err(error) = self.end(token, Step::Password).await {
            return Err(checked.counted.forget_after(error).await);
        }
        let client = SessionClient { client_id: login.client_id, label: login.label, origin };
        Ok(Next::SignedIn(Box::new(self.open_session(checked.arrived(), client).await?)))
    }

    /// The second step: a code.
    pub(crate) async fn submit_code(
        &self,
        token: &LoginToken,
        code: Code,
        origin: impl Into<Origin> + Send,
    ) -> Result<Welcome, Error> {
        let origin = origin.into();
        let login = self.login_at(token, Step::SecondFactor, &[]).await?;
        let (proven, taken) = self.prove_second(&login, token, code, &origin).await?;
        let client = SessionClient { client_id: login.client_id, label: login.label, origin };
        let arrived = Arrived::by(Proof::PasswordAndCode, proven);
        let opened = self.open_session(arrived, client).await;
        self.kept_or_given_back(proven, taken, opened).await
    }

    /// The second step on the page, in the browser that has taken the first for the same request.
    pub(crate) async fn submit_code_for_request(
        &self,
        token: &LoginToken,
        code: Code,
        browser: &Browser,
        challenge: String,
        origin: impl Into<Origin> + Send,
    ) -> Result<Accepted, Error> {
        let origin = origin.into();
        let login = self.login_at(token, Step::SecondFactor, &browser.bound_to(&challenge)).await?;
        // A challenge that is over costs no code.
        self.issuer.login_request(&challenge).await?;
        let (proven, taken) = self.prove_second(&login, token, code, &origin).await?;
        let arrived = Arrived::by(Proof::PasswordAndCode, proven);
        let accepted = self.accept_request(arrived, challenge, origin).await;
        self.kept_or_given_back(proven, taken, accepted).await
    }

    /// A recovery code with which nobody got in, because the issuer was away or the person has changed, is good once more: nobody else had it
    /// meanwhile, and nobody has the tokens.
    async fn kept_or_given_back<T>(
        &self,
        proven: Proven,
        taken: Option<TakenCode>,
        opened: Result<T, Error>,
    ) -> Result<T, Error> {
        if opened.is_err() {
            self.give_back(proven.user, taken).await;
        }
        opened
    }

    /// The login, if it awaits `step` and belongs to nothing else than `bound_to`.
    async fn login_at(&self, token: &LoginToken, step: Step, bound_to: &[u8]) -> Result<Login, Error> {
        let found = self.store.login(token.digest(), now()).await?;
        let login = found.filter(|login| login.bound_to == bound_to).ok_or(Error::LoginOver)?;
        if login.step() == step { Ok(login) } else { Err(Error::LoginStep) }
    }

    /// Checks a code of whoever's password was right, and takes the last step.
    async fn prove_second(
        &self,
        login: &Login,
        token: &LoginToken,
        code: Code,
        origin: &Origin,
    ) -> Result<(Proven, Option<TakenCode>), Error> {
        let proven = login.proven.ok_or(Error::LoginStep)?;
        let taken = self.prove_code(proven.user, code, origin).await?;
        let ended = self.end(token, Step::SecondFactor).await;
        self.kept_or_given_back(proven, taken, ended).await?;
        Ok((proven, taken))
    }

    pub(super) async fn end(&self, token: &LoginToken, step: Step) -> Result<(), Error> {
        if self.store.end_login(token.digest(), step, now()).await? { Ok(()) } else { Err(Error::LoginStep) }
    }
}
