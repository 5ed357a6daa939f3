//! What is unread, and reading it. The figures are the log's: arithmetic over message numbers, never counted here.

use flaghoist_runtime::names::{ConversationId, UserId};

use crate::error::Error;
use crate::log::{HeadsOf, LogError, LogHead, Receipt};
use crate::service::Receiver;
use crate::stream::{Position, Watermarks};

/// How many pages of heads are looked at for one answer: a person may have many conversations and nothing unread.
const PAGES_MAX: usize = 10;

/// Conversations with unread messages.
#[derive(Debug)]
pub(crate) struct UnreadPage {
    pub(crate) unread: Vec<LogHead>,
    /// The log's token for what follows; empty at the end.
    pub(crate) next_page: String,
}

impl Receiver {
    /// The person has read up to `position`. Answers their watermarks as they are then.
    pub(crate) async fn mark_read(&self, me: UserId, position: Position) -> Result<Receipt, Error> {
        let not_found = || Error::ConversationNotFound(position.conversation.name());
        let (epoch, head) = self.log.head(me, position.conversation).await?;
        let head = head.ok_or_else(not_found)?;
        if position.epoch != epoch || position.seq > head.last_seq {
            return Err(Error::PositionInvalid);
        }
        let mut own = Watermarks { epoch, ..Watermarks::default() };
        own.raise(head.own);
        own.epoch = epoch;
        let mut receipt = Receipt { conversation: position.conversation, member: me, watermarks: own };
        if position.seq <= own.read_seq {
            return Ok(receipt);
        }
        let raised = Watermarks { epoch, delivered_seq: position.seq, read_seq: position.seq };
        let raised = match self.log.record(&[Receipt { watermarks: raised, ..receipt }]).await {
            Err(LogError::NotFound) => return Err(not_found()),
            raised => raised?,
        };
        // Two devices may read at once; each raises to the higher of both.
        receipt.watermarks.raise(Watermarks { epoch, delivered_seq: position.seq, read_seq: position.seq });
        self.hub.raised(&raised);
        for risen in &raised {
            if (risen.conversation, risen.member) == (receipt.conversation, me) {
                receipt.watermarks.raise(risen.watermarks);
            }
        }
        Ok(receipt)
    }

    /// A page of the person's conversations that hold unread messages.
    pub(crate) async fn list_unread(&self, me: UserId, page_size: u32, mut page: String) -> Result<UnreadPage, Error> {
        let mut unread = Vec::new();
        for _ in 0..PAGES_MAX {
            let left = page_size - u32::try_from(unread.len()).unwrap_or(page_size);
            let answer = self.log.heads(me, HeadsOf { page_size: left, page, ..HeadsOf::default() }).await?;
            unread.extend(answer.heads.into_iter().filter(|head| head.unread_count > 0));
            page = answer.next_page;
            if page.is_empty() || unread.len() >= page_size as usize {
                break;
            }
        }
        Ok(UnreadPage { unread, next_page: page })
    }
}

/// The conversation that a position names.
pub(crate) fn conversation(name: &str, field: impl FnOnce() -> String) -> Result<ConversationId, Error> {
    ConversationId::parse(name).map_err(|error| Error::Field { field: field(), problem: error.to_string() })
}
