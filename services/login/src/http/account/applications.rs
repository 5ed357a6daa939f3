//! What someone has allowed applications, and taking it back.

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

#[derive(Template)]
#[template(path = "account/applications.html")]
struct ApplicationsPage<'a> {
    t: &'static Texts,
    token: &'a str,
    note: &'a str,
    applications: Vec<Shown>,
}

/// An application as the person sees it.
struct Shown {
    /// The resource name of the consent.
    id: String,
    name: String,
    scopes: Vec<&'static str>,
    allowed: String,
}

pub(super) async fn show(State(pages): State<Pages>, request: Request<Body>) -> Response {
    let member = match Member::of(pages, request, Place::Applications).await {
        Ok(member) => member,
        Err(response) => return response,
    };
    let consents = match member.pages.issuer.consents(&member.tokens, member.address).await {
        Ok(consents) => consents,
        Err(error) => return member.failed(&error.into()),
    };
    let t = member.t();
    let shown = |consent: flaghoist_proto::auth::v1::Consent| Shown {
        scopes: consent.scopes.iter().map(|scope| t.scope(scope)).collect(),
        allowed: consent
            .update_time
            .as_ref()
            .map(|time| filled(t.allowed_at, &date(from_timestamp(time))))
            .unwrap_or_default(),
        // A client that nobody knows any more has the name that it was registered by.
        name: match consent.client_display_name.as_str() {
            "" => consent.name.rsplit('/').next().unwrap_or_default().to_owned(),
            name => name.to_owned(),
        },
        id: consent.name,
    };
    let note = Note::of(member.query.as_deref()).map_or("", |note| note.text(t));
    let applications = consents.into_iter().map(shown).collect();
    member.page(
        StatusCode::OK,
        Place::Applications,
        &ApplicationsPage { t, token: &member.token, note, applications },
        None,
    )
}

pub(super) async fn submit(State(pages): State<Pages>, request: Request<Body>) -> Response {
    let (member, mut fields) = match Member::with_form(pages, request, Place::Applications).await {
        Ok(sent) => sent,
        Err(response) => return response,
    };
    let name = fields.remove("consent").unwrap_or_default();
    // What could not be the name of a consent of theirs is none, as one that was taken back.
    if !name.starts_with(&format!("{}/consents/", member.user.name())) || name.len() > 256 {
        return member.go(Place::Applications.path());
    }
    match member.pages.issuer.withdraw(&member.tokens, name, member.address).await {
        Ok(()) => member.go(&Note::Withdrawn.at(Place::Applications)),
        Err(error) => member.failed(&error.into()),
    }
}
