//! Revocations in SQLite.

use flaghoist_runtime::names::SessionId;
use flaghoist_runtime::token::{Revocation, RevocationTarget};
use sqlx::sqlite::SqlitePool;
use uuid::Uuid;

use super::{SqliteStore, Transaction, audit, unreadable};
use crate::audit::Event;
use crate::key::key_name;
use crate::moment::Moment;
use crate::store::Numbered;
use crate::store::judge::subject;

pub(super) async fn add(
    store: &SqliteStore,
    target: &RevocationTarget,
    event: Option<&Event>,
    now: Moment,
) -> Result<(), sqlx::Error> {
    let mut transaction = store.begin().await?;
    audit::insert(&mut transaction, event.map_or(&[], std::slice::from_ref)).await?;
    insert(&mut transaction, target, now).await?;
    transaction.commit().await
}

/// Records a revocation as a part of `transaction`.
pub(super) async fn insert(
    transaction: &mut Transaction,
    target: &RevocationTarget,
    now: Moment,
) -> Result<(), sqlx::Error> {
    let (kind, id) = match target {
        RevocationTarget::Session(session) => ("session", session.to_string()),
        RevocationTarget::Subject(subject) => ("subject", subject.clone()),
        RevocationTarget::Token(token) => ("token", token.to_string()),
        RevocationTarget::Key(kid) => ("subject", key_name(kid)),
    };
    sqlx::query("INSERT INTO revocations (kind, target, revoked_at) VALUES (?1, ?2, ?3)")
        .bind(kind)
        .bind(id)
        .bind(now.0)
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

pub(super) async fn list(
    readers: &SqlitePool,
    since: Moment,
    after: i64,
    limit: u32,
) -> Result<Vec<Numbered>, sqlx::Error> {
    let rows: Vec<(i64, String, String, i64)> = sqlx::query_as(
        "SELECT revocation_no, kind, target, revoked_at FROM revocations \
         WHERE revocation_no > ?1 AND revoked_at >= ?2 ORDER BY revocation_no LIMIT ?3",
    )
    .bind(after)
    .bind(since.0)
    .bind(limit)
    .fetch_all(readers)
    .await?;
    rows.into_iter()
        .map(|(no, kind, target, revoked_at)| {
            let uuid = |text: &str| Uuid::try_parse(text).map_err(|_| unreadable("an id"));
            let target = match kind.as_str() {
                "session" => RevocationTarget::Session(SessionId(uuid(&target)?)),
                "token" => RevocationTarget::Token(uuid(&target)?),
                "subject" => subject(target),
                _ => return Err(unreadable("a revocation")),
            };
            Ok(Numbered { no, revocation: Revocation { target, revoked_at: Moment(revoked_at).into() } })
        })
        .collect()
}

pub(super) async fn purge(store: &SqliteStore, before: Moment, rows_max: u32) -> Result<bool, sqlx::Error> {
    let removed = sqlx::query(
        "DELETE FROM revocations WHERE revocation_no IN \
         (SELECT revocation_no FROM revocations WHERE revoked_at < ?1 ORDER BY revoked_at LIMIT ?2)",
    )
    .bind(before.0)
    .bind(rows_max)
    .execute(&store.database.writer)
    .await?
    .rows_affected();
    Ok(removed >= u64::from(rows_max))
}
