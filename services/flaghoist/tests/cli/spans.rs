//! Case 98 for what leaves the processes: spans, with everything that is noted in them, and logs at their most talkative. People do what
//! needs secrets, over gRPC and by a browser, at services that run by themselves; no secret is found in either afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::{Arc, Mutex};

use flaghoist_proto::auth::v1 as auth;
use flaghoist_proto::auth::v1::issue_token_request::Grant;
use flaghoist_proto::auth::v1::token_service_client::TokenServiceClient;
use flaghoist_proto::login::v1 as login;
use flaghoist_proto::login::v1::account_service_client::AccountServiceClient;
use flaghoist_proto::login::v1::credential_service_client::CredentialServiceClient;
use flaghoist_proto::login::v1::login_service_client::LoginServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use tonic::{Request, Response, Status};

use crate::pods::{SECRET, Site};
use crate::stage::{PASSWORD, within_patience};
use crate::talk::Person;

/// What the services call the issuer if nobody says otherwise.
const ISSUER: &str = "http://localhost:8080";
const WRONG: &str = "guessed-kangaroo-99";
const NEW: &str = "crimson-umbrella-42";
const TEXT: &str = "meet-me-at-the-old-mill";
const MAIL: &str = "alice@example.com";

/// Keeps everything that is exported to it, as text.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<String>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let exported = format!("{:?}\n", request.into_inner());
        self.0.lock().unwrap().push_str(&exported);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// A browser that is led by a gateway, and remembers every secret that it was given.
struct Browser<'a> {
    site: &'a Site,
    cookies: BTreeMap<String, String>,
    seen: BTreeSet<String>,
}

/// A page or a redirect.
struct Page {
    location: String,
    text: String,
}

fn escape(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

impl Browser<'_> {
    fn get(&mut self, address: &str) -> Page {
        self.sends("GET", address, &[])
    }

    /// Follows redirects until there is a page.
    fn opens(&mut self, address: &str) -> Page {
        let mut page = self.get(address);
        while !page.location.is_empty() {
            page = self.get(&page.location.clone());
        }
        page
    }

    fn sends(&mut self, method: &str, address: &str, form: &[(&str, &str)]) -> Page {
        let path = address.strip_prefix(ISSUER).unwrap_or(address);
        // As the routes of the chart lead them.
        let of_login = ["/login", "/account", "/reset"].iter().any(|prefix| path.starts_with(prefix));
        let host = self.site.address(if of_login { "login" } else { "auth" }, "http");
        let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let body: Vec<_> = form.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect();
        let body = body.join("&");
        let mut stream = TcpStream::connect(host).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncookie: {}\r\n\
             content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{body}",
            cookies.join("; "),
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, text) = answer.split_once("\r\n\r\n").unwrap();
        let mut page = Page { location: String::new(), text: text.to_owned() };
        for line in head.lines() {
            let (name, value) = line.split_once(": ").unwrap_or((line, ""));
            match name.to_ascii_lowercase().as_str() {
                "location" => page.location = value.to_owned(),
                "set-cookie" => {
                    let (name, value) = value.split(';').next().unwrap().split_once('=').unwrap();
                    self.cookies.insert(name.to_owned(), value.to_owned());
                    self.seen.insert(value.to_owned());
                }
                _ => {}
            }
        }
        for name in ["code", "state", "nonce", "login_challenge"] {
            let query =
                page.location.split(['?', '&', '#']).find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
            self.seen.extend(query.map(str::to_owned));
        }
        for name in ["token", "login_challenge", "link"] {
            self.seen.extend(page.hidden(name));
        }
        page
    }

    /// Signs in where an application has sent the browser to, and ends on its page.
    fn signs_in(&mut self, page: &Page, password: &str) -> Page {
        let [challenge, token] = ["login_challenge", "token"].map(|name| page.hidden(name).expect("a form"));
        let form = [
            ("login_challenge", challenge.as_str()),
            ("token", &token),
            ("handle", "alice"),
            ("password", password),
            ("decision", "sign_in"),
        ];
        let on = self.sends("POST", "/login", &form);
        if on.location.is_empty() { on } else { self.opens(&on.location) }
    }
}

impl Page {
    /// The value of a hidden field.
    fn hidden(&self, name: &str) -> Option<String> {
        let value = self.text.split(&format!("name=\"{name}\" value=\"")).nth(1)?;
        value.split('"').next().map(str::to_owned)
    }
}

/// What stands behind some words in the newest letter that has them.
fn in_letter(site: &Site, words: &str) -> String {
    let folder = site.folder.path().join("data/notices");
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    within_patience(|| {
        let mut files: Vec<_> = std::fs::read_dir(&folder).ok()?.map(|file| file.unwrap().path()).collect();
        files.sort_unstable();
        files.iter().rev().filter_map(|path| read(path)).find_map(|letter| {
            letter.split(words).skip(1).find_map(|rest| {
                let part = |letter: &char| letter.is_ascii_alphanumeric() || "-_".contains(*letter);
                let secret: String = rest.chars().take_while(part).collect();
                // A word is none.
                (secret.len() >= 8 && secret.bytes().any(|byte| byte.is_ascii_digit())).then_some(secret)
            })
        })
    })
}

/// Over gRPC: signing in, refreshing, a code for a contact, an authenticator, a device, a message. Answers what was secret in it.
async fn secrets_of_calls(site: &Site) -> Vec<String> {
    let (alice, bob) = (Person::registers(site, "alice").await, Person::registers(site, "bob").await);
    alice.sends(site, &bob, TEXT).await.unwrap();
    let logins = || LoginServiceClient::new(site.channel("login", "grpc"));
    let request = |password: &str| login::LoginRequest {
        handle: "alice".into(),
        password: password.into(),
        ..Default::default()
    };
    logins().login(request(WRONG)).await.unwrap_err();
    let tokens = logins().login(request(PASSWORD)).await.unwrap().into_inner().tokens.unwrap();
    let client = || Some(auth::ClientCredentials { client_id: "flaghoist-cli".into(), ..Default::default() });
    let mut issuer = TokenServiceClient::new(site.channel("auth", "grpc"));
    let grant = Grant::RefreshToken(auth::RefreshTokenGrant { refresh_token: tokens.refresh_token.clone() });
    let refresh = auth::IssueTokenRequest { client: client(), grant: Some(grant), ..Default::default() };
    let next = issuer.issue_token(refresh).await.unwrap().into_inner().tokens.unwrap();
    let begin = auth::AuthorizeDeviceRequest { client: client(), ..Default::default() };
    let device = issuer.authorize_device(begin).await.unwrap().into_inner();
    let grant = Grant::DeviceCode(auth::DeviceCodeGrant { device_code: device.device_code.clone() });
    let poll = auth::IssueTokenRequest { client: client(), grant: Some(grant), ..Default::default() };
    issuer.issue_token(poll).await.unwrap_err();

    let mut accounts = AccountServiceClient::new(site.channel("login", "grpc"));
    let kind = login::ContactKind::Email.into();
    accounts.set_contact(alice.asks(login::SetContactRequest { kind, value: MAIL.into() })).await.unwrap();
    let code = in_letter(site, "is ");
    let verify = login::VerifyContactRequest { kind, code: code.clone() };
    accounts.verify_contact(alice.asks(verify)).await.unwrap();
    let mut credentials = CredentialServiceClient::new(site.channel("login", "grpc"));
    let enrolment = credentials.enroll_totp(alice.asks(login::EnrollTotpRequest {})).await.unwrap().into_inner();
    let guess = login::ConfirmTotpRequest { code: "918273".into() };
    credentials.confirm_totp(alice.asks(guess)).await.unwrap_err();
    let revoke = auth::RevokeTokenRequest { client: client(), token: next.refresh_token.clone() };
    issuer.revoke_token(revoke).await.unwrap();
    let issued = [tokens, next].into_iter().flat_map(|tokens| [tokens.access_token, tokens.refresh_token]);
    let carried = [&alice, &bob].map(|person| person.token().to_owned());
    issued.chain(carried).chain([device.device_code, device.user_code, code, enrolment.secret]).collect()
}

/// By a browser: the account pages, a wrong password and a new one, a forgotten one. Answers what was secret in it.
fn secrets_of_pages(site: &Site) -> BTreeSet<String> {
    let mut browser = Browser { site, cookies: BTreeMap::new(), seen: BTreeSet::new() };
    let form = browser.opens("/account/password");
    let wrong = browser.signs_in(&form, WRONG);
    assert!(wrong.text.contains("name=\"password\""), "{}", wrong.text);
    let page = browser.signs_in(&wrong, PASSWORD);
    let token = page.hidden("token").unwrap_or_else(|| panic!("{}", page.text));
    for current in [WRONG, PASSWORD] {
        let fields = [("token", token.as_str()), ("current", current), ("new", NEW)];
        browser.sends("POST", "/account/password", &fields);
    }
    let mut visitor = Browser { site, cookies: BTreeMap::new(), seen: BTreeSet::new() };
    let page = visitor.get("/reset");
    let token = page.hidden("token").expect("a form");
    visitor.sends("POST", "/reset", &[("token", &token), ("link", ""), ("identifier", MAIL)]);
    let link = in_letter(site, "/reset?token=");
    let page = visitor.get(&format!("/reset?token={link}"));
    let token = page.hidden("token").expect("a form");
    let fields = [("token", token.as_str()), ("link", &link), ("password", PASSWORD), ("code", "")];
    let done = visitor.sends("POST", "/reset", &fields);
    assert!(done.text.contains("href=\"/account\""), "{}", done.text);
    browser.seen.extend(visitor.seen);
    browser.seen.insert(link);
    browser.seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_98_neither_spans_nor_the_most_talkative_log_contain_a_secret() {
    let collector = Collector::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let routes = tonic::service::Routes::new(TraceServiceServer::new(collector.clone())).into_axum_router();
    tokio::spawn(async move { axum::serve(listener, routes).await });

    let site = Arc::new(Site::new());
    let public = format!("http://{}", site.address("auth", "grpc"));
    let mut pods = site.starts_all(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
        ("RUST_LOG", "trace"),
        ("FLAGHOIST_LOGIN_AUTH_PUBLIC_ADDR", &public),
        ("FLAGHOIST_LOGIN_NOTIFIER", "folder"),
    ]);
    let mut secrets: BTreeSet<String> = [PASSWORD, WRONG, NEW, TEXT, SECRET].map(str::to_owned).into();
    secrets.extend(secrets_of_calls(&site).await);
    let by_browser = tokio::task::spawn_blocking({
        let site = Arc::clone(&site);
        move || secrets_of_pages(&site)
    });
    let by_browser = by_browser.await.unwrap();
    assert!(by_browser.len() >= 12, "cookies, a code, a state, challenges, tokens of forms, a link: {by_browser:?}");
    secrets.extend(by_browser);

    // What is left is sent when they stop.
    let logs: Vec<String> = pods
        .values_mut()
        .map(|pod| {
            assert!(pod.stops().success());
            pod.log()
        })
        .collect();
    let spans = collector.0.lock().unwrap().clone();
    for method in [
        "LoginService/Login",
        "AccountService/VerifyContact",
        "CredentialService/ConfirmTotp",
        "TokenService/IssueToken",
        "SubjectService/CreateSession",
        "LoginRequestService/AcceptLoginRequest",
        "MessageService/CreateMessage",
        "DeliveryService/Deliver",
    ] {
        assert!(spans.contains(method), "no span of {method}: that call was not traced");
    }
    assert!(logs.iter().all(|log| log.contains("TRACE") && log.len() > 10_000), "the logs are at their most talkative");
    let mut found = Vec::new();
    for (what, text) in logs.iter().map(|log| ("a log", log)).chain([("a span", &spans)]) {
        for secret in secrets.iter().filter(|secret| secret.len() >= 6) {
            if let Some(at) = text.find(secret.as_str()) {
                let start = (0..=at.saturating_sub(200)).rev().find(|&place| text.is_char_boundary(place)).unwrap();
                found.push(format!("{what}: {}", &text[start..at + secret.len()]));
            }
        }
    }
    assert!(found.is_empty(), "secrets have left a process:\n{}", found.join("\n"));
}
