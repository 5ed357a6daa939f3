//! `/oauth2/logout` (OpenID Connect RP-Initiated Logout 1.0): a client sends someone here to sign out.

use askama::Template;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::SET_COOKIE;
use axum::http::{Request, StatusCode};
use axum::response::Response;
use flaghoist_runtime::html::{self, Texts};

use super::Endpoints;
use super::browser::{SESSION_COOKIE, Visit, failed, problem, rendered};
use super::metadata::LOGOUT_PATH;
use crate::authorization::{first, repeats};
use crate::flow::{SignOut, SignOutRequest};

/// The parameters that go through the question whether the person wants to.
const KEPT: [&str; 4] = ["client_id", "id_token_hint", "post_logout_redirect_uri", "state"];

#[derive(Template)]
#[template(path = "sign_out.html")]
struct Question<'a> {
    t: &'static Texts,
    confirmation: &'a str,
    kept: Vec<(&'static str, &'a str)>,
}

#[derive(Template)]
#[template(path = "signed_out.html")]
struct SignedOut {
    t: &'static Texts,
}

/// Signs out, asks first, or says what is wrong.
pub(super) async fn logout(State(endpoints): State<Endpoints>, request: Request<Body>) -> Response {
    let Visit { parameters, posted, visitor, language } = match Visit::read(request, endpoints.trusted_hops).await {
        Ok(visit) => visit,
        Err(page) => return page,
    };
    if repeats(&parameters) {
        return problem(language, StatusCode::BAD_REQUEST, "a parameter is there twice");
    }
    let kept: Vec<_> = KEPT.into_iter().filter_map(|name| Some((name, first(&parameters, name)?))).collect();
    if posted && visitor.session.is_none() && first(&parameters, "confirmation").is_none() {
        // A form of another site comes without the cookie that tells who is signed in; the redirect that follows brings it.
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        return html::see_other(&format!("{LOGOUT_PATH}?{}", query.extend_pairs(&kept).finish()));
    }
    let asked = SignOutRequest {
        id_token_hint: first(&parameters, "id_token_hint"),
        client_id: first(&parameters, "client_id"),
        post_logout_redirect_uri: first(&parameters, "post_logout_redirect_uri"),
        state: first(&parameters, "state"),
        // Only a form confirms: an address could have been sent by anyone.
        confirmation: first(&parameters, "confirmation").filter(|_| posted),
    };
    let t = language.texts();
    match endpoints.issuer.sign_out(&asked, &visitor).await {
        Ok(SignOut::Done(to)) => {
            let mut response = match to {
                Some(address) => html::see_other(&address),
                None => rendered(language, StatusCode::OK, t.signed_out, &SignedOut { t }, ""),
            };
            let gone = html::host_cookie(SESSION_COOKIE, "", Some(std::time::Duration::ZERO));
            response.headers_mut().extend(gone.map(|gone| (SET_COOKIE, gone)));
            response
        }
        Ok(SignOut::Ask(confirmation)) => {
            let leads_to = asked.post_logout_redirect_uri.map(crate::redirect::origin).unwrap_or_default();
            let question = Question { t, confirmation: &confirmation, kept };
            rendered(language, StatusCode::OK, t.sign_out_question, &question, &leads_to)
        }
        Ok(SignOut::Refused(text)) => problem(language, StatusCode::BAD_REQUEST, text),
        Err(error) => failed(language, error),
    }
}
