//! Where someone is signed in, and what happened to their account lately.

use askama::Template;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode};
use axum::response::Response;
use flaghoist_runtime::html::{Texts, filled};
use flaghoist_runtime::time::from_timestamp;

use super::super::Pages;
use super::date::date;
use super::{Member, Note, Place};
use crate::accounts::DEFAULT_CLIENT;
use crate::error::Error;
use crate::history::EventKind;
use crate::relying_party::CLIENT_ID;

#[derive(Template)]
#[template(path = "account/sessions.html")]
struct SessionsPage<'a> {
    t: &'static Texts,
    token: &'a str,
    note: &'a str,
    sessions: Vec<Shown>,
    /// Whether there are others than the present one.
    others: bool,
    events: Vec<Happened>,
}

/// How many events are shown.
const EVENTS_MAX: u32 = 20;

/// An event as the person sees it.
struct Happened {
    what: &'static str,
    /// When, from where, by what program.
    place: String,
}

/// A session as the person sees it.
struct Shown {
    /// Its resource name.
    id: String,
    name: String,
    current: bool,
    /// Where it was used last, and when.
    place: String,
}

pub(super) async fn show(State(pages): State<Pages>, request: Request<Body>) -> Response {
    let member = match Member::of(pages, request, Place::Sessions).await {
        Ok(member) => member,
        Err(response) => return response,
    };
    match tokio::try_join!(listed(&member), happened(&member)) {
        Ok((sessions, events)) => {
            let t = member.t();
            let note = Note::of(member.query.as_deref()).map_or("", |note| note.text(t));
            let others = sessions.iter().any(|session| !session.current);
            let template = SessionsPage { t, token: &member.token, note, sessions, others, events };
            member.page(StatusCode::OK, Place::Sessions, &template, None)
        }
        Err(error) => member.failed(&error),
    }
}

pub(super) async fn submit(State(pages): State<Pages>, request: Request<Body>) -> Response {
    let (member, fields) = match Member::with_form(pages, request, Place::Sessions).await {
        Ok(sent) => sent,
        Err(response) => return response,
    };
    let (ended, note) = match fields.get("session").filter(|name| !name.is_empty()) {
        Some(name) => (end(&member, name.clone()).await, Note::Ended),
        None => (end_others(&member).await, Note::EndedOthers),
    };
    match ended {
        Ok(()) => member.go(&note.at(Place::Sessions)),
        Err(error) => member.failed(&error),
    }
}

async fn end(member: &Member, name: String) -> Result<(), Error> {
    // What could not be the name of a session of theirs is none, as one that has ended.
    if !name.starts_with(&format!("{}/sessions/", member.user.name())) || name.len() > 128 {
        return Ok(());
    }
    Ok(member.pages.issuer.end_session(&member.tokens, name, member.address).await?)
}

async fn end_others(member: &Member) -> Result<(), Error> {
    Ok(member.pages.issuer.end_other_sessions(&member.tokens, member.address).await?)
}

async fn happened(member: &Member) -> Result<Vec<Happened>, Error> {
    let t = member.t();
    let events = member.pages.accounts.events(member.user, None, EVENTS_MAX).await?;
    let shown = events.into_iter().map(|event| {
        let what = match event.kind {
            EventKind::SignedIn => t.event_signed_in,
            EventKind::FactorRefused => t.event_factor_refused,
            EventKind::PasswordChanged => t.event_password_changed,
            EventKind::PasswordReset => t.event_password_reset,
            EventKind::FactorAdded => t.event_factor_added,
            EventKind::FactorRemoved => t.event_factor_removed,
            EventKind::RecoveryCodesMade => t.event_codes_made,
            EventKind::ContactChanged => t.event_contact_changed,
            EventKind::ContactRemoved => t.event_contact_removed,
        };
        let place = [date(event.at), event.address, event.agent].into_iter().filter(|part| !part.is_empty());
        Happened { what, place: place.collect::<Vec<_>>().join(" · ") }
    });
    Ok(shown.collect())
}

async fn listed(member: &Member) -> Result<Vec<Shown>, Error> {
    let t = member.t();
    let (issuer, address) = (&member.pages.issuer, member.address);
    let (sessions, consents) =
        tokio::try_join!(issuer.sessions(&member.tokens, address), issuer.consents(&member.tokens, address))?;
    let called = |client: &str| {
        let name = format!("{}/consents/{client}", member.user.name());
        let consent = consents.iter().find(|consent| consent.name == name && !consent.client_display_name.is_empty());
        match client {
            DEFAULT_CLIENT => t.session_of_cli.to_owned(),
            CLIENT_ID => t.session_of_account.to_owned(),
            _ => consent.map_or_else(|| client.to_owned(), |consent| consent.client_display_name.clone()),
        }
    };
    let shown = |session: flaghoist_proto::auth::v1::Session| {
        let mut name = called(&session.client_id);
        if !session.label.is_empty() {
            name = format!("{name} · {}", session.label);
        }
        let place = match session.last_address.as_str() {
            "" | "0.0.0.0" => t.address_unknown,
            address => address,
        };
        let used = session.last_use_time.as_ref().map(|time| filled(t.used_at, &date(from_timestamp(time))));
        let place = format!("{place} · {}", used.unwrap_or_default());
        Shown { id: session.name, name, current: session.current, place }
    };
    Ok(sessions.into_iter().map(shown).collect())
}
