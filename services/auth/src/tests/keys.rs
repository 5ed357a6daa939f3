//! Signing keys as the services see them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flaghoist_runtime::token::TokenError;
use serde_json::{Value, json};

use super::*;

async fn jwks(world: &World) -> Value {
    let answer = world.verification().get_jwks(GetJwksRequest {}).await.unwrap().into_inner();
    serde_json::from_str(&answer.jwks).unwrap()
}

fn header(token: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap()).unwrap()
}

#[tokio::test]
async fn keys_rotate_while_the_old_ones_tokens_still_verify() {
    let world = World::new().await;
    let user = somebody();
    let (_, before) = world.sign_in(user).await;
    let first = jwks(&world).await;
    let day = Duration::from_secs(24 * 3600);
    world.wait(30 * day);
    world.issuer.keyring.advance().await.unwrap();
    let second = jwks(&world).await;
    assert_eq!((first["keys"].as_array().unwrap().len(), second["keys"].as_array().unwrap().len()), (6, 9));
    world.context.verifier.verify(&before.access_token).unwrap();
    let published = world.issuer.keyring.published().unwrap();
    let signing = json!(published.signer.kid());
    assert_ne!(header(&before.access_token)["kid"], signing);
    assert!(first["keys"].as_array().unwrap().iter().any(|key| key["kid"] == signing), "it was published before");
    world.wait(day);
    world.issuer.keyring.advance().await.unwrap();
    assert_eq!(jwks(&world).await["keys"].as_array().unwrap().len(), 6);
    assert!(world.context.verifier.verify(&before.access_token).is_err());
}

#[tokio::test]
async fn keys_outlive_a_restart() {
    let mut world = World::new().await;
    let (_, tokens) = world.sign_in(somebody()).await;
    let before = jwks(&world).await;
    world = world.restarted().await;
    assert_eq!(jwks(&world).await, before);
    world.context.verifier.verify(&tokens.access_token).unwrap();
}

#[tokio::test]
async fn a_rotation_happens_by_itself() {
    let second = Duration::from_secs(1);
    let settings = Settings {
        key_period: second,
        key_lead: second,
        key_keep: second,
        access_lifetime: second,
        ..Settings::default()
    };
    let world = World::with(settings).await;
    let first = jwks(&world).await;
    tokio::time::timeout(Duration::from_secs(20), async {
        while jwks(&world).await["keys"].as_array().unwrap().iter().any(|key| key["kid"] == first["keys"][0]["kid"]) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .unwrap();
    let (_, tokens) = world.sign_in(somebody()).await;
    world.context.verifier.verify(&tokens.access_token).unwrap();
}

#[tokio::test]
async fn another_key_file_is_refused_and_says_so() {
    let world = World::new().await;
    world.trigger.end();
    std::fs::write(world.place.data.join("secret.key"), [9; 32]).unwrap();
    let error = open(Settings::default(), &world.place, &world.context, Clock::default()).await.unwrap_err();
    let text = flaghoist_runtime::fault::chain(&error);
    assert!(text.contains("is it the one that belongs to this store?"), "{text}");
}

#[tokio::test]
async fn an_access_token_says_what_rfc_9068_asks_for() {
    let world = World::new().await;
    let user = somebody();
    let (session, tokens) = world.sign_in(user).await;
    assert_eq!(header(&tokens.access_token)["typ"], "at+jwt");
    assert_eq!(header(&tokens.access_token)["alg"], "EdDSA");
    let claims = URL_SAFE_NO_PAD.decode(tokens.access_token.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["iss"], ISSUER);
    assert_eq!(claims["aud"], json!(["flaghoist"]));
    assert_eq!(claims["sub"], user.to_string());
    assert_eq!(claims["amr"], json!(["pwd"]));
    assert!(session.name.ends_with(claims["sid"].as_str().unwrap()));
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 300);
    let expire = tokens.access_token_expire_time.unwrap();
    assert_eq!(claims["exp"].as_i64().unwrap(), expire.seconds);
}

/// Cases 67 to 69 in breadth are the verifier's; here, that it refuses what this issuer's own token is turned into.
#[tokio::test]
async fn case_67_a_token_that_was_tampered_with_is_refused() {
    let world = World::new().await;
    let (_, tokens) = world.sign_in(somebody()).await;
    let parts: Vec<_> = tokens.access_token.split('.').collect();
    let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let kid = header(&tokens.access_token)["kid"].clone();
    for forged in [
        json!({"alg": "none", "typ": "at+jwt", "kid": kid}),
        json!({"alg": "HS256", "typ": "at+jwt", "kid": kid}),
        json!({"alg": "EdDSA", "typ": "JWT", "kid": kid}),
        json!({"alg": "EdDSA", "typ": "at+jwt", "kid": "unknown"}),
        json!({"alg": "EdDSA", "typ": "at+jwt", "kid": kid, "jwk": {"kty": "OKP"}}),
    ] {
        let token = format!("{}.{}.{}", encode(forged), parts[1], parts[2]);
        assert!(matches!(world.context.verifier.verify(&token), Err(TokenError::Invalid(_))));
        let bare = token.rsplit_once('.').unwrap().0.to_owned() + ".";
        assert!(matches!(world.context.verifier.verify(&bare), Err(TokenError::Invalid(_))));
    }
}

#[tokio::test]
async fn case_98_nothing_that_is_secret_is_shown() {
    let world = World::new().await;
    let secret = world.confidential("bot", &["chat.read"]).await;
    let (_, tokens) = world.sign_in(somebody()).await;
    let shown = format!("{:?} {:?}", world.issuer, world.issuer.keyring.published());
    for hidden in [&secret, &tokens.access_token, &tokens.refresh_token] {
        assert!(!shown.contains(hidden.as_str()));
    }
    let stored = std::fs::read(world.place.data.join("auth.db")).unwrap();
    let log = std::fs::read(world.place.data.join("auth.db-wal")).unwrap_or_default();
    for hidden in [&secret, &tokens.access_token, &tokens.refresh_token] {
        for file in [&stored, &log] {
            assert!(!file.windows(hidden.len()).any(|window| window == hidden.as_bytes()));
        }
    }
}

async fn key_in(world: &World, admin: &str, state: KeyState) -> SigningKey {
    let keys = world.keys(admin).list_keys(ListKeysRequest {}).await.unwrap().into_inner().keys;
    keys.into_iter().find(|key| key.state() == state).expect("there is one")
}

#[tokio::test]
async fn an_admin_sees_the_keys_and_asks_for_another_one() {
    let world = World::new().await;
    let (_, person) = world.sign_in(somebody()).await;
    let answer = world.keys(&person.access_token).rotate_keys(RotateKeysRequest {}).await;
    refused(answer, Code::PermissionDenied, Reason::ScopeMissing);
    let admin = world.admin().await;
    let (active, pending) =
        (key_in(&world, &admin, KeyState::Active).await, key_in(&world, &admin, KeyState::Pending).await);
    assert!(!pending.reserve && !active.reserve, "the reserve of a new installation is not known long enough");
    assert!(
        active.retire_time.is_some() && pending.activate_time.unwrap().seconds > active.activate_time.unwrap().seconds
    );
    let first = world.keys(&admin).rotate_keys(RotateKeysRequest {}).await.unwrap().into_inner();
    let again = world.keys(&admin).rotate_keys(RotateKeysRequest {}).await.unwrap().into_inner();
    assert_eq!(again, first);
    assert_eq!(first.next.unwrap().name, pending.name, "the one that is known longest");
    let due = first.take_over_time.unwrap().seconds - world.clock.now().seconds();
    assert!((86_000..86_500).contains(&due), "{due}");
    assert_eq!(
        jwks(&world).await["keys"].as_array().unwrap().len(),
        9,
        "another one of each algorithm is published at once"
    );
    world.wait(world.issuer.keyring.times().ready_after());
    world.issuer.keyring.advance().await.unwrap();
    assert_eq!(key_in(&world, &admin, KeyState::Active).await.name, pending.name);
    assert_eq!(key_in(&world, &admin, KeyState::Retiring).await.name, active.name);
    assert!(key_in(&world, &admin, KeyState::Pending).await.reserve, "and the newer one is the reserve");
    let asked = world.audited_by(&admin, AuditAction::KeyRotationRequested).await;
    assert_eq!(asked.len(), 3, "one for each algorithm");
    let asked = asked.iter().find(|event| event.subject == active.name).expect("this key too");
    assert!(asked.actor.starts_with("users/"));
    assert_eq!(world.audited_by(&admin, AuditAction::KeyRetired).await[0].actor, "system");
}

#[tokio::test]
async fn a_revoked_key_takes_its_tokens_with_it_and_sessions_go_on() {
    let world = World::with(Settings { key_lead: Duration::from_secs(2), ..Settings::default() }).await;
    let admin = world.admin().await;
    let active = key_in(&world, &admin, KeyState::Active).await;
    let revoke = |name: &str, force| RevokeKeyRequest { name: name.into(), force };
    let early = world.keys(&admin).revoke_key(revoke(&active.name, false)).await;
    refused(early, Code::FailedPrecondition, Reason::KeyReserveMissing);
    let unknown = world.keys(&admin).revoke_key(revoke("keys/unknown", false)).await;
    refused(unknown, Code::NotFound, Reason::NotFound);
    let other = world.keys(&admin).revoke_key(revoke("clients/x", false)).await;
    refused(other, Code::InvalidArgument, Reason::FieldViolation);
    eventually("there is a reserve", Duration::from_secs(20), async || {
        key_in(&world, &admin, KeyState::Pending).await.reserve
    })
    .await;
    let (_, tokens) = world.sign_in(somebody()).await;
    let caller = world.context.verifier.verify(&tokens.access_token).unwrap();
    let mut feed = world.context.verifier.revocations();
    let reserve = key_in(&world, &admin, KeyState::Pending).await;
    let answer = world.keys(&admin).revoke_key(revoke(&active.name, false)).await.unwrap().into_inner();
    assert_eq!(answer.active.unwrap().name, reserve.name);
    // Whoever holds a stream learns of it, and the token is refused from here on.
    assert_eq!(
        feed.recv().await.unwrap().target,
        flaghoist_runtime::token::RevocationTarget::Key(caller.key_id.clone())
    );
    assert!(world.context.verifier.revoked(&caller));
    assert!(world.context.verifier.verify(&tokens.access_token).is_err());
    assert!(!jwks(&world).await.to_string().contains(&caller.key_id), "nobody fetches it any more");
    let new = world.refresh(&tokens.refresh_token).await.unwrap();
    assert_eq!(format!("keys/{}", header(&new.access_token)["kid"].as_str().unwrap()), reserve.name);
    world.context.verifier.verify(&new.access_token).unwrap();
    refused(world.keys(&admin).list_keys(ListKeysRequest {}).await, Code::Unauthenticated, Reason::TokenInvalid);
    let told = world.audited(AuditAction::KeyRevoked).await;
    assert_eq!((told.len(), &told[0].subject), (1, &active.name));
}

#[tokio::test]
async fn the_sealing_key_is_replaced_while_the_old_one_still_opens() {
    let world = World::new().await;
    let before = jwks(&world).await;
    let World { place, folder: _kept, trigger, .. } = world;
    trigger.end();
    let newer = place.data.join("newer.key");
    std::fs::write(&newer, [5; 32]).unwrap();
    let files = vec![newer.clone()];
    let reseal = reseal_keys(&StoreAddress::Folder, &place, &files).await.unwrap();
    assert_eq!((reseal.resealed, reseal.keys), (6, 6));
    let again = reseal_keys(&StoreAddress::Folder, &place, &files).await.unwrap();
    assert_eq!((again.resealed, &again.sealed_with), (0, &reseal.sealed_with));
    let settings = Settings { seal_files: files, ..Settings::default() };
    let world = World::at(place.clone(), None, settings, Clock::default()).await;
    assert_eq!(jwks(&world).await, before, "the same keys");
    world.sign_in(somebody()).await;
    let admin = world.admin().await;
    assert_eq!(key_in(&world, &admin, KeyState::Active).await.sealed_with, reseal.sealed_with);
    assert_eq!(world.audited(AuditAction::KeyResealed).await[0].actor, "operator");
    world.trigger.end();
    let error = open(Settings::default(), &place, &world.context, Clock::default()).await.unwrap_err();
    assert!(flaghoist_runtime::fault::chain(&error).contains("FLAGHOIST_AUTH_SEAL_FILES"));
    let missing = Settings { seal_files: vec![place.data.join("none.key")], ..Settings::default() };
    let error = open(missing, &place, &world.context, Clock::default()).await.unwrap_err();
    assert!(flaghoist_runtime::fault::chain(&error).contains("none.key"));
}
