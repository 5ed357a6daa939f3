//! What browsers bring: the parameters of a query or a form, and their cookies; and what they get: pages and redirects.

use askama::Template;
use axum::body::Body;
use axum::http::header::SET_COOKIE;
use axum::http::{Method, Request, StatusCode};
use axum::response::Response;
use flaghoist_runtime::html::{self, Language, Page, Texts};
use flaghoist_runtime::server::{ClientAddress, client_address};

use super::Endpoints;
use super::error::OAuthError;
use super::form::{Form, query_parameters};
use crate::authorization::first;
use crate::error::Error;
use crate::flow::{Destination, Question, Reply, Stop, Visitor};

/// The cookie to which the requests of a browser are bound.
pub(super) const BROWSER_COOKIE: &str = "__Host-flaghoist-browser";

/// The cookie of who is signed in.
pub(super) const SESSION_COOKIE: &str = "__Host-flaghoist-session";

/// The longest query that is read.
const QUERY_MAX_BYTES: usize = 32 * 1024;

/// A request of a browser.
pub(super) struct Visit {
    /// Of the query, or of the form that was posted; some may be there twice.
    pub(super) parameters: Vec<(String, String)>,
    pub(super) posted: bool,
    pub(super) visitor: Visitor,
    /// The one that its pages are written in.
    pub(super) language: Language,
}

impl Visit {
    /// Reads a request. What is wrong with its form is answered by a page: nobody is trusted yet.
    pub(super) async fn read(request: Request<Body>, trusted_hops: u8) -> Result<Self, Response> {
        let [browser, session] =
            [BROWSER_COOKIE, SESSION_COOKIE].map(|name| html::cookie(request.headers(), name).map(str::to_owned));
        let address = match request.extensions().get::<ClientAddress>() {
            Some(_) => client_address(&request, trusted_hops).to_string(),
            None => String::new(),
        };
        let visitor = Visitor { browser, session, address };
        let preferred = Language::preferred(request.headers());
        let chosen = |parameters: &[(String, String)]| {
            first(parameters, "ui_locales").and_then(Language::chosen).unwrap_or(preferred)
        };
        if request.method() == Method::POST {
            let form = Form::read_repeated(request, trusted_hops).await;
            let parameters = form.map_err(|error| error.into_page(preferred))?.into_parameters();
            return Ok(Self { language: chosen(&parameters), parameters, posted: true, visitor });
        }
        let query = request.uri().query().unwrap_or_default();
        let parameters = (query.len() <= QUERY_MAX_BYTES).then(|| query_parameters(query)).flatten();
        let parameters = parameters.ok_or_else(|| {
            problem(preferred, StatusCode::BAD_REQUEST, "The address of this page is malformed, or longer than 32 KiB.")
        })?;
        Ok(Self { language: chosen(&parameters), parameters, posted: false, visitor })
    }
}

impl OAuthError {
    /// The same as a page.
    pub(super) fn into_page(self, language: Language) -> Response {
        problem(language, self.status(), self.description())
    }
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    t: &'static Texts,
    /// What the person can do.
    advice: &'static str,
    /// What is wrong, for whoever looks after the application.
    problem: &'a str,
}

#[derive(Template)]
#[template(path = "consent.html")]
struct ConsentPage<'a> {
    t: &'static Texts,
    client_name: &'a str,
    scopes: Vec<&'static str>,
    challenge: &'a str,
    user_code: Option<&'a str>,
}

#[derive(Template)]
#[template(path = "device_done.html")]
struct DeviceDone {
    t: &'static Texts,
    connected: bool,
}

/// A page that says what is wrong.
pub(super) fn problem(language: Language, status: StatusCode, problem: &str) -> Response {
    let t = language.texts();
    let advice = match status {
        StatusCode::FORBIDDEN => t.not_allowed,
        StatusCode::TOO_MANY_REQUESTS => t.wait_a_little,
        status if status.is_server_error() => t.try_later,
        _ => t.bad_request,
    };
    rendered(language, status, t.not_working, &ErrorPage { t, advice, problem }, "")
}

/// A page from a template.
pub(super) fn rendered(
    language: Language,
    status: StatusCode,
    title: &'static str,
    template: &impl Template,
    leads_to: &str,
) -> Response {
    match template.render() {
        Ok(main) => Page { leads_to, ..Page::new(status, language, title, &main) }.response(),
        Err(error) => {
            flaghoist_runtime::fault::log_chain("writing a page", &error);
            Page::new(StatusCode::INTERNAL_SERVER_ERROR, language, title, "").response()
        }
    }
}

/// What a browser gets.
pub(super) fn reply(endpoints: &Endpoints, language: Language, reply: Result<Reply, Stop>) -> Response {
    let Reply { to, browser, session } = match reply {
        Ok(reply) => reply,
        Err(stop) => return stopped(language, stop),
    };
    let mut response = match to {
        Destination::Address(address) => html::see_other(&address),
        Destination::Consent(question) => consent_page(language, &question),
        Destination::Device { connected } => {
            let t = language.texts();
            let title = if connected { t.connected } else { t.not_connected };
            rendered(language, StatusCode::OK, title, &DeviceDone { t, connected }, "")
        }
    };
    let lifetime = endpoints.issuer.settings.browser_absolute;
    let cookies = [(BROWSER_COOKIE, browser, None), (SESSION_COOKIE, session, Some(lifetime))];
    for (name, secret, lifetime) in cookies {
        let set = secret.and_then(|secret| html::host_cookie(name, secret.text(), lifetime));
        response.headers_mut().extend(set.map(|set| (SET_COOKIE, set)));
    }
    response
}

fn consent_page(preferred: Language, question: &Question) -> Response {
    let language = Language::chosen(&question.ui_locales).unwrap_or(preferred);
    let t = language.texts();
    let template = ConsentPage {
        t,
        client_name: &question.client.display_name,
        scopes: question.scopes.names().map(|scope| t.scope(scope)).collect(),
        challenge: &question.challenge,
        user_code: question.user_code.as_deref(),
    };
    rendered(language, StatusCode::OK, t.agree, &template, &question.redirect_origin)
}

pub(super) fn stopped(language: Language, stop: Stop) -> Response {
    match stop {
        Stop::Forbidden(text) => problem(language, StatusCode::FORBIDDEN, text),
        Stop::TooMany => problem(
            language,
            StatusCode::TOO_MANY_REQUESTS,
            "too many people are signing in from your network: try again in some minutes",
        ),
        Stop::TooManyCodes => problem(
            language,
            StatusCode::TOO_MANY_REQUESTS,
            "too many wrong codes: wait ten minutes, and begin again at the device",
        ),
        Stop::Failed(error) => failed(language, error),
    }
}

pub(super) fn failed(language: Language, error: Error) -> Response {
    OAuthError::from(error).into_page(language)
}
