//! Case 98: whatever auth does, no token, secret, key or password of its database is logged, at any level.

use std::io::Write;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use flaghoist_auth::{Peers, Settings};
use flaghoist_proto::auth::v1::client_service_client::ClientServiceClient;
use flaghoist_proto::auth::v1::issue_token_request::Grant;
use flaghoist_proto::auth::v1::login_request_service_client::LoginRequestServiceClient;
use flaghoist_proto::auth::v1::subject_service_client::SubjectServiceClient;
use flaghoist_proto::auth::v1::token_service_client::TokenServiceClient;
use flaghoist_proto::auth::v1::*;
use flaghoist_runtime::local::{Peer, Slot};
use flaghoist_runtime::names::UserId;
use flaghoist_runtime::{Context, Drain, Parts, Place, Readiness, StoreAddress, Verifier};
use parking_lot::Mutex;
use tower::ServiceExt as _;
use uuid::Uuid;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

const KEY: [u8; 32] = *b"this is the key of all the keys.";

fn slot(routes: tonic::service::Routes) -> Peer {
    let slot = Slot::new("auth");
    slot.fill(routes);
    slot.peer()
}

fn client(client_id: &str, client_secret: &str) -> Option<ClientCredentials> {
    Some(ClientCredentials {
        client_id: client_id.into(),
        client_secret: client_secret.into(),
        ..ClientCredentials::default()
    })
}

/// Does what callers of auth do, right and wrong, and answers every secret that was used.
async fn exercise(parts: Parts) -> Vec<String> {
    let (public, internal) = (slot(parts.public), slot(parts.internal));
    let http = parts.http.expect("it is answered");
    let mut secrets: Vec<String> = vec!["a-guess-at-a-secret".into()];
    let mut clients = ClientServiceClient::new(public.clone());
    let bot = CreateClientRequest {
        client_id: "bot".into(),
        display_name: "A bot".into(),
        confidential: true,
        scopes: vec!["chat.read".into()],
        registration: None,
    };
    let secret = clients.create_client(bot).await.expect("it is answered").into_inner().client_secret;
    let mut subjects = SubjectServiceClient::new(internal.clone());
    let sign_in = CreateSessionRequest {
        user: UserId(Uuid::now_v7()).name(),
        client_id: "flaghoist-cli".into(),
        scopes: vec!["chat.read".into()],
        amr: vec!["pwd".into()],
        auth_time: None,
        label: "laptop".into(),
        address: "192.0.2.7".into(),
    };
    let first = subjects
        .create_session(sign_in.clone())
        .await
        .expect("it is answered")
        .into_inner()
        .tokens
        .expect("it is answered");
    let mut tokens = TokenServiceClient::new(public);
    let refresh = |credentials, token: &str| IssueTokenRequest {
        client: credentials,
        grant: Some(Grant::RefreshToken(RefreshTokenGrant { refresh_token: token.into() })),
        scope: String::new(),
    };
    let cli = || client("flaghoist-cli", "");
    let second = tokens
        .issue_token(refresh(cli(), &first.refresh_token))
        .await
        .expect("it is answered")
        .into_inner()
        .tokens
        .expect("it is answered");
    let own = |credentials| IssueTokenRequest {
        client: credentials,
        grant: Some(Grant::ClientCredentials(ClientCredentialsGrant {})),
        scope: String::new(),
    };
    let own_tokens = tokens
        .issue_token(own(client("bot", &secret)))
        .await
        .expect("it is answered")
        .into_inner()
        .tokens
        .expect("it is answered");
    for wrong in ["a-guess-at-a-secret", ""] {
        tokens.issue_token(own(client("bot", wrong))).await.expect_err("it is refused");
    }
    for token in [&second.access_token, &second.refresh_token, &own_tokens.access_token] {
        let request = IntrospectTokenRequest { client: client("bot", &secret), token: token.clone() };
        tokens.introspect_token(request).await.expect("it is answered");
    }
    // The same over HTTP, in the header and in the form.
    let basic = STANDARD.encode(format!("bot:{secret}"));
    for (header, body) in [
        (format!("Basic {basic}"), "grant_type=client_credentials".to_owned()),
        (String::new(), format!("grant_type=client_credentials&client_id=bot&client_secret={secret}")),
        (String::new(), format!("grant_type=refresh_token&client_id=bot&refresh_token={}", second.refresh_token)),
        (format!("Basic {basic}"), format!("grant_type=refresh_token&refresh_token={}", first.refresh_token)),
    ] {
        let mut request = http::Request::post("/oauth2/token")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(axum::body::Body::from(body))
            .expect("it is answered");
        if !header.is_empty() {
            request.headers_mut().insert("authorization", header.parse().expect("it is answered"));
        }
        let _answered = http.clone().oneshot(request).await.expect("it is answered");
    }
    secrets.extend(sign_in_by_a_browser(&http, &mut clients, &internal).await);
    let device = AuthorizeDeviceRequest { client: cli(), scope: String::new() };
    let codes = tokens.authorize_device(device).await.expect("it is answered").into_inner();
    let grant = Grant::DeviceCode(DeviceCodeGrant { device_code: codes.device_code.clone() });
    let polled = IssueTokenRequest { client: cli(), grant: Some(grant), scope: String::new() };
    tokens.issue_token(polled).await.expect_err("it is refused");
    let assertion = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJib3QiLCJpc3MiOiJib3QifQ.YS1ndWVzcw".to_owned();
    let signed =
        ClientCredentials { client_id: "bot".into(), client_assertion: assertion.clone(), ..Default::default() };
    tokens.issue_token(own(Some(signed))).await.expect_err("it is refused");
    let registering = CreateRegistrationTokenRequest { scopes: vec!["openid".into()], ..Default::default() };
    let registering = clients.create_registration_token(registering).await.expect("it is answered").into_inner();
    secrets.extend([codes.device_code, codes.user_code, assertion, registering.registration_token]);
    // Another client's token ends the session: it is told in the log, and only there.
    tokens.issue_token(refresh(client("bot", &secret), &second.refresh_token)).await.expect_err("it is refused");
    let last =
        subjects.create_session(sign_in).await.expect("it is answered").into_inner().tokens.expect("it is answered");
    let request = RevokeTokenRequest { client: cli(), token: last.refresh_token.clone() };
    tokens.revoke_token(request).await.expect("it is answered");
    clients.delete_client(DeleteClientRequest { name: "clients/bot".into() }).await.expect("it is answered");
    secrets.extend([secret, basic]);
    for given in [first, second, own_tokens, last] {
        secrets.extend([given.access_token, given.refresh_token].into_iter().filter(|token| !token.is_empty()));
    }
    secrets
}

/// Signs someone in by a browser, and answers every secret on the way.
async fn sign_in_by_a_browser(
    http: &axum::Router,
    clients: &mut ClientServiceClient<Peer>,
    internal: &Peer,
) -> Vec<String> {
    const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let registration = Registration {
        redirect_uris: vec!["https://app.example.com/cb".into()],
        first_party: true,
        ..Default::default()
    };
    let wiki = CreateClientRequest {
        client_id: "wiki".into(),
        display_name: "Wiki".into(),
        confidential: false,
        scopes: vec!["openid".into()],
        registration: Some(registration),
    };
    clients.create_client(wiki).await.expect("it is answered");
    let ask = async |method: &str, path: &str, cookie: &str, body: &str| {
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("cookie", cookie)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(axum::body::Body::from(body.to_owned()))
            .expect("a request");
        let response = http.clone().oneshot(request).await.expect("it is answered");
        let header = |name: &str| {
            let value = response.headers().get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let (location, cookie) = (header("location"), header("set-cookie"));
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("a body");
        (location, cookie.split(';').next().unwrap_or_default().to_owned(), String::from_utf8_lossy(&body).into_owned())
    };
    let after = |text: &str, name: &str| {
        let value = text.split(name).nth(1).unwrap_or_else(|| panic!("no {name} in {text}"));
        value.split(['&', '"']).next().expect("a value").to_owned()
    };
    let asked = "client_id=wiki&response_type=code&scope=openid&redirect_uri=https%3A%2F%2Fapp.example.com%2Fcb\
                 &code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256";
    let (_, _, pushed) = ask("POST", "/oauth2/par", "", asked).await;
    let reference = after(&pushed, "request_uri:");
    let (to_login, browser, _) = ask("GET", &format!("/oauth2/authorize?{asked}"), "", "").await;
    let login_challenge = after(&to_login, "login_challenge=");
    let accept = AcceptLoginRequestRequest {
        login_challenge: login_challenge.clone(),
        user: UserId(Uuid::now_v7()).name(),
        amr: vec!["pwd".into()],
        ..AcceptLoginRequestRequest::default()
    };
    LoginRequestServiceClient::new(internal.clone()).accept_login_request(accept).await.expect("it is answered");
    let resume = format!("/oauth2/continue?login_challenge={login_challenge}");
    let (back, session, _) = ask("GET", &resume, &browser, "").await;
    let code = after(&back, "code=");
    let grant = format!(
        "grant_type=authorization_code&client_id=wiki&redirect_uri=https%3A%2F%2Fapp.example.com%2Fcb&code_verifier={VERIFIER}&code="
    );
    let (_, _, tokens) = ask("POST", "/oauth2/token", "", &format!("{grant}{code}")).await;
    let [access, refresh, id] =
        ["access_token", "refresh_token", "id_token"].map(|name| after(&tokens, &format!("\"{name}\":\"")));
    ask("POST", "/userinfo", "", &format!("access_token={access}")).await;
    ask("POST", "/oauth2/token", "", &format!("{grant}{code}")).await;
    ask("GET", &format!("/oauth2/logout?id_token_hint={id}"), &session, "").await;
    let cookies = [browser, session].map(|pair| pair.split_once('=').expect("a cookie").1.to_owned());
    let mut secrets = vec![reference, login_challenge, code, VERIFIER.to_owned(), access, refresh, id];
    secrets.extend(cookies);
    secrets
}

fn context(drain: Drain, readiness: &Arc<Readiness>) -> Context {
    Context {
        verifier: Verifier::new("http://localhost:8080"),
        drain,
        readiness: Arc::clone(readiness),
        issuer: "http://localhost:8080".into(),
        trusted_hops: 0,
    }
}

#[tokio::test]
async fn case_98_logs_contain_no_secret() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();

    let mut stores = vec![StoreAddress::Folder];
    let mut secrets = Vec::new();
    if let Some(postgres) = flaghoist_backends::Postgres::shared().await {
        let url = postgres.database().await;
        secrets.push(postgres.password().to_owned());
        stores.push(StoreAddress::Postgres(Box::new(url.parse().unwrap())));
    }
    for store in stores {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("secret.key"), KEY).unwrap();
        let place = Place::new(folder.path());
        let (trigger, drain) = Drain::new();
        let readiness = Arc::new(Readiness::new());
        let settings = Settings { store, ..Settings::default() };
        let shown = format!("{settings:?}");
        tracing::debug!(settings = %shown, "starting");
        let context = context(drain, &readiness);
        let parts = flaghoist_auth::start(settings, &place, Peers {}, &context).await.unwrap();
        readiness.ready().await;
        secrets.extend(exercise(parts).await);
        trigger.end();
    }
    let encoded = [STANDARD.encode(KEY), URL_SAFE_NO_PAD.encode(KEY), String::from_utf8(KEY.to_vec()).unwrap()];
    secrets.extend(encoded);

    let text = String::from_utf8_lossy(&log.0.lock()).into_owned();
    assert!(
        text.contains("refresh_token_reused") && text.contains("code_reused") && text.contains("UPDATE sessions"),
        "what is done is in the log"
    );
    for secret in secrets {
        assert!(!text.contains(&secret), "{secret} was logged");
    }
}
