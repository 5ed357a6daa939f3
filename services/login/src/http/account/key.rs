//! Adding a security key or a passkey.

use askama::Template;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode};
use axum::response::Response;
use flaghoist_runtime::html::Texts;
use serde_json::json;

use super::super::{Pages, SCRIPT_PATH, json};
use super::{Member, Note, Place};
use crate::account::DisplayName;
use crate::accounts::Owner;
use crate::error::Error;

#[derive(Template)]
#[template(path = "account/key.html")]
struct KeyPage<'a> {
    t: &'static Texts,
    token: &'a str,
    problem: &'a str,
    name: &'a str,
    passkey: bool,
}

pub(super) async fn show(State(pages): State<Pages>, request: Request<Body>) -> Response {
    let member = match Member::of(pages, request, Place::Key).await {
        Ok(member) => member,
        Err(response) => return response,
    };
    match member.owner().await {
        Ok(_) => shown(&member, StatusCode::OK, "", "", true),
        Err(response) => response,
    }
}

pub(super) async fn submit(State(pages): State<Pages>, request: Request<Body>) -> Response {
    let (member, fields) = match Member::with_form(pages, request, Place::Key).await {
        Ok(sent) => sent,
        Err(response) => return response,
    };
    let owner = match member.owner().await {
        Ok(owner) => owner,
        Err(response) => return response,
    };
    let field = |name: &str| fields.get(name).map_or("", String::as_str);
    let (name, passkey) = (field("name"), field("kind") != "second");
    if field("decision") == "start_key" {
        return start(&member, owner, name, passkey).await;
    }
    let t = member.t();
    let named = match DisplayName::read(name) {
        Ok(named) => named.into_string(),
        Err(_) => return shown(&member, StatusCode::UNPROCESSABLE_ENTITY, t.name_bad, name, passkey),
    };
    let added = member.pages.accounts.finish_key_registration(owner, field("credential"), named, member.address).await;
    let problem = match added {
        Ok((_, codes)) if codes.is_empty() => return member.go(&Note::Key.at(Place::Security)),
        Ok((_, codes)) => return member.codes(t.key_added, &codes),
        Err(Error::KeyKnown) => t.key_known,
        Err(Error::KeysLimit) => t.key_full,
        Err(Error::Key(_) | Error::RegistrationUnknown) => t.key_refused,
        Err(error) => return member.failed(&error),
    };
    shown(&member, StatusCode::UNPROCESSABLE_ENTITY, problem, name, passkey)
}

/// Says to the script what the key is to be asked.
async fn start(member: &Member, owner: Owner, name: &str, passkey: bool) -> Response {
    if DisplayName::read(name).is_err() {
        return json(StatusCode::UNPROCESSABLE_ENTITY, &json!({"problem": member.t().name_bad}));
    }
    let started = member.pages.accounts.start_key_registration(owner, passkey).await;
    match started.map(|options| serde_json::from_str::<serde_json::Value>(&options)) {
        Ok(Ok(options)) => json(StatusCode::OK, &json!({"options": options})),
        Ok(Err(_)) => json(StatusCode::INTERNAL_SERVER_ERROR, &json!({"problem": member.t().try_later})),
        Err(error) => member.failed(&error),
    }
}

fn shown(member: &Member, status: StatusCode, problem: &str, name: &str, passkey: bool) -> Response {
    let template = KeyPage { t: member.t(), token: &member.token, problem, name, passkey };
    member.page(status, Place::Key, &template, Some(SCRIPT_PATH))
}
