//! The tables of contacts.

use async_trait::async_trait;
use flaghoist_runtime::names::UserId;
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use super::factors::lock_person;
use super::{PostgresStore, accounts, in_time, key, outbox, user};
use crate::contact::{Contact, ContactKind, Contacts};
use crate::store::StoreError;
use crate::store::contacts::{CodeDigest, ContactStore, PendingContact, Profile};
use crate::store::outbox::{Also, Outgoing};

#[async_trait]
impl ContactStore for PostgresStore {
    async fn contacts(&self, user: UserId, now: i64) -> Result<Contacts, StoreError> {
        in_time(contacts(self, user, now)).await
    }

    async fn begin_contact(
        &self,
        user: UserId,
        change: &PendingContact,
        message: &Outgoing,
        now: i64,
    ) -> Result<bool, StoreError> {
        settled!(begin(self, user, change, message, now))
    }

    async fn verify_contact(
        &self,
        user: UserId,
        kind: ContactKind,
        code: CodeDigest,
        also: &Also,
        now: i64,
    ) -> Result<bool, StoreError> {
        settled!(verify(self, user, kind, code, also, now))
    }

    async fn remove_contact(&self, user: UserId, kind: ContactKind, also: &Also, now: i64) -> Result<bool, StoreError> {
        settled!(remove(self, user, kind, also, now))
    }

    async fn people_of_contact(&self, contact: &Contact, max: u32) -> Result<Vec<UserId>, StoreError> {
        in_time(people(self, contact, max)).await
    }

    async fn people_with_untold_profile(&self, max: u32) -> Result<Vec<UserId>, StoreError> {
        in_time(untold(self, max)).await
    }

    async fn profile(&self, user: UserId) -> Result<Option<(Profile, i64)>, StoreError> {
        in_time(profile(self, user)).await
    }

    async fn profile_told(&self, user: UserId, version: i64) -> Result<(), StoreError> {
        settled!(told(self, user, version))
    }
}

fn read(row: &PgRow) -> Result<Contact, sqlx::Error> {
    let number = row.try_get("kind")?;
    let unknown = || sqlx::Error::Decode(format!("{number} is no kind of contact").into());
    Ok(Contact { kind: ContactKind::of_number(number).ok_or_else(unknown)?, value: row.try_get("value")? })
}

async fn contacts(store: &PostgresStore, user: UserId, now: i64) -> Result<Contacts, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT kind, value, verified_at FROM contacts WHERE user_id = $1
         UNION ALL
         SELECT kind, value, NULL FROM contact_changes WHERE user_id = $1 AND expires_at > $2
         ORDER BY kind",
    )
    .bind(key(&user))
    .bind(now)
    .fetch_all(&store.pool)
    .await?;
    let mut contacts = Contacts::default();
    for row in &rows {
        match row.try_get::<Option<i64>, _>("verified_at")? {
            Some(verified_at) => contacts.verified.push((read(row)?, verified_at)),
            None => contacts.pending.push(read(row)?),
        }
    }
    Ok(contacts)
}

async fn begin(
    store: &PostgresStore,
    user: UserId,
    change: &PendingContact,
    message: &Outgoing,
    now: i64,
) -> Result<bool, sqlx::Error> {
    let mut transaction = store.pool.begin().await?;
    let kept = sqlx::query(
        "INSERT INTO contact_changes (user_id, kind, value, code, expires_at)
         SELECT user_id, $2, $3, $4, $5 FROM accounts WHERE user_id = $1 AND deleting_at IS NULL
         ON CONFLICT (user_id, kind) DO UPDATE
         SET value = excluded.value, code = excluded.code, expires_at = excluded.expires_at",
    )
    .bind(key(&user))
    .bind(change.contact.kind.number())
    .bind(&change.contact.value)
    .bind(&change.code.0[..])
    .bind(change.expires_at)
    .execute(&mut *transaction)
    .await?;
    outbox::put(&mut transaction, message, now).await?;
    transaction.commit().await?;
    Ok(kept.rows_affected() > 0)
}

/// The row of the code decides: of many who bring it one finds it.
async fn verify(
    store: &PostgresStore,
    user: UserId,
    kind: ContactKind,
    code: CodeDigest,
    also: &Also,
    now: i64,
) -> Result<bool, sqlx::Error> {
    let mut transaction = store.pool.begin().await?;
    lock_person(&mut transaction, user).await?;
    let value: Option<String> = sqlx::query_scalar(
        "DELETE FROM contact_changes WHERE user_id = $1 AND kind = $2 AND code = $3 AND expires_at > $4 RETURNING value",
    )
    .bind(key(&user))
    .bind(kind.number())
    .bind(&code.0[..])
    .bind(now)
    .fetch_optional(&mut *transaction)
    .await?;
    let Some(value) = value else {
        transaction.rollback().await?;
        return Ok(false);
    };
    sqlx::query(
        "INSERT INTO contacts (user_id, kind, value, verified_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (user_id, kind) DO UPDATE SET value = excluded.value, verified_at = excluded.verified_at",
    )
    .bind(key(&user))
    .bind(kind.number())
    .bind(value)
    .bind(now)
    .execute(&mut *transaction)
    .await?;
    changed(&mut transaction, user, kind).await?;
    outbox::put_also(&mut transaction, also, now).await?;
    transaction.commit().await?;
    Ok(true)
}

async fn remove(
    store: &PostgresStore,
    user: UserId,
    kind: ContactKind,
    also: &Also,
    now: i64,
) -> Result<bool, sqlx::Error> {
    let mut transaction = store.pool.begin().await?;
    lock_person(&mut transaction, user).await?;
    let mut removed = 0;
    for statement in [
        "DELETE FROM contacts WHERE user_id = $1 AND kind = $2",
        "DELETE FROM contact_changes WHERE user_id = $1 AND kind = $2",
    ] {
        let gone = sqlx::query(statement).bind(key(&user)).bind(kind.number()).execute(&mut *transaction).await?;
        removed += gone.rows_affected();
    }
    if removed > 0 {
        changed(&mut transaction, user, kind).await?;
        outbox::put_also(&mut transaction, also, now).await?;
    }
    transaction.commit().await?;
    Ok(removed > 0)
}

/// Notes that applications are told otherwise, and ends the links that were sent to the address before.
async fn changed(connection: &mut PgConnection, user: UserId, kind: ContactKind) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE accounts SET profile_version = profile_version + 1 WHERE user_id = $1")
        .bind(key(&user))
        .execute(&mut *connection)
        .await?;
    if kind == ContactKind::Email {
        sqlx::query("DELETE FROM password_resets WHERE user_id = $1").bind(key(&user)).execute(connection).await?;
    }
    Ok(())
}

async fn people(store: &PostgresStore, contact: &Contact, max: u32) -> Result<Vec<UserId>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT accounts.user_id FROM contacts JOIN accounts ON accounts.user_id = contacts.user_id
         WHERE value = $1 AND kind = $2 AND NOT disabled AND deleting_at IS NULL LIMIT $3",
    )
    .bind(&contact.value)
    .bind(contact.kind.number())
    .bind(i64::from(max))
    .fetch_all(&store.pool)
    .await?;
    rows.iter().map(|row| user(row.try_get("user_id")?)).collect()
}

async fn untold(store: &PostgresStore, max: u32) -> Result<Vec<UserId>, sqlx::Error> {
    let rows = sqlx::query("SELECT user_id FROM accounts WHERE profile_told < profile_version LIMIT $1")
        .bind(i64::from(max))
        .fetch_all(&store.pool)
        .await?;
    rows.iter().map(|row| user(row.try_get("user_id")?)).collect()
}

/// The version is read first: what changes meanwhile is told again.
async fn profile(store: &PostgresStore, user: UserId) -> Result<Option<(Profile, i64)>, sqlx::Error> {
    let version: Option<i64> = sqlx::query_scalar("SELECT profile_version FROM accounts WHERE user_id = $1")
        .bind(key(&user))
        .fetch_optional(&store.pool)
        .await?;
    let account = accounts::by_user(&store.pool, user).await?;
    let (Some(version), Some(found)) = (version, account) else { return Ok(None) };
    let contacts = Contacts { pending: Vec::new(), ..contacts(store, user, i64::MAX).await? };
    Ok(Some((Profile { account: found.account, contacts }, version)))
}

async fn told(store: &PostgresStore, user: UserId, version: i64) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE accounts SET profile_told = $2 WHERE user_id = $1 AND profile_told < $2")
        .bind(key(&user))
        .bind(version)
        .execute(&store.pool)
        .await?;
    Ok(())
}
