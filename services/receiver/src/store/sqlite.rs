//! Devices and positions in one SQLite file. A batch is one transaction of a few statements with many rows each.

use std::fmt::Write as _;
use std::path::Path;
use std::time::SystemTime;

use async_trait::async_trait;
use flaghoist_runtime::names::{ConversationId, DeviceId, UserId};
use flaghoist_runtime::sqlite::{Database, OpenError, open};
use flaghoist_runtime::time::{from_millis, millis};
use sqlx::{Row as _, SqliteConnection};
use uuid::Uuid;

use super::{Device, DeviceKey, Store, StoreError, Write, Written};
use crate::stream::Position;

pub(super) static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("migrations/sqlite");

/// Devices and positions in one SQLite file.
#[derive(Debug)]
pub(crate) struct SqliteStore {
    database: Database,
    devices_max: u32,
}

impl SqliteStore {
    /// Opens or makes the file; a person may have `devices_max` devices.
    pub(crate) async fn open(path: &Path, devices_max: u32) -> Result<Self, OpenError> {
        Ok(Self { database: open(path, &MIGRATOR).await?, devices_max })
    }

    async fn open_device(
        &self,
        connection: &mut SqliteConnection,
        key: &DeviceKey,
        stream: Uuid,
        now_ms: i64,
    ) -> sqlx::Result<Written> {
        let last_seen_at: Option<i64> =
            sqlx::query_scalar("SELECT last_seen_at FROM devices WHERE user_id = ? AND device_id = ?")
                .bind(bytes(key.user.0))
                .bind(key.device.as_str())
                .fetch_optional(&mut *connection)
                .await?;
        if last_seen_at.is_none() {
            let count: u32 = sqlx::query_scalar("SELECT count(*) FROM devices WHERE user_id = ?")
                .bind(bytes(key.user.0))
                .fetch_one(&mut *connection)
                .await?;
            if count >= self.devices_max {
                return Ok(Written::LimitReached);
            }
        }
        sqlx::query(
            "INSERT INTO devices (user_id, device_id, stream_id, created_at, last_seen_at) VALUES (?1, ?2, ?3, ?4, ?4) \
             ON CONFLICT (user_id, device_id) DO UPDATE SET stream_id = excluded.stream_id, \
             last_seen_at = max(last_seen_at, excluded.last_seen_at)",
        )
        .bind(bytes(key.user.0))
        .bind(key.device.as_str())
        .bind(bytes(stream))
        .bind(now_ms)
        .execute(connection)
        .await?;
        Ok(Written::Opened(last_seen_at.map(from_millis)))
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn shared(&self) -> bool {
        false
    }

    async fn write(&self, writes: &[Write], now: SystemTime) -> Result<Vec<Written>, StoreError> {
        let now_ms = millis(now);
        let mut transaction = self.database.writer.begin_with("BEGIN IMMEDIATE").await?;
        let mut answers = Vec::with_capacity(writes.len());
        let mut rest = writes;
        while let Some(first) = rest.first() {
            let connection = &mut *transaction;
            if let Write::Acknowledge { .. } = first {
                let same = rest.iter().take_while(|write| matches!(write, Write::Acknowledge { .. })).count();
                let (run, after) = rest.split_at(same);
                acknowledge(connection, run, &mut answers).await?;
                rest = after;
                continue;
            }
            answers.push(match first {
                Write::Open { key, stream } => self.open_device(connection, key, *stream, now_ms).await?,
                Write::Forget { key, stream, conversations } => {
                    forget(connection, key, *stream, conversations.as_deref()).await?
                }
                Write::Touch { keys } => touch(connection, keys, now_ms).await?,
                // The process knows its streams.
                Write::Present { .. } => Written::Done,
                Write::Delete { key } => delete(connection, key).await?,
                // Taken above, as a run.
                Write::Acknowledge { .. } => Written::Done,
            });
            rest = &rest[1..];
        }
        transaction.commit().await?;
        Ok(answers)
    }

    async fn positions(&self, key: &DeviceKey) -> Result<Vec<Position>, StoreError> {
        let rows =
            sqlx::query("SELECT conversation_id, epoch, acked_seq FROM positions WHERE user_id = ? AND device_id = ?")
                .bind(bytes(key.user.0))
                .bind(key.device.as_str())
                .fetch_all(&self.database.readers)
                .await?;
        let position = |row: &sqlx::sqlite::SqliteRow| {
            Ok(Position {
                conversation: ConversationId(uuid(row.try_get(0)?)?),
                epoch: row.try_get::<i64, _>(1)?.cast_unsigned(),
                seq: row.try_get::<i64, _>(2)?.cast_unsigned(),
            })
        };
        Ok(rows.iter().map(position).collect::<sqlx::Result<_>>()?)
    }

    async fn devices(&self, user: UserId) -> Result<Vec<Device>, StoreError> {
        let rows =
            sqlx::query("SELECT device_id, created_at, last_seen_at FROM devices WHERE user_id = ? ORDER BY device_id")
                .bind(bytes(user.0))
                .fetch_all(&self.database.readers)
                .await?;
        let device = |row: &sqlx::sqlite::SqliteRow| {
            Ok(Device {
                device: device_id(row.try_get(0)?)?,
                created_at: from_millis(row.try_get(1)?),
                last_seen_at: from_millis(row.try_get(2)?),
                online_until: None,
            })
        };
        Ok(rows.iter().map(device).collect::<sqlx::Result<_>>()?)
    }

    async fn streams(&self, keys: &[DeviceKey]) -> Result<Vec<Option<Uuid>>, StoreError> {
        let mut devices = Json::default();
        for (index, key) in keys.iter().enumerate() {
            devices.row(|row| {
                row.device(key).number(index.cast_signed() as i64);
            });
        }
        let rows = sqlx::query(
            "SELECT j.value ->> 2, d.stream_id FROM json_each(?) AS j \
             JOIN devices AS d ON d.user_id = unhex(j.value ->> 0) AND d.device_id = j.value ->> 1",
        )
        .bind(devices.finish())
        .fetch_all(&self.database.readers)
        .await?;
        let mut streams = vec![None; keys.len()];
        for row in &rows {
            let index = usize::try_from(row.try_get::<i64, _>(0)?).map_err(decode)?;
            streams[index] = Some(uuid(row.try_get(1)?)?);
        }
        Ok(streams)
    }

    async fn expire(&self, before: SystemTime, count_max: u32) -> Result<Vec<DeviceKey>, StoreError> {
        let mut transaction = self.database.writer.begin_with("BEGIN IMMEDIATE").await?;
        let rows =
            sqlx::query("SELECT user_id, device_id FROM devices WHERE last_seen_at < ? ORDER BY last_seen_at LIMIT ?")
                .bind(millis(before))
                .bind(count_max)
                .fetch_all(&mut *transaction)
                .await?;
        let key = |row: &sqlx::sqlite::SqliteRow| {
            Ok(DeviceKey { user: UserId(uuid(row.try_get(0)?)?), device: device_id(row.try_get(1)?)? })
        };
        let keys = rows.iter().map(key).collect::<sqlx::Result<Vec<_>>>()?;
        for key in &keys {
            delete(&mut transaction, key).await?;
        }
        transaction.commit().await?;
        Ok(keys)
    }
}

/// A run of acknowledgements, in two statements: which of them may not be, then all the others.
async fn acknowledge(connection: &mut SqliteConnection, run: &[Write], answers: &mut Vec<Written>) -> sqlx::Result<()> {
    let mut devices = Json::default();
    for (index, write) in run.iter().enumerate() {
        if let Write::Acknowledge { key, stream, .. } = write {
            devices.row(|row| {
                row.device(key).number(index.cast_signed() as i64);
                match stream {
                    Some(stream) => row.id(*stream),
                    None => row.null(),
                };
            });
        }
    }
    let first = answers.len();
    answers.resize(first + run.len(), Written::Done);
    let refused = sqlx::query(
        "SELECT j.value ->> 2, d.user_id IS NULL FROM json_each(?) AS j \
         LEFT JOIN devices AS d ON d.user_id = unhex(j.value ->> 0) AND d.device_id = j.value ->> 1 \
         WHERE d.user_id IS NULL OR d.stream_id <> unhex(j.value ->> 3)",
    )
    .bind(devices.finish())
    .fetch_all(&mut *connection)
    .await?;
    for row in &refused {
        let index = usize::try_from(row.try_get::<i64, _>(0)?).map_err(decode)?;
        answers[first + index] = if row.try_get(1)? { Written::NoDevice } else { Written::Replaced };
    }
    let mut rows = Json::default();
    for (write, answer) in run.iter().zip(&answers[first..]) {
        if let (Write::Acknowledge { key, positions, .. }, Written::Done) = (write, answer) {
            for position in positions {
                rows.row(|row| {
                    row.device(key).id(position.conversation.0).number(position.epoch.cast_signed());
                    row.number(position.seq.cast_signed());
                });
            }
        }
    }
    if rows.any() {
        // `WHERE true` keeps the parser from reading ON CONFLICT as the ON of a join.
        sqlx::query(
            "INSERT INTO positions (user_id, device_id, conversation_id, epoch, acked_seq) \
             SELECT unhex(value ->> 0), value ->> 1, unhex(value ->> 2), value ->> 3, value ->> 4 FROM json_each(?) WHERE true \
             ON CONFLICT (user_id, device_id, conversation_id) DO UPDATE SET epoch = excluded.epoch, \
             acked_seq = iif(epoch = excluded.epoch, max(acked_seq, excluded.acked_seq), excluded.acked_seq)",
        )
        .bind(rows.finish())
        .execute(connection)
        .await?;
    }
    Ok(())
}

async fn forget(
    connection: &mut SqliteConnection,
    key: &DeviceKey,
    stream: Uuid,
    conversations: Option<&[ConversationId]>,
) -> sqlx::Result<Written> {
    let named: Option<Vec<u8>> =
        sqlx::query_scalar("SELECT stream_id FROM devices WHERE user_id = ? AND device_id = ?")
            .bind(bytes(key.user.0))
            .bind(key.device.as_str())
            .fetch_optional(&mut *connection)
            .await?;
    match named {
        None => return Ok(Written::NoDevice),
        Some(named) if named != bytes(stream) => return Ok(Written::Replaced),
        Some(_) => {}
    }
    let which = conversations.map(|conversations| {
        let mut list = Json::default();
        for conversation in conversations {
            list.row(|row| {
                row.id(conversation.0);
            });
        }
        list.finish()
    });
    sqlx::query(
        "DELETE FROM positions WHERE user_id = ?1 AND device_id = ?2 \
         AND (?3 IS NULL OR conversation_id IN (SELECT unhex(value ->> 0) FROM json_each(?3)))",
    )
    .bind(bytes(key.user.0))
    .bind(key.device.as_str())
    .bind(which)
    .execute(connection)
    .await?;
    Ok(Written::Done)
}

async fn touch(connection: &mut SqliteConnection, keys: &[DeviceKey], now_ms: i64) -> sqlx::Result<Written> {
    let mut rows = Json::default();
    for key in keys {
        rows.row(|row| {
            row.device(key);
        });
    }
    sqlx::query(
        "UPDATE devices SET last_seen_at = ?2 FROM json_each(?1) AS j \
         WHERE user_id = unhex(j.value ->> 0) AND device_id = j.value ->> 1 AND last_seen_at < ?2",
    )
    .bind(rows.finish())
    .bind(now_ms)
    .execute(connection)
    .await?;
    Ok(Written::Done)
}

async fn delete(connection: &mut SqliteConnection, key: &DeviceKey) -> sqlx::Result<Written> {
    let [positions, devices] = [
        "DELETE FROM positions WHERE user_id = ? AND device_id = ?",
        "DELETE FROM devices WHERE user_id = ? AND device_id = ?",
    ]
    .map(|statement| sqlx::query(statement).bind(bytes(key.user.0)).bind(key.device.as_str()));
    positions.execute(&mut *connection).await?;
    let deleted = devices.execute(connection).await?.rows_affected();
    Ok(if deleted > 0 { Written::Done } else { Written::NoDevice })
}

/// Rows as a JSON array of arrays. Everything written is hexadecimal, a number or a device id, so nothing needs escaping.
#[derive(Default)]
struct Json(String);

impl Json {
    fn row(&mut self, write: impl FnOnce(&mut Self)) {
        self.0.push(if self.0.is_empty() { '[' } else { ',' });
        self.0.push('[');
        write(self);
        self.0.push(']');
    }

    fn comma(&mut self) {
        if !self.0.ends_with('[') {
            self.0.push(',');
        }
    }

    fn device(&mut self, key: &DeviceKey) -> &mut Self {
        self.id(key.user.0);
        self.0.push_str(",\"");
        self.0.push_str(key.device.as_str());
        self.0.push('"');
        self
    }

    fn id(&mut self, id: Uuid) -> &mut Self {
        self.comma();
        self.0.push('"');
        self.0.push_str(id.simple().encode_lower(&mut Uuid::encode_buffer()));
        self.0.push('"');
        self
    }

    fn number(&mut self, number: i64) -> &mut Self {
        self.comma();
        // Writing to a string does not fail.
        let _ok = write!(self.0, "{number}");
        self
    }

    fn null(&mut self) -> &mut Self {
        self.comma();
        self.0.push_str("null");
        self
    }

    fn any(&self) -> bool {
        !self.0.is_empty()
    }

    fn finish(mut self) -> String {
        self.0.push_str(if self.0.is_empty() { "[]" } else { "]" });
        self.0
    }
}

fn bytes(id: Uuid) -> Vec<u8> {
    id.as_bytes().to_vec()
}

fn uuid(bytes: &[u8]) -> sqlx::Result<Uuid> {
    Uuid::from_slice(bytes).map_err(decode)
}

fn device_id(text: &str) -> sqlx::Result<DeviceId> {
    DeviceId::from_id(text).map_err(decode)
}

fn decode(error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::Decode(Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn store() -> Option<(tempfile::TempDir, SqliteStore)> {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("receiver.db"), 3).await.unwrap();
        Some((folder, store))
    }

    crate::store::conformance::suite!(store);
}
