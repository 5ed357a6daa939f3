//! What is kept in SQLite for further ways to prove who one is and to get tokens.

use async_trait::async_trait;

use super::{SqliteStore, Transaction, failed};
use crate::audit::Event;
use crate::authorization::Recognised;
use crate::error::StoreError;
use crate::moment::Moment;
use crate::refresh_token::Digest;
use crate::scope::Scopes;
use crate::session::Session;
use crate::store::grants::{Approved, Device, GrantStore, Once, Polled, UNUSED_KEPT};

pub(super) mod device;
mod registration;

/// Throws away up to `rows_max` rows of each kind that are over. Answers whether there is more.
pub(super) async fn purge(
    store: &SqliteStore,
    codes_before: Moment,
    rows_max: u32,
    now: Moment,
) -> Result<bool, sqlx::Error> {
    let mut more = false;
    for (delete, before) in [
        (
            "DELETE FROM used_ids WHERE id_sha256 IN (SELECT id_sha256 FROM used_ids WHERE expires_at <= ?1 LIMIT ?2)",
            // The clocks of pods differ by less than a minute.
            now.minus(std::time::Duration::from_secs(60)),
        ),
        (
            "DELETE FROM device_codes WHERE device_sha256 IN \
             (SELECT device_sha256 FROM device_codes WHERE expires_at <= ?1 LIMIT ?2)",
            codes_before,
        ),
        (
            "DELETE FROM device_codes WHERE device_sha256 IN \
             (SELECT device_sha256 FROM device_codes WHERE stage <> 'used' AND expires_at <= ?1 LIMIT ?2)",
            now.minus(UNUSED_KEPT),
        ),
        (
            "DELETE FROM registration_tokens WHERE token_sha256 IN \
             (SELECT token_sha256 FROM registration_tokens WHERE expires_at <= ?1 LIMIT ?2)",
            now,
        ),
        (
            "DELETE FROM code_guesses WHERE who_sha256 IN \
             (SELECT who_sha256 FROM code_guesses WHERE expires_at <= ?1 LIMIT ?2)",
            now,
        ),
    ] {
        let gone = sqlx::query(delete)
            .bind(before.0)
            .bind(i64::from(rows_max))
            .execute(&store.database.writer)
            .await?
            .rows_affected();
        more |= gone >= u64::from(rows_max);
    }
    Ok(more)
}

async fn use_once<'e>(
    executor: impl sqlx::SqliteExecutor<'e>,
    Once { id, over_at }: Once,
    now: Moment,
) -> Result<bool, sqlx::Error> {
    let first = sqlx::query(
        "INSERT INTO used_ids (id_sha256, expires_at) SELECT ?1, ?2 WHERE ?2 > ?3 ON CONFLICT (id_sha256) DO NOTHING",
    )
    .bind(id.0.as_slice())
    .bind(over_at.0)
    .bind(now.0)
    .execute(executor)
    .await?
    .rows_affected();
    Ok(first > 0)
}

/// Uses up the proof that comes with something, if one does. Answers whether that may go on: a proof that was used before stops it, and
/// whatever `transaction` has done is to be undone.
pub(super) async fn use_up(
    transaction: &mut Transaction,
    proof: Option<Once>,
    now: Moment,
) -> Result<bool, sqlx::Error> {
    match proof {
        Some(proof) => use_once(&mut **transaction, proof, now).await,
        None => Ok(true),
    }
}

/// Whether the proof was used before.
pub(super) async fn used_up(transaction: &mut Transaction, proof: Option<Once>) -> Result<bool, sqlx::Error> {
    let Some(Once { id, .. }) = proof else { return Ok(false) };
    let found = sqlx::query("SELECT 1 FROM used_ids WHERE id_sha256 = ?1").bind(id.0.as_slice());
    Ok(found.fetch_optional(&mut **transaction).await?.is_some())
}

#[async_trait]
impl GrantStore for SqliteStore {
    async fn use_once(&self, id: Digest, expires_at: Moment, now: Moment) -> Result<bool, StoreError> {
        let once = Once { id, over_at: expires_at };
        use_once(&self.database.writer, once, now).await.map_err(failed("note that something was used"))
    }

    async fn add_registration_token(
        &self,
        token: Digest,
        scopes: Scopes,
        uses: u32,
        expires_at: Moment,
        event: &Event,
    ) -> Result<(), StoreError> {
        let added = registration::add(self, token, scopes, uses, expires_at, event).await;
        added.map_err(failed("add a registration token"))
    }

    async fn registration_token(&self, token: Digest, now: Moment) -> Result<bool, StoreError> {
        registration::good(self, token, now).await.map_err(failed("look for a registration token"))
    }

    async fn use_registration_token(&self, token: Digest, now: Moment) -> Result<Option<Scopes>, StoreError> {
        registration::take(self, token, now).await.map_err(failed("use a registration token"))
    }

    async fn add_device(&self, device: &Device, max: u32, now: Moment) -> Result<bool, StoreError> {
        device::add(self, device, max, now).await.map_err(failed("add a device code"))
    }

    async fn pending_device(&self, user_code: Digest, now: Moment) -> Result<Option<(String, Scopes)>, StoreError> {
        device::pending(self, user_code, now).await.map_err(failed("look for a device code"))
    }

    async fn decide_device(
        &self,
        user_code: Digest,
        person: Option<&Recognised>,
        now: Moment,
    ) -> Result<bool, StoreError> {
        device::decide(self, user_code, person, now).await.map_err(failed("decide about a device code"))
    }

    async fn poll_device(
        &self,
        device_code: Digest,
        client_id: &str,
        opens: &(dyn for<'a> Fn(&'a Approved) -> Session + Send + Sync),
        proof: Option<Once>,
        sessions_max: u32,
        now: Moment,
    ) -> Result<Polled, StoreError> {
        let polled = device::poll(self, device_code, client_id, opens, proof, sessions_max, now).await;
        polled.map_err(failed("redeem a device code"))
    }

    async fn count_guess(&self, who: Digest, expires_at: Moment, now: Moment) -> Result<u32, StoreError> {
        device::count_guess(self, who, expires_at, now).await.map_err(failed("count a guess"))
    }

    async fn forgive_guess(&self, who: Digest) -> Result<(), StoreError> {
        device::forgive_guess(self, who).await.map_err(failed("take back a guess"))
    }
}
