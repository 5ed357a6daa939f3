//! The page on which people sign in for an application that has sent them to the issuer: a form for the password, one for a second
//! factor, and a security key or passkey for either. Each is bound to the browser and to the request that it came with.

use askama::Template;
use axum::body::Body;
use axum::extract::{FromRequest as _, Query, State};
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::Response;
use flaghoist_runtime::html::{self, Language, Page, Texts};
use serde::Deserialize;
use serde_json::json;

use super::{FormKey, KNOWN_COOKIE, Pages, SCRIPT_PATH, failed, json, origin, problem, rendered, retry_after, unread};
use crate::accounts::{Accepted, Browser, Code, PageSignIn, PageStep};
use crate::contact::ContactKind;
use crate::error::Error;
use crate::history::Origin;
use crate::issuer::{Asked, IssuerError};
use crate::login_token::LoginToken;
use crate::password::Password;
use crate::throttle::KNOWN_FOR;

/// Where the page is. The issuer sends browsers there.
pub(super) const PATH: &str = "/login";

/// The cookie that a form is bound to.
const COOKIE: &str = "__Host-flaghoist-login";

/// The longest challenge that is passed on.
const CHALLENGE_MAX_BYTES: usize = 128;

/// What the issuer sends a browser with.
#[derive(Deserialize)]
pub(super) struct Sent {
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
    /// What a security key has answered, as JSON.
    #[serde(default)]
    credential: String,
    #[serde(default)]
    decision: String,
}

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignInPage<'a> {
    t: &'static Texts,
    client_name: &'a str,
    problem: &'a str,
    challenge: &'a str,
    token: &'a str,
    login: &'a str,
    handle: &'a str,
    /// Whether a forgotten password can be set anew.
    resets: bool,
}

#[derive(Template)]
#[template(path = "second_factor.html")]
struct SecondFactorPage<'a> {
    t: &'static Texts,
    /// Whether the person has an authenticator app.
    app: bool,
    /// Whether they have security keys.
    keys: bool,
    client_name: &'a str,
    problem: &'a str,
    challenge: &'a str,
    token: &'a str,
    login: &'a str,
}

/// Shows the form.
pub(super) async fn show(
    State(pages): State<Pages>,
    headers: HeaderMap,
    sent: Result<Query<Sent>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let language = Language::preferred(&headers);
    let Ok(Query(Sent { login_challenge })) = sent else {
        return problem(language, StatusCode::BAD_REQUEST, language.texts().address_malformed);
    };
    let known = html::cookie(&headers, COOKIE).filter(|cookie| FormKey::made_here(cookie)).map(str::to_owned);
    let visit = Visit { pages, language, challenge: login_challenge, cookie: known.unwrap_or_else(FormKey::cookie) };
    match visit.asked().await {
        Ok(asked) => visit.form(StatusCode::OK, &asked, &asked.login_hint, None),
        Err(page) => page,
    }
}

/// Takes the form.
pub(super) async fn submit(State(pages): State<Pages>, request: Request<Body>) -> Response {
    let language = Language::preferred(request.headers());
    let origin = origin(&pages, &request);
    let cookie = html::cookie(request.headers(), COOKIE).map(str::to_owned);
    let typed = match axum::Form::<Typed>::from_request(request, &()).await {
        Ok(axum::Form(typed)) => typed,
        Err(rejection) => return unread(language, &rejection),
    };
    // Another site can send this form, but neither reads the token nor has the cookie sent along.
    let opens = |cookie: &String| pages.form_key.opens(cookie, &typed.login_challenge, &typed.token);
    let Some(cookie) = cookie.filter(opens) else {
        return problem(language, StatusCode::FORBIDDEN, language.texts().form_foreign);
    };
    let visit = Visit { pages, language, challenge: typed.login_challenge.clone(), cookie };
    match typed.decision.as_str() {
        "cancel" => match visit.pages.accounts.refuse_login_request(&visit.challenge).await {
            Ok(address) => html::see_other(&address),
            Err(error) => failed(language, &error),
        },
        "start_key" => visit.start_key(&typed, origin.address).await,
        "finish_key" => visit.take_key(&typed, origin).await,
        _ if !typed.login.is_empty() => visit.take_code(typed, origin).await,
        _ => visit.take_password(typed, origin).await,
    }
}

/// Sends a browser on whose person has signed in, and lets it be known again.
fn goes_on(accepted: &Accepted) -> Response {
    let mut response = html::see_other(&accepted.address);
    let set = html::host_cookie(KNOWN_COOKIE, &accepted.browser.cookie(), Some(KNOWN_FOR));
    response.headers_mut().extend(set.map(|set| (SET_COOKIE, set)));
    response
}

/// A browser with its challenge.
struct Visit {
    pages: Pages,
    /// The one that the browser prefers.
    language: Language,
    challenge: String,
    cookie: String,
}

impl Visit {
    fn browser(&self) -> Browser {
        Browser(self.cookie.clone())
    }

    /// Who wants someone to sign in, or a page that says that nobody does.
    async fn asked(&self) -> Result<Asked, Response> {
        if self.challenge.is_empty() || self.challenge.len() > CHALLENGE_MAX_BYTES {
            return Err(problem(self.language, StatusCode::FORBIDDEN, self.language.texts().sign_in_over));
        }
        let asked = self.pages.accounts.login_request(&self.challenge).await;
        asked.map_err(|error| failed(self.language, &error))
    }

    /// The language of the application's choice, or else the browser's.
    fn language(&self, asked: &Asked) -> Language {
        Language::chosen(&asked.ui_locales).unwrap_or(self.language)
    }

    /// The form for the first step, with what was wrong with the one before.
    fn form(&self, status: StatusCode, asked: &Asked, handle: &str, wrong: Option<Wrong>) -> Response {
        let language = self.language(asked);
        let t = language.texts();
        let token = self.pages.form_key.token(&self.cookie, &self.challenge);
        let template = SignInPage {
            t,
            client_name: &asked.client_name,
            problem: wrong.map_or("", |wrong| wrong.text(t)),
            challenge: &self.challenge,
            token: &token,
            login: "",
            handle,
            resets: self.pages.accounts.reaches(ContactKind::Email),
        };
        let page = Page::new(status, language, t.sign_in, "");
        let page = Page { leads_to: &asked.redirect_origin, script: Some(SCRIPT_PATH), ..page };
        let mut response = rendered(page, &template);
        let set = html::host_cookie(COOKIE, &self.cookie, None);
        response.headers_mut().extend(set.map(|set| (SET_COOKIE, set)));
        response
    }

    /// The form for the first step, which has to be taken once more.
    async fn again(&self, status: StatusCode, handle: &str, wrong: Wrong) -> Response {
        match self.asked().await {
            Ok(asked) => self.form(status, &asked, handle, Some(wrong)),
            Err(page) => page,
        }
    }

    /// The form for the second step.
    async fn ask_second(&self, status: StatusCode, login: &LoginToken, wrong: Option<Wrong>) -> Response {
        let asked = match self.asked().await {
            Ok(asked) => asked,
            Err(page) => return page,
        };
        let language = self.language(&asked);
        let t = language.texts();
        let token = self.pages.form_key.token(&self.cookie, &self.challenge);
        let factors = self.pages.accounts.factors_of_login(login).await.unwrap_or_default();
        let template = SecondFactorPage {
            t,
            // Of a login that is over nothing is known.
            app: factors.totp.is_some() || factors.keys == 0,
            keys: factors.keys > 0,
            client_name: &asked.client_name,
            problem: wrong.map_or("", |wrong| wrong.text(t)),
            challenge: &self.challenge,
            token: &token,
            login: login.text(),
        };
        let page = Page::new(status, language, t.confirm, "");
        let script = template.keys.then_some(SCRIPT_PATH);
        rendered(Page { leads_to: &asked.redirect_origin, script, ..page }, &template)
    }

    /// Takes the form of the first step.
    async fn take_password(&self, typed: Typed, origin: Origin) -> Response {
        let wanted = PageSignIn {
            // What a form adds unseen, such as a space by the keyboard of a phone, is none of a handle.
            handle: typed.handle.trim().to_owned(),
            password: Password::read(typed.password),
            challenge: self.challenge.clone(),
            browser: self.browser(),
            origin,
        };
        match self.pages.accounts.sign_in_for_request(wanted).await {
            Ok(PageStep::Done(accepted)) => goes_on(&accepted),
            Ok(PageStep::SecondFactor(login)) => self.ask_second(StatusCode::OK, &login, None).await,
            Err(Error::RateLimited(wait)) => {
                let mut response = self.again(StatusCode::TOO_MANY_REQUESTS, &typed.handle, Wrong::TooMany).await;
                retry_after(&mut response, wait);
                response
            }
            Err(error) => match Wrong::of(&error) {
                Some(wrong) => {
                    let wrong = if matches!(wrong, Wrong::Late) { Wrong::Credentials } else { wrong };
                    self.again(StatusCode::UNPROCESSABLE_ENTITY, &typed.handle, wrong).await
                }
                None => failed(self.language, &error),
            },
        }
    }

    /// Takes the form of the second step.
    async fn take_code(&self, typed: Typed, origin: Origin) -> Response {
        let (login, code) = (LoginToken::read(typed.login), Code::typed(&typed.code));
        let (accounts, challenge) = (&self.pages.accounts, self.challenge.clone());
        let step = accounts.submit_code_for_request(&login, code, &self.browser(), challenge, origin).await;
        self.second_step(&login, step, Wrong::Code).await
    }

    /// Takes the answer of a key: in place of the password, or after it.
    async fn take_key(&self, typed: &Typed, origin: Origin) -> Response {
        let login = LoginToken::read(typed.login.clone());
        let (accounts, challenge) = (&self.pages.accounts, self.challenge.clone());
        // Which step it was is not known any more once it was taken.
        let second = accounts.factors_of_login(&login).await.is_ok_and(|factors| factors.keys > 0);
        let browser = self.browser();
        let step = accounts.finish_key_for_request(&login, &typed.credential, &browser, challenge, origin).await;
        match step {
            Err(Error::CodeInvalid | Error::Key(_)) if !second => {
                self.again(StatusCode::UNPROCESSABLE_ENTITY, "", Wrong::Key).await
            }
            step => self.second_step(&login, step, Wrong::Key).await,
        }
    }

    /// What a browser gets after its second step.
    async fn second_step(&self, login: &LoginToken, step: Result<Accepted, Error>, refused: Wrong) -> Response {
        match step {
            Ok(accepted) => goes_on(&accepted),
            Err(Error::CodeInvalid | Error::Key(_)) => {
                self.ask_second(StatusCode::UNPROCESSABLE_ENTITY, login, Some(refused)).await
            }
            Err(Error::RateLimited(wait)) => {
                let mut response = self.ask_second(StatusCode::TOO_MANY_REQUESTS, login, Some(Wrong::TooMany)).await;
                retry_after(&mut response, wait);
                response
            }
            Err(error) => match Wrong::of(&error) {
                Some(wrong) => self.again(StatusCode::UNPROCESSABLE_ENTITY, "", wrong).await,
                None => failed(self.language, &error),
            },
        }
    }

    /// Says to the script what a key is to be asked.
    async fn start_key(&self, typed: &Typed, address: std::net::IpAddr) -> Response {
        let accounts = &self.pages.accounts;
        let login = (!typed.login.is_empty()).then(|| LoginToken::read(typed.login.clone()));
        let error = match accounts.start_key_for_request(login, &self.browser(), &self.challenge, address).await {
            Ok((login, options)) => return json(StatusCode::OK, &json!({"login": login.text(), "options": options})),
            Err(error) => error,
        };
        let t = self.language.texts();
        let (status, text) = match &error {
            Error::RateLimited(_) => (StatusCode::TOO_MANY_REQUESTS, t.wait_a_little),
            Error::Issuer(IssuerError::RequestUnknown) => (StatusCode::FORBIDDEN, t.sign_in_over),
            error if Wrong::of(error).is_some() => (StatusCode::UNPROCESSABLE_ENTITY, t.took_too_long),
            error => {
                // Logs what nobody expected.
                let _ = error.fault();
                (StatusCode::SERVICE_UNAVAILABLE, t.try_later)
            }
        };
        let mut response = json(status, &json!({"problem": text}));
        if let Error::RateLimited(wait) = error {
            retry_after(&mut response, wait);
        }
        response
    }
}

/// What a person can mend.
#[derive(Clone, Copy, Debug)]
enum Wrong {
    Credentials,
    TooMany,
    Code,
    Key,
    /// The password was right long ago, or in another browser, or is another by now.
    Late,
}

impl Wrong {
    /// What the first step can mend.
    fn of(error: &Error) -> Option<Self> {
        match error {
            Error::Password { .. } => Some(Self::Credentials),
            Error::CredentialsInvalid
            | Error::Issuer(IssuerError::SubjectRefused)
            | Error::LoginOver
            | Error::LoginStep
            | Error::FactorMissing => Some(Self::Late),
            _ => None,
        }
    }

    fn text(self, t: &'static Texts) -> &'static str {
        match self {
            Self::Credentials => t.credentials_wrong,
            Self::TooMany => t.wait_a_little,
            Self::Code => t.code_wrong,
            Self::Key => t.key_refused,
            Self::Late => t.took_too_long,
        }
    }
}
