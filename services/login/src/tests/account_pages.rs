//! The account pages before someone has signed in to them; the rest is tried in a real browser, by tests/clients/pages.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use url::Url;

use super::pages::{Page, send};
use super::world::*;

const PAGES: [&str; 7] = [
    "/account",
    "/account/security",
    "/account/authenticator",
    "/account/security-key",
    "/account/password",
    "/account/sessions",
    "/account/applications",
];

async fn get(world: &World, path: &str, cookie: &str) -> Page {
    send(world, Request::get(path).header("cookie", cookie).body(Body::empty()).unwrap()).await
}

async fn post(world: &World, path: &str, form: &'static str) -> Page {
    let request = Request::post(path).header("content-type", "application/x-www-form-urlencoded");
    send(world, request.header("cookie", "__Host-flaghoist-account=guessed").body(form.into()).unwrap()).await
}

fn parameter(address: &Url, name: &str) -> String {
    address.query_pairs().find(|(is, _)| is == name).map(|(_, value)| value.into_owned()).unwrap_or_default()
}

#[tokio::test]
async fn who_is_not_signed_in_is_sent_to_the_issuer_bound_to_their_browser() {
    let world = World::new().await;
    let mut states = std::collections::BTreeSet::new();
    for path in PAGES {
        for page in [get(&world, path, "").await, get(&world, path, "__Host-flaghoist-account=guessed").await] {
            assert_eq!(page.status, StatusCode::SEE_OTHER, "{path}");
            let set = page.headers["set-cookie"].to_str().unwrap();
            assert!(set.starts_with("__Host-flaghoist-account-begun=") && set.contains("Secure; HttpOnly"), "{set}");
            let to = Url::parse(page.headers["location"].to_str().unwrap()).unwrap();
            assert_eq!((to.origin().ascii_serialization().as_str(), to.path()), (ORIGIN, "/oauth2/authorize"));
            assert_eq!(parameter(&to, "redirect_uri"), format!("{ORIGIN}/account/callback"));
            assert_eq!(
                (parameter(&to, "code_challenge_method"), parameter(&to, "code_challenge").len()),
                ("S256".into(), 43)
            );
            assert!(!parameter(&to, "nonce").is_empty() && states.insert(parameter(&to, "state")), "a state twice");
        }
    }
}

#[tokio::test]
async fn case_22_no_code_is_taken_that_this_browser_has_not_asked_for() {
    let world = World::new().await;
    let begun = get(&world, "/account/sessions", "").await;
    let cookie = begun.headers["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let state = parameter(&Url::parse(begun.headers["location"].to_str().unwrap()).unwrap(), "state");
    let other = get(&world, "/account", "").await;
    let other = other.headers["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let issuer = "iss=https://chat.example.com";
    for (query, cookie) in [
        (format!("code=c&state={state}&{issuer}"), ""),
        (format!("code=c&state={state}&{issuer}"), other.as_str()),
        (format!("code=c&state={state}0&{issuer}"), &cookie),
        (format!("code=c&{issuer}"), &cookie),
        (format!("code=c&state={state}&iss=https://evil.example.com"), &cookie),
        (format!("error=access_denied&state={state}&{issuer}"), &cookie),
        // The issuer of these tests exchanges no codes, so what is right so far ends here too.
        (format!("code=c&state={state}&{issuer}"), &cookie),
    ] {
        let page = get(&world, &format!("/account/callback?{query}"), cookie).await;
        assert_eq!(page.status, StatusCode::FORBIDDEN, "{query}");
        assert!(!page.headers.contains_key("set-cookie") && page.body.contains("href=\"/account\""), "{}", page.body);
    }
}

#[tokio::test]
async fn a_form_of_nobody_changes_nothing() {
    let world = World::new().await;
    for path in PAGES.into_iter().chain(["/account/sign-out"]) {
        assert_eq!(post(&world, path, "name=Eve&token=x").await.status, StatusCode::SEE_OTHER, "{path}");
    }
    let told = post(&world, "/account/security-key", "decision=start_key").await;
    assert_eq!((told.status, told.body.as_str()), (StatusCode::OK, r#"{"go":"/account/security-key"}"#));
}
