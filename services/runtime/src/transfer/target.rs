//! The database that a store is moved into: how far the move is lies there too, in two tables beside those of the service.

use std::collections::BTreeMap;

use futures_util::TryStreamExt as _;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

use super::row::{Table, Tally};
use super::{BATCH_ROWS, Hear, Progress, Step, Transfer, TransferError};
use crate::postgres;

/// What a move notes down. `store_move` has one row, from its beginning on: whose store it is, and when all of it was there and compared.
const NOTES: &str = "
    CREATE TABLE IF NOT EXISTS store_move (
        only_row boolean NOT NULL DEFAULT true PRIMARY KEY CHECK (only_row),
        installation bytea NOT NULL,
        began_at timestamptz NOT NULL DEFAULT now(),
        finished_at timestamptz
    );
    CREATE TABLE IF NOT EXISTS store_move_tables (
        name text NOT NULL PRIMARY KEY,
        row_count bigint NOT NULL,
        digest bytea
    )";

/// Every how many rows it is said how far a reading is.
const SAY_EVERY_ROWS: u64 = 50_000;

/// The database, and what is moved into it.
pub(super) struct Target<'a> {
    transfer: &'a Transfer<'a>,
    connection: PgConnection,
    /// Whether all of it was moved before.
    pub(super) finished: bool,
}

impl<'a> Target<'a> {
    /// Connects, makes the tables, and begins a move or finds the one that was begun. Refuses a database that holds anything else, and
    /// one that pods use.
    pub(super) async fn open(transfer: &'a Transfer<'a>) -> Result<Self, TransferError> {
        let service = transfer.service;
        let connection = postgres::open_alone(transfer.target, service, transfer.migrator).await?;
        let mut target = Self { transfer, connection, finished: false };
        // The lock is this session's and ends with it.
        let alone: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock(hashtext('flaghoist move ' || $1))")
            .bind(service)
            .fetch_one(&mut target.connection)
            .await
            .map_err(target.failed("its lock"))?;
        if !alone {
            return Err(TransferError::Busy { service });
        }
        target.connection.execute(NOTES).await.map_err(target.failed("store_move"))?;
        let begun: Option<(Vec<u8>, bool)> =
            sqlx::query_as("SELECT installation, finished_at IS NOT NULL FROM store_move")
                .fetch_optional(&mut target.connection)
                .await
                .map_err(target.failed("store_move"))?;
        match begun {
            Some((installation, _)) if installation != transfer.installation => {
                return Err(TransferError::Another { service });
            }
            // Once it is over, pods may use what is there.
            Some((_, true)) => target.finished = true,
            Some((_, false)) => target.refuse_pods().await?,
            None => {
                target.refuse_pods().await?;
                target.begin().await?;
            }
        }
        Ok(target)
    }

    async fn refuse_pods(&mut self) -> Result<(), TransferError> {
        let service = self.transfer.service;
        let connections: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1",
        )
        .bind(postgres::application_name(service))
        .fetch_one(&mut self.connection)
        .await
        .map_err(self.failed("the list of connections"))?;
        if connections == 0 { Ok(()) } else { Err(TransferError::Pods { service, connections }) }
    }

    /// Begins a move into tables that are empty.
    async fn begin(&mut self) -> Result<(), TransferError> {
        let service = self.transfer.service;
        for table in self.transfer.tables {
            let any = format!("SELECT EXISTS (SELECT 1 FROM {})", table.name);
            let filled: bool = sqlx::query_scalar(AssertSqlSafe(any))
                .fetch_one(&mut self.connection)
                .await
                .map_err(self.failed(table.name))?;
            if filled {
                return Err(TransferError::Filled { service, table: table.name });
            }
        }
        sqlx::query("INSERT INTO store_move (installation) VALUES ($1)")
            .bind(&self.transfer.installation[..])
            .execute(&mut self.connection)
            .await
            .map_err(self.failed("store_move"))?;
        Ok(())
    }

    /// Carries over what is not there yet.
    pub(super) async fn copy(&mut self, hear: Hear<'_>) -> Result<(), TransferError> {
        for table in self.transfer.tables {
            self.copy_table(table, hear).await?;
        }
        Ok(())
    }

    async fn copy_table(&mut self, table: &'static Table, hear: Hear<'_>) -> Result<(), TransferError> {
        let transfer = self.transfer;
        let (unread, unwritten) = (self.unread(table.name), self.failed(table.name));
        let rows = self.count(table).await?;
        let done: Option<i64> = sqlx::query_scalar("SELECT row_count FROM store_move_tables WHERE name = $1")
            .bind(table.name)
            .fetch_optional(&mut self.connection)
            .await
            .map_err(&unwritten)?;
        let mut done = done.unwrap_or_default();
        let write = table.write_target();
        let mut batches = sqlx::query(AssertSqlSafe(table.read_source()))
            .bind(done)
            .fetch(transfer.source)
            .and_then(|row| std::future::ready(table.source_row(&row)))
            .try_chunks(BATCH_ROWS);
        while let Some(batch) = batches.try_next().await.map_err(|error| unread(error.1))? {
            done += i64::try_from(batch.len()).unwrap_or(i64::MAX);
            let mut transaction = self.connection.begin().await.map_err(&unwritten)?;
            let query = table.bind(sqlx::query(AssertSqlSafe(write.clone())), &batch).map_err(&unread)?;
            query.execute(&mut *transaction).await.map_err(&unwritten)?;
            sqlx::query(
                "INSERT INTO store_move_tables (name, row_count) VALUES ($1, $2) \
                 ON CONFLICT (name) DO UPDATE SET row_count = excluded.row_count",
            )
            .bind(table.name)
            .bind(done)
            .execute(&mut *transaction)
            .await
            .map_err(&unwritten)?;
            transaction.commit().await.map_err(&unwritten)?;
            hear(self.progress(table, Step::Copied, done.unsigned_abs(), rows));
        }
        // Nobody has looked at these tables yet; their first statements should be planned for what they hold.
        self.connection.execute(AssertSqlSafe(format!("ANALYZE {}", table.name))).await.map_err(&unwritten).map(|_| ())
    }

    /// Reads both sides and compares them; after a finished move, SQLite and what was moved then.
    pub(super) async fn compare(&mut self, hear: Hear<'_>) -> Result<Vec<(&'static str, Tally)>, TransferError> {
        let service = self.transfer.service;
        let mut tallies = Vec::new();
        let moved = if self.finished { self.moved().await? } else { BTreeMap::new() };
        for table in self.transfer.tables {
            let rows = self.count(table).await?;
            let here = self.tally_source(table, rows, hear).await?;
            if self.finished {
                let then = moved.get(table.name).copied().unwrap_or_default();
                if here != then {
                    let (source_tally, moved_tally) = (here, then);
                    return Err(TransferError::UsedSince { service, table: table.name, source_tally, moved_tally });
                }
            } else {
                let there = self.tally_target(table, rows, hear).await?;
                if here != there {
                    let (source_tally, target_tally) = (here, there);
                    return Err(TransferError::Differs { service, table: table.name, source_tally, target_tally });
                }
            }
            hear(self.progress(table, Step::Compared, here.rows, rows));
            tallies.push((table.name, here));
        }
        Ok(tallies)
    }

    async fn tally_source(&self, table: &'static Table, rows: u64, hear: Hear<'_>) -> Result<Tally, TransferError> {
        let unread = self.unread(table.name);
        let mut tally = Tally::default();
        let mut read = sqlx::query(AssertSqlSafe(table.read_source())).bind(0).fetch(self.transfer.source);
        while let Some(row) = read.try_next().await.map_err(&unread)? {
            tally.add(&table.source_row(&row).map_err(&unread)?);
            if tally.rows.is_multiple_of(SAY_EVERY_ROWS) {
                hear(self.progress(table, Step::Read, tally.rows, rows));
            }
        }
        Ok(tally)
    }

    async fn tally_target(&mut self, table: &'static Table, rows: u64, hear: Hear<'_>) -> Result<Tally, TransferError> {
        let failed = self.failed(table.name);
        let mut progress = self.progress(table, Step::Compared, 0, rows);
        let mut tally = Tally::default();
        let mut read = sqlx::query(AssertSqlSafe(table.read_target())).fetch(&mut self.connection);
        while let Some(row) = read.try_next().await.map_err(&failed)? {
            tally.add(&table.target_row(&row).map_err(&failed)?);
            if tally.rows.is_multiple_of(SAY_EVERY_ROWS) {
                progress.rows_done = tally.rows;
                hear(progress);
            }
        }
        Ok(tally)
    }

    /// What was moved when the move was over.
    async fn moved(&mut self) -> Result<BTreeMap<String, Tally>, TransferError> {
        let kept: Vec<(String, i64, Vec<u8>)> =
            sqlx::query_as("SELECT name, row_count, digest FROM store_move_tables WHERE digest IS NOT NULL")
                .fetch_all(&mut self.connection)
                .await
                .map_err(self.failed("store_move_tables"))?;
        let tally = |rows: i64, digest: Vec<u8>| Tally {
            rows: rows.unsigned_abs(),
            digest: digest.try_into().unwrap_or_default(),
        };
        Ok(kept.into_iter().map(|(name, rows, digest)| (name, tally(rows, digest))).collect())
    }

    /// Ends the move, in one transaction with what `more` writes: from its commit on pods may start.
    pub(super) async fn finish(
        &mut self,
        tables: &[(&'static str, Tally)],
        more: impl AsyncFnOnce(&mut PgConnection) -> Result<(), sqlx::Error>,
    ) -> Result<(), TransferError> {
        let failed = self.failed("the end of the move");
        let mut transaction = self.connection.begin().await.map_err(&failed)?;
        for (name, tally) in tables {
            sqlx::query(
                "INSERT INTO store_move_tables (name, row_count, digest) VALUES ($1, $2, $3) \
                 ON CONFLICT (name) DO UPDATE SET row_count = excluded.row_count, digest = excluded.digest",
            )
            .bind(name)
            .bind(tally.rows.cast_signed())
            .bind(&tally.digest[..])
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        }
        more(&mut transaction).await.map_err(&failed)?;
        sqlx::query("UPDATE store_move SET finished_at = now()").execute(&mut *transaction).await.map_err(&failed)?;
        transaction.commit().await.map_err(&failed)
    }

    /// Says goodbye, so that the server's log has no complaint.
    pub(super) async fn close(self) {
        let _closed = self.connection.close().await;
    }

    async fn count(&self, table: &'static Table) -> Result<u64, TransferError> {
        let count: i64 = sqlx::query_scalar(AssertSqlSafe(table.count_source()))
            .fetch_one(self.transfer.source)
            .await
            .map_err(self.unread(table.name))?;
        Ok(count.unsigned_abs())
    }

    fn progress(&self, table: &'static Table, step: Step, rows_done: u64, rows: u64) -> Progress {
        Progress { service: self.transfer.service, table: table.name, step, rows_done, rows }
    }

    fn unread(&self, table: &'static str) -> impl Fn(sqlx::Error) -> TransferError + use<> {
        let service = self.transfer.service;
        move |source| TransferError::Read { service, table, source }
    }

    fn failed(&self, table: &'static str) -> impl Fn(sqlx::Error) -> TransferError + use<> {
        let service = self.transfer.service;
        move |source| TransferError::Write { service, table, source }
    }
}
