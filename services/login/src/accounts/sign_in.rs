//! Signing in: with a password alone, and what every way to sign in ends with.

use std::time::SystemTime;

use flaghoist_runtime::names::UserId;

use super::check::{Counted, read_handle, taken};
use super::history::Finished;
use super::lanes::Lane;
use super::logins::Browser;
use super::{Accounts, now};
use crate::account::{Account, Credentials};
use crate::contact::Contacts;
use crate::error::Error;
use crate::factor::Proof;
use crate::hashing::Place;
use crate::history::Origin;
use crate::issuer::{Answer, Ask, Asked, IssuerError, Opened, Recognised, SignedIn};
use crate::login_token::LoginToken;
use crate::password::{BadPassword, Password};
use crate::store::contacts::Profile;
use crate::store::factors::{Login, Proven};
use crate::throttle::browser::KnownBrowser;

/// How many addresses an account is known to be used from.
pub(super) const KNOWN_ADDRESSES_MAX: u32 = 32;
/// The longest name of a device (`CreateSessionRequest.label`).
const LABEL_MAX_CHARACTERS: usize = 64;
/// The client of those who name none.
pub(crate) const DEFAULT_CLIENT: &str = "flaghoist-cli";

/// Someone who wants to sign in.
#[derive(Debug)]
pub(crate) struct SignIn {
    pub(crate) handle: String,
    pub(crate) password: Result<Password, BadPassword>,
    /// Empty for the command line's own.
    pub(crate) client_id: String,
    pub(crate) label: String,
    pub(crate) origin: Origin,
}

/// Someone who wants to sign in on the page, for a request of the issuer.
#[derive(Debug)]
pub(crate) struct PageSignIn {
    pub(crate) handle: String,
    pub(crate) password: Result<Password, BadPassword>,
    /// What the browser came with.
    pub(crate) challenge: String,
    pub(crate) browser: Browser,
    pub(crate) origin: Origin,
}

/// Where a session is used.
#[derive(Debug)]
pub(super) struct SessionClient {
    /// Empty for the command line's own.
    pub(super) client_id: String,
    pub(super) label: String,
    pub(super) origin: Origin,
}

/// Someone who has proved who they are.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) proven: Proven,
    pub(super) proof: Proof,
    /// The attempts that are forgotten once they are in; none if that is done already, or they made none.
    pub(super) counted: Option<Counted>,
    /// The place before the pool, which bounds how many sign in by password at once: kept until they are in.
    pub(super) place: Option<Place>,
}

impl Arrived {
    /// Someone who needed no password for this step.
    pub(super) fn by(proof: Proof, proven: Proven) -> Self {
        Self { proven, proof, counted: None, place: None }
    }
}

/// Someone who has signed in.
pub(crate) struct Welcome {
    pub(crate) account: Account,
    pub(crate) opened: Opened,
}

/// A browser whose person has signed in on the page.
#[derive(Debug)]
pub(crate) struct Accepted {
    /// Where it goes.
    pub(crate) address: String,
    /// What it is remembered by from now on.
    pub(crate) browser: KnownBrowser,
}

/// How a sign-in on the page goes on.
#[derive(Debug)]
pub(crate) enum PageStep {
    /// The person is signed in.
    Done(Accepted),
    /// The page asks for a second factor of this login.
    SecondFactor(LoginToken),
}

impl Accounts {
    /// Checks handle and password and opens a session. An account with a second factor is left to the logins in steps.
    pub(crate) async fn sign_in(&self, wanted: SignIn) -> Result<Welcome, Error> {
        let handle = read_handle(&wanted.handle);
        let checked = self.check(&handle, taken(wanted.password)?, &wanted.origin).await?;
        if checked.credentials.second_factor {
            checked.counted.forget().await?;
            return Err(Error::SecondFactorRequired);
        }
        let client = SessionClient { client_id: wanted.client_id, label: wanted.label, origin: wanted.origin };
        self.open_session(checked.arrived(), client).await
    }

    /// Checks handle and password and tells the issuer who it is, unless the account has a second factor.
    pub(crate) async fn sign_in_for_request(&self, wanted: PageSignIn) -> Result<PageStep, Error> {
        // A challenge that is over costs no hash.
        self.issuer.login_request(&wanted.challenge).await?;
        let handle = read_handle(&wanted.handle);
        let checked = self.check(&handle, taken(wanted.password)?, &wanted.origin).await?;
        if checked.credentials.second_factor {
            checked.counted.forget().await?;
            let login = Login {
                handle,
                client_id: String::new(),
                label: String::new(),
                bound_to: wanted.browser.bound_to(&wanted.challenge),
                proven: Some(Proven::by(&checked.credentials)),
            };
            return Ok(PageStep::SecondFactor(self.begin_login(&login).await?.token));
        }
        self.accept_request(checked.arrived(), wanted.challenge, wanted.origin).await.map(PageStep::Done)
    }

    /// Opens a session for someone who has proved who they are.
    pub(super) async fn open_session(&self, arrived: Arrived, client: SessionClient) -> Result<Welcome, Error> {
        let client_id = if client.client_id.is_empty() { DEFAULT_CLIENT.to_owned() } else { client.client_id };
        let origin = client.origin;
        // Without a name of its own a device is called by what its program says of itself.
        let label = if client.label.trim().is_empty() {
            origin.agent().chars().take(LABEL_MAX_CHARACTERS).collect()
        } else {
            client.label
        };
        let (address, with, proof) = (origin.address, client_id.clone(), arrived.proof);
        let ask = move |account: &Account, _: &Contacts| {
            let (user, admin) = (account.user, account.admin);
            Ask::Session(SignedIn { user, client_id, admin, proof, at: SystemTime::now(), label, address })
        };
        match self.admit(arrived, ask, with, origin).await? {
            (account, Answer::Session(opened)) => Ok(Welcome { account, opened: *opened }),
            (_, Answer::Redirect(_)) => Err(unexpected()),
        }
    }

    /// Tells the issuer who has proved who they are on the page, and remembers the browser.
    pub(super) async fn accept_request(
        &self,
        arrived: Arrived,
        challenge: String,
        origin: Origin,
    ) -> Result<Accepted, Error> {
        let proof = arrived.proof;
        let browser = self.attempt_keys.remembered(arrived.proven.user, &origin.browser);
        let origin = origin.by_browser(browser.clone());
        let ask = move |account: &Account, contacts: &Contacts| {
            let profile = Profile { account: account.clone(), contacts: contacts.clone() };
            Ask::Acceptance(Box::new(Recognised { challenge, proof, at: SystemTime::now(), profile }))
        };
        match self.admit(arrived, ask, String::new(), origin).await? {
            (_, Answer::Redirect(address)) => Ok(Accepted { address, browser }),
            (_, Answer::Session(_)) => Err(unexpected()),
        }
    }

    /// Who wants someone to sign in on the page.
    pub(crate) async fn login_request(&self, challenge: &str) -> Result<Asked, Error> {
        Ok(self.issuer.login_request(challenge).await?)
    }

    /// Tells the issuer that nobody signs in. Answers where the browser goes.
    pub(crate) async fn refuse_login_request(&self, challenge: &str) -> Result<String, Error> {
        Ok(self.issuer.reject_login_request(challenge).await?)
    }

    /// Asks the issuer, in the person's lane, for what `ask` says about the account, and notes the finished sign-in.
    async fn admit(
        &self,
        arrived: Arrived,
        ask: impl FnOnce(&Account, &Contacts) -> Ask + Send,
        client_id: String,
        origin: Origin,
    ) -> Result<(Account, Answer), Error> {
        let Arrived { proven, proof, counted, place: _kept } = arrived;
        let admitted = async {
            let mut lane = self.lanes.enter(proven.user).await?;
            let admitted = self.open(&mut lane, proven, proof, ask).await;
            lane.leave().await;
            admitted
        };
        match admitted.await {
            Ok((account, contacts, answer)) => {
                self.signed_in(&account, &contacts, Finished { proof, counted, client_id, origin }).await;
                Ok((account, answer))
            }
            Err(error) => {
                // The password was right, whatever came after it.
                Err(match counted {
                    Some(counted) => counted.forget_after(error).await,
                    None => error,
                })
            }
        }
    }

    /// Asks the issuer for something for a person whose proof was right, unless they, or what proves them, have changed since. Whoever
    /// changes something meanwhile ends the sessions after us, for we are in the person's lane.
    async fn open(
        &self,
        lane: &mut Lane,
        proven: Proven,
        proof: Proof,
        ask: impl FnOnce(&Account, &Contacts) -> Ask + Send,
    ) -> Result<(Account, Contacts, Answer), Error> {
        let user = proven.user;
        let unchanged = |current: &Credentials| {
            current.usable() && current.version == proven.version && (proof.of_two() || !current.second_factor)
        };
        let (mut current, contacts) = self.store.person(user, now()).await?.ok_or(Error::CredentialsInvalid)?;
        if current.untold {
            self.teller.tell_within(lane, user).await?;
            current = self.current(user).await?;
        } else if current.account.admin {
            // If the issuer believes otherwise it leaves the scope out without a word, so what it believes of an admin is set right
            // whenever they sign in.
            self.teller.tell_state(lane, user, "").await?;
        }
        if !unchanged(&current) {
            return Err(Error::CredentialsInvalid);
        }
        let ask = ask(&current.account, &contacts);
        lane.hold().await?;
        let answer = match self.issuer.ask(ask.clone()).await {
            // It believes otherwise: its state is that of an older backup, or came from a pod that was frozen while telling.
            Err(IssuerError::SubjectRefused) => {
                self.store.note_state(user, now()).await?;
                self.teller.tell_within(lane, user).await?;
                lane.hold().await?;
                self.issuer.ask(ask).await?
            }
            answer => answer?,
        };
        // Whoever lost the lane meanwhile, for being frozen, may have opened it after others were ended: nobody gets its tokens.
        if !unchanged(&self.current(user).await?) {
            return Err(Error::CredentialsInvalid);
        }
        Ok((current.account, contacts, answer))
    }

    /// What proves a person by now.
    async fn current(&self, user: UserId) -> Result<Credentials, Error> {
        self.store.credentials_of(user).await?.ok_or(Error::CredentialsInvalid)
    }
}

/// The issuer answered another question than was asked, which its types do not allow.
fn unexpected() -> Error {
    let status = tonic::Status::internal("the issuer answered another question");
    Error::Issuer(IssuerError::Failed(Box::new(status)))
}
