//! Initial access tokens of dynamic registration in PostgreSQL.

use super::*;
use crate::store::postgres::audit;

pub(super) async fn add(
    store: &PostgresStore,
    token: Digest,
    scopes: Scopes,
    uses: u32,
    expires_at: Moment,
    event: &Event,
) -> Result<(), Error> {
    let mut transaction = store.begin().await?;
    sqlx::query(
        "INSERT INTO registration_tokens (token_sha256, scopes, uses_left, expires_at) VALUES ($1, $2, $3, $4)",
    )
    .bind(token.0.as_slice())
    .bind(scopes.to_string())
    .bind(i64::from(uses))
    .bind(expires_at.0)
    .execute(&mut *transaction)
    .await?;
    audit::insert(&mut transaction, std::slice::from_ref(event)).await?;
    transaction.commit().await
}

pub(super) async fn good(store: &PostgresStore, token: Digest, now: Moment) -> Result<bool, Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM registration_tokens WHERE token_sha256 = $1 AND uses_left > 0 AND expires_at > $2)",
    )
    .bind(token.0.as_slice())
    .bind(now.0)
    .fetch_one(&store.pool)
    .await
}

pub(super) async fn take(store: &PostgresStore, token: Digest, now: Moment) -> Result<Option<Scopes>, Error> {
    let scopes: Option<String> = sqlx::query_scalar(
        "UPDATE registration_tokens SET uses_left = uses_left - 1 \
         WHERE token_sha256 = $1 AND uses_left > 0 AND expires_at > $2 RETURNING scopes",
    )
    .bind(token.0.as_slice())
    .bind(now.0)
    .fetch_optional(&store.pool)
    .await?;
    Ok(scopes.map(|scopes| Scopes::known_of(&scopes)))
}
