//! Reading across conversations: those of one person, and those that changed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flaghoist_proto::send::v1 as pb;
use flaghoist_runtime::names::{ConversationId, UserId};
use prost::Message as _;
use sqlx::Row as _;
use sqlx::postgres::PgBindIterExt as _;

use super::read::member_of;
use super::rows::{self, Id, signed, unsigned};
use super::{PostgresStore, load, sql};
use crate::conversation::View;
use crate::event::{EventKind, Watermark};
use crate::plan::{RECEIPT_MEMBERS_MAX, watermark};
use crate::store::{Change, HeadView, Page};

/// How many pages of rows are looked through for one page of conversations.
const SCAN_PAGES: usize = 4;

/// How far back changes can be asked for, in milliseconds.
pub(super) const SINCE_MAX_MS: i64 = 60_000;

/// How many changed conversations are kept for the pages that follow.
const SWEEP_ROWS: usize = 20_000;

/// How many sweeps are kept: one for each receiver that is in the middle of one.
const SWEEPS_MAX: usize = 8;

/// How long the pages of one sweep may take; later ones look anew.
const SWEEP_TIME: Duration = Duration::from_secs(5);

/// A conversation that changed.
#[derive(Clone, Copy, Debug)]
struct Changed {
    no: i64,
    id: ConversationId,
    last_seq: u64,
    small: bool,
    /// The first event of the time by which somebody came or went.
    people_seq: Option<i64>,
}

/// What a sweep found: its later pages come from here, so that the newest part of all logs is read once and not for each page.
#[derive(Clone, Debug)]
pub(super) struct Sweep {
    since: i64,
    read_at: Instant,
    changed: Arc<Vec<Changed>>,
    /// Whether there are more than these.
    cut: bool,
}

impl PostgresStore {
    pub(super) async fn list_conversations(
        &self,
        person: UserId,
        after: i64,
        limit: usize,
    ) -> Result<Page<View>, sqlx::Error> {
        let mut after = after;
        let mut entries: Vec<View> = Vec::new();
        for _ in 0..SCAN_PAGES {
            let page = self.views_after(person, after, limit).await?;
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

    /// The next of the conversations that a person is or was in.
    async fn views_after(&self, person: UserId, after: i64, limit: usize) -> Result<Vec<View>, sqlx::Error> {
        let query = sqlx::query_scalar(sql::MEMBERSHIPS).bind(Id::from(person)).bind(after).bind(signed(limit as u64));
        let ids: Vec<Id> = query.fetch_all(&self.pool).await?;
        let ids: Vec<ConversationId> = ids.into_iter().map(|id| ConversationId(id.0)).collect();
        self.views(person, &ids).await
    }

    pub(super) async fn list_heads(
        &self,
        person: UserId,
        only: &[ConversationId],
        receipts_since: Option<i64>,
        after: i64,
        limit: usize,
    ) -> Result<Page<HeadView>, sqlx::Error> {
        let views = if only.is_empty() {
            self.views_after(person, after, limit).await?
        } else {
            let mut views = self.views(person, only).await?;
            views.retain(|view| view.head.no > after);
            views.truncate(limit);
            views
        };
        let next = views.last().filter(|_| views.len() == limit).map(|view| view.head.no);
        let mut receipts = match receipts_since {
            Some(since) => {
                let small =
                    views.iter().filter(|view| view.member_now() && view.head.member_count <= RECEIPT_MEMBERS_MAX);
                self.risen(small.map(|view| view.head.id).collect(), since).await?
            }
            None => HashMap::new(),
        };
        let entries = views.into_iter().map(|View { head, member, .. }| {
            let mut receipts = receipts.remove(&head.id).unwrap_or_default();
            receipts.retain(|receipt| receipt.member != person);
            HeadView { receipts, head, member }
        });
        Ok(Page { entries: entries.collect(), next })
    }

    /// The watermarks in some conversations that rose since a time.
    async fn risen(
        &self,
        ids: Vec<ConversationId>,
        since: i64,
    ) -> Result<HashMap<ConversationId, Vec<Watermark>>, sqlx::Error> {
        let mut receipts: HashMap<ConversationId, Vec<Watermark>> = HashMap::new();
        if !ids.is_empty() {
            let query = sqlx::query(sql::RISEN).bind(ids.iter().map(|id| Id::from(*id)).bind_iter()).bind(since);
            for row in &query.fetch_all(&self.pool).await? {
                let (id, person, member) = member_of(row)?;
                receipts.entry(id).or_default().push(watermark(id, person, &member, self.epoch_now()));
            }
        }
        Ok(receipts)
    }

    pub(super) async fn list_recent_changes(
        &self,
        since: i64,
        after: i64,
        limit: usize,
    ) -> Result<Page<Change>, sqlx::Error> {
        let (page, more) = self.changed(since, after, limit).await?;
        let next = page.last().filter(|_| more).map(|changed| changed.no);
        let small = page.iter().filter(|changed| changed.small).map(|changed| changed.id).collect();
        let mut receipts = self.risen(small, since).await?;
        let mut people = self.people_changed(&page).await?;
        let entries = page.iter().map(|changed| {
            let (added, removed) = people.remove(&changed.id).unwrap_or_default();
            let receipts = receipts.remove(&changed.id).unwrap_or_default();
            Change { conversation: changed.id, last_seq: changed.last_seq, added, removed, receipts }
        });
        Ok(Page { entries: entries.collect(), next })
    }

    /// The next conversations that changed, and whether there are more.
    async fn changed(&self, since: i64, after: i64, limit: usize) -> Result<(Vec<Changed>, bool), sqlx::Error> {
        let sweep = match self.kept(since, after) {
            Some(sweep) => sweep,
            None => self.look(since, after).await?,
        };
        let first = sweep.changed.partition_point(|changed| changed.no <= after);
        let rest = &sweep.changed[first..];
        let page = rest.get(..limit).unwrap_or(rest).to_vec();
        let more = page.len() < rest.len() || sweep.cut;
        Ok((page, more))
    }

    fn kept(&self, since: i64, after: i64) -> Option<Sweep> {
        // A first page always looks: what was committed since the last sweep must be in it.
        if after == 0 {
            return None;
        }
        let sweeps = self.sweeps.lock();
        let good = |sweep: &&Sweep| {
            sweep.since == since
                && sweep.read_at.elapsed() < SWEEP_TIME
                // One that was cut may have ended before this page.
                && (!sweep.cut || sweep.changed.last().is_some_and(|last| last.no > after))
        };
        sweeps.iter().rev().find(good).cloned()
    }

    async fn look(&self, since: i64, after: i64) -> Result<Sweep, sqlx::Error> {
        let read_at = Instant::now();
        let mut connection = self.pool.acquire().await?;
        let earliest = load::clock(&mut connection).await? - SINCE_MAX_MS;
        let query = sqlx::query(sql::CHANGED).bind(since.max(earliest)).bind(after).bind(signed(SWEEP_ROWS as u64));
        let fetched = query.fetch_all(&mut *connection).await?;
        let row = |row| {
            Ok(Changed {
                no: sqlx::postgres::PgRow::try_get(row, 0)?,
                id: rows::conversation(row, 1)?,
                last_seq: unsigned(row, 2)?,
                small: row.try_get::<i32, _>(3)?.unsigned_abs() <= RECEIPT_MEMBERS_MAX,
                people_seq: row.try_get(4)?,
            })
        };
        let changed = fetched.iter().map(row).collect::<Result<Vec<_>, sqlx::Error>>()?;
        let sweep = Sweep { since, read_at, cut: changed.len() == SWEEP_ROWS, changed: Arc::new(changed) };
        let mut sweeps = self.sweeps.lock();
        if sweeps.len() == SWEEPS_MAX {
            sweeps.pop_front();
        }
        sweeps.push_back(sweep.clone());
        Ok(sweep)
    }

    /// Who came to conversations and who went.
    async fn people_changed(
        &self,
        page: &[Changed],
    ) -> Result<HashMap<ConversationId, (Vec<UserId>, Vec<UserId>)>, sqlx::Error> {
        let from: Vec<(ConversationId, i64)> =
            page.iter().filter_map(|changed| Some((changed.id, changed.people_seq?))).collect();
        let mut people: HashMap<ConversationId, (Vec<UserId>, Vec<UserId>)> = HashMap::new();
        if from.is_empty() {
            return Ok(people);
        }
        let query = sqlx::query(sql::PEOPLE_CHANGED)
            .bind(from.iter().map(|(id, _)| Id::from(*id)).bind_iter())
            .bind(from.iter().map(|(_, seq)| *seq).bind_iter());
        let mut ended: HashMap<ConversationId, u64> = HashMap::new();
        for row in &query.fetch_all(&self.pool).await? {
            let (id, kind, body) = (rows::conversation(row, 0)?, rows::kind(row, 2)?, row.try_get::<&[u8], _>(3)?);
            let (added, removed) = people.entry(id).or_default();
            match kind {
                EventKind::ConversationDeleted => {
                    ended.insert(id, unsigned(row, 1)?);
                }
                _ => {
                    let (came, went) = named(kind, body);
                    added.extend(came);
                    removed.extend(went);
                }
            }
        }
        if !ended.is_empty() {
            let ids: Vec<ConversationId> = ended.keys().copied().collect();
            for (id, person, member) in self.everyone(&ids, 0).await? {
                let last = member.past.last().map(|(_, to)| *to);
                if last == ended.get(&id).copied() {
                    people.entry(id).or_default().1.push(person);
                }
            }
        }
        for (added, removed) in people.values_mut() {
            for list in [added, removed] {
                list.sort_unstable();
                list.dedup();
            }
        }
        Ok(people)
    }
}

/// Whom an event names as coming and going. A body that cannot be read names nobody: the receivers then find out from the heads.
fn named(kind: EventKind, body: &[u8]) -> (Vec<UserId>, Vec<UserId>) {
    let ids = |names: Vec<String>| names.iter().filter_map(|name| UserId::parse(name).ok()).collect();
    match kind {
        EventKind::ConversationCreated => {
            (pb::ConversationCreated::decode(body).map_or_else(|_| Vec::new(), |event| ids(event.members)), Vec::new())
        }
        EventKind::MembersAdded => {
            (pb::MembersAdded::decode(body).map_or_else(|_| Vec::new(), |event| ids(event.members)), Vec::new())
        }
        EventKind::MemberRemoved => {
            (Vec::new(), pb::MemberRemoved::decode(body).map_or_else(|_| Vec::new(), |event| ids(vec![event.member])))
        }
        _ => (Vec::new(), Vec::new()),
    }
}
