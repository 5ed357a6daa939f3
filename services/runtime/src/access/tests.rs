//! The access rules around real routes.

use std::sync::atomic::{AtomicUsize, Ordering};

use flaghoist_proto::METHODS;
use futures_util::FutureExt as _;
use serde_json::json;
use tonic::Status;
use tonic::service::Routes;
use tower::ServiceExt as _;

use super::*;
use crate::fault::reason_of;
use crate::token::proof::tests::Holder;
use crate::token::tests::{Issuer, claims};

/// Routes that answer every path, and count the calls by whether they know the caller.
fn routes(known: &Arc<AtomicUsize>, unknown: &Arc<AtomicUsize>) -> Routes {
    let (known, unknown) = (Arc::clone(known), Arc::clone(unknown));
    let router = axum::Router::new().fallback(move |request: axum::extract::Request| {
        let count = if request.extensions().get::<Arc<Caller>>().is_some() { &known } else { &unknown };
        count.fetch_add(1, Ordering::Relaxed);
        async { Response::new(axum::body::Body::empty()) }
    });
    Routes::from(router)
}

struct World {
    issuer: Issuer,
    layered: Access<Routes>,
    known: Arc<AtomicUsize>,
    unknown: Arc<AtomicUsize>,
}

impl World {
    fn new() -> Self {
        let issuer = Issuer::new("k1");
        let (known, unknown) = (Arc::default(), Arc::default());
        let layered = AccessLayer::public(issuer.verifier()).layer(routes(&known, &unknown));
        Self { issuer, layered, known, unknown }
    }

    /// Calls the method, and answers the status if it was refused.
    async fn call(&self, path: &str, authorization: &[&str]) -> Option<Status> {
        let mut request = Request::builder().method("POST").uri(path);
        for value in authorization {
            request = request.header("authorization", *value);
        }
        let response = self.layered.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        Status::from_header_map(response.headers())
    }

    fn reached(&self) -> (usize, usize) {
        (self.known.swap(0, Ordering::Relaxed), self.unknown.swap(0, Ordering::Relaxed))
    }
}

fn refusal(status: Option<Status>) -> (Code, Option<Reason>) {
    let status = status.expect("the call is refused");
    (status.code(), reason_of(&status))
}

#[tokio::test]
async fn every_method_is_open_to_those_the_contracts_name_and_to_nobody_else() {
    let world = World::new();
    let person = format!("Bearer {}", world.issuer.token(claims(json!({"scope": "chat.read chat.send"}))));
    let admin = format!("bearer {}", world.issuer.token(claims(json!({"scope": "chat.read chat.send admin"}))));
    let reader = format!("Bearer {}", world.issuer.token(claims(json!({"scope": "openid chat.read"}))));
    let shown = format!("Bearer {}", world.issuer.token(claims(json!({"scope": "openid profile"}))));
    let client = format!("Bearer {}", world.issuer.token(claims(json!({"sid": null, "scope": "admin"}))));
    let missing = (Code::Unauthenticated, Some(Reason::TokenMissing));
    let invalid = (Code::Unauthenticated, Some(Reason::TokenInvalid));
    for method in METHODS {
        let path = method.path;
        match method.access {
            Rule::Anyone => {
                assert!(world.call(path, &[]).await.is_none() && world.call(path, &["Bearer bad"]).await.is_none());
                assert_eq!(world.reached(), (0, 2), "{path}");
                assert!(world.call(path, &[&person]).await.is_none() && world.call(path, &[&client]).await.is_none());
                assert_eq!(world.reached(), (2, 0), "{path}");
            }
            Rule::User | Rule::Admin => {
                assert_eq!(refusal(world.call(path, &[]).await), missing, "{path}");
                assert_eq!(refusal(world.call(path, &["Basic eDp5"]).await), missing, "{path}");
                assert_eq!(refusal(world.call(path, &["Bearer bad"]).await), invalid, "{path}");
                assert_eq!(refusal(world.call(path, &[&client]).await), invalid, "{path}");
                assert_eq!(refusal(world.call(path, &[&person, &person]).await), invalid, "{path}");
                assert_eq!(world.reached(), (0, 0), "{path}");
                assert!(world.call(path, &[&admin]).await.is_none());
                assert_eq!(world.reached(), (1, 0), "{path}");
                let lacks = (Code::PermissionDenied, Some(Reason::ScopeMissing));
                match method.access {
                    Rule::Admin => assert_eq!(refusal(world.call(path, &[&person]).await), lacks, "{path}"),
                    _ => {
                        assert!(world.call(path, &[&person]).await.is_none(), "{path}");
                        // Who has only said who they are has allowed nothing.
                        assert_eq!(refusal(world.call(path, &[&shown]).await), lacks, "{path}");
                        let reads = world.call(path, &[&reader]).await;
                        let may = method.safe || method.streaming || method.service.contains(".receiver.");
                        assert_eq!(reads.is_none(), may, "{path}");
                    }
                }
                world.reached();
            }
            Rule::Service(_) => {
                let expected = (Code::PermissionDenied, Some(Reason::CallerNotAllowed));
                assert_eq!(refusal(world.call(path, &[&admin]).await), expected, "{path}");
                assert_eq!(world.reached(), (0, 0), "{path}");
            }
        }
    }
}

#[tokio::test]
async fn what_the_contracts_do_not_name_is_not_reached_and_a_token_in_the_query_is_not_read() {
    let world = World::new();
    let token = world.issuer.token(claims(json!({})));
    let authorization = format!("Bearer {token}");
    for path in ["/flaghoist.send.v1.MessageService/Nothing", "/other.Service/Method", "/", "/grpc.other/Check"] {
        assert_eq!(refusal(world.call(path, &[&authorization]).await).0, Code::Unimplemented, "{path}");
    }
    assert_eq!(world.reached(), (0, 0));
    for path in ["/grpc.health.v1.Health/Check", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"] {
        assert!(world.call(path, &[]).await.is_none(), "{path}");
    }
    let path = METHODS.iter().find(|method| method.access == Rule::User).unwrap().path;
    let refused = refusal(world.call(&format!("{path}?access_token={token}"), &[]).await);
    assert_eq!(refused, (Code::Unauthenticated, Some(Reason::TokenMissing)));
}

#[tokio::test]
async fn a_verified_call_is_answered_without_waiting() {
    let world = World::new();
    let authorization = format!("Bearer {}", world.issuer.token(claims(json!({}))));
    let path = METHODS.iter().find(|method| method.access == Rule::User).unwrap().path;
    assert!(matches!(world.call(path, &[&authorization]).now_or_never(), Some(None)));
}

/// The internal port, and a service that calls on it.
fn internal(credential: Option<Credential>) -> World {
    let world = World::new();
    let layered = AccessLayer::internal(credential).layer(routes(&world.known, &world.unknown));
    World { layered, ..world }
}

fn shared(secret: &str) -> Credential {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), secret).unwrap();
    Credential::read(file.path()).unwrap()
}

#[tokio::test]
async fn the_internal_port_answers_services_only() {
    let world = internal(None);
    let admin = format!("Bearer {}", world.issuer.token(claims(json!({"scope": "chat.read chat.send admin"}))));
    for method in METHODS {
        let refused = world.call(method.path, &[&admin]).await;
        match method.access {
            Rule::Service(_) => assert!(refused.is_none() && world.reached() == (0, 1), "{}", method.path),
            _ => {
                assert_eq!(
                    refusal(refused),
                    (Code::PermissionDenied, Some(Reason::CallerNotAllowed)),
                    "{}",
                    method.path
                );
                assert_eq!(world.reached(), (0, 0), "{}", method.path);
            }
        }
    }
    assert_eq!(refusal(world.call("/other.Service/Method", &[]).await).0, Code::Unimplemented);
    for path in ["/grpc.health.v1.Health/Check", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"] {
        assert!(world.call(path, &[]).await.is_none(), "{path}");
    }
}

#[tokio::test]
async fn with_a_credential_every_method_is_open_to_the_callers_that_its_contract_names() {
    let credential = shared("the secret of this place");
    let world = internal(Some(credential.clone()));
    let stranger = shared("the secret of that place").of("send").unwrap();
    for method in METHODS {
        let Rule::Service(callers) = method.access else { continue };
        for missing in [&[][..], &["Bearer bad"], &[stranger.to_str().unwrap()]] {
            let unknown = (Code::Unauthenticated, Some(Reason::CallerNotAllowed));
            assert_eq!(refusal(world.call(method.path, missing).await), unknown, "{}", method.path);
        }
        for caller in ["login", "send", "receiver"] {
            let shown = credential.of(caller).unwrap();
            let refused = world.call(method.path, &[shown.to_str().unwrap()]).await;
            if callers.contains(&caller) {
                assert!(refused.is_none() && world.reached() == (0, 1), "{caller} {}", method.path);
            } else {
                let denied = (Code::PermissionDenied, Some(Reason::CallerNotAllowed));
                assert_eq!(refusal(refused), denied, "{caller} {}", method.path);
            }
        }
    }
    assert_eq!(world.reached(), (0, 0));
}

/// Case 51: a token that is bound to a key opens nothing without a proof of that key, however often it was seen.
#[tokio::test]
async fn case_51_a_bound_token_is_good_with_a_proof_for_this_call_only() {
    let world = World::new();
    let (holder, thief) = (Holder::new(), Holder::new());
    let token = world.issuer.token(claims(json!({"cnf": {"jkt": holder.thumbprint()}})));
    let (path, other) =
        ("/flaghoist.auth.v1.SessionService/ListSessions", "/flaghoist.login.v1.AccountService/GetAccount");
    let now = crate::time::millis(std::time::SystemTime::now()) / 1000;
    let call = async |path: &str, scheme: &str, token: &str, proofs: &[&str]| {
        let mut request =
            Request::builder().method("POST").uri(path).header("authorization", format!("{scheme} {token}"));
        for proof in proofs {
            request = request.header("dpop", *proof);
        }
        let response = world.layered.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        Status::from_header_map(response.headers())
    };
    let unproven = (Code::Unauthenticated, Some(Reason::ProofInvalid));
    // Before and after it is remembered.
    for _ in 0..2 {
        assert_eq!(refusal(call(path, "Bearer", &token, &[]).await), unproven);
        assert_eq!(refusal(call(path, "DPoP", &token, &[]).await), unproven);
        let good = holder.proof(path, &token, now, json!({}));
        assert_eq!(refusal(call(path, "Bearer", &token, &[&good]).await), unproven);
        assert!(call(path, "DPoP", &token, &[&good]).await.is_none());
        assert_eq!(refusal(call(path, "DPoP", &token, &[&good]).await), unproven, "a second time");
        assert!(call(path, "dpop", &token, &[&holder.proof(path, &token, now, json!({}))]).await.is_none());
    }
    for bad in [
        thief.proof(path, &token, now, json!({})),
        holder.proof(other, &token, now, json!({})),
        holder.proof(path, "another token", now, json!({})),
        holder.proof(path, &token, now, json!({"ath": null})),
        holder.proof(path, &token, now - 120, json!({})),
        holder.proof(path, &token, now, json!({"htu": format!("https://evil.test{path}")})),
        "garbage".to_owned(),
    ] {
        assert_eq!(refusal(call(path, "DPoP", &token, &[&bad]).await), unproven);
    }
    let (one, two) = (holder.proof(path, &token, now, json!({})), holder.proof(path, &token, now, json!({})));
    assert_eq!(refusal(call(path, "DPoP", &token, &[&one, &two]).await), unproven);
    world.reached();
    // Where anyone may call, whoever shows it without its proof is nobody.
    let open = "/flaghoist.auth.v1.TokenService/RevokeToken";
    assert!(call(open, "Bearer", &token, &[]).await.is_none());
    assert_eq!(world.reached(), (0, 1));
    // A token that is bound to nothing is no better for a proof, and one that is bound in another way is none.
    let plain = world.issuer.token(claims(json!({})));
    assert_eq!(refusal(call(path, "DPoP", &plain, &[&holder.proof(path, &plain, now, json!({}))]).await), unproven);
    for cnf in [json!({}), json!({"x5t#S256": "x"}), json!({"jkt": "x", "x5t#S256": "x"}), json!("x")] {
        let token = world.issuer.token(claims(json!({"cnf": cnf})));
        let refused = refusal(call(path, "Bearer", &token, &[]).await);
        assert_eq!(refused, (Code::Unauthenticated, Some(Reason::TokenInvalid)));
    }
}

#[tokio::test]
async fn case_49_of_fifty_parallel_uses_of_one_proof_one_succeeds() {
    let world = World::new();
    let holder = Holder::new();
    let token = world.issuer.token(claims(json!({"cnf": {"jkt": holder.thumbprint()}})));
    let path = "/flaghoist.auth.v1.SessionService/ListSessions";
    let now = crate::time::millis(std::time::SystemTime::now()) / 1000;
    let (proof, authorization) = (holder.proof(path, &token, now, json!({})), format!("DPoP {token}"));
    let calls = (0..50).map(|_| {
        let request = Request::post(path).header("authorization", &authorization).header("dpop", &proof);
        let (request, layered) = (request.body(Body::empty()).unwrap(), world.layered.clone());
        tokio::spawn(
            async move { Status::from_header_map(layered.oneshot(request).await.unwrap().headers()).is_none() },
        )
    });
    let answers = futures_util::future::join_all(calls).await;
    assert_eq!(answers.into_iter().filter(|passed| *passed.as_ref().unwrap()).count(), 1);
}
