//! Signing in to the account pages, and out: by the authorization code flow with PKCE, `state` and `nonce`, of which everything is
//! derived from a cookie that lives as long as the way to the issuer and back takes. Nothing is stored before someone has signed in.

use std::time::Duration;

use askama::Template;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::SET_COOKIE;
use axum::http::{Request, StatusCode};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flaghoist_runtime::html::{Language, Page, Texts, cookie, host_cookie, see_other};
use flaghoist_runtime::server::client_address;
use url::form_urlencoded;

use super::super::{FormKey, Pages, failed, rendered};
use super::{Member, Place};
use crate::login_token::{LoginToken, sha256};
use crate::relying_party::{Begin, CLIENT_ID};

/// The cookie of who is signed in.
pub(super) const SESSION_COOKIE: &str = "__Host-flaghoist-account";

/// The cookie of a browser that is on its way.
const BEGUN_COOKIE: &str = "__Host-flaghoist-account-begun";

/// How long that may take.
const BEGUN_LIFETIME: Duration = Duration::from_secs(15 * 60);

/// What is derived from it.
const STATE: &str = "account-state";
const NONCE: &str = "account-nonce";
const VERIFIER: &str = "account-verifier";

#[derive(Template)]
#[template(path = "account/not_signed_in.html")]
struct NotSignedIn {
    t: &'static Texts,
    account: &'static str,
}

/// Sends a browser to the issuer, from where it comes back to `place`; to prove who they are once more if it is to be done `anew`.
pub(super) fn begin(pages: &Pages, language: Language, place: Place, anew: bool) -> Response {
    let cookie = FormKey::cookie();
    let verifier = pages.form_key.derived(VERIFIER, &cookie);
    let to = pages.issuer.begin(&Begin {
        state: &state(pages, place, &cookie),
        nonce: &pages.form_key.derived(NONCE, &cookie),
        code_challenge: &URL_SAFE_NO_PAD.encode(sha256(verifier.as_bytes())),
        ui_locales: language.tag(),
        anew,
    });
    let mut response = see_other(&to);
    let set = host_cookie(BEGUN_COOKIE, &cookie, Some(BEGUN_LIFETIME));
    response.headers_mut().extend(set.map(|set| (SET_COOKIE, set)));
    response
}

/// Names the place where a browser comes back to, and the browser.
fn state(pages: &Pages, place: Place, cookie: &str) -> String {
    pages.form_key.derived(&format!("{STATE}-{}", place as usize), cookie)
}

/// Takes the code with which a browser comes back, and signs it in under a new cookie.
pub(super) async fn come_back(State(pages): State<Pages>, request: Request<Body>) -> Response {
    let language = Language::preferred(request.headers());
    let address = client_address(&request, pages.trusted_hops);
    let query = request.uri().query().unwrap_or_default();
    let (mut code, mut given, mut issuer) = (String::new(), String::new(), String::new());
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "code" => code = value.into_owned(),
            "state" => given = value.into_owned(),
            "iss" => issuer = value.into_owned(),
            _ => {}
        }
    }
    let begun = cookie(request.headers(), BEGUN_COOKIE).filter(|cookie| FormKey::made_here(cookie));
    let is_of =
        |begun: &str, place: &Place| pages.form_key.is_derived(&format!("{STATE}-{}", *place as usize), begun, &given);
    let place = begun.and_then(|begun| Place::ALL.into_iter().find(|place| is_of(begun, place)));
    // RFC 9207: what another issuer has answered is none of ours.
    let (Some(begun), Some(place)) = (begun, place.filter(|_| issuer == pages.issuer.issuer && !code.is_empty()))
    else {
        return nobody(language);
    };
    let verifier = pages.form_key.derived(VERIFIER, begun);
    let tokens = match pages.issuer.exchange(code, verifier, address).await {
        Ok(Some(tokens)) => tokens,
        Ok(None) => return nobody(language),
        Err(error) => return failed(language, &error.into()),
    };
    let caller = pages.verifier.verify_fresh(&tokens.access_token).await.ok();
    let Some((user, caller)) = caller.and_then(|caller| Some((caller.user?, caller))) else {
        return nobody(language);
    };
    // It came straight from the issuer, so its signature says nothing new (OpenID Connect Core §3.1.3.7).
    let nonce = pages.form_key.derived(NONCE, begun);
    if !Claims::of(&tokens.id_token).is_some_and(|claims| claims.are(&pages.issuer.issuer, &caller.subject, &nonce)) {
        return nobody(language);
    }
    // A session that was there before is never the one of afterwards.
    if let Some(before) = cookie(request.headers(), SESSION_COOKIE) {
        let ended = pages.accounts.end_account_session(&LoginToken::read(before.to_owned())).await;
        if let Ok(Some(old)) = ended
            && let Err(error) = pages.issuer.end(&old, address).await
        {
            tracing::warn!(error = %flaghoist_runtime::fault::chain(&error), "an older session of the account pages stays");
        }
    }
    let secret = match pages.accounts.open_account_session(user, &tokens).await {
        Ok(secret) => secret,
        Err(error) => return failed(language, &error),
    };
    let mut response = see_other(place.path());
    let session = host_cookie(SESSION_COOKIE, secret.text(), None);
    let gone = host_cookie(BEGUN_COOKIE, "", Some(Duration::ZERO));
    response.headers_mut().extend([session, gone].into_iter().flatten().map(|set| (SET_COOKIE, set)));
    response
}

/// The page for a browser in which nobody has signed in.
fn nobody(language: Language) -> Response {
    let t = language.texts();
    let template = NotSignedIn { t, account: Place::Profile.path() };
    rendered(Page::new(StatusCode::FORBIDDEN, language, t.not_signed_in, ""), &template)
}

/// Ends the session here, and sends the browser to where the issuer's ends.
pub(super) async fn sign_out(State(pages): State<Pages>, request: Request<Body>) -> Response {
    let secret = cookie(request.headers(), SESSION_COOKIE).map(str::to_owned);
    let member = match Member::with_form(pages, request, Place::Profile).await {
        Ok((member, _)) => member,
        Err(response) => return response,
    };
    let secret = LoginToken::read(secret.unwrap_or_default());
    if let Err(error) = member.pages.accounts.end_account_session(&secret).await {
        return member.failed(&error);
    }
    let mut response = see_other(&member.pages.issuer.sign_out(&member.tokens));
    let gone = host_cookie(SESSION_COOKIE, "", Some(Duration::ZERO));
    response.headers_mut().extend(gone.map(|gone| (SET_COOKIE, gone)));
    response
}

/// What an ID token says.
#[derive(serde::Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: serde_json::Value,
    #[serde(default)]
    nonce: String,
}

impl Claims {
    fn of(id_token: &str) -> Option<Self> {
        let claims = URL_SAFE_NO_PAD.decode(id_token.split('.').nth(1)?).ok()?;
        serde_json::from_slice(&claims).ok()
    }

    fn are(&self, issuer: &str, subject: &str, nonce: &str) -> bool {
        let audience = self.aud == CLIENT_ID || self.aud == serde_json::json!([CLIENT_ID]);
        audience && self.iss == issuer && self.sub == subject && self.nonce == nonce
    }
}
