//! Programs that register themselves (RFC 7591), with a token that an admin has made for that.

use ::http::{HeaderMap, Request, StatusCode};
use axum::body::{Body as PageBody, to_bytes};
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::flow::{Browser, HERE, VERIFIER};
use super::*;

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl World {
    async fn registration_token(&self, scopes: &[&str], uses: i32) -> String {
        let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        let request = CreateRegistrationTokenRequest { scopes, uses, lifetime: None };
        let mut clients = self.clients(&self.admin().await);
        clients.create_registration_token(request).await.unwrap().into_inner().registration_token
    }

    async fn registers(&self, token: &str, metadata: &Value) -> Answer {
        let mut request = Request::post("/oauth2/register").header("content-type", "application/json");
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(PageBody::from(metadata.to_string())).unwrap();
        let response = self.parts.http.clone().unwrap().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        Answer { status: head.status, headers: head.headers, body: serde_json::from_slice(&body).unwrap() }
    }
}

#[tokio::test]
async fn a_program_registers_itself_and_people_sign_in_with_it() {
    let world = World::new().await;
    let token = world.registration_token(&["openid", "profile"], 2).await;
    let metadata = json!({
        "client_name": "Wiki", "redirect_uris": [HERE], "scope": "openid admin", "unknown": {"x": 1},
        "token_endpoint_auth_method": "none",
    });
    let made = world.registers(&token, &metadata).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
    assert_eq!(made.headers["cache-control"], "no-store");
    assert_eq!((&made.body["scope"], &made.body["client_name"]), (&"openid".into(), &"Wiki".into()));
    assert!(made.body.get("client_secret").is_none());
    let id = made.body["client_id"].as_str().unwrap().to_owned();
    let user = somebody();
    let mut browser = Browser::default();
    let question = browser.signs_in(&world, &id, user).await;
    assert!(question.status == 200 && question.body.contains("Wiki"), "its people are always asked");
    let challenge = question.body.split("name=\"login_challenge\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let form = [("login_challenge", challenge), ("decision", "allow")];
    let back = browser.post(&world, "/oauth2/consent", &form).await;
    let code = back.parameter("code").unwrap();
    world.redeem(credentials(&id, ""), &code, VERIFIER).await.unwrap();
    // A confidential one, as it is if nothing is said.
    let metadata = json!({"redirect_uris": [HERE], "grant_types": ["client_credentials", "authorization_code"]});
    let made = world.registers(&token, &metadata).await;
    let (id, secret) = (made.body["client_id"].as_str().unwrap(), made.body["client_secret"].as_str().unwrap());
    assert_eq!((secret.len(), &made.body["client_secret_expires_at"]), (43, &0.into()));
    assert_eq!(made.body["token_endpoint_auth_method"], "client_secret_basic");
    world.client_token(credentials(id, secret), "").await.unwrap();
    let told = world.audited(AuditAction::RegistrationTokenCreated).await;
    assert_eq!(told[0].detail, "2 clients, scopes openid profile");
    let created = world.audited(AuditAction::ClientCreated).await;
    assert!(created.iter().any(|event| event.subject == format!("clients/{id}")));
}

#[tokio::test]
async fn a_token_is_good_for_as_many_as_it_says_and_nobody_else_registers() {
    let world = World::new().await;
    let token = world.registration_token(&["openid"], 3).await;
    let metadata = json!({"redirect_uris": [HERE]});
    let all = join_all((0..20).map(|_| world.registers(&token, &metadata))).await;
    assert_eq!(all.iter().filter(|answer| answer.status == StatusCode::CREATED).count(), 3);
    let (_, person) = world.sign_in(somebody()).await;
    let admin = world.admin().await;
    for bad in ["", "garbage", &token, &person.access_token, &admin] {
        let answer = world.registers(bad, &metadata).await;
        assert_eq!((answer.status, &answer.body["error"]), (StatusCode::UNAUTHORIZED, &"invalid_token".into()));
        assert!(answer.headers["www-authenticate"].to_str().unwrap().starts_with("Bearer "));
    }
    let late = world.registration_token(&["openid"], 0).await;
    world.wait(Duration::from_secs(3601));
    assert_eq!(world.registers(&late, &metadata).await.status, StatusCode::UNAUTHORIZED);
    let request = CreateRegistrationTokenRequest::default();
    let answer = world.clients(&person.access_token).create_registration_token(request).await;
    refused(answer, Code::PermissionDenied, Reason::ScopeMissing);
}

#[tokio::test]
async fn case_7_what_cannot_be_registered_costs_no_use() {
    let world = World::new().await;
    let token = world.registration_token(&["openid"], 1).await;
    for (metadata, error) in [
        (json!({"redirect_uris": ["http://localhost.evil.test/cb"]}), "invalid_redirect_uri"),
        (json!({"redirect_uris": ["https://app.example.com/cb#x"]}), "invalid_redirect_uri"),
        (json!({"redirect_uris": []}), "invalid_redirect_uri"),
        (json!({}), "invalid_redirect_uri"),
        (json!({"redirect_uris": vec![HERE; 21]}), "invalid_redirect_uri"),
        (json!({"redirect_uris": HERE}), "invalid_client_metadata"),
        (json!([]), "invalid_client_metadata"),
        (json!({"redirect_uris": [HERE], "response_types": ["token"]}), "invalid_client_metadata"),
        (json!({"redirect_uris": [HERE], "grant_types": ["password"]}), "invalid_client_metadata"),
        (json!({"redirect_uris": [HERE], "token_endpoint_auth_method": "tls_client_auth"}), "invalid_client_metadata"),
        (json!({"redirect_uris": [HERE], "token_endpoint_auth_method": "private_key_jwt"}), "invalid_client_metadata"),
        (json!({"redirect_uris": [HERE], "jwks_uri": "https://app.example.com/jwks"}), "invalid_client_metadata"),
        (json!({"redirect_uris": [HERE], "application_type": "x"}), "invalid_client_metadata"),
        (json!({"redirect_uris": [HERE], "id_token_signed_response_alg": "none"}), "invalid_client_metadata"),
        (json!({"redirect_uris": [HERE], "backchannel_logout_uri": "http://evil.test/"}), "invalid_client_metadata"),
        // An admin's word is needed for what only the issuer reaches.
        (
            json!({"redirect_uris": [HERE], "backchannel_logout_uri": "http://127.0.0.1:15000/"}),
            "invalid_client_metadata",
        ),
        (json!({"redirect_uris": [HERE], "backchannel_logout_uri": "https://127.0.0.1/"}), "invalid_client_metadata"),
        (json!({"redirect_uris": [HERE], "backchannel_logout_uri": "https://[fd00::1]/"}), "invalid_client_metadata"),
        (json!({"redirect_uris": [HERE], "backchannel_logout_uri": "https://localhost/"}), "invalid_client_metadata"),
        (
            json!({"redirect_uris": [HERE], "backchannel_logout_uri": "https://x.localhost./"}),
            "invalid_client_metadata",
        ),
        // Whose tokens may be exchanged is for an admin to say.
        (
            json!({"redirect_uris": [HERE], "grant_types": ["urn:ietf:params:oauth:grant-type:token-exchange"]}),
            "invalid_client_metadata",
        ),
    ] {
        let answer = world.registers(&token, &metadata).await;
        assert_eq!((answer.status, &answer.body["error"]), (StatusCode::BAD_REQUEST, &error.into()), "{metadata}");
    }
    let good = json!({"redirect_uris": [HERE], "backchannel_logout_uri": "https://app.example.com/bye"});
    let made = world.registers(&token, &good).await;
    assert_eq!(made.status, StatusCode::CREATED);
    let client = world.issuer.client(made.body["client_id"].as_str().unwrap()).await.unwrap().unwrap();
    assert!(client.registration.logout_uri_self_named);
}
