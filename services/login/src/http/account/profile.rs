//! Who someone is to others.

use askama::Template;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode};
use axum::response::Response;
use flaghoist_runtime::html::Texts;

use super::super::Pages;
use super::{Member, Note, Place};
use crate::accounts::Typed;
use crate::error::Error;

#[derive(Template)]
#[template(path = "account/profile.html")]
struct ProfilePage<'a> {
    t: &'static Texts,
    token: &'a str,
    note: &'a str,
    problem: &'a str,
    name: &'a str,
    handle: &'a str,
}

pub(super) async fn show(State(pages): State<Pages>, request: Request<Body>) -> Response {
    match Member::of(pages, request, Place::Profile).await {
        Ok(member) => shown(&member, StatusCode::OK, None, "").await,
        Err(response) => response,
    }
}

pub(super) async fn submit(State(pages): State<Pages>, request: Request<Body>) -> Response {
    let (member, fields) = match Member::with_form(pages, request, Place::Profile).await {
        Ok(sent) => sent,
        Err(response) => return response,
    };
    let name = fields.get("name").map_or("", String::as_str);
    let typed = Typed { display_name: Some(name.to_owned()), ..Typed::default() };
    match member.pages.accounts.update(member.user, typed).await {
        Ok(_) => member.go(&Note::Saved.at(Place::Profile)),
        Err(Error::DisplayName(_)) => {
            let problem = member.t().name_bad;
            shown(&member, StatusCode::UNPROCESSABLE_ENTITY, Some(name), problem).await
        }
        Err(error) => member.failed(&error),
    }
}

async fn shown(member: &Member, status: StatusCode, typed: Option<&str>, problem: &str) -> Response {
    let account = match member.pages.accounts.get(member.user).await {
        Ok(account) => account,
        Err(error) => return member.failed(&error),
    };
    let t = member.t();
    let note = Note::of(member.query.as_deref()).map_or("", |note| note.text(t));
    let name = typed.unwrap_or(account.display_name.as_str());
    let template = ProfilePage { t, token: &member.token, note, problem, name, handle: account.handle.as_str() };
    member.page(status, Place::Profile, &template, None)
}
