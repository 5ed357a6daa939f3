//! The table of attempts. What belongs to one commit is read first, changed in [`Counts`], and written by one statement.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sqlx::{Row as _, SqliteConnection};
use uuid::Uuid;

use super::{SqliteStore, json};
use crate::throttle::{
    AttemptKey, Attempts, Decision, Delays, FORGET_AFTER, KNOWN_FOR, STRANGERS, millis, still_known,
};

/// Attempts, as they are in a transaction.
#[derive(Debug, Default)]
pub(super) struct Counts {
    found: BTreeMap<AttemptKey, Attempts>,
    changed: BTreeSet<AttemptKey>,
    /// Accounts that have an address more that is known, with how many they may have.
    known_more: BTreeMap<[u8; 16], u32>,
}

impl Counts {
    /// The attempts of `keys`, and of all unknown addresses at their accounts.
    pub(super) async fn load(
        connection: &mut SqliteConnection,
        keys: impl IntoIterator<Item = AttemptKey>,
    ) -> Result<Self, sqlx::Error> {
        let keys: BTreeSet<_> = keys.into_iter().flat_map(|key| [key, strangers_of(key)]).collect();
        let keys: Vec<_> = keys.into_iter().map(texts).collect();
        let rows = sqlx::query(
            "SELECT a.account, a.address, a.count, a.next_at, a.known_at, a.updated_at
             FROM json_each(?1) AS j
             CROSS JOIN attempts AS a ON a.account = unhex(j.value ->> 0) AND a.address = unhex(j.value ->> 1)",
        )
        .bind(json(&keys)?)
        .fetch_all(connection)
        .await?;
        let mut counts = Self::default();
        for row in &rows {
            let key = AttemptKey { account: digest(row.try_get(0)?)?, address: digest(row.try_get(1)?)? };
            let attempts = Attempts {
                count: row.try_get(2)?,
                next_at: row.try_get(3)?,
                known_at: row.try_get(4)?,
                updated_at: row.try_get(5)?,
            };
            counts.found.insert(key, attempts);
        }
        Ok(counts)
    }

    /// Counts an attempt, or says how long to wait.
    pub(super) fn reserve(&mut self, key: AttemptKey, delays: Delays, now: i64) -> Option<Duration> {
        let strangers = strangers_of(key);
        match delays.decide(self.found.get(&key).copied(), self.found.get(&strangers).copied(), now) {
            Decision::Wait(wait) => Some(wait),
            Decision::Go { here, strangers: together } => {
                self.put(key, here);
                if let Some(together) = together {
                    self.put(strangers, together);
                }
                None
            }
        }
    }

    /// Forgets the attempts from an address, which with `known_max` is known from now on.
    pub(super) fn succeeded(&mut self, key: AttemptKey, known_max: Option<u32>, now: i64) {
        let known_at = self.known_at(key);
        let kept_at = known_max.map(|_| now).or(known_at);
        self.put(key, Attempts { count: 0, next_at: 0, known_at: kept_at, updated_at: now });
        if !still_known(known_at, now) {
            let strangers = strangers_of(key);
            if let Some(together) = self.found.get(&strangers).copied() {
                self.put(strangers, Attempts { count: together.count.saturating_sub(1), ..together });
            }
            self.known_more.extend(known_max.map(|known_max| (key.account, known_max)));
        }
    }

    /// Makes an address known.
    pub(super) fn make_known(&mut self, key: AttemptKey, known_max: u32, now: i64) {
        if !self.known(key, now) {
            self.known_more.insert(key.account, known_max);
        }
        let attempts = self.found.get(&key).copied().unwrap_or_default();
        self.put(key, Attempts { known_at: Some(now), updated_at: now, ..attempts });
    }

    /// Whether an address is known.
    pub(super) fn known(&self, key: AttemptKey, now: i64) -> bool {
        still_known(self.known_at(key), now)
    }

    /// Whether anything is to be written.
    pub(super) fn changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Writes what has changed.
    pub(super) async fn keep(&self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let rows: Vec<_> = self
            .changed
            .iter()
            .filter_map(|key| self.found.get(key).map(|attempts| (*key, attempts)))
            .map(|(key, kept)| (texts(key), (kept.count, kept.next_at, kept.known_at, kept.updated_at)))
            .collect();
        sqlx::query(
            "INSERT INTO attempts (account, address, count, next_at, known_at, updated_at)
             SELECT unhex(value ->> '$[0][0]'), unhex(value ->> '$[0][1]'), value ->> '$[1][0]', value ->> '$[1][1]',
                    value ->> '$[1][2]', value ->> '$[1][3]'
             FROM json_each(?1) WHERE true
             ON CONFLICT (account, address) DO UPDATE SET count = excluded.count, next_at = excluded.next_at,
                known_at = excluded.known_at, updated_at = excluded.updated_at",
        )
        .bind(json(&rows)?)
        .execute(&mut *connection)
        .await?;
        for (account, known_max) in &self.known_more {
            forget_known(connection, *account, *known_max).await?;
        }
        Ok(())
    }

    fn known_at(&self, key: AttemptKey) -> Option<i64> {
        self.found.get(&key).and_then(|attempts| attempts.known_at)
    }

    fn put(&mut self, key: AttemptKey, attempts: Attempts) {
        self.found.insert(key, attempts);
        self.changed.insert(key);
    }
}

fn strangers_of(key: AttemptKey) -> AttemptKey {
    AttemptKey { address: STRANGERS, ..key }
}

/// A key in hexadecimal, as `unhex` takes it.
fn texts(key: AttemptKey) -> (String, String) {
    let text = |digest| Uuid::from_bytes(digest).simple().to_string();
    (text(key.account), text(key.address))
}

fn digest(bytes: &[u8]) -> Result<[u8; 16], sqlx::Error> {
    bytes.try_into().map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

/// Forgets the oldest known addresses of an account beyond so many.
async fn forget_known(connection: &mut SqliteConnection, account: [u8; 16], known_max: u32) -> Result<(), sqlx::Error> {
    sqlx::query(
        "DELETE FROM attempts WHERE account = ?1 AND address IN
            (SELECT address FROM attempts WHERE account = ?1 AND known_at IS NOT NULL
             ORDER BY known_at DESC, address LIMIT -1 OFFSET ?2)",
    )
    .bind(&account[..])
    .bind(known_max)
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn forget(store: &SqliteStore, now: i64, rows_max: u32) -> Result<(), sqlx::Error> {
    let mut transaction = store.write().await?;
    sqlx::query("DELETE FROM attempts WHERE updated_at < ?1 AND (known_at IS NULL OR known_at < ?2)")
        .bind(now - millis(FORGET_AFTER))
        .bind(now - millis(KNOWN_FOR))
        .execute(&mut *transaction)
        .await?;
    // Addresses that nobody ever signed in from go first.
    sqlx::query(
        "DELETE FROM attempts WHERE (account, address) IN
            (SELECT account, address FROM attempts ORDER BY known_at IS NULL, updated_at DESC LIMIT -1 OFFSET ?1)",
    )
    .bind(rows_max)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await
}
