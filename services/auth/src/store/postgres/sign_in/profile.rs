//! What login says about people, in PostgreSQL.

use super::*;
use crate::profile::Profile;

type Columns = (String, String, String, bool, String, bool, String);

pub(super) async fn get(store: &PostgresStore, user: UserId) -> Result<Option<Profile>, Error> {
    let row: Option<Columns> = sqlx::query_as(
        "SELECT display_name, handle, email, email_verified, phone_number, phone_number_verified, address \
         FROM profiles WHERE user_id = $1",
    )
    .bind(bytes(&user))
    .fetch_optional(&store.pool)
    .await?;
    Ok(row.map(|(display_name, handle, email, email_verified, phone_number, phone_number_verified, address)| Profile {
        display_name,
        handle,
        email,
        email_verified,
        phone_number,
        phone_number_verified,
        address,
    }))
}

/// Keeps what is said about a person, of whom anything may have been kept before.
pub(super) async fn put(transaction: &mut Transaction, user: UserId, profile: &Profile) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO profiles (user_id, display_name, handle, email, email_verified, phone_number, phone_number_verified, address) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
         ON CONFLICT (user_id) DO UPDATE SET display_name = excluded.display_name, handle = excluded.handle, \
             email = excluded.email, email_verified = excluded.email_verified, phone_number = excluded.phone_number, \
             phone_number_verified = excluded.phone_number_verified, address = excluded.address",
    )
    .bind(bytes(&user))
    .bind(&profile.display_name)
    .bind(&profile.handle)
    .bind(&profile.email)
    .bind(profile.email_verified)
    .bind(&profile.phone_number)
    .bind(profile.phone_number_verified)
    .bind(&profile.address)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

pub(super) async fn set(store: &PostgresStore, user: UserId, profile: &Profile) -> Result<bool, Error> {
    let set = sqlx::query(
        "UPDATE profiles SET display_name = $2, handle = $3, email = $4, email_verified = $5, \
             phone_number = $6, phone_number_verified = $7, address = $8 WHERE user_id = $1",
    )
    .bind(bytes(&user))
    .bind(&profile.display_name)
    .bind(&profile.handle)
    .bind(&profile.email)
    .bind(profile.email_verified)
    .bind(&profile.phone_number)
    .bind(profile.phone_number_verified)
    .bind(&profile.address)
    .execute(&store.pool)
    .await?
    .rows_affected();
    Ok(set > 0)
}
