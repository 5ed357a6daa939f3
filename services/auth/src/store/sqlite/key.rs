//! Signing keys in SQLite.

use flaghoist_runtime::token::RevocationTarget;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteExecutor};

use super::{SqliteStore, Transaction, audit, count, revocation, unreadable};
use crate::algorithm::Algorithm;
use crate::audit::{Action, Event, Origin};
use crate::key::{self, KeyChange, KeyRefusal, KeyTimes, Sealed, SigningKey};
use crate::moment::Moment;
use crate::store::Resealed;

pub(super) async fn advance(
    store: &SqliteStore,
    spare: Vec<SigningKey>,
    times: &KeyTimes,
    now: Moment,
) -> Result<Vec<SigningKey>, sqlx::Error> {
    let mut transaction = store.begin().await?;
    let before = all(&mut *transaction).await?;
    let mut keys = before.clone();
    if key::advance(&mut keys, spare.into_iter(), times, now) {
        keep(&mut transaction, &before, &keys, None, &Origin::system(now)).await?;
        transaction.commit().await?;
    }
    Ok(keys)
}

pub(super) async fn change(
    store: &SqliteStore,
    change: &KeyChange,
    spare: Vec<SigningKey>,
    times: &KeyTimes,
    by: &Origin,
) -> Result<Result<Vec<SigningKey>, KeyRefusal>, sqlx::Error> {
    let mut transaction = store.begin().await?;
    let before = all(&mut *transaction).await?;
    let mut keys = before.clone();
    match key::change(&mut keys, change, spare.into_iter(), times, by.at) {
        Err(refusal) => return Ok(Err(refusal)),
        Ok(false) => {}
        Ok(true) => {
            keep(&mut transaction, &before, &keys, Some(change), by).await?;
            if let KeyChange::Revoke { kid, .. } = change {
                revocation::insert(&mut transaction, &RevocationTarget::Key(kid.clone()), by.at).await?;
            }
            transaction.commit().await?;
        }
    }
    Ok(Ok(keys))
}

/// Writes what is different, and the events that tell of it.
async fn keep(
    transaction: &mut Transaction,
    before: &[SigningKey],
    keys: &[SigningKey],
    change: Option<&KeyChange>,
    by: &Origin,
) -> Result<(), sqlx::Error> {
    for gone in before.iter().filter(|key| keys.iter().all(|kept| kept.kid != key.kid)) {
        for delete in ["DELETE FROM signing_keys WHERE kid = ?1", "DELETE FROM id_token_keys WHERE kid = ?1"] {
            sqlx::query(delete).bind(&gone.kid).execute(&mut **transaction).await?;
        }
    }
    for changed in keys.iter().filter(|key| !before.contains(key)) {
        write(transaction, changed).await?;
    }
    audit::insert(transaction, &key::events(before, keys, change, by)).await
}

pub(super) async fn reseal(store: &SqliteStore, resealed: &[Resealed], by: &Origin) -> Result<u64, sqlx::Error> {
    let mut transaction = store.begin().await?;
    let mut events = Vec::new();
    for Resealed { kid, before, sealed } in resealed {
        let mut changed = 0;
        for update in [
            "UPDATE signing_keys SET sealed_private = ?3, sealed_with = ?4 WHERE kid = ?1 AND sealed_with = ?2",
            "UPDATE id_token_keys SET sealed_private = ?3, sealed_with = ?4 WHERE kid = ?1 AND sealed_with = ?2",
        ] {
            let query = sqlx::query(update).bind(kid).bind(before).bind(&sealed.bytes).bind(&sealed.with);
            changed += query.execute(&mut *transaction).await?.rows_affected();
        }
        if changed > 0 {
            events.push(Event::new(by, Action::KeyResealed, key::key_name(kid)).detail(&sealed.with));
        }
    }
    audit::insert(&mut transaction, &events).await?;
    transaction.commit().await?;
    Ok(count(events.len()))
}

pub(super) async fn all(executor: impl SqliteExecutor<'_>) -> Result<Vec<SigningKey>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT kid, public_key, sealed_private, sealed_with, published_at, activate_at, retire_at, remove_at, due_at, 'EdDSA' \
         FROM signing_keys UNION ALL \
         SELECT kid, public_key, sealed_private, sealed_with, published_at, activate_at, retire_at, remove_at, due_at, algorithm \
         FROM id_token_keys",
    )
    .fetch_all(executor)
    .await?;
    rows.iter().map(read).collect()
}

fn read(row: &SqliteRow) -> Result<SigningKey, sqlx::Error> {
    Ok(SigningKey {
        kid: row.try_get(0)?,
        public: row.try_get(1)?,
        sealed: Sealed { bytes: row.try_get(2)?, with: row.try_get(3)? },
        published_at: Moment(row.try_get(4)?),
        activate_at: row.try_get::<Option<i64>, _>(5)?.map(Moment),
        retire_at: row.try_get::<Option<i64>, _>(6)?.map(Moment),
        remove_at: row.try_get::<Option<i64>, _>(7)?.map(Moment),
        due_at: row.try_get::<Option<i64>, _>(8)?.map(Moment),
        algorithm: Algorithm::named(row.try_get(9)?).ok_or_else(|| unreadable("an algorithm"))?,
    })
}

async fn write(transaction: &mut Transaction, key: &SigningKey) -> Result<(), sqlx::Error> {
    // The version before reads all of `signing_keys` as Ed25519 keys, so others have a table of their own.
    let statement = match key.algorithm {
        Algorithm::EdDsa => {
            "INSERT INTO signing_keys (kid, public_key, sealed_private, sealed_with, published_at, activate_at, retire_at, \
                    remove_at, due_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) \
             ON CONFLICT (kid) DO UPDATE SET activate_at = excluded.activate_at, retire_at = excluded.retire_at, \
                    remove_at = excluded.remove_at, due_at = excluded.due_at"
        }
        Algorithm::Rs256 | Algorithm::Es256 => {
            "INSERT INTO id_token_keys (kid, public_key, sealed_private, sealed_with, published_at, activate_at, retire_at, \
                    remove_at, due_at, algorithm) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) \
             ON CONFLICT (kid) DO UPDATE SET activate_at = excluded.activate_at, retire_at = excluded.retire_at, \
                    remove_at = excluded.remove_at, due_at = excluded.due_at"
        }
    };
    let query = sqlx::query(statement)
        .bind(&key.kid)
        .bind(&key.public)
        .bind(&key.sealed.bytes)
        .bind(&key.sealed.with)
        .bind(key.published_at.0)
        .bind(key.activate_at.map(|time| time.0))
        .bind(key.retire_at.map(|time| time.0))
        .bind(key.remove_at.map(|time| time.0))
        .bind(key.due_at.map(|time| time.0));
    let query = if key.algorithm == Algorithm::EdDsa { query } else { query.bind(key.algorithm.name()) };
    query.execute(&mut **transaction).await?;
    Ok(())
}
