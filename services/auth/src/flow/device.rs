//! The device flow (RFC 8628): a device without a browser shows a short code, its person types that into a browser somewhere else, signs
//! in there as for any application, and is asked whether the device may act in their name. The device asks meanwhile.
//!
//! The short code is the weak side of it, so it is good for ten minutes only, trying codes is throttled by browser and by network, and
//! nobody is spared the question: somebody else may have sent them the link.

use std::time::Duration;

use flaghoist_runtime::fault;
use flaghoist_runtime::names::SessionId;
use parking_lot::Mutex;
use uuid::Uuid;

use super::account::confirmation_of;
use super::{Destination, Issuer, OVER, Reply, Stop, Visitor, network_of};
use crate::authorization::{AuthorizationRequest, Prompts, Recognised};
use crate::client::{Client, GrantType};
use crate::code::Secret;
use crate::error::Error;
use crate::issuer::{Asker, Tokens, Told, asked, replayed};
use crate::refresh_token::{Digest, random_bytes};
use crate::session::{Family, Grant, Session};
use crate::store::grants::{Approved, Device, Polled};

/// The path of the page where people type the code.
pub(crate) const DEVICE_PATH: &str = "/device";

/// How long the codes are good.
pub(crate) const DEVICE_LIFETIME: Duration = Duration::from_secs(10 * 60);

/// How long a device waits between two questions.
pub(crate) const DEVICE_INTERVAL: Duration = Duration::from_secs(5);

/// How many wrong codes may be tried, from one network and by one browser, in [`GUESSES_FOR`].
const GUESSES_MAX: [u32; 2] = [20, 5];

/// How long a wrong code counts.
const GUESSES_FOR: Duration = Duration::from_secs(10 * 60);

/// The letters of a user code: none that makes a word, or looks like another (RFC 8628 §6.1).
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";

/// How many letters a user code has: 34 bits.
const CODE_LETTERS: usize = 8;

/// What a device gets.
#[derive(Debug)]
pub(crate) struct DeviceCodes {
    /// For the device.
    pub(crate) device_code: Secret,
    /// For its person, as it is shown.
    pub(crate) user_code: String,
    /// Where the person types it.
    pub(crate) verification_uri: String,
    /// The same with the code in it.
    pub(crate) verification_uri_complete: String,
}

/// What the page for the code is made with.
#[derive(Debug)]
pub(crate) struct CodePage {
    /// A new cookie for a browser that has none.
    pub(crate) browser: Option<Secret>,
    /// What the form brings back, and no form of another site.
    pub(crate) token: String,
}

/// What became of a code that somebody typed.
#[derive(Debug)]
pub(crate) enum Typed {
    /// The browser goes on.
    Found(Reply),
    /// Nobody knows it.
    Unknown,
}

const NO_FORM: Stop = Stop::Forbidden(
    "this page was not sent by this browser, or the browser takes no cookies: open the page once more, and type the code again",
);

const CODE_OVER: Stop = Stop::Forbidden("this code is over: ask the device for a new one");

impl Issuer {
    /// Gives a device of `client` its codes.
    pub(crate) async fn authorize_device(
        &self,
        client: &Client,
        scope: &str,
        address: &str,
    ) -> Result<DeviceCodes, Error> {
        if !client.may_use(GrantType::DeviceCode) {
            return Err(Error::ClientUnauthorized);
        }
        let scopes = asked(scope)?.unwrap_or(client.scopes);
        if scopes.empty() || !client.scopes.includes(scopes) {
            return Err(Error::ScopeInvalid);
        }
        let (device_code, letters, now) = (Secret::random(), random_letters(), self.clock.now());
        let device = Device {
            device_code: device_code.digest(),
            user_code: user_code_digest(&letters),
            client_id: client.id.to_string(),
            scopes,
            address: network_of(address),
            session: SessionId(Uuid::now_v7()),
            interval: DEVICE_INTERVAL,
            expires_at: now.plus(DEVICE_LIFETIME),
        };
        if !self.store.add_device(&device, self.settings.login_requests_max, now).await? {
            return Err(Error::Overloaded);
        }
        let user_code = shown(&letters);
        let verification_uri = format!("{}{DEVICE_PATH}", self.url.trim_end_matches('/'));
        let verification_uri_complete = format!("{verification_uri}?user_code={user_code}");
        Ok(DeviceCodes { device_code, user_code, verification_uri, verification_uri_complete })
    }

    /// What the page is made with on which `visitor` types a code.
    pub(crate) fn code_page(&self, visitor: &Visitor) -> CodePage {
        match visitor.browser.as_deref() {
            Some(cookie) => CodePage { browser: None, token: confirmation_of("device", cookie) },
            None => {
                let fresh = Secret::random();
                let token = confirmation_of("device", fresh.text());
                CodePage { browser: Some(fresh), token }
            }
        }
    }

    /// Follows a code that somebody typed into the page that has this token.
    pub(crate) async fn enter_user_code(&self, typed: &str, token: &str, visitor: &Visitor) -> Result<Typed, Stop> {
        let cookie = visitor.browser.as_deref().filter(|cookie| confirmation_of("device", cookie) == token);
        let cookie = cookie.ok_or(NO_FORM)?;
        let now = self.clock.now();
        // Counted before anybody looks, so that who asks a thousand times at once is counted a thousand times. The network first: a browser
        // is a new one whenever it likes, and is counted, which takes a row, only while its network has guesses left.
        let guessers = [
            Digest::of(format!("network {}", network_of(&visitor.address)).as_bytes()),
            Digest::of(format!("browser {cookie}").as_bytes()),
        ];
        for (guesser, max) in guessers.iter().zip(GUESSES_MAX) {
            if self.store.count_guess(*guesser, now.plus(GUESSES_FOR), now).await? > max {
                tracing::warn!(target: "audit", event = "user_codes_guessed", address = visitor.address);
                return Err(Stop::TooManyCodes);
            }
        }
        let Some(letters) = letters_of(typed) else { return Ok(Typed::Unknown) };
        let found = self.store.pending_device(user_code_digest(&letters), now).await?;
        let Some((client_id, scopes)) = found else { return Ok(Typed::Unknown) };
        for guesser in guessers {
            self.store.forgive_guess(guesser).await?;
        }
        let client = self.clients.get(&client_id).await?.ok_or(CODE_OVER)?;
        let request = AuthorizationRequest {
            redirect_uri: format!("{}{DEVICE_PATH}", self.url.trim_end_matches('/')),
            scopes,
            state: None,
            nonce: None,
            code_challenge: None,
            prompts: Prompts::default(),
            max_age_seconds: None,
            login_hint: String::new(),
            ui_locales: String::new(),
            subject: None,
            userinfo_claims: Vec::new(),
            id_token_claims: Vec::new(),
            acr_unmet: false,
            two_factors: false,
            prefers_two_factors: false,
            key_thumbprint: None,
            user_code: Some(shown(&letters)),
        };
        Ok(Typed::Found(self.authorize(&client, request, visitor).await?))
    }

    /// Takes the answer of a person to the question whether the device with this code may act in their name.
    pub(super) async fn decide_device(
        &self,
        client: &Client,
        request: &AuthorizationRequest,
        person: &Recognised,
        agreed: bool,
    ) -> Result<Reply, Stop> {
        let letters = request.user_code.as_deref().and_then(letters_of).ok_or(OVER)?;
        let (user_code, now) = (user_code_digest(&letters), self.clock.now());
        if !self.store.decide_device(user_code, agreed.then_some(person), now).await? {
            return Err(CODE_OVER);
        }
        tracing::info!(
            target: "audit", event = "device_decided", user = %person.user, client_id = %client.id, agreed,
            scopes = %request.scopes
        );
        if agreed && !client.of_the_installation() {
            self.store.add_consent(person.user, &client.id, request.scopes, now).await?;
        }
        Ok(Reply { to: Destination::Device { connected: agreed }, browser: None, session: None })
    }

    /// Tells the device with this code that nobody will sign in for it (RFC 8628 §3.5: `access_denied`).
    pub(super) async fn refuse_device(&self, client_id: &str, request: &AuthorizationRequest) -> Result<(), Stop> {
        let letters = request.user_code.as_deref().and_then(letters_of).ok_or(OVER)?;
        // A code that is over, or was decided in another window, stays as it is.
        self.store.decide_device(user_code_digest(&letters), None, self.clock.now()).await?;
        tracing::info!(target: "audit", event = "device_refused", client_id);
        Ok(())
    }

    /// Exchanges a device code, once somebody has agreed.
    pub(crate) async fn exchange_device_code(&self, asker: Asker<'_>, device_code: &str) -> Result<Tokens, Error> {
        let Asker { client, address, .. } = asker;
        if !client.may_use(GrantType::DeviceCode) {
            return Err(Error::ClientUnauthorized);
        }
        // Before the code is used up: right after the first start the key of the ID token may still be in the making.
        self.keyring.signs_with(client.registration.id_token_algorithm).await.map_err(|error| {
            fault::log_chain("making the key for an ID token", &error);
            Error::Unavailable
        })?;
        let now = self.clock.now();
        let first = Mutex::new(None);
        let opens = |approved: &Approved| {
            let token = self.refresh_keys.first(approved.session);
            let family = Family { current: token.digest(), previous: None, rotated_at: now };
            *first.lock() = Some(token);
            Session {
                id: approved.session,
                user: approved.person.user,
                client_id: client.id.clone(),
                scopes: approved.scopes & client.scopes,
                amr: approved.person.amr.clone(),
                label: String::new(),
                authenticated_at: approved.person.authenticated_at,
                created_at: now,
                last_use_at: now.minute(),
                last_address: address.to_owned(),
                family,
                claims: Vec::new(),
                key_thumbprint: asker.refresh_key().unwrap_or_default().to_owned(),
            }
        };
        let (digest, max) = (Digest::of(device_code.as_bytes()), self.settings.sessions_max);
        let polled = self.store.poll_device(digest, &client.id, &opens, asker.once(), max, now).await?;
        let (approved, opened) = match polled {
            Polled::Good(approved, opened) => (approved, opened),
            Polled::Pending => return Err(Error::DevicePending),
            Polled::TooSoon => return Err(Error::DeviceTooSoon),
            Polled::Denied => return Err(Error::DeviceDenied),
            Polled::Expired => return Err(Error::DeviceExpired),
            Polled::Unknown => return Err(Error::GrantInvalid),
            Polled::ProofUsed => return Err(replayed(asker.key())),
            Polled::Replayed => {
                tracing::warn!(target: "audit", event = "device_code_reused", client_id = %client.id, address);
                self.publish().await;
                return Err(Error::GrantInvalid);
            }
        };
        let Approved { session, person, .. } = *approved;
        let scopes = self.note_opened(opened, session, person.user, &client.id).await?;
        let first = first.into_inner().ok_or(Error::Internal)?;
        let Recognised { user, amr, authenticated_at } = person;
        let grant = Grant { session, user, scopes, amr, authenticated_at };
        self.tokens(&grant, asker, scopes, first.text(), Told::default())
    }
}

fn random_letters() -> String {
    let mut letters = String::with_capacity(CODE_LETTERS);
    while letters.len() < CODE_LETTERS {
        // A byte that is beyond the last whole round of the letters would favour the first ones.
        let fair = random_bytes::<16>().into_iter().filter(|byte| *byte < 240);
        letters.extend(fair.map(|byte| char::from(LETTERS[usize::from(byte) % LETTERS.len()])));
    }
    letters.truncate(CODE_LETTERS);
    letters
}

/// The letters of a code as somebody typed it; none if it cannot be one.
fn letters_of(typed: &str) -> Option<String> {
    let letters = typed.chars().filter(|letter| !matches!(letter, '-' | ' '));
    let letters: String = letters.take(CODE_LETTERS + 1).map(|letter| letter.to_ascii_uppercase()).collect();
    let known = letters.bytes().all(|letter| LETTERS.contains(&letter));
    (letters.len() == CODE_LETTERS && known).then_some(letters)
}

/// A code as it is easily read and typed.
fn shown(letters: &str) -> String {
    let (one, other) = letters.split_at(CODE_LETTERS / 2);
    format!("{one}-{other}")
}

fn user_code_digest(letters: &str) -> Digest {
    Digest::of(format!("user code {letters}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_read_however_it_is_typed_and_nothing_else_is() {
        let letters = random_letters();
        assert_eq!(letters_of(&shown(&letters)), Some(letters.clone()));
        assert_eq!(letters_of(&format!(" {} ", shown(&letters).to_lowercase())), Some(letters.clone()));
        for bad in ["", "BCDF", "BCDF-GHJKL", "BCDF-GHJA", "BCDF-GHJ1", "ÄÖÜß-BCDF", &"B".repeat(10_000)] {
            assert_eq!(letters_of(bad), None, "{bad}");
        }
        assert_ne!(letters, random_letters());
    }
}
