//! How people sign in with a client: what is registered about the authorization code flow, and its rules.

use flaghoist_runtime::token::AUDIENCE;
use serde::{Deserialize, Serialize};

use crate::algorithm::Algorithm;
use crate::error::Error;
use crate::public_key::PublicKey;
use crate::redirect;

/// How many keys a client has at most: the next one beside the present one, of each kind.
const KEYS_MAX: usize = 10;

/// A way to get tokens that a client may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum GrantType {
    AuthorizationCode,
    RefreshToken,
    ClientCredentials,
    #[serde(rename = "urn:ietf:params:oauth:grant-type:device_code")]
    DeviceCode,
    #[serde(rename = "urn:ietf:params:oauth:grant-type:token-exchange")]
    TokenExchange,
}

impl GrantType {
    /// All of them.
    pub(crate) const ALL: [Self; 5] =
        [Self::AuthorizationCode, Self::RefreshToken, Self::ClientCredentials, Self::DeviceCode, Self::TokenExchange];
}

/// How a client proves over HTTP that it is the one it says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AuthMethod {
    /// By its secret in either way, or by nothing if it has none.
    #[default]
    Any,
    None,
    ClientSecretBasic,
    ClientSecretPost,
    /// By an assertion that it signs (RFC 7523).
    PrivateKeyJwt,
}

/// What is registered. The default is that of a client with which nobody signs in by a browser.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Registration {
    pub(crate) redirect_uris: Vec<String>,
    pub(crate) post_logout_redirect_uris: Vec<String>,
    /// Whether it runs on the person's device.
    pub(crate) native: bool,
    /// Empty: what follows from the rest.
    pub(crate) grant_types: Vec<GrantType>,
    pub(crate) auth_method: AuthMethod,
    /// Whether people are not asked for their consent.
    pub(crate) first_party: bool,
    pub(crate) id_token_algorithm: Algorithm,
    /// Whether PKCE may be left out; never by a public client.
    pub(crate) pkce_optional: bool,
    /// The keys that it signs assertions with.
    pub(crate) keys: Vec<PublicKey>,
    /// Whose tokens it may exchange, beside its own: ids of clients.
    pub(crate) exchange_clients: Vec<String>,
    /// Whom the tokens may be for that it gets for them.
    pub(crate) exchange_audiences: Vec<String>,
    /// Whose tokens it may inspect beside its own: the services that it is, as tokens name them.
    pub(crate) audiences: Vec<String>,
    /// Where it wants to be told of the ends of sessions; empty if it does not.
    pub(crate) backchannel_logout_uri: String,
    /// Whether the program itself has named that address, and no admin: then it is called only outside.
    pub(crate) logout_uri_self_named: bool,
    /// Whether it gets tokens only with a proof of a key, to which they are bound (RFC 9449 §5.2).
    pub(crate) dpop_bound: bool,
}

impl Registration {
    /// Checks what is to be registered for a client that is confidential or not.
    pub(crate) fn check(&self, confidential: bool) -> Result<(), Error> {
        let bad = |field, problem| Err(Error::Invalid { field, problem });
        // PostgreSQL takes such a text, and then fails whatever reads it as JSON.
        if serde_json::to_string(self).map_err(|_| Error::Internal)?.contains("\\u0000") {
            return bad("registration", "has the character U+0000, which no database keeps");
        }
        let lists = [
            ("registration.redirect_uris", &self.redirect_uris),
            ("registration.post_logout_redirect_uris", &self.post_logout_redirect_uris),
        ];
        for (field, addresses) in lists {
            for address in addresses {
                redirect::check(address, self.native).map_err(|problem| Error::Invalid { field, problem })?;
            }
        }
        let codes = self.grant_types.contains(&GrantType::AuthorizationCode);
        if codes && self.redirect_uris.is_empty() {
            return bad("registration.redirect_uris", "is empty, but the client is to use authorization codes");
        }
        if !codes && !self.grant_types.is_empty() && !self.redirect_uris.is_empty() {
            return bad(
                "registration.grant_types",
                "lacks authorization_code, without which redirect addresses are of no use",
            );
        }
        if !confidential && self.grant_types.contains(&GrantType::ClientCredentials) {
            return bad("registration.grant_types", "has client_credentials, which only a confidential client may use");
        }
        if !confidential && self.pkce_optional {
            return bad("registration.pkce_optional", "is for confidential clients");
        }
        if !self.backchannel_logout_uri.is_empty() {
            let field = "registration.backchannel_logout_uri";
            let outside = || match self.logout_uri_self_named {
                true => redirect::check_outside(&self.backchannel_logout_uri),
                false => Ok(()),
            };
            let checked = redirect::check(&self.backchannel_logout_uri, false).and_then(|()| outside());
            checked.map_err(|problem| Error::Invalid { field, problem })?;
        }
        self.check_exchange(confidential)?;
        if !self.audiences.is_empty() && !confidential {
            return bad("registration.audiences", "are for confidential clients: who inspects tokens proves who it is");
        }
        if !self.audiences.iter().all(names_a_service) {
            return bad("registration.audiences", "has an audience that is neither flaghoist nor a URI");
        }
        let signs = self.auth_method == AuthMethod::PrivateKeyJwt;
        if signs && self.keys.is_empty() {
            return bad("registration.jwks", "is empty, but the client is to sign assertions");
        }
        if !signs && !self.keys.is_empty() {
            return bad("registration.jwks", "is for clients that authenticate by private_key_jwt");
        }
        if self.keys.len() > KEYS_MAX {
            return bad("registration.jwks", "has more than 10 keys");
        }
        match self.auth_method {
            AuthMethod::PrivateKeyJwt if !confidential => {
                bad("registration.token_endpoint_auth_method", "is private_key_jwt, but the client is public")
            }
            AuthMethod::None if confidential => {
                bad("registration.token_endpoint_auth_method", "is none, but the client is confidential")
            }
            AuthMethod::ClientSecretBasic | AuthMethod::ClientSecretPost if !confidential => {
                bad("registration.token_endpoint_auth_method", "asks for a secret, which a public client has not")
            }
            _ => Ok(()),
        }
    }

    fn check_exchange(&self, confidential: bool) -> Result<(), Error> {
        let bad = |field, problem| Err(Error::Invalid { field, problem });
        let exchanges = self.grant_types.contains(&GrantType::TokenExchange);
        if exchanges && !confidential {
            return bad("registration.grant_types", "has token-exchange, which only a confidential client may use");
        }
        if exchanges && self.exchange_audiences.is_empty() {
            return bad("registration.exchange_audiences", "is empty, but the client is to exchange tokens");
        }
        let permits = !self.exchange_audiences.is_empty() || !self.exchange_clients.is_empty();
        if permits && !exchanges {
            return bad(
                "registration.grant_types",
                "lacks token-exchange, without which audiences and clients are of no use",
            );
        }
        if !self.exchange_audiences.iter().all(names_a_service) {
            return bad("registration.exchange_audiences", "has an audience that is neither flaghoist nor a URI");
        }
        if self.exchange_clients.iter().any(|id| super::check_id(id).is_err()) {
            return bad("registration.exchange_clients", "has an entry that is not the id of a client");
        }
        Ok(())
    }

    /// Whether the client `id` may exchange tokens of the client `of`.
    pub(crate) fn exchanges_of(&self, id: &str, of: &str) -> bool {
        id == of || self.exchange_clients.iter().any(|client| client == of)
    }

    /// The keys of a JWK set; none if the text is empty.
    pub(crate) fn read_keys(jwks: &str) -> Result<Vec<PublicKey>, Error> {
        let bad = |problem| Error::Invalid { field: "registration.jwks", problem };
        if jwks.is_empty() {
            return Ok(Vec::new());
        }
        let set: serde_json::Value = serde_json::from_str(jwks).map_err(|_| bad("is not JSON"))?;
        let keys = set.get("keys").and_then(serde_json::Value::as_array);
        let keys = keys.ok_or_else(|| bad("is not a JWK set: an object with the member `keys`"))?;
        keys.iter().map(|jwk| PublicKey::read(jwk).map_err(bad)).collect()
    }

    /// The keys as a JWK set; an empty text if there are none.
    pub(crate) fn jwks(&self) -> String {
        if self.keys.is_empty() { String::new() } else { serde_json::json!({"keys": self.keys}).to_string() }
    }

    /// Whether `grant` may be used.
    pub(crate) fn allows(&self, grant: GrantType, confidential: bool) -> bool {
        if !self.grant_types.is_empty() {
            return self.grant_types.contains(&grant);
        }
        match grant {
            GrantType::AuthorizationCode => !self.redirect_uris.is_empty(),
            GrantType::RefreshToken => true,
            GrantType::ClientCredentials => confidential,
            GrantType::DeviceCode | GrantType::TokenExchange => false,
        }
    }

    /// Whether an authorization request may name `address`.
    pub(crate) fn redirects_to(&self, address: &str) -> bool {
        self.redirect_uris.iter().any(|registered| redirect::matches(registered, address, self.native))
    }

    /// Whether a browser may be sent to `address` after signing out.
    pub(crate) fn redirects_after_logout_to(&self, address: &str) -> bool {
        self.post_logout_redirect_uris.iter().any(|registered| redirect::matches(registered, address, self.native))
    }
}

/// Whether an access token may be for `audience`. None is a client's id: those are the audience of ID tokens.
fn names_a_service(audience: &String) -> bool {
    audience == AUDIENCE || url::Url::parse(audience).is_ok()
}

/// The names on the wire, and in the metadata.
macro_rules! names {
    ($type:ident { $($variant:ident = $name:literal),* $(,)? }) => {
        impl $type {
            /// The name on the wire.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// What `name` is the name of.
            pub(crate) fn named(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

names!(GrantType {
    AuthorizationCode = "authorization_code",
    RefreshToken = "refresh_token",
    ClientCredentials = "client_credentials",
    DeviceCode = "urn:ietf:params:oauth:grant-type:device_code",
    TokenExchange = "urn:ietf:params:oauth:grant-type:token-exchange",
});
names!(AuthMethod {
    Any = "",
    None = "none",
    ClientSecretBasic = "client_secret_basic",
    ClientSecretPost = "client_secret_post",
    PrivateKeyJwt = "private_key_jwt",
});

#[cfg(test)]
mod tests {
    use super::*;

    fn web() -> Registration {
        Registration { redirect_uris: vec!["https://app.example.com/cb".into()], ..Registration::default() }
    }

    #[test]
    fn what_is_registered_must_make_sense() {
        web().check(true).unwrap();
        Registration::default().check(false).unwrap();
        let grants = |grants: &[GrantType]| Registration { grant_types: grants.to_vec(), ..web() };
        grants(&[GrantType::AuthorizationCode, GrantType::ClientCredentials]).check(true).unwrap();
        assert!(grants(&[GrantType::AuthorizationCode, GrantType::ClientCredentials]).check(false).is_err());
        assert!(grants(&[GrantType::RefreshToken]).check(true).is_err());
        let nowhere = Registration { redirect_uris: Vec::new(), ..grants(&[GrantType::AuthorizationCode]) };
        assert!(nowhere.check(true).is_err());
        assert!(Registration { pkce_optional: true, ..web() }.check(false).is_err());
        assert!(Registration { auth_method: AuthMethod::None, ..web() }.check(true).is_err());
        assert!(Registration { auth_method: AuthMethod::ClientSecretPost, ..web() }.check(false).is_err());
        let evil = vec!["http://localhost.evil.test/cb".to_owned()];
        assert!(Registration { post_logout_redirect_uris: evil, ..web() }.check(true).is_err());
        let exchanges = |audience: &str| Registration {
            grant_types: vec![GrantType::TokenExchange],
            exchange_audiences: vec![audience.into()],
            ..Registration::default()
        };
        exchanges("https://reports.example.com/").check(true).unwrap();
        let refusal = exchanges("https://reports.example.com/\0").check(true);
        assert!(matches!(refusal, Err(Error::Invalid { field: "registration", .. })), "{refusal:?}");
    }

    #[test]
    fn a_client_that_named_no_grants_has_those_that_follow() {
        let allowed = |registration: &Registration, confidential| {
            [GrantType::AuthorizationCode, GrantType::RefreshToken, GrantType::ClientCredentials]
                .map(|grant| registration.allows(grant, confidential))
        };
        assert_eq!(allowed(&Registration::default(), false), [false, true, false]);
        assert_eq!(allowed(&web(), true), [true, true, true]);
        let one = Registration { grant_types: vec![GrantType::AuthorizationCode], ..web() };
        assert_eq!(allowed(&one, true), [true, false, false]);
    }

    #[test]
    fn a_row_of_an_earlier_version_reads_as_nothing_registered() {
        assert_eq!(serde_json::from_str::<Registration>("{}").unwrap(), Registration::default());
        let kept = serde_json::to_string(&web()).unwrap();
        assert_eq!(serde_json::from_str::<Registration>(&kept).unwrap(), web());
    }
}
