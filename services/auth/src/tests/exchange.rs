//! Services that exchange the access token of a person for one of their own (case 57 and what goes with it).

use flaghoist_runtime::token::TokenError;

use super::flow::{Browser, Page, claims};
use super::*;

const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const REPORTS: &str = "https://reports.example.com/";

impl World {
    /// Registers `gateway`, which may exchange tokens of the command line for ones for the API and for `REPORTS`.
    async fn gateway(&self) -> String {
        self.exchanging("gateway", "flaghoist-cli").await
    }

    /// Registers a client that may exchange tokens of another one for ones for the API and for `REPORTS`.
    async fn exchanging(&self, id: &str, of: &str) -> String {
        let registration = Registration {
            grant_types: vec![GRANT.into(), "client_credentials".into()],
            exchange_clients: vec![of.into()],
            exchange_audiences: vec!["flaghoist".into(), REPORTS.into()],
            ..Registration::default()
        };
        let request = CreateClientRequest {
            client_id: id.into(),
            display_name: "A gateway".into(),
            confidential: true,
            scopes: vec!["chat.read".into(), "openid".into()],
            registration: Some(registration),
        };
        let made = self.clients(&self.admin().await).create_client(request).await.unwrap().into_inner();
        let shown = made.client.unwrap().registration.unwrap();
        assert_eq!(shown.exchange_audiences, ["flaghoist", REPORTS]);
        made.client_secret
    }

    async fn exchanges(
        &self,
        client: ClientCredentials,
        subject_token: &str,
        audience: &str,
        scope: &str,
    ) -> Result<TokenSet, Status> {
        let grant = TokenExchangeGrant { subject_token: subject_token.into(), audience: audience.into() };
        let grant = Some(Grant::TokenExchange(grant));
        let request = IssueTokenRequest { client: Some(client), grant, scope: scope.into() };
        Ok(self.tokens().issue_token(request).await?.into_inner().tokens.unwrap())
    }

    async fn exchanges_over_http(&self, secret: &str, changes: &[(&str, &str)]) -> Page {
        let mut form = vec![
            ("grant_type", GRANT),
            ("client_id", "gateway"),
            ("client_secret", secret),
            ("subject_token_type", ACCESS_TOKEN),
        ];
        form.retain(|(name, _)| changes.iter().all(|(changed, _)| changed != name));
        form.extend(changes);
        Browser::default().post(self, "/oauth2/token", &form).await
    }
}

#[tokio::test]
async fn a_service_acts_for_a_person_with_less_than_it_was_given() {
    let world = World::new().await;
    let secret = world.gateway().await;
    let gateway = || credentials("gateway", &secret);
    let user = somebody();
    let (session, tokens) = world.sign_in(user).await;
    let given = world.exchanges(gateway(), &tokens.access_token, "", "").await.unwrap();
    assert_eq!((given.scope.as_str(), given.refresh_token.as_str(), given.id_token.as_str()), ("chat.read", "", ""));
    let caller = world.context.verifier.verify(&given.access_token).unwrap();
    assert_eq!((caller.user, caller.client_id.as_str()), (Some(user), "gateway"));
    let (first, second) = (claims(&tokens.access_token), claims(&given.access_token));
    assert_eq!((&second["act"]["sub"], &second["sid"]), (&"gateway".into(), &first["sid"]));
    assert!(second["exp"].as_i64() <= first["exp"].as_i64() && second["jti"] != first["jti"]);
    // Its own may be exchanged too, and lasts no longer for that.
    let again = world.exchanges(gateway(), &given.access_token, "flaghoist", "chat.read").await.unwrap();
    assert!(claims(&again.access_token)["exp"].as_i64() <= first["exp"].as_i64());
    let elsewhere = world.exchanges(gateway(), &tokens.access_token, REPORTS, "").await.unwrap();
    assert_eq!(claims(&elsewhere.access_token)["aud"], serde_json::json!([REPORTS]));
    assert!(world.context.verifier.verify(&elsewhere.access_token).is_err(), "it opens nothing of the chat");
    // Whom it is for may ask what it is worth.
    let (api, reports) =
        (world.resource_server("api", &["flaghoist"]).await, world.resource_server("reports", &[REPORTS]).await);
    let seen = world.introspect(credentials("reports", &reports), &elsewhere.access_token).await.unwrap();
    assert_eq!((seen.active, seen.sub.as_str(), seen.aud), (true, user.to_string().as_str(), vec![REPORTS.to_owned()]));
    let unseen = world.introspect(credentials("api", &api), &elsewhere.access_token).await.unwrap();
    assert_eq!(unseen, IntrospectTokenResponse::default());
    let subject = ("subject_token", tokens.access_token.as_str());
    let over_http = world.exchanges_over_http(&secret, &[subject, ("audience", REPORTS)]).await;
    assert_eq!((over_http.status.as_u16(), &over_http.json()["issued_token_type"]), (200, &ACCESS_TOKEN.into()));
    let told = world.audited(AuditAction::TokenExchanged).await;
    assert_eq!(told.len(), 4);
    assert_eq!((told[0].actor.as_str(), &told[0].subject), ("clients/gateway", &user.name()));
    assert_eq!(told[0].detail, format!("of clients/flaghoist-cli for {REPORTS}"));
    // What ends the session ends what was made of it.
    let name = session.name;
    world.sessions(&tokens.access_token).revoke_session(RevokeSessionRequest { name }).await.unwrap();
    assert!(world.context.verifier.verify(&given.access_token).is_err());
    let over = world.introspect(credentials("reports", &reports), &elsewhere.access_token).await.unwrap();
    assert_eq!(over, IntrospectTokenResponse::default());
}

#[tokio::test]
async fn case_57_who_has_acted_before_is_never_hidden_by_the_next_one() {
    let world = World::new().await;
    let secret = world.gateway().await;
    let (_, tokens) = world.sign_in(somebody()).await;
    let given = world.exchanges(credentials("gateway", &secret), &tokens.access_token, "", "").await.unwrap();
    let next = world.exchanging("next", "gateway").await;
    let refusal = world.exchanges(credentials("next", &next), &given.access_token, "", "").await;
    refused(refusal, Code::Unauthenticated, Reason::GrantInvalid);
    world.exchanges(credentials("gateway", &secret), &given.access_token, "", "").await.unwrap();
}

#[tokio::test]
async fn what_a_client_got_in_exchange_ends_when_it_is_removed() {
    let mut world = World::new().await;
    let secret = world.gateway().await;
    let (_, tokens) = world.sign_in(somebody()).await;
    let given = world.exchanges(credentials("gateway", &secret), &tokens.access_token, "", "").await.unwrap();
    let mut clients = world.clients(&world.admin().await);
    clients.delete_client(DeleteClientRequest { name: "clients/gateway".into() }).await.unwrap();
    for _ in 0..2 {
        assert_eq!(world.context.verifier.verify(&given.access_token), Err(TokenError::Revoked));
        world.context.verifier.verify(&tokens.access_token).unwrap();
        world = world.restarted().await;
    }
}

#[tokio::test]
async fn case_57_what_cannot_be_exchanged() {
    let world = World::new().await;
    let secret = world.gateway().await;
    let gateway = || credentials("gateway", &secret);
    let other = World::new().await;
    let (_, foreign) = other.sign_in(somebody()).await;
    let (_, revoked) = world.sign_in(somebody()).await;
    let (_, good) = world.sign_in(somebody()).await;
    world.revoke(cli(), &revoked.refresh_token).await.unwrap();
    // It lived 300 s, and ended 1 s ago.
    world.clock.advance_ms(-301_000);
    let (_, expired) = world.sign_in(somebody()).await;
    world.clock.advance_ms(301_000);
    let own = world.client_token(gateway(), "").await.unwrap();
    let elsewhere = world.exchanges(gateway(), &good.access_token, REPORTS, "").await.unwrap();
    let bad = [
        foreign.access_token.as_str(),
        &revoked.access_token,
        &expired.access_token,
        &good.refresh_token,
        // A client's own token is nobody's whom it could act for; one for another audience was not meant for us.
        &own.access_token,
        &elsewhere.access_token,
        "garbage",
        &good.access_token[..good.access_token.len() - 4],
    ];
    for token in bad {
        let refusal = world.exchanges(gateway(), token, "", "").await;
        refused(refusal, Code::Unauthenticated, Reason::GrantInvalid);
        let answer = world.exchanges_over_http(&secret, &[("subject_token", token)]).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["error"]), (400, &"invalid_request".into()));
    }
    for audience in ["https://evil.test/", "gateway", "Flaghoist"] {
        let refusal = world.exchanges(gateway(), &good.access_token, audience, "").await;
        refused(refusal, Code::InvalidArgument, Reason::TargetInvalid);
    }
    let subject = ("subject_token", good.access_token.as_str());
    for (more, error) in [
        (("audience", "https://evil.test/"), "invalid_target"),
        (("resource", "https://evil.test/"), "invalid_target"),
        (("subject_token_type", "urn:ietf:params:oauth:token-type:id_token"), "invalid_request"),
        (("subject_token_type", ""), "invalid_request"),
        (("requested_token_type", "urn:ietf:params:oauth:token-type:refresh_token"), "invalid_request"),
        (("actor_token", "x"), "invalid_request"),
        (("scope", "chat.send"), "invalid_scope"),
        (("scope", "admin"), "invalid_scope"),
    ] {
        let answer = world.exchanges_over_http(&secret, &[subject, more]).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["error"]), (400, &error.into()), "{more:?}");
    }
    // Tokens of a client that is not named, and clients that may not at all.
    world.public_client("web").await;
    let (_, of_web) = world.try_sign_in(somebody(), "web", &["chat.read"]).await.unwrap();
    let refusal = world.exchanges(gateway(), &of_web.access_token, "", "").await;
    refused(refusal, Code::PermissionDenied, Reason::ClientUnauthorized);
    let bot = credentials("bot", &world.confidential("bot", &["chat.read"]).await);
    for client in [cli(), credentials("web", ""), bot] {
        let refusal = world.exchanges(client, &good.access_token, "", "").await;
        refused(refusal, Code::PermissionDenied, Reason::ClientUnauthorized);
    }
}

#[tokio::test]
async fn who_may_exchange_what_is_registered_as_a_whole_or_not_at_all() {
    let world = World::new().await;
    let admin = world.admin().await;
    let good = Registration {
        grant_types: vec![GRANT.into()],
        exchange_clients: vec!["flaghoist-cli".into()],
        exchange_audiences: vec!["flaghoist".into()],
        ..Registration::default()
    };
    let registering = async |registration: Registration, confidential: bool| {
        let request = CreateClientRequest {
            display_name: "x".into(),
            confidential,
            registration: Some(registration),
            ..CreateClientRequest::default()
        };
        world.clients(&admin).create_client(request).await
    };
    for (registration, confidential) in [
        (good.clone(), false),
        (Registration { exchange_audiences: Vec::new(), ..good.clone() }, true),
        (Registration { exchange_audiences: vec!["some-client".into()], ..good.clone() }, true),
        (Registration { exchange_clients: vec!["Not An Id".into()], ..good.clone() }, true),
        (Registration { grant_types: Vec::new(), ..good.clone() }, true),
    ] {
        let answer = registering(registration, confidential).await;
        refused(answer, Code::InvalidArgument, Reason::FieldViolation);
    }
    registering(good, true).await.unwrap();
}
