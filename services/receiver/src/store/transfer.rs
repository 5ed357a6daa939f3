//! Moving the store of one machine into a database that pods share: how each table of SQLite reads as one of PostgreSQL.

use std::path::Path;

use flaghoist_runtime::transfer::{Column, Hear, Kind, Moved, Table, Transfer, TransferError, transfer};
use sqlx::postgres::PgConnectOptions;

use super::{postgres, sqlite};

/// The tables, each in the order of its key.
const TABLES: &[Table] = &[
    Table {
        name: "devices",
        columns: &[
            Column::same("user_id", Kind::Bytes),
            Column::same("device_id", Kind::Text),
            Column::same("stream_id", Kind::Bytes),
            Column::same("created_at", Kind::Big),
            Column::same("last_seen_at", Kind::Big),
            // No stream is open.
            Column::from("online_until", Kind::Big, "0"),
        ],
        from: "devices",
        order: "user_id, device_id",
    },
    Table {
        name: "positions",
        columns: &[
            Column::same("user_id", Kind::Bytes),
            Column::same("device_id", Kind::Text),
            Column::same("conversation_id", Kind::Bytes),
            Column::same("epoch", Kind::Big),
            Column::same("acked_seq", Kind::Big),
        ],
        from: "positions",
        order: "user_id, device_id, conversation_id",
    },
];

/// Moves the store in the file at `path`.
pub(crate) async fn migrate(
    path: &Path,
    target: &PgConnectOptions,
    installation: [u8; 32],
    hear: Hear<'_>,
) -> Result<Moved, TransferError> {
    let source = flaghoist_runtime::sqlite::open(path, &sqlite::MIGRATOR).await?;
    let (tables, migrator) = (TABLES, &postgres::MIGRATOR);
    let plan = Transfer { service: "receiver", tables, source: &source.readers, target, migrator, installation };
    let moved = transfer(&plan, hear, async |_| Ok(())).await;
    source.close().await;
    moved
}

#[cfg(test)]
mod tests {
    use flaghoist_backends::Postgres;

    use super::*;

    #[tokio::test]
    async fn every_column_is_moved_or_left_behind_on_purpose() {
        let Some(postgres) = Postgres::shared().await else { return };
        let url = postgres.database().await;
        postgres::PostgresStore::open(&url.parse().unwrap(), 1, 1).await.unwrap();
        let there = postgres
            .sql(
                &url,
                "SELECT table_name || '.' || column_name FROM information_schema.columns WHERE table_schema = 'receiver' \
                 AND table_name NOT IN ('_sqlx_migrations')",
            )
            .await;
        let sorted = |mut names: Vec<String>| {
            names.sort_unstable();
            names
        };
        let moved = TABLES.iter().flat_map(Table::column_names).collect();
        assert_eq!(sorted(moved), sorted(there.lines().map(str::to_owned).collect()));
    }

    #[tokio::test]
    async fn a_device_and_its_positions_are_there_and_no_stream_is_open() {
        use flaghoist_runtime::names::{ConversationId, DeviceId, UserId};
        use uuid::Uuid;

        use crate::store::{DeviceKey, Store as _, Write};
        use crate::stream::Position;

        let Some(server) = Postgres::shared().await else { return };
        let (url, folder) = (server.database().await, tempfile::tempdir().unwrap());
        let path = folder.path().join("receiver.db");
        let key = DeviceKey { user: UserId(Uuid::now_v7()), device: DeviceId::from_id("phone").unwrap() };
        let stream = Uuid::now_v7();
        // Epochs are unsigned; the upper half is kept in the bits of negative numbers.
        let position = Position { conversation: ConversationId(Uuid::now_v7()), epoch: u64::MAX - 1, seq: 7 };
        let old = sqlite::SqliteStore::open(&path, 10).await.unwrap();
        let acknowledge = Write::Acknowledge { key: key.clone(), stream: Some(stream), positions: vec![position] };
        old.write(&[Write::Open { key: key.clone(), stream }, acknowledge], std::time::SystemTime::now())
            .await
            .unwrap();
        let before = old.devices(key.user).await.unwrap();
        drop(old);

        let moved = migrate(&path, &url.parse().unwrap(), [1; 32], &mut |_| ()).await.unwrap();
        assert!(moved.tables.iter().all(|(_, tally)| tally.rows == 1), "{moved:?}");
        let new = postgres::PostgresStore::open(&url.parse().unwrap(), 2, 10).await.unwrap();
        assert_eq!(new.positions(&key).await.unwrap(), [position]);
        let after = new.devices(key.user).await.unwrap();
        assert_eq!((after[0].created_at, after[0].last_seen_at), (before[0].created_at, before[0].last_seen_at));
        assert!(after[0].online_until.is_none_or(|until| until < std::time::SystemTime::now()));
    }
}
