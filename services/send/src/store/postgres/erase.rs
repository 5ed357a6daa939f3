//! Overwriting what is left of a person beside their messages. Nobody else writes to these rows any more but an admin who deletes a
//! message, so no lane is needed, and each statement may be repeated.

use flaghoist_runtime::names::{ConversationId, UserId};
use sqlx::postgres::PgBindIterExt as _;

use super::rows::{Id, signed};
use super::{PostgresStore, sql};

impl PostgresStore {
    pub(super) async fn blank_requests(
        &self,
        person: UserId,
        id: ConversationId,
        after_seq: u64,
        through_seq: u64,
    ) -> Result<(), sqlx::Error> {
        sqlx::query(sql::BLANK)
            .bind(Id::from(id))
            .bind(Id::from(person))
            .bind(signed(after_seq) + 1)
            .bind(signed(through_seq))
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    pub(super) async fn forget_person(
        &self,
        person: UserId,
        ids: &[ConversationId],
        all: bool,
    ) -> Result<(), sqlx::Error> {
        let named = || ids.iter().map(|id| Id::from(*id)).bind_iter();
        for statement in [sql::FORGET_MARKS, sql::FORGET_TITLES] {
            sqlx::query(statement).bind(named()).bind(Id::from(person)).execute(&self.pool).await?;
        }
        // Last, for by these it is found what is left to do.
        sqlx::query(sql::FORGET_MEMBERSHIPS).bind(Id::from(person)).bind(named()).execute(&self.pool).await?;
        if all {
            sqlx::query(sql::FORGET_COUNT).bind(Id::from(person)).execute(&self.pool).await?;
        }
        Ok(())
    }
}
