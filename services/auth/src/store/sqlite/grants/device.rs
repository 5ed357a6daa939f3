//! The device flow in SQLite.

use flaghoist_runtime::names::SessionId;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use super::*;
use crate::audit::{Origin, Why};
use crate::store::sqlite::opening::{Opening, open_within};
use crate::store::sqlite::session::{end, ids};
use crate::store::sqlite::sign_in::{bytes, user_in, words};
use crate::store::sqlite::unreadable;

/// How much longer a device has to wait when it asks too soon (RFC 8628 §3.5), and how long at most.
const SLOWER_MS: (i64, i64) = (5_000, 60_000);

/// How much too early a question may be: what is sent in time does not arrive at even intervals.
const EARLY_MS: i64 = 500;

pub(super) async fn add(store: &SqliteStore, device: &Device, max: u32, now: Moment) -> Result<bool, sqlx::Error> {
    let added = sqlx::query(
        "INSERT INTO device_codes (device_sha256, user_code_sha256, client_id, scopes, address, session_id, stage, interval_ms, \
         next_poll_at, expires_at) SELECT ?1, ?2, ?3, ?4, ?5, ?6, 'pending', ?7, ?8, ?9 WHERE ?10 > \
         (SELECT count(*) FROM (SELECT 1 FROM device_codes WHERE address = ?5 AND expires_at > ?8 LIMIT ?10) AS found) \
         ON CONFLICT DO NOTHING",
    )
    .bind(device.device_code.0.as_slice())
    .bind(device.user_code.0.as_slice())
    .bind(&device.client_id)
    .bind(device.scopes.to_string())
    .bind(&device.address)
    .bind(device.session.0.as_bytes().as_slice())
    .bind(i64::try_from(device.interval.as_millis()).unwrap_or(i64::MAX))
    .bind(now.0)
    .bind(device.expires_at.0)
    .bind(i64::from(max))
    .execute(&store.database.writer)
    .await?
    .rows_affected();
    Ok(added > 0)
}

pub(super) async fn pending(
    store: &SqliteStore,
    user_code: Digest,
    now: Moment,
) -> Result<Option<(String, Scopes)>, sqlx::Error> {
    let found: Option<(String, String)> = sqlx::query_as(
        "SELECT client_id, scopes FROM device_codes WHERE user_code_sha256 = ?1 AND stage = 'pending' AND expires_at > ?2",
    )
    .bind(user_code.0.as_slice())
    .bind(now.0)
    .fetch_optional(&store.database.readers)
    .await?;
    Ok(found.map(|(client_id, scopes)| (client_id, Scopes::known_of(&scopes))))
}

pub(super) async fn decide(
    store: &SqliteStore,
    user_code: Digest,
    person: Option<&Recognised>,
    now: Moment,
) -> Result<bool, sqlx::Error> {
    let decided = match person {
        None => sqlx::query(
            "UPDATE device_codes SET stage = 'denied' WHERE user_code_sha256 = ?1 AND stage = 'pending' AND expires_at > ?2",
        )
        .bind(user_code.0.as_slice())
        .bind(now.0),
        Some(person) => sqlx::query(
            "UPDATE device_codes SET stage = 'approved', user_id = ?3, amr = ?4, authenticated_at = ?5 \
             WHERE user_code_sha256 = ?1 AND stage = 'pending' AND expires_at > ?2 \
             AND EXISTS (SELECT 1 FROM browser_sessions AS b WHERE b.user_id = ?3 AND b.authenticated_at = ?5)",
        )
        .bind(user_code.0.as_slice())
        .bind(now.0)
        .bind(bytes(&person.user))
        .bind(person.amr.join(" "))
        .bind(person.authenticated_at.0),
    };
    Ok(decided.execute(&store.database.writer).await?.rows_affected() > 0)
}

pub(super) async fn poll(
    store: &SqliteStore,
    device_code: Digest,
    client_id: &str,
    opens: &(dyn for<'a> Fn(&'a Approved) -> Session + Send + Sync),
    proof: Option<Once>,
    sessions_max: u32,
    now: Moment,
) -> Result<Polled, sqlx::Error> {
    let mut transaction = store.begin().await?;
    let approved = sqlx::query(
        "UPDATE device_codes SET stage = 'used' \
         WHERE device_sha256 = ?1 AND client_id = ?2 AND stage = 'approved' AND expires_at > ?3 \
         RETURNING session_id, scopes, user_id, amr, authenticated_at",
    )
    .bind(device_code.0.as_slice())
    .bind(client_id)
    .bind(now.0)
    .fetch_optional(&mut *transaction)
    .await?;
    let polled = match approved {
        Some(row) => {
            if !use_up(&mut transaction, proof, now).await? {
                return Ok(Polled::ProofUsed);
            }
            let approved = read(&row)?;
            let session = opens(&approved);
            let by = Origin::sign_in(&session, now);
            let opened = open_within(&mut transaction, Opening { session, sessions_max, by }).await?;
            Polled::Good(Box::new(approved), opened)
        }
        None => {
            let (slower, slowest) = SLOWER_MS;
            let row = sqlx::query(
                "UPDATE device_codes SET too_soon = next_poll_at > ?3, \
                 interval_ms = CASE WHEN next_poll_at > ?3 THEN min(interval_ms + ?4, ?5) ELSE interval_ms END, \
                 next_poll_at = ?3 - ?6 + CASE WHEN next_poll_at > ?3 THEN min(interval_ms + ?4, ?5) ELSE interval_ms END \
                 WHERE device_sha256 = ?1 AND client_id = ?2 RETURNING stage, too_soon, expires_at, session_id",
            )
            .bind(device_code.0.as_slice())
            .bind(client_id)
            .bind(now.0)
            .bind(slower)
            .bind(slowest)
            .bind(EARLY_MS)
            .fetch_all(&mut *transaction)
            .await?;
            match row.first() {
                None => Polled::Unknown,
                Some(found) => match (found.try_get::<&str, _>(0)?, found.try_get::<bool, _>(1)?) {
                    ("used", _) if used_up(&mut transaction, proof).await? => return Ok(Polled::ProofUsed),
                    ("used", _) => {
                        let there = sqlx::query("SELECT session_id FROM sessions WHERE session_id = ?1")
                            .bind(found.try_get::<&[u8], _>(3)?)
                            .fetch_all(&mut *transaction)
                            .await?;
                        end(&mut transaction, &[(&ids(&there)?, Why::CodeReplayed)], &Origin::system(now)).await?;
                        Polled::Replayed
                    }
                    _ if found.try_get::<i64, _>(2)? <= now.0 => Polled::Expired,
                    ("denied", _) => Polled::Denied,
                    (_, true) => Polled::TooSoon,
                    (_, false) if !use_up(&mut transaction, proof, now).await? => return Ok(Polled::ProofUsed),
                    (_, false) => Polled::Pending,
                },
            }
        }
    };
    transaction.commit().await?;
    Ok(polled)
}

fn read(row: &SqliteRow) -> Result<Approved, sqlx::Error> {
    Ok(Approved {
        session: SessionId(Uuid::from_slice(row.try_get(0)?).map_err(|_| unreadable("an id"))?),
        scopes: Scopes::known_of(row.try_get(1)?),
        person: Recognised {
            user: user_in(row, 2)?,
            amr: words(row.try_get(3)?),
            authenticated_at: Moment(row.try_get::<Option<i64>, _>(4)?.unwrap_or_default()),
        },
    })
}

pub(super) async fn count_guess(
    store: &SqliteStore,
    who: Digest,
    expires_at: Moment,
    now: Moment,
) -> Result<u32, sqlx::Error> {
    let guesses: i64 = sqlx::query_scalar(
        "INSERT INTO code_guesses (who_sha256, guesses, expires_at) VALUES (?1, 1, ?2) ON CONFLICT (who_sha256) DO UPDATE SET \
         guesses = CASE WHEN code_guesses.expires_at <= ?3 THEN 1 ELSE code_guesses.guesses + 1 END, \
         expires_at = CASE WHEN code_guesses.expires_at <= ?3 THEN ?2 ELSE code_guesses.expires_at END RETURNING guesses",
    )
    .bind(who.0.as_slice())
    .bind(expires_at.0)
    .bind(now.0)
    .fetch_one(&store.database.writer)
    .await?;
    Ok(u32::try_from(guesses).unwrap_or(u32::MAX))
}

pub(super) async fn forgive_guess(store: &SqliteStore, who: Digest) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE code_guesses SET guesses = guesses - 1 WHERE who_sha256 = ?1 AND guesses > 0")
        .bind(who.0.as_slice())
        .execute(&store.database.writer)
        .await?;
    Ok(())
}
