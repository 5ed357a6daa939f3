//! The contacts on the page of who someone is: an email address and a phone number, each sent a code, verified by it, and removed.

use axum::http::StatusCode;
use axum::response::Response;
use flaghoist_runtime::html::filled;

use super::super::retry_after;
use super::member::Fields;
use super::profile::{Wrong, shown};
use super::{Member, Note, Place};
use crate::accounts::Owner;
use crate::contact::{BadContact, ContactCode, ContactKind, Contacts};
use crate::error::Error;

/// What is shown of one kind of contact.
pub(super) struct Row {
    /// Its name in forms.
    pub(super) kind: &'static str,
    pub(super) title: &'static str,
    pub(super) hint: &'static str,
    /// What a browser's keyboard is to be like.
    pub(super) input: &'static str,
    /// The one that is verified; empty for none.
    pub(super) verified: String,
    /// The one to which a code was sent; empty for none.
    pub(super) waiting: String,
    /// What the field for its code is called.
    pub(super) code_label: String,
    /// Whether a code can be sent there.
    pub(super) reached: bool,
    /// What was typed and not taken.
    pub(super) typed: String,
    /// Why.
    pub(super) problem: &'static str,
}

/// What is shown of every kind.
pub(super) fn rows(member: &Member, contacts: &Contacts, wrong: Wrong<'_>) -> Vec<Row> {
    let t = member.t();
    let row = |kind: ContactKind| {
        let (title, hint, input) = match kind {
            ContactKind::Email => (t.email, t.email_hint, "email"),
            ContactKind::Phone => (t.phone, t.phone_hint, "tel"),
        };
        let waiting = contacts.pending.iter().find(|contact| contact.kind == kind);
        let waiting = waiting.map(|contact| contact.value.clone()).unwrap_or_default();
        let (typed, problem) = match wrong {
            Wrong::Contact { kind: of, typed, problem } if of == kind => (typed.to_owned(), problem),
            _ => (String::new(), ""),
        };
        Row {
            kind: kind.label(),
            title,
            hint,
            input,
            verified: contacts.verified(kind).map(|contact| contact.value.clone()).unwrap_or_default(),
            code_label: filled(t.contact_code, &waiting),
            waiting,
            reached: member.pages.accounts.reaches(kind),
            typed,
            problem,
        }
    };
    [ContactKind::Email, ContactKind::Phone].map(row).into()
}

/// Does what a form of a contact says.
pub(super) async fn submit(member: &Member, decision: &str, fields: &Fields) -> Response {
    let field = |name: &str| fields.get(name).map_or("", String::as_str);
    let kinds = [ContactKind::Email, ContactKind::Phone];
    let Some(kind) = kinds.into_iter().find(|kind| kind.label() == field("kind")) else {
        return member.go(Place::Profile.path());
    };
    let t = member.t();
    let (problem, wait) = match change(member, decision, kind, fields).await {
        Ok(response) => return response,
        Err(Error::Contact(BadContact::Email)) => (t.email_bad, None),
        Err(Error::Contact(BadContact::Phone)) => (t.phone_bad, None),
        Err(Error::ContactUnreachable(_)) => (t.contact_unreachable, None),
        Err(Error::CodeInvalid) => (t.contact_code_wrong, None),
        Err(Error::RateLimited(wait)) => (t.wait_a_little, Some(wait)),
        // What is not there any more has been removed.
        Err(Error::ContactUnknown) => return member.go(Place::Profile.path()),
        Err(error) => return member.failed(&error),
    };
    let status = if wait.is_some() { StatusCode::TOO_MANY_REQUESTS } else { StatusCode::UNPROCESSABLE_ENTITY };
    let mut response = shown(member, status, Wrong::Contact { kind, typed: field("value"), problem }).await;
    if let Some(wait) = wait {
        retry_after(&mut response, wait);
    }
    response
}

async fn change(member: &Member, decision: &str, kind: ContactKind, fields: &Fields) -> Result<Response, Error> {
    let field = |name: &str| fields.get(name).map_or("", String::as_str);
    let accounts = &member.pages.accounts;
    if decision == "verify_contact" {
        // The code proves enough: it was asked for by a sign-in of the last minutes.
        Owner::at_home(&member.caller)?;
        accounts.verify_contact(member.user, kind, ContactCode::read(field("code")), member.origin()).await?;
        return Ok(member.go(&Note::Confirmed.at(Place::Profile)));
    }
    let owner = match member.owner().await {
        Ok(owner) => owner,
        Err(response) => return Ok(response),
    };
    let note = if decision == "remove_contact" {
        accounts.remove_contact(owner, kind).await?;
        Note::Removed
    } else {
        let set = accounts.set_contact(owner, kind, field("value")).await?;
        if set.expires_at.is_some() { Note::Code } else { Note::Confirmed }
    };
    Ok(member.go(&note.at(Place::Profile)))
}
