//! What clients are told of a person: by the scopes email, phone and address, by the names of claims, and as it is now.

use serde_json::json;

use super::*;

impl World {
    async fn says(&self, user: UserId, email: &str) {
        let request = SetSubjectProfileRequest {
            user: user.name(),
            display_name: "Zoë".into(),
            handle: "zoe".into(),
            email: email.into(),
            email_verified: true,
            phone_number: "+41441234567".into(),
            phone_number_verified: false,
            address: "1 Road\r\nTown\u{7}".into(),
        };
        self.subjects().set_subject_profile(request).await.unwrap();
    }

    async fn told(&self, tokens: &TokenSet) -> Value {
        let form = [("access_token", tokens.access_token.as_str())];
        let mut said = Browser::default().post(self, "/userinfo", &form).await.json();
        said.as_object_mut().unwrap().remove("sub");
        said
    }

    /// Tokens of `user` for a request with these parameters.
    async fn asked(&self, user: UserId, changes: &[(&str, &str)]) -> TokenSet {
        let mut browser = Browser::default();
        let to_login = browser.authorize(self, &but("wiki", changes)).await;
        let back = browser.continues(self, &to_login, user).await;
        self.redeem(credentials("wiki", ""), &back.parameter("code").unwrap(), VERIFIER).await.unwrap()
    }
}

#[tokio::test]
async fn each_scope_tells_its_claims_and_userinfo_follows_what_login_says() {
    let world = World::new().await;
    world.app("wiki", false, first_party()).await;
    let user = somebody();
    let all = world.asked(user, &[("scope", "openid profile email phone address")]).await;
    assert_eq!(
        world.told(&all).await,
        json!({"name": "Zoë", "preferred_username": "zoe"}),
        "there is nothing else yet"
    );
    world.says(user, "zoe@example.com").await;
    let expected = json!({
        "name": "Zoë", "preferred_username": "zoe", "email": "zoe@example.com", "email_verified": true,
        "phone_number": "+41441234567", "phone_number_verified": false, "address": {"formatted": "1 Road\nTown"},
    });
    assert_eq!(world.told(&all).await, expected);
    world.says(user, "").await;
    let now = world.told(&all).await;
    assert!(now.get("email").is_none() && now.get("email_verified").is_none());
    world.says(user, "new@example.com").await;
    // Signing in again says all anew; the tests' login knows no address.
    let only = world.asked(user, &[("scope", "openid email")]).await;
    assert_eq!(world.told(&only).await, json!({}));
    world.says(user, "new@example.com").await;
    assert_eq!(world.told(&only).await, json!({"email": "new@example.com", "email_verified": true}));
    // Of somebody who has never signed in on the page nothing is kept.
    world.says(somebody(), "nobody@example.com").await;
}

#[tokio::test]
async fn a_claim_is_asked_for_by_name_within_what_the_client_may_have_and_people_agree_to_it() {
    let world = World::new().await;
    world.app("wiki", false, first_party()).await;
    let user = somebody();
    let asked = json!({"userinfo": {"email": null, "phone_number": null, "zoneinfo": null}}).to_string();
    let tokens = world.asked(user, &[("scope", "openid"), ("claims", &asked)]).await;
    world.says(user, "zoe@example.com").await;
    assert_eq!(world.told(&tokens).await, json!({"email": "zoe@example.com", "phone_number": "+41441234567"}));
    // A client that is not of the installation: the page names what the claim shows.
    world.app("other", false, web()).await;
    let mut browser = Browser::default();
    let to_login = browser.authorize(&world, &but("other", &[("scope", "openid"), ("claims", &asked)])).await;
    let page = browser.continues(&world, &to_login, user).await;
    assert!(page.body.contains("see your email address") && page.body.contains("see your telephone number"));
}

#[tokio::test]
async fn a_claim_by_name_is_in_the_id_token_as_far_as_the_client_may_have_it_when_the_code_is_redeemed() {
    let world = World::new().await;
    world.app("wiki", false, first_party()).await;
    let user = somebody();
    let asked = json!({"id_token": {"name": null, "preferred_username": null}}).to_string();
    let code = async || {
        let mut browser = Browser::default();
        let to_login = browser.authorize(&world, &but("wiki", &[("scope", "openid"), ("claims", &asked)])).await;
        browser.continues(&world, &to_login, user).await.parameter("code").unwrap()
    };
    let told =
        async |code: &str| claims(&world.redeem(credentials("wiki", ""), code, VERIFIER).await.unwrap().id_token);
    assert_eq!(told(&code().await).await["name"], "Zoë");
    // An admin takes the scope away while a code is on its way.
    let code = code().await;
    let update = UpdateClientRequest {
        name: "clients/wiki".into(),
        scopes: Some(ClientScopes { scopes: vec!["openid".into()] }),
        ..UpdateClientRequest::default()
    };
    world.clients(&world.admin().await).update_client(update).await.unwrap();
    let told = told(&code).await;
    assert!(told.get("name").is_none() && told.get("preferred_username").is_none(), "{told}");
}

/// OpenID Connect Core §11 leaves refresh tokens without `offline_access` to the issuer: here the grant decides.
#[tokio::test]
async fn refresh_tokens_go_by_the_grant_whether_or_not_offline_access_is_asked_for() {
    let world = World::new().await;
    world.app("wiki", false, first_party()).await;
    for scope in ["openid", "openid offline_access"] {
        let tokens = world.asked(somebody(), &[("scope", scope)]).await;
        assert!(!tokens.refresh_token.is_empty() && tokens.scope == scope, "{scope}: {}", tokens.scope);
    }
    // Who is not of the installation has people asked for it.
    world.app("other", false, web()).await;
    let mut browser = Browser::default();
    let to_login = browser.authorize(&world, &but("other", &[("scope", "openid offline_access")])).await;
    assert!(browser.continues(&world, &to_login, somebody()).await.body.contains("do so while you are away"));
}

#[tokio::test]
async fn pages_of_public_clients_may_call_what_clients_call_and_every_page_reads_the_metadata() {
    let world = World::new().await;
    world.app("wiki", false, first_party()).await;
    let elsewhere = vec!["https://server.example.com/cb".into()];
    world.app("server", true, Registration { redirect_uris: elsewhere, ..first_party() }).await;
    let (app, server, evil) = ("https://app.example.com", "https://server.example.com", "https://evil.test");
    let ask = async |method: &str, path: &str, origin: &str| {
        let request = Request::builder().method(method).uri(path).header("origin", origin);
        let request = request.header("access-control-request-method", "POST");
        let page = Browser::default().send(&world, request.body(PageBody::empty()).unwrap()).await;
        assert!(!page.headers.contains_key("access-control-allow-credentials"), "{path}");
        let allowed = page.headers.get("access-control-allow-origin");
        (page.status, allowed.map(|origin| origin.to_str().unwrap().to_owned()).unwrap_or_default())
    };
    for path in ["/.well-known/openid-configuration", "/.well-known/oauth-authorization-server", "/oauth2/jwks"] {
        assert_eq!(ask("GET", path, evil).await, (StatusCode::OK, "*".into()), "{path}");
    }
    for path in ["/oauth2/token", "/oauth2/revoke", "/oauth2/par", "/oauth2/device_authorization", "/userinfo"] {
        assert_eq!(ask("OPTIONS", path, app).await, (StatusCode::OK, app.into()), "{path}");
        assert_eq!(ask("POST", path, app).await.1, app, "{path}");
        for other in [server, evil, "null", "https://app.example.com.evil.test", "http://app.example.com"] {
            assert_eq!((ask("OPTIONS", path, other).await.1, ask("POST", path, other).await.1), ("".into(), "".into()));
        }
    }
    for path in
        ["/oauth2/authorize", "/oauth2/logout", "/oauth2/introspect", "/oauth2/register", "/device", "/oauth2/consent"]
    {
        for method in ["OPTIONS", "GET", "POST"] {
            assert_eq!(ask(method, path, app).await.1, "", "{method} {path}");
        }
    }
}
