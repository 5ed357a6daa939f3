//! What concerns the pods and no call: that they have one key, and forgetting what is over, on however many pods: one of them at a time, in pieces, never waiting for a row that a call holds.

use super::{PostgresStore, lock_number};
use crate::store::account_sessions::LIFETIME_MAX;
use crate::store::history::EVENTS_FOR_MS;
use crate::throttle::{FORGET_AFTER, KNOWN_FOR, millis};

/// Whoever forgets does so alone; the other pods leave it to them.
const FORGETTING: i64 = lock_number(b"forgetti");
/// How many rows go in one transaction.
const PIECE_ROWS: i64 = 5000;
/// How many such transactions a table gets in one round.
const PIECES_MAX: u32 = 200;

// Of each statement `$1` is how many rows a piece has.
const OLD_ATTEMPTS: &str = "DELETE FROM attempts WHERE ctid = ANY (ARRAY (
        SELECT ctid FROM attempts WHERE updated_at < $2 AND (known_at IS NULL OR known_at < $3)
        LIMIT $1 FOR UPDATE SKIP LOCKED))";
// Addresses that nobody ever signed in from go first.
const SURPLUS_ATTEMPTS: &str = "DELETE FROM attempts WHERE ctid = ANY (ARRAY (
        SELECT ctid FROM attempts ORDER BY known_at IS NOT NULL, updated_at
        LIMIT least($1, greatest((SELECT count(*) FROM attempts) - $2, 0)) FOR UPDATE SKIP LOCKED))";
const FULL_BUCKETS: &str = "DELETE FROM buckets WHERE ctid = ANY (ARRAY (
        SELECT ctid FROM buckets WHERE full_at <= $2 LIMIT $1 FOR UPDATE SKIP LOCKED))";
const SURPLUS_BUCKETS: &str = "DELETE FROM buckets WHERE ctid = ANY (ARRAY (
        SELECT ctid FROM buckets ORDER BY full_at
        LIMIT least($1, greatest((SELECT count(*) FROM buckets) - $2, 0)) FOR UPDATE SKIP LOCKED))";
const EXPIRED_INVITATIONS: &str = "DELETE FROM invitations WHERE ctid = ANY (ARRAY (
        SELECT ctid FROM invitations WHERE expires_at <= $2 LIMIT $1 FOR UPDATE SKIP LOCKED))";
const EXPIRED_ENROLMENTS: &str = "DELETE FROM totp_enrolments WHERE ctid = ANY (ARRAY (
        SELECT ctid FROM totp_enrolments WHERE expires_at <= $2 LIMIT $1 FOR UPDATE SKIP LOCKED))";
const EXPIRED_CEREMONIES: &str = "DELETE FROM ceremonies WHERE ctid = ANY (ARRAY (
        SELECT ctid FROM ceremonies WHERE expires_at <= $2 LIMIT $1 FOR UPDATE SKIP LOCKED))";
const EXPIRED_CODES: &str = "DELETE FROM contact_changes WHERE ctid = ANY (ARRAY (
        SELECT ctid FROM contact_changes WHERE expires_at <= $2 LIMIT $1 FOR UPDATE SKIP LOCKED))";
const EXPIRED_RESETS: &str = "DELETE FROM password_resets WHERE ctid = ANY (ARRAY (
        SELECT ctid FROM password_resets WHERE expires_at <= $2 LIMIT $1 FOR UPDATE SKIP LOCKED))";
const EXPIRED_MESSAGES: &str = "DELETE FROM outbox WHERE ctid = ANY (ARRAY (
        SELECT ctid FROM outbox WHERE expires_at <= $2 LIMIT $1 FOR UPDATE SKIP LOCKED))";
const OLD_EVENTS: &str = "DELETE FROM login_events WHERE ctid = ANY (ARRAY (
        SELECT ctid FROM login_events WHERE at <= $2 LIMIT $1 FOR UPDATE SKIP LOCKED))";
const EXPIRED_LOGINS: &str = "DELETE FROM logins WHERE ctid = ANY (ARRAY (
        SELECT ctid FROM logins WHERE expires_at <= $2 LIMIT $1 FOR UPDATE SKIP LOCKED))";
const SURPLUS_LOGINS: &str = "DELETE FROM logins WHERE ctid = ANY (ARRAY (
        SELECT ctid FROM logins ORDER BY expires_at
        LIMIT least($1, greatest((SELECT count(*) FROM logins) - $2, 0)) FOR UPDATE SKIP LOCKED))";
const OLD_ACCOUNT_SESSIONS: &str = "DELETE FROM account_sessions WHERE ctid = ANY (ARRAY (
        SELECT ctid FROM account_sessions WHERE used_at <= $2 LIMIT $1 FOR UPDATE SKIP LOCKED))";
// Whoever froze in such a lane notices that it is gone.
const LEFT_LANES: &str = "DELETE FROM lanes WHERE ctid = ANY (ARRAY (
        SELECT ctid FROM lanes WHERE held_until <= clock_timestamp() LIMIT $1 FOR UPDATE SKIP LOCKED))";

pub(super) async fn forget(store: &PostgresStore, now: i64, rows_max: u32) -> Result<(), sqlx::Error> {
    let rows_max = i64::from(rows_max);
    for (statement, arguments) in [
        (OLD_ATTEMPTS, &[now - millis(FORGET_AFTER), now - millis(KNOWN_FOR)][..]),
        (SURPLUS_ATTEMPTS, &[rows_max]),
        (FULL_BUCKETS, &[now]),
        (SURPLUS_BUCKETS, &[rows_max]),
        (EXPIRED_INVITATIONS, &[now]),
        (EXPIRED_ENROLMENTS, &[now]),
        (EXPIRED_CEREMONIES, &[now]),
        (EXPIRED_CODES, &[now]),
        (EXPIRED_RESETS, &[now]),
        (EXPIRED_MESSAGES, &[now]),
        (OLD_EVENTS, &[now - EVENTS_FOR_MS]),
        (EXPIRED_LOGINS, &[now]),
        (SURPLUS_LOGINS, &[rows_max]),
        (OLD_ACCOUNT_SESSIONS, &[now - millis(LIFETIME_MAX)]),
        (LEFT_LANES, &[]),
    ] {
        for _ in 0..PIECES_MAX {
            if piece(store, statement, arguments).await? < PIECE_ROWS.unsigned_abs() {
                break;
            }
        }
    }
    Ok(())
}

pub(super) async fn agree(store: &PostgresStore, derived: &[u8; 32]) -> Result<bool, sqlx::Error> {
    sqlx::query("INSERT INTO key_check (derived) VALUES ($1) ON CONFLICT DO NOTHING")
        .bind(&derived[..])
        .execute(&store.pool)
        .await?;
    let kept: Vec<u8> = sqlx::query_scalar("SELECT derived FROM key_check").fetch_one(&store.pool).await?;
    Ok(kept == derived)
}

/// One transaction; answers how many rows went. None go while another pod is at it.
async fn piece(store: &PostgresStore, statement: &'static str, arguments: &[i64]) -> Result<u64, sqlx::Error> {
    let mut transaction = store.pool.begin().await?;
    let alone: bool = sqlx::query_scalar("SELECT pg_try_advisory_xact_lock($1)")
        .bind(FORGETTING)
        .fetch_one(&mut *transaction)
        .await?;
    if !alone {
        transaction.rollback().await?;
        return Ok(0);
    }
    let query = arguments.iter().fold(sqlx::query(statement).bind(PIECE_ROWS), |query, argument| query.bind(*argument));
    let gone = query.execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(gone.rows_affected())
}
