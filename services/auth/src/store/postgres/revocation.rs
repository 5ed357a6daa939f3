//! Revocations in PostgreSQL, numbered in the order of their commits.

use flaghoist_runtime::names::SessionId;
use flaghoist_runtime::token::{Revocation, RevocationTarget};
use sqlx::Error;
use sqlx::postgres::PgPool;
use uuid::Uuid;

use super::{PostgresStore, Transaction, audit, unreadable};
use crate::audit::Event;
use crate::key::key_name;
use crate::moment::Moment;
use crate::store::Numbered;
use crate::store::judge::subject;

pub(super) async fn add(
    store: &PostgresStore,
    target: &RevocationTarget,
    event: Option<&Event>,
    now: Moment,
) -> Result<(), Error> {
    let mut transaction = store.begin().await?;
    audit::insert(&mut transaction, event.map_or(&[], std::slice::from_ref)).await?;
    record(&mut transaction, target, now).await?;
    transaction.commit().await
}

/// Records a revocation as the last part of `transaction`.
pub(super) async fn record(transaction: &mut Transaction, target: &RevocationTarget, now: Moment) -> Result<(), Error> {
    match target {
        RevocationTarget::Session(session) => insert(transaction, "session", &[session.to_string()], now).await,
        RevocationTarget::Subject(subject) => insert(transaction, "subject", std::slice::from_ref(subject), now).await,
        RevocationTarget::Token(token) => insert(transaction, "token", &[token.to_string()], now).await,
        RevocationTarget::Key(kid) => insert(transaction, "subject", &[key_name(kid)], now).await,
    }
}

/// Records the end of sessions as the last part of `transaction`: what follows holds up every revocation of every pod.
pub(super) async fn record_ends(transaction: &mut Transaction, ids: &[SessionId], now: Moment) -> Result<(), Error> {
    let targets: Vec<_> = ids.iter().map(SessionId::to_string).collect();
    insert(transaction, "session", &targets, now).await
}

async fn insert(transaction: &mut Transaction, kind: &str, targets: &[String], now: Moment) -> Result<(), Error> {
    // The counter is never behind the table, also when the table was filled from a copy.
    sqlx::query(
        "WITH last AS ( \
             UPDATE counters \
             SET value = greatest(value, (SELECT coalesce(max(revocation_no), 0) FROM revocations)) + cardinality($2::text[]) \
             WHERE name = 'revocations' RETURNING value \
         ) \
         INSERT INTO revocations (revocation_no, kind, target, revoked_at) \
         SELECT last.value - cardinality($2::text[]) + asked.no, $1, asked.target, $3 \
         FROM last, unnest($2::text[]) WITH ORDINALITY AS asked (target, no)",
    )
    .bind(kind)
    .bind(targets)
    .bind(now.0)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

pub(super) async fn list(pool: &PgPool, since: Moment, after: i64, limit: u32) -> Result<Vec<Numbered>, Error> {
    let rows: Vec<(i64, String, String, i64)> = sqlx::query_as(
        "SELECT revocation_no, kind, target, revoked_at FROM revocations \
         WHERE revocation_no > $1 AND revoked_at >= $2 ORDER BY revocation_no LIMIT $3",
    )
    .bind(after)
    .bind(since.0)
    .bind(i64::from(limit))
    .fetch_all(pool)
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

pub(super) async fn purge(store: &PostgresStore, before: Moment, rows_max: u32) -> Result<bool, Error> {
    let removed = sqlx::query(
        "DELETE FROM revocations WHERE revocation_no IN \
         (SELECT revocation_no FROM revocations WHERE revoked_at < $1 ORDER BY revoked_at LIMIT $2 \
          FOR UPDATE SKIP LOCKED)",
    )
    .bind(before.0)
    .bind(i64::from(rows_max))
    .execute(&store.pool)
    .await?
    .rows_affected();
    Ok(removed >= u64::from(rows_max))
}
