//! Tokens that this issuer's own key has signed and that say something wrong: its public methods, and introspection, refuse them for what
//! they say. Login, send and receiver are asked the same by `tests/e2e/well_signed.rs`, with keys of a test's own.

use flaghoist_runtime::token::AUDIENCE;
use serde_json::json;

use super::*;
use crate::access_token::Claims;

#[tokio::test]
async fn cases_67_to_69_auth_refuses_what_its_own_key_has_signed_and_is_no_good_access_token() {
    let world = World::new().await;
    let secret = world.resource_server("bot", &["flaghoist"]).await;
    let published = world.issuer.keyring.published().unwrap();
    let signer = &published.signer;
    let (user, now) = (somebody().to_string(), world.clock.now().seconds());
    let amr = ["pwd".to_owned()];
    let good = || Claims {
        iss: ISSUER,
        sub: &user,
        aud: [AUDIENCE],
        exp: now + 240,
        iat: now,
        jti: Uuid::now_v7(),
        client_id: "flaghoist-cli",
        scope: "chat.read chat.send".into(),
        sid: Some(Uuid::now_v7()),
        auth_time: Some(now),
        amr: &amr,
        act: None,
        cnf: None,
    };
    let lists = async |token: &str| world.sessions(token).list_sessions(ListSessionsRequest::default()).await;
    let taken = signer.sign(&good()).unwrap();
    lists(&taken).await.expect("nothing is wrong with it");
    assert!(world.introspect(credentials("bot", &secret), &taken).await.unwrap().active);

    let said = |claims: Claims<'_>| signer.sign(&claims).unwrap();
    let all = json!({
        "iss": ISSUER, "sub": user, "aud": [AUDIENCE], "exp": now + 240, "iat": now, "jti": Uuid::now_v7().to_string(),
        "client_id": "flaghoist-cli", "scope": "chat.read", "sid": Uuid::now_v7().to_string(),
    });
    for (what, token, reason) in [
        ("another issuer", said(Claims { iss: "http://evil.test", ..good() }), Reason::TokenInvalid),
        ("another audience", said(Claims { aud: ["other"], ..good() }), Reason::TokenInvalid),
        ("a client as the audience", said(Claims { aud: ["flaghoist-cli"], ..good() }), Reason::TokenInvalid),
        ("an end that has passed", said(Claims { exp: now - 1, ..good() }), Reason::TokenExpired),
        ("an end before 1970", said(Claims { exp: -1, ..good() }), Reason::TokenExpired),
        ("an end in a year", said(Claims { exp: now + 31_536_000, ..good() }), Reason::TokenInvalid),
        ("a beginning in an hour", said(Claims { iat: now + 3600, exp: now + 3700, ..good() }), Reason::TokenInvalid),
        ("a name in place of an id", said(Claims { sub: "alice", ..good() }), Reason::TokenInvalid),
        ("the type of an ID token", signer.sign_id_token(&all).unwrap(), Reason::TokenInvalid),
        ("the type of a logout token", signer.sign_logout_token(&all).unwrap(), Reason::TokenInvalid),
    ] {
        let status = lists(&token).await.expect_err(what);
        assert_eq!((status.code(), reason_of(&status)), (Code::Unauthenticated, Some(reason)), "{what}: {status:?}");
        let shown = world.introspect(credentials("bot", &secret), &token).await.unwrap();
        assert_eq!(shown, IntrospectTokenResponse::default(), "{what}");
    }
}
