//! Over HTTP what is shown over gRPC elsewhere: the two ways to a grant are two places in which it could be forgotten.

use futures_util::future::join_all;
use serde_json::json;

use super::flow::{Browser, HERE, Page, VERIFIER, but, first_party};
use super::*;

impl World {
    async fn refreshes_over_http(&self, client_id: &str, refresh_token: &str) -> Page {
        let form = [("grant_type", "refresh_token"), ("client_id", client_id), ("refresh_token", refresh_token)];
        Browser::default().post(self, "/oauth2/token", &form).await
    }

    async fn redeems_over_http(&self, more: &[(&str, &str)]) -> Page {
        let form = [&[("grant_type", "authorization_code")], more].concat();
        Browser::default().post(self, "/oauth2/token", &form).await
    }
}

/// The refresh token that was answered.
#[track_caller]
fn successor(page: &Page) -> String {
    assert_eq!(page.status, 200, "{}", page.body);
    page.json()["refresh_token"].as_str().unwrap().to_owned()
}

#[track_caller]
fn invalid_grant(page: &Page) {
    let said = page.json();
    assert_eq!((page.status.as_u16(), &said["error"]), (400, &json!("invalid_grant")), "{said}");
    assert_eq!(page.headers["cache-control"], "no-store");
    assert!(said["error_description"].is_string() && said.as_object().unwrap().len() == 2, "{said}");
}

#[tokio::test]
async fn case_29_over_http_a_verifier_without_a_challenge_is_refused() {
    let world = World::new().await;
    let secret = world.app("bot", true, Registration { pkce_optional: true, ..first_party() }).await;
    let code = async || {
        let without = but("bot", &[("code_challenge", ""), ("code_challenge_method", "")]);
        let mut browser = Browser::default();
        let to_login = browser.authorize(&world, &without).await;
        browser.continues(&world, &to_login, somebody()).await.parameter("code").unwrap()
    };
    let client = [("client_id", "bot"), ("client_secret", secret.as_str()), ("redirect_uri", HERE)];
    let sent = code().await;
    let redeems = async |code: &str, verifier: &[(&str, &str)]| {
        world.redeems_over_http(&[&client[..], &[("code", code)], verifier].concat()).await
    };
    invalid_grant(&redeems(&sent, &[("code_verifier", VERIFIER)]).await);
    invalid_grant(&redeems(&sent, &[]).await);
    assert_eq!(redeems(&code().await, &[]).await.status, 200);
}

#[tokio::test]
async fn cases_27_28_and_30_over_http_a_code_is_for_its_address_and_verifier_and_burns() {
    let world = World::new().await;
    world.app("wiki", false, first_party()).await;
    let right = [("client_id", "wiki"), ("redirect_uri", HERE), ("code_verifier", VERIFIER)];
    for (wrong, value) in [
        ("redirect_uri", "https://app.example.com/"),
        ("redirect_uri", "https://app.example.com/cb/"),
        ("redirect_uri", "HTTPS://app.example.com/cb"),
        ("code_verifier", "wrong-but-long-enough-to-be-one-of-43-letters"),
        ("code_verifier", ""),
    ] {
        let page = Browser::default().signs_in(&world, "wiki", somebody()).await;
        let code = page.parameter("code").unwrap();
        let mut form = right.to_vec();
        form.retain(|(name, _)| *name != wrong);
        // An empty one is as good as none, and none is as wrong as another.
        if !value.is_empty() {
            form.push((wrong, value));
        }
        form.push(("code", &code));
        invalid_grant(&world.redeems_over_http(&form).await);
        let again = [&right[..], &[("code", &code)]].concat();
        invalid_grant(&world.redeems_over_http(&again).await);
    }
    // OAuth 2.1 sends no address: the verifier says as much.
    let page = Browser::default().signs_in(&world, "wiki", somebody()).await;
    let code = page.parameter("code").unwrap();
    let short = [("client_id", "wiki"), ("code_verifier", VERIFIER), ("code", code.as_str())];
    assert_eq!(world.redeems_over_http(&short).await.status, 200);
}

#[tokio::test]
async fn case_35_over_http_a_used_refresh_token_ends_its_family_and_is_audited() {
    let world = World::new().await;
    world.public_client("web").await;
    let admin = world.admin().await;
    let (_, first) = world.sign_in(somebody()).await;
    let second = successor(&world.refreshes_over_http("flaghoist-cli", &first.refresh_token).await);
    // A lost answer is given again to the same client within ten seconds.
    let again = world.refreshes_over_http("flaghoist-cli", &first.refresh_token).await;
    assert_eq!(successor(&again), second);
    world.wait(Duration::from_secs(11));
    invalid_grant(&world.refreshes_over_http("flaghoist-cli", &first.refresh_token).await);
    invalid_grant(&world.refreshes_over_http("flaghoist-cli", &second).await);
    assert_eq!(world.audited_by(&admin, AuditAction::RefreshTokenReused).await.len(), 1);

    // Another client ends it at once.
    let (_, stolen) = world.sign_in(somebody()).await;
    invalid_grant(&world.refreshes_over_http("web", &stolen.refresh_token).await);
    invalid_grant(&world.refreshes_over_http("flaghoist-cli", &stolen.refresh_token).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn case_36_over_http_fifty_parallel_refreshes_have_one_successor() {
    let world = Arc::new(World::new().await);
    let (_, first) = world.sign_in(somebody()).await;
    let calls = (0..50).map(|_| {
        let (world, token) = (world.clone(), first.refresh_token.clone());
        tokio::spawn(async move { world.refreshes_over_http("flaghoist-cli", &token).await })
    });
    let answers = join_all(calls).await;
    let successors: std::collections::BTreeSet<_> =
        answers.into_iter().map(|answer| successor(&answer.unwrap())).collect();
    assert_eq!(successors.len(), 1);
    for token in successors {
        successor(&world.refreshes_over_http("flaghoist-cli", &token).await);
    }
}

#[tokio::test]
async fn case_37_over_http_a_used_refresh_token_is_known_after_a_restart() {
    let mut world = World::new().await;
    let (_, first) = world.sign_in(somebody()).await;
    let second = successor(&world.refreshes_over_http("flaghoist-cli", &first.refresh_token).await);
    world.wait(Duration::from_secs(11));
    world = world.restarted().await;
    invalid_grant(&world.refreshes_over_http("flaghoist-cli", &first.refresh_token).await);
    world = world.restarted().await;
    invalid_grant(&world.refreshes_over_http("flaghoist-cli", &second).await);
}

#[tokio::test]
async fn case_60_over_http_what_is_expired_revoked_or_foreign_is_inactive_and_nothing_more() {
    let world = World::new().await;
    let secret = world.resource_server("bot", &["flaghoist"]).await;
    let inspects = async |token: &str| {
        let form = [("client_id", "bot"), ("client_secret", secret.as_str()), ("token", token)];
        Browser::default().post(&world, "/oauth2/introspect", &form).await
    };
    let (_, good) = world.sign_in(somebody()).await;
    assert_eq!(inspects(&good.access_token).await.json()["active"], true);
    let (_, revoked) = world.sign_in(somebody()).await;
    world.revoke(cli(), &revoked.refresh_token).await.unwrap();
    let other = World::new().await;
    let (_, foreign) = other.sign_in(somebody()).await;
    // It lived 300 s, and ended 1 s and 100 s ago; the verifier has the real clock.
    let mut expired = Vec::new();
    for ago in [301_000, 400_000] {
        world.clock.advance_ms(-ago);
        expired.push(world.sign_in(somebody()).await.1.access_token);
        world.clock.advance_ms(ago);
    }
    let worthless = [&revoked.access_token, &foreign.access_token, &expired[0], &expired[1]];
    for token in worthless.map(String::as_str).into_iter().chain(["garbage", "a.b.c"]) {
        let page = inspects(token).await;
        assert_eq!((page.status.as_u16(), page.json()), (200, json!({ "active": false })), "{token}");
        assert_eq!(page.headers["cache-control"], "no-store");
    }
}
