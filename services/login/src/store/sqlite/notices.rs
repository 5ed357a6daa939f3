//! The table of what the issuer has yet to be told.

use flaghoist_runtime::names::UserId;
use sqlx::{Row as _, SqliteConnection};

use super::{SqliteStore, key, user};
use crate::store::Notice;

const STATE: i64 = 1;
const END_SESSIONS: i64 = 2;
const ERASE: i64 = 3;

/// Notes something within the transaction of `connection`.
pub(super) async fn note(
    connection: &mut SqliteConnection,
    user: UserId,
    notice: &Notice,
    now: i64,
) -> Result<(), sqlx::Error> {
    let (kind, except) = match notice {
        // Who did it stands where the session that stays stands in the other kind, and is nobody in particular if it was done by several.
        Notice::State { by } => (STATE, by.as_str()),
        Notice::EndSessions { except } => (END_SESSIONS, except.as_str()),
        Notice::Erase => (ERASE, ""),
    };
    // Of two exceptions neither is one: what an earlier change ended stays ended. Replacing gives the row a new id.
    sqlx::query(
        "INSERT OR REPLACE INTO notices (user_id, kind, except_session, created_at)
         SELECT ?1, ?2, CASE WHEN EXISTS (SELECT 1 FROM notices WHERE user_id = ?1 AND kind = ?2 AND except_session <> ?3)
         THEN '' ELSE ?3 END, ?4",
    )
    .bind(key(&user))
    .bind(kind)
    .bind(except)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn note_state(store: &SqliteStore, user: UserId, now: i64) -> Result<(), sqlx::Error> {
    let mut transaction = store.write().await?;
    note(&mut transaction, user, &Notice::State { by: String::new() }, now).await?;
    transaction.commit().await
}

pub(super) async fn of(store: &SqliteStore, user: UserId) -> Result<Vec<(i64, Notice)>, sqlx::Error> {
    let rows = sqlx::query("SELECT id, kind, except_session FROM notices WHERE user_id = ?1 ORDER BY id")
        .bind(key(&user))
        .fetch_all(&store.database.readers)
        .await?;
    rows.iter()
        .map(|row| {
            let notice = match row.try_get("kind")? {
                STATE => Notice::State { by: row.try_get("except_session")? },
                END_SESSIONS => Notice::EndSessions { except: row.try_get("except_session")? },
                _ => Notice::Erase,
            };
            Ok((row.try_get("id")?, notice))
        })
        .collect()
}

pub(super) async fn users(store: &SqliteStore, max: u32) -> Result<Vec<UserId>, sqlx::Error> {
    let rows = sqlx::query("SELECT user_id FROM notices GROUP BY user_id ORDER BY min(id) LIMIT ?1")
        .bind(max)
        .fetch_all(&store.database.readers)
        .await?;
    rows.iter().map(|row| user(row.try_get("user_id")?)).collect()
}

pub(super) async fn told(store: &SqliteStore, id: i64) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM notices WHERE id = ?1").bind(id).execute(&store.database.writer).await?;
    Ok(())
}
