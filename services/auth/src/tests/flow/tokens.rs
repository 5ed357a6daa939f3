//! ID tokens and userinfo.

use super::*;
use crate::algorithm::Algorithm;

#[tokio::test]
async fn an_id_token_says_what_was_asked_for_in_the_algorithm_of_its_client() {
    let world = World::new().await;
    for algorithm in Algorithm::ALL {
        let id = format!("wiki-{}", algorithm.name().to_lowercase());
        let wanted = algorithm.name().to_owned();
        let registration = Registration { id_token_signed_response_alg: wanted, ..first_party() };
        world.app(&id, false, registration).await;
        let user = somebody();
        let code = world.code(&id, user).await;
        let tokens = world.redeem(credentials(&id, ""), &code, VERIFIER).await.unwrap();
        let header: Value =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(tokens.id_token.split('.').next().unwrap()).unwrap())
                .unwrap();
        assert_eq!((&header["alg"], &header["typ"]), (&algorithm.name().into(), &"JWT".into()));
        let said = claims(&tokens.id_token);
        let access = claims(&tokens.access_token);
        assert_eq!((&said["iss"], &said["aud"]), (&ISSUER.into(), &id.as_str().into()));
        assert_eq!((&said["sub"], &said["nonce"]), (&user.to_string().into(), &"a nonce".into()));
        assert_eq!((&said["sid"], &said["auth_time"]), (&access["sid"], &access["auth_time"]));
        assert_eq!(said["at_hash"], algorithm.half_digest(&tokens.access_token));
        assert_eq!((&said["amr"][0], said["acr"].is_string()), (&"pwd".into(), true));
        assert!(said.get("name").is_none(), "userinfo says that");
        // It is published, and no access token.
        let hint = world.issuer.hint(&tokens.id_token).unwrap().unwrap();
        assert_eq!((hint.user, hint.client_id), (user, id));
        assert!(world.context.verifier.verify(&tokens.id_token).is_err(), "case 69");
        let forged = format!("{}A", &tokens.id_token[..tokens.id_token.len() - 1]);
        let forged = if forged == tokens.id_token { format!("{}B", &forged[..forged.len() - 1]) } else { forged };
        assert_eq!(world.issuer.hint(&forged.replacen('.', ".e30", 1)).unwrap(), None);
    }
}

#[tokio::test]
async fn case_62_userinfo() {
    let world = World::new().await;
    world.app("wiki", false, first_party()).await;
    let user = somebody();
    let code = world.code("wiki", user).await;
    let tokens = world.redeem(credentials("wiki", ""), &code, VERIFIER).await.unwrap();
    let ask = async |method: &str, token: Option<&str>| {
        let mut request = Request::builder().method(method).uri("/userinfo");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        Browser::default().send(&world, request.body(PageBody::empty()).unwrap()).await
    };
    for method in ["GET", "POST"] {
        let said = ask(method, Some(&tokens.access_token)).await.json();
        let expected = serde_json::json!({"sub": user.to_string(), "name": "Zoë", "preferred_username": "zoe"});
        assert_eq!(said, expected);
    }
    let by_form = [("access_token", tokens.access_token.as_str())];
    assert_eq!(Browser::default().post(&world, "/userinfo", &by_form).await.json()["name"], "Zoë");
    let nothing = ask("GET", None).await;
    assert_eq!(nothing.status, StatusCode::UNAUTHORIZED);
    assert_eq!(nothing.headers["www-authenticate"], "Bearer realm=\"flaghoist\"");
    for bad in ["garbage", &tokens.id_token, &tokens.refresh_token] {
        let refused = ask("GET", Some(bad)).await;
        assert_eq!((refused.status, &refused.json()["error"]), (StatusCode::UNAUTHORIZED, &"invalid_token".into()));
        assert!(refused.headers["www-authenticate"].to_str().unwrap().contains("error=\"invalid_token\""));
    }
    let (_, plain) = world.sign_in(user).await;
    let refused = ask("GET", Some(&plain.access_token)).await;
    assert_eq!((refused.status, &refused.json()["error"]), (StatusCode::FORBIDDEN, &"insufficient_scope".into()));
    world.revoke(credentials("wiki", ""), &tokens.refresh_token).await.unwrap();
    assert_eq!(ask("GET", Some(&tokens.access_token)).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn claims_that_were_asked_for_by_name_are_told_and_no_others() {
    let world = World::new().await;
    world.app("wiki", false, first_party()).await;
    let asked = r#"{"userinfo": {"name": null}, "id_token": {"preferred_username": {"essential": true}}}"#;
    let mut browser = Browser::default();
    let to_login = browser.authorize(&world, &but("wiki", &[("scope", "openid"), ("claims", asked)])).await;
    let back = browser.continues(&world, &to_login, somebody()).await;
    let tokens = world.redeem(credentials("wiki", ""), &back.parameter("code").unwrap(), VERIFIER).await.unwrap();
    let said = claims(&tokens.id_token);
    assert_eq!((said["preferred_username"].as_str(), said.get("name")), (Some("zoe"), None));
    let form = [("access_token", tokens.access_token.as_str())];
    let said = browser.post(&world, "/userinfo", &form).await.json();
    assert_eq!((said["name"].as_str(), said.get("preferred_username")), (Some("Zoë"), None));
}

#[tokio::test]
async fn without_openid_there_is_no_id_token_and_without_the_grant_no_refresh_token() {
    let world = World::new().await;
    world.app("wiki", false, Registration { grant_types: vec!["authorization_code".into()], ..first_party() }).await;
    let mut browser = Browser::default();
    let to_login = browser.authorize(&world, &but("wiki", &[("scope", "chat.read")])).await;
    let back = browser.continues(&world, &to_login, somebody()).await;
    let tokens = world.redeem(credentials("wiki", ""), &back.parameter("code").unwrap(), VERIFIER).await.unwrap();
    assert_eq!((tokens.id_token.as_str(), tokens.refresh_token.as_str(), tokens.scope.as_str()), ("", "", "chat.read"));
    assert!(!claims(&tokens.access_token)["sid"].is_null());
}

#[tokio::test]
async fn a_client_authenticates_in_the_way_that_it_registered() {
    let world = World::new().await;
    let only_post = Registration { token_endpoint_auth_method: "client_secret_post".into(), ..first_party() };
    let secret = world.app("bot", true, only_post).await;
    let form = [("grant_type", "client_credentials"), ("client_id", "bot"), ("client_secret", secret.as_str())];
    let posted = Browser::default().post(&world, "/oauth2/token", &form).await;
    assert_eq!((posted.status, &posted.json()["scope"]), (StatusCode::OK, &"chat.read".into()));
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("bot:{secret}"));
    let request = Request::post("/oauth2/token")
        .header("content-type", "application/x-www-form-urlencoded")
        .header("authorization", format!("Basic {basic}"))
        .body(PageBody::from("grant_type=client_credentials"))
        .unwrap();
    assert_eq!(Browser::default().send(&world, request).await.json()["error"], "invalid_client");
}
