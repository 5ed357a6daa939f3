//! Reading across conversations: those of one person, and those that changed.

use std::collections::{BTreeMap, HashMap};

use flaghoist_runtime::names::{ConversationId, UserId};
use sqlx::Row as _;

use super::SqliteStore;
use super::rows::{self, HEAD_COLUMNS, hex_array, json, member_columns, select_heads, signed};
use crate::conversation::{Known, Member, View};
use crate::event::Watermark;
use crate::plan::{RECEIPT_MEMBERS_MAX, watermark};
use crate::store::{Change, HeadView, Page};

/// How many rows are looked through for one page.
const SCAN_PAGES: usize = 4;

/// How long before the start of the process changes are looked up in the log, in milliseconds.
const BEFORE_START_MS: i64 = 30_000;

impl SqliteStore {
    pub(super) async fn list_conversations(
        &self,
        person: UserId,
        after: i64,
        limit: usize,
    ) -> Result<Page<View>, sqlx::Error> {
        let mut after = after;
        let mut entries: Vec<View> = Vec::new();
        for _ in 0..SCAN_PAGES {
            let page = self.views(person, &[], after, limit).await?;
            let more = page.len() == limit;
            for view in page {
                if entries.len() == limit {
                    return Ok(Page { entries, next: Some(after) });
                }
                after = view.head.no;
                if view.member_now() && !view.head.deleted && !view.member.hides(&view.head) {
                    entries.push(view);
                }
            }
            if !more {
                return Ok(Page { entries, next: None });
            }
        }
        Ok(Page { entries, next: Some(after) })
    }

    pub(super) async fn list_heads(
        &self,
        person: UserId,
        only: &[ConversationId],
        receipts_since: Option<i64>,
        after: i64,
        limit: usize,
    ) -> Result<Page<HeadView>, sqlx::Error> {
        let views = self.views(person, only, after, limit).await?;
        let next = views.last().filter(|_| views.len() == limit).map(|view| view.head.no);
        let mut receipts = match receipts_since {
            Some(since) => self.receipts(person, &views, since).await?,
            None => HashMap::new(),
        };
        let entries = views.into_iter().map(|View { head, member, .. }| HeadView {
            receipts: receipts.remove(&head.id).unwrap_or_default(),
            head,
            member,
        });
        Ok(Page { entries: entries.collect(), next })
    }

    /// The conversations that a person is or was in, or those of them that are named.
    async fn views(
        &self,
        person: UserId,
        only: &[ConversationId],
        after: i64,
        limit: usize,
    ) -> Result<Vec<View>, sqlx::Error> {
        const VIEWS: &str = select_heads!(
            ", m.user_id, m.role, m.joined_seq, m.joined_at, m.past, m.delivered_seq, m.read_seq, m.read_message_no, \
             m.sent_no, m.read_sent_no, m.watermark_at, m.hidden_seq, \
             CASE WHEN c.kind = 1 THEN coalesce((SELECT o.user_id FROM members o \
                 WHERE o.conversation_no = c.no AND o.user_id <> ?1 LIMIT 1), ?1) END",
            "memberships s CROSS JOIN conversations c ON c.no = s.conversation_no
             CROSS JOIN members m ON m.conversation_no = c.no AND m.user_id = s.user_id
             WHERE s.user_id = ?1 AND s.conversation_no > ?2
                 AND (?3 IS NULL OR c.id IN (SELECT unhex(value) FROM json_each(?3)))
             ORDER BY s.conversation_no LIMIT ?4"
        );
        loop {
            let drops = self.live.read().drops;
            let fetched = sqlx::query(VIEWS)
                .bind(person.0.as_bytes().to_vec())
                .bind(after)
                .bind((!only.is_empty()).then(|| hex_array(only.iter().map(|id| &id.0))))
                .bind(signed(limit as u64))
                .fetch_all(&self.database.readers)
                .await?;
            let mut views = Vec::with_capacity(fetched.len());
            for row in &fetched {
                let peer: Option<&[u8]> = row.try_get(HEAD_COLUMNS + 12)?;
                let peer = match peer {
                    Some(_) => Some(UserId(rows::uuid(row, HEAD_COLUMNS + 12)?)),
                    None => None,
                };
                views.push(View { head: rows::head(row)?, member: rows::member(row, HEAD_COLUMNS)?.1, peer });
            }
            // What is in use is newer in memory than in the file.
            let shared = self.live.read();
            if shared.drops != drops {
                continue;
            }
            for view in &mut views {
                let Some(entry) = shared.conversations.get(&view.head.id) else { continue };
                view.head = entry.known.head.clone();
                if let Some(member) = entry.known.members.get(&person) {
                    view.member = member.clone();
                }
            }
            return Ok(views);
        }
    }

    /// The receipts of the others in small conversations that rose since a time.
    async fn receipts(
        &self,
        person: UserId,
        views: &[View],
        since: i64,
    ) -> Result<HashMap<ConversationId, Vec<Watermark>>, sqlx::Error> {
        const RECEIPTS: &str = concat!(
            "SELECT m.conversation_no, ",
            member_columns!(),
            " FROM json_each(?1) j CROSS JOIN members m ON m.conversation_no = j.value
             WHERE m.watermark_at >= ?2 AND m.role > 0"
        );
        let small = views.iter().filter(|view| view.member_now() && view.head.member_count <= RECEIPT_MEMBERS_MAX);
        let ids: BTreeMap<i64, ConversationId> = small.map(|view| (view.head.no, view.head.id)).collect();
        loop {
            let drops = self.live.read().drops;
            let cold: Vec<i64> = {
                let shared = self.live.read();
                ids.iter().filter(|(_, id)| !shared.conversations.contains_key(*id)).map(|(no, _)| *no).collect()
            };
            let mut receipts: HashMap<ConversationId, Vec<Watermark>> = HashMap::new();
            if !cold.is_empty() {
                let rows =
                    sqlx::query(RECEIPTS).bind(json(&cold)).bind(since).fetch_all(&self.database.readers).await?;
                for row in &rows {
                    let Some(id) = ids.get(&row.try_get(0)?) else { continue };
                    let (other, member) = rows::member(row, 1)?;
                    if other != person {
                        receipts.entry(*id).or_default().push(watermark(*id, other, &member, self.epoch));
                    }
                }
            }
            let shared = self.live.read();
            if shared.drops != drops {
                continue;
            }
            for id in ids.values() {
                let Some(entry) = shared.conversations.get(id) else { continue };
                let others = entry.known.members.iter().filter(|(other, member)| {
                    **other != person && member.role.is_some() && member.watermark_at >= since
                });
                let risen = others.map(|(other, member)| watermark(*id, *other, member, self.epoch)).collect();
                receipts.insert(*id, risen);
            }
            return Ok(receipts);
        }
    }

    pub(super) async fn list_recent_changes(
        &self,
        since: i64,
        after: i64,
        limit: usize,
    ) -> Result<Page<Change>, sqlx::Error> {
        let mut changes: BTreeMap<i64, Change> = BTreeMap::new();
        if since < self.started_at {
            for (no, change) in self.changes_before_start(since, after, limit).await? {
                changes.insert(no, change);
            }
        }
        {
            let shared = self.live.read();
            let recent = shared.recent.iter().filter(|(no, recent)| **no > after && recent.at >= since);
            for (no, recent) in recent {
                let people = |changed: &[(i64, UserId)]| {
                    changed.iter().filter(|(at, _)| *at >= since).map(|(_, person)| *person).collect::<Vec<_>>()
                };
                let risen = recent.receipts.values().filter(|(at, _)| *at >= since);
                let change = Change {
                    conversation: recent.id,
                    last_seq: recent.last_seq,
                    added: people(&recent.added),
                    removed: people(&recent.removed),
                    receipts: risen.map(|(_, watermark)| *watermark).collect(),
                };
                match changes.entry(*no) {
                    std::collections::btree_map::Entry::Vacant(entry) => {
                        entry.insert(change);
                    }
                    std::collections::btree_map::Entry::Occupied(mut entry) => {
                        let before = entry.get_mut();
                        before.last_seq = before.last_seq.max(change.last_seq);
                        // The file named some of these already.
                        unite(&mut before.added, change.added);
                        unite(&mut before.removed, change.removed);
                        before.receipts.retain(|old| !change.receipts.iter().any(|new| new.member == old.member));
                        before.receipts.extend(change.receipts);
                    }
                }
            }
        }
        let more = changes.len() > limit;
        let page: Vec<(i64, Change)> = changes.into_iter().take(limit).collect();
        let next = page.last().filter(|_| more).map(|(no, _)| *no);
        Ok(Page { entries: page.into_iter().map(|(_, change)| change).collect(), next })
    }

    /// What the process before left: the log is in the order of time, so the place to begin is found by halving.
    async fn changes_before_start(
        &self,
        since: i64,
        after: i64,
        limit: usize,
    ) -> Result<Vec<(i64, Change)>, sqlx::Error> {
        let since = since.max(self.started_at - BEFORE_START_MS);
        let (mut low, mut high): (i64, i64) =
            sqlx::query_as("SELECT 1, coalesce(max(no), 0) + 1 FROM log").fetch_one(&self.database.readers).await?;
        while low < high {
            let middle = low + (high - low) / 2;
            let at: Option<i64> = sqlx::query_scalar("SELECT created_at FROM log WHERE no = ?1")
                .bind(middle)
                .fetch_optional(&self.database.readers)
                .await?;
            if at.is_some_and(|at| at < since) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let heads = sqlx::query(
            "SELECT c.no, c.id, t.last_seq
             FROM (SELECT conversation_no, max(seq) AS last_seq FROM log
                   WHERE no >= ?1 AND conversation_no > ?2 GROUP BY conversation_no ORDER BY conversation_no LIMIT ?3) AS t
             CROSS JOIN conversations c ON c.no = t.conversation_no",
        )
        .bind(low)
        .bind(after)
        .bind(signed(limit as u64 + 1))
        .fetch_all(&self.database.readers)
        .await?;
        let mut changes = Vec::with_capacity(heads.len());
        for row in &heads {
            let (no, id, last_seq) = (row.try_get(0)?, ConversationId(rows::uuid(row, 1)?), rows::unsigned(row, 2)?);
            let risen = |(person, member): (&UserId, &Member)| watermark(id, *person, member, self.epoch);
            let people = self
                .ask(id, |known: &Known, _| {
                    let added =
                        known.members.iter().filter(|(_, member)| member.role.is_some() && member.joined_at >= since);
                    let removed = known.members.iter().filter(|(_, member)| {
                        member.role.is_none()
                            && member.past.last().is_some_and(|(_, to)| *to + REMOVED_SEQS > known.head.last_seq)
                    });
                    let receipts = known.members.iter().filter(|(_, member)| {
                        known.head.member_count <= RECEIPT_MEMBERS_MAX && member.watermark_at >= since
                    });
                    (
                        added.map(|(person, _)| *person).collect(),
                        removed.map(|(person, _)| *person).collect(),
                        receipts.map(risen).collect(),
                    )
                })
                .await?;
            let (added, removed, receipts) = people.unwrap_or_default();
            changes.push((no, Change { conversation: id, last_seq, added, removed, receipts }));
        }
        Ok(changes)
    }
}

fn unite(people: &mut Vec<UserId>, more: Vec<UserId>) {
    people.extend(more);
    people.sort_unstable();
    people.dedup();
}

/// When somebody left is not kept, only where: whoever did so among the newest events of a conversation that changed just
/// before the start is named once more, which does no harm.
const REMOVED_SEQS: u64 = 1000;
