//! How far a stream is in one conversation.

use std::collections::VecDeque;

use super::Head;

/// How far a stream is in one conversation. A person may have 10,000 of these, so it is small.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// Everything up to here has been sent or is not for this person.
    pub(super) through_seq: u64,
    /// The newest event known to exist.
    pub(super) head_seq: u64,
    /// What is acknowledged, durably.
    pub(super) acked_seq: u64,
    /// The newest event that the person may see and that lies at or before `through_seq`, unless `unsure`.
    visible_seq: u64,
    /// Whether only the log knows which event that is.
    pub(super) unsure: bool,
    /// The head when the log was asked.
    pub(super) asked_seq: u64,
    /// The head at the opening while it has not been reached, else 0.
    pub(super) opening_seq: u64,
    /// What was sent and is not acknowledged.
    unacked: VecDeque<u64>,
    /// Whether it is in the backlog.
    pub(super) queued: bool,
    /// Whether the person is a member.
    pub(super) member: bool,
}

impl Place {
    /// The place of a device that has acknowledged up to `head.acked_seq`.
    pub(super) fn opened(head: &Head) -> Self {
        let at_head = head.acked_seq >= head.last_seq;
        let through_seq = head.acked_seq.max(head.first_seq.saturating_sub(1)).min(head.last_seq.max(head.acked_seq));
        Self {
            through_seq,
            head_seq: head.last_seq.max(head.acked_seq),
            acked_seq: head.acked_seq,
            visible_seq: if at_head { head.last_seq } else { 0 },
            unsure: !at_head && through_seq > 0,
            member: head.member,
            ..Self::default()
        }
    }

    /// Whether there is more to send.
    pub(super) fn is_behind(&self) -> bool {
        self.head_seq > self.through_seq
    }

    /// An event that the person may see is sent. Answers the one before it.
    pub(super) fn sent(&mut self, seq: u64) -> u64 {
        self.through_seq = seq;
        self.unsure = false;
        self.unacked.push_back(seq);
        std::mem::replace(&mut self.visible_seq, seq)
    }

    /// Everything up to `seq` is acknowledged. Answers how many events that were.
    pub(super) fn acked(&mut self, seq: u64) -> u32 {
        self.acked_seq = self.acked_seq.max(seq);
        if seq > self.through_seq {
            // An earlier stream brought it.
            self.through_seq = seq;
            self.visible_seq = seq;
            self.unsure = false;
            self.head_seq = self.head_seq.max(seq);
        }
        let mut count = 0;
        while self.unacked.front().is_some_and(|sent| *sent <= seq) {
            self.unacked.pop_front();
            count += 1;
        }
        if self.unacked.is_empty() {
            self.unacked = VecDeque::new();
        }
        count
    }
}
