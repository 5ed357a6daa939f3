//! `/oauth2/device_authorization` and `/device` (RFC 8628): a device gets its codes, and its person types the short one.

use askama::Template;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::SET_COOKIE;
use axum::http::{Request, StatusCode};
use axum::response::Response;
use flaghoist_runtime::html::{self, Language, Texts};
use serde_json::json;

use super::browser::{BROWSER_COOKIE, Visit, problem, rendered, reply, stopped};
use super::error::OAuthError;
use super::form::Form;
use super::{Endpoints, json};
use crate::authorization::{first, repeats};
use crate::flow::{DEVICE_INTERVAL, DEVICE_LIFETIME, Typed, Visitor};

#[derive(Template)]
#[template(path = "device.html")]
struct CodePage<'a> {
    t: &'static Texts,
    token: &'a str,
    user_code: &'a str,
    problem: &'a str,
}

/// Gives a device its codes.
pub(super) async fn begin(State(endpoints): State<Endpoints>, request: Request<Body>) -> Result<Response, OAuthError> {
    let form = Form::read(request, endpoints.trusted_hops).await?;
    let issuer = &endpoints.issuer;
    let client = form.authenticate(issuer).await?;
    let codes = issuer.authorize_device(&client, form.get("scope").unwrap_or_default(), &form.address).await?;
    Ok(json(&json!({
        "device_code": codes.device_code.text(),
        "user_code": codes.user_code,
        "verification_uri": codes.verification_uri,
        "verification_uri_complete": codes.verification_uri_complete,
        "expires_in": DEVICE_LIFETIME.as_secs(),
        "interval": DEVICE_INTERVAL.as_secs(),
    })))
}

/// Shows the page, and takes the code that was typed. A code in the address is only written into the page: whoever sent the link is not
/// who decides.
pub(super) async fn page(State(endpoints): State<Endpoints>, request: Request<Body>) -> Response {
    let Visit { parameters, posted, visitor, language } = match Visit::read(request, endpoints.trusted_hops).await {
        Ok(visit) => visit,
        Err(page) => return page,
    };
    if repeats(&parameters) {
        return problem(language, StatusCode::BAD_REQUEST, "a parameter is there twice");
    }
    let typed = first(&parameters, "user_code").unwrap_or_default();
    if !posted {
        return shown(&endpoints, language, &visitor, StatusCode::OK, typed, false);
    }
    let token = first(&parameters, "token").unwrap_or_default();
    match endpoints.issuer.enter_user_code(typed, token, &visitor).await {
        Ok(Typed::Found(found)) => reply(&endpoints, language, Ok(found)),
        Ok(Typed::Unknown) => shown(&endpoints, language, &visitor, StatusCode::UNPROCESSABLE_ENTITY, "", true),
        Err(stop) => stopped(language, stop),
    }
}

fn shown(
    endpoints: &Endpoints,
    language: Language,
    visitor: &Visitor,
    status: StatusCode,
    user_code: &str,
    unknown: bool,
) -> Response {
    let t = language.texts();
    let page = endpoints.issuer.code_page(visitor);
    let user_code: String = user_code.chars().take(16).collect();
    let problem = if unknown { t.device_unknown } else { "" };
    let template = CodePage { t, token: &page.token, user_code: &user_code, problem };
    let mut response = rendered(language, status, t.connect_device, &template, "");
    let cookie = page.browser.and_then(|secret| html::host_cookie(BROWSER_COOKIE, secret.text(), None));
    response.headers_mut().extend(cookie.map(|cookie| (SET_COOKIE, cookie)));
    response
}
