//! Security keys and passkeys on the sign-in page, in place of the password and after it.

use axum::body::Body;
use axum::http::{Request, StatusCode};

use super::pages::*;
use super::world::*;

/// What the script of the page is told: the login, and what the key is to be asked.
async fn asked(browser: &Browser<'_>, login: &str) -> (String, String) {
    let told = browser.posts(&[("login", login), ("decision", "start_key")]).await;
    assert_eq!((told.status, &told.headers["content-type"]), (StatusCode::OK, &"application/json".parse().unwrap()));
    let told: serde_json::Value = serde_json::from_str(&told.body).unwrap();
    (told["login"].as_str().unwrap().to_owned(), told["options"].to_string())
}

async fn answers(browser: &Browser<'_>, login: &str, credential: &str) -> Page {
    browser.posts(&[("login", login), ("credential", credential), ("decision", "finish_key")]).await
}

#[tokio::test]
async fn a_passkey_signs_in_on_the_page_without_handle_and_password() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let mut key = Key::storing();
    alice.with_key(&mut key, true).await;
    let browser = Browser::comes(&world, "c1").await;
    let (login, options) = asked(&browser, "").await;
    let on = answers(&browser, &login, &key.get(&options, ORIGIN).await).await;
    assert_eq!(on.status, StatusCode::SEE_OTHER, "{}", on.body);
    let accepted = world.issuer.accepted();
    assert_eq!((accepted[0].user.clone(), accepted[0].amr.join(" ")), (alice.name(), "pop user mfa".to_owned()));
}

#[tokio::test]
async fn a_key_confirms_on_the_page_after_the_password() {
    for mut key in [Key::counting(), Key::storing()] {
        let world = World::new().await;
        let alice = world.person("alice").await;
        alice.with_key(&mut key, false).await;
        let browser = Browser::comes(&world, "c1").await;
        let page = browser.types("alice", PASSWORD).await;
        assert!(page.body.contains("data-keys") && page.body.contains("Recovery code"), "{}", page.body);
        let (login, options) = asked(&browser, &login_in(&page)).await;
        let answer = key.get(&options, ORIGIN).await;
        // Case 87: what was answered wrong has used the challenge up, and the page asks once more.
        let wrong = answers(&browser, &login, &spoiled(&answer, "signature")).await;
        assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(wrong.body.contains("was not accepted") && login_in(&wrong) == login, "{}", wrong.body);
        assert!(answers(&browser, &login, &answer).await.status.is_client_error(), "its challenge is gone");
        let (login, options) = asked(&browser, &login).await;
        let answer = key.get(&options, ORIGIN).await;
        let on = answers(&browser, &login, &answer).await;
        assert_eq!(on.status, StatusCode::SEE_OTHER, "{}", on.body);
        assert_eq!(world.issuer.accepted()[0].amr.join(" "), "pwd pop mfa");
        assert!(answers(&browser, &login, &answer).await.status.is_client_error(), "case 87: a replay");
    }
}

#[tokio::test]
async fn case_85_a_key_answers_for_the_browser_and_the_request_that_asked_it_alone() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let mut key = Key::storing();
    alice.with_key(&mut key, true).await;
    let mine = Browser::comes(&world, "c1").await;
    let theirs = Browser::comes(&world, "c2").await;
    let (login, options) = asked(&mine, "").await;
    let answer = key.get(&options, ORIGIN).await;
    // A login of another browser, one that no page began, and a page that is over.
    assert_eq!(answers(&theirs, &login, &answer).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    let started = world.at("192.0.2.1").start("alice").await;
    let told = mine.posts(&[("login", &started), ("decision", "start_key")]).await;
    assert_eq!(told.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", told.body);
    assert!(world.at("192.0.2.1").answer_key(&login, &answer).await.is_err(), "a login of the page, over gRPC");
    assert!(world.issuer.accepted().is_empty());
    assert_eq!(answers(&mine, &login, &answer).await.status, StatusCode::SEE_OTHER);
    let over = mine.posts(&[("decision", "start_key")]).await;
    assert_eq!(over.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn the_script_is_a_file_of_its_own() {
    let world = World::new().await;
    let script = send(&world, Request::get("/login/keys.js").body(Body::empty()).unwrap()).await;
    assert_eq!(script.headers["content-type"], "text/javascript; charset=utf-8");
    assert!(script.body.contains("navigator.credentials"));
    let posted = send(&world, Request::post("/login/keys.js").body(Body::empty()).unwrap()).await;
    assert_eq!(posted.status, StatusCode::METHOD_NOT_ALLOWED);
}
