//! What `flaghoist admin client create` and `update` say of how people and programs sign in with a client.

use std::path::PathBuf;

use flaghoist_proto::auth::v1::Registration;
use serde_json::{Value, json};

use crate::exit::{Exit, Failure};

/// Before the short names of grants that have none of their own.
const GRANT_PREFIX: &str = "urn:ietf:params:oauth:grant-type:";

/// Every way to get tokens.
const GRANT_HELP: &str = "A way to get tokens, in place of those that follow from the rest: authorization_code, refresh_token, \
                          client_credentials, device_code, token-exchange; may be given several times";

/// How it is told how a secret is sent.
const METHOD_HELP: &str =
    "How it sends its secret: client_secret_basic or client_secret_post; either way if an empty text";

/// What may sign ID tokens.
const ALGORITHM_HELP: &str = "What its ID tokens are signed with: RS256, ES256 or EdDSA";

/// The flags of a registration. What is not given stays as it is, or as it is for a client of which nothing is said. A list that is given
/// takes the place of the one before, and an empty text alone leaves nothing of it.
#[derive(Debug, clap::Args)]
pub(crate) struct Flags {
    /// Where the browsers of people who sign in with it may be sent back to; may be given several times
    #[arg(long = "redirect-uri", value_name = "URI")]
    redirect_uris: Vec<String>,
    /// Where they may be sent after signing out; may be given several times
    #[arg(long = "post-logout-redirect-uri", value_name = "URI")]
    post_logout_redirect_uris: Vec<String>,
    /// Where it is told of the ends of its sessions; an empty text ends that
    #[arg(long, value_name = "URI")]
    backchannel_logout_uri: Option<String>,
    /// It is a program on the person's device: any port is good in redirect addresses on that device
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    native: Option<bool>,
    /// It belongs to whoever runs the installation: people are not asked for their consent
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    first_party: Option<bool>,
    /// It may leave out PKCE, where it is confidential
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pkce_optional: Option<bool>,
    /// It gets tokens only with a proof of a key of its own, to which they are bound (DPoP)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    dpop_bound_access_tokens: Option<bool>,
    #[arg(long = "grant", value_name = "GRANT", help = GRANT_HELP)]
    grants: Vec<String>,
    #[arg(long, value_name = "METHOD", conflicts_with = "jwks_file", help = METHOD_HELP)]
    auth_method: Option<String>,
    /// A file with its public keys, a JWK set: it signs assertions with them and gets no secret
    #[arg(long = "jwks", value_name = "FILE")]
    jwks_file: Option<PathBuf>,
    #[arg(long, value_name = "ALGORITHM", help = ALGORITHM_HELP)]
    id_token_alg: Option<String>,
    /// A client whose access tokens it may exchange, beside its own; may be given several times
    #[arg(long = "exchange-client", value_name = "ID")]
    exchange_clients: Vec<String>,
    /// Whom the tokens may be for that it gets in exchange: flaghoist, or the URI of another service; may be given several times
    #[arg(long = "exchange-audience", value_name = "AUDIENCE")]
    exchange_audiences: Vec<String>,
    /// A service that it is, whose tokens it may inspect: flaghoist, or the URI of another one; may be given several times
    #[arg(long = "audience", value_name = "AUDIENCE")]
    audiences: Vec<String>,
}

impl Flags {
    /// Whether they say anything.
    pub(super) fn given(&self) -> bool {
        let lists = [
            &self.redirect_uris,
            &self.post_logout_redirect_uris,
            &self.grants,
            &self.exchange_clients,
            &self.exchange_audiences,
            &self.audiences,
        ];
        let switches = [self.native, self.first_party, self.pkce_optional, self.dpop_bound_access_tokens];
        let texts = [&self.backchannel_logout_uri, &self.auth_method, &self.id_token_alg];
        lists.iter().any(|list| !list.is_empty())
            || switches.iter().any(Option::is_some)
            || texts.iter().any(|text| text.is_some())
            || self.jwks_file.is_some()
    }

    /// Whether they name keys, which only a confidential client has.
    pub(super) fn with_keys(&self) -> bool {
        self.jwks_file.is_some()
    }

    /// What they make of a registration, with the file that is named.
    pub(super) fn on(self, mut registration: Registration) -> Result<Registration, Failure> {
        let full = |grant: String| match grant.as_str() {
            "device_code" | "token-exchange" => format!("{GRANT_PREFIX}{grant}"),
            _ => grant,
        };
        let grants: Vec<String> = self.grants.into_iter().map(full).collect();
        for (list, given) in [
            (&mut registration.redirect_uris, self.redirect_uris),
            (&mut registration.post_logout_redirect_uris, self.post_logout_redirect_uris),
            (&mut registration.grant_types, grants),
            (&mut registration.exchange_clients, self.exchange_clients),
            (&mut registration.exchange_audiences, self.exchange_audiences),
            (&mut registration.audiences, self.audiences),
        ] {
            if !given.is_empty() {
                *list = given.into_iter().filter(|one| !one.is_empty()).collect();
            }
        }
        for (switch, given) in [
            (&mut registration.native, self.native),
            (&mut registration.first_party, self.first_party),
            (&mut registration.pkce_optional, self.pkce_optional),
            (&mut registration.dpop_bound_access_tokens, self.dpop_bound_access_tokens),
        ] {
            *switch = given.unwrap_or(*switch);
        }
        for (text, given) in [
            (&mut registration.backchannel_logout_uri, self.backchannel_logout_uri),
            (&mut registration.id_token_signed_response_alg, self.id_token_alg),
        ] {
            if let Some(given) = given {
                *text = given;
            }
        }
        if let Some(method) = self.auth_method {
            registration.token_endpoint_auth_method = method;
            registration.jwks.clear();
        }
        if let Some(path) = &self.jwks_file {
            registration.jwks = std::fs::read_to_string(path).map_err(|error| {
                Failure::new(Exit::BadInput, format!("cannot read the keys in {}: {error}", path.display()))
            })?;
            registration.token_endpoint_auth_method = "private_key_jwt".into();
        }
        Ok(registration)
    }
}

/// A registration for scripts.
pub(super) fn object(registration: &Registration) -> Value {
    let jwks: Value = serde_json::from_str(&registration.jwks).unwrap_or_default();
    json!({
        "redirect_uris": registration.redirect_uris,
        "post_logout_redirect_uris": registration.post_logout_redirect_uris,
        "backchannel_logout_uri": registration.backchannel_logout_uri,
        "native": registration.native,
        "first_party": registration.first_party,
        "pkce_optional": registration.pkce_optional,
        "dpop_bound_access_tokens": registration.dpop_bound_access_tokens,
        "grant_types": registration.grant_types,
        "token_endpoint_auth_method": registration.token_endpoint_auth_method,
        "jwks": jwks,
        "id_token_signed_response_alg": registration.id_token_signed_response_alg,
        "exchange_clients": registration.exchange_clients,
        "exchange_audiences": registration.exchange_audiences,
        "audiences": registration.audiences,
    })
}
