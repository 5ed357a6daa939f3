//! A toy of a service is moved: to the end, interrupted, into the wrong place, and with something changed behind its back.

use std::borrow::Cow;

use flaghoist_backends::Postgres;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{Executor as _, SqlSafeStr as _};
use tempfile::TempDir;

use super::*;
use crate::sqlite::Database;

const TABLES: &[Table] = &[
    Table {
        name: "birds",
        columns: &[
            Column::same("bird", Kind::Id),
            Column::from("name", Kind::Bytes, "CAST(name AS BLOB)"),
            Column::same("seen", Kind::Numbers),
            Column::same("rare", Kind::Flag),
            Column::same("legs", Kind::Small),
            Column::same("eggs", Kind::Int),
            Column::same("note", Kind::Text),
        ],
        from: "birds",
        order: "no",
    },
    Table {
        name: "nests",
        columns: &[Column::same("nest", Kind::Big), Column::from("bird", Kind::Id, "b.bird")],
        from: "nests n LEFT JOIN birds b ON b.no = n.bird_no",
        order: "nest",
    },
];

const SQLITE: &str = "CREATE TABLE birds (no INTEGER PRIMARY KEY, bird BLOB, name TEXT, seen TEXT, rare INTEGER, legs INTEGER, \
    eggs INTEGER, note TEXT); CREATE TABLE nests (nest INTEGER PRIMARY KEY, bird_no INTEGER)";

const POSTGRES: &str = "CREATE TABLE birds (bird uuid PRIMARY KEY, name bytea NOT NULL, seen bigint[] NOT NULL, \
    rare boolean NOT NULL, legs smallint NOT NULL, eggs integer, note text); \
    CREATE TABLE nests (nest bigint PRIMARY KEY, bird uuid NOT NULL); CREATE TABLE finished (n bigint)";

fn migrator(sql: &'static str) -> Migrator {
    let migration = Migration::new(1, "toy".into(), MigrationType::Simple, sql.into_sql_str(), false);
    Migrator { migrations: Cow::Owned(vec![migration]), ..Migrator::DEFAULT }
}

/// Ten birds and eight nests, and an empty database.
struct Toy {
    postgres: &'static Postgres,
    url: String,
    migrator: Migrator,
    source: Database,
    installation: [u8; 32],
    heard: Vec<Progress>,
    _folder: TempDir,
}

impl Toy {
    async fn new() -> Option<Self> {
        let postgres = Postgres::shared().await?;
        let folder = tempfile::tempdir().unwrap();
        let source = crate::sqlite::open(&folder.path().join("toy.db"), &migrator(SQLITE)).await.unwrap();
        for no in 1..=10 {
            sqlx::query("INSERT INTO birds VALUES (?1, randomblob(16), ?2, ?3, ?4, 2, ?5, ?6)")
                .bind(no)
                .bind(format!("bird\0{no} 🐦"))
                .bind(["[]", "[[1,2]]", "[[1,2],[5,9]]"][no as usize % 3])
                .bind(no % 2)
                .bind((no > 5).then_some(no))
                .bind((no < 8).then(|| "it's \"so\", {here}\n".repeat(no as usize)))
                .execute(&source.writer)
                .await
                .unwrap();
        }
        source
            .writer
            .execute("INSERT INTO nests (nest, bird_no) SELECT no * 10, no FROM birds WHERE no > 2")
            .await
            .unwrap();
        let url = postgres.database().await;
        let migrator = migrator(POSTGRES);
        Some(Self { postgres, url, migrator, source, installation: [7; 32], heard: Vec::new(), _folder: folder })
    }

    async fn moves(&mut self) -> Result<Moved, TransferError> {
        let target = self.url.parse().unwrap();
        let plan = Transfer {
            service: "toy",
            tables: TABLES,
            source: &self.source.readers,
            target: &target,
            migrator: &self.migrator,
            installation: self.installation,
        };
        self.heard.clear();
        transfer(&plan, &mut |progress| self.heard.push(progress), async |connection| {
            connection.execute("INSERT INTO finished VALUES (1)").await.map(|_| ())
        })
        .await
    }

    /// How many rows of a table went over in this call.
    fn copied(&self, table: &str) -> usize {
        let of_it = self.heard.iter().filter(|progress| progress.table == table && progress.step == Step::Copied);
        of_it.count()
    }

    async fn sql(&self, text: &str) -> String {
        self.postgres.sql(&self.url, &format!("SET search_path = toy; {text}")).await
    }

    /// Has PostgreSQL refuse one of the birds, so that a move ends there.
    async fn stumbles(&self) {
        self.sql(
            "CREATE FUNCTION stumble() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'stumbled'; END $$; \
             CREATE TRIGGER stumble BEFORE INSERT ON birds FOR EACH ROW WHEN (NEW.eggs = 8) EXECUTE FUNCTION stumble()",
        )
        .await;
    }

    /// The tables without a move: as pods would have made them.
    async fn tables_are_there(&self) {
        let target = self.url.parse().unwrap();
        crate::postgres::open(&target, "toy", 1, &self.migrator).await.unwrap().close().await;
    }
}

#[tokio::test]
async fn every_row_goes_over_as_it_is_and_a_second_call_says_that_it_is_done() {
    let Some(mut toy) = Toy::new().await else { return };
    let moved = toy.moves().await.unwrap();
    assert!(!moved.before);
    assert_eq!(
        moved.tables.iter().map(|(name, tally)| (*name, tally.rows)).collect::<Vec<_>>(),
        [("birds", 10), ("nests", 8)]
    );
    let bird = "SELECT seen, rare, legs, eggs, encode(name, 'hex') FROM birds WHERE eggs = 8";
    assert_eq!(toy.sql(bird).await, format!("{{1,2,5,9}}|f|2|8|{}", hex("bird\x008 🐦")));
    assert_eq!(toy.sql("SELECT count(*) FROM nests JOIN birds USING (bird)").await, "8");

    let again = toy.moves().await.unwrap();
    assert!(again.before);
    assert_eq!(again.tables, moved.tables);
    assert_eq!(toy.copied("birds"), 0);
    assert_eq!(toy.sql("SELECT count(*) FROM finished").await, "1", "the end comes once");
    toy.tables_are_there().await;
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_move_that_was_interrupted_goes_on_where_it_was_and_pods_wait_for_its_end() {
    let Some(mut toy) = Toy::new().await else { return };
    toy.tables_are_there().await;
    toy.stumbles().await;
    let interrupted = toy.moves().await.unwrap_err();
    assert!(matches!(interrupted, TransferError::Write { table: "birds", .. }), "{interrupted}");
    assert!(interrupted.to_string().contains("call this again"), "{interrupted}");
    assert_eq!(toy.sql("SELECT count(*) FROM birds").await, "6", "the batches before it are there");

    let pod = crate::postgres::open(&toy.url.parse().unwrap(), "toy", 1, &toy.migrator).await.unwrap_err();
    assert!(pod.to_string().contains("migrate-store"), "{pod}");

    toy.sql("DROP TRIGGER stumble ON birds").await;
    let moved = toy.moves().await.unwrap();
    assert!(!moved.before);
    assert_eq!(toy.copied("birds"), 2, "two batches of three were left");
    assert_eq!(toy.sql("SELECT count(*) FROM birds").await, "10");
}

#[tokio::test]
async fn a_row_that_was_changed_meanwhile_is_found_by_the_digest() {
    let Some(mut toy) = Toy::new().await else { return };
    toy.tables_are_there().await;
    toy.stumbles().await;
    toy.moves().await.unwrap_err();
    toy.sql("DROP TRIGGER stumble ON birds; UPDATE birds SET legs = 3 WHERE eggs = 6").await;
    let found = toy.moves().await.unwrap_err();
    assert!(matches!(found, TransferError::Differs { table: "birds", .. }), "{found}");
    assert_eq!(toy.sql("SELECT finished_at IS NULL FROM store_move").await, "t");
    toy.sql("UPDATE birds SET legs = 2").await;
    toy.moves().await.unwrap();
}

#[tokio::test]
async fn rows_that_are_missing_or_too_many_are_found() {
    let Some(mut toy) = Toy::new().await else { return };
    toy.tables_are_there().await;
    toy.stumbles().await;
    toy.moves().await.unwrap_err();
    toy.sql("DROP TRIGGER stumble ON birds; DELETE FROM birds WHERE eggs = 6").await;
    let found = toy.moves().await.unwrap_err();
    let TransferError::Differs { source_tally, target_tally, .. } = found else { panic!("{found}") };
    assert_eq!((source_tally.rows, target_tally.rows), (10, 9));
    // And where the source was written to since.
    toy.sql("DROP SCHEMA toy CASCADE").await;
    toy.moves().await.unwrap();
    toy.source.writer.execute("UPDATE birds SET eggs = 100 WHERE no = 9").await.unwrap();
    let found = toy.moves().await.unwrap_err();
    assert!(matches!(found, TransferError::UsedSince { table: "birds", .. }), "{found}");
}

#[tokio::test]
async fn a_database_that_holds_something_is_refused_and_left_alone() {
    let Some(mut toy) = Toy::new().await else { return };
    toy.tables_are_there().await;
    toy.sql("INSERT INTO nests VALUES (1, gen_random_uuid())").await;
    let refused = toy.moves().await.unwrap_err();
    assert!(matches!(refused, TransferError::Filled { table: "nests", .. }), "{refused}");
    assert_eq!(toy.sql("SELECT count(*) FROM birds").await, "0");
    toy.tables_are_there().await;

    toy.sql("DELETE FROM nests").await;
    toy.moves().await.unwrap();
    toy.installation = [8; 32];
    let refused = toy.moves().await.unwrap_err();
    assert!(matches!(refused, TransferError::Another { .. }), "{refused}");
}

#[tokio::test]
async fn pods_and_another_move_are_in_the_way() {
    let Some(mut toy) = Toy::new().await else { return };
    let pod = crate::postgres::open(&toy.url.parse().unwrap(), "toy", 1, &toy.migrator).await.unwrap();
    let held = pod.acquire().await.unwrap();
    let refused = toy.moves().await.unwrap_err();
    assert!(matches!(refused, TransferError::Pods { connections: 1, .. }), "{refused}");
    drop(held);
    sqlx::query("SELECT pg_advisory_lock(hashtext('flaghoist move toy'))").execute(&pod).await.unwrap();
    let refused = toy.moves().await.unwrap_err();
    assert!(matches!(refused, TransferError::Busy { .. }), "{refused}");
    pod.close().await;
    // The server notices a moment later that the connection is gone.
    while let Err(TransferError::Pods { .. } | TransferError::Busy { .. }) = toy.moves().await {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(toy.moves().await.unwrap().before);
}
