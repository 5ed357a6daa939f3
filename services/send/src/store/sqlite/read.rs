//! Reading one conversation: events, messages, watermarks.
//!
//! A reader first takes what memory says (who may see what, how far the log goes, where the events lie that the indexes do not
//! know yet) and then reads the file, which by then holds at least that much. Rows of the log never move, so it does not matter
//! what is folded meanwhile.

use std::collections::HashMap;

use flaghoist_runtime::names::{ConversationId, UserId};
use sqlx::Row as _;

use super::SqliteStore;
use super::live::{Entry, Look};
use super::load;
use super::rows::{self, json, select_events, signed};
use crate::conversation::{Head, Kind, Known, Member, View};
use crate::event::{EventKind, Message};
use crate::plan::{RECEIPT_MEMBERS_MAX, watermark};
use crate::store::walk::{self, Rows};
use crate::store::{Messages, Progress, Slice};

/// The log of one conversation, as far as its reader may see it.
struct Log<'s> {
    store: &'s SqliteStore,
    head: &'s Head,
}

impl Rows for Log<'_> {
    type Error = sqlx::Error;

    async fn range(&self, low: u64, high: u64, limit: u64, newest_first: bool) -> Result<Vec<Message>, sqlx::Error> {
        self.store.range(self.head, low, high, limit, newest_first).await
    }
}

/// A conversation as a person sees it.
fn view_of(known: &Known, person: UserId) -> Option<View> {
    let member = known.members.get(&person)?.clone();
    let other = || known.members.keys().find(|other| **other != person).copied().unwrap_or(person);
    Some(View { head: known.head.clone(), member, peer: (known.head.kind == Kind::Direct).then(other) })
}

impl SqliteStore {
    /// Asks something of a conversation, in memory if it is there, else in the file.
    pub(super) async fn ask<T>(
        &self,
        id: ConversationId,
        of_known: impl Fn(&Known, Option<&Entry>) -> T,
    ) -> Result<Option<T>, sqlx::Error> {
        loop {
            let drops = match self.live.look(id, |entry| of_known(&entry.known, Some(entry))) {
                Look::Found(answer) => return Ok(Some(answer)),
                Look::Absent { drops } => drops,
            };
            let mut connection = self.database.readers.acquire().await?;
            let known = load::known(&mut connection, &[id]).await?.pop();
            // It may have come into use meanwhile; and in use, it may have changed and been dropped again.
            match self.live.look(id, |entry| of_known(&entry.known, Some(entry))) {
                Look::Found(answer) => return Ok(Some(answer)),
                Look::Absent { drops: now } if now == drops => return Ok(known.map(|known| of_known(&known, None))),
                Look::Absent { .. } => {}
            }
        }
    }

    pub(super) async fn view(&self, person: UserId, id: ConversationId) -> Result<Option<View>, sqlx::Error> {
        Ok(self.ask(id, |known, _| view_of(known, person)).await?.flatten())
    }

    pub(super) async fn read_message(
        &self,
        person: UserId,
        id: ConversationId,
        seq: u64,
    ) -> Result<Option<Message>, sqlx::Error> {
        let Some(view) = self.view(person, id).await?.filter(|view| view.member.sees(seq)) else { return Ok(None) };
        let found = self.range(&view.head, seq, seq, 1, false).await?;
        Ok(found.into_iter().find(|message| message.event.kind == EventKind::MessageCreated))
    }

    pub(super) async fn read_messages(
        &self,
        person: UserId,
        id: ConversationId,
        from: u64,
        oldest_first: bool,
        limit: usize,
    ) -> Result<Option<Messages>, sqlx::Error> {
        let Some(view) = self.view(person, id).await? else { return Ok(None) };
        let log = Log { store: self, head: &view.head };
        walk::messages(&log, &view, from, oldest_first, limit).await.map(Some)
    }

    pub(super) async fn read_events(
        &self,
        person: UserId,
        id: ConversationId,
        after_seq: u64,
        limit: usize,
        bytes_max: usize,
    ) -> Result<Option<Slice>, sqlx::Error> {
        let Some(view) = self.view(person, id).await? else { return Ok(None) };
        let log = Log { store: self, head: &view.head };
        walk::events(&log, &view, person, after_seq, limit, bytes_max).await.map(Some)
    }

    pub(super) async fn read_progress(
        &self,
        person: UserId,
        id: ConversationId,
        seq: u64,
    ) -> Result<Option<Progress>, sqlx::Error> {
        if self.read_message(person, id, seq).await?.is_none() {
            return Ok(None);
        }
        self.ask(id, |known, _| {
            let mut progress = Progress::default();
            let others = known
                .members
                .iter()
                .filter(|(other, member)| **other != person && member.role.is_some() && member.sees(seq));
            for (other, member) in others {
                progress.recipient_count += 1;
                progress.delivered_count += u32::from(member.delivered_seq >= seq);
                progress.read_count += u32::from(member.read_seq >= seq);
                if known.head.member_count <= RECEIPT_MEMBERS_MAX {
                    progress.receipts.push(watermark(id, *other, member, self.epoch));
                }
            }
            progress.receipts.sort_by_key(|receipt| receipt.member);
            progress
        })
        .await
    }

    pub(super) async fn list_members(
        &self,
        id: ConversationId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<(UserId, Member)>, sqlx::Error> {
        let listed = self.ask(id, |known, _| {
            let now = known.members.iter().filter(|(_, member)| member.role.is_some());
            let mut page: Vec<_> = now.filter(|(person, _)| after.is_none_or(|after| **person > after)).collect();
            page.sort_unstable_by_key(|(person, _)| **person);
            page.into_iter().take(limit).map(|(person, member)| (*person, member.clone())).collect()
        });
        Ok(listed.await?.unwrap_or_default())
    }

    /// The events from `low` to `high`, which are in the log, at most `limit` of them, in the order asked for; messages with their
    /// newest edit.
    async fn range(
        &self,
        head: &Head,
        low: u64,
        high: u64,
        limit: u64,
        newest_first: bool,
    ) -> Result<Vec<Message>, sqlx::Error> {
        const UP: &str = select_events!(
            "places p CROSS JOIN log l ON l.no = p.log_no LEFT JOIN log e ON e.no = l.edit_no
             WHERE p.conversation_no = ?1 AND p.seq BETWEEN ?2 AND ?3 ORDER BY p.seq LIMIT ?4"
        );
        const DOWN: &str = select_events!(
            "places p CROSS JOIN log l ON l.no = p.log_no LEFT JOIN log e ON e.no = l.edit_no
             WHERE p.conversation_no = ?1 AND p.seq BETWEEN ?2 AND ?3 ORDER BY p.seq DESC LIMIT ?4"
        );
        if low > high {
            return Ok(Vec::new());
        }
        // No more than that is wanted, from either end.
        let high = if newest_first { high } else { high.min(low.saturating_add(limit.saturating_sub(1))) };
        let low = if newest_first { low.max((high + 1).saturating_sub(limit)) } else { low };
        let mut tail = match self.live.look(head.id, |entry| entry.tail_from(low, high)) {
            Look::Found(tail) => tail,
            Look::Absent { .. } => Vec::new(),
        };
        if newest_first {
            tail.reverse();
        }
        let mut events = self.rows(head.id, &tail).await?;
        let missing = (high - low + 1) - events.len() as u64;
        if missing == 0 {
            return Ok(events);
        }
        // The tail follows the folded part.
        let query = sqlx::query(if newest_first { DOWN } else { UP }).bind(head.no).bind(signed(low));
        let query = query.bind(signed(high - tail.len() as u64)).bind(signed(missing));
        let rows = query.fetch_all(&self.database.readers).await?;
        let folded = rows.iter().map(|row| rows::message(row, head.id)).collect::<Result<Vec<_>, _>>()?;
        if newest_first {
            events.extend(folded);
            Ok(events)
        } else {
            Ok(folded.into_iter().chain(events).collect())
        }
    }

    /// Rows of the log, in the order of `numbers`.
    async fn rows(&self, id: ConversationId, numbers: &[i64]) -> Result<Vec<Message>, sqlx::Error> {
        const ROWS: &str =
            select_events!("json_each(?1) j CROSS JOIN log l ON l.no = j.value LEFT JOIN log e ON e.no = l.edit_no");
        if numbers.is_empty() {
            return Ok(Vec::new());
        }
        let mut found = HashMap::with_capacity(numbers.len());
        for row in sqlx::query(ROWS).bind(json(numbers)).fetch_all(&self.database.readers).await? {
            found.insert(row.try_get::<i64, _>(13)?, rows::message(&row, id)?);
        }
        Ok(numbers.iter().filter_map(|no| found.remove(no)).collect())
    }
}
