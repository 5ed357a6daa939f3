//! What login has said about people, in PostgreSQL.

use flaghoist_runtime::names::UserId;
use sqlx::Error;

use super::session::{alone_with, end, of_user};
use super::sign_in::{self, forget};
use super::{PostgresStore, audit, count};
use crate::audit::{Action, Event, Origin, Why};
use crate::moment::Moment;
use crate::store::SubjectState;
use crate::store::judge::subject_events;

pub(super) async fn set(store: &PostgresStore, user: UserId, state: SubjectState, by: &Origin) -> Result<u64, Error> {
    let bytes = user.0.as_bytes().as_slice();
    let mut transaction = store.begin().await?;
    alone_with(&mut transaction, user).await?;
    let before: Option<(bool, bool, bool)> =
        sqlx::query_as("SELECT enabled, admin, erased_at IS NOT NULL FROM subjects WHERE user_id = $1")
            .bind(bytes)
            .fetch_optional(&mut *transaction)
            .await?;
    let was_admin = before.map(|(_, admin, _)| admin);
    sqlx::query(
        "INSERT INTO subjects (user_id, enabled, admin) VALUES ($1, $2, $3) \
         ON CONFLICT (user_id) DO UPDATE SET enabled = excluded.enabled, admin = excluded.admin \
         WHERE subjects.erased_at IS NULL",
    )
    .bind(bytes)
    .bind(state.enabled)
    .bind(state.admin)
    .execute(&mut *transaction)
    .await?;
    // Someone about whom nothing was said may hold the scope as well.
    let holds_admin: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM sessions WHERE user_id = $1 AND strpos(' ' || scopes || ' ', ' admin ') > 0)",
    )
    .bind(bytes)
    .fetch_one(&mut *transaction)
    .await?;
    let demoted = !state.admin && (was_admin == Some(true) || holds_admin);
    let found = if !state.enabled || demoted { of_user(&mut transaction, user).await? } else { Vec::new() };
    if !state.enabled || demoted {
        forget(&mut transaction, user).await?;
    }
    audit::insert(&mut transaction, &subject_events(before, state, user, by)).await?;
    let ended = end(&mut transaction, &[(&found, Why::SubjectChanged)], by).await?;
    transaction.commit().await?;
    Ok(count(ended.len()))
}

pub(super) async fn erase(store: &PostgresStore, user: UserId, by: &Origin) -> Result<u64, Error> {
    let bytes = user.0.as_bytes().as_slice();
    let mut transaction = store.begin().await?;
    alone_with(&mut transaction, user).await?;
    let known = sqlx::query("SELECT 1 FROM subjects WHERE user_id = $1 AND erased_at IS NULL")
        .bind(bytes)
        .fetch_all(&mut *transaction)
        .await?;
    sqlx::query(
        "INSERT INTO subjects (user_id, enabled, admin, erased_at) VALUES ($1, FALSE, FALSE, $2) \
         ON CONFLICT (user_id) DO UPDATE SET enabled = FALSE, admin = FALSE, \
                erased_at = coalesce(subjects.erased_at, excluded.erased_at)",
    )
    .bind(bytes)
    .bind(by.at.0)
    .execute(&mut *transaction)
    .await?;
    let found = of_user(&mut transaction, user).await?;
    let of_sign_ins = sign_in::erase(&mut transaction, user).await?;
    if !known.is_empty() || !found.is_empty() || of_sign_ins > 0 {
        audit::insert(&mut transaction, &[Event::new(by, Action::SubjectErased, user.name())]).await?;
    }
    let ended = end(&mut transaction, &[(&found, Why::SubjectErased)], by).await?;
    transaction.commit().await?;
    Ok(count(ended.len() + known.len()) + of_sign_ins)
}

pub(super) async fn purge(store: &PostgresStore, erased_before: Moment, rows_max: u32) -> Result<bool, Error> {
    let removed = sqlx::query(
        "DELETE FROM subjects WHERE user_id IN \
         (SELECT user_id FROM subjects WHERE erased_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)",
    )
    .bind(erased_before.0)
    .bind(i64::from(rows_max))
    .execute(&store.pool)
    .await?
    .rows_affected();
    Ok(removed >= u64::from(rows_max))
}
