//! Signing in by a browser: from the authorization endpoint over login and consent to a code, and from the code to tokens.
//!
//! A browser that has to be asked something gets a *challenge*, a secret that names its request, and a cookie to which the request is
//! bound. Login answers the challenge; only the browser with the cookie is let on. Every step is one atomic change in the store, so
//! that what is done twice, or in two browsers, is done once.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use flaghoist_runtime::fault;
use flaghoist_runtime::names::{SessionId, UserId};
use parking_lot::Mutex;
use uuid::Uuid;

use crate::authorization::{AuthorizationRequest, Denial, Next, Parameters, Recognised, Refusal, first};
use crate::client::{Client, GrantType};
use crate::code::{Code, KeptCode, Redemption, Secret};
use crate::error::{Error, StoreError};
use crate::issuer::{Asker, Issuer, Tokens, Told, replayed};
use crate::moment::Moment;
use crate::profile::{self, ProfileClaims};
use crate::redirect;
use crate::refresh_token::Digest;
use crate::scope::Scopes;
use crate::session::{Family, Session};
use crate::store::sign_in::{LoginRequest, OpenMax, Redeemed, Stage};

mod account;
mod device;
mod login;

pub(crate) use account::{SignOut, SignOutRequest, UserInfoError};
pub(crate) use device::{DEVICE_INTERVAL, DEVICE_LIFETIME, DEVICE_PATH, Typed};

/// How long a person has to sign in and to agree.
const REQUEST_LIFETIME: Duration = Duration::from_secs(15 * 60);

/// How long a client has to redeem a code.
const CODE_LIFETIME: Duration = Duration::from_secs(60);

/// How long a pushed request waits for its browser.
pub(crate) const PUSHED_LIFETIME: Duration = Duration::from_secs(90);

/// What a pushed request is called begins so (RFC 9126 §2.2).
pub(crate) const PUSHED_PREFIX: &str = "urn:ietf:params:oauth:request_uri:";

/// How many requests of one browser may be open.
const OF_BROWSER_MAX: u32 = 20;

/// The path where a browser goes on after login.
pub(crate) const RESUME_PATH: &str = "/oauth2/continue";

/// The path of login's page, on the same host.
pub(crate) const LOGIN_PATH: &str = "/login";

/// A browser, by what it brings.
#[derive(Debug, Default)]
pub(crate) struct Visitor {
    /// The cookie that its requests are bound to.
    pub(crate) browser: Option<String>,
    /// The cookie of who is signed in.
    pub(crate) session: Option<String>,
    pub(crate) address: String,
}

/// Where a browser is sent, and the cookies it gets.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) to: Destination,
    /// A new cookie to bind its requests to.
    pub(crate) browser: Option<Secret>,
    /// A new cookie of who is signed in.
    pub(crate) session: Option<Secret>,
}

/// Where a browser is sent.
#[derive(Debug)]
pub(crate) enum Destination {
    /// To an address.
    Address(String),
    /// To the question whether the person agrees.
    Consent(Question),
    /// To a page that says what became of a device; nowhere from there.
    Device {
        /// Whether it may act in the name of the person.
        connected: bool,
    },
}

/// What a person is asked to agree to.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) challenge: String,
    pub(crate) client: Arc<Client>,
    pub(crate) scopes: Scopes,
    pub(crate) redirect_origin: String,
    /// The languages that the client asked for.
    pub(crate) ui_locales: String,
    /// The code on the device that wants to be connected, if it is one.
    pub(crate) user_code: Option<String>,
}

/// Why a browser gets a page that leads nowhere.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The request is over, or belongs to another browser.
    Forbidden(&'static str),
    /// Too much is open.
    TooMany,
    /// Too many codes of devices were tried.
    TooManyCodes,
    /// Something else.
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.into())
    }
}

/// Why there is no authorization request.
#[derive(Debug)]
pub(crate) enum Unread {
    /// It is not as it should be.
    Refused(Refusal),
    /// Something else.
    Failed(Error),
}

const OVER: Stop = Stop::Forbidden("this sign-in is over: go back to the application and begin again");
const MOVED: Stop = Stop::Forbidden(
    "the address that this sign-in leads back to is not registered any more: go back to the application and begin again",
);
const ELSEWHERE: Stop = Stop::Forbidden(
    "this sign-in was begun in another browser, or this one takes no cookies: begin again where you want to be",
);

impl Issuer {
    /// Reads an authorization request of `client`.
    pub(crate) fn read_request(
        &self,
        parameters: &Parameters,
        client: &Client,
    ) -> Result<AuthorizationRequest, Unread> {
        let mut request = AuthorizationRequest::read(parameters, client).map_err(Unread::Refused)?;
        if let Some(token) = first(parameters, "id_token_hint") {
            let Some(hint) = self.hint(token).map_err(Unread::Failed)? else {
                let denial = request.denial("invalid_request", "id_token_hint is not an ID token of this issuer");
                return Err(Unread::Refused(Refusal::Denied(denial)));
            };
            request.subject = Some(hint.user.0);
        }
        Ok(request)
    }

    /// Follows an authorization request as far as it goes without asking the person.
    pub(crate) async fn authorize(
        &self,
        client: &Client,
        request: AuthorizationRequest,
        visitor: &Visitor,
    ) -> Result<Reply, Stop> {
        let now = self.clock.now();
        let person = self.signed_in(visitor).await?;
        let consented = self.consented(client, person.as_ref()).await?;
        let (stage, person) = match (request.next(client, person.as_ref(), consented, now), person) {
            (Next::Answer, Some(person)) => return self.answer(client, request, &person, cookie_of(visitor)).await,
            (Next::Deny(error, description), _) => return self.deny(&request.denial(error, description)),
            (Next::Consent, person @ Some(_)) => (Stage::SignedIn, person),
            (Next::SignIn | Next::Answer | Next::Consent, _) => (Stage::Login, None),
        };
        let (challenge, fresh) = (Secret::random(), Secret::random());
        let known = visitor.browser.as_deref().filter(|cookie| cookie.len() == fresh.text().len());
        let browser = known.map_or_else(|| fresh.digest(), |cookie| Digest::of(cookie.as_bytes()));
        let login_request = LoginRequest {
            challenge: challenge.digest(),
            browser,
            address: network_of(&visitor.address),
            stage,
            client_id: client.id.to_string(),
            request,
            person,
            expires_at: now.plus(REQUEST_LIFETIME),
        };
        let max = self.open_max();
        if !self.store.open_login_request(&login_request, max, now).await? {
            return Err(Stop::TooMany);
        }
        let path = if stage == Stage::Login { LOGIN_PATH } else { RESUME_PATH };
        let to = Destination::Address(self.address(path, challenge.text()));
        Ok(Reply { to, browser: known.is_none().then_some(fresh), session: None })
    }

    /// Goes on with a browser that comes back from login, or looks at the question once more.
    pub(crate) async fn resume(&self, challenge: &str, visitor: &Visitor) -> Result<Reply, Stop> {
        let mut login_request = self.of_this_browser(challenge, visitor).await?;
        let mut cookie = None;
        match login_request.stage {
            Stage::Login => {
                let to = Destination::Address(self.address(LOGIN_PATH, challenge));
                return Ok(Reply { to, browser: None, session: None });
            }
            Stage::Rejected => {
                let taken = self.take(&login_request, Stage::Rejected).await?;
                if taken.request.user_code.is_some() {
                    self.refuse_device(&taken.client_id, &taken.request).await?;
                    return Ok(Reply { to: Destination::Device { connected: false }, browser: None, session: None });
                }
                return self.deny_late(&taken.client_id, &taken.request, "access_denied", "nobody has signed in").await;
            }
            Stage::Accepted => {
                // A cookie that was there before somebody signed in is never theirs afterwards.
                let new = Secret::random();
                let replaced = visitor.session.as_deref().map(|old| Digest::of(old.as_bytes()));
                if !self.store.enter(login_request.challenge, new.digest(), replaced, self.clock.now()).await? {
                    return Err(OVER);
                }
                login_request.stage = Stage::SignedIn;
                cookie = Some(new);
            }
            Stage::SignedIn => {}
        }
        let client = self.clients.get(&login_request.client_id).await?.ok_or(OVER)?;
        let person = login_request.person.clone().ok_or(OVER)?;
        let consented = self.consented(&client, Some(&person)).await?;
        let reply = match login_request.request.next_after_sign_in(&client, &person, consented) {
            Next::Answer => {
                let taken = self.take(&login_request, Stage::SignedIn).await?;
                let browser = cookie.as_ref().map(Secret::digest).or_else(|| cookie_of(visitor));
                self.answer(&client, taken.request, &person, browser).await?
            }
            Next::Deny(error, description) => {
                let taken = self.take(&login_request, Stage::SignedIn).await?;
                self.deny_late(&client.id, &taken.request, error, description).await?
            }
            Next::Consent | Next::SignIn => {
                let redirect_origin = redirect::origin(&login_request.request.redirect_uri);
                let (challenge, scopes) = (challenge.to_owned(), login_request.request.shown());
                let user_code = login_request.request.user_code.clone();
                let ui_locales = login_request.request.ui_locales.clone();
                let question = Question { challenge, client, scopes, redirect_origin, ui_locales, user_code };
                let to = Destination::Consent(question);
                Reply { to, browser: None, session: None }
            }
        };
        Ok(Reply { session: cookie, ..reply })
    }

    /// Takes the answer of a person who was asked whether they agree.
    pub(crate) async fn decide(&self, challenge: &str, agreed: bool, visitor: &Visitor) -> Result<Reply, Stop> {
        let login_request = self.of_this_browser(challenge, visitor).await?;
        let LoginRequest { request, person, client_id, .. } = self.take(&login_request, Stage::SignedIn).await?;
        let client = self.clients.get(&client_id).await?.ok_or(OVER)?;
        let person = person.ok_or(OVER)?;
        if request.user_code.is_some() {
            return self.decide_device(&client, &request, &person, agreed).await;
        }
        if !agreed {
            tracing::info!(target: "audit", event = "consent_refused", user = %person.user, client_id);
            return self.deny_late(&client.id, &request, "access_denied", "the person does not agree").await;
        }
        self.store.add_consent(person.user, &client_id, request.shown(), self.clock.now()).await?;
        tracing::info!(
            target: "audit", event = "consent_given", user = %person.user, client_id, scopes = %request.shown()
        );
        self.answer(&client, request, &person, cookie_of(visitor)).await
    }

    /// The request with this challenge, if the browser is the one it is bound to. Brought by another browser, it is worth nothing
    /// any more: someone was led to sign in for somebody else.
    async fn of_this_browser(&self, challenge: &str, visitor: &Visitor) -> Result<LoginRequest, Stop> {
        let now = self.clock.now();
        let digest = Digest::of(challenge.as_bytes());
        let found = self.store.login_request(digest, now).await?.ok_or(OVER)?;
        let cookie = visitor.browser.as_deref().map(|cookie| Digest::of(cookie.as_bytes()));
        if cookie != Some(found.browser) {
            self.store.take_login_request(digest, None, now).await?;
            tracing::warn!(
                target: "audit", event = "login_request_in_another_browser", client_id = found.client_id,
                address = visitor.address
            );
            return Err(ELSEWHERE);
        }
        Ok(found)
    }

    async fn take(&self, login_request: &LoginRequest, stage: Stage) -> Result<LoginRequest, Stop> {
        let taken = self.store.take_login_request(login_request.challenge, Some(stage), self.clock.now()).await?;
        taken.ok_or(OVER)
    }

    /// Sends the browser back with a code, unless an admin has meanwhile taken the address away that it would be sent to.
    async fn answer(
        &self,
        client: &Client,
        request: AuthorizationRequest,
        person: &Recognised,
        browser: Option<Digest>,
    ) -> Result<Reply, Stop> {
        if request.user_code.is_none() && !client.registration.redirects_to(&request.redirect_uri) {
            return Err(MOVED);
        }
        let code = Secret::random();
        let kept = KeptCode {
            session: SessionId(Uuid::now_v7()),
            user: person.user,
            code: Code::new(&client.id, request.clone(), person),
            expires_at: self.clock.now().plus(CODE_LIFETIME),
            browser,
        };
        if !self.store.add_code(code.digest(), &kept).await? {
            let description = "the person has been signed out meanwhile";
            return self.deny_late(&client.id, &request, "login_required", description).await;
        }
        let to = request.answer(&self.url, code.text()).ok_or(Error::Internal)?;
        Ok(Reply { to: Destination::Address(to), browser: None, session: None })
    }

    /// Sends the browser back with an error.
    fn deny(&self, denial: &Denial) -> Result<Reply, Stop> {
        let to = denial.address(&self.url).ok_or(Error::Internal)?;
        Ok(Reply { to: Destination::Address(to), browser: None, session: None })
    }

    /// The same for a request that has waited for somebody: an admin may have taken the address away meanwhile.
    async fn deny_late(
        &self,
        client_id: &str,
        request: &AuthorizationRequest,
        error: &'static str,
        description: &'static str,
    ) -> Result<Reply, Stop> {
        let client = self.clients.get(client_id).await?.ok_or(OVER)?;
        if request.user_code.is_none() && !client.registration.redirects_to(&request.redirect_uri) {
            return Err(MOVED);
        }
        self.deny(&request.denial(error, description))
    }

    async fn signed_in(&self, visitor: &Visitor) -> Result<Option<Recognised>, StoreError> {
        let Some(cookie) = cookie_of(visitor) else { return Ok(None) };
        self.store.browser_session(cookie, self.settings.browser_lifetimes(), self.clock.now()).await
    }

    async fn consented(&self, client: &Client, person: Option<&Recognised>) -> Result<Option<Scopes>, StoreError> {
        match person {
            Some(person) if !client.registration.first_party => self.store.consent(person.user, &client.id).await,
            _ => Ok(None),
        }
    }

    fn open_max(&self) -> OpenMax {
        OpenMax { of_browser: OF_BROWSER_MAX, of_address: self.settings.login_requests_max }
    }

    fn address(&self, path: &str, challenge: &str) -> String {
        format!("{}{path}?login_challenge={challenge}", self.url.trim_end_matches('/'))
    }

    /// Keeps a request that `client` pushes, and answers what it is called.
    pub(crate) async fn push(
        &self,
        client: &Client,
        request: &AuthorizationRequest,
        address: &str,
    ) -> Result<String, Error> {
        let reference = Secret::random();
        let expires_at = self.clock.now().plus(PUSHED_LIFETIME);
        let (digest, network, max) = (reference.digest(), network_of(address), self.open_max());
        if !self.store.push_request(digest, &network, &client.id, request, expires_at, max).await? {
            return Err(Error::Overloaded);
        }
        Ok(format!("{PUSHED_PREFIX}{}", reference.text()))
    }

    /// The request that `client` pushed under this name; good once.
    pub(crate) async fn pushed(&self, client: &Client, name: &str) -> Result<Option<AuthorizationRequest>, Error> {
        let Some(reference) = name.strip_prefix(PUSHED_PREFIX) else { return Ok(None) };
        let digest = Digest::of(reference.as_bytes());
        Ok(self.store.take_pushed_request(digest, &client.id, self.clock.now()).await?)
    }

    /// Exchanges an authorization code. Whatever is wrong with it, it is used up.
    pub(crate) async fn exchange_code(
        &self,
        asker: Asker<'_>,
        code: &str,
        redemption: Redemption<'_>,
    ) -> Result<Tokens, Error> {
        let Asker { client, address, .. } = asker;
        if !client.may_use(GrantType::AuthorizationCode) {
            return Err(Error::ClientUnauthorized);
        }
        // Before the code is used up: right after the first start the key of the ID token may still be in the making.
        self.keyring.signs_with(client.registration.id_token_algorithm).await.map_err(|error| {
            fault::log_chain("making the key for an ID token", &error);
            Error::Unavailable
        })?;
        let now = self.clock.now();
        let first = Mutex::new(None);
        let judge = |kept: &KeptCode| {
            let code = &kept.code;
            if !code.is_for(&redemption) {
                return None;
            }
            let token = self.refresh_keys.first(kept.session);
            let family = Family { current: token.digest(), previous: None, rotated_at: now };
            *first.lock() = Some(token);
            Some(Session {
                id: kept.session,
                user: kept.user,
                client_id: client.id.clone(),
                scopes: code.scopes & client.scopes,
                amr: code.amr.clone(),
                label: String::new(),
                authenticated_at: Moment(code.authenticated_at_ms),
                created_at: now,
                last_use_at: now.minute(),
                last_address: address.to_owned(),
                family,
                claims: code.userinfo_claims.clone(),
                key_thumbprint: asker.refresh_key().unwrap_or_default().to_owned(),
            })
        };
        let digest = Digest::of(code.as_bytes());
        let redeemed = self.store.redeem_code(digest, &judge, asker.once(), self.settings.sessions_max, now).await?;
        let (kept, scopes) = match redeemed {
            Redeemed::Good(kept, opened) => {
                let scopes = self.note_opened(opened, kept.session, kept.user, &client.id).await?;
                (kept, scopes)
            }
            Redeemed::Replayed => {
                tracing::warn!(target: "audit", event = "code_reused", client_id = %client.id, address);
                self.publish().await;
                return Err(Error::GrantInvalid);
            }
            Redeemed::Refused => {
                tracing::warn!(target: "audit", event = "code_refused", client_id = %client.id, address);
                return Err(Error::GrantInvalid);
            }
            Redeemed::ProofUsed => return Err(replayed(asker.key())),
            Redeemed::Unknown => return Err(Error::GrantInvalid),
        };
        let first = first.into_inner().ok_or(Error::Internal)?;
        let KeptCode { session, user, code, .. } = *kept;
        // What was asked for by name, too, is told only as far as the client may have it now.
        let named = profile::within(&code.id_token_claims, client.scopes);
        let profile = if named.is_empty() { None } else { self.store.profile(user).await? };
        let told = Told { nonce: code.nonce.as_deref(), profile: ProfileClaims::of(profile, Scopes::NONE, &named) };
        let authenticated_at = Moment(code.authenticated_at_ms);
        let grant = crate::session::Grant { session, user, scopes, amr: code.amr, authenticated_at };
        self.tokens(&grant, asker, scopes, first.text(), told)
    }

    /// What a person has allowed, by client after `after`, with what people are shown of the clients.
    pub(crate) async fn consents(
        &self,
        user: UserId,
        after: &str,
        limit: u32,
    ) -> Result<Vec<(crate::store::sign_in::Consent, String)>, Error> {
        let consents = self.store.consents_of(user, after, limit).await?;
        let named = consents.into_iter().map(|consent| {
            let client = self.clients.known(&consent.client_id);
            let name = client.map(|client| client.display_name.clone()).unwrap_or_default();
            (consent, name)
        });
        Ok(named.collect())
    }

    /// Takes back what a person has allowed a client. What was not allowed is no error.
    pub(crate) async fn revoke_consent(&self, user: UserId, client_id: &str) -> Result<(), Error> {
        if self.store.revoke_consent(user, client_id, self.clock.now()).await? {
            tracing::info!(target: "audit", event = "consent_revoked", user = %user, client_id);
            self.publish().await;
        }
        Ok(())
    }
}

/// The cookie of who is signed in, as the store knows it.
fn cookie_of(visitor: &Visitor) -> Option<Digest> {
    visitor.session.as_deref().map(|cookie| Digest::of(cookie.as_bytes()))
}

/// The address, or of an IPv6 address the network that one customer gets (/64): what limits are counted by.
fn network_of(address: &str) -> String {
    match address.parse() {
        Ok(IpAddr::V6(address)) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{}/64", std::net::Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        _ => address.to_owned(),
    }
}
