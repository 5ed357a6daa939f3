//! The pages of login: where people sign in by a browser, for applications that send them to the issuer, where they set
//! a forgotten password anew, and where they look after their accounts. Plain forms, which work without scripts; security keys alone need the one script that is here. What is typed goes
//! through the same rules and limits as every other call.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::extract::rejection::FormRejection;
use axum::http::header::{ALLOW, RETRY_AFTER, USER_AGENT};
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, get};
use flaghoist_runtime::Verifier;
use flaghoist_runtime::html::{self, Language, Page, Texts};
use flaghoist_runtime::server::client_address;

use crate::accounts::Accounts;
use crate::error::Error;
use crate::history::Origin;
use crate::issuer::IssuerError;
use crate::password::BadPassword;
use crate::relying_party::RelyingParty;
use crate::store::account_sessions::Limits;
use crate::throttle::browser::KnownBrowser;

mod account;
mod form_token;
mod reset;
mod sign_in;

pub(crate) use form_token::FormKey;

/// What a browser is remembered by, for those who have signed in with it.
const KNOWN_COOKIE: &str = "__Host-flaghoist-known";

/// The script that talks to security keys.
const SCRIPT_PATH: &str = "/login/keys.js";

/// The largest form that is read; a password of the greatest length fits in with every byte escaped.
const FORM_MAX_BYTES: usize = 16 * 1024;

/// What the pages need.
#[derive(Clone, Debug)]
pub(crate) struct Pages {
    pub(crate) accounts: Arc<Accounts>,
    pub(crate) form_key: Arc<FormKey>,
    pub(crate) trusted_hops: u8,
    /// The issuer, of which the account pages are a client.
    pub(crate) issuer: RelyingParty,
    /// Verifies the tokens that it gives.
    pub(crate) verifier: Arc<Verifier>,
    /// When a browser is not signed in to the account pages any more.
    pub(crate) limits: Limits,
}

/// Where a browser's request comes from: its address, what it calls itself, and for whom it is remembered.
fn origin<Body>(pages: &Pages, request: &Request<Body>) -> Origin {
    let headers = request.headers();
    let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let known = html::cookie(headers, KNOWN_COOKIE).map(KnownBrowser::read).unwrap_or_default();
    Origin::new(client_address(request, pages.trusted_hops), agent).by_browser(known)
}

/// The routes of the pages.
pub(crate) fn router(pages: Pages) -> Router {
    Router::new()
        .route(sign_in::PATH, only("GET, HEAD, POST", get(sign_in::show).post(sign_in::submit)))
        .route(reset::PATH, only("GET, HEAD, POST", get(reset::show).post(reset::submit)))
        .route(SCRIPT_PATH, only("GET, HEAD", get(async || html::script(include_str!("http/keys.js")))))
        .merge(account::router())
        .layer(DefaultBodyLimit::max(FORM_MAX_BYTES))
        .with_state(pages)
}

/// Refuses the methods that `route` does not have.
fn only(allowed: &'static str, route: MethodRouter<Pages>) -> MethodRouter<Pages> {
    route.fallback(async move |headers: HeaderMap| {
        let language = Language::preferred(&headers);
        let mut response = problem(language, StatusCode::METHOD_NOT_ALLOWED, language.texts().method_wrong);
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
        response
    })
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage<'a> {
    t: &'static Texts,
    problem: &'a str,
}

/// The page for a form that cannot be read.
fn unread(language: Language, rejection: &FormRejection) -> Response {
    let t = language.texts();
    match rejection {
        FormRejection::BytesRejection(_) => problem(language, StatusCode::PAYLOAD_TOO_LARGE, t.form_large),
        _ => problem(language, StatusCode::BAD_REQUEST, t.form_malformed),
    }
}

/// The page for an error that the person cannot mend by typing something else.
fn failed(language: Language, error: &Error) -> Response {
    let t = language.texts();
    if matches!(error, Error::Issuer(IssuerError::RequestUnknown)) {
        return problem(language, StatusCode::FORBIDDEN, t.sign_in_over);
    }
    // Logs what nobody expected.
    let status = match error.fault().into_status(crate::error::DOMAIN).code() {
        tonic::Code::Internal | tonic::Code::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
        tonic::Code::InvalidArgument => StatusCode::BAD_REQUEST,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut response = problem(language, status, t.try_later);
    retry_after(&mut response, Duration::from_secs(1));
    response
}

/// Why a new password is not taken.
fn bad_password(t: &'static Texts, why: &BadPassword) -> &'static str {
    match why {
        BadPassword::Short => t.password_short,
        BadPassword::Long => t.password_long,
        BadPassword::Weak(_) => t.password_weak,
    }
}

fn problem(language: Language, status: StatusCode, problem: &str) -> Response {
    let t = language.texts();
    rendered(Page::new(status, language, t.not_working, ""), &ProblemPage { t, problem })
}

/// `page` with what the template makes in it.
fn rendered(page: Page<'_>, template: &impl Template) -> Response {
    match template.render() {
        Ok(main) => Page { main: &main, ..page }.response(),
        Err(error) => {
            flaghoist_runtime::fault::log_chain("writing a page", &error);
            Page { status: StatusCode::INTERNAL_SERVER_ERROR, ..page }.response()
        }
    }
}

/// What the script is answered.
fn json(status: StatusCode, value: &serde_json::Value) -> Response {
    let mut response = (status, axum::Json(value)).into_response();
    html::guard(&mut response);
    response
}

fn retry_after(response: &mut Response, wait: Duration) {
    let seconds = wait.as_millis().div_ceil(1000);
    response.headers_mut().extend(HeaderValue::try_from(seconds.to_string()).ok().map(|wait| (RETRY_AFTER, wait)));
}
