//! The verifier follows an issuer that starts late, rotates its keys and revokes.

use std::pin::Pin;

use flaghoist_proto::auth::v1::GetJwksResponse;
use flaghoist_proto::auth::v1::verification_service_server::{VerificationService, VerificationServiceServer};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::broadcast;
use tokio_stream::Stream;
use tonic::service::Routes;
use tonic::{Request, Response};
use uuid::Uuid;

use super::*;
use crate::drain::Drain;
use crate::local::Slot;
use crate::ready::Readiness;
use crate::token::TokenError;
use crate::token::tests::{Issuer, claims};

#[derive(Clone)]
struct Auth {
    jwks: Arc<Mutex<String>>,
    watches: Arc<Mutex<Vec<WatchRevocationsRequest>>>,
    revocations: broadcast::Sender<Option<WatchRevocationsResponse>>,
}

#[tonic::async_trait]
impl VerificationService for Auth {
    async fn get_jwks(&self, _: Request<GetJwksRequest>) -> Result<Response<GetJwksResponse>, Status> {
        Ok(Response::new(GetJwksResponse { jwks: self.jwks.lock().clone() }))
    }

    type WatchRevocationsStream = Pin<Box<dyn Stream<Item = Result<WatchRevocationsResponse, Status>> + Send>>;

    async fn watch_revocations(
        &self,
        request: Request<WatchRevocationsRequest>,
    ) -> Result<Response<Self::WatchRevocationsStream>, Status> {
        self.watches.lock().push(request.into_inner());
        let revocations = self.revocations.subscribe();
        let stream = futures_util::stream::unfold(revocations, |mut revocations| async move {
            // Nothing breaks the watch.
            let message = revocations.recv().await.ok()??;
            Some((Ok(message), revocations))
        });
        Ok(Response::new(Box::pin(stream)))
    }
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), waiting).await.unwrap_or_else(|_| panic!("{what} did not come"));
}

#[tokio::test]
async fn keys_and_revocations_arrive_from_an_auth_that_starts_late_and_breaks_off() {
    let issuer = Issuer::new("k1");
    let auth = Auth {
        jwks: Arc::new(Mutex::new(issuer.jwks())),
        watches: Arc::default(),
        revocations: broadcast::channel(16).0,
    };
    let slot = Slot::new("auth");
    let verifier = Verifier::new("http://localhost:8080");
    let readiness = Readiness::new();
    let (trigger, drain) = Drain::new();
    verifier.watch(slot.peer(), drain, readiness.token("keys"));
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert!(!readiness.is_ready());

    slot.fill(Routes::new(VerificationServiceServer::new(auth.clone())));
    timeout(Duration::from_secs(1), readiness.ready()).await.expect("the first failures are tried again soon");
    let token = issuer.token(claims(json!({})));
    let caller = verifier.verify(&token).unwrap();

    let mut seen = verifier.revocations();
    let revoke_time = timestamp(SystemTime::now());
    let target = Some(Target::Session(Uuid::from_u128(2).to_string()));
    let revocation = WatchRevocationsResponse { revoke_time: Some(revoke_time), target };
    auth.revocations.send(Some(WatchRevocationsResponse::default())).unwrap();
    auth.revocations.send(Some(revocation.clone())).unwrap();
    assert_eq!(
        timeout(Duration::from_secs(5), seen.recv()).await.unwrap().unwrap().target,
        RevocationTarget::Session(SessionId(Uuid::from_u128(2)))
    );
    assert!(verifier.revoked(&caller));
    assert_eq!(verifier.verify(&token), Err(TokenError::Revoked));

    auth.revocations.send(None).unwrap();
    eventually("the next watch", || auth.watches.lock().len() >= 2).await;
    let watches = auth.watches.lock().clone();
    assert_eq!((watches[0].since_time, watches[1].since_time), (None, Some(revoke_time)));

    // A token of a key that was made meanwhile is good at its first use.
    let next = Issuer::new("k2");
    *auth.jwks.lock() = next.jwks();
    let token = next.token(claims(json!({"sid": Uuid::from_u128(7).to_string()})));
    assert!(verifier.verify(&token).is_err());
    assert!(verifier.verify_fresh(&token).await.is_ok());
    // Unknown keys do not make it ask again and again.
    let unknown = Issuer::new("k3").token(claims(json!({})));
    let started = std::time::Instant::now();
    for _ in 0..100 {
        assert!(verifier.verify_fresh(&unknown).await.is_err());
    }
    assert!(started.elapsed() < Duration::from_secs(5));
    trigger.end();
}

#[test]
fn pauses_grow_to_a_second() {
    let mut pause = Pause { failures: 0 };
    let pauses = (0..10).map(|_| pause.next().as_millis()).collect::<Vec<_>>();
    assert_eq!(pauses, [20, 40, 80, 160, 320, 640, 1000, 1000, 1000, 1000]);
}
