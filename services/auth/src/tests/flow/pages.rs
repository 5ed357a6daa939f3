//! What browsers are shown, and what they are bound to.

use super::*;

#[tokio::test]
async fn case_1_2_and_8_where_nobody_is_trusted_there_is_a_page_and_no_redirect() {
    let world = World::new().await;
    world.app("wiki", false, first_party()).await;
    let device = |native| Registration { redirect_uris: vec!["http://127.0.0.1/cb".into()], native, ..first_party() };
    world.app("native", false, device(true)).await;
    world.app("onthedevice", false, device(false)).await;
    let mut browser = Browser::default();
    let elsewhere = ("redirect_uri", "http://127.0.0.1:51004/cb");
    for bad in [
        request("nobody"),
        request(""),
        but("wiki", &[("redirect_uri", "https://app.example.com/cb/x")]),
        but("wiki", &[("redirect_uri", "https://app.example.com/cb#x")]),
        but("wiki", &[("redirect_uri", "")]),
        [request("wiki"), vec![("client_id", "native")]].concat(),
        [request("wiki"), vec![("redirect_uri", "https://evil.test/")]].concat(),
        but("onthedevice", &[elsewhere]),
    ] {
        let page = browser.authorize(&world, &bad).await;
        assert_eq!(page.status, StatusCode::BAD_REQUEST, "{bad:?}");
        assert!(page.headers["content-type"].to_str().unwrap().starts_with("text/html"));
        assert!(page.headers["content-security-policy"].to_str().unwrap().contains("frame-ancestors 'none'"));
    }
    let native = browser.authorize(&world, &but("native", &[elsewhere])).await;
    let back = browser.continues(&world, &native, somebody()).await;
    assert!(back.location().starts_with("http://127.0.0.1:51004/cb?code="));
}

#[tokio::test]
async fn case_19_every_answer_names_the_issuer_and_nothing_is_kept_or_told_on_the_way() {
    let world = World::new().await;
    world.app("wiki", false, first_party()).await;
    let mut browser = Browser::default();
    for (name, value, error) in [
        ("response_type", "", "invalid_request"),
        ("response_type", "code id_token", "unsupported_response_type"),
        ("code_challenge", "", "invalid_request"),
        ("prompt", "none", "login_required"),
        ("request", "e30.e30.", "request_not_supported"),
        ("request_uri", "https://app.example.com/r", "invalid_request_uri"),
        ("id_token_hint", "garbage", "invalid_request"),
    ] {
        let page = browser.authorize(&world, &but("wiki", &[(name, value)])).await;
        assert_eq!(page.parameter("error").as_deref(), Some(error), "{name}");
        assert_eq!(page.parameter("iss").as_deref(), Some(ISSUER), "{name}");
        assert_eq!(page.parameter("state").as_deref(), Some("a state"), "{name}");
        assert_eq!(page.headers["referrer-policy"], "no-referrer");
        assert_eq!(page.headers["cache-control"], "no-store");
        assert_eq!(page.location().contains('#'), error == "unsupported_response_type", "{name}");
    }
}

#[tokio::test]
async fn case_20_a_posted_request_goes_on_by_303_with_the_cookies_of_the_browser() {
    let world = World::new().await;
    world.app("wiki", false, first_party()).await;
    let mut browser = Browser::default();
    browser.signs_in(&world, "wiki", somebody()).await;
    // A form of another site comes without cookies.
    let posted = Browser::default().post(&world, "/oauth2/authorize", &request("wiki")).await;
    let back = browser.get(&world, posted.location()).await;
    assert!(back.location().starts_with(HERE), "they are signed in: {}", back.location());
    let bad = but("wiki", &[("redirect_uri", "https://evil.test/")]);
    assert_eq!(browser.post(&world, "/oauth2/authorize", &bad).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn case_23_a_challenge_is_answered_once_and_finished_in_its_own_browser() {
    let world = World::new().await;
    world.app("wiki", false, first_party()).await;
    let user = somebody();
    let (mut attacker, mut victim) = (Browser::default(), Browser::default());
    victim.authorize(&world, &request("wiki")).await;
    let to_login = attacker.authorize(&world, &request("wiki")).await;
    let challenge = to_login.parameter("login_challenge").unwrap();
    let back = world.accepts(&challenge, user).await.unwrap();
    refused(world.accepts(&challenge, somebody()).await, Code::NotFound, Reason::NotFound);
    assert_eq!(victim.get(&world, &back).await.status, StatusCode::FORBIDDEN);
    // The victim's password opened nothing for the attacker.
    assert_eq!(attacker.get(&world, &back).await.status, StatusCode::FORBIDDEN);
    let mut unbound = Browser::default();
    let to_login = Browser::default().authorize(&world, &request("wiki")).await;
    let back = world.accepts(&to_login.parameter("login_challenge").unwrap(), user).await.unwrap();
    assert_eq!(unbound.get(&world, &back).await.status, StatusCode::FORBIDDEN, "no cookies, no way on");
    let done = victim.signs_in(&world, "wiki", user).await;
    assert!(done.location().starts_with(HERE));
    let expired = victim.authorize(&world, &but("wiki", &[("prompt", "login")])).await;
    world.wait(Duration::from_secs(15 * 60 + 1));
    let late = world.accepts(&expired.parameter("login_challenge").unwrap(), user).await;
    refused(late, Code::NotFound, Reason::NotFound);
}

#[tokio::test]
async fn case_24_the_cookie_of_a_session_is_a_new_one_after_every_sign_in() {
    let world = World::new().await;
    world.app("wiki", false, first_party()).await;
    let mut browser = Browser::default();
    browser.cookies.insert("__Host-flaghoist-session".into(), "planted-by-an-attacker".into());
    browser.signs_in(&world, "wiki", somebody()).await;
    let first = browser.cookies["__Host-flaghoist-session"].clone();
    assert_ne!(first, "planted-by-an-attacker");
    let again = browser.authorize(&world, &but("wiki", &[("prompt", "login")])).await;
    browser.continues(&world, &again, somebody()).await;
    assert_ne!(browser.cookies["__Host-flaghoist-session"], first);
    // The one before is worth nothing.
    let mut old = Browser::default();
    old.cookies.insert("__Host-flaghoist-session".into(), first);
    assert!(old.authorize(&world, &request("wiki")).await.location().contains("/login?"));
}

#[tokio::test]
async fn case_25_nothing_from_outside_becomes_part_of_a_page() {
    let world = World::new().await;
    world.app("wiki", false, web()).await;
    let mut browser = Browser::default();
    let question = browser.signs_in(&world, "wiki", somebody()).await;
    assert!(question.body.contains("Wiki &#60;b&#62;") && !question.body.contains("Wiki <b>"), "{}", question.body);
    let policy = question.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("form-action 'self' https://app.example.com"), "{policy}");
    let asked = [("client_id", "wiki"), ("state", "\"><script>alert(1)</script>")];
    let page = browser.get(&world, &format!("/oauth2/logout?{}", encoded(&asked))).await;
    assert!(page.body.contains("&#60;script&#62;") && !page.body.contains("<script>"), "{}", page.body);
}

#[tokio::test]
async fn case_1_an_address_that_was_taken_away_meanwhile_gets_no_code_and_no_error() {
    let world = World::new().await;
    world.app("wiki", false, web()).await;
    let mut asked = Vec::new();
    for decision in ["allow", "deny"] {
        let mut browser = Browser::default();
        let question = browser.signs_in(&world, "wiki", somebody()).await;
        let challenge = question.body.split("name=\"login_challenge\" value=\"").nth(1).unwrap();
        asked.push((browser, challenge.split('"').next().unwrap().to_owned(), decision));
    }
    let mut nobody = Browser::default();
    let to_login = nobody.authorize(&world, &request("wiki")).await;
    let login_challenge = to_login.parameter("login_challenge").unwrap();
    let rejected = RejectLoginRequestRequest { login_challenge };
    let back = world.login_requests().reject_login_request(rejected).await.unwrap().into_inner().redirect_to;
    let registration =
        Registration { redirect_uris: vec!["https://new.example.com/cb".into()], ..Registration::default() };
    let name = "clients/wiki".into();
    let request = UpdateClientRequest { name, registration: Some(registration), ..UpdateClientRequest::default() };
    world.clients(&world.admin().await).update_client(request).await.unwrap();
    let mut pages = vec![nobody.get(&world, &back).await];
    for (mut browser, challenge, decision) in asked {
        let form = [("login_challenge", challenge.as_str()), ("decision", decision)];
        pages.push(browser.post(&world, "/oauth2/consent", &form).await);
    }
    for page in pages {
        assert_eq!(page.status, StatusCode::FORBIDDEN);
        assert!(page.body.contains("not registered any more"), "{}", page.body);
    }
}

#[tokio::test]
async fn there_is_a_bound_on_sign_ins_that_are_under_way() {
    let world = World::with(Settings { login_requests_max: 3, ..Settings::default() }).await;
    world.app("wiki", false, first_party()).await;
    for _ in 0..3 {
        Browser::default().authorize(&world, &request("wiki")).await.location();
    }
    let one_more = Browser::default().authorize(&world, &request("wiki")).await;
    assert_eq!(one_more.status, StatusCode::TOO_MANY_REQUESTS);
    world.wait(Duration::from_secs(15 * 60 + 1));
    while upkeep::purge_some(&world.issuer).await.unwrap() {}
    Browser::default().authorize(&world, &request("wiki")).await.location();
}

#[tokio::test]
async fn one_browser_keeps_its_newest_twenty() {
    let world = World::new().await;
    world.app("wiki", false, first_party()).await;
    let mut browser = Browser::default();
    let mut challenges = Vec::new();
    for _ in 0..22 {
        world.wait(Duration::from_secs(1));
        challenges.push(browser.authorize(&world, &request("wiki")).await.parameter("login_challenge").unwrap());
    }
    refused(world.accepts(&challenges[0], somebody()).await, Code::NotFound, Reason::NotFound);
    world.accepts(&challenges[2], somebody()).await.unwrap();
}

#[tokio::test]
async fn a_person_who_does_not_want_to_is_no_error_of_the_client() {
    let world = World::new().await;
    world.app("wiki", false, first_party()).await;
    let mut browser = Browser::default();
    let to_login = browser.authorize(&world, &request("wiki")).await;
    let login_challenge = to_login.parameter("login_challenge").unwrap();
    let request = RejectLoginRequestRequest { login_challenge: login_challenge.clone() };
    let back = world.login_requests().reject_login_request(request).await.unwrap().into_inner().redirect_to;
    let denied = browser.get(&world, &back).await;
    assert_eq!(denied.parameter("error").as_deref(), Some("access_denied"));
    refused(world.accepts(&login_challenge, somebody()).await, Code::NotFound, Reason::NotFound);
}
