//! `VerificationService`: what the services need to check tokens by themselves.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use flaghoist_proto::auth::v1::verification_service_server::VerificationService;
use flaghoist_proto::auth::v1::watch_revocations_response::Target;
use flaghoist_proto::auth::v1::{GetJwksRequest, GetJwksResponse, WatchRevocationsRequest, WatchRevocationsResponse};
use flaghoist_runtime::Drain;
use flaghoist_runtime::fault::check;
use flaghoist_runtime::time::{from_timestamp, timestamp};
use flaghoist_runtime::token::RevocationTarget;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::error::{DOMAIN, Error};
use crate::feed::PAGE;
use crate::issuer::Issuer;
use crate::moment::Moment;
use crate::store::Numbered;

/// How often a watcher hears something; the contract says every 15 seconds at least.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// How often a watch looks whether the feed is behind.
const LOOK: Duration = Duration::from_millis(500);

/// How much earlier than asked for a watch begins.
const OVERLAP: Duration = Duration::from_secs(60);

/// How many may watch; they are pods of this installation.
const WATCHERS_MAX: usize = 1000;

/// How many messages wait for a watcher that reads slowly.
const WAITING_MAX: usize = 64;

type Message = Result<WatchRevocationsResponse, Status>;

/// Keys and revocations.
#[derive(Debug)]
pub(crate) struct Verification {
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) drain: Drain,
}

#[tonic::async_trait]
impl VerificationService for Verification {
    type WatchRevocationsStream = Pin<Box<dyn tokio_stream::Stream<Item = Message> + Send>>;

    async fn get_jwks(&self, request: Request<GetJwksRequest>) -> Result<Response<GetJwksResponse>, Status> {
        check(request.get_ref(), DOMAIN)?;
        let published = self.issuer.keyring.published().ok_or(Error::Unavailable)?;
        Ok(Response::new(GetJwksResponse { jwks: published.jwks.to_string() }))
    }

    async fn watch_revocations(
        &self,
        request: Request<WatchRevocationsRequest>,
    ) -> Result<Response<Self::WatchRevocationsStream>, Status> {
        check(request.get_ref(), DOMAIN)?;
        if self.issuer.feed.watcher_count() >= WATCHERS_MAX {
            return Err(Error::Overloaded.into());
        }
        if self.issuer.feed.behind() {
            return Err(Error::Unavailable.into());
        }
        let since = match &request.get_ref().since_time {
            Some(time) => Moment::from(from_timestamp(time)),
            None => self.issuer.clock.now().minus(self.issuer.settings.access_lifetime),
        };
        // Subscribed before the store is read, so that nothing falls between.
        let live = self.issuer.feed.subscribe();
        let (to, messages) = mpsc::channel(WAITING_MAX);
        let watch = Watch { issuer: self.issuer.clone(), to, after: 0 };
        let drain = self.drain.clone();
        tokio::spawn(async move {
            let to = watch.to.clone();
            tokio::select! {
                () = watch.run(since.minus(OVERLAP), live) => {}
                () = drain.started() => {}
                () = to.closed() => {}
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(messages))))
    }
}

/// One watcher.
struct Watch {
    issuer: Arc<Issuer>,
    to: mpsc::Sender<Message>,
    /// The number of the last revocation that was sent.
    after: i64,
}

/// The watcher is gone.
struct Gone;

impl Watch {
    async fn run(mut self, since: Moment, mut live: Receiver<Numbered>) {
        if let Err(error) = self.repeat(since).await {
            // Nobody is left to tell if this fails too.
            let _gone = self.to.send(Err(error.into())).await;
            return;
        }
        // Ends when the watcher is gone, or too far behind: then it resumes by the time of the last one it saw.
        let mut said_at = Instant::now();
        while self.forward(&mut live, &mut said_at).await.is_ok() {}
    }

    /// Sends what was revoked since.
    async fn repeat(&mut self, since: Moment) -> Result<(), Error> {
        loop {
            let page = self.issuer.store.revocations(since, self.after, PAGE).await?;
            let more = page.len() >= PAGE as usize;
            for numbered in page {
                if self.send(numbered).await.is_err() {
                    return Ok(());
                }
            }
            if !more {
                // Says that the past has been told.
                let _gone = self.to.send(Ok(WatchRevocationsResponse::default())).await;
                return Ok(());
            }
        }
    }

    async fn forward(&mut self, live: &mut Receiver<Numbered>, said_at: &mut Instant) -> Result<(), Gone> {
        match tokio::time::timeout(LOOK, live.recv()).await {
            Ok(Ok(numbered)) if numbered.no > self.after => self.send(numbered).await?,
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(RecvError::Lagged(_) | RecvError::Closed)) => return Err(Gone),
            Err(_) if self.issuer.feed.behind() => {
                // Silence would be taken for peace. Another pod may know more.
                let _gone = self.to.send(Err(Error::Unavailable.into())).await;
                return Err(Gone);
            }
            Err(_) if said_at.elapsed() < HEARTBEAT => return Ok(()),
            Err(_) => self.to.send(Ok(WatchRevocationsResponse::default())).await.map_err(|_| Gone)?,
        }
        *said_at = Instant::now();
        Ok(())
    }

    async fn send(&mut self, numbered: Numbered) -> Result<(), Gone> {
        self.after = numbered.no;
        let target = match numbered.revocation.target {
            RevocationTarget::Session(session) => Target::Session(session.to_string()),
            RevocationTarget::Subject(subject) => Target::Subject(subject),
            RevocationTarget::Token(token) => Target::Token(token.to_string()),
            RevocationTarget::Key(kid) => Target::Key(kid),
        };
        let revoke_time = Some(timestamp(numbered.revocation.revoked_at));
        self.to.send(Ok(WatchRevocationsResponse { revoke_time, target: Some(target) })).await.map_err(|_| Gone)
    }
}
