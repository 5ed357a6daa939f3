//! OAuth clients: who may ask for tokens, and how they prove it.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq as _;
use uuid::Uuid;
use zeroize::Zeroize as _;

use crate::error::Error;
use crate::moment::Moment;
use crate::refresh_token::{Digest, random_bytes};
use crate::scope::Scopes;

pub(crate) mod assertion;
mod registration;

pub(crate) use registration::{AuthMethod, GrantType, Registration};

/// The client of the command line, always there.
pub(crate) const BUILT_IN: &str = "flaghoist-cli";

/// The client of the pages on which people look after their accounts, which login serves at the issuer's own address; always there.
pub(crate) const ACCOUNT_PAGES: &str = "flaghoist-account";

/// Where a browser comes back to the account pages.
const ACCOUNT_CALLBACK_PATH: &str = "/account/callback";

/// Whether `id` is that of a client that is always there, and that nobody changes or removes.
pub(crate) fn built_in(id: &str) -> bool {
    matches!(id, BUILT_IN | ACCOUNT_PAGES)
}

/// How the ids of the clients begin that come with flaghoist, now or in a later version. Nobody else gets one.
const RESERVED_PREFIX: &str = "flaghoist-";

/// The longest client id in bytes.
const ID_MAX_BYTES: usize = 64;

/// A registered client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) id: Arc<str>,
    pub(crate) display_name: String,
    /// The digest of its secret; none for a public client.
    pub(crate) secret: Option<Digest>,
    /// What it may ask for.
    pub(crate) scopes: Scopes,
    pub(crate) created_at: Moment,
    /// How people sign in with it.
    pub(crate) registration: Registration,
    /// The digest of the secret before the present one, and until when that is good.
    pub(crate) previous_secret: Option<(Digest, Moment)>,
}

impl Client {
    /// The client of the command line: public, for every scope of the API.
    pub(crate) fn built_in(now: Moment) -> Self {
        Self {
            id: BUILT_IN.into(),
            display_name: "flaghoist command line".into(),
            secret: None,
            scopes: Scopes::API,
            created_at: now,
            registration: Registration::default(),
            previous_secret: None,
        }
    }

    /// The client of the account pages: public, because PKCE and an address of the issuer's own prove more than a secret that two
    /// services would share.
    pub(crate) fn account_pages(issuer: &str, now: Moment) -> Self {
        let registration = Registration {
            redirect_uris: vec![format!("{}{ACCOUNT_CALLBACK_PATH}", issuer.trim_end_matches('/'))],
            first_party: true,
            ..Registration::default()
        };
        Self {
            id: ACCOUNT_PAGES.into(),
            display_name: "flaghoist".into(),
            scopes: (Scopes::API - Scopes::ADMIN) | Scopes::OPENID,
            registration,
            ..Self::built_in(now)
        }
    }

    /// Whether it is the client of the account pages, and not one that an admin called so before there were any. Their address may have
    /// become another one since it was stored.
    pub(crate) fn is_account_pages(&self) -> bool {
        let Registration { first_party, redirect_uris, .. } = &self.registration;
        let callback = matches!(redirect_uris.as_slice(), [only] if only.ends_with(ACCOUNT_CALLBACK_PATH));
        &*self.id == ACCOUNT_PAGES && !self.confidential() && *first_party && callback
    }

    /// Whether it keeps a secret, or a key.
    pub(crate) fn confidential(&self) -> bool {
        self.secret.is_some()
    }

    /// Whether its secret is one that it knows: one that signs assertions has none.
    pub(crate) fn keeps_secret(&self) -> bool {
        self.confidential() && self.registration.auth_method != AuthMethod::PrivateKeyJwt
    }

    /// Whether it may get tokens in this way.
    pub(crate) fn may_use(&self, grant: GrantType) -> bool {
        // What is stored of the built-in client is what the version said that began the store.
        let of_the_command_line = grant == GrantType::DeviceCode && &*self.id == BUILT_IN;
        of_the_command_line || self.registration.allows(grant, self.confidential())
    }

    /// Whether it belongs to whoever runs the installation.
    pub(crate) fn of_the_installation(&self) -> bool {
        self.registration.first_party || &*self.id == BUILT_IN
    }
}

/// What of a client is to change; the rest stays.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientChange {
    pub(crate) display_name: Option<String>,
    pub(crate) scopes: Option<Scopes>,
    /// Replaces all of it.
    pub(crate) registration: Option<Registration>,
}

impl ClientChange {
    /// The names of what changes.
    pub(crate) fn names(&self) -> String {
        let names = [
            self.display_name.as_ref().map(|_| "display_name"),
            self.scopes.map(|_| "scopes"),
            self.registration.as_ref().map(|_| "registration"),
        ];
        names.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }
}

/// Takes a client's id. An id that could be read as a person's is refused: a client's own token carries its id as `sub`.
pub(crate) fn check_id(id: &str) -> Result<(), Error> {
    let bad = |problem| Err(Error::Invalid { field: "client_id", problem });
    let letter = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    let begins = id.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
    if !begins || id.len() > ID_MAX_BYTES || !id.bytes().all(letter) {
        return bad("is not 1 to 64 of a-z, 0-9, '.', '_' and '-', the first a letter or digit");
    }
    if Uuid::try_parse(id).is_ok() {
        return bad("looks like the id of a person");
    }
    Ok(())
}

/// Takes the id of a client that somebody wants to register.
pub(crate) fn check_new_id(id: &str) -> Result<(), Error> {
    if id.starts_with(RESERVED_PREFIX) {
        let problem =
            "begins with `flaghoist-`, which is kept for the clients that come with flaghoist: choose another one";
        return Err(Error::Invalid { field: "client_id", problem });
    }
    check_id(id)
}

/// An id for a client that was given none.
pub(crate) fn new_id() -> String {
    let letters = random_bytes::<10>().map(|byte| format!("{byte:02x}")).concat();
    format!("client-{letters}")
}

/// A client secret. Only its digest is kept.
pub(crate) struct ClientSecret(String);

impl ClientSecret {
    /// 256 random bits.
    pub(crate) fn random() -> Self {
        let mut bytes = random_bytes::<32>();
        let text = URL_SAFE_NO_PAD.encode(bytes);
        bytes.zeroize();
        Self(text)
    }

    /// What is kept of it.
    pub(crate) fn digest(&self) -> Digest {
        Digest::of(self.0.as_bytes())
    }

    /// The secret, for the one answer that carries it.
    pub(crate) fn into_text(self) -> String {
        self.0
    }
}

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientSecret")
    }
}

impl Client {
    /// Whether `secret` proves at `now` that one is this client; a public one has none.
    pub(crate) fn proven_by(&self, secret: &str, now: Moment) -> bool {
        if self.registration.auth_method == AuthMethod::PrivateKeyJwt {
            prove_nothing(secret);
            return false;
        }
        let present = proven(self.secret.unwrap_or_else(|| Digest::of(b"")), secret);
        let previous = self.previous_secret.is_some_and(|(previous, until)| now < until && proven(previous, secret));
        present | previous
    }

    /// Whether whoever has proven at `now` to be the client as it was `known` is this one too. A pod may know a client as it was a moment
    /// ago, before its secret was replaced.
    pub(crate) fn still_proven(&self, known: &Self, now: Moment) -> bool {
        let registration = &self.registration;
        if registration.auth_method != known.registration.auth_method || registration.keys != known.registration.keys {
            return false;
        }
        let good = |previous: Option<(Digest, Moment)>| previous.filter(|(_, until)| now < *until);
        if self.secret == known.secret && self.previous_secret == known.previous_secret {
            return true;
        }
        // By which of two secrets it was proven is not known any more.
        let by_present = known.secret.filter(|_| good(known.previous_secret).is_none());
        by_present.is_some()
            && (self.secret == by_present || good(self.previous_secret).map(|(one, _)| one) == by_present)
    }

    /// The same client with another registration. A secret that was good for one that signs from now on is good no more. Where an address
    /// for logouts is the one that the program had named itself, nobody has looked at it.
    pub(crate) fn with_registration(&self, registration: Registration) -> Result<Self, Error> {
        let same = registration.backchannel_logout_uri == self.registration.backchannel_logout_uri;
        let logout_uri_self_named = same && self.registration.logout_uri_self_named;
        let registration = Registration { logout_uri_self_named, ..registration };
        registration.check(self.confidential())?;
        let signs = |registration: &Registration| registration.auth_method == AuthMethod::PrivateKeyJwt;
        let changed = Self { registration, ..self.clone() };
        if signs(&changed.registration) && !signs(&self.registration) {
            return Ok(Self { secret: Some(ClientSecret::random().digest()), previous_secret: None, ..changed });
        }
        Ok(changed)
    }

    /// The same client with a new secret. The present one is good until then.
    pub(crate) fn with_secret(&self, secret: &ClientSecret, previous_until: Moment) -> Self {
        let previous_secret = self.secret.map(|present| (present, previous_until));
        Self { secret: Some(secret.digest()), previous_secret, ..self.clone() }
    }
}

/// Costs what a client that is there costs, and proves nothing.
pub(crate) fn prove_nothing(secret: &str) {
    // The digest of no secret that anyone knows.
    let _never = proven(Digest([0; 32]), secret);
}

fn proven(expected: Digest, secret: &str) -> bool {
    Digest::of(secret.as_bytes()).0.ct_eq(&expected.0).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_44_a_client_cannot_be_called_like_a_person() {
        let id = Uuid::now_v7();
        for like_a_person in [id.hyphenated().to_string(), id.simple().to_string()] {
            assert!(matches!(check_id(&like_a_person), Err(Error::Invalid { field: "client_id", .. })));
        }
        for bad in ["", "-x", "Upper", "sp ace", "ünicode", "nul\0", &"x".repeat(65)] {
            assert!(check_id(bad).is_err(), "{bad:?}");
        }
        check_id("web.app_1-x").unwrap();
        check_id(&new_id()).unwrap();
    }

    #[test]
    fn the_client_of_the_account_pages_is_told_from_one_that_is_only_called_so() {
        let pages = Client::account_pages("https://id.example.com", Moment(0));
        assert!(pages.is_account_pages());
        assert!(Client::account_pages("https://moved.example.com/auth/", Moment(0)).is_account_pages());
        let registration = |redirect_uris: &[&str], first_party| Registration {
            redirect_uris: redirect_uris.iter().map(|&uri| uri.into()).collect(),
            first_party,
            ..Registration::default()
        };
        let callback = "https://id.example.com/account/callback";
        for (secret, registration) in [
            (Some(Digest::of(b"secret")), registration(&[callback], true)),
            (None, registration(&[callback], false)),
            (None, registration(&["https://app.example.com/cb"], true)),
            (None, registration(&[callback, "https://app.example.com/cb"], true)),
            (None, Registration::default()),
        ] {
            assert!(!Client { secret, registration, ..pages.clone() }.is_account_pages());
        }
        assert!(check_new_id("flaghoist-account").is_err() && check_new_id("flaghoist-x").is_err());
        check_new_id("flaghoist").unwrap();
    }

    #[test]
    fn an_address_for_logouts_is_an_admins_when_an_admin_has_named_it() {
        let named = |address: &str| Registration { backchannel_logout_uri: address.into(), ..Registration::default() };
        let registration = Registration { logout_uri_self_named: true, ..named("https://app.example.com/bye") };
        let client = Client { registration, ..Client::built_in(Moment(0)) };
        let same = client.with_registration(named("https://app.example.com/bye")).unwrap();
        assert!(same.registration.logout_uri_self_named);
        let other = client.with_registration(named("http://127.0.0.1:9000/bye")).unwrap();
        assert!(!other.registration.logout_uri_self_named);
    }

    #[test]
    fn a_client_is_proven_by_its_secret_alone() {
        let secret = ClientSecret::random();
        let bot = Client { id: "bot".into(), secret: Some(secret.digest()), ..Client::built_in(Moment(0)) };
        let public = Client::built_in(Moment(0));
        assert!(!format!("{secret:?} {bot:?}").contains(&secret.0));
        let now = Moment(10);
        assert!(!bot.proven_by("wrong", now) && !bot.proven_by("", now) && !public.proven_by("secret", now));
        let (newer, newest) = (ClientSecret::random(), ClientSecret::random());
        let renewed = bot.with_secret(&newer, Moment(20));
        assert!(renewed.proven_by(&secret.0, Moment(19)) && !renewed.proven_by(&secret.0, Moment(20)));
        assert!(renewed.proven_by(&newer.0, now) && renewed.proven_by(&newer.0, Moment(30)));
        let again = renewed.with_secret(&newest, Moment(20));
        assert!(!again.proven_by(&secret.0, now), "only one of before is good");
        assert!(again.proven_by(&newer.0, now) && again.proven_by(&newest.0, now));
        // What a pod has known a moment ago.
        let renamed = Client { display_name: "other".into(), ..renewed.clone() };
        assert!(renewed.still_proven(&bot, now) && renamed.still_proven(&renewed, now) && bot.still_proven(&bot, now));
        assert!(!renewed.still_proven(&bot, Moment(20)), "its grace is over");
        assert!(
            !again.still_proven(&bot, now) && !again.still_proven(&renewed, now),
            "which of two it was is not known"
        );
        assert!(!bot.still_proven(&public, now) && !public.still_proven(&bot, now));
        assert!(bot.proven_by(&secret.into_text(), now) && public.proven_by("", now));
    }
}
