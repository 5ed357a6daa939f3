//! Reading one conversation. A reader first takes how far the log goes for the person and then reads it: what was committed before
//! is there by then, and the numbers up to there are all taken.

use flaghoist_runtime::names::{ConversationId, UserId};
use sqlx::PgPool;
use sqlx::postgres::PgBindIterExt as _;

use super::rows::{self, HEAD_COLUMNS, Id, MEMBER_COLUMNS, signed};
use super::{PostgresStore, load, sql};
use crate::conversation::{Kind, Member, View};
use crate::event::{EventKind, Message};
use crate::plan::{RECEIPT_MEMBERS_MAX, watermark};
use crate::store::walk::{self, Rows};
use crate::store::{Messages, Progress, Slice};

/// The log of one conversation.
struct Log<'p> {
    pool: &'p PgPool,
    id: ConversationId,
}

impl Rows for Log<'_> {
    type Error = sqlx::Error;

    async fn range(&self, low: u64, high: u64, limit: u64, newest_first: bool) -> Result<Vec<Message>, sqlx::Error> {
        let query = sqlx::query(if newest_first { sql::DOWN } else { sql::UP });
        let query = query.bind(Id::from(self.id)).bind(signed(low)).bind(signed(high)).bind(signed(limit));
        query.fetch_all(self.pool).await?.iter().map(rows::message).collect()
    }
}

impl PostgresStore {
    pub(super) async fn read_clock(&self) -> Result<i64, sqlx::Error> {
        load::clock(&mut *self.pool.acquire().await?).await
    }

    pub(super) async fn views(&self, person: UserId, ids: &[ConversationId]) -> Result<Vec<View>, sqlx::Error> {
        let query = sqlx::query(sql::VIEWS).bind(ids.iter().map(|id| Id::from(*id)).bind_iter()).bind(Id::from(person));
        let fetched = query.fetch_all(&self.pool).await?;
        let view = |row| {
            let head = rows::head(row)?;
            // Somebody who keeps notes is the other person too.
            let peer = sqlx::Row::try_get::<Option<Id>, _>(row, HEAD_COLUMNS + MEMBER_COLUMNS)?;
            let peer = (head.kind == Kind::Direct).then(|| peer.map_or(person, |id| UserId(id.0)));
            Ok(View { head, member: rows::member(row, HEAD_COLUMNS)?.1, peer })
        };
        fetched.iter().map(view).collect()
    }

    pub(super) async fn view(&self, person: UserId, id: ConversationId) -> Result<Option<View>, sqlx::Error> {
        Ok(self.views(person, &[id]).await?.pop())
    }

    fn log(&self, id: ConversationId) -> Log<'_> {
        Log { pool: &self.pool, id }
    }

    pub(super) async fn read_message(
        &self,
        person: UserId,
        id: ConversationId,
        seq: u64,
    ) -> Result<Option<Message>, sqlx::Error> {
        if !self.view(person, id).await?.is_some_and(|view| view.member.sees(seq)) {
            return Ok(None);
        }
        let found = self.log(id).range(seq, seq, 1, false).await?;
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
        walk::messages(&self.log(id), &view, from, oldest_first, limit).await.map(Some)
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
        walk::events(&self.log(id), &view, person, after_seq, limit, bytes_max).await.map(Some)
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
        let mut members = self.everyone(&[id], 1).await?;
        // Fewer of those who were there than of those who are.
        let small = members.len() <= RECEIPT_MEMBERS_MAX as usize;
        members.retain(|(_, other, member)| *other != person && member.sees(seq));
        let mut progress = Progress::default();
        for (_, other, member) in &members {
            progress.recipient_count += 1;
            progress.delivered_count += u32::from(member.delivered_seq >= seq);
            progress.read_count += u32::from(member.read_seq >= seq);
            if small {
                progress.receipts.push(watermark(id, *other, member, self.epoch_now()));
            }
        }
        progress.receipts.sort_by_key(|receipt| receipt.member);
        Ok(Some(progress))
    }

    /// Everyone in some conversations whose role is at least `least`; 0 is the role of those who left.
    pub(super) async fn everyone(
        &self,
        ids: &[ConversationId],
        least: i16,
    ) -> Result<Vec<(ConversationId, UserId, Member)>, sqlx::Error> {
        let query = sqlx::query(sql::EVERYONE).bind(ids.iter().map(|id| Id::from(*id)).bind_iter()).bind(least);
        query.fetch_all(&self.pool).await?.iter().map(member_of).collect()
    }

    pub(super) async fn list_members(
        &self,
        id: ConversationId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<(UserId, Member)>, sqlx::Error> {
        let after = after.map_or(Id(uuid::Uuid::nil()), Id::from);
        let query = sqlx::query(sql::MEMBERS).bind(Id::from(id)).bind(after).bind(signed(limit as u64));
        query.fetch_all(&self.pool).await?.iter().map(|row| rows::member(row, 0)).collect()
    }
}

/// A member with the conversation that follows its columns.
pub(super) fn member_of(row: &sqlx::postgres::PgRow) -> Result<(ConversationId, UserId, Member), sqlx::Error> {
    let (person, member) = rows::member(row, 0)?;
    Ok((rows::conversation(row, MEMBER_COLUMNS)?, person, member))
}
