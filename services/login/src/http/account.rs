//! The account pages, `/account`: who someone is to others and how they are reached, how they prove that it is them, where they are signed in and what they
//! have allowed applications.
//!
//! The pages sign people in like any application does: the browser goes to the issuer and comes back with a code, and the tokens stay
//! in the store. What concerns factors asks for a sign-in of the last minutes; the browser is then sent through the issuer once more
//! and comes back to where it was, which is one of [`Place`] and never an address that someone sent.

mod app;
mod applications;
mod contacts;
mod date;
mod key;
mod member;
mod password;
mod profile;
mod security;
mod sessions;
mod signing;

use askama::Template;
use axum::Router;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use flaghoist_runtime::html::{Page, Texts};
use secrecy::{ExposeSecret as _, SecretString};

use super::{Pages, only, rendered};
use crate::relying_party::CALLBACK_PATH;
use member::Member;

/// The routes of the account pages.
pub(super) fn router() -> Router<Pages> {
    const FORM: &str = "GET, HEAD, POST";
    Router::new()
        .route(Place::Profile.path(), only(FORM, get(profile::show).post(profile::submit)))
        .route(Place::Security.path(), only(FORM, get(security::show).post(security::submit)))
        .route(Place::App.path(), only(FORM, get(app::show).post(app::submit)))
        .route(Place::Key.path(), only(FORM, get(key::show).post(key::submit)))
        .route(Place::Password.path(), only(FORM, get(password::show).post(password::submit)))
        .route(Place::Sessions.path(), only(FORM, get(sessions::show).post(sessions::submit)))
        .route(Place::Applications.path(), only(FORM, get(applications::show).post(applications::submit)))
        .route(CALLBACK_PATH, only("GET, HEAD", get(signing::come_back)))
        .route("/account/sign-out", only("POST", post(signing::sign_out)))
}

/// One of the pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Profile,
    Security,
    App,
    Key,
    Password,
    Sessions,
    Applications,
}

impl Place {
    const ALL: [Self; 7] =
        [Self::Profile, Self::Security, Self::App, Self::Key, Self::Password, Self::Sessions, Self::Applications];

    const fn path(self) -> &'static str {
        match self {
            Self::Profile => "/account",
            Self::Security => "/account/security",
            Self::App => "/account/authenticator",
            Self::Key => "/account/security-key",
            Self::Password => "/account/password",
            Self::Sessions => "/account/sessions",
            Self::Applications => "/account/applications",
        }
    }

    /// The page that the navigation shows as the present one.
    fn within(self) -> Self {
        match self {
            Self::App | Self::Key | Self::Password => Self::Security,
            other => other,
        }
    }

    fn title(self, t: &'static Texts) -> &'static str {
        match self {
            Self::Profile => t.profile,
            Self::Security => t.security,
            Self::App => t.app,
            Self::Key => t.key_add,
            Self::Password => t.change_password,
            Self::Sessions => t.sessions,
            Self::Applications => t.applications,
        }
    }
}

/// What a page says first, of what was done on the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Note {
    Saved,
    Password,
    App,
    Key,
    Removed,
    Ended,
    EndedOthers,
    Withdrawn,
    Code,
    Confirmed,
}

impl Note {
    const ALL: [(&'static str, Self); 10] = [
        ("saved", Self::Saved),
        ("password", Self::Password),
        ("app", Self::App),
        ("key", Self::Key),
        ("removed", Self::Removed),
        ("ended", Self::Ended),
        ("ended-others", Self::EndedOthers),
        ("withdrawn", Self::Withdrawn),
        ("code", Self::Code),
        ("confirmed", Self::Confirmed),
    ];

    /// The note that the query of an address names.
    fn of(query: Option<&str>) -> Option<Self> {
        let word = query?.strip_prefix("note=")?;
        Self::ALL.into_iter().find(|(name, _)| *name == word).map(|(_, note)| note)
    }

    /// The address of a page that says it.
    fn at(self, place: Place) -> String {
        let word = Self::ALL.into_iter().find(|(_, note)| *note == self).map_or("", |(word, _)| word);
        format!("{}?note={word}", place.path())
    }

    fn text(self, t: &'static Texts) -> &'static str {
        match self {
            Self::Saved => t.saved,
            Self::Password => t.password_changed,
            Self::App => t.app_on,
            Self::Key => t.key_added,
            Self::Removed => t.removed,
            Self::Ended => t.session_ended,
            Self::EndedOthers => t.sessions_ended_others,
            Self::Withdrawn => t.withdrawn,
            Self::Code => t.contact_sent,
            Self::Confirmed => t.contact_confirmed,
        }
    }
}

#[derive(Template)]
#[template(path = "account/bar.html")]
struct Bar<'a> {
    t: &'static Texts,
    token: &'a str,
    /// Path, name, and whether it is the present one.
    places: Vec<(&'static str, &'static str, bool)>,
}

#[derive(Template)]
#[template(path = "account/codes.html")]
struct CodesPage<'a> {
    t: &'static Texts,
    /// What has happened; empty for nothing.
    note: &'a str,
    codes: Vec<&'a str>,
}

impl Member {
    /// The page `place` with what the template makes in it.
    fn page(
        &self,
        status: StatusCode,
        place: Place,
        template: &impl Template,
        script: Option<&'static str>,
    ) -> Response {
        let t = self.t();
        let places = [Place::Profile, Place::Security, Place::Sessions, Place::Applications];
        let places = places.map(|one| (one.path(), one.title(t), one == place.within())).to_vec();
        // A page without it is still one.
        let bar = Bar { t, token: &self.token, places }.render().unwrap_or_default();
        let page = Page::new(status, self.language, place.title(t), "");
        rendered(Page { bar: &bar, script, ..page }, template)
    }

    /// Recovery codes, in the one answer that has them.
    fn codes(&self, note: &str, codes: &[SecretString]) -> Response {
        let codes = codes.iter().map(|code| code.expose_secret()).collect();
        self.page(StatusCode::OK, Place::Security, &CodesPage { t: self.t(), note, codes }, None)
    }
}
