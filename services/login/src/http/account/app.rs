//! Setting up an authenticator app: its secret as a picture and as text, and the first code, which confirms it.

use std::fmt::Write as _;

use askama::Template;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode};
use axum::response::Response;
use flaghoist_runtime::html::Texts;
use qrcode::{Color, QrCode};
use secrecy::ExposeSecret as _;

use super::super::{Pages, retry_after};
use super::{Member, Note, Place};
use crate::accounts::Owner;
use crate::error::Error;
use crate::totp::TotpCode;

#[derive(Template)]
#[template(path = "account/app.html")]
struct AppPage<'a> {
    t: &'static Texts,
    token: &'a str,
    problem: &'a str,
    /// Of the picture, in modules of the QR code.
    side: usize,
    /// Its dark modules, as the path of an SVG.
    path: &'a str,
    /// The secret, in groups of four letters.
    secret: &'a str,
}

pub(super) async fn show(State(pages): State<Pages>, request: Request<Body>) -> Response {
    let member = match Member::of(pages, request, Place::App).await {
        Ok(member) => member,
        Err(response) => return response,
    };
    match member.owner().await {
        Ok(owner) => shown(&member, owner, StatusCode::OK, "").await,
        Err(response) => response,
    }
}

pub(super) async fn submit(State(pages): State<Pages>, request: Request<Body>) -> Response {
    let (member, fields) = match Member::with_form(pages, request, Place::App).await {
        Ok(sent) => sent,
        Err(response) => return response,
    };
    let owner = match member.owner().await {
        Ok(owner) => owner,
        Err(response) => return response,
    };
    let typed = fields.get("code").map_or("", String::as_str);
    let joined = typed.chars().filter(|letter| !letter.is_whitespace()).collect();
    let confirmed = match TotpCode::read(joined) {
        Some(code) => member.pages.accounts.confirm_totp(owner.clone(), &code).await,
        None => Err(Error::CodeInvalid),
    };
    let t = member.t();
    match confirmed {
        Ok(codes) if codes.is_empty() => member.go(&Note::App.at(Place::Security)),
        Ok(codes) => member.codes(t.app_on, &codes),
        Err(Error::CodeInvalid) => shown(&member, owner, StatusCode::UNPROCESSABLE_ENTITY, t.code_wrong).await,
        Err(Error::EnrolmentUnknown) => shown(&member, owner, StatusCode::UNPROCESSABLE_ENTITY, t.app_over).await,
        Err(Error::RateLimited(wait)) => {
            let mut response = shown(&member, owner, StatusCode::TOO_MANY_REQUESTS, t.wait_a_little).await;
            retry_after(&mut response, wait);
            response
        }
        Err(error) => member.failed(&error),
    }
}

/// The page with the secret that is yet to be confirmed, or a new one.
async fn shown(member: &Member, owner: Owner, status: StatusCode, problem: &str) -> Response {
    let accounts = &member.pages.accounts;
    let enrolment = match accounts.pending_totp(owner.clone()).await {
        Ok(Some(pending)) => Ok(pending),
        Ok(None) => accounts.enroll_totp(owner).await,
        Err(error) => Err(error),
    };
    let enrolment = match enrolment {
        Ok(enrolment) => enrolment,
        Err(error) => return member.failed(&error),
    };
    let (side, path) = picture(enrolment.uri.expose_secret());
    let letters: Vec<_> = enrolment.secret.expose_secret().chars().collect();
    let groups: Vec<String> = letters.chunks(4).map(|group| group.iter().collect()).collect();
    let secret = groups.join(" ");
    let template = AppPage { t: member.t(), token: &member.token, problem, side, path: &path, secret: &secret };
    member.page(status, Place::App, &template, None)
}

/// A QR code as the path of an SVG, and how many modules its side has. An address that is too long for one, which ours is not, gives
/// an empty picture: the secret is there as text too.
fn picture(address: &str) -> (usize, String) {
    let Ok(code) = QrCode::new(address) else { return (1, String::new()) };
    let side = code.width();
    let mut path = String::new();
    for (at, color) in code.into_colors().into_iter().enumerate() {
        if color == Color::Dark {
            // Writing into a string does not fail.
            let _ = write!(path, "M{} {}h1v1h-1z", at % side, at / side);
        }
    }
    (side, path)
}
