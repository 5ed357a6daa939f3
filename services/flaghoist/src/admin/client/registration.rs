//! What `flaghoist admin client create` says of how people and programs sign in with a client.

use std::path::PathBuf;

use flaghoist_proto::auth::v1::Registration;

use crate::exit::{Exit, Failure};

/// Before the short names of grants that have none of their own.
const GRANT_PREFIX: &str = "urn:ietf:params:oauth:grant-type:";

/// Every way to get tokens.
const GRANT_HELP: &str = "A way to get tokens, in place of those that follow from the rest: authorization_code, refresh_token, \
                          client_credentials, device_code, token-exchange; may be given several times";

/// The flags of a registration.
#[derive(Debug, clap::Args)]
pub(crate) struct Flags {
    /// Where the browsers of people who sign in with it may be sent back to; may be given several times
    #[arg(long = "redirect-uri", value_name = "URI")]
    redirect_uris: Vec<String>,
    /// It is a program on the person's device: any port is good in redirect addresses on that device
    #[arg(long, requires = "redirect_uris")]
    native: bool,
    /// It belongs to whoever runs the installation: people are not asked for their consent
    #[arg(long, requires = "redirect_uris")]
    first_party: bool,
    #[arg(long = "grant", value_name = "GRANT", help = GRANT_HELP)]
    grants: Vec<String>,
    /// A file with its public keys, a JWK set: it signs assertions with them and gets no secret
    #[arg(long = "jwks", value_name = "FILE", conflicts_with = "public")]
    jwks_file: Option<PathBuf>,
    /// A client whose access tokens it may exchange, beside its own; may be given several times
    #[arg(long = "exchange-client", value_name = "ID", requires = "grants")]
    exchange_clients: Vec<String>,
    /// Whom the tokens may be for that it gets in exchange: flaghoist, or the URI of another service; may be given several times
    #[arg(long = "exchange-audience", value_name = "AUDIENCE", requires = "grants")]
    exchange_audiences: Vec<String>,
}

impl Flags {
    /// What they say, with the file that is named.
    pub(super) fn read(self) -> Result<Registration, Failure> {
        let unreadable = |path: &PathBuf, error| {
            Failure::new(Exit::BadInput, format!("cannot read the keys in {}: {error}", path.display()))
        };
        let jwks = self.jwks_file.as_ref().map(|path| std::fs::read_to_string(path).map_err(|e| unreadable(path, e)));
        let jwks = jwks.transpose()?.unwrap_or_default();
        let method = if self.jwks_file.is_some() { "private_key_jwt" } else { "" };
        let full = |grant: String| match grant.as_str() {
            "device_code" | "token-exchange" => format!("{GRANT_PREFIX}{grant}"),
            _ => grant,
        };
        Ok(Registration {
            redirect_uris: self.redirect_uris,
            native: self.native,
            first_party: self.first_party,
            grant_types: self.grants.into_iter().map(full).collect(),
            token_endpoint_auth_method: method.into(),
            jwks,
            exchange_clients: self.exchange_clients,
            exchange_audiences: self.exchange_audiences,
            ..Registration::default()
        })
    }
}
