//! Clients in SQLite.

use flaghoist_runtime::token::RevocationTarget;
use sqlx::Row as _;
use sqlx::sqlite::{SqlitePool, SqliteRow};

use super::session::{end, ids};
use super::{SqliteStore, audit, revocation, unreadable};
use crate::audit::{Action, Event, Origin, Why};
use crate::client::Client;
use crate::issuer::client_name;
use crate::moment::Moment;
use crate::refresh_token::Digest;
use crate::scope::Scopes;
use crate::store::Addition;

pub(super) async fn all(readers: &SqlitePool) -> Result<Vec<Client>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT client_id, display_name, secret_sha256, scopes, created_at, registration, previous_sha256, previous_until FROM clients \
         WHERE deleted_at IS NULL",
    )
    .fetch_all(readers)
    .await?;
    Ok(rows.iter().filter_map(readable).collect())
}

pub(super) async fn get(readers: &SqlitePool, client_id: &str) -> Result<Option<Client>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT client_id, display_name, secret_sha256, scopes, created_at, registration, previous_sha256, previous_until FROM clients \
         WHERE client_id = ?1 AND deleted_at IS NULL",
    )
    .bind(client_id)
    .fetch_optional(readers)
    .await?;
    row.as_ref().map(read).transpose()
}

/// A client of the list. One that cannot be read is left out, so that the others are served; an admin can still remove it.
fn readable(row: &SqliteRow) -> Option<Client> {
    let client = read(row);
    if let Err(error) = &client {
        let client_id: &str = row.try_get(0).unwrap_or_default();
        tracing::error!(client_id, %error, "a client cannot be read and is not served: remove it, and register it anew");
    }
    client.ok()
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
        previous_secret: match (row.try_get::<Option<&[u8]>, _>(6)?, row.try_get(7)?) {
            (Some(previous), Some(until)) => Some((digest(previous)?, Moment(until))),
            _ => None,
        },
    })
}

pub(super) async fn add(
    store: &SqliteStore,
    client: &Client,
    clients_max: u32,
    by: &Origin,
) -> Result<Addition, sqlx::Error> {
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
    let event = Event::new(by, Action::ClientCreated, client_name(&client.id)).detail(client.scopes.to_string());
    audit::insert(&mut transaction, &[event]).await?;
    transaction.commit().await?;
    Ok(Addition::Done)
}

pub(super) async fn replace(
    store: &SqliteStore,
    before: &Client,
    client: &Client,
    event: &Event,
) -> Result<bool, sqlx::Error> {
    let mut transaction = store.begin().await?;
    let row = sqlx::query(
        "SELECT client_id, display_name, secret_sha256, scopes, created_at, registration, previous_sha256, previous_until FROM clients \
         WHERE client_id = ?1 AND deleted_at IS NULL",
    )
    .bind(&*before.id)
    .fetch_optional(&mut *transaction)
    .await?;
    if row.as_ref().map(read).transpose()?.as_ref() != Some(before) {
        return Ok(false);
    }
    sqlx::query(
        "UPDATE clients SET display_name = ?2, secret_sha256 = ?3, scopes = ?4, previous_sha256 = ?5, previous_until = ?6, registration = ?7 \
         WHERE client_id = ?1",
    )
    .bind(&*before.id)
    .bind(&client.display_name)
    .bind(client.secret.as_ref().map(|digest| digest.0.as_slice()))
    .bind(client.scopes.to_string())
    .bind(client.previous_secret.as_ref().map(|(digest, _)| digest.0.as_slice()))
    .bind(client.previous_secret.map(|(_, until)| until.0))
    .bind(serde_json::to_string(&client.registration).map_err(|error| sqlx::Error::Encode(error.into()))?)
    .execute(&mut *transaction)
    .await?;
    audit::insert(&mut transaction, std::slice::from_ref(event)).await?;
    transaction.commit().await?;
    Ok(true)
}

pub(super) async fn retire(store: &SqliteStore, client_id: &str, by: &Origin) -> Result<bool, sqlx::Error> {
    let mut transaction = store.begin().await?;
    let retired = sqlx::query("UPDATE clients SET deleted_at = ?2 WHERE client_id = ?1 AND deleted_at IS NULL")
        .bind(client_id)
        .bind(by.at.0)
        .execute(&mut *transaction)
        .await?
        .rows_affected();
    if retired > 0 {
        audit::insert(&mut transaction, &[Event::new(by, Action::ClientDeleted, client_name(client_id))]).await?;
        revocation::insert(&mut transaction, &RevocationTarget::Subject(client_id.to_owned()), by.at).await?;
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
    end(&mut transaction, &[(&ids(&found)?, Why::ClientDeleted)], &Origin::system(now)).await?;
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
