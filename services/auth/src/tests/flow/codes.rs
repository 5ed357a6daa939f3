//! Codes, good once.

use futures_util::future::join_all;

use super::*;

#[tokio::test]
async fn a_person_signs_in_and_the_client_gets_tokens() {
    let world = World::new().await;
    world.app("wiki", false, first_party()).await;
    let user = somebody();
    let mut browser = Browser::default();
    let back = browser.signs_in(&world, "wiki", user).await;
    assert!(back.location().starts_with(HERE));
    assert_eq!(back.parameter("state").as_deref(), Some("a state"));
    assert_eq!(back.parameter("iss").as_deref(), Some(ISSUER));
    let tokens = world.redeem(credentials("wiki", ""), &back.parameter("code").unwrap(), VERIFIER).await.unwrap();
    assert_eq!(tokens.scope, "chat.read openid profile");
    let caller = world.context.verifier.verify(&tokens.access_token).unwrap();
    assert_eq!((caller.user, caller.client_id.as_str()), (Some(user), "wiki"));
    let refreshed = world.refresh_as(credentials("wiki", ""), &tokens.refresh_token, "").await.unwrap();
    assert_eq!(claims(&refreshed.id_token)["sid"], claims(&tokens.id_token)["sid"]);
}

#[tokio::test]
async fn case_27_to_31_a_code_is_for_its_client_address_and_verifier_and_burns() {
    let world = World::new().await;
    world.app("wiki", false, first_party()).await;
    let secret = world.app("other", true, first_party()).await;
    let wiki = || credentials("wiki", "");
    let user = somebody();
    let mut refusals = Vec::new();
    for verifier in ["", CHALLENGE, "wrong"] {
        let code = world.code("wiki", user).await;
        refusals.push(world.redeem(wiki(), &code, verifier).await);
        refusals.push(world.redeem(wiki(), &code, VERIFIER).await);
    }
    let code = world.code("wiki", user).await;
    refusals.push(world.redeem_at(wiki(), &code, VERIFIER, "https://app.example.com/").await);
    refusals.push(world.redeem(wiki(), &code, VERIFIER).await);
    let code = world.code("wiki", user).await;
    refusals.push(world.redeem(credentials("other", &secret), &code, VERIFIER).await);
    refusals.push(world.redeem(wiki(), &code, VERIFIER).await);
    refusals.push(world.redeem(wiki(), "garbage", VERIFIER).await);
    for refusal in refusals {
        refused(refusal, Code::Unauthenticated, Reason::GrantInvalid);
    }
    let late = world.code("wiki", user).await;
    world.wait(Duration::from_secs(61));
    refused(world.redeem(wiki(), &late, VERIFIER).await, Code::Unauthenticated, Reason::GrantInvalid);
}

#[tokio::test]
async fn case_29_a_verifier_without_a_challenge_is_refused() {
    let world = World::new().await;
    let secret = world.app("bot", true, Registration { pkce_optional: true, ..first_party() }).await;
    let without = but("bot", &[("code_challenge", ""), ("code_challenge_method", "")]);
    let code = async || {
        let mut browser = Browser::default();
        let to_login = browser.authorize(&world, &without).await;
        browser.continues(&world, &to_login, somebody()).await.parameter("code").unwrap()
    };
    let bot = || credentials("bot", &secret);
    let sent = world.redeem(bot(), &code().await, VERIFIER).await;
    refused(sent, Code::Unauthenticated, Reason::GrantInvalid);
    world.redeem(bot(), &code().await, "").await.unwrap();
}

#[tokio::test]
async fn case_32_a_replayed_code_takes_back_what_it_gave_also_after_a_restart() {
    let mut world = World::new().await;
    world.app("wiki", false, first_party()).await;
    let wiki = || credentials("wiki", "");
    let user = somebody();
    let code = world.code("wiki", user).await;
    let tokens = world.redeem(wiki(), &code, VERIFIER).await.unwrap();
    world = world.restarted().await;
    world.context.verifier.verify(&tokens.access_token).unwrap();
    refused(world.redeem(wiki(), &code, VERIFIER).await, Code::Unauthenticated, Reason::GrantInvalid);
    assert!(world.context.verifier.verify(&tokens.access_token).is_err());
    let refresh = world.refresh_as(wiki(), &tokens.refresh_token, "").await;
    refused(refresh, Code::Unauthenticated, Reason::GrantInvalid);
}

#[tokio::test]
async fn case_33_fifty_parallel_redemptions_give_one_success() {
    let world = World::new().await;
    world.app("wiki", false, first_party()).await;
    let code = world.code("wiki", somebody()).await;
    let all = join_all((0..50).map(|_| world.redeem(credentials("wiki", ""), &code, VERIFIER))).await;
    assert_eq!(all.iter().filter(|redeemed| redeemed.is_ok()).count(), 1);
}

#[tokio::test]
async fn case_40_a_code_is_worth_nothing_once_its_person_is_disabled_or_their_sessions_end() {
    let world = World::new().await;
    world.app("wiki", false, first_party()).await;
    let wiki = || credentials("wiki", "");
    for revoke in [true, false] {
        let user = somebody();
        let code = world.code("wiki", user).await;
        if revoke {
            let all = RevokeSubjectSessionsRequest { user: user.name(), except_session: String::new() };
            world.subjects().revoke_subject_sessions(all).await.unwrap();
        } else {
            let state = SetSubjectStateRequest { user: user.name(), enabled: false, ..Default::default() };
            world.subjects().set_subject_state(state).await.unwrap();
        }
        let redeemed = world.redeem(wiki(), &code, VERIFIER).await;
        refused(redeemed, Code::Unauthenticated, Reason::GrantInvalid);
    }
}

#[tokio::test]
async fn pushed_requests_are_good_once_and_for_their_client() {
    let world = World::new().await;
    let secret = world.app("bot", true, first_party()).await;
    world.app("wiki", false, first_party()).await;
    let mut browser = Browser::default();
    let authenticated = [("client_secret", secret.as_str())];
    let pushed = browser.post(&world, "/oauth2/par", &[request("bot"), authenticated.to_vec()].concat()).await;
    assert_eq!(pushed.status, StatusCode::CREATED, "{}", pushed.body);
    let name = pushed.json()["request_uri"].as_str().unwrap().to_owned();
    let by_name = |client_id| vec![("client_id", client_id), ("request_uri", name.as_str()), ("redirect_uri", HERE)];
    let stolen = browser.authorize(&world, &by_name("wiki")).await;
    assert_eq!(stolen.parameter("error").as_deref(), Some("invalid_request_uri"));
    let to_login = browser.authorize(&world, &by_name("bot")).await;
    let back = browser.continues(&world, &to_login, somebody()).await;
    world.redeem(credentials("bot", &secret), &back.parameter("code").unwrap(), VERIFIER).await.unwrap();
    let again = browser.authorize(&world, &by_name("bot")).await;
    assert_eq!(again.parameter("error").as_deref(), Some("invalid_request_uri"));
    let nowhere = browser.authorize(&world, &by_name("bot")[..2]).await;
    assert_eq!(nowhere.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn case_18_what_cannot_be_pushed() {
    let world = World::new().await;
    world.app("wiki", false, first_party()).await;
    let mut browser = Browser::default();
    let bad_address = but("wiki", &[("redirect_uri", "https://evil.test/")]);
    let a_name = but("wiki", &[("request_uri", "urn:ietf:params:oauth:request_uri:x")]);
    for bad in [bad_address, a_name, but("wiki", &[("response_type", "")])] {
        let refused = browser.post(&world, "/oauth2/par", &bad).await;
        assert_eq!((refused.status, &refused.json()["error"]), (StatusCode::BAD_REQUEST, &"invalid_request".into()));
        assert_eq!(refused.headers["cache-control"], "no-store");
    }
    assert_eq!(browser.get(&world, "/oauth2/par").await.status, StatusCode::METHOD_NOT_ALLOWED);
    let nobody = browser.post(&world, "/oauth2/par", &request("nobody")).await;
    assert_eq!(nobody.json()["error"], "invalid_client");
}
