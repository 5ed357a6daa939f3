//! `/oauth2/authorize`, where a browser comes with a request; `/oauth2/continue`, where it comes back from login; and the answer to the
//! question whether the person agrees.

use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode};
use axum::response::Response;
use flaghoist_runtime::html::see_other;

use super::Endpoints;
use super::browser::{Visit, failed, problem, reply};
use super::metadata::AUTHORIZATION_PATH;
use crate::authorization::{Refusal, first};
use crate::error::Error;
use crate::flow::{PUSHED_PREFIX, Unread};

/// Follows an authorization request.
pub(super) async fn authorize(State(endpoints): State<Endpoints>, request: Request<Body>) -> Response {
    let Visit { parameters, posted, visitor, language } = match Visit::read(request, endpoints.trusted_hops).await {
        Ok(visit) => visit,
        Err(page) => return page,
    };
    let issuer = &endpoints.issuer;
    let mut named = parameters.iter().filter(|(name, _)| name == "client_id").map(|(_, value)| value.as_str());
    let (Some(client_id), None) = (named.next().filter(|id| !id.is_empty()), named.next()) else {
        return problem(language, StatusCode::BAD_REQUEST, "client_id is missing, or there twice");
    };
    let client = match issuer.clients.get(client_id).await {
        Ok(Some(client)) => client,
        Ok(None) => {
            return problem(language, StatusCode::BAD_REQUEST, "client_id is not the id of a registered client");
        }
        Err(error) => return failed(language, error.into()),
    };
    let pushed = match first(&parameters, "request_uri").filter(|name| name.starts_with(PUSHED_PREFIX)) {
        Some(name) => match issuer.pushed(&client, name).await {
            Ok(pushed) => pushed,
            Err(error) => return failed(language, error),
        },
        None => None,
    };
    // One that is unknown by now is refused like any `request_uri`, if there is an address to say so to.
    let read = match pushed {
        Some(request) => Ok(request),
        None => issuer.read_request(&parameters, &client),
    };
    let request = match read {
        Ok(request) => request,
        Err(Unread::Refused(Refusal::Untrusted(text))) => return problem(language, StatusCode::BAD_REQUEST, text),
        Err(Unread::Refused(Refusal::Denied(denial))) => {
            return denial
                .address(&issuer.url)
                .map_or_else(|| failed(language, Error::Internal), |address| see_other(&address));
        }
        Err(Unread::Failed(error)) => return failed(language, error),
    };
    if posted {
        // A form of another site comes without the cookies that tell who is signed in; the redirect that follows brings them.
        return match issuer.push(&client, &request, &visitor.address).await {
            Ok(name) => see_other(&pushed_address(&issuer.url, &client.id, &name)),
            Err(error) => failed(language, error),
        };
    }
    reply(&endpoints, language, issuer.authorize(&client, request, &visitor).await)
}

/// Where a browser goes with a request that was pushed.
fn pushed_address(issuer: &str, client_id: &str, name: &str) -> String {
    // Both are made of letters that an address may have as they are, but for colons.
    format!(
        "{}{AUTHORIZATION_PATH}?client_id={client_id}&request_uri={}",
        issuer.trim_end_matches('/'),
        name.replace(':', "%3A")
    )
}

/// Goes on with a browser that comes back from login.
pub(super) async fn resume(State(endpoints): State<Endpoints>, request: Request<Body>) -> Response {
    let Visit { parameters, visitor, language, .. } = match Visit::read(request, endpoints.trusted_hops).await {
        Ok(visit) => visit,
        Err(page) => return page,
    };
    let Some(challenge) = first(&parameters, "login_challenge") else {
        return problem(language, StatusCode::BAD_REQUEST, "login_challenge is missing");
    };
    reply(&endpoints, language, endpoints.issuer.resume(challenge, &visitor).await)
}

/// Takes the answer of the person. That it comes from our page is known by the challenge and the cookie together: neither is sent by,
/// or known to, another site.
pub(super) async fn consent(State(endpoints): State<Endpoints>, request: Request<Body>) -> Response {
    let Visit { parameters, visitor, language, .. } = match Visit::read(request, endpoints.trusted_hops).await {
        Ok(visit) => visit,
        Err(page) => return page,
    };
    let (Some(challenge), Some(decision)) = (first(&parameters, "login_challenge"), first(&parameters, "decision"))
    else {
        return problem(language, StatusCode::BAD_REQUEST, "login_challenge or decision is missing");
    };
    reply(&endpoints, language, endpoints.issuer.decide(challenge, decision == "allow", &visitor).await)
}
