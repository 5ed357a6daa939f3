//! Tokens that are bound to a key (DPoP, RFC 9449): cases 49 and 51, over HTTP and gRPC.

use futures_util::future::join_all;

use super::*;
use crate::algorithm::{Algorithm, Pair};
use crate::public_key::PublicKey;

/// Who holds a key.
struct Holder {
    algorithm: Algorithm,
    pair: Pair,
}

const OVER_GRPC: &str = "/flaghoist.auth.v1.TokenService/IssueToken";

fn now() -> i64 {
    crate::moment::Clock::default().now().seconds()
}

impl Holder {
    fn new() -> Self {
        Self::of(Algorithm::Es256)
    }

    fn of(algorithm: Algorithm) -> Self {
        Self { algorithm, pair: Pair::read(algorithm, &Pair::generate(algorithm).unwrap()).unwrap() }
    }

    fn jwk(&self) -> Value {
        PublicKey::read(&self.algorithm.jwk("k", self.pair.public().unwrap())).unwrap().jwk()
    }

    fn thumbprint(&self) -> String {
        PublicKey::read(&self.jwk()).unwrap().thumbprint()
    }

    /// A proof for a request of `path`, with some claims changed, or left out where the change is null.
    fn proof(&self, path: &str, changes: Value) -> String {
        let mut claims = serde_json::json!({
            "jti": uuid::Uuid::now_v7().to_string(), "htm": "POST", "htu": format!("{ISSUER}{path}"), "iat": now(),
        });
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        self.signed(serde_json::json!({"typ": "dpop+jwt", "alg": self.algorithm.name(), "jwk": self.jwk()}), claims)
    }

    fn signed(&self, header: Value, claims: Value) -> String {
        let signed = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(self.pair.sign(signed.as_bytes()).unwrap()))
    }
}

fn hash(token: &str) -> String {
    URL_SAFE_NO_PAD.encode(crate::refresh_token::Digest::of(token.as_bytes()).0)
}

impl World {
    fn nonce(&self) -> String {
        self.issuer.nonces.at(self.clock.now())
    }

    async fn posts(&self, path: &str, form: &[(&str, &str)], proofs: &[&str]) -> Page {
        let mut request = Request::post(path).header("content-type", "application/x-www-form-urlencoded");
        for proof in proofs {
            request = request.header("dpop", *proof);
        }
        Browser::default().send(self, request.body(PageBody::from(encoded(form))).unwrap()).await
    }

    /// Redeems a new code of `wiki` with a proof of the key.
    async fn bound(&self, holder: &Holder) -> Value {
        let code = self.code("wiki", somebody()).await;
        let proof = holder.proof("/oauth2/token", serde_json::json!({"nonce": self.nonce()}));
        let answer = self.posts("/oauth2/token", &redeeming(&code), &[&proof]).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        answer.json()
    }

    /// Asks userinfo over GET.
    async fn userinfo(&self, scheme: &str, token: &str, proofs: &[&str]) -> Page {
        let mut request = Request::get("/userinfo").header("authorization", format!("{scheme} {token}"));
        for proof in proofs {
            request = request.header("dpop", *proof);
        }
        Browser::default().send(self, request.body(PageBody::empty()).unwrap()).await
    }

    async fn issues(&self, refresh_token: &str, proof: &str) -> Result<tonic::Response<IssueTokenResponse>, Status> {
        let grant = Grant::RefreshToken(RefreshTokenGrant { refresh_token: refresh_token.into() });
        let client = Some(credentials("wiki", ""));
        let mut request = tonic::Request::new(IssueTokenRequest { client, grant: Some(grant), scope: String::new() });
        request.metadata_mut().insert("dpop", proof.parse().unwrap());
        self.tokens().issue_token(request).await
    }
}

fn redeeming(code: &str) -> Vec<(&str, &str)> {
    vec![
        ("grant_type", "authorization_code"),
        ("client_id", "wiki"),
        ("code", code),
        ("redirect_uri", HERE),
        ("code_verifier", VERIFIER),
    ]
}

fn refreshing(token: &str) -> Vec<(&str, &str)> {
    vec![("grant_type", "refresh_token"), ("client_id", "wiki"), ("refresh_token", token)]
}

#[tokio::test]
async fn a_code_that_is_redeemed_with_a_proof_gives_tokens_that_are_bound_to_its_key() {
    let world = World::new().await;
    world.app("wiki", false, first_party()).await;
    for algorithm in Algorithm::ALL {
        let holder = Holder::of(algorithm);
        // The first proof has no nonce: nothing is used up, and the answer says which to take.
        let code = world.code("wiki", somebody()).await;
        let proof = holder.proof("/oauth2/token", serde_json::json!({}));
        let first = world.posts("/oauth2/token", &redeeming(&code), &[&proof]).await;
        assert_eq!((first.status, &first.json()["error"]), (StatusCode::BAD_REQUEST, &"use_dpop_nonce".into()));
        let nonce = first.headers["dpop-nonce"].to_str().unwrap();
        let proof = holder.proof("/oauth2/token", serde_json::json!({"nonce": nonce}));
        let second = world.posts("/oauth2/token", &redeeming(&code), &[&proof]).await;
        assert_eq!(second.status, StatusCode::OK, "{}", second.body);
        assert!(second.headers.contains_key("dpop-nonce"));
        let tokens = second.json();
        assert_eq!(tokens["token_type"], "DPoP");
        let access = tokens["access_token"].as_str().unwrap();
        assert_eq!(claims(access)["cnf"], serde_json::json!({"jkt": holder.thumbprint()}));
        // Its refresh token is of the same key, over gRPC as well.
        let proof = holder.proof(OVER_GRPC, serde_json::json!({"nonce": world.nonce()}));
        let answer = world.issues(tokens["refresh_token"].as_str().unwrap(), &proof).await.unwrap();
        assert!(answer.metadata().contains_key("dpop-nonce"));
        let refreshed = answer.into_inner().tokens.unwrap();
        assert!(refreshed.dpop_bound && !refreshed.refresh_token.is_empty());
        assert_eq!(claims(&refreshed.access_token)["cnf"]["jkt"], holder.thumbprint());
    }
}

#[tokio::test]
async fn case_49_a_proof_that_is_not_in_order_gives_nothing_and_uses_nothing_up() {
    let world = World::new().await;
    world.app("wiki", false, first_party()).await;
    let holder = Holder::new();
    let code = world.code("wiki", somebody()).await;
    let with = |changes: Value| {
        let mut all = serde_json::json!({"nonce": world.nonce()});
        for (name, value) in changes.as_object().unwrap() {
            all[name] = value.clone();
        }
        holder.proof("/oauth2/token", all)
    };
    let good = with(serde_json::json!({}));
    let proven = serde_json::json!({"jti": "1", "htm": "POST", "htu": format!("{ISSUER}/oauth2/token"), "iat": now(), "nonce": world.nonce()});
    let mut private = holder.jwk();
    private["d"] = "AQAB".into();
    let headed = |typ: &str, alg: &str, jwk: Value| {
        holder.signed(serde_json::json!({"typ": typ, "alg": alg, "jwk": jwk}), proven.clone())
    };
    let bad = [
        with(serde_json::json!({"htm": "GET"})),
        with(serde_json::json!({"htu": format!("{ISSUER}/userinfo")})),
        with(serde_json::json!({"htu": "https://evil.test/oauth2/token"})),
        with(serde_json::json!({"iat": now() - 120})),
        with(serde_json::json!({"iat": now() + 120})),
        with(serde_json::json!({"jti": null})),
        headed("JWT", "ES256", holder.jwk()),
        headed("dpop+jwt", "none", holder.jwk()),
        headed("dpop+jwt", "HS256", serde_json::json!({"kty": "oct", "k": "AQAB"})),
        headed("dpop+jwt", "ES256", private),
        headed("dpop+jwt", "ES256", Holder::new().jwk()),
        "garbage".to_owned(),
    ];
    for proof in &bad {
        let refused = world.posts("/oauth2/token", &redeeming(&code), &[proof]).await;
        assert_eq!((refused.status, &refused.json()["error"]), (StatusCode::BAD_REQUEST, &"invalid_dpop_proof".into()));
        assert!(refused.headers.contains_key("dpop-nonce") && refused.headers["cache-control"] == "no-store");
    }
    let two = world.posts("/oauth2/token", &redeeming(&code), &[&good, &with(serde_json::json!({}))]).await;
    assert_eq!(two.json()["error"], "invalid_dpop_proof");
    let old = world.issuer.nonces.at(world.clock.now().minus(std::time::Duration::from_secs(600)));
    for nonce in [serde_json::json!(null), "made up".into(), old.into()] {
        let refused =
            world.posts("/oauth2/token", &redeeming(&code), &[&with(serde_json::json!({"nonce": nonce}))]).await;
        assert_eq!(refused.json()["error"], "use_dpop_nonce");
    }
    assert_eq!(world.posts("/oauth2/token", &redeeming(&code), &[&good]).await.status, StatusCode::OK);
    // Over gRPC the path is another one, and the errors have their reasons.
    for (proof, reason) in [
        (holder.proof("/oauth2/token", serde_json::json!({"nonce": world.nonce()})), Reason::ProofInvalid),
        (holder.proof(OVER_GRPC, serde_json::json!({})), Reason::ProofNonceRequired),
    ] {
        let status = world.issues("token", &proof).await.unwrap_err();
        assert_eq!((status.code(), reason_of(&status)), (Code::Unauthenticated, Some(reason)));
        assert!(status.metadata().contains_key("dpop-nonce"));
    }
}

#[tokio::test]
async fn case_49_a_proof_is_good_once_also_after_a_restart_and_of_fifty_parallel_uses_one_is() {
    let world = World::new().await;
    world.app("wiki", false, first_party()).await;
    let holder = Holder::new();
    let mut codes = Vec::new();
    for _ in 0..50 {
        codes.push(world.code("wiki", somebody()).await);
    }
    let proof = holder.proof("/oauth2/token", serde_json::json!({"nonce": world.nonce()}));
    let forms: Vec<_> = codes.iter().map(|code| redeeming(code)).collect();
    let proofs = [proof.as_str()];
    let answers = join_all(forms.iter().map(|form| world.posts("/oauth2/token", form, &proofs))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == StatusCode::OK).count(), 1);
    let refused = answers.iter().filter(|answer| answer.status != StatusCode::OK);
    assert!(refused.into_iter().all(|answer| answer.json()["error"] == "invalid_dpop_proof"));
    let world = world.restarted().await;
    let code = world.code("wiki", somebody()).await;
    assert_eq!(world.posts("/oauth2/token", &redeeming(&code), &[&proof]).await.json()["error"], "invalid_dpop_proof");
}

#[tokio::test]
async fn who_brings_nothing_but_a_proof_leaves_nothing_behind() {
    let world = World::with(Settings { login_requests_max: 2, ..Settings::default() }).await;
    world.app("wiki", false, first_party()).await;
    let secret = world.app("bot", true, first_party()).await;
    let holder = Holder::new();
    let ended = world.bound(&holder).await;
    let ended = ended["refresh_token"].as_str().unwrap();
    world.revoke(credentials("wiki", ""), ended).await.unwrap();
    let used = world.code("wiki", somebody()).await;
    world.redeem(credentials("wiki", ""), &used, VERIFIER).await.unwrap();
    let unknown = world.issuer.refresh_keys.first(flaghoist_runtime::names::SessionId(Uuid::now_v7())).text();
    let proof = holder.proof("/oauth2/token", serde_json::json!({"nonce": world.nonce()}));
    let bot = [("client_id", "bot"), ("client_secret", secret.as_str())];
    let client_token = |scope| [&bot[..], &[("grant_type", "client_credentials"), ("scope", scope)]].concat();
    for (form, error) in [
        (redeeming("made up"), "invalid_grant"),
        (redeeming(&used), "invalid_grant"),
        (refreshing("made up"), "invalid_grant"),
        (refreshing(&unknown), "invalid_grant"),
        (refreshing(ended), "invalid_grant"),
        (vec![("grant_type", "client_credentials"), ("client_id", "wiki")], "unauthorized_client"),
        (
            vec![("grant_type", super::device::GRANT), ("client_id", "flaghoist-cli"), ("device_code", "made up")],
            "invalid_grant",
        ),
        (client_token("openid"), "invalid_scope"),
        (
            vec![("grant_type", "client_credentials"), ("client_id", "bot"), ("client_secret", "wrong")],
            "invalid_client",
        ),
    ] {
        let refused = world.posts("/oauth2/token", &form, &[&proof]).await;
        assert_eq!(refused.json()["error"], error, "{form:?}");
    }
    // The same proof is good yet, and only now it is used up.
    assert_eq!(world.posts("/oauth2/token", &client_token(""), &[&proof]).await.status, StatusCode::OK);
    assert_eq!(world.posts("/oauth2/token", &client_token(""), &[&proof]).await.json()["error"], "invalid_dpop_proof");
    // Requests that are pushed leave as many as one network may push.
    let proof = || holder.proof("/oauth2/par", serde_json::json!({"nonce": world.nonce()}));
    let twice = proof();
    let pushed = world.posts("/oauth2/par", &request("wiki"), &[&twice]).await;
    assert_eq!(world.posts("/oauth2/par", &request("wiki"), &[&twice]).await.json()["error"], "invalid_dpop_proof");
    let third = proof();
    assert_eq!(world.posts("/oauth2/par", &request("wiki"), &[&third]).await.status, StatusCode::SERVICE_UNAVAILABLE);
    let name = pushed.json()["request_uri"].as_str().unwrap().to_owned();
    Browser::default().authorize(&world, &[("client_id", "wiki"), ("request_uri", &name)]).await;
    assert_eq!(world.posts("/oauth2/par", &request("wiki"), &[&third]).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn case_35_a_bound_refresh_token_ends_its_session_in_the_hands_of_whoever_lacks_the_key() {
    let world = World::new().await;
    world.app("wiki", false, first_party()).await;
    let (holder, thief) = (Holder::new(), Holder::new());
    for proof in [None, Some(thief.proof("/oauth2/token", serde_json::json!({"nonce": world.nonce()})))] {
        let tokens = world.bound(&holder).await;
        let token = tokens["refresh_token"].as_str().unwrap();
        let proofs: Vec<_> = proof.iter().map(String::as_str).collect();
        let stolen = world.posts("/oauth2/token", &refreshing(token), &proofs).await;
        assert_eq!((stolen.status, &stolen.json()["error"]), (StatusCode::BAD_REQUEST, &"invalid_grant".into()));
        let own = holder.proof("/oauth2/token", serde_json::json!({"nonce": world.nonce()}));
        assert_eq!(world.posts("/oauth2/token", &refreshing(token), &[&own]).await.json()["error"], "invalid_grant");
    }
}

#[tokio::test]
async fn a_code_for_a_key_is_redeemed_with_that_key_only() {
    let world = World::new().await;
    world.app("wiki", false, first_party()).await;
    let (holder, other) = (Holder::new(), Holder::new());
    let jkt = holder.thumbprint();
    let mut expected =
        vec![(Some(&holder), StatusCode::OK), (Some(&other), StatusCode::BAD_REQUEST), (None, StatusCode::BAD_REQUEST)];
    while let Some((redeemer, status)) = expected.pop() {
        let mut browser = Browser::default();
        let to_login = browser.authorize(&world, &but("wiki", &[("dpop_jkt", &jkt)])).await;
        let code = browser.continues(&world, &to_login, somebody()).await.parameter("code").unwrap();
        let proof = redeemer.map(|key| key.proof("/oauth2/token", serde_json::json!({"nonce": world.nonce()})));
        let proofs: Vec<_> = proof.iter().map(String::as_str).collect();
        assert_eq!(world.posts("/oauth2/token", &redeeming(&code), &proofs).await.status, status);
    }
    let refused = Browser::default().authorize(&world, &but("wiki", &[("dpop_jkt", "short")])).await;
    assert_eq!(refused.parameter("error").as_deref(), Some("invalid_request"));
    // A proof with a pushed request says the same.
    let proof = |key: &Holder| key.proof("/oauth2/par", serde_json::json!({"nonce": world.nonce()}));
    let both = world.posts("/oauth2/par", &but("wiki", &[("dpop_jkt", &jkt)]), &[&proof(&other)]).await;
    assert_eq!(both.json()["error"], "invalid_dpop_proof");
    let pushed = world.posts("/oauth2/par", &request("wiki"), &[&proof(&holder)]).await;
    assert_eq!(pushed.status, StatusCode::CREATED, "{}", pushed.body);
    let name = pushed.json()["request_uri"].as_str().unwrap().to_owned();
    let mut browser = Browser::default();
    let to_login = browser.authorize(&world, &[("client_id", "wiki"), ("request_uri", &name)]).await;
    let code = browser.continues(&world, &to_login, somebody()).await.parameter("code").unwrap();
    assert_eq!(world.posts("/oauth2/token", &redeeming(&code), &[]).await.json()["error"], "invalid_grant");
}

#[tokio::test]
async fn case_51_a_bound_token_opens_userinfo_and_the_api_with_its_proof_only() {
    let world = World::new().await;
    world.app("wiki", false, first_party()).await;
    let (holder, thief) = (Holder::new(), Holder::new());
    let tokens = world.bound(&holder).await;
    let token = tokens["access_token"].as_str().unwrap();
    let proof = |key: &Holder, changes: Value| {
        let mut all = serde_json::json!({"htm": "GET", "ath": hash(token)});
        for (name, value) in changes.as_object().unwrap() {
            all[name] = value.clone();
        }
        key.proof("/userinfo", all)
    };
    let good = proof(&holder, serde_json::json!({}));
    assert_eq!(world.userinfo("DPoP", token, &[&good]).await.status, StatusCode::OK);
    for (scheme, proof) in [
        ("DPoP", good.clone()),
        ("Bearer", proof(&holder, serde_json::json!({}))),
        ("DPoP", proof(&thief, serde_json::json!({}))),
        ("DPoP", proof(&holder, serde_json::json!({"ath": hash("another")}))),
        ("DPoP", proof(&holder, serde_json::json!({"ath": null}))),
        ("DPoP", proof(&holder, serde_json::json!({"htm": "POST"}))),
    ] {
        let refused = world.userinfo(scheme, token, &[&proof]).await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
        let said = refused.headers["www-authenticate"].to_str().unwrap();
        assert!(said.starts_with("DPoP ") && said.contains("algs=\"EdDSA Ed25519 ES256 RS256 PS256\""), "{said}");
    }
    assert_eq!(world.userinfo("Bearer", token, &[]).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(world.userinfo("DPoP", token, &[]).await.status, StatusCode::UNAUTHORIZED);
    let form = [("access_token", token)];
    assert_eq!(Browser::default().post(&world, "/userinfo", &form).await.status, StatusCode::UNAUTHORIZED);
    let status = world.sessions(token).list_sessions(ListSessionsRequest::default()).await.unwrap_err();
    assert_eq!((status.code(), reason_of(&status)), (Code::Unauthenticated, Some(Reason::ProofInvalid)));
}

#[tokio::test]
async fn who_inspects_a_bound_token_sees_its_key_and_a_client_may_be_held_to_prove_one() {
    let world = World::new().await;
    let secret = world.app("bot", true, Registration { dpop_bound_access_tokens: true, ..first_party() }).await;
    let holder = Holder::new();
    let form = [("grant_type", "client_credentials"), ("client_id", "bot"), ("client_secret", secret.as_str())];
    assert_eq!(world.posts("/oauth2/token", &form, &[]).await.json()["error"], "invalid_dpop_proof");
    let proof = holder.proof("/oauth2/token", serde_json::json!({"nonce": world.nonce()}));
    let tokens = world.posts("/oauth2/token", &form, &[&proof]).await.json();
    assert_eq!(tokens["token_type"], "DPoP");
    let token = tokens["access_token"].as_str().unwrap();
    let form = [("token", token), ("client_id", "bot"), ("client_secret", secret.as_str())];
    let said = world.posts("/oauth2/introspect", &form, &[]).await.json();
    assert_eq!((&said["token_type"], &said["cnf"]["jkt"]), (&"DPoP".into(), &holder.thumbprint().into()));
    let request = IntrospectTokenRequest { client: Some(credentials("bot", &secret)), token: token.into() };
    let said = world.tokens().introspect_token(request).await.unwrap().into_inner();
    assert_eq!(said.cnf_jkt, holder.thumbprint());
    let refused = world.try_sign_in(somebody(), "bot", &["chat.read"]).await.map(|_| ());
    super::refused(refused, Code::PermissionDenied, Reason::ClientUnauthorized);
}
