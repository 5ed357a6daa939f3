//! Watermarks: they only rise, and never beyond what the person may have seen.

use flaghoist_runtime::names::{ConversationId, UserId};

use super::{Desk, RECEIPT_MEMBERS_MAX, ReadPoint, watermark};
use crate::conversation::{Known, Member};
use crate::event::Watermark;

impl<'a, F: Fn(ConversationId) -> Option<&'a Known>> Desk<'_, F> {
    pub(super) fn raise(&mut self, watermarks: &[Watermark]) -> Vec<Watermark> {
        let mut raised = Vec::new();
        let (epoch, now) = (self.facts.epoch, self.facts.now);
        for wanted in watermarks.iter().filter(|wanted| wanted.epoch == epoch) {
            let (id, person) = (wanted.conversation, wanted.member);
            let Some(draft) = self.draft(id) else { continue };
            let small = draft.head.member_count <= RECEIPT_MEMBERS_MAX;
            let Some(mut member) = self.member(id, person) else { continue };
            if !self.raise_one(wanted, &mut member) {
                continue;
            }
            member.watermark_at = now;
            if small {
                raised.push(watermark(id, person, &member, epoch));
            }
            self.put(id, person, member, true);
        }
        raised
    }

    fn raise_one(&self, wanted: &Watermark, member: &mut Member) -> bool {
        let Ok(head) = self.head(wanted.conversation) else { return false };
        let end = member.last_seq(head);
        // A watermark beyond the end comes from another life of the store, or from a mistake; either way it says nothing.
        let within = |seq: u64| if seq <= end { seq } else { 0 };
        let (delivered, read) = (within(wanted.delivered_seq), within(wanted.read_seq));
        let before = (member.delivered_seq, member.read_seq);
        // What was read has also arrived.
        member.delivered_seq = member.delivered_seq.max(delivered).max(read);
        if read > member.read_seq {
            // Without a point nothing is known about that place; then the watermark waits for its repetition.
            let Some(point) = self.read_point(wanted.conversation, wanted.member, read) else {
                return member.delivered_seq > before.0;
            };
            member.read_seq = read;
            if member.role.is_some() {
                // Joining may have set these further on already.
                member.read_message_no = member.read_message_no.max(point.message_no);
                member.read_sent_no = member.read_sent_no.max(point.sent_no);
            }
        }
        (member.delivered_seq, member.read_seq) != before
    }

    fn read_point(&self, id: ConversationId, person: UserId, seq: u64) -> Option<ReadPoint> {
        if let Some(point) = self.facts.read_points.get(&(id, person, seq)) {
            return Some(*point);
        }
        let known = (self.known)(id)?;
        let sent_no = known.members.get(&person)?.sent_no;
        // Nothing but private events of others can lie between the end that the person sees and the end of the log.
        (seq >= known.head.last_public_seq).then_some(ReadPoint { message_no: known.head.last_message_no, sent_no })
    }
}
