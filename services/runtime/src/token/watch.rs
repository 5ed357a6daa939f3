//! Keeps what the verifier knows up to date from auth: the keys every minute and when an unknown one is met, the revocations as
//! they are made. A watch that breaks is taken up again where it broke.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use flaghoist_proto::auth::v1::verification_service_client::VerificationServiceClient;
use flaghoist_proto::auth::v1::{
    GetJwksRequest, WatchRevocationsRequest, WatchRevocationsResponse, watch_revocations_response::Target,
};
use tokio::time::timeout;
use tonic::Status;

use super::{Revocation, RevocationTarget, Verifier};
use crate::drain::Drain;
use crate::fault::chain;
use crate::local::Peer;
use crate::names::{SessionId, strict_uuid};
use crate::ready::ReadyToken;
use crate::time::{from_timestamp, timestamp};

/// How often the keys are fetched.
const KEYS_INTERVAL: Duration = Duration::from_secs(60);

/// How long one fetch may take.
const KEYS_WAIT: Duration = Duration::from_secs(5);

/// The first pause after a failure; each further one doubles it, up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(20);

/// The longest pause after a failure.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// After how many failures in a row the log mentions them: while the parts start, a few are normal.
const FAILURES_QUIET: u32 = 10;

/// How long a watch may be silent; auth gives a sign of life every 15 s.
const SILENCE_MAX: Duration = Duration::from_secs(30);

type Client = VerificationServiceClient<Peer>;

/// How long to wait after failures in a row.
struct Pause {
    failures: u32,
}

impl Pause {
    fn next(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        PAUSE_MIN.saturating_mul(1 << (self.failures - 1).min(10)).min(PAUSE_MAX)
    }

    /// Whether this failure is to be logged: the first that is no longer normal, and about one a minute from then on.
    fn worth_a_line(&self) -> bool {
        self.failures == FAILURES_QUIET || (self.failures > FAILURES_QUIET && self.failures.is_multiple_of(60))
    }
}

impl Verifier {
    /// Keeps keys and revocations up to date from auth until the drain is over. Drops `ready` once it has both.
    pub fn watch(self: &Arc<Self>, auth: Peer, drain: Drain, ready: ReadyToken) {
        let client = VerificationServiceClient::new(auth);
        let (verifier, ended) = (Arc::clone(self), drain.clone());
        let (fetched, has_keys) = tokio::sync::oneshot::channel();
        tokio::spawn({
            let client = client.clone();
            async move {
                tokio::select! {
                    () = keep_keys(&verifier, client, Some(fetched)) => {}
                    () = ended.ended() => {}
                }
            }
        });
        let verifier = Arc::clone(self);
        tokio::spawn(async move {
            tokio::select! {
                () = keep_revocations(&verifier, client, Some(has_keys), Some(ready)) => {}
                () = drain.ended() => {}
            }
        });
    }
}

async fn keep_keys(verifier: &Verifier, mut client: Client, mut fetched: Option<tokio::sync::oneshot::Sender<()>>) {
    let mut pause = Pause { failures: 0 };
    loop {
        // An odd count says that keys are being fetched.
        verifier.refresh.done.send_modify(|count| *count += 1);
        let wait = match fetch_keys(verifier, &mut client).await {
            Ok(()) => {
                pause.failures = 0;
                if let Some(fetched) = fetched.take() {
                    let _gone = fetched.send(()).is_err();
                }
                KEYS_INTERVAL
            }
            Err(problem) => {
                let wait = pause.next();
                if pause.worth_a_line() {
                    tracing::warn!(error = %problem, "cannot fetch the issuer's keys: is auth running and reachable?");
                }
                wait
            }
        };
        verifier.refresh.done.send_modify(|count| *count += 1);
        // Who asked while they were being fetched has got what there is.
        let _asked = timeout(wait, verifier.refresh.wanted.notified()).await.is_ok();
    }
}

async fn fetch_keys(verifier: &Verifier, client: &mut Client) -> Result<(), String> {
    let fetched = timeout(KEYS_WAIT, client.get_jwks(GetJwksRequest {})).await;
    let answer = fetched.map_err(|_| "no answer in time".to_owned())?.map_err(|status| chain(&status))?;
    verifier.set_keys(&answer.into_inner().jwks).map_err(|error| chain(&error))
}

async fn keep_revocations(
    verifier: &Verifier,
    mut client: Client,
    mut has_keys: Option<tokio::sync::oneshot::Receiver<()>>,
    mut ready: Option<ReadyToken>,
) {
    let mut pause = Pause { failures: 0 };
    let mut since = None;
    loop {
        let request = WatchRevocationsRequest { since_time: since.map(timestamp) };
        let broken = match client.watch_revocations(request).await {
            Ok(answer) => {
                pause.failures = 0;
                let mut stream = answer.into_inner();
                if let Some(has_keys) = has_keys.take() {
                    // An error says that the drain is over.
                    let _gone = has_keys.await.is_err();
                }
                drop(ready.take());
                loop {
                    match timeout(SILENCE_MAX, stream.message()).await {
                        Ok(Ok(Some(message))) => take(verifier, &message, &mut since),
                        Ok(Ok(None)) => break Status::unavailable("the watch ended"),
                        Ok(Err(status)) => break status,
                        Err(_) => break Status::unavailable("the watch was silent"),
                    }
                }
            }
            Err(status) => status,
        };
        let wait = pause.next();
        if pause.worth_a_line() {
            tracing::warn!(error = %chain(&broken), "cannot watch revocations: is auth running and reachable?");
        }
        tokio::time::sleep(wait).await;
    }
}

/// Takes over one message of the watch.
fn take(verifier: &Verifier, message: &WatchRevocationsResponse, since: &mut Option<SystemTime>) {
    let Some(target) = &message.target else { return };
    let target = match target {
        Target::Session(session) => strict_uuid(session).map(|id| RevocationTarget::Session(SessionId(id))),
        Target::Subject(subject) => Some(RevocationTarget::Subject(subject.clone())),
        Target::Token(token) => uuid::Uuid::try_parse(token).ok().map(RevocationTarget::Token),
        Target::Key(kid) => Some(RevocationTarget::Key(kid.clone())),
    };
    let Some(target) = target else {
        tracing::warn!("revocation with an id that cannot be read");
        return;
    };
    let revoked_at = message.revoke_time.as_ref().map_or_else(SystemTime::now, from_timestamp);
    *since = Some(since.map_or(revoked_at, |known| known.max(revoked_at)));
    verifier.revoke(Revocation { target, revoked_at });
}

#[cfg(test)]
mod tests;
