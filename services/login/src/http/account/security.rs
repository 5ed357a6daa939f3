//! How someone proves that it is them: the factors, listed, renamed and removed, and new recovery codes.

use askama::Template;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode};
use axum::response::Response;
use flaghoist_runtime::html::{Texts, filled};
use flaghoist_runtime::names::strict_uuid;

use super::super::Pages;
use super::date::date;
use super::member::Fields;
use super::{Member, Note, Place};
use crate::error::Error;

#[derive(Template)]
#[template(path = "account/security.html")]
struct SecurityPage<'a> {
    t: &'static Texts,
    token: &'a str,
    note: &'a str,
    problem: &'a str,
    /// The fields of a form that removes the last strong factor, to be sent once more on purpose.
    last: Vec<(&'a str, &'a str)>,
    /// When the app was added and used; empty without one.
    app: &'a str,
    keys: Vec<Key>,
    /// How many recovery codes are left; empty where none can be.
    codes: &'a str,
}

/// A security key as its owner sees it.
struct Key {
    id: String,
    name: String,
    passkey: bool,
    times: String,
}

pub(super) async fn show(State(pages): State<Pages>, request: Request<Body>) -> Response {
    let member = match Member::of(pages, request, Place::Security).await {
        Ok(member) => member,
        Err(response) => return response,
    };
    // What somebody can be asked for is nobody else's business, who found a browser signed in.
    match member.owner().await {
        Ok(_) => shown(&member, StatusCode::OK, "", Vec::new()).await,
        Err(response) => response,
    }
}

pub(super) async fn submit(State(pages): State<Pages>, request: Request<Body>) -> Response {
    let (member, fields) = match Member::with_form(pages, request, Place::Security).await {
        Ok(sent) => sent,
        Err(response) => return response,
    };
    match change(&member, &fields).await {
        Ok(response) => response,
        Err(Error::LastFactor) => {
            let again = ["decision", "key"].into_iter().filter_map(|name| Some((name, fields.get(name)?.as_str())));
            shown(&member, StatusCode::UNPROCESSABLE_ENTITY, "", again.collect()).await
        }
        Err(Error::DisplayName(_)) => {
            shown(&member, StatusCode::UNPROCESSABLE_ENTITY, member.t().name_bad, Vec::new()).await
        }
        // What is not there any more has been removed.
        Err(Error::KeyUnknown | Error::FactorMissing) => member.go(Place::Security.path()),
        Err(error) => member.failed(&error),
    }
}

async fn change(member: &Member, fields: &Fields) -> Result<Response, Error> {
    let field = |name: &str| fields.get(name).map_or("", String::as_str);
    let accounts = &member.pages.accounts;
    let owner = match member.owner().await {
        Ok(owner) => owner,
        Err(response) => return Ok(response),
    };
    let key = || strict_uuid(field("key")).ok_or(Error::KeyUnknown);
    let allow_last = field("allow_last") == "yes";
    let note = match field("decision") {
        "remove_app" => {
            accounts.delete_totp(owner, allow_last).await?;
            Note::Removed
        }
        "remove_key" => {
            accounts.delete_key(owner, key()?, allow_last).await?;
            Note::Removed
        }
        "rename_key" => {
            accounts.rename_key(owner, key()?, field("name")).await?;
            Note::Saved
        }
        "new_codes" => {
            let codes = accounts.create_recovery_codes(owner).await?;
            return Ok(member.codes("", &codes));
        }
        _ => return Ok(member.go(Place::Security.path())),
    };
    Ok(member.go(&note.at(Place::Security)))
}

async fn shown(member: &Member, status: StatusCode, problem: &str, last: Vec<(&str, &str)>) -> Response {
    let t = member.t();
    let accounts = &member.pages.accounts;
    let (factors, keys) = match tokio::try_join!(accounts.factors(member.user), accounts.security_keys(member.user)) {
        Ok(found) => found,
        Err(error) => return member.failed(&error),
    };
    let times = |added, used: Option<_>| {
        let used = used.map_or_else(|| t.never_used.to_owned(), |used| filled(t.used_at, &date(used)));
        format!("{} · {used}", filled(t.added_at, &date(added)))
    };
    let app = factors.totp.map(|app| times(app.created_at, Some(app.used_at))).unwrap_or_default();
    let keys: Vec<_> = keys
        .into_iter()
        .map(|key| Key {
            id: key.id.to_string(),
            times: times(key.created_at, key.used_at),
            name: key.name,
            passkey: key.passkey,
        })
        .collect();
    let strong = factors.totp.is_some() || !keys.is_empty();
    let codes = if strong { filled(t.recovery_left, &factors.recovery_codes.to_string()) } else { String::new() };
    let note = Note::of(member.query.as_deref()).map_or("", |note| note.text(t));
    let note = if problem.is_empty() && last.is_empty() { note } else { "" };
    let template = SecurityPage { t, token: &member.token, note, problem, last, app: &app, keys, codes: &codes };
    member.page(status, Place::Security, &template, None)
}
