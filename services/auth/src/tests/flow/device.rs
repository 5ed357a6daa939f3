//! Devices whose people sign in by a browser elsewhere.

use futures_util::future::join_all;

use super::*;

mod grpc;

pub(super) const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// The value of a hidden field.
#[track_caller]
fn field(page: &Page, name: &str) -> String {
    let value = page.body.split(&format!("name=\"{name}\" value=\"")).nth(1);
    let value = value.unwrap_or_else(|| panic!("no {name}: {}", page.body));
    value.split('"').next().unwrap().to_owned()
}

impl Browser {
    /// Types a code into the page for it.
    pub(super) async fn types(&mut self, world: &World, code: &str) -> Page {
        let page = self.get(world, "/device").await;
        assert_eq!(page.status, 200);
        self.post(world, "/device", &[("token", &field(&page, "token")), ("user_code", code)]).await
    }

    /// Types a code, signs in as `user`, and comes to the question.
    async fn asked_about(&mut self, world: &World, code: &str, user: UserId) -> Page {
        let to_login = self.types(world, code).await;
        self.continues(world, &to_login, user).await
    }

    pub(super) async fn answers(&mut self, world: &World, question: &Page, decision: &str) -> Page {
        let challenge = field(question, "login_challenge");
        self.post(world, "/oauth2/consent", &[("login_challenge", &challenge), ("decision", decision)]).await
    }
}

impl World {
    pub(super) async fn begins(&self, client_id: &str, scope: &str) -> AuthorizeDeviceResponse {
        let request = AuthorizeDeviceRequest { client: Some(credentials(client_id, "")), scope: scope.into() };
        self.tokens().authorize_device(request).await.unwrap().into_inner()
    }

    async fn polls(&self, client: ClientCredentials, device_code: &str) -> Result<TokenSet, Status> {
        let grant = Some(Grant::DeviceCode(DeviceCodeGrant { device_code: device_code.into() }));
        let request = IssueTokenRequest { client: Some(client), grant, scope: String::new() };
        Ok(self.tokens().issue_token(request).await?.into_inner().tokens.unwrap())
    }

    async fn polls_over_http(&self, client_id: &str, device_code: &str) -> Page {
        let form = [("grant_type", GRANT), ("client_id", client_id), ("device_code", device_code)];
        Browser::default().post(self, "/oauth2/token", &form).await
    }
}

#[tokio::test]
async fn a_device_gets_tokens_when_its_person_agrees_elsewhere() {
    let world = World::new().await;
    let codes = world.begins("flaghoist-cli", "chat.read").await;
    let pending = world.polls(cli(), &codes.device_code).await;
    refused(pending, Code::FailedPrecondition, Reason::AuthorizationPending);
    let (user, mut browser) = (somebody(), Browser::default());
    let page = browser.get(&world, &codes.verification_uri_complete).await;
    assert!(page.body.contains(&codes.user_code), "the code is written into the page, and sent by its person");
    let question = browser.asked_about(&world, &codes.user_code.to_lowercase().replace('-', " "), user).await;
    assert_eq!(question.status, 200, "{}", question.body);
    assert!(question.body.contains(&codes.user_code) && question.body.contains("read your conversations"));
    let done = browser.answers(&world, &question, "allow").await;
    assert!(done.status == 200 && done.body.contains("The device is connected"), "{}", done.body);
    let tokens = world.polls(cli(), &codes.device_code).await.unwrap();
    assert_eq!(tokens.scope, "chat.read");
    let caller = world.context.verifier.verify(&tokens.access_token).unwrap();
    assert_eq!((caller.user, caller.client_id.as_str()), (Some(user), "flaghoist-cli"));
    world.refresh(&tokens.refresh_token).await.unwrap();
    let opened = world.audited(AuditAction::SessionOpened).await;
    assert!(opened.iter().any(|event| event.subject == user.name()));
    // Whoever is signed in is asked all the same, for the next device too.
    let codes = world.begins("flaghoist-cli", "").await;
    let on = browser.types(&world, &codes.user_code).await;
    let question = browser.get(&world, on.location()).await;
    assert!(question.status == 200 && question.body.contains(&codes.user_code), "{}", question.body);
}

#[tokio::test]
async fn case_53_and_54_a_device_is_told_over_http_where_it_stands() {
    let world = World::new().await;
    let registration = Registration { grant_types: vec![GRANT.into()], ..Registration::default() };
    world.app("tv", false, registration).await;
    let form = [("client_id", "tv"), ("scope", "openid profile")];
    let codes = Browser::default().post(&world, "/oauth2/device_authorization", &form).await;
    assert_eq!((codes.status.as_u16(), &codes.headers["cache-control"]), (200, &"no-store".parse().unwrap()));
    let codes = codes.json();
    assert_eq!((&codes["expires_in"], &codes["interval"]), (&600.into(), &5.into()));
    assert_eq!(codes["verification_uri"], format!("{ISSUER}/device"));
    let (code, user_code) = (codes["device_code"].as_str().unwrap(), codes["user_code"].as_str().unwrap());
    let says = async |client_id: &str, code: &str| {
        let answer = world.polls_over_http(client_id, code).await;
        assert_eq!((answer.status.as_u16(), &answer.headers["cache-control"]), (400, &"no-store".parse().unwrap()));
        answer.json()["error"].as_str().unwrap().to_owned()
    };
    assert_eq!(says("tv", code).await, "authorization_pending");
    assert_eq!(says("tv", code).await, "slow_down");
    assert_eq!(says("flaghoist-cli", code).await, "invalid_grant");
    assert_eq!(says("tv", "garbage").await, "invalid_grant");
    let mut browser = Browser::default();
    let question = browser.asked_about(&world, user_code, somebody()).await;
    assert!(browser.answers(&world, &question, "deny").await.body.contains("was not connected"));
    assert_eq!(says("tv", code).await, "access_denied");
    let late = world.begins("tv", "openid").await;
    world.wait(Duration::from_secs(601));
    assert_eq!(says("tv", &late.device_code).await, "expired_token");
    assert_eq!(browser.types(&world, &late.user_code).await.status, 422);
}

#[tokio::test]
async fn a_device_is_told_when_its_person_leaves_without_signing_in() {
    let world = World::new().await;
    let codes = world.begins("flaghoist-cli", "chat.read").await;
    let mut browser = Browser::default();
    let to_login = browser.types(&world, &codes.user_code).await;
    let login_challenge = to_login.parameter("login_challenge").unwrap();
    let request = RejectLoginRequestRequest { login_challenge };
    let back = world.login_requests().reject_login_request(request).await.unwrap().into_inner().redirect_to;
    assert!(browser.get(&world, &back).await.body.contains("was not connected"));
    let answer = world.polls_over_http("flaghoist-cli", &codes.device_code).await;
    assert_eq!(answer.json()["error"], "access_denied");
    // Somebody who types the code now is too late.
    assert_eq!(browser.types(&world, &codes.user_code).await.status, 422);
}

#[tokio::test]
async fn case_43_a_device_of_a_client_that_may_not_or_for_what_it_may_not() {
    let world = World::new().await;
    world.app("wiki", false, web()).await;
    let begins = async |client_id: &str, scope: &str| {
        let request = AuthorizeDeviceRequest { client: Some(credentials(client_id, "")), scope: scope.into() };
        world.tokens().authorize_device(request).await
    };
    refused(begins("wiki", "").await, Code::PermissionDenied, Reason::ClientUnauthorized);
    refused(begins("flaghoist-cli", "openid").await, Code::InvalidArgument, Reason::ScopeInvalid);
    refused(begins("nobody", "").await, Code::Unauthenticated, Reason::ClientInvalid);
    refused(world.polls(credentials("wiki", ""), "x").await, Code::PermissionDenied, Reason::ClientUnauthorized);
}

#[tokio::test]
async fn case_33_a_device_code_is_good_once_and_a_replay_takes_back_what_it_gave() {
    let mut world = World::new().await;
    let codes = world.begins("flaghoist-cli", "").await;
    let mut browser = Browser::default();
    let question = browser.asked_about(&world, &codes.user_code, somebody()).await;
    browser.answers(&world, &question, "allow").await;
    assert_eq!(browser.answers(&world, &question, "allow").await.status, 403, "it is answered once");
    let tokens = world.polls(cli(), &codes.device_code).await.unwrap();
    world = world.restarted().await;
    world.context.verifier.verify(&tokens.access_token).unwrap();
    let again = join_all((0..9).map(|_| world.polls(cli(), &codes.device_code))).await;
    again.into_iter().for_each(|answer| refused(answer, Code::Unauthenticated, Reason::GrantInvalid));
    assert!(world.context.verifier.verify(&tokens.access_token).is_err());
    refused(world.refresh(&tokens.refresh_token).await, Code::Unauthenticated, Reason::GrantInvalid);
}

#[tokio::test]
async fn case_55_user_codes_cannot_be_guessed() {
    let world = World::new().await;
    let codes = world.begins("flaghoist-cli", "").await;
    let mut browser = Browser::default();
    for _ in 0..4 {
        assert_eq!(browser.types(&world, "BCDF-GHJK").await.status, 422);
    }
    // One that is right is no guess.
    assert_eq!(browser.types(&world, &codes.user_code).await.status, 303);
    assert_eq!(browser.types(&world, "nonsense").await.status, 422);
    let late = browser.types(&world, &codes.user_code).await;
    assert_eq!(late.status, StatusCode::TOO_MANY_REQUESTS, "even the right one is not told from others any more");
    // Browsers without end, from one address: in this test nobody's.
    let mut last = StatusCode::OK;
    for _ in 0..20 {
        last = Browser::default().types(&world, "BCDF-GHJK").await.status;
    }
    assert_eq!(last, StatusCode::TOO_MANY_REQUESTS);
    world.wait(Duration::from_secs(601));
    assert_eq!(browser.types(&world, "BCDF-GHJK").await.status, 422);
}

#[tokio::test]
async fn case_55_no_browser_is_counted_when_its_network_has_no_guesses_left() {
    let world = World::new().await;
    for _ in 0..20 {
        assert_eq!(Browser::default().types(&world, "BCDF-GHJK").await.status, 422);
    }
    world.wait(Duration::from_secs(300));
    let mut late = Browser::default();
    for _ in 0..6 {
        assert_eq!(late.types(&world, "BCDF-GHJK").await.status, StatusCode::TOO_MANY_REQUESTS);
    }
    // Ten minutes after the first guess of all, and five after those of this browser.
    world.wait(Duration::from_secs(301));
    assert_eq!(late.types(&world, "BCDF-GHJK").await.status, 422, "nothing was written of it");
}

#[tokio::test]
async fn case_22_no_other_site_and_no_other_browser_decides() {
    let world = World::new().await;
    let codes = world.begins("flaghoist-cli", "").await;
    let (mut browser, mut other) = (Browser::default(), Browser::default());
    let page = browser.get(&world, "/device").await;
    let token = field(&page, "token");
    let form = [("token", token.as_str()), ("user_code", codes.user_code.as_str())];
    assert_eq!(Browser::default().post(&world, "/device", &form).await.status, 403, "without the cookie");
    other.get(&world, "/device").await;
    assert_eq!(other.post(&world, "/device", &form).await.status, 403, "with another cookie");
    assert_eq!(browser.post(&world, "/device", &form[1..]).await.status, 403, "without the token");
    let question = browser.asked_about(&world, &codes.user_code, somebody()).await;
    assert_eq!(other.answers(&world, &question, "allow").await.status, 403);
    let pending = world.polls(cli(), &codes.device_code).await;
    refused(pending, Code::FailedPrecondition, Reason::AuthorizationPending);
    for policy in ["frame-ancestors 'none'", "form-action 'self'"] {
        assert!(page.headers["content-security-policy"].to_str().unwrap().contains(policy));
    }
    let evil = browser.get(&world, "/device?user_code=%22%3E%3Cscript%3E").await;
    assert!(!evil.body.contains("<script>"), "case 25: {}", evil.body);
}

#[tokio::test]
async fn case_40_what_a_person_allowed_a_device_is_over_when_they_are_signed_out() {
    let world = World::new().await;
    let codes = world.begins("flaghoist-cli", "").await;
    let (user, mut browser) = (somebody(), Browser::default());
    let question = browser.asked_about(&world, &codes.user_code, user).await;
    browser.answers(&world, &question, "allow").await;
    let all = RevokeSubjectSessionsRequest { user: user.name(), except_session: String::new() };
    world.subjects().revoke_subject_sessions(all).await.unwrap();
    let answer = world.polls(cli(), &codes.device_code).await;
    refused(answer, Code::Unauthenticated, Reason::GrantInvalid);
}
