//! The other services as holders of what belongs to a person: each erases it, in steps that may be repeated, and gives it out.

use std::time::Duration;

use flaghoist_proto::auth::v1 as auth;
use flaghoist_proto::auth::v1::subject_service_client::SubjectServiceClient as AuthClient;
use flaghoist_proto::receiver::v1 as receiver;
use flaghoist_proto::receiver::v1::subject_service_client::SubjectServiceClient as ReceiverClient;
use flaghoist_proto::send::v1 as send;
use flaghoist_proto::send::v1::subject_service_client::SubjectServiceClient as SendClient;
use flaghoist_runtime::Peer;
use flaghoist_runtime::names::UserId;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use tonic::{Code, Response, Status};

/// How long a service may take for one step.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The clients of the other services.
#[derive(Clone, Debug)]
pub(crate) struct Others {
    auth: AuthClient<Peer>,
    receiver: ReceiverClient<Peer>,
    send: SendClient<Peer>,
}

/// What the issuer keeps of a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IssuerCounts {
    pub(crate) sessions: i64,
    pub(crate) consents: i64,
}

/// What a step of erasing messages has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MessagesErased {
    /// Where to go on; empty at the end.
    pub(crate) next_step_token: String,
    pub(crate) messages: i64,
    pub(crate) conversations: i64,
}

/// Some lines of one file of an export.
pub(crate) struct Lines {
    pub(crate) file: String,
    pub(crate) lines: Vec<String>,
}

/// A service did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[error("{service} did not do it")]
pub(crate) struct OtherError {
    pub(crate) service: &'static str,
    #[source]
    pub(crate) status: Box<Status>,
}

impl OtherError {
    fn of(service: &'static str) -> impl Fn(Status) -> Self {
        move |status| Self { service, status: Box::new(status) }
    }

    /// Whether the same may go well later.
    pub(crate) fn passing(&self) -> bool {
        let code = self.status.code();
        matches!(code, Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded | Code::Cancelled)
    }
}

impl Others {
    pub(crate) fn new(auth: Peer, receiver: Peer, send: Peer) -> Self {
        Self { auth: AuthClient::new(auth), receiver: ReceiverClient::new(receiver), send: SendClient::new(send) }
    }

    /// What the issuer keeps of a person; removes it, unless it is only counted.
    pub(crate) async fn erase_at_issuer(&self, user: UserId, count_only: bool) -> Result<IssuerCounts, OtherError> {
        let request = auth::EraseSubjectRequest { user: user.name(), count_only };
        let mut client = self.auth.clone();
        let answer = in_time("auth", async move { client.erase_subject(request).await }).await?;
        Ok(IssuerCounts { sessions: answer.session_count, consents: answer.consent_count })
    }

    /// How many devices a person has; removes them, unless they are only counted.
    pub(crate) async fn erase_devices(&self, user: UserId, count_only: bool) -> Result<i64, OtherError> {
        let request = receiver::EraseSubjectRequest { user: user.name(), count_only };
        let mut client = self.receiver.clone();
        let answer = in_time("receiver", async move { client.erase_subject(request).await }).await?;
        Ok(answer.device_count)
    }

    /// A step of removing a person's messages. `again` looks for what came late.
    pub(crate) async fn erase_messages(
        &self,
        user: UserId,
        step_token: &str,
        again: bool,
    ) -> Result<MessagesErased, OtherError> {
        let request = send::EraseSubjectRequest { user: user.name(), step_token: step_token.to_owned(), again };
        let mut client = self.send.clone();
        let answer = in_time("send", async move { client.erase_subject(request).await }).await?;
        Ok(MessagesErased {
            next_step_token: answer.next_step_token,
            messages: answer.message_count,
            conversations: answer.conversation_count,
        })
    }

    /// What the other services keep of a person, one service after the other, read while it is taken.
    pub(crate) async fn export(
        &self,
        service: Exporter,
        user: UserId,
    ) -> Result<BoxStream<'static, Result<Lines, OtherError>>, OtherError> {
        let user = user.name();
        Ok(match service {
            Exporter::Auth => {
                let answer = self.auth.clone().export_subject(auth::ExportSubjectRequest { user }).await;
                let pieces = answer.map_err(OtherError::of("auth"))?.into_inner();
                pieces
                    .map_ok(|piece| Lines { file: piece.file, lines: piece.lines })
                    .map_err(OtherError::of("auth"))
                    .boxed()
            }
            Exporter::Receiver => {
                let answer = self.receiver.clone().export_subject(receiver::ExportSubjectRequest { user }).await;
                let pieces = answer.map_err(OtherError::of("receiver"))?.into_inner();
                pieces
                    .map_ok(|piece| Lines { file: piece.file, lines: piece.lines })
                    .map_err(OtherError::of("receiver"))
                    .boxed()
            }
            Exporter::Send => {
                let answer = self.send.clone().export_subject(send::ExportSubjectRequest { user }).await;
                let pieces = answer.map_err(OtherError::of("send"))?.into_inner();
                pieces
                    .map_ok(|piece| Lines { file: piece.file, lines: piece.lines })
                    .map_err(OtherError::of("send"))
                    .boxed()
            }
        })
    }
}

/// The services that give out what they keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exporter {
    Auth,
    Receiver,
    Send,
}

async fn in_time<T>(
    service: &'static str,
    call: impl Future<Output = Result<Response<T>, Status>> + Send,
) -> Result<T, OtherError> {
    let answer = tokio::time::timeout(ANSWER_WITHIN, call).await;
    let answer = answer.unwrap_or_else(|_elapsed| Err(Status::deadline_exceeded("no answer in time")));
    answer.map(Response::into_inner).map_err(OtherError::of(service))
}
