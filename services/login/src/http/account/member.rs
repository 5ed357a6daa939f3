//! Someone who is signed in to the account pages: known by the cookie of their browser, and by an access token that is good now.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::FromRequest as _;
use axum::http::{Request, StatusCode, request};
use axum::response::Response;
use flaghoist_runtime::Caller;
use flaghoist_runtime::html::{Language, Texts, cookie, see_other};
use flaghoist_runtime::names::UserId;
use flaghoist_runtime::token::TokenError;
use serde_json::json;

use super::super::{Pages, failed, json, origin, problem, retry_after, unread};
use super::Place;
use super::signing::{SESSION_COOKIE, begin};
use crate::accounts::Owner;
use crate::error::{DOMAIN, Error};
use crate::history::Origin;
use crate::issuer::IssuerError;
use crate::login_token::LoginToken;
use crate::relying_party::Tokens;

/// For what the token of a form is derived from the cookie.
const FORM: &str = "account-form";

/// The fields of a form.
pub(super) type Fields = HashMap<String, String>;

/// Someone who is signed in.
pub(super) struct Member {
    pub(super) pages: Pages,
    pub(super) language: Language,
    pub(super) address: IpAddr,
    origin: Origin,
    pub(super) user: UserId,
    pub(super) caller: Arc<Caller>,
    pub(super) tokens: Tokens,
    /// What proves that a form is one of this browser's.
    pub(super) token: String,
    /// What the query of the address says.
    pub(super) query: Option<String>,
    place: Place,
    /// Whether the script asks, and no page is shown.
    script: bool,
}

impl Member {
    /// Whoever asks for `place`; or where the browser goes to sign in.
    pub(super) async fn of(pages: Pages, request: Request<Body>, place: Place) -> Result<Self, Response> {
        let (head, _body) = request.into_parts();
        Self::read(pages, &head, place).await
    }

    /// Whoever sends a form of `place`, and its fields.
    pub(super) async fn with_form(
        pages: Pages,
        request: Request<Body>,
        place: Place,
    ) -> Result<(Self, Fields), Response> {
        let language = Language::preferred(request.headers());
        let (head, body) = request.into_parts();
        let member = Self::read(pages, &head, place).await;
        let fields = axum::Form::<Fields>::from_request(Request::from_parts(head, body), &()).await;
        let axum::Form(fields) = fields.map_err(|rejection| unread(language, &rejection))?;
        // A page cannot be shown to a script: it goes there, and is sent on.
        let script = fields.get("decision").is_some_and(|decision| decision == "start_key");
        let member = match member {
            Ok(member) => Self { script, ..member },
            Err(_) if script => return Err(json(StatusCode::OK, &json!({"go": place.path()}))),
            Err(response) => return Err(response),
        };
        if !member.was_given(&fields) {
            return Err(problem(language, StatusCode::FORBIDDEN, member.t().form_foreign));
        }
        Ok((member, fields))
    }

    /// Whether a form is one that this browser was given.
    fn was_given(&self, fields: &Fields) -> bool {
        let given = fields.get("token").map_or("", String::as_str);
        aws_lc_rs::constant_time::verify_slices_are_equal(self.token.as_bytes(), given.as_bytes()).is_ok()
    }

    async fn read(pages: Pages, head: &request::Parts, place: Place) -> Result<Self, Response> {
        let language = Language::preferred(&head.headers);
        let mut bare = Request::new(());
        *bare.headers_mut() = head.headers.clone();
        *bare.extensions_mut() = head.extensions.clone();
        let origin = origin(&pages, &bare);
        let address = origin.address;
        let again = || begin(&pages, language, place, false);
        let Some(secret) = cookie(&head.headers, SESSION_COOKIE) else { return Err(again()) };
        let token = pages.form_key.derived(FORM, secret);
        let secret = LoginToken::read(secret.to_owned());
        let found = pages.accounts.account_session(&secret, pages.limits).await;
        let Some((user, tokens)) = found.map_err(|error| failed(language, &error))? else { return Err(again()) };
        let current = current(&pages, &secret, user, tokens, address).await;
        let Some((tokens, caller)) = current.map_err(|error| failed(language, &error))? else { return Err(again()) };
        let query = head.uri.query().map(str::to_owned);
        Ok(Self { pages, language, address, origin, user, caller, tokens, token, query, place, script: false })
    }

    /// Everything that is written on pages.
    pub(super) fn t(&self) -> &'static Texts {
        self.language.texts()
    }

    /// The same person as someone who may change their factors; or where the browser goes to prove once more who they are.
    pub(super) async fn owner(&self) -> Result<Owner, Response> {
        let owner = Owner::of(&self.caller, self.user).map_err(|error| self.failed(&error))?;
        self.pages.accounts.may_change(&owner).await.map_err(|error| self.failed(&error))?;
        Ok(owner.at(self.origin()))
    }

    /// Where they are.
    pub(super) fn origin(&self) -> Origin {
        self.origin.clone()
    }

    /// What a browser gets for an error that no page of its own is for.
    pub(super) fn failed(&self, error: &Error) -> Response {
        let anew = matches!(error, Error::LoginNotFresh | Error::LoginOneFactor);
        if self.script {
            return match error {
                _ if anew => json(StatusCode::OK, &json!({"go": self.place.path()})),
                Error::RateLimited(wait) => {
                    let text = self.t().wait_a_little;
                    let mut response = json(StatusCode::TOO_MANY_REQUESTS, &json!({"problem": text}));
                    retry_after(&mut response, *wait);
                    response
                }
                error => {
                    // Logs what nobody expected.
                    let _ = error.fault();
                    json(StatusCode::SERVICE_UNAVAILABLE, &json!({"problem": self.t().try_later}))
                }
            };
        }
        match error {
            _ if anew => begin(&self.pages, self.language, self.place, true),
            Error::RateLimited(wait) => {
                let mut response = problem(self.language, StatusCode::TOO_MANY_REQUESTS, self.t().wait_a_little);
                retry_after(&mut response, *wait);
                response
            }
            error => failed(self.language, error),
        }
    }

    /// Sends the browser to a page, so that what it has sent is not sent once more.
    pub(super) fn go(&self, path: &str) -> Response {
        see_other(path)
    }
}

/// The tokens of a session, renewed where their time is nearly over, and who is behind them. Nobody where they are worth nothing any
/// more: the session is over then.
async fn current(
    pages: &Pages,
    secret: &LoginToken,
    user: UserId,
    mut tokens: Tokens,
    address: IpAddr,
) -> Result<Option<(Tokens, Arc<Caller>)>, Error> {
    if tokens.ending() {
        let Some(renewed) = pages.issuer.renew(&tokens, address).await? else {
            pages.accounts.end_account_session(secret).await?;
            return Ok(None);
        };
        pages.accounts.renew_account_session(secret, user, &renewed).await?;
        tokens = renewed;
    }
    match pages.verifier.verify_fresh(&tokens.access_token).await {
        Ok(caller) if caller.user == Some(user) => Ok(Some((tokens, caller))),
        // A pod that has yet to fetch the keys knows nothing against a token.
        Err(TokenError::KeysUnknown) => {
            Err(IssuerError::from(TokenError::KeysUnknown.fault().into_status(DOMAIN)).into())
        }
        Ok(_) | Err(_) => {
            pages.accounts.end_account_session(secret).await?;
            Ok(None)
        }
    }
}
