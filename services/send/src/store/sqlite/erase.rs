//! Overwriting what is left of a person beside their messages. It is done as the one writer, between two batches, so that memory and
//! file say the same.

use flaghoist_runtime::names::{ConversationId, UserId};
use sqlx::Connection as _;
use sqlx::pool::PoolConnection;
use sqlx::{Sqlite, Transaction};

use super::SqliteStore;
use super::commit::Writer;
use super::load;
use super::rows::{json, signed};

impl SqliteStore {
    pub(super) async fn blank_requests(
        &self,
        person: UserId,
        id: ConversationId,
        after_seq: u64,
        through_seq: u64,
    ) -> Result<(), sqlx::Error> {
        let mut writer = self.writer.lock().await;
        let Some((no, alone, tail)) = self
            .ask(id, |known, entry| {
                let alone = known.members.keys().all(|other| *other == person);
                let through = through_seq.min(known.head.last_seq);
                let tail = match entry {
                    Some(entry) if after_seq < through => entry.tail_from(after_seq + 1, through),
                    _ => Vec::new(),
                };
                (known.head.no, alone, tail)
            })
            .await?
        else {
            return Ok(());
        };
        let mut connection = self.connection(&mut writer).await?;
        let mut transaction = begin(&mut connection).await?;
        sqlx::query(
            "UPDATE log SET request_id = 'erased ' || printf('%080d', seq), request_digest = zeroblob(16),
                 body = CASE WHEN kind IN (4, 5) AND ?5 THEN x'' ELSE body END
             WHERE no IN (SELECT log_no FROM places WHERE conversation_no = ?1 AND seq BETWEEN ?2 AND ?3
                          UNION ALL SELECT value FROM json_each(?6)) AND sender_id = ?4",
        )
        .bind(no)
        .bind(signed(after_seq) + 1)
        .bind(signed(through_seq))
        .bind(person.0.as_bytes().to_vec())
        .bind(alone)
        .bind(json(&tail))
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        writer.connection = Some(connection);
        self.scrub.notify_one();
        Ok(())
    }

    pub(super) async fn forget_person(
        &self,
        person: UserId,
        ids: &[ConversationId],
        all: bool,
    ) -> Result<(), sqlx::Error> {
        let mut writer = self.writer.lock().await;
        let mut connection = self.connection(&mut writer).await?;
        let found = load::known(&mut connection, ids).await?;
        let numbers: Vec<i64> = found.iter().map(|known| known.head.no).collect();
        let numbers = json(&numbers);
        let user = || person.0.as_bytes().to_vec();
        let mut transaction = begin(&mut connection).await?;
        for statement in [
            "UPDATE members SET delivered_seq = 0, read_seq = 0, read_message_no = 0, read_sent_no = 0, watermark_at = 0,
                 hidden_seq = 0
             WHERE conversation_no IN (SELECT value FROM json_each(?1)) AND user_id = ?2 AND role = 0",
            "UPDATE conversations SET title = '' WHERE no IN (SELECT value FROM json_each(?1)) AND deleted
                 AND NOT EXISTS (SELECT 1 FROM members o WHERE o.conversation_no = no AND o.user_id <> ?2)",
            "DELETE FROM memberships WHERE conversation_no IN (SELECT value FROM json_each(?1)) AND user_id = ?2",
        ] {
            sqlx::query(statement).bind(&numbers).bind(user()).execute(&mut *transaction).await?;
        }
        if all {
            sqlx::query("DELETE FROM people WHERE user_id = ?1").bind(user()).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        writer.connection = Some(connection);
        let mut shared = self.live.write();
        for id in ids {
            let Some(known) = shared.conversations.get_mut(id).map(|entry| &mut entry.known) else { continue };
            if known.head.deleted && known.members.keys().all(|other| *other == person) {
                known.head.title = "".into();
            }
            if let Some(member) = known.members.get_mut(&person).filter(|member| member.role.is_none()) {
                let (joined_seq, joined_at) = (member.joined_seq, member.joined_at);
                let (past, sent_no) = (std::mem::take(&mut member.past), member.sent_no);
                *member = crate::conversation::Member { joined_seq, joined_at, past, sent_no, ..Default::default() };
            }
        }
        drop(shared);
        self.scrub.notify_one();
        Ok(())
    }

    /// The writer's connection. One that failed is not given back to it: the pool looks after it.
    async fn connection(&self, writer: &mut Writer) -> Result<PoolConnection<Sqlite>, sqlx::Error> {
        match writer.connection.take() {
            Some(kept) => Ok(kept),
            None => self.database.writer.acquire().await,
        }
    }
}

async fn begin(connection: &mut PoolConnection<Sqlite>) -> Result<Transaction<'_, Sqlite>, sqlx::Error> {
    connection.begin_with("BEGIN IMMEDIATE").await
}
