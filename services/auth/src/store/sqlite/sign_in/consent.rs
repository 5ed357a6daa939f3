//! What people have allowed clients, in SQLite.

use super::*;

pub(super) async fn get(store: &SqliteStore, user: UserId, client_id: &str) -> Result<Option<Scopes>, sqlx::Error> {
    let scopes: Option<String> =
        sqlx::query_scalar("SELECT scopes FROM consents WHERE user_id = ?1 AND client_id = ?2")
            .bind(bytes(&user))
            .bind(client_id)
            .fetch_optional(&store.database.readers)
            .await?;
    Ok(scopes.map(|scopes| Scopes::known_of(&scopes)))
}

pub(super) async fn add(
    store: &SqliteStore,
    user: UserId,
    client_id: &str,
    scopes: Scopes,
    now: Moment,
) -> Result<(), sqlx::Error> {
    let mut transaction = store.begin().await?;
    let before: Option<String> =
        sqlx::query_scalar("SELECT scopes FROM consents WHERE user_id = ?1 AND client_id = ?2")
            .bind(bytes(&user))
            .bind(client_id)
            .fetch_optional(&mut *transaction)
            .await?;
    let all = scopes | before.map(|before| Scopes::known_of(&before)).unwrap_or_default();
    sqlx::query(
        "INSERT INTO consents (user_id, client_id, scopes, updated_at) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT (user_id, client_id) DO UPDATE SET scopes = excluded.scopes, updated_at = excluded.updated_at",
    )
    .bind(bytes(&user))
    .bind(client_id)
    .bind(all.to_string())
    .bind(now.0)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(())
}

pub(super) async fn list(
    store: &SqliteStore,
    user: UserId,
    after: &str,
    limit: u32,
) -> Result<Vec<Consent>, sqlx::Error> {
    let rows: Vec<(String, String, i64)> = sqlx::query_as(
        "SELECT client_id, scopes, updated_at FROM consents WHERE user_id = ?1 AND client_id > ?2 \
         ORDER BY client_id LIMIT ?3",
    )
    .bind(bytes(&user))
    .bind(after)
    .bind(i64::from(limit))
    .fetch_all(&store.database.readers)
    .await?;
    let consent = |(client_id, scopes, updated_at): (String, String, i64)| Consent {
        client_id,
        scopes: Scopes::known_of(&scopes),
        updated_at: Moment(updated_at),
    };
    Ok(rows.into_iter().map(consent).collect())
}

pub(super) async fn revoke(
    store: &SqliteStore,
    user: UserId,
    client_id: &str,
    now: Moment,
) -> Result<bool, sqlx::Error> {
    let mut transaction = store.begin().await?;
    let forgotten = sqlx::query("DELETE FROM consents WHERE user_id = ?1 AND client_id = ?2")
        .bind(bytes(&user))
        .bind(client_id)
        .execute(&mut *transaction)
        .await?
        .rows_affected();
    // What was allowed and not fetched yet. There may be no consent beside it: a client of the installation needs none.
    let devices = sqlx::query("DELETE FROM device_codes WHERE user_id = ?1 AND client_id = ?2 AND stage = 'approved'")
        .bind(bytes(&user))
        .bind(client_id)
        .execute(&mut *transaction)
        .await?
        .rows_affected();
    let codes = sqlx::query("DELETE FROM codes WHERE user_id = ?1 AND used_at IS NULL AND code ->> 'client_id' = ?2")
        .bind(bytes(&user))
        .bind(client_id)
        .execute(&mut *transaction)
        .await?
        .rows_affected();
    if forgotten == 0 {
        transaction.commit().await?;
        return Ok(devices + codes > 0);
    }
    let found = sqlx::query("SELECT session_id FROM sessions WHERE user_id = ?1 AND client_id = ?2")
        .bind(bytes(&user))
        .bind(client_id)
        .fetch_all(&mut *transaction)
        .await?;
    let by = Origin::new(Actor::Person(user), now);
    end(&mut transaction, &[(&ids(&found)?, Why::Revoked)], &by).await?;
    transaction.commit().await?;
    Ok(true)
}
