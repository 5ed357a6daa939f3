//! Clients in SQLite.

use flaghoist_runtime::token::RevocationTarget;
use sqlx::Row as _;
use sqlx::sqlite::{SqlitePool, SqliteRow};

use super::session::{end, ids};
use super::{SqliteStore, revocation, unreadable};
use crate::client::Client;
use crate::moment::Moment;
use crate::refresh_token::Digest;
use crate::scope::Scopes;
use crate::store::Addition;

pub(super) async fn all(readers: &SqlitePool) -> Result<Vec<Client>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT client_id, display_name, secret_sha256, scopes, created_at, registration FROM clients WHERE deleted_at IS NULL",
    )
    .fetch_all(readers)
    .await?;
    rows.iter().map(read).collect()
}

pub(super) async fn get(readers: &SqlitePool, client_id: &str) -> Result<Option<Client>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT client_id, display_name, secret_sha256, scopes, created_at, registration FROM clients \
         WHERE client_id = ?1 AND deleted_at IS NULL",
    )
    .bind(client_id)
    .fetch_optional(readers)
    .await?;
    row.as_ref().map(read).transpose()
}

fn read(row: &SqliteRow) -> Result<Client, sqlx::Error> {
    let digest = |bytes: &[u8]| Digest::kept(bytes).ok_or_else(|| unreadable("a digest"));
    Ok(Client {
        id: row.try_get::<&str, _>(0)?.into(),
        display_name: row.try_get(1)?,
        secret: row.try_get::<Option<&[u8]>, _>(2)?.map(digest).transpose()?,
        scopes: Scopes::known_of(row.try_get(3)?),
        created_at: Moment(row.try_get(4)?),
        registration: serde_json::from_str(row.try_get(5)?).map_err(|_| unreadable("a registration"))?,
    })
}

pub(super) async fn add(store: &SqliteStore, client: &Client, clients_max: u32) -> Result<Addition, sqlx::Error> {
    let mut transaction = store.begin().await?;
    let taken = sqlx::query("SELECT 1 FROM clients WHERE client_id = ?1")
        .bind(&*client.id)
        .fetch_optional(&mut *transaction)
        .await?;
    if taken.is_some() {
        return Ok(Addition::Exists);
    }
    let there: i64 = sqlx::query_scalar("SELECT count(*) FROM clients").fetch_one(&mut *transaction).await?;
    if there >= i64::from(clients_max) {
        return Ok(Addition::Full);
    }
    sqlx::query(
        "INSERT INTO clients (client_id, display_name, secret_sha256, scopes, created_at, registration) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )
    .bind(&*client.id)
    .bind(&client.display_name)
    .bind(client.secret.as_ref().map(|digest| digest.0.as_slice()))
    .bind(client.scopes.to_string())
    .bind(client.created_at.0)
    .bind(serde_json::to_string(&client.registration).map_err(|error| sqlx::Error::Encode(error.into()))?)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(Addition::Done)
}

pub(super) async fn retire(store: &SqliteStore, client_id: &str, now: Moment) -> Result<bool, sqlx::Error> {
    let mut transaction = store.begin().await?;
    let retired = sqlx::query("UPDATE clients SET deleted_at = ?2 WHERE client_id = ?1 AND deleted_at IS NULL")
        .bind(client_id)
        .bind(now.0)
        .execute(&mut *transaction)
        .await?
        .rows_affected();
    if retired > 0 {
        revocation::insert(&mut transaction, &RevocationTarget::Subject(client_id.to_owned()), now).await?;
    }
    transaction.commit().await?;
    Ok(retired > 0)
}

pub(super) async fn sweep(store: &SqliteStore, sessions_max: u32, now: Moment) -> Result<bool, sqlx::Error> {
    let mut transaction = store.begin().await?;
    let found = sqlx::query(
        "SELECT s.session_id FROM clients AS c CROSS JOIN sessions AS s ON s.client_id = c.client_id \
         WHERE c.deleted_at IS NOT NULL LIMIT ?1",
    )
    .bind(sessions_max)
    .fetch_all(&mut *transaction)
    .await?;
    end(&mut transaction, &ids(&found)?, now).await?;
    let consents = sqlx::query(
        "DELETE FROM consents WHERE (user_id, client_id) IN (SELECT n.user_id, n.client_id FROM clients AS c \
         CROSS JOIN consents AS n ON n.client_id = c.client_id WHERE c.deleted_at IS NOT NULL LIMIT ?1)",
    )
    .bind(i64::from(sessions_max))
    .execute(&mut *transaction)
    .await?
    .rows_affected();
    sqlx::query(
        "DELETE FROM clients WHERE deleted_at IS NOT NULL \
         AND NOT EXISTS (SELECT 1 FROM sessions WHERE sessions.client_id = clients.client_id) \
         AND NOT EXISTS (SELECT 1 FROM consents WHERE consents.client_id = clients.client_id)",
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(found.len() >= sessions_max as usize || consents >= u64::from(sessions_max))
}
