//! The pages by which a forgotten password is set anew: a form that sends a link to the email address of an account, and the form that the
//! link opens. What is typed goes through the rules and limits of `accounts/resets.rs`: nobody learns whether there is such an account,
//! and a second factor is asked for as at a sign-in.

use askama::Template;
use axum::body::Body;
use axum::extract::{FromRequest as _, Query, State};
use axum::http::header::SET_COOKIE;
use axum::http::{Request, StatusCode};
use axum::response::Response;
use flaghoist_runtime::html::{self, Language, Page, Texts};
use serde::Deserialize;
use serde_json::json;

use super::{FormKey, Pages, SCRIPT_PATH, bad_password, failed, json, origin, problem, rendered, retry_after, unread};
use crate::accounts::{Code, ResetFactor};
use crate::contact::ContactKind;
use crate::error::Error;
use crate::factor::FactorKind;
use crate::history::Origin;
use crate::login_token::LoginToken;
use crate::password::Password;

/// Where the pages are. The links in messages lead there.
pub(super) const PATH: &str = "/reset";

/// The cookie that a form is bound to.
const COOKIE: &str = "__Host-flaghoist-reset";

/// For what the token of a form is derived from it.
const FORM: &str = "reset-form";

/// The longest secret that is looked for; ours have 43 letters.
const LINK_MAX_BYTES: usize = 128;

/// The longest handle or email address that is read, as in the contract.
const IDENTIFIER_MAX_CHARACTERS: usize = 320;

/// What a link says.
#[derive(Deserialize)]
struct Sent {
    /// The secret of the link.
    #[serde(default)]
    token: String,
}

/// What was typed. It has a password in it, so it is never shown.
#[derive(Deserialize)]
struct Typed {
    /// What proves that the form is one of this browser's.
    #[serde(default)]
    token: String,
    /// The secret of the link; empty in the form that asks for one.
    #[serde(default)]
    link: String,
    #[serde(default)]
    identifier: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    code: String,
    /// What a security key has answered, as JSON.
    #[serde(default)]
    credential: String,
    #[serde(default)]
    decision: String,
}

#[derive(Template)]
#[template(path = "reset/ask.html")]
struct AskPage<'a> {
    t: &'static Texts,
    token: &'a str,
    problem: &'a str,
    identifier: &'a str,
}

#[derive(Template)]
#[template(path = "reset/sent.html")]
struct SentPage {
    t: &'static Texts,
}

#[derive(Template)]
#[template(path = "reset/choose.html")]
struct ChoosePage<'a> {
    t: &'static Texts,
    token: &'a str,
    link: &'a str,
    problem: &'a str,
    handle: &'a str,
    /// Whether the person has an authenticator app.
    app: bool,
    /// Whether a code of any kind is taken.
    code: bool,
    /// Whether they have security keys.
    keys: bool,
}

#[derive(Template)]
#[template(path = "reset/done.html")]
struct DonePage {
    t: &'static Texts,
}

/// Shows the form that asks for a link, or the one that a link opens.
pub(super) async fn show(State(pages): State<Pages>, request: Request<Body>) -> Response {
    let language = Language::preferred(request.headers());
    let Ok(Query(Sent { token: link })) = Query::try_from_uri(request.uri()) else {
        return problem(language, StatusCode::BAD_REQUEST, language.texts().address_malformed);
    };
    let known = html::cookie(request.headers(), COOKIE).filter(|cookie| FormKey::made_here(cookie));
    let cookie = known.map_or_else(FormKey::cookie, str::to_owned);
    let origin = origin(&pages, &request);
    let visit = Visit { pages, language, cookie, origin, link };
    if visit.link.is_empty() {
        return visit.ask(StatusCode::OK, "", "");
    }
    if visit.link.len() > LINK_MAX_BYTES {
        return visit.over();
    }
    let counted = visit.pages.accounts.reset_asked(&LoginToken::read(visit.link.clone()), &visit.origin).await;
    visit.choose(StatusCode::OK, counted, "")
}

/// Takes either form.
pub(super) async fn submit(State(pages): State<Pages>, request: Request<Body>) -> Response {
    let language = Language::preferred(request.headers());
    let origin = origin(&pages, &request);
    let cookie = html::cookie(request.headers(), COOKIE).map(str::to_owned);
    let typed = match axum::Form::<Typed>::from_request(request, &()).await {
        Ok(axum::Form(typed)) => typed,
        Err(rejection) => return unread(language, &rejection),
    };
    // Another site can send this form, but neither reads the token nor has the cookie sent along.
    let opens = |cookie: &String| {
        FormKey::made_here(cookie) && pages.form_key.is_derived(FORM, &bound(cookie, &typed.link), &typed.token)
    };
    let Some(cookie) = cookie.filter(opens) else {
        return problem(language, StatusCode::FORBIDDEN, language.texts().form_foreign);
    };
    let visit = Visit { pages, language, cookie, origin, link: typed.link.clone() };
    match typed.decision.as_str() {
        _ if visit.link.is_empty() => visit.send(typed.identifier.trim()).await,
        "start_key" => visit.start_key().await,
        _ => visit.set(typed).await,
    }
}

/// What a form is bound to: the browser, and the link that it goes with. The cookie has a length of its own, so no two pairs read alike.
fn bound(cookie: &str, link: &str) -> String {
    format!("{cookie} {link}")
}

/// A browser with its link.
struct Visit {
    pages: Pages,
    language: Language,
    cookie: String,
    origin: Origin,
    /// The secret of the link; empty without one.
    link: String,
}

impl Visit {
    fn t(&self) -> &'static Texts {
        self.language.texts()
    }

    fn secret(&self) -> LoginToken {
        LoginToken::read(self.link.clone())
    }

    /// A page with a form, and the cookie that it is bound to.
    fn form(&self, page: Page<'_>, template: &impl Template) -> Response {
        let mut response = rendered(page, template);
        let set = html::host_cookie(COOKIE, &self.cookie, None);
        response.headers_mut().extend(set.map(|set| (SET_COOKIE, set)));
        response
    }

    /// The form that asks for a link, with what was wrong before.
    fn ask(&self, status: StatusCode, identifier: &str, wrong: &str) -> Response {
        let t = self.t();
        if !self.pages.accounts.reaches(ContactKind::Email) {
            return problem(self.language, StatusCode::FORBIDDEN, t.reset_unsent);
        }
        let token = self.pages.form_key.derived(FORM, &bound(&self.cookie, ""));
        let template = AskPage { t, token: &token, problem: wrong, identifier };
        self.form(Page::new(status, self.language, t.forgot, ""), &template)
    }

    /// The form that asks for a link, for a browser that came with one that is worth nothing.
    fn over(&self) -> Response {
        self.ask(StatusCode::FORBIDDEN, "", self.t().reset_over)
    }

    /// Sends a link, or nothing; the page is the same.
    async fn send(&self, identifier: &str) -> Response {
        let t = self.t();
        if identifier.is_empty() || identifier.chars().count() > IDENTIFIER_MAX_CHARACTERS {
            return self.ask(StatusCode::UNPROCESSABLE_ENTITY, "", t.reset_nobody);
        }
        // Before anyone is counted: nothing would come of it.
        if !self.pages.accounts.reaches(ContactKind::Email) {
            return self.ask(StatusCode::FORBIDDEN, "", "");
        }
        match self.pages.accounts.request_reset(identifier.to_owned(), self.origin.clone()).await {
            Ok(()) => rendered(Page::new(StatusCode::OK, self.language, t.reset_sent, ""), &SentPage { t }),
            Err(Error::RateLimited(wait)) => {
                let mut response = self.ask(StatusCode::TOO_MANY_REQUESTS, identifier, t.wait_a_little);
                retry_after(&mut response, wait);
                response
            }
            Err(error) => failed(self.language, &error),
        }
    }

    /// The form for the new password, if the link opens it.
    fn choose(&self, status: StatusCode, opened: Result<crate::accounts::ResetAsked, Error>, wrong: &str) -> Response {
        let t = self.t();
        let asked = match opened {
            Ok(asked) => asked,
            Err(Error::ResetOver) => return self.over(),
            Err(Error::RateLimited(wait)) => {
                let mut response = problem(self.language, StatusCode::TOO_MANY_REQUESTS, t.wait_a_little);
                retry_after(&mut response, wait);
                return response;
            }
            Err(error) => return failed(self.language, &error),
        };
        let token = self.pages.form_key.derived(FORM, &bound(&self.cookie, &self.link));
        let has = |kind| asked.factors.contains(&kind);
        let (app, keys) = (has(FactorKind::Totp), has(FactorKind::SecurityKey));
        let template = ChoosePage {
            t,
            token: &token,
            link: &self.link,
            problem: wrong,
            handle: &asked.handle,
            app,
            code: app || has(FactorKind::RecoveryCode),
            keys,
        };
        let page = Page::new(status, self.language, t.reset_choose, "");
        self.form(Page { script: keys.then_some(SCRIPT_PATH), ..page }, &template)
    }

    /// The form for the new password once more, for who has just been counted.
    async fn again(&self, status: StatusCode, wrong: &str) -> Response {
        let opened = self.pages.accounts.reset_opened(&self.secret()).await;
        self.choose(status, opened, wrong)
    }

    /// Sets the password.
    async fn set(&self, typed: Typed) -> Response {
        let t = self.t();
        let by_key = !typed.credential.is_empty();
        let factor = match typed.code.trim() {
            _ if by_key => Some(ResetFactor::Key(typed.credential)),
            "" => None,
            code => Some(ResetFactor::Code(Code::typed(code))),
        };
        let new = Password::read(typed.password);
        let wrong = match self.pages.accounts.reset_password(&self.secret(), new, factor, self.origin.clone()).await {
            Ok(()) => return self.done(),
            Err(Error::RateLimited(wait)) => {
                let mut response = self.again(StatusCode::TOO_MANY_REQUESTS, t.wait_a_little).await;
                retry_after(&mut response, wait);
                return response;
            }
            Err(Error::ResetOver) => return self.over(),
            Err(Error::Password { source, .. }) => bad_password(t, &source),
            Err(Error::ResetSecondFactor) => t.reset_second,
            Err(Error::CodeInvalid) if !by_key => t.code_wrong,
            // What was asked of a key is over after its first answer, and after a while.
            Err(Error::CodeInvalid | Error::Key(_) | Error::LoginStep | Error::FactorMissing) => t.reset_key_refused,
            Err(error) => return failed(self.language, &error),
        };
        self.again(StatusCode::UNPROCESSABLE_ENTITY, wrong).await
    }

    fn done(&self) -> Response {
        let t = self.t();
        let mut response = rendered(Page::new(StatusCode::OK, self.language, t.reset_done, ""), &DonePage { t });
        let gone = html::host_cookie(COOKIE, "", Some(std::time::Duration::ZERO));
        response.headers_mut().extend(gone.map(|gone| (SET_COOKIE, gone)));
        response
    }

    /// Says to the script what a key is to be asked.
    async fn start_key(&self) -> Response {
        let t = self.t();
        let started = self.pages.accounts.start_reset_key(&self.secret(), &self.origin).await;
        let (status, text, wait) = match started.map(|options| serde_json::from_str::<serde_json::Value>(&options)) {
            Ok(Ok(options)) => return json(StatusCode::OK, &json!({"options": options})),
            Ok(Err(_)) => (StatusCode::INTERNAL_SERVER_ERROR, t.try_later, None),
            Err(Error::RateLimited(wait)) => (StatusCode::TOO_MANY_REQUESTS, t.wait_a_little, Some(wait)),
            Err(Error::ResetOver) => (StatusCode::FORBIDDEN, t.reset_over, None),
            Err(Error::FactorMissing) => (StatusCode::UNPROCESSABLE_ENTITY, t.reset_key_refused, None),
            Err(error) => {
                // Logs what nobody expected.
                let _ = error.fault();
                (StatusCode::SERVICE_UNAVAILABLE, t.try_later, None)
            }
        };
        let mut response = json(status, &json!({"problem": text}));
        if let Some(wait) = wait {
            retry_after(&mut response, wait);
        }
        response
    }
}
