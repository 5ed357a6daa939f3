//! The page on which people sign in by a browser, for applications that send them to the issuer: a plain form for the password and
//! one for a second factor, which work without scripts. It goes through the same rules and limits as every other sign-in.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::Router;
use axum::body::Body;
use axum::extract::rejection::FormRejection;
use axum::extract::{DefaultBodyLimit, FromRequest as _, Query, State};
use axum::http::header::{ALLOW, RETRY_AFTER, SET_COOKIE, USER_AGENT};
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode};
use axum::response::Response;
use axum::routing::get;
use flaghoist_runtime::html;
use flaghoist_runtime::server::client_address;
use serde::Deserialize;

use crate::accounts::{Accounts, Browser, Code, PageSignIn, PageStep};
use crate::error::Error;
use crate::history::Origin;
use crate::issuer::{Asked, IssuerError};
use crate::login_token::LoginToken;
use crate::password::Password;

mod form_token;

pub(crate) use form_token::FormKey;

/// Where the page is. The issuer sends browsers there.
const PATH: &str = "/login";

/// The cookie that a form is bound to.
const COOKIE: &str = "__Host-flaghoist-login";

/// The largest form that is read; a password of the greatest length fits in with every byte escaped.
const FORM_MAX_BYTES: usize = 16 * 1024;

/// The longest challenge that is passed on.
const CHALLENGE_MAX_BYTES: usize = 128;

const TITLE: &str = "Sign in";

/// What the page needs.
#[derive(Clone, Debug)]
pub(crate) struct Pages {
    pub(crate) accounts: Arc<Accounts>,
    pub(crate) form_key: Arc<FormKey>,
    pub(crate) trusted_hops: u8,
}

/// The routes of the pages.
pub(crate) fn router(pages: Pages) -> Router {
    let page = get(show).post(submit).fallback(async || {
        let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, "Use GET or POST.");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
        response
    });
    Router::new().route(PATH, page).layer(DefaultBodyLimit::max(FORM_MAX_BYTES)).with_state(pages)
}

/// What the issuer sends a browser with.
#[derive(Deserialize)]
struct Sent {
    #[serde(default)]
    login_challenge: String,
}

/// What was typed. It has a password in it, so it is never shown.
#[derive(Deserialize)]
struct Typed {
    #[serde(default)]
    login_challenge: String,
    #[serde(default)]
    token: String,
    #[serde(default)]
    handle: String,
    #[serde(default)]
    password: String,
    /// The login whose second step this is; empty for the first.
    #[serde(default)]
    login: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    decision: String,
}

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignInPage<'a> {
    client_name: &'a str,
    problem: &'a str,
    challenge: &'a str,
    token: &'a str,
    handle: &'a str,
}

#[derive(Template)]
#[template(path = "second_factor.html")]
struct SecondFactorPage<'a> {
    /// Whether the person has security keys, which the page does not take.
    keys: bool,
    client_name: &'a str,
    problem: &'a str,
    challenge: &'a str,
    token: &'a str,
    login: &'a str,
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage<'a> {
    problem: &'a str,
}

const TOO_MANY: &str = "Too many attempts. Wait a little, then try again.";

const OVER: &str = "This sign-in is over. Go back to the application and begin again.";

/// Shows the form.
async fn show(
    State(pages): State<Pages>,
    headers: HeaderMap,
    sent: Result<Query<Sent>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let Ok(Query(Sent { login_challenge })) = sent else {
        return problem(StatusCode::BAD_REQUEST, "The address of this page is malformed.");
    };
    match pages.asked(&login_challenge).await {
        Ok(asked) => {
            let known = html::cookie(&headers, COOKIE).filter(|cookie| FormKey::made_here(cookie)).map(str::to_owned);
            let cookie = known.unwrap_or_else(FormKey::cookie);
            let shown = Shown {
                challenge: &login_challenge,
                cookie: &cookie,
                handle: &asked.login_hint,
                login: "",
                problem: "",
            };
            pages.form(StatusCode::OK, &asked, &shown)
        }
        Err(page) => page,
    }
}

/// Takes the form.
async fn submit(State(pages): State<Pages>, request: Request<Body>) -> Response {
    let agent = request.headers().get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let origin = Origin::new(client_address(&request, pages.trusted_hops), agent);
    let cookie = html::cookie(request.headers(), COOKIE).map(str::to_owned);
    let typed = match axum::Form::<Typed>::from_request(request, &()).await {
        Ok(axum::Form(typed)) => typed,
        Err(FormRejection::BytesRejection(_)) => {
            return problem(StatusCode::PAYLOAD_TOO_LARGE, "The form is larger than 16 KiB, or was cut off.");
        }
        Err(_) => return problem(StatusCode::BAD_REQUEST, "The form is malformed."),
    };
    let challenge = &typed.login_challenge;
    // Another site can send this form, but neither reads the token nor has the cookie sent along.
    let Some(cookie) = cookie.filter(|cookie| pages.form_key.opens(cookie, challenge, &typed.token)) else {
        return problem(
            StatusCode::FORBIDDEN,
            "This form was not made for this browser, or the browser takes no cookies. Go back to the application and begin again.",
        );
    };
    if typed.decision == "cancel" {
        return match pages.accounts.refuse_login_request(challenge).await {
            Ok(address) => html::see_other(&address),
            Err(error) => failed(&error),
        };
    }
    if !typed.login.is_empty() {
        return pages.take_code(typed, cookie, origin).await;
    }
    let wanted = PageSignIn {
        // What a form adds unseen, such as a space by the keyboard of a phone, is none of a handle.
        handle: typed.handle.trim().to_owned(),
        password: Password::read(typed.password),
        challenge: challenge.clone(),
        browser: Browser(cookie.clone()),
        origin,
    };
    let error = match pages.accounts.sign_in_for_request(wanted).await {
        Ok(PageStep::Done(address)) => return html::see_other(&address),
        Ok(PageStep::SecondFactor(login)) => {
            let shown = Shown { challenge, cookie: &cookie, handle: "", login: login.text(), problem: "" };
            return pages.ask_code(StatusCode::OK, &shown).await;
        }
        Err(error) => error,
    };
    let (status, text) = match &error {
        Error::CredentialsInvalid | Error::Issuer(IssuerError::SubjectRefused) | Error::Password { .. } => {
            (StatusCode::UNPROCESSABLE_ENTITY, "Handle and password do not belong together, or you may not sign in.")
        }
        Error::RateLimited(_) => (StatusCode::TOO_MANY_REQUESTS, TOO_MANY),
        _ => return failed(&error),
    };
    let asked = match pages.asked(challenge).await {
        Ok(asked) => asked,
        Err(page) => return page,
    };
    let shown = Shown { challenge, cookie: &cookie, handle: &typed.handle, login: "", problem: text };
    let mut response = pages.form(status, &asked, &shown);
    if let Error::RateLimited(wait) = error {
        retry_after(&mut response, wait);
    }
    response
}

/// What is in a form.
struct Shown<'a> {
    challenge: &'a str,
    cookie: &'a str,
    handle: &'a str,
    /// The login whose second step is asked for; empty for the first.
    login: &'a str,
    problem: &'a str,
}

impl Pages {
    /// Who wants someone to sign in, or a page that says that nobody does.
    async fn asked(&self, challenge: &str) -> Result<Asked, Response> {
        if challenge.is_empty() || challenge.len() > CHALLENGE_MAX_BYTES {
            return Err(problem(StatusCode::FORBIDDEN, OVER));
        }
        self.accounts.login_request(challenge).await.map_err(|error| failed(&error))
    }

    fn form(&self, status: StatusCode, asked: &Asked, shown: &Shown<'_>) -> Response {
        let token = self.form_key.token(shown.cookie, shown.challenge);
        let template = SignInPage {
            client_name: &asked.client_name,
            problem: shown.problem,
            challenge: shown.challenge,
            token: &token,
            handle: shown.handle,
        };
        let mut response = rendered(status, TITLE, &template, &asked.redirect_origin);
        let set = html::host_cookie(COOKIE, shown.cookie, None);
        response.headers_mut().extend(set.map(|set| (SET_COOKIE, set)));
        response
    }

    /// Shows the form for the second step.
    async fn ask_code(&self, status: StatusCode, shown: &Shown<'_>) -> Response {
        let asked = match self.asked(shown.challenge).await {
            Ok(asked) => asked,
            Err(page) => return page,
        };
        let token = self.form_key.token(shown.cookie, shown.challenge);
        let keys = self.accounts.login_has_keys(&LoginToken::read(shown.login.to_owned())).await.unwrap_or_default();
        let template = SecondFactorPage {
            keys,
            client_name: &asked.client_name,
            problem: shown.problem,
            challenge: shown.challenge,
            token: &token,
            login: shown.login,
        };
        rendered(status, TITLE, &template, &asked.redirect_origin)
    }

    /// Takes the form of the second step.
    async fn take_code(&self, typed: Typed, cookie: String, origin: Origin) -> Response {
        let (challenge, token) = (typed.login_challenge, LoginToken::read(typed.login));
        let browser = Browser(cookie);
        let code = Code::typed(&typed.code);
        let step = self.accounts.submit_code_for_request(&token, code, &browser, challenge.clone(), origin).await;
        let error = match step {
            Ok(address) => return html::see_other(&address),
            Err(error) => error,
        };
        let mut shown =
            Shown { challenge: &challenge, cookie: &browser.0, handle: "", login: token.text(), problem: "" };
        match error {
            Error::CodeInvalid => {
                shown.problem = "This code is wrong, expired or used. Try the next one that the app shows.";
                self.ask_code(StatusCode::UNPROCESSABLE_ENTITY, &shown).await
            }
            Error::RateLimited(wait) => {
                shown.problem = TOO_MANY;
                let mut response = self.ask_code(StatusCode::TOO_MANY_REQUESTS, &shown).await;
                retry_after(&mut response, wait);
                response
            }
            // The password was right long ago, or in another browser, or is another by now.
            Error::LoginOver
            | Error::LoginStep
            | Error::CredentialsInvalid
            | Error::Issuer(IssuerError::SubjectRefused) => match self.asked(&challenge).await {
                Ok(asked) => {
                    let problem = "That took too long, or something has changed. Sign in once more.";
                    self.form(StatusCode::UNPROCESSABLE_ENTITY, &asked, &Shown { login: "", problem, ..shown })
                }
                Err(page) => page,
            },
            error => failed(&error),
        }
    }
}

/// The page for an error that the person cannot mend by typing something else.
fn failed(error: &Error) -> Response {
    if matches!(error, Error::Issuer(IssuerError::RequestUnknown)) {
        return problem(StatusCode::FORBIDDEN, OVER);
    }
    // Logs what nobody expected.
    let status = match error.fault().into_status(crate::error::DOMAIN).code() {
        tonic::Code::Internal | tonic::Code::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
        tonic::Code::InvalidArgument => StatusCode::BAD_REQUEST,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut response = problem(status, "This does not work at the moment. Try again in a little while.");
    retry_after(&mut response, Duration::from_secs(1));
    response
}

fn problem(status: StatusCode, problem: &str) -> Response {
    rendered(status, "This does not work", &ProblemPage { problem }, "")
}

fn rendered(status: StatusCode, title: &'static str, template: &impl Template, leads_to: &str) -> Response {
    match template.render() {
        Ok(main) => html::page(status, title, &main, leads_to),
        Err(error) => {
            flaghoist_runtime::fault::log_chain("writing a page", &error);
            html::page(StatusCode::INTERNAL_SERVER_ERROR, title, "", "")
        }
    }
}

fn retry_after(response: &mut Response, wait: Duration) {
    let seconds = wait.as_millis().div_ceil(1000);
    response.headers_mut().extend(HeaderValue::try_from(seconds.to_string()).ok().map(|wait| (RETRY_AFTER, wait)));
}
