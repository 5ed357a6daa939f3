//! What login has said about people, in SQLite.

use flaghoist_runtime::names::UserId;

use super::session::{end, ids, of_user};
use super::sign_in::{self, forget};
use super::{SqliteStore, audit, count};
use crate::audit::{Action, Event, Origin, Why};
use crate::moment::Moment;
use crate::store::SubjectState;
use crate::store::judge::subject_events;

pub(super) async fn set(
    store: &SqliteStore,
    user: UserId,
    state: SubjectState,
    by: &Origin,
) -> Result<u64, sqlx::Error> {
    let bytes = user.0.as_bytes().as_slice();
    let mut transaction = store.begin().await?;
    let before: Option<(bool, bool, bool)> =
        sqlx::query_as("SELECT enabled, admin, erased_at IS NOT NULL FROM subjects WHERE user_id = ?1")
            .bind(bytes)
            .fetch_optional(&mut *transaction)
            .await?;
    let was_admin = before.map(|(_, admin, _)| admin);
    sqlx::query(
        "INSERT INTO subjects (user_id, enabled, admin) VALUES (?1, ?2, ?3) \
         ON CONFLICT (user_id) DO UPDATE SET enabled = excluded.enabled, admin = excluded.admin WHERE erased_at IS NULL",
    )
    .bind(bytes)
    .bind(state.enabled)
    .bind(state.admin)
    .execute(&mut *transaction)
    .await?;
    // Someone about whom nothing was said may hold the scope as well.
    let admin_sessions = sqlx::query(
        "SELECT session_id FROM sessions WHERE user_id = ?1 AND instr(' ' || scopes || ' ', ' admin ') > 0 LIMIT 1",
    )
    .bind(bytes)
    .fetch_all(&mut *transaction)
    .await?;
    let demoted = !state.admin && (was_admin == Some(true) || !ids(&admin_sessions)?.is_empty());
    let ended = if !state.enabled || demoted { of_user(&mut transaction, user).await? } else { Vec::new() };
    if !state.enabled || demoted {
        forget(&mut transaction, user).await?;
    }
    audit::insert(&mut transaction, &subject_events(before, state, user, by)).await?;
    end(&mut transaction, &[(&ended, Why::SubjectChanged)], by).await?;
    transaction.commit().await?;
    Ok(count(ended.len()))
}

pub(super) async fn erase(store: &SqliteStore, user: UserId, by: &Origin) -> Result<u64, sqlx::Error> {
    let bytes = user.0.as_bytes().as_slice();
    let mut transaction = store.begin().await?;
    let known = sqlx::query("SELECT 1 FROM subjects WHERE user_id = ?1 AND erased_at IS NULL")
        .bind(bytes)
        .fetch_all(&mut *transaction)
        .await?;
    sqlx::query(
        "INSERT INTO subjects (user_id, enabled, admin, erased_at) VALUES (?1, 0, 0, ?2) \
         ON CONFLICT (user_id) DO UPDATE SET enabled = 0, admin = 0, erased_at = coalesce(erased_at, excluded.erased_at)",
    )
    .bind(bytes)
    .bind(by.at.0)
    .execute(&mut *transaction)
    .await?;
    let sessions = of_user(&mut transaction, user).await?;
    end(&mut transaction, &[(&sessions, Why::SubjectErased)], by).await?;
    let of_sign_ins = sign_in::erase(&mut transaction, user).await?;
    let erased = count(sessions.len() + known.len()) + of_sign_ins;
    if erased > 0 {
        audit::insert(&mut transaction, &[Event::new(by, Action::SubjectErased, user.name())]).await?;
    }
    transaction.commit().await?;
    Ok(erased)
}

pub(super) async fn purge(store: &SqliteStore, erased_before: Moment, rows_max: u32) -> Result<bool, sqlx::Error> {
    let removed = sqlx::query(
        "DELETE FROM subjects WHERE user_id IN (SELECT user_id FROM subjects WHERE erased_at < ?1 LIMIT ?2)",
    )
    .bind(erased_before.0)
    .bind(rows_max)
    .execute(&store.database.writer)
    .await?
    .rows_affected();
    Ok(removed >= u64::from(rows_max))
}
