//! The tables of contacts.

use async_trait::async_trait;
use flaghoist_runtime::names::UserId;
use sqlx::{Row as _, SqliteConnection};

use super::{SqliteStore, failed, key, outbox, user};
use crate::contact::{Contact, ContactKind, Contacts};
use crate::store::StoreError;
use crate::store::contacts::{CodeDigest, ContactStore, PendingContact, Profile};
use crate::store::outbox::{Also, Outgoing};

#[async_trait]
impl ContactStore for SqliteStore {
    async fn contacts(&self, user: UserId, now: i64) -> Result<Contacts, StoreError> {
        Ok(self.people.by_user(user).await?.map_or_else(Contacts::default, |(_, kept)| kept.at(now)))
    }

    async fn begin_contact(
        &self,
        user: UserId,
        change: &PendingContact,
        message: &Outgoing,
        now: i64,
    ) -> Result<bool, StoreError> {
        begin(self, user, change, message, now).await.map_err(failed)
    }

    async fn verify_contact(
        &self,
        user: UserId,
        kind: ContactKind,
        code: CodeDigest,
        also: &Also,
        now: i64,
    ) -> Result<bool, StoreError> {
        verify(self, user, kind, code, also, now).await.map_err(failed)
    }

    async fn remove_contact(&self, user: UserId, kind: ContactKind, also: &Also, now: i64) -> Result<bool, StoreError> {
        remove(self, user, kind, also, now).await.map_err(failed)
    }

    async fn people_of_contact(&self, contact: &Contact, max: u32) -> Result<Vec<UserId>, StoreError> {
        people(self, contact, max).await.map_err(failed)
    }

    async fn people_with_untold_profile(&self, max: u32) -> Result<Vec<UserId>, StoreError> {
        untold(self, max).await.map_err(failed)
    }

    async fn profile(&self, user: UserId) -> Result<Option<(Profile, i64)>, StoreError> {
        // The version is read first: what changes meanwhile is told again.
        let Some(version) = profile_version(self, user).await.map_err(failed)? else { return Ok(None) };
        let found = self.people.by_user(user).await?;
        Ok(found.map(|(found, kept)| (Profile { account: found.account, contacts: kept.at(i64::MAX) }, version)))
    }

    async fn profile_told(&self, user: UserId, version: i64) -> Result<(), StoreError> {
        told(self, user, version).await.map_err(failed)
    }
}

fn known(number: i16) -> Result<ContactKind, sqlx::Error> {
    ContactKind::of_number(number).ok_or_else(|| sqlx::Error::Decode(format!("{number} is no kind of contact").into()))
}

/// The contacts of a person as they are kept: kind, value, and since when it is verified, or until when the code is good.
#[derive(Clone, Debug, Default)]
pub(super) struct KeptContacts {
    verified: Vec<(Contact, i64)>,
    pending: Vec<(Contact, i64)>,
}

impl KeptContacts {
    /// Reads them from lists in JSON.
    pub(super) fn read(verified: &str, pending: &str) -> Result<Self, sqlx::Error> {
        let read = |list: &str| {
            let rows: Vec<(i16, String, i64)> =
                serde_json::from_str(list).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
            let mut contacts = rows
                .into_iter()
                .map(|(kind, value, time)| Ok((Contact { kind: known(kind)?, value }, time)))
                .collect::<Result<Vec<_>, sqlx::Error>>()?;
            contacts.sort_by_key(|(contact, _)| contact.kind.number());
            Ok::<_, sqlx::Error>(contacts)
        };
        Ok(Self { verified: read(verified)?, pending: read(pending)? })
    }

    /// What of them counts at `now`.
    pub(super) fn at(self, now: i64) -> Contacts {
        let pending = self.pending.into_iter().filter(|(_, expires_at)| *expires_at > now);
        Contacts { verified: self.verified, pending: pending.map(|(contact, _)| contact).collect() }
    }
}

async fn begin(
    store: &SqliteStore,
    user: UserId,
    change: &PendingContact,
    message: &Outgoing,
    now: i64,
) -> Result<bool, sqlx::Error> {
    let mut transaction = store.write().await?;
    let kept = sqlx::query(
        "INSERT INTO contact_changes (user_id, kind, value, code, expires_at)
         SELECT user_id, ?2, ?3, ?4, ?5 FROM accounts WHERE user_id = ?1 AND deleting_at IS NULL
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
    store: &SqliteStore,
    user: UserId,
    kind: ContactKind,
    code: CodeDigest,
    also: &Also,
    now: i64,
) -> Result<bool, sqlx::Error> {
    let mut transaction = store.write().await?;
    let value: Option<String> = sqlx::query_scalar(
        "DELETE FROM contact_changes WHERE user_id = ?1 AND kind = ?2 AND code = ?3 AND expires_at > ?4 RETURNING value",
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
        "INSERT INTO contacts (user_id, kind, value, verified_at) VALUES (?1, ?2, ?3, ?4)
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
    store: &SqliteStore,
    user: UserId,
    kind: ContactKind,
    also: &Also,
    now: i64,
) -> Result<bool, sqlx::Error> {
    let mut transaction = store.write().await?;
    let mut removed = 0;
    for statement in [
        "DELETE FROM contacts WHERE user_id = ?1 AND kind = ?2",
        "DELETE FROM contact_changes WHERE user_id = ?1 AND kind = ?2",
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
async fn changed(connection: &mut SqliteConnection, user: UserId, kind: ContactKind) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE accounts SET profile_version = profile_version + 1 WHERE user_id = ?1")
        .bind(key(&user))
        .execute(&mut *connection)
        .await?;
    if kind == ContactKind::Email {
        sqlx::query("DELETE FROM password_resets WHERE user_id = ?1").bind(key(&user)).execute(connection).await?;
    }
    Ok(())
}

async fn people(store: &SqliteStore, contact: &Contact, max: u32) -> Result<Vec<UserId>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT accounts.user_id FROM contacts JOIN accounts ON accounts.user_id = contacts.user_id
         WHERE value = ?1 AND kind = ?2 AND disabled = 0 AND deleting_at IS NULL LIMIT ?3",
    )
    .bind(&contact.value)
    .bind(contact.kind.number())
    .bind(max)
    .fetch_all(&store.database.readers)
    .await?;
    rows.iter().map(|row| user(row.try_get("user_id")?)).collect()
}

async fn untold(store: &SqliteStore, max: u32) -> Result<Vec<UserId>, sqlx::Error> {
    let rows = sqlx::query("SELECT user_id FROM accounts WHERE profile_told < profile_version LIMIT ?1")
        .bind(max)
        .fetch_all(&store.database.readers)
        .await?;
    rows.iter().map(|row| user(row.try_get("user_id")?)).collect()
}

async fn profile_version(store: &SqliteStore, user: UserId) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar("SELECT profile_version FROM accounts WHERE user_id = ?1")
        .bind(key(&user))
        .fetch_optional(&store.database.readers)
        .await
}

async fn told(store: &SqliteStore, user: UserId, version: i64) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE accounts SET profile_told = ?2 WHERE user_id = ?1 AND profile_told < ?2")
        .bind(key(&user))
        .bind(version)
        .execute(&store.database.writer)
        .await?;
    Ok(())
}
