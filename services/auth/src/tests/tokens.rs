//! Refreshing, client credentials, revoking and inspecting.

use flaghoist_runtime::token::TokenError;

use super::*;

const INVALID: (Code, Reason) = (Code::Unauthenticated, Reason::GrantInvalid);

#[tokio::test]
async fn a_refresh_gives_a_token_that_verifies_and_a_successor() {
    let world = World::new().await;
    let user = somebody();
    let (session, first) = world.sign_in(user).await;
    let second = world.refresh(&first.refresh_token).await.unwrap();
    let third = world.refresh(&second.refresh_token).await.unwrap();
    assert!(first.refresh_token != second.refresh_token && second.refresh_token != third.refresh_token);
    let caller = world.context.verifier.verify(&third.access_token).unwrap();
    assert_eq!((caller.user, caller.client_id.as_str()), (Some(user), "flaghoist-cli"));
    assert!(session.name.ends_with(&caller.session.unwrap().to_string()));
    assert_eq!(third.scope, "chat.read chat.send");
}

#[tokio::test]
async fn case_35_a_used_refresh_token_ends_the_session_after_ten_seconds() {
    let world = World::new().await;
    let (_, first) = world.sign_in(somebody()).await;
    let second = world.refresh(&first.refresh_token).await.unwrap();
    world.wait(Duration::from_secs(11));
    refused(world.refresh(&first.refresh_token).await, INVALID.0, INVALID.1);
    refused(world.refresh(&second.refresh_token).await, INVALID.0, INVALID.1);
    // The access tokens of the session too, as soon as the revocation is sent.
    let verifier = &world.context.verifier;
    tokio::time::timeout(Duration::from_secs(5), async {
        while verifier.verify(&second.access_token) != Err(TokenError::Revoked) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn case_35_another_client_ends_the_session() {
    let world = World::new().await;
    world.public_client("web").await;
    let (_, first) = world.sign_in(somebody()).await;
    refused(world.refresh_as(credentials("web", ""), &first.refresh_token, "").await, INVALID.0, INVALID.1);
    refused(world.refresh(&first.refresh_token).await, INVALID.0, INVALID.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn case_36_fifty_parallel_refreshes_give_one_successor() {
    let world = Arc::new(World::new().await);
    let (_, first) = world.sign_in(somebody()).await;
    let calls = (0..50).map(|_| {
        let (world, token) = (world.clone(), first.refresh_token.clone());
        tokio::spawn(async move { world.refresh(&token).await })
    });
    let answers = futures_util::future::join_all(calls).await;
    let successors: std::collections::BTreeSet<_> =
        answers.into_iter().map(|answer| answer.unwrap().unwrap().refresh_token).collect();
    assert_eq!(successors.len(), 1);
    let successor = successors.into_iter().next().unwrap();
    world.refresh(&successor).await.unwrap();
}

#[tokio::test]
async fn case_37_reuse_is_noticed_after_a_restart() {
    let mut world = World::new().await;
    let (_, first) = world.sign_in(somebody()).await;
    let second = world.refresh(&first.refresh_token).await.unwrap();
    let third = world.refresh(&second.refresh_token).await.unwrap();
    world = world.restarted().await;
    // The lost answer of the last refresh can be had again, by the same client.
    assert_eq!(world.refresh(&second.refresh_token).await.unwrap().refresh_token, third.refresh_token);
    world.wait(Duration::from_secs(11));
    world = world.restarted().await;
    refused(world.refresh(&first.refresh_token).await, INVALID.0, INVALID.1);
    world = world.restarted().await;
    refused(world.refresh(&third.refresh_token).await, INVALID.0, INVALID.1);
    assert_eq!(world.context.verifier.verify(&third.access_token), Err(TokenError::Revoked));
}

#[tokio::test]
async fn case_39_a_scope_is_narrowed_and_never_widened() {
    let world = World::new().await;
    let (_, first) = world.sign_in(somebody()).await;
    for wider in ["admin", "chat.read admin", "unknown"] {
        let answer = world.refresh_as(cli(), &first.refresh_token, wider).await;
        refused(answer, Code::InvalidArgument, Reason::ScopeInvalid);
    }
    let narrow = world.refresh_as(cli(), &first.refresh_token, "chat.read").await.unwrap();
    assert_eq!(narrow.scope, "chat.read");
    assert_eq!(world.context.verifier.verify(&narrow.access_token).unwrap().scopes, ["chat.read"]);
    assert_eq!(world.refresh(&narrow.refresh_token).await.unwrap().scope, "chat.read chat.send");
}

#[tokio::test]
async fn case_40_a_session_that_was_ended_in_any_way_is_not_refreshed() {
    let world = World::new().await;
    let user = somebody();
    for way in ["disabled", "all", "erased", "revoked", "token"] {
        let (session, tokens) = world.sign_in(user).await;
        match way {
            "disabled" => {
                let state = |enabled| SetSubjectStateRequest { user: user.name(), enabled, ..Default::default() };
                world.subjects().set_subject_state(state(false)).await.unwrap();
                world.subjects().set_subject_state(state(true)).await.unwrap();
            }
            "all" => {
                let request = RevokeSubjectSessionsRequest { user: user.name(), except_session: String::new() };
                assert_eq!(
                    world.subjects().revoke_subject_sessions(request).await.unwrap().into_inner().revoked_count,
                    1
                );
            }
            "revoked" => {
                let request = RevokeSessionRequest { name: session.name };
                world.sessions(&tokens.access_token).revoke_session(request).await.unwrap();
            }
            "token" => world.revoke(cli(), &tokens.refresh_token).await.unwrap(),
            // After this the person could not sign in again.
            _ => continue,
        }
        refused(world.refresh(&tokens.refresh_token).await, INVALID.0, INVALID.1);
        assert_eq!(world.context.verifier.verify(&tokens.access_token), Err(TokenError::Revoked), "{way}");
    }
    let (_, tokens) = world.sign_in(user).await;
    world.subjects().erase_subject(EraseSubjectRequest { user: user.name(), count_only: false }).await.unwrap();
    refused(world.refresh(&tokens.refresh_token).await, INVALID.0, INVALID.1);
}

#[tokio::test]
async fn case_43_client_credentials_are_for_confidential_clients() {
    let world = World::new().await;
    refused(world.client_token(cli(), "").await, Code::PermissionDenied, Reason::ClientUnauthorized);
    let secret = world.confidential("bot", &["chat.read"]).await;
    let tokens = world.client_token(credentials("bot", &secret), "").await.unwrap();
    assert_eq!((tokens.refresh_token.as_str(), tokens.scope.as_str()), ("", "chat.read"));
    let wider = world.client_token(credentials("bot", &secret), "chat.send").await;
    refused(wider, Code::InvalidArgument, Reason::ScopeInvalid);
}

#[tokio::test]
async fn case_44_a_clients_own_token_is_nobodys() {
    let world = World::new().await;
    let secret = world.confidential("bot", &["chat.read", "admin"]).await;
    let token = world.client_token(credentials("bot", &secret), "").await.unwrap().access_token;
    let caller = world.context.verifier.verify(&token).unwrap();
    assert_eq!((caller.user, caller.session, caller.subject.as_str()), (None, None, "bot"));
    let answer = world.sessions(&token).list_sessions(ListSessionsRequest::default()).await;
    assert!(answer.is_err());
    assert!(world.clients(&token).list_clients(ListClientsRequest::default()).await.is_err());
}

#[tokio::test]
async fn case_45_bad_secret_and_unknown_client_are_answered_alike() {
    let world = World::new().await;
    world.confidential("bot", &["chat.read"]).await;
    let mut texts = std::collections::BTreeSet::new();
    for client in [credentials("bot", "bad"), credentials("bot", ""), credentials("nobody", "bad")] {
        let status = world.client_token(client, "").await.unwrap_err();
        assert_eq!((status.code(), reason_of(&status)), (Code::Unauthenticated, Some(Reason::ClientInvalid)));
        texts.insert((status.message().to_owned(), status.details().to_vec()));
    }
    assert_eq!(texts.len(), 1);
}

#[tokio::test]
async fn case_58_introspection_needs_a_client_that_proves_itself() {
    let world = World::new().await;
    let (_, tokens) = world.sign_in(somebody()).await;
    for client in [cli(), credentials("nobody", "x")] {
        let answer = world.introspect(client, &tokens.access_token).await;
        refused(answer, Code::Unauthenticated, Reason::ClientInvalid);
    }
}

#[tokio::test]
async fn case_60_worthless_tokens_are_inactive_and_nothing_more() {
    let world = World::new().await;
    let secret = world.resource_server("bot", &["flaghoist"]).await;
    let bot = || credentials("bot", &secret);
    let user = somebody();
    let (_, tokens) = world.sign_in(user).await;
    let good = world.introspect(bot(), &tokens.access_token).await.unwrap();
    assert!(good.active && good.sub == user.to_string() && good.aud == ["flaghoist"] && good.iss == ISSUER);
    world.revoke(cli(), &tokens.access_token).await.unwrap();
    world.wait(Duration::from_secs(0));
    let before = World::new().await;
    let (_, foreign) = before.sign_in(user).await;
    world.clock.advance_ms(-400_000);
    let (_, expired) = world.sign_in(somebody()).await;
    world.clock.advance_ms(400_000);
    for worthless in [
        "garbage",
        "a.b.c",
        &tokens.access_token,
        &foreign.access_token,
        &expired.access_token,
        &foreign.refresh_token,
        // Another client's refresh token is none of the bot's business.
        &tokens.refresh_token,
    ] {
        assert_eq!(world.introspect(bot(), worthless).await.unwrap(), IntrospectTokenResponse::default());
    }
    let (_, own) = world.try_sign_in(somebody(), "bot", &["chat.read"]).await.unwrap();
    let shown = world.introspect(bot(), &own.refresh_token).await.unwrap();
    assert_eq!((shown.active, shown.token_type.as_str()), (true, "refresh_token"));
}

#[tokio::test]
async fn case_60_whom_a_token_does_not_concern_learns_nothing_of_it() {
    let world = World::new().await;
    let api = world.resource_server("api", &["flaghoist"]).await;
    let elsewhere = world.resource_server("elsewhere", &["https://reports.example.com/"]).await;
    let nobody = world.confidential("nobody", &["chat.read"]).await;
    let (_, tokens) = world.sign_in(somebody()).await;
    let sees = async |id: &str, secret: &str, token: &str| {
        let answer = world.introspect(credentials(id, secret), token).await.unwrap();
        assert!(answer.active || answer == IntrospectTokenResponse::default(), "{answer:?}");
        answer.active
    };
    assert!(sees("api", &api, &tokens.access_token).await);
    assert!(!sees("elsewhere", &elsewhere, &tokens.access_token).await);
    assert!(!sees("nobody", &nobody, &tokens.access_token).await);
    let (_, own) = world.try_sign_in(somebody(), "nobody", &["chat.read"]).await.unwrap();
    assert!(sees("nobody", &nobody, &own.access_token).await, "its own");
    assert!(!sees("elsewhere", &elsewhere, &own.access_token).await);
    assert!(!sees("api", &api, &own.refresh_token).await, "a refresh token is for nobody else");
}

#[tokio::test]
async fn case_61_an_unknown_token_is_no_error_and_another_clients_stays_valid() {
    let world = World::new().await;
    world.public_client("web").await;
    let (_, tokens) = world.sign_in(somebody()).await;
    world.revoke(cli(), "garbage").await.unwrap();
    for token in [&tokens.access_token, &tokens.refresh_token] {
        let answer = world.revoke(credentials("web", ""), token).await;
        refused(answer, Code::InvalidArgument, Reason::GrantInvalid);
    }
    world.context.verifier.verify(&tokens.access_token).unwrap();
    let next = world.refresh(&tokens.refresh_token).await.unwrap();
    // One access token alone: its session goes on.
    world.revoke(cli(), &next.access_token).await.unwrap();
    assert_eq!(world.context.verifier.verify(&next.access_token), Err(TokenError::Revoked));
    world.context.verifier.verify(&tokens.access_token).unwrap();
    world.refresh(&next.refresh_token).await.unwrap();
}

#[tokio::test]
async fn a_request_that_breaks_its_contract_is_refused_with_every_field() {
    let world = World::new().await;
    let status = world.tokens().issue_token(IssueTokenRequest::default()).await.unwrap_err();
    assert_eq!((status.code(), reason_of(&status)), (Code::InvalidArgument, Some(Reason::FieldViolation)));
    assert!(status.message().contains("client") && status.message().contains("grant"));
}
