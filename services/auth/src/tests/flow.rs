//! Signing in by a browser: the authorization code flow from the first request to the last token.

use std::collections::BTreeMap;

use ::http::{HeaderMap, Request, StatusCode};
use axum::body::{Body as PageBody, to_bytes};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flaghoist_proto::auth::v1::consent_service_client::ConsentServiceClient;
use flaghoist_proto::auth::v1::login_request_service_client::LoginRequestServiceClient;
use serde_json::Value;

use super::*;

mod codes;
mod device;
mod logout;
mod pages;
mod profile;
mod prompts;
mod proofs;
mod subject;
mod tokens;

pub(super) const HERE: &str = "https://app.example.com/cb";
/// The example of RFC 7636, appendix B.
pub(super) const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
pub(super) const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// A page or a redirect.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Page {
    /// Where it leads.
    #[track_caller]
    pub(super) fn location(&self) -> &str {
        assert_eq!(self.status, StatusCode::SEE_OTHER, "{}", self.body);
        self.headers["location"].to_str().unwrap()
    }

    /// A parameter of where it leads.
    #[track_caller]
    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        let url = url::Url::parse(self.location()).unwrap();
        let found = url.query_pairs().find(|(is, _)| is == name).map(|(_, value)| value.into_owned());
        found.or_else(|| {
            let fragment = url.fragment().unwrap_or_default().as_bytes();
            url::form_urlencoded::parse(fragment).find(|(is, _)| is == name).map(|(_, value)| value.into_owned())
        })
    }

    #[track_caller]
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{}", self.body))
    }
}

/// A browser with its cookies.
#[derive(Default)]
pub(super) struct Browser {
    pub(super) cookies: BTreeMap<String, String>,
}

pub(super) fn encoded(parameters: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish()
}

impl Browser {
    pub(super) async fn get(&mut self, world: &World, address: &str) -> Page {
        let path = address.strip_prefix(ISSUER).unwrap_or(address);
        self.send(world, Request::get(path).body(PageBody::empty()).unwrap()).await
    }

    pub(super) async fn post(&mut self, world: &World, path: &str, form: &[(&str, &str)]) -> Page {
        let request = Request::post(path).header("content-type", "application/x-www-form-urlencoded");
        self.send(world, request.body(PageBody::from(encoded(form))).unwrap()).await
    }

    pub(super) async fn send(&mut self, world: &World, mut request: Request<PageBody>) -> Page {
        let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if !cookies.is_empty() {
            request.headers_mut().insert("cookie", cookies.join("; ").parse().unwrap());
        }
        let response = world.parts.http.clone().unwrap().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        for set in head.headers.get_all("set-cookie") {
            let set = set.to_str().unwrap();
            assert!(set.contains("; Path=/; Secure; HttpOnly; SameSite=Lax") && set.starts_with("__Host-"), "{set}");
            let (name, value) = set.split(';').next().unwrap().split_once('=').unwrap();
            self.cookies.insert(name.into(), value.into());
        }
        let body = String::from_utf8(to_bytes(body, usize::MAX).await.unwrap().to_vec()).unwrap();
        Page { status: head.status, headers: head.headers, body }
    }

    /// Comes with an authorization request.
    pub(super) async fn authorize(&mut self, world: &World, parameters: &[(&str, &str)]) -> Page {
        self.get(world, &format!("/oauth2/authorize?{}", encoded(parameters))).await
    }

    /// Comes with a good request of the client, has `user` sign in, and comes back.
    pub(super) async fn signs_in(&mut self, world: &World, client_id: &str, user: UserId) -> Page {
        let to_login = self.authorize(world, &request(client_id)).await;
        self.continues(world, &to_login, user).await
    }

    /// Has `user` sign in where the page leads to, and comes back.
    pub(super) async fn continues(&mut self, world: &World, to_login: &Page, user: UserId) -> Page {
        assert!(to_login.location().starts_with(&format!("{ISSUER}/login?")), "{}", to_login.location());
        let back = world.accepts(&to_login.parameter("login_challenge").unwrap(), user).await.unwrap();
        self.get(world, &back).await
    }
}

/// A good request.
pub(super) fn request(client_id: &str) -> Vec<(&str, &str)> {
    vec![
        ("client_id", client_id),
        ("response_type", "code"),
        ("redirect_uri", HERE),
        ("scope", "openid profile chat.read"),
        ("state", "a state"),
        ("nonce", "a nonce"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ]
}

/// The good request with these parameters in place of its own; empty ones are left out.
pub(super) fn but<'a>(client_id: &'a str, changes: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut parameters = request(client_id);
    parameters.retain(|(name, _)| changes.iter().all(|(changed, _)| changed != name));
    parameters.extend(changes.iter().filter(|(_, value)| !value.is_empty()));
    parameters
}

pub(super) fn web() -> Registration {
    Registration { redirect_uris: vec![HERE.into()], ..Registration::default() }
}

pub(super) fn first_party() -> Registration {
    Registration { first_party: true, ..web() }
}

/// What is in a token.
pub(super) fn claims(token: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

impl World {
    /// Registers a client, and answers its secret.
    pub(super) async fn app(&self, id: &str, confidential: bool, registration: Registration) -> String {
        let request = CreateClientRequest {
            client_id: id.into(),
            display_name: "Wiki <b>".into(),
            confidential,
            scopes: ["openid", "profile", "offline_access", "chat.read", "email", "phone", "address"]
                .map(str::to_owned)
                .to_vec(),
            registration: Some(registration),
        };
        self.clients(&self.admin().await).create_client(request).await.unwrap().into_inner().client_secret
    }

    pub(super) fn login_requests(&self) -> LoginRequestServiceClient<Peer> {
        LoginRequestServiceClient::new(self.internal())
    }

    pub(super) fn consents(&self, token: &str) -> ConsentServiceClient<Peer> {
        ConsentServiceClient::new(self.public(token))
    }

    /// Login says that `user` has signed in. Answers where the browser goes.
    pub(super) async fn accepts(&self, challenge: &str, user: UserId) -> Result<String, Status> {
        let request = AcceptLoginRequestRequest {
            login_challenge: challenge.into(),
            user: user.name(),
            amr: vec!["pwd".into()],
            auth_time: Some(prost_types::Timestamp { seconds: self.clock.now().seconds(), nanos: 0 }),
            display_name: "Zoë".into(),
            handle: "zoe".into(),
            ..AcceptLoginRequestRequest::default()
        };
        Ok(self.login_requests().accept_login_request(request).await?.into_inner().redirect_to)
    }

    /// Redeems a code over gRPC.
    pub(super) async fn redeem(
        &self,
        client: ClientCredentials,
        code: &str,
        verifier: &str,
    ) -> Result<TokenSet, Status> {
        self.redeem_at(client, code, verifier, HERE).await
    }

    pub(super) async fn redeem_at(
        &self,
        client: ClientCredentials,
        code: &str,
        verifier: &str,
        redirect_uri: &str,
    ) -> Result<TokenSet, Status> {
        let grant = AuthorizationCodeGrant {
            code: code.into(),
            redirect_uri: redirect_uri.into(),
            code_verifier: verifier.into(),
        };
        let grant = Some(Grant::AuthorizationCode(grant));
        let request = IssueTokenRequest { client: Some(client), grant, scope: String::new() };
        Ok(self.tokens().issue_token(request).await?.into_inner().tokens.unwrap())
    }

    /// A code for `user` by the first-party client `id`.
    pub(super) async fn code(&self, id: &str, user: UserId) -> String {
        Browser::default().signs_in(self, id, user).await.parameter("code").unwrap()
    }
}
