//! What browsers bring: the parameters of a query or a form, and their cookies; and what they get: pages and redirects.

use askama::Template;
use axum::body::Body;
use axum::http::header::SET_COOKIE;
use axum::http::{Method, Request, StatusCode};
use axum::response::Response;
use flaghoist_runtime::html;
use flaghoist_runtime::server::{ClientAddress, client_address};

use super::Endpoints;
use super::error::OAuthError;
use super::form::{Form, query_parameters};
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
        if request.method() == Method::POST {
            let form = Form::read_repeated(request, trusted_hops).await.map_err(|error| error.into_page())?;
            return Ok(Self { parameters: form.into_parameters(), posted: true, visitor });
        }
        let query = request.uri().query().unwrap_or_default();
        let parameters = (query.len() <= QUERY_MAX_BYTES).then(|| query_parameters(query)).flatten();
        let parameters = parameters.ok_or_else(|| {
            problem(StatusCode::BAD_REQUEST, "The address of this page is malformed, or longer than 32 KiB.")
        })?;
        Ok(Self { parameters, posted: false, visitor })
    }
}

impl OAuthError {
    /// The same as a page.
    pub(super) fn into_page(self) -> Response {
        problem(self.status(), self.description())
    }
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    problem: &'a str,
}

#[derive(Template)]
#[template(path = "consent.html")]
struct ConsentPage<'a> {
    client_name: &'a str,
    scopes: Vec<&'static str>,
    challenge: &'a str,
    user_code: Option<&'a str>,
}

#[derive(Template)]
#[template(path = "device_done.html")]
struct DeviceDone {
    connected: bool,
}

/// A page that says what is wrong.
pub(super) fn problem(status: StatusCode, problem: &str) -> Response {
    rendered(status, "This does not work", &ErrorPage { problem }, "")
}

/// A page from a template.
pub(super) fn rendered(status: StatusCode, title: &'static str, template: &impl Template, leads_to: &str) -> Response {
    match template.render() {
        Ok(main) => html::page(status, title, &main, leads_to),
        Err(error) => {
            flaghoist_runtime::fault::log_chain("writing a page", &error);
            html::page(StatusCode::INTERNAL_SERVER_ERROR, title, "", "")
        }
    }
}

/// What a browser gets.
pub(super) fn reply(endpoints: &Endpoints, reply: Result<Reply, Stop>) -> Response {
    let Reply { to, browser, session } = match reply {
        Ok(reply) => reply,
        Err(stop) => return stopped(stop),
    };
    let mut response = match to {
        Destination::Address(address) => html::see_other(&address),
        Destination::Consent(question) => consent_page(&question),
        Destination::Device { connected } => {
            let title = if connected { "Connected" } else { "Not connected" };
            rendered(StatusCode::OK, title, &DeviceDone { connected }, "")
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

fn consent_page(question: &Question) -> Response {
    let template = ConsentPage {
        client_name: &question.client.display_name,
        scopes: question.scopes.names().map(meaning).collect(),
        challenge: &question.challenge,
        user_code: question.user_code.as_deref(),
    };
    rendered(StatusCode::OK, "Do you agree?", &template, &question.redirect_origin)
}

/// What a scope is to a person.
fn meaning(scope: &str) -> &'static str {
    match scope {
        "chat.read" => "read your conversations",
        "chat.send" => "write messages and manage your conversations as you",
        "admin" => "administer this installation as you, as far as you may",
        "openid" => "know that it is you",
        "profile" => "see your name and your handle",
        "email" => "see your email address",
        "phone" => "see your telephone number",
        "address" => "see your postal address",
        "offline_access" => "do so while you are away",
        _ => "something that this page cannot explain",
    }
}

pub(super) fn stopped(stop: Stop) -> Response {
    match stop {
        Stop::Forbidden(text) => problem(StatusCode::FORBIDDEN, text),
        Stop::TooMany => problem(
            StatusCode::TOO_MANY_REQUESTS,
            "too many people are signing in from your network: try again in some minutes",
        ),
        Stop::TooManyCodes => problem(
            StatusCode::TOO_MANY_REQUESTS,
            "too many wrong codes: wait ten minutes, and begin again at the device",
        ),
        Stop::Failed(error) => failed(error),
    }
}

pub(super) fn failed(error: Error) -> Response {
    OAuthError::from(error).into_page()
}
