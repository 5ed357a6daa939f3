//! Changing the password.

use askama::Template;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode};
use axum::response::Response;
use flaghoist_runtime::html::Texts;

use super::super::{Pages, bad_password, retry_after};
use super::{Member, Note, Place};
use crate::error::Error;
use crate::password::Password;

#[derive(Template)]
#[template(path = "account/password.html")]
struct PasswordPage<'a> {
    t: &'static Texts,
    token: &'a str,
    problem: &'a str,
    handle: &'a str,
}

pub(super) async fn show(State(pages): State<Pages>, request: Request<Body>) -> Response {
    match Member::of(pages, request, Place::Password).await {
        Ok(member) => shown(&member, StatusCode::OK, "").await,
        Err(response) => response,
    }
}

pub(super) async fn submit(State(pages): State<Pages>, request: Request<Body>) -> Response {
    let (member, mut fields) = match Member::with_form(pages, request, Place::Password).await {
        Ok(sent) => sent,
        Err(response) => return response,
    };
    let mut typed = |name| Password::read(fields.remove(name).unwrap_or_default());
    let (current, new) = (typed("current"), typed("new"));
    let (accounts, session) = (&member.pages.accounts, member.caller.session);
    let t = member.t();
    match accounts.change_password(member.user, session, current, new, member.origin()).await {
        Ok(()) => member.go(&Note::Password.at(Place::Security)),
        Err(Error::CredentialsInvalid | Error::Password { field: "current_password", .. }) => {
            shown(&member, StatusCode::UNPROCESSABLE_ENTITY, t.password_wrong).await
        }
        Err(Error::Password { source, .. }) => {
            shown(&member, StatusCode::UNPROCESSABLE_ENTITY, bad_password(t, &source)).await
        }
        Err(Error::RateLimited(wait)) => {
            let mut response = shown(&member, StatusCode::TOO_MANY_REQUESTS, t.wait_a_little).await;
            retry_after(&mut response, wait);
            response
        }
        Err(error) => member.failed(&error),
    }
}

async fn shown(member: &Member, status: StatusCode, problem: &str) -> Response {
    match member.pages.accounts.get(member.user).await {
        Ok(account) => {
            let handle = account.handle.as_str();
            let template = PasswordPage { t: member.t(), token: &member.token, problem, handle };
            member.page(status, Place::Password, &template, None)
        }
        Err(error) => member.failed(&error),
    }
}
