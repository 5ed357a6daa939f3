//! The tables of security keys and of ceremonies.

use async_trait::async_trait;
use flaghoist_runtime::names::UserId;
use flaghoist_runtime::time::{from_millis, millis};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use super::factors::{keep_first, keep_recovery_codes, strong_factors};
use super::{SqliteStore, failed, key, user};
use crate::login_token::LoginDigest;
use crate::security_key::StoredKey;
use crate::store::StoreError;
use crate::store::factors::FirstFactor;
use crate::store::keys::{Added, KeyRemoved, KeyStore};

#[async_trait]
impl KeyStore for SqliteStore {
    async fn keys(&self, user: UserId) -> Result<Vec<StoredKey>, StoreError> {
        of(self, user).await.map_err(failed)
    }

    async fn key(&self, credential_id: &[u8]) -> Result<Option<StoredKey>, StoreError> {
        find(self, credential_id).await.map_err(failed)
    }

    async fn add_key(&self, key: &StoredKey, first: FirstFactor<'_>, keys_max: u32) -> Result<Added, StoreError> {
        add(self, key, first, keys_max).await.map_err(failed)
    }

    async fn use_key(&self, used: &StoredKey, now: i64) -> Result<bool, StoreError> {
        take(self, used, now).await.map_err(failed)
    }

    async fn rename_key(&self, user: UserId, id: Uuid, name: &str) -> Result<Option<StoredKey>, StoreError> {
        rename(self, user, id, name).await.map_err(failed)
    }

    async fn remove_key(&self, user: UserId, id: Uuid, allow_last: bool) -> Result<KeyRemoved, StoreError> {
        remove(self, user, id, allow_last).await.map_err(failed)
    }

    async fn begin_ceremony(&self, of: LoginDigest, state: &str, expires_at: i64) -> Result<(), StoreError> {
        begin_ceremony(self, of, state, expires_at).await.map_err(failed)
    }

    async fn take_ceremony(&self, of: LoginDigest, now: i64) -> Result<Option<String>, StoreError> {
        take_ceremony(self, of, now).await.map_err(failed)
    }
}

fn read(row: &SqliteRow) -> Result<StoredKey, sqlx::Error> {
    let id = Uuid::from_slice(row.try_get("id")?).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
    Ok(StoredKey {
        id,
        user: user(row.try_get("user_id")?)?,
        credential_id: row.try_get("credential_id")?,
        name: row.try_get("name")?,
        passkey: row.try_get("passkey")?,
        credential: row.try_get("credential")?,
        counter: u32::try_from(row.try_get::<i64, _>("counter")?).unwrap_or(u32::MAX),
        created_at: from_millis(row.try_get("created_at")?),
        used_at: row.try_get::<Option<i64>, _>("used_at")?.map(from_millis),
    })
}

async fn of(store: &SqliteStore, user: UserId) -> Result<Vec<StoredKey>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT id, user_id, credential_id, name, passkey, credential, counter, created_at, used_at FROM security_keys
         WHERE user_id = ?1 ORDER BY created_at, id",
    )
    .bind(key(&user))
    .fetch_all(&store.database.readers)
    .await?;
    rows.iter().map(read).collect()
}

async fn find(store: &SqliteStore, credential_id: &[u8]) -> Result<Option<StoredKey>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT id, user_id, credential_id, name, passkey, credential, counter, created_at, used_at FROM security_keys
         WHERE credential_id = ?1",
    )
    .bind(credential_id)
    .fetch_optional(&store.database.readers)
    .await?;
    row.as_ref().map(read).transpose()
}

async fn add(
    store: &SqliteStore,
    new: &StoredKey,
    first: FirstFactor<'_>,
    keys_max: u32,
) -> Result<Added, sqlx::Error> {
    let mut transaction = store.write().await?;
    let there: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM accounts WHERE user_id = ?1)")
        .bind(key(&new.user))
        .fetch_one(&mut *transaction)
        .await?;
    if !there {
        transaction.rollback().await?;
        return Ok(Added::Gone);
    }
    let is_first = strong_factors(&mut transaction, new.user).await? == 0;
    let kept: i64 = sqlx::query_scalar("SELECT count(*) FROM security_keys WHERE user_id = ?1")
        .bind(key(&new.user))
        .fetch_one(&mut *transaction)
        .await?;
    if kept >= i64::from(keys_max) {
        transaction.rollback().await?;
        return Ok(Added::Full);
    }
    let added = sqlx::query(
        "INSERT INTO security_keys
             (id, user_id, credential_id, name, passkey, credential, counter, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (credential_id) DO NOTHING",
    )
    .bind(&new.id.as_bytes()[..])
    .bind(key(&new.user))
    .bind(&new.credential_id)
    .bind(&new.name)
    .bind(new.passkey)
    .bind(&new.credential)
    .bind(i64::from(new.counter))
    .bind(millis(new.created_at))
    .execute(&mut *transaction)
    .await?;
    if added.rows_affected() == 0 {
        transaction.rollback().await?;
        return Ok(Added::Known);
    }
    if is_first {
        keep_first(&mut transaction, new.user, first, millis(new.created_at)).await?;
    }
    transaction.commit().await?;
    Ok(Added::Done { first: is_first })
}

/// One statement decides: who comes second waits for the first and finds the count taken.
async fn take(store: &SqliteStore, used: &StoredKey, now: i64) -> Result<bool, sqlx::Error> {
    let taken = sqlx::query(
        "UPDATE security_keys SET credential = ?2, counter = ?3, used_at = ?4
         WHERE credential_id = ?1 AND (counter < ?3 OR (counter = 0 AND ?3 = 0))",
    )
    .bind(&used.credential_id)
    .bind(&used.credential)
    .bind(i64::from(used.counter))
    .bind(now)
    .execute(&store.database.writer)
    .await?;
    Ok(taken.rows_affected() > 0)
}

async fn rename(store: &SqliteStore, user: UserId, id: Uuid, name: &str) -> Result<Option<StoredKey>, sqlx::Error> {
    let row = sqlx::query(
        "UPDATE security_keys SET name = ?3 WHERE user_id = ?1 AND id = ?2
         RETURNING id, user_id, credential_id, name, passkey, credential, counter, created_at, used_at",
    )
    .bind(key(&user))
    .bind(&id.as_bytes()[..])
    .bind(name)
    .fetch_optional(&store.database.writer)
    .await?;
    row.as_ref().map(read).transpose()
}

async fn remove(store: &SqliteStore, user: UserId, id: Uuid, allow_last: bool) -> Result<KeyRemoved, sqlx::Error> {
    let mut transaction = store.write().await?;
    let removed = sqlx::query("DELETE FROM security_keys WHERE user_id = ?1 AND id = ?2")
        .bind(key(&user))
        .bind(&id.as_bytes()[..])
        .execute(&mut *transaction)
        .await?;
    if removed.rows_affected() == 0 {
        transaction.rollback().await?;
        return Ok(KeyRemoved::Unknown);
    }
    if strong_factors(&mut transaction, user).await? == 0 {
        if !allow_last {
            transaction.rollback().await?;
            return Ok(KeyRemoved::Last);
        }
        keep_recovery_codes(&mut transaction, user, &[], 0).await?;
    }
    transaction.commit().await?;
    Ok(KeyRemoved::Done)
}

async fn begin_ceremony(store: &SqliteStore, of: LoginDigest, state: &str, expires_at: i64) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO ceremonies (digest, state, expires_at) VALUES (?1, ?2, ?3)
         ON CONFLICT (digest) DO UPDATE SET state = excluded.state, expires_at = excluded.expires_at",
    )
    .bind(&of.0[..])
    .bind(state)
    .bind(expires_at)
    .execute(&store.database.writer)
    .await?;
    Ok(())
}

/// One statement takes it out, so of many who come with one answer one gets it.
async fn take_ceremony(store: &SqliteStore, of: LoginDigest, now: i64) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar("DELETE FROM ceremonies WHERE digest = ?1 AND expires_at > ?2 RETURNING state")
        .bind(&of.0[..])
        .bind(now)
        .fetch_optional(&store.database.writer)
        .await
}
