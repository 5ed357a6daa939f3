//! The log as the receiver sees it: what `send` keeps, asked for over its internal API and answered in the words of this crate.

use std::time::{Duration, SystemTime};

use flaghoist_proto::send::v1::log_service_client::LogServiceClient;
use flaghoist_proto::send::v1::{self as wire, Event};
use flaghoist_runtime::Peer;
use flaghoist_runtime::names::{BadName, ConversationId, UserId};
use flaghoist_runtime::time::{from_timestamp, timestamp};
use tonic::{Code, Status};

use crate::stream::{Read, ReadAnswer, Watermarks};

/// How long the log may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How long to wait before trying again what the log refused without saying how long.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// Why the log did not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// The person has no such conversation.
    #[error("the log has no such conversation for this person")]
    NotFound,
    /// It has too much to do.
    #[error("the log has too much to do")]
    Overloaded(Duration),
    /// It cannot be reached or did not answer in time; trying again is safe.
    #[error("the log cannot be reached: {0}")]
    Unavailable(String),
    /// It answered with an error or with something that makes no sense.
    #[error("the log failed: {0}")]
    Failed(String),
}

impl From<Status> for LogError {
    fn from(status: Status) -> Self {
        match status.code() {
            Code::NotFound => Self::NotFound,
            Code::ResourceExhausted => Self::Overloaded(RETRY_AFTER),
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Aborted => {
                Self::Unavailable(status.message().to_owned())
            }
            _ => Self::Failed(format!("{:?}: {}", status.code(), status.message())),
        }
    }
}

impl From<BadName> for LogError {
    fn from(error: BadName) -> Self {
        Self::Failed(format!("a name in its answer {error}"))
    }
}

/// How far a conversation goes for one person.
#[derive(Clone, Debug)]
pub(crate) struct LogHead {
    pub(crate) conversation: ConversationId,
    pub(crate) last_seq: u64,
    pub(crate) first_seq: u64,
    pub(crate) member: bool,
    pub(crate) unread_count: u64,
    pub(crate) own: Watermarks,
    pub(crate) receipts: Vec<(UserId, Watermarks)>,
}

/// A page of heads.
#[derive(Debug)]
pub(crate) struct Heads {
    pub(crate) epoch: u64,
    pub(crate) heads: Vec<LogHead>,
    pub(crate) next_page: String,
}

/// What to ask of the heads of a person.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeadsOf {
    /// Only these; all if empty.
    pub(crate) conversations: Vec<ConversationId>,
    /// Receipts of others that rose since then.
    pub(crate) receipts_since: Option<SystemTime>,
    pub(crate) page_size: u32,
    pub(crate) page: String,
}

/// What is new in one conversation.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) conversation: ConversationId,
    pub(crate) last_seq: u64,
    pub(crate) added: Vec<UserId>,
    pub(crate) removed: Vec<UserId>,
    pub(crate) receipts: Vec<(UserId, Watermarks)>,
}

/// A page of changes.
#[derive(Debug)]
pub(crate) struct Changes {
    pub(crate) epoch: u64,
    pub(crate) changes: Vec<Change>,
    pub(crate) next_page: String,
    pub(crate) read_at: Option<SystemTime>,
}

/// How far a member has come in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Receipt {
    pub(crate) conversation: ConversationId,
    pub(crate) member: UserId,
    pub(crate) watermarks: Watermarks,
}

/// Asks the log.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    client: LogServiceClient<Peer>,
}

impl Log {
    /// Asks the `send` behind `peer`.
    pub(crate) fn new(peer: Peer) -> Self {
        Self { client: LogServiceClient::new(peer).max_decoding_message_size(64 * 1024 * 1024) }
    }

    /// A page of the conversations that a person may read.
    pub(crate) async fn heads(&self, user: UserId, of: HeadsOf) -> Result<Heads, LogError> {
        let request = wire::ListHeadsRequest {
            user: user.name(),
            conversations: of.conversations.iter().map(ConversationId::name).collect(),
            receipts_since_time: of.receipts_since.map(timestamp),
            page_size: of.page_size.cast_signed(),
            page_token: of.page,
        };
        let mut client = self.client.clone();
        let answer = within(client.list_heads(timed(request))).await?;
        let heads = answer.heads.into_iter().map(head).collect::<Result<_, _>>()?;
        Ok(Heads { epoch: answer.epoch, heads, next_page: answer.next_page_token })
    }

    /// How far one conversation goes for a person, if they may read it, and the epoch.
    pub(crate) async fn head(&self, user: UserId, id: ConversationId) -> Result<(u64, Option<LogHead>), LogError> {
        let of = HeadsOf { conversations: vec![id], page_size: 1, ..HeadsOf::default() };
        match self.heads(user, of).await {
            Ok(page) => Ok((page.epoch, page.heads.into_iter().find(|head| head.conversation == id))),
            Err(LogError::NotFound) => Ok((0, None)),
            Err(error) => Err(error),
        }
    }

    /// A page of what changed since then.
    pub(crate) async fn changes(&self, since: SystemTime, page: String) -> Result<Changes, LogError> {
        let request =
            wire::ListRecentChangesRequest { since_time: Some(timestamp(since)), page_size: 1000, page_token: page };
        let mut client = self.client.clone();
        let answer = within(client.list_recent_changes(timed(request))).await?;
        let changes = answer.changes.into_iter().map(change).collect::<Result<_, _>>()?;
        let read_at = answer.read_time.as_ref().map(from_timestamp);
        Ok(Changes { epoch: answer.epoch, changes, next_page: answer.next_page_token, read_at })
    }

    /// Events after a position, as far as the person may see them, and the epoch.
    pub(crate) async fn events(&self, user: UserId, read: Read) -> Result<(u64, ReadAnswer), LogError> {
        let request = wire::ListEventsRequest {
            user: user.name(),
            conversation: read.conversation.name(),
            after_seq: read.after_seq,
            page_size: read.events_max.cast_signed(),
        };
        let mut client = self.client.clone();
        let answer = within(client.list_events(timed(request))).await?;
        let in_order = answer.events.is_sorted_by_key(|event: &Event| event.seq);
        if !in_order {
            return Err(LogError::Failed("its events are out of order".into()));
        }
        let (read_through_seq, last_seq) = (answer.read_through_seq, answer.last_seq);
        Ok((answer.epoch, ReadAnswer { events: answer.events, read_through_seq, last_seq }))
    }

    /// Raises watermarks; durable when this answers. Answers those that rose.
    pub(crate) async fn record(&self, receipts: &[Receipt]) -> Result<Vec<Receipt>, LogError> {
        let request = wire::RecordReceiptsRequest { receipts: receipts.iter().map(Receipt::wire).collect() };
        let mut client = self.client.clone();
        let answer = within(client.record_receipts(timed(request))).await?;
        answer.raised.iter().map(|raised| Ok(Receipt::read(raised)?)).collect()
    }
}

impl Receipt {
    /// The receipt as it is on the wire.
    pub(crate) fn wire(&self) -> wire::Receipt {
        wire::Receipt {
            conversation: self.conversation.name(),
            member: self.member.name(),
            epoch: self.watermarks.epoch,
            delivered_seq: self.watermarks.delivered_seq,
            read_seq: self.watermarks.read_seq,
        }
    }

    /// Reads a receipt as it is on the wire.
    pub(crate) fn read(receipt: &wire::Receipt) -> Result<Self, BadName> {
        let (conversation, member) = (ConversationId::parse(&receipt.conversation)?, UserId::parse(&receipt.member)?);
        Ok(Self { conversation, member, watermarks: watermarks(receipt) })
    }
}

fn watermarks(receipt: &wire::Receipt) -> Watermarks {
    Watermarks { epoch: receipt.epoch, delivered_seq: receipt.delivered_seq, read_seq: receipt.read_seq }
}

fn of_members(receipts: &[wire::Receipt]) -> Result<Vec<(UserId, Watermarks)>, BadName> {
    receipts.iter().map(|receipt| Ok((UserId::parse(&receipt.member)?, watermarks(receipt)))).collect()
}

fn head(head: wire::Head) -> Result<LogHead, BadName> {
    Ok(LogHead {
        conversation: ConversationId::parse(&head.conversation)?,
        last_seq: head.last_seq,
        first_seq: head.first_seq,
        member: head.member,
        unread_count: head.unread_count,
        own: head.own.as_ref().map(watermarks).unwrap_or_default(),
        receipts: of_members(&head.receipts)?,
    })
}

fn change(change: wire::Change) -> Result<Change, BadName> {
    let people = |names: &[String]| names.iter().map(|name| UserId::parse(name)).collect::<Result<Vec<_>, _>>();
    Ok(Change {
        conversation: ConversationId::parse(&change.conversation)?,
        last_seq: change.last_seq,
        added: people(&change.added_members)?,
        removed: people(&change.removed_members)?,
        receipts: of_members(&change.receipts)?,
    })
}

fn timed<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(ANSWER_WITHIN);
    request
}

/// The deadline also holds where there is no transport that knows of it.
async fn within<T>(call: impl Future<Output = Result<tonic::Response<T>, Status>>) -> Result<T, LogError> {
    match tokio::time::timeout(ANSWER_WITHIN, call).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => Err(LogError::Unavailable("no answer in time".into())),
    }
}
