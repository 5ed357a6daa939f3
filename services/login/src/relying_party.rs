//! Login as a client of the issuer: the account pages sign people in like any application does, by the authorization code flow, and
//! ask the issuer with the tokens that they get. No browser ever sees a token.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use flaghoist_proto::auth::v1 as auth;
use flaghoist_proto::auth::v1::consent_service_client::ConsentServiceClient;
use flaghoist_proto::auth::v1::issue_token_request::Grant;
use flaghoist_proto::auth::v1::session_service_client::SessionServiceClient;
use flaghoist_proto::auth::v1::token_service_client::TokenServiceClient;
use flaghoist_runtime::Peer;
use flaghoist_runtime::fault::{Reason, reason_of};
use flaghoist_runtime::server::ClientAddress;
use flaghoist_runtime::time::{from_millis, from_timestamp, millis};
use serde::{Deserialize, Serialize};
use tonic::{Code, Request};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::issuer::{IssuerError, in_time};

/// The client that the account pages are. The issuer has it built in.
pub(crate) const CLIENT_ID: &str = "flaghoist-account";

/// What it asks for: to know who it is, and to see and end their sessions and consents.
const SCOPE: &str = "openid chat.read chat.send";

/// Where browsers come back to.
pub(crate) const CALLBACK_PATH: &str = "/account/callback";

/// How many sessions, or consents, a page shows at most.
const SHOWN_MAX: i32 = 200;

/// How long before its end an access token is renewed.
const RENEWED_BEFORE: Duration = Duration::from_secs(30);

/// What the issuer gave for someone who has signed in. It is wiped when dropped and never shown.
#[derive(Clone, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Tokens {
    pub(crate) access_token: String,
    refresh_token: String,
    pub(crate) id_token: String,
    expires_at: i64,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Tokens(…)")
    }
}

impl Tokens {
    fn of(set: auth::TokenSet) -> Self {
        let expires_at = set.access_token_expire_time.as_ref().map_or(0, |time| millis(from_timestamp(time)));
        Self { access_token: set.access_token, refresh_token: set.refresh_token, id_token: set.id_token, expires_at }
    }

    /// As they are kept.
    pub(crate) fn written(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(serde_json::to_vec(self).unwrap_or_default())
    }

    /// Reads what [`Self::written`] has made.
    pub(crate) fn read(written: &[u8]) -> Option<Self> {
        serde_json::from_slice(written).ok()
    }

    /// Whether the access token ends soon, or has ended.
    pub(crate) fn ending(&self) -> bool {
        SystemTime::now() + RENEWED_BEFORE >= from_millis(self.expires_at)
    }
}

/// A browser that is to be sent to the issuer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begin<'a> {
    pub(crate) state: &'a str,
    pub(crate) nonce: &'a str,
    /// The SHA-256 of the code's verifier, in base64url.
    pub(crate) code_challenge: &'a str,
    pub(crate) ui_locales: &'a str,
    /// Whether the person proves who they are even if the issuer knows.
    pub(crate) anew: bool,
}

/// Asks the issuer as a client does.
#[derive(Clone, Debug)]
pub(crate) struct RelyingParty {
    tokens: TokenServiceClient<Peer>,
    sessions: SessionServiceClient<Peer>,
    consents: ConsentServiceClient<Peer>,
    /// The issuer as it calls itself.
    pub(crate) issuer: String,
}

impl RelyingParty {
    pub(crate) fn new(peer: Peer, issuer: &str) -> Self {
        Self {
            tokens: TokenServiceClient::new(peer.clone()),
            sessions: SessionServiceClient::new(peer.clone()),
            consents: ConsentServiceClient::new(peer),
            issuer: issuer.to_owned(),
        }
    }

    /// A path of the issuer's host, where the pages are too.
    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.issuer.trim_end_matches('/'))
    }

    /// Where a browser goes to sign in.
    pub(crate) fn begin(&self, begin: &Begin<'_>) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query
            .append_pair("response_type", "code")
            .append_pair("client_id", CLIENT_ID)
            .append_pair("redirect_uri", &self.at(CALLBACK_PATH))
            .append_pair("scope", SCOPE)
            .append_pair("state", begin.state)
            .append_pair("nonce", begin.nonce)
            .append_pair("code_challenge", begin.code_challenge)
            .append_pair("code_challenge_method", "S256")
            .append_pair("ui_locales", begin.ui_locales);
        if begin.anew {
            query.append_pair("prompt", "login");
        }
        format!("{}?{}", self.at("/oauth2/authorize"), query.finish())
    }

    /// Where a browser goes to sign out.
    pub(crate) fn sign_out(&self, tokens: &Tokens) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("id_token_hint", &tokens.id_token);
        format!("{}?{}", self.at("/oauth2/logout"), query.finish())
    }

    /// Exchanges a code; nothing where the issuer refuses it.
    pub(crate) async fn exchange(
        &self,
        code: String,
        code_verifier: String,
        address: IpAddr,
    ) -> Result<Option<Tokens>, IssuerError> {
        let redirect_uri = self.at(CALLBACK_PATH);
        let grant = auth::AuthorizationCodeGrant { code, redirect_uri, code_verifier };
        match self.issue(Grant::AuthorizationCode(grant), address).await {
            // Whoever holds the browser says what the code is: one that could be none is refused as one that is not known.
            Err(IssuerError::Failed(status)) if status.code() == Code::InvalidArgument => Ok(None),
            answer => answer,
        }
    }

    /// Renews tokens; nothing where they are worth nothing any more. Of many who do so at once all get the same.
    pub(crate) async fn renew(&self, tokens: &Tokens, address: IpAddr) -> Result<Option<Tokens>, IssuerError> {
        let grant = auth::RefreshTokenGrant { refresh_token: tokens.refresh_token.clone() };
        let renewed = self.issue(Grant::RefreshToken(grant), address).await?;
        Ok(renewed.map(|mut renewed| {
            if renewed.id_token.is_empty() {
                renewed.id_token.clone_from(&tokens.id_token);
            }
            renewed
        }))
    }

    /// Nothing where the issuer says that the grant is not good, or not any more. Whatever else goes wrong, the same may go well later:
    /// nobody is signed out by it.
    async fn issue(&self, grant: Grant, address: IpAddr) -> Result<Option<Tokens>, IssuerError> {
        let message = auth::IssueTokenRequest {
            client: Some(credentials()),
            grant: Some(grant),
            ..auth::IssueTokenRequest::default()
        };
        let (mut tokens, request) = (self.tokens.clone(), asking(message, None, address));
        match in_time(async move { tokens.issue_token(request).await }).await {
            Ok(answer) => Ok(answer.tokens.map(Tokens::of)),
            Err(IssuerError::Failed(status)) if reason_of(&status) == Some(Reason::GrantInvalid) => {
                tracing::info!(error = %status.message(), "the account pages got no tokens");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Ends the session that tokens belong to. That it has ended is no error.
    pub(crate) async fn end(&self, tokens: &Tokens, address: IpAddr) -> Result<(), IssuerError> {
        let message = auth::RevokeTokenRequest { client: Some(credentials()), token: tokens.refresh_token.clone() };
        let (mut client, request) = (self.tokens.clone(), asking(message, None, address));
        in_time(async move { client.revoke_token(request).await }).await.map(|_| ())
    }

    /// The sessions of the person, the newest first.
    pub(crate) async fn sessions(&self, tokens: &Tokens, address: IpAddr) -> Result<Vec<auth::Session>, IssuerError> {
        let message = auth::ListSessionsRequest { page_size: SHOWN_MAX, ..auth::ListSessionsRequest::default() };
        let (mut client, request) = (self.sessions.clone(), asking(message, Some(tokens), address));
        Ok(in_time(async move { client.list_sessions(request).await }).await?.sessions)
    }

    /// Ends a session of the person. One that is not there is no error.
    pub(crate) async fn end_session(&self, tokens: &Tokens, name: String, address: IpAddr) -> Result<(), IssuerError> {
        let request = asking(auth::RevokeSessionRequest { name }, Some(tokens), address);
        let mut client = self.sessions.clone();
        match in_time(async move { client.revoke_session(request).await }).await {
            Ok(_) | Err(IssuerError::RequestUnknown) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Ends the sessions of the person but the one that the tokens are of.
    pub(crate) async fn end_other_sessions(&self, tokens: &Tokens, address: IpAddr) -> Result<(), IssuerError> {
        let request = asking(auth::RevokeOtherSessionsRequest {}, Some(tokens), address);
        let mut client = self.sessions.clone();
        in_time(async move { client.revoke_other_sessions(request).await }).await.map(|_| ())
    }

    /// What the person has allowed which clients.
    pub(crate) async fn consents(&self, tokens: &Tokens, address: IpAddr) -> Result<Vec<auth::Consent>, IssuerError> {
        let message = auth::ListConsentsRequest { page_size: SHOWN_MAX, ..auth::ListConsentsRequest::default() };
        let (mut client, request) = (self.consents.clone(), asking(message, Some(tokens), address));
        Ok(in_time(async move { client.list_consents(request).await }).await?.consents)
    }

    /// Takes back what the person has allowed a client. What was not allowed is no error.
    pub(crate) async fn withdraw(&self, tokens: &Tokens, name: String, address: IpAddr) -> Result<(), IssuerError> {
        let request = asking(auth::RevokeConsentRequest { name }, Some(tokens), address);
        let mut client = self.consents.clone();
        match in_time(async move { client.revoke_consent(request).await }).await {
            Ok(_) | Err(IssuerError::RequestUnknown) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn credentials() -> auth::ClientCredentials {
    auth::ClientCredentials { client_id: CLIENT_ID.into(), ..auth::ClientCredentials::default() }
}

/// A call for a person at `address`, with their token where one is asked for. In the same process the address goes along as the
/// listener would have found it, else as a proxy says it.
fn asking<T>(message: T, tokens: Option<&Tokens>, address: IpAddr) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(ClientAddress(address));
    if let Ok(address) = address.to_string().parse() {
        request.metadata_mut().insert("x-forwarded-for", address);
    }
    if let Some(bearer) = tokens.and_then(|tokens| format!("Bearer {}", tokens.access_token).parse().ok()) {
        request.metadata_mut().insert("authorization", bearer);
    }
    request
}
