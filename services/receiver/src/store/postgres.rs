//! Devices and positions in a PostgreSQL database that several pods share.
//!
//! People are divided over a few lanes, the same on every pod, whose locks are advisory ones. The acknowledgements of a batch are one
//! statement, which holds its lanes together with other such statements (`acknowledge.rs`). Everything else is a transaction that
//! has its lanes alone, from before it looks until it is committed: so what was decided by looking still holds when it is written,
//! and a stream that opens sees every acknowledgement that was answered before. All take lanes in the same order: no two pods
//! ever wait for each other.

mod acknowledge;
mod plan;
mod sql;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use flaghoist_runtime::Dependency;
use flaghoist_runtime::names::{ConversationId, DeviceId, UserId};
use flaghoist_runtime::postgres::{self, OpenError};
use flaghoist_runtime::time::{from_millis, millis};
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPool, PgRow};
use sqlx::{AssertSqlSafe, Error, Postgres, Row as _};
use uuid::Uuid;

use super::{Device, DeviceKey, Store, StoreError, Write, Written};
use crate::stream::Position;
use acknowledge::Acknowledgements;
use plan::{Fate, Plan, Row};

pub(super) static MIGRATOR: Migrator = sqlx::migrate!("migrations/postgres");

/// How many lanes there are. Pods of every version must agree.
const LANES: u8 = 8;

/// The first half of the advisory locks of this service, `recv` in ASCII. Those of other services in the same database differ.
const LOCKS: i32 = 0x7265_6376;

/// How long a transaction may take in all. The server ends a statement sooner; this is for a server that is not heard of.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// How often a transaction is tried that was in another's way.
const TRIES_MAX: usize = 5;

/// How many connections in a row may turn out to be broken: a restart of the server breaks all of the pool.
const BROKEN_MAX: usize = 300;

type Transaction = sqlx::Transaction<'static, Postgres>;

/// Devices and positions in a PostgreSQL database.
#[derive(Clone, Debug)]
pub(crate) struct PostgresStore {
    pool: PgPool,
    devices_max: u32,
    /// Whether the database takes the statement of `acknowledge.rs`.
    at_once: Arc<AtomicBool>,
}

impl PostgresStore {
    /// Opens the database and brings its tables up to date; a person may have `devices_max` devices. Waits for a server that is not
    /// there yet.
    pub(crate) async fn open(
        address: &PgConnectOptions,
        connections_max: u32,
        devices_max: u32,
    ) -> Result<Self, OpenError> {
        let pool = postgres::open(address, "receiver", connections_max, &MIGRATOR).await?;
        Ok(Self { pool, devices_max, at_once: Arc::new(AtomicBool::new(true)) })
    }

    /// Says from now on whether the database is there.
    pub(crate) fn watch(&self, dependency: Dependency) {
        postgres::watch(&self.pool, dependency);
    }

    /// Begins a transaction that has some lanes alone.
    async fn begin(&self, lanes: &[i32]) -> sqlx::Result<Transaction> {
        // One round trip. Each statement after it sees what was committed before the locks were had.
        let mut statement = String::from("BEGIN");
        for lane in lanes {
            // Writing to a string does not fail.
            let _ok = write!(statement, "; SELECT pg_advisory_xact_lock({LOCKS}, {lane})");
        }
        self.unbroken(|| self.pool.begin_with(AssertSqlSafe(statement.clone()))).await
    }

    /// Does something that may simply be done again on another connection when the first turns out to be broken.
    async fn unbroken<T, Done: Future<Output = sqlx::Result<T>>>(&self, work: impl Fn() -> Done) -> sqlx::Result<T> {
        for _ in 0..BROKEN_MAX {
            match tokio::time::timeout(ANSWER_MAX, work()).await {
                Ok(Err(error)) if broken(&error) => {}
                Ok(done) => return done,
                Err(_) => return Err(postgres::silent()),
            }
        }
        work().await
    }

    /// Stores what can be stored by one statement, then the rest.
    async fn write_once(&self, writes: &[Write], now_ms: i64) -> sqlx::Result<Vec<Written>> {
        let mut answers = vec![None; writes.len()];
        self.acknowledge(writes).await?.into_iter().for_each(|place| answers[place] = Some(Written::Done));
        let places: Vec<usize> = (0..writes.len()).filter(|place| answers[*place].is_none()).collect();
        if !places.is_empty() {
            let rest: Vec<Write> = places.iter().map(|place| writes[*place].clone()).collect();
            let written = self.transact(&rest, now_ms).await?;
            places.into_iter().zip(written).for_each(|(place, written)| answers[place] = Some(written));
        }
        Ok(answers.into_iter().map(|answer| answer.unwrap_or(Written::Done)).collect())
    }

    /// Stores acknowledgements at once; answers the places in the batch of those that were stored.
    async fn acknowledge(&self, writes: &[Write]) -> sqlx::Result<Vec<usize>> {
        if !self.at_once.load(Ordering::Relaxed) {
            return Ok(Vec::new());
        }
        let acknowledgements = Acknowledgements::of(writes);
        // Done again it stores the same.
        match self.unbroken(|| acknowledgements.store(&self.pool)).await {
            // Where tables are distributed over several servers, such a statement is not supported.
            Err(Error::Database(told)) if told.code().is_some_and(|code| code == "0A000") => {
                tracing::warn!(error = %told, "the database does not store acknowledgements at once");
                self.at_once.store(false, Ordering::Relaxed);
                Ok(Vec::new())
            }
            stored => stored,
        }
    }

    async fn transact(&self, writes: &[Write], now_ms: i64) -> sqlx::Result<Vec<Written>> {
        let people = writes.iter().flat_map(people).collect::<BTreeSet<_>>();
        if people.is_empty() {
            return Ok(vec![Written::Done; writes.len()]);
        }
        let mut transaction = self.begin(&lanes_of(people.iter().copied())).await?;
        let found = devices_of(&mut transaction, &people).await?;
        let mut plan = Plan::new(found, self.devices_max, now_ms);
        let answers = writes.iter().map(|write| plan.make(write)).collect();
        carry_out(&mut transaction, &plan).await?;
        transaction.commit().await?;
        Ok(answers)
    }

    async fn expire_found(&self, keys: &[DeviceKey], before_ms: i64) -> sqlx::Result<Vec<DeviceKey>> {
        let mut transaction = self.begin(&lanes_of(keys.iter().map(|key| key.user))).await?;
        let (users, devices) = columns(keys.iter());
        // Looked at again: it may have been used since it was found.
        let rows =
            sqlx::query(sql::EXPIRE).bind(users).bind(devices).bind(before_ms).fetch_all(&mut *transaction).await?;
        let expired = rows.iter().map(key).collect::<sqlx::Result<Vec<_>>>()?;
        wipe(&mut transaction, expired.iter()).await?;
        transaction.commit().await?;
        Ok(expired)
    }
}

#[async_trait]
impl Store for PostgresStore {
    fn shared(&self) -> bool {
        true
    }

    async fn write(&self, writes: &[Write], now: SystemTime) -> Result<Vec<Written>, StoreError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let written = tokio::time::timeout(ANSWER_MAX, self.write_once(writes, millis(now))).await;
            match written.unwrap_or_else(|_| Err(postgres::silent())) {
                Err(error) if postgres::conflicted(&error) && tries < TRIES_MAX => {}
                written => return Ok(written?),
            }
        }
    }

    async fn positions(&self, key: &DeviceKey) -> Result<Vec<Position>, StoreError> {
        let rows = self.unbroken(|| {
            sqlx::query(sql::POSITIONS).bind(bytes(&key.user.0)).bind(key.device.as_str()).fetch_all(&self.pool)
        });
        let position = |row: &PgRow| {
            Ok(Position {
                conversation: ConversationId(uuid(row.try_get(0)?)?),
                epoch: row.try_get::<i64, _>(1)?.cast_unsigned(),
                seq: row.try_get::<i64, _>(2)?.cast_unsigned(),
            })
        };
        Ok(rows.await?.iter().map(position).collect::<sqlx::Result<_>>()?)
    }

    async fn devices(&self, user: UserId) -> Result<Vec<Device>, StoreError> {
        let rows = self.unbroken(|| sqlx::query(sql::DEVICES).bind(bytes(&user.0)).fetch_all(&self.pool));
        let device = |row: &PgRow| {
            Ok(Device {
                device: device_id(row.try_get(0)?)?,
                created_at: from_millis(row.try_get(1)?),
                last_seen_at: from_millis(row.try_get(2)?),
                online_until: Some(from_millis(row.try_get(3)?)),
            })
        };
        Ok(rows.await?.iter().map(device).collect::<sqlx::Result<_>>()?)
    }

    async fn streams(&self, keys: &[DeviceKey]) -> Result<Vec<Option<Uuid>>, StoreError> {
        let (users, devices) = columns(keys.iter());
        let rows = self.unbroken(|| sqlx::query(sql::STREAMS).bind(&users).bind(&devices).fetch_all(&self.pool));
        let mut streams = vec![None; keys.len()];
        for row in &rows.await? {
            let place = usize::try_from(row.try_get::<i64, _>(0)?).map_err(decode)?;
            if let Some(stream) = place.checked_sub(1).and_then(|index| streams.get_mut(index)) {
                *stream = Some(uuid(row.try_get(1)?)?);
            }
        }
        Ok(streams)
    }

    async fn expire(&self, before: SystemTime, count_max: u32) -> Result<Vec<DeviceKey>, StoreError> {
        let before_ms = millis(before);
        let rows =
            self.unbroken(|| sqlx::query(sql::UNUSED).bind(before_ms).bind(i64::from(count_max)).fetch_all(&self.pool));
        let keys = rows.await?.iter().map(key).collect::<sqlx::Result<Vec<_>>>()?;
        if keys.is_empty() {
            return Ok(keys);
        }
        let expired = tokio::time::timeout(ANSWER_MAX, self.expire_found(&keys, before_ms)).await;
        Ok(expired.unwrap_or_else(|_| Err(postgres::silent()))?)
    }
}

/// The lanes of people in the order in which they are locked.
fn lanes_of(people: impl Iterator<Item = UserId>) -> Vec<i32> {
    // The last byte of our ids is random.
    let lanes: BTreeSet<u8> = people.map(|user| user.0.as_bytes()[15] % LANES).collect();
    lanes.into_iter().map(i32::from).collect()
}

/// Whom a change is about.
fn people(write: &Write) -> Vec<UserId> {
    match write {
        Write::Open { key, .. }
        | Write::Acknowledge { key, .. }
        | Write::Forget { key, .. }
        | Write::Delete { key } => {
            vec![key.user]
        }
        Write::Touch { keys } => keys.iter().map(|key| key.user).collect(),
        Write::Present { streams, .. } => streams.iter().map(|(key, _)| key.user).collect(),
    }
}

async fn devices_of(transaction: &mut Transaction, people: &BTreeSet<UserId>) -> sqlx::Result<Vec<(DeviceKey, Row)>> {
    let rows = sqlx::query(sql::DEVICES_OF)
        .bind(people.iter().map(|user| bytes(&user.0)).collect::<Vec<_>>())
        .fetch_all(&mut **transaction)
        .await?;
    let device = |row: &PgRow| {
        let found = Row {
            stream: uuid(row.try_get(2)?)?,
            created_at_ms: row.try_get(3)?,
            last_seen_at_ms: row.try_get(4)?,
            online_until_ms: row.try_get(5)?,
        };
        Ok((key(row)?, found))
    };
    rows.iter().map(device).collect()
}

/// Writes what a plan says, each kind of row by one statement, if there are any.
async fn carry_out(transaction: &mut Transaction, plan: &Plan) -> sqlx::Result<()> {
    let those = |kind: fn(&Fate) -> bool| plan.fates.iter().filter(move |(_, fate)| kind(fate)).map(|(key, _)| key);
    wipe(transaction, those(|fate| fate.wiped)).await?;
    forget(transaction, plan).await?;
    delete(transaction, those(Fate::deleted)).await?;
    write_devices(transaction, plan).await?;
    raise(transaction, plan).await
}

async fn wipe(transaction: &mut Transaction, keys: impl Iterator<Item = &DeviceKey>) -> sqlx::Result<()> {
    let (users, devices) = columns(keys);
    if !users.is_empty() {
        sqlx::query(sql::WIPE).bind(users).bind(devices).execute(&mut **transaction).await?;
    }
    Ok(())
}

async fn delete(transaction: &mut Transaction, keys: impl Iterator<Item = &DeviceKey>) -> sqlx::Result<()> {
    let (users, devices) = columns(keys);
    if !users.is_empty() {
        sqlx::query(sql::DELETE).bind(users).bind(devices).execute(&mut **transaction).await?;
    }
    Ok(())
}

async fn forget(transaction: &mut Transaction, plan: &Plan) -> sqlx::Result<()> {
    let (mut users, mut devices, mut conversations) = (Vec::new(), Vec::new(), Vec::new());
    for (key, fate) in plan.fates.iter().filter(|(_, fate)| !fate.wiped) {
        for conversation in &fate.forgotten {
            users.push(bytes(&key.user.0));
            devices.push(key.device.as_str());
            conversations.push(bytes(&conversation.0));
        }
    }
    if !users.is_empty() {
        sqlx::query(sql::FORGET).bind(users).bind(devices).bind(conversations).execute(&mut **transaction).await?;
    }
    Ok(())
}

async fn write_devices(transaction: &mut Transaction, plan: &Plan) -> sqlx::Result<()> {
    let (mut users, mut devices, mut streams) = (Vec::new(), Vec::new(), Vec::new());
    let (mut created, mut seen, mut online) = (Vec::new(), Vec::new(), Vec::new());
    for (key, row) in plan.fates.iter().filter_map(|(key, fate)| Some((key, fate.written()?))) {
        users.push(bytes(&key.user.0));
        devices.push(key.device.as_str());
        streams.push(bytes(&row.stream));
        created.push(row.created_at_ms);
        seen.push(row.last_seen_at_ms);
        online.push(row.online_until_ms);
    }
    if !users.is_empty() {
        sqlx::query(sql::WRITE)
            .bind(users)
            .bind(devices)
            .bind(streams)
            .bind(created)
            .bind(seen)
            .bind(online)
            .execute(&mut **transaction)
            .await?;
    }
    Ok(())
}

async fn raise(transaction: &mut Transaction, plan: &Plan) -> sqlx::Result<()> {
    let (mut users, mut devices, mut conversations, mut epochs, mut seqs) =
        <(Vec<_>, Vec<_>, Vec<_>, Vec<_>, Vec<_>)>::default();
    for (key, fate) in &plan.fates {
        for position in fate.raised.values() {
            users.push(bytes(&key.user.0));
            devices.push(key.device.as_str());
            conversations.push(bytes(&position.conversation.0));
            epochs.push(position.epoch.cast_signed());
            seqs.push(position.seq.cast_signed());
        }
    }
    if !users.is_empty() {
        sqlx::query(sql::RAISE)
            .bind(users)
            .bind(devices)
            .bind(conversations)
            .bind(epochs)
            .bind(seqs)
            .execute(&mut **transaction)
            .await?;
    }
    Ok(())
}

/// The keys as two columns.
fn columns<'a>(keys: impl Iterator<Item = &'a DeviceKey>) -> (Vec<&'a [u8]>, Vec<&'a str>) {
    keys.map(|key| (bytes(&key.user.0), key.device.as_str())).unzip()
}

fn key(row: &PgRow) -> sqlx::Result<DeviceKey> {
    Ok(DeviceKey { user: UserId(uuid(row.try_get(0)?)?), device: device_id(row.try_get(1)?)? })
}

fn bytes(id: &Uuid) -> &[u8] {
    id.as_bytes()
}

fn uuid(bytes: &[u8]) -> sqlx::Result<Uuid> {
    Uuid::from_slice(bytes).map_err(decode)
}

fn device_id(text: &str) -> sqlx::Result<DeviceId> {
    DeviceId::from_id(text).map_err(decode)
}

fn decode(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Decode(Box::new(error))
}

/// Was the connection broken before anything was done on it?
fn broken(error: &Error) -> bool {
    match error {
        Error::Io(_) => true,
        // The server has ended it, or has crashed.
        Error::Database(error) => error.code().is_some_and(|code| matches!(&*code, "57P01" | "57P02")),
        _ => false,
    }
}
