//! Who someone is to others, and how they are reached.

use askama::Template;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode};
use axum::response::Response;
use flaghoist_runtime::html::Texts;

use super::super::Pages;
use super::{Member, Note, Place, contacts};
use crate::accounts::Typed;
use crate::contact::ContactKind;
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
    contacts: Vec<contacts::Row>,
}

/// What was wrong with what was sent.
#[derive(Clone, Copy)]
pub(super) enum Wrong<'a> {
    Nothing,
    Name { typed: &'a str, problem: &'static str },
    Contact { kind: ContactKind, typed: &'a str, problem: &'static str },
}

pub(super) async fn show(State(pages): State<Pages>, request: Request<Body>) -> Response {
    match Member::of(pages, request, Place::Profile).await {
        Ok(member) => shown(&member, StatusCode::OK, Wrong::Nothing).await,
        Err(response) => response,
    }
}

pub(super) async fn submit(State(pages): State<Pages>, request: Request<Body>) -> Response {
    let (member, fields) = match Member::with_form(pages, request, Place::Profile).await {
        Ok(sent) => sent,
        Err(response) => return response,
    };
    if let Some(decision) = fields.get("decision") {
        return contacts::submit(&member, decision, &fields).await;
    }
    let name = fields.get("name").map_or("", String::as_str);
    let typed = Typed { display_name: Some(name.to_owned()), ..Typed::default() };
    match member.pages.accounts.update(member.user, typed).await {
        Ok(_) => member.go(&Note::Saved.at(Place::Profile)),
        Err(Error::DisplayName(_)) => {
            let wrong = Wrong::Name { typed: name, problem: member.t().name_bad };
            shown(&member, StatusCode::UNPROCESSABLE_ENTITY, wrong).await
        }
        Err(error) => member.failed(&error),
    }
}

pub(super) async fn shown(member: &Member, status: StatusCode, wrong: Wrong<'_>) -> Response {
    let accounts = &member.pages.accounts;
    let (account, contacts) = match tokio::try_join!(accounts.get(member.user), accounts.contacts(member.user)) {
        Ok(found) => found,
        Err(error) => return member.failed(&error),
    };
    let t = member.t();
    let note = match wrong {
        Wrong::Nothing => Note::of(member.query.as_deref()).map_or("", |note| note.text(t)),
        _ => "",
    };
    let (name, problem) = match wrong {
        Wrong::Name { typed, problem } => (typed, problem),
        _ => (account.display_name.as_str(), ""),
    };
    let template = ProfilePage {
        t,
        token: &member.token,
        note,
        problem,
        name,
        handle: account.handle.as_str(),
        contacts: contacts::rows(member, &contacts, wrong),
    };
    member.page(status, Place::Profile, &template, None)
}
