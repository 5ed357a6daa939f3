//! The table of erasures, in SQLite.

use async_trait::async_trait;
use flaghoist_runtime::names::UserId;
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use uuid::Uuid;

use super::{SqliteStore, failed, key, user};
use crate::store::StoreError;
use crate::store::erasures::{BEGINNING_MS, Erasure, ErasureStore, Step};

/// The columns of an erasure.
macro_rules! columns {
    () => {
        "id, user_id, created_at, finished_at, signed_out_at, step, step_token, counts, failures, next_at, revision"
    };
}

const BEGIN: &str =
    "INSERT INTO erasures (id, user_id, created_at, step, step_token, counts, failures, next_at, revision, held_until)
     SELECT ?1, a.user_id, ?2, 0, '', '{}', 0, ?3, 1, 0 FROM accounts a
     WHERE a.user_id = ?4 AND a.deleting_at IS NOT NULL ON CONFLICT (user_id) DO NOTHING";
const OF: &str = concat!("SELECT ", columns!(), " FROM erasures WHERE user_id = ?1");
const CLAIM: &str = concat!(
    "UPDATE erasures SET held_until = ?2 WHERE id = (SELECT id FROM erasures
         WHERE finished_at IS NULL AND next_at <= ?1 AND held_until <= ?1 ORDER BY next_at LIMIT 1)
     RETURNING ",
    columns!()
);
const ADVANCE: &str =
    "UPDATE erasures SET user_id = ?3, finished_at = ?4, signed_out_at = ?5, step = ?6, step_token = ?7,
         counts = ?8, failures = ?9, next_at = ?10, held_until = ?11, revision = revision + 1
     WHERE id = ?1 AND revision = ?2";
const ONE: &str = concat!("SELECT ", columns!(), " FROM erasures WHERE id = ?1");
const PAGE: &str = concat!("SELECT ", columns!(), " FROM erasures WHERE id < ?1 ORDER BY id DESC LIMIT ?2");
const FORGET: &str = "DELETE FROM erasures WHERE finished_at < ?1";

/// Begins an erasure within the transaction of `connection`.
pub(super) async fn begin(connection: &mut SqliteConnection, user: UserId, now: i64) -> Result<(), sqlx::Error> {
    sqlx::query(BEGIN)
        .bind(&Uuid::now_v7().as_bytes()[..])
        .bind(now)
        .bind(now + BEGINNING_MS)
        .bind(key(&user))
        .execute(connection)
        .await?;
    Ok(())
}

fn erasure(row: &SqliteRow) -> Result<Erasure, sqlx::Error> {
    let unreadable = |error: Box<dyn std::error::Error + Send + Sync>| sqlx::Error::Decode(error);
    let step = row.try_get("step")?;
    let owner: Option<&[u8]> = row.try_get("user_id")?;
    Ok(Erasure {
        id: Uuid::from_slice(row.try_get("id")?).map_err(|error| unreadable(error.into()))?,
        user: owner.map(user).transpose()?,
        created_at: row.try_get("created_at")?,
        finished_at: row.try_get("finished_at")?,
        signed_out_at: row.try_get("signed_out_at")?,
        step: Step::from_number(step).ok_or_else(|| unreadable("a step of an erasure".into()))?,
        step_token: row.try_get("step_token")?,
        counts: serde_json::from_str(row.try_get("counts")?).map_err(|error| unreadable(error.into()))?,
        failures: u32::try_from(row.try_get::<i64, _>("failures")?).unwrap_or(u32::MAX),
        next_at: row.try_get("next_at")?,
        revision: row.try_get("revision")?,
    })
}

impl SqliteStore {
    async fn one_erasure(&self, statement: &'static str, named: &[u8]) -> Result<Option<Erasure>, sqlx::Error> {
        let row = sqlx::query(statement).bind(named).fetch_optional(&self.database.readers).await?;
        row.as_ref().map(erasure).transpose()
    }

    async fn claim(&self, now: i64, held_until: i64) -> Result<Option<Erasure>, sqlx::Error> {
        let row = sqlx::query(CLAIM).bind(now).bind(held_until).fetch_optional(&self.database.writer).await?;
        row.as_ref().map(erasure).transpose()
    }

    async fn advance(&self, erasure: &Erasure, held_until: i64) -> Result<bool, sqlx::Error> {
        let counts = serde_json::to_string(&erasure.counts).map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
        let done = sqlx::query(ADVANCE)
            .bind(&erasure.id.as_bytes()[..])
            .bind(erasure.revision)
            .bind(erasure.user.as_ref().map(key))
            .bind(erasure.finished_at)
            .bind(erasure.signed_out_at)
            .bind(erasure.step as i64)
            .bind(&erasure.step_token)
            .bind(counts)
            .bind(i64::from(erasure.failures))
            .bind(erasure.next_at)
            .bind(held_until)
            .execute(&self.database.writer)
            .await?;
        Ok(done.rows_affected() > 0)
    }

    async fn page_of_erasures(&self, before: Uuid, limit: u32) -> Result<Vec<Erasure>, sqlx::Error> {
        let rows = sqlx::query(PAGE)
            .bind(&before.as_bytes()[..])
            .bind(i64::from(limit))
            .fetch_all(&self.database.readers)
            .await?;
        rows.iter().map(erasure).collect()
    }

    async fn begin_now(&self, user: UserId, now: i64) -> Result<(), sqlx::Error> {
        begin(&mut *self.database.writer.acquire().await?, user, now).await
    }

    async fn forget_finished(&self, before: i64) -> Result<(), sqlx::Error> {
        sqlx::query(FORGET).bind(before).execute(&self.database.writer).await?;
        Ok(())
    }
}

#[async_trait]
impl ErasureStore for SqliteStore {
    async fn begin_erasure(&self, user: UserId, now: i64) -> Result<(), StoreError> {
        self.begin_now(user, now).await.map_err(failed)
    }

    async fn erasure_of(&self, user: UserId) -> Result<Option<Erasure>, StoreError> {
        self.one_erasure(OF, key(&user)).await.map_err(failed)
    }

    async fn claim_erasure(&self, now: i64, held_until: i64) -> Result<Option<Erasure>, StoreError> {
        self.claim(now, held_until).await.map_err(failed)
    }

    async fn advance_erasure(&self, erasure: &Erasure, held_until: i64) -> Result<bool, StoreError> {
        self.advance(erasure, held_until).await.map_err(failed)
    }

    async fn erasure(&self, id: Uuid) -> Result<Option<Erasure>, StoreError> {
        self.one_erasure(ONE, &id.as_bytes()[..]).await.map_err(failed)
    }

    async fn erasures(&self, before: Uuid, limit: u32) -> Result<Vec<Erasure>, StoreError> {
        self.page_of_erasures(before, limit).await.map_err(failed)
    }

    async fn forget_erasures(&self, finished_before: i64) -> Result<(), StoreError> {
        self.forget_finished(finished_before).await.map_err(failed)
    }
}
