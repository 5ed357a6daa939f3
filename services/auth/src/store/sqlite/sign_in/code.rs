//! Authorization codes in SQLite.

use flaghoist_runtime::names::SessionId;

use super::*;
use crate::store::sqlite::grants::{use_up, used_up};

pub(super) async fn add(store: &SqliteStore, digest: Digest, code: &KeptCode) -> Result<bool, sqlx::Error> {
    let added = sqlx::query(
        "INSERT INTO codes (code_sha256, session_id, user_id, code, expires_at, browser_sha256) SELECT ?1, ?2, ?3, ?4, ?5, \
         (SELECT cookie_sha256 FROM browser_sessions WHERE cookie_sha256 = ?7 AND user_id = ?3) \
         WHERE EXISTS (SELECT 1 FROM browser_sessions WHERE user_id = ?3 AND authenticated_at = ?6)",
    )
    .bind(digest.0.as_slice())
    .bind(code.session.0.as_bytes().as_slice())
    .bind(bytes(&code.user))
    .bind(written(&code.code)?)
    .bind(code.expires_at.0)
    .bind(code.code.authenticated_at_ms)
    .bind(code.browser.as_ref().map(|cookie| cookie.0.as_slice()))
    .execute(&store.database.writer)
    .await?
    .rows_affected();
    Ok(added > 0)
}

pub(super) async fn redeem(
    store: &SqliteStore,
    digest: Digest,
    judge: &(dyn for<'a> Fn(&'a KeptCode) -> Option<Session> + Send + Sync),
    proof: Option<Once>,
    sessions_max: u32,
    now: Moment,
) -> Result<Redeemed, sqlx::Error> {
    let mut transaction = store.begin().await?;
    let used = sqlx::query(
        "UPDATE codes SET used_at = ?2 WHERE code_sha256 = ?1 AND used_at IS NULL AND expires_at > ?2 \
         RETURNING session_id, user_id, code, expires_at, browser_sha256",
    )
    .bind(digest.0.as_slice())
    .bind(now.0)
    .fetch_optional(&mut *transaction)
    .await?;
    let Some(row) = used else {
        if used_up(&mut transaction, proof).await? {
            return Ok(Redeemed::ProofUsed);
        }
        let given = sqlx::query("SELECT session_id FROM codes WHERE code_sha256 = ?1 AND used_at IS NOT NULL")
            .bind(digest.0.as_slice())
            .fetch_all(&mut *transaction)
            .await?;
        let given = ids(&given)?;
        end_if_there(&mut transaction, &given, now).await?;
        transaction.commit().await?;
        return Ok(if given.is_empty() { Redeemed::Unknown } else { Redeemed::Replayed });
    };
    let kept = KeptCode {
        session: SessionId(Uuid::from_slice(row.try_get(0)?).map_err(|_| unreadable("an id"))?),
        user: user_in(&row, 1)?,
        code: serde_json::from_str(row.try_get(2)?).map_err(|_| unreadable("a code"))?,
        expires_at: Moment(row.try_get(3)?),
        browser: row.try_get::<Option<&[u8]>, _>(4)?.and_then(Digest::kept),
    };
    if !use_up(&mut transaction, proof, now).await? {
        return Ok(Redeemed::ProofUsed);
    }
    let redeemed = match judge(&kept) {
        None => Redeemed::Refused,
        Some(session) => {
            let by = Origin::sign_in(&session, now);
            let opened = open_within(&mut transaction, Opening { session, sessions_max, by }).await?;
            sqlx::query("UPDATE sessions SET browser_sha256 = ?2 WHERE session_id = ?1")
                .bind(kept.session.0.as_bytes().as_slice())
                .bind(kept.browser.as_ref().map(|cookie| cookie.0.as_slice()))
                .execute(&mut *transaction)
                .await?;
            Redeemed::Good(Box::new(kept), opened)
        }
    };
    transaction.commit().await?;
    Ok(redeemed)
}

/// Ends those of the sessions that are still open.
async fn end_if_there(transaction: &mut Transaction, given: &[SessionId], now: Moment) -> Result<(), sqlx::Error> {
    for session in given {
        let there = sqlx::query("SELECT session_id FROM sessions WHERE session_id = ?1")
            .bind(session.0.as_bytes().as_slice())
            .fetch_all(&mut **transaction)
            .await?;
        end(transaction, &[(&ids(&there)?, Why::CodeReplayed)], &Origin::system(now)).await?;
    }
    Ok(())
}
