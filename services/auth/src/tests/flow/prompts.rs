//! Who is asked what, how often, and how people take it back and sign out.

use super::*;

#[tokio::test]
async fn who_is_signed_in_is_not_asked_again_until_they_have_to_be() {
    let world = World::new().await;
    world.app("wiki", false, first_party()).await;
    let user = somebody();
    let mut browser = Browser::default();
    browser.signs_in(&world, "wiki", user).await;
    world.wait(Duration::from_secs(100));
    for changes in [&[][..], &[("prompt", "none")], &[("max_age", "1000")]] {
        let page = browser.authorize(&world, &but("wiki", changes)).await;
        assert!(page.location().starts_with(HERE) && page.parameter("code").is_some(), "{changes:?}");
    }
    for changes in [[("prompt", "login")], [("max_age", "50")], [("prompt", "select_account")]] {
        let page = browser.authorize(&world, &but("wiki", &changes)).await;
        assert!(page.location().contains("/login?"), "{changes:?}");
    }
    let old = browser.authorize(&world, &but("wiki", &[("max_age", "50"), ("prompt", "none")])).await;
    assert_eq!(old.parameter("error").as_deref(), Some("login_required"));
    // Signing in again moves the time that the client is told.
    let page = browser.authorize(&world, &but("wiki", &[("max_age", "50")])).await;
    let back = browser.continues(&world, &page, user).await;
    let tokens = world.redeem(credentials("wiki", ""), &back.parameter("code").unwrap(), VERIFIER).await.unwrap();
    let since = world.clock.now().seconds() - claims(&tokens.id_token)["auth_time"].as_i64().unwrap();
    assert!((0..20).contains(&since), "{since}");
    world.wait(Duration::from_secs(12 * 3600));
    let idle = browser.authorize(&world, &request("wiki")).await;
    assert!(idle.location().contains("/login?"), "12 hours are too long");
}

#[tokio::test]
async fn a_wish_for_two_factors_asks_whoever_has_signed_in_by_one() {
    let world = World::new().await;
    world.app("wiki", false, first_party()).await;
    let user = somebody();
    let mut browser = Browser::default();
    browser.signs_in(&world, "wiki", user).await;
    let two = ("acr_values", "urn:flaghoist:acr:2fa");
    let silent = browser.authorize(&world, &but("wiki", &[two, ("prompt", "none")])).await;
    assert!(silent.parameter("code").is_some(), "a wish is no reason to refuse");
    let asked = browser.authorize(&world, &but("wiki", &[two])).await;
    assert!(asked.location().contains("/login?"), "{}", asked.location());
    let back = browser.continues(&world, &asked, user).await;
    let tokens = world.redeem(credentials("wiki", ""), &back.parameter("code").unwrap(), VERIFIER).await.unwrap();
    assert_eq!(claims(&tokens.id_token)["acr"], "urn:flaghoist:acr:1fa", "the client sees what it got");
}

#[tokio::test]
async fn case_15_consent_is_asked_for_once_remembered_listed_and_taken_back() {
    let world = World::new().await;
    world.app("wiki", false, web()).await;
    let user = somebody();
    let mut browser = Browser::default();
    let question = browser.signs_in(&world, "wiki", user).await;
    assert_eq!(question.status, StatusCode::OK);
    let challenge = question.body.split("name=\"login_challenge\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let none = browser.authorize(&world, &but("wiki", &[("prompt", "none")])).await;
    assert_eq!(none.parameter("error").as_deref(), Some("consent_required"));
    // Another browser cannot agree; and then nobody can.
    let decision = [("login_challenge", challenge), ("decision", "allow")];
    let forged = Browser::default().post(&world, "/oauth2/consent", &decision).await;
    assert_eq!(forged.status, StatusCode::FORBIDDEN);
    assert_eq!(browser.post(&world, "/oauth2/consent", &decision).await.status, StatusCode::FORBIDDEN);
    for (decision, error) in [("deny", Some("access_denied")), ("allow", None)] {
        let asked = browser.authorize(&world, &request("wiki")).await;
        let challenge = asked.parameter("login_challenge").unwrap();
        assert_eq!(browser.get(&world, asked.location()).await.status, StatusCode::OK);
        let form = [("login_challenge", challenge.as_str()), ("decision", decision)];
        let back = browser.post(&world, "/oauth2/consent", &form).await;
        assert_eq!(back.parameter("error").as_deref(), error, "{}", back.location());
        assert_eq!(browser.post(&world, "/oauth2/consent", &form).await.status, StatusCode::FORBIDDEN, "once");
    }
    let back = browser.authorize(&world, &but("wiki", &[("prompt", "none")])).await;
    let tokens = world.redeem(credentials("wiki", ""), &back.parameter("code").unwrap(), VERIFIER).await.unwrap();
    let again = browser.authorize(&world, &but("wiki", &[("prompt", "consent")])).await;
    assert!(again.location().contains("/oauth2/continue?"));
    let wider =
        browser.authorize(&world, &but("wiki", &[("scope", "openid offline_access"), ("prompt", "none")])).await;
    assert_eq!(wider.parameter("error").as_deref(), Some("consent_required"));

    let (_, own) = world.sign_in(user).await;
    let mut consents = world.consents(&own.access_token);
    let listed = consents.list_consents(ListConsentsRequest::default()).await.unwrap().into_inner().consents;
    assert_eq!((listed.len(), listed[0].scopes.join(" ").as_str()), (1, "chat.read openid profile"));
    let name = listed[0].name.clone();
    let (_, stranger) = world.sign_in(somebody()).await;
    let theirs = RevokeConsentRequest { name: name.clone() };
    let answer = world.consents(&stranger.access_token).revoke_consent(theirs).await;
    refused(answer, Code::NotFound, Reason::NotFound);
    consents.revoke_consent(RevokeConsentRequest { name }).await.unwrap();
    assert!(world.context.verifier.verify(&tokens.access_token).is_err(), "the client's session ends");
    world.context.verifier.verify(&own.access_token).unwrap();
    let asked = browser.authorize(&world, &but("wiki", &[("prompt", "none")])).await;
    assert_eq!(asked.parameter("error").as_deref(), Some("consent_required"));
}

#[tokio::test]
async fn an_id_token_hint_says_who_it_must_be() {
    let world = World::new().await;
    world.app("wiki", false, first_party()).await;
    let user = somebody();
    let mut browser = Browser::default();
    let code = browser.signs_in(&world, "wiki", user).await.parameter("code").unwrap();
    let tokens = world.redeem(credentials("wiki", ""), &code, VERIFIER).await.unwrap();
    let hinted = but("wiki", &[("id_token_hint", tokens.id_token.as_str()), ("prompt", "none")]);
    assert!(browser.authorize(&world, &hinted).await.parameter("code").is_some());
    let mut other = Browser::default();
    other.signs_in(&world, "wiki", somebody()).await;
    let answer = other.authorize(&world, &hinted).await;
    assert_eq!(answer.parameter("error").as_deref(), Some("login_required"));
    // An access token is no hint, although the same issuer has signed it.
    let wrong = but("wiki", &[("id_token_hint", tokens.access_token.as_str())]);
    assert_eq!(browser.authorize(&world, &wrong).await.parameter("error").as_deref(), Some("invalid_request"));
}

#[tokio::test]
async fn case_64_signing_out() {
    let world = World::new().await;
    let bye = "https://app.example.com/bye";
    let registration = Registration { post_logout_redirect_uris: vec![bye.into()], ..first_party() };
    world.app("wiki", false, registration).await;
    let user = somebody();
    let mut browser = Browser::default();
    let signed_in = async |browser: &mut Browser| {
        let page = browser.authorize(&world, &but("wiki", &[("prompt", "login")])).await;
        let code = browser.continues(&world, &page, user).await.parameter("code").unwrap();
        world.redeem(credentials("wiki", ""), &code, VERIFIER).await.unwrap()
    };
    let tokens = signed_in(&mut browser).await;
    let hint = ("id_token_hint", tokens.id_token.as_str());
    let logout = |parameters: &[(&str, &str)]| format!("/oauth2/logout?{}", encoded(parameters));
    let evil = ("post_logout_redirect_uri", "https://evil.test/");
    for bad in [vec![hint, evil], vec![("id_token_hint", "broken")], vec![evil], vec![("client_id", "wiki"), evil]] {
        assert_eq!(browser.get(&world, &logout(&bad)).await.status, StatusCode::BAD_REQUEST, "{bad:?}");
    }
    world.context.verifier.verify(&tokens.access_token).unwrap();
    let good = [hint, ("post_logout_redirect_uri", bye), ("state", "s")];
    let out = browser.get(&world, &logout(&good)).await;
    assert_eq!(out.location(), "https://app.example.com/bye?state=s");
    assert!(world.context.verifier.verify(&tokens.access_token).is_err());
    let again = browser.authorize(&world, &but("wiki", &[("prompt", "none")])).await;
    assert_eq!(again.parameter("error").as_deref(), Some("login_required"));
    // Without a hint the person is asked, and only the form of that page says yes.
    signed_in(&mut browser).await;
    let page = browser.get(&world, "/oauth2/logout").await;
    let confirmation = page.body.split("name=\"confirmation\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let by_address = browser.get(&world, &logout(&[("confirmation", confirmation)])).await;
    assert_eq!(by_address.status, StatusCode::OK);
    browser.post(&world, "/oauth2/logout", &[("confirmation", "guessed")]).await;
    let still = browser.authorize(&world, &but("wiki", &[("prompt", "none")])).await;
    assert!(still.parameter("code").is_some());
    browser.post(&world, "/oauth2/logout", &[("confirmation", confirmation)]).await;
    let over = browser.authorize(&world, &but("wiki", &[("prompt", "none")])).await;
    assert_eq!(over.parameter("error").as_deref(), Some("login_required"));
}
