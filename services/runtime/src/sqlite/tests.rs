//! What the store is opened for: answered means on disk, deleted means deleted, a full disk passes.

use std::borrow::Cow;

use sqlx::migrate::{Migration, MigrationType};
use sqlx::{Row as _, SqlSafeStr as _};

use super::*;

const V1: &str = "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT";
const V2: &str = "ALTER TABLE notes ADD COLUMN more TEXT";

fn migrator(versions: &[&'static str]) -> Migrator {
    let migrations = versions.iter().zip(1..).map(|(sql, version)| {
        Migration::new(version, "test".into(), MigrationType::Simple, (*sql).into_sql_str(), false)
    });
    Migrator { migrations: Cow::Owned(migrations.collect()), ..Migrator::DEFAULT }
}

async fn pragma(pool: &SqlitePool, name: &'static str) -> String {
    let row = sqlx::query(sqlx::AssertSqlSafe(format!("PRAGMA {name}"))).fetch_one(pool).await.unwrap();
    row.try_get::<String, _>(0).or_else(|_| row.try_get::<i64, _>(0).map(|number| number.to_string())).unwrap()
}

#[tokio::test]
async fn the_connections_are_tuned_for_what_is_promised() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(&folder.path().join("test.db"), &migrator(&[V1])).await.unwrap();
    for (name, value) in [
        ("journal_mode", "wal"),
        ("synchronous", "2"),
        ("foreign_keys", "1"),
        ("secure_delete", "1"),
        ("busy_timeout", "5000"),
    ] {
        assert_eq!(pragma(&database.writer, name).await, value, "{name}");
    }
    assert_eq!(pragma(&database.readers, "query_only").await, "1");
    let refused = sqlx::query("INSERT INTO notes (text) VALUES ('x')").execute(&database.readers).await;
    assert!(refused.is_err());
}

#[tokio::test]
async fn what_was_written_is_there_after_opening_again_and_the_tables_move_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.db");
    let database = open(&path, &migrator(&[V1])).await.unwrap();
    sqlx::query("INSERT INTO notes (text) VALUES ('kept')").execute(&database.writer).await.unwrap();
    let read = sqlx::query("SELECT text FROM notes").fetch_one(&database.readers).await.unwrap();
    assert_eq!(read.get::<String, _>(0), "kept");
    database.close().await;
    let database = open(&path, &migrator(&[V1, V2])).await.unwrap();
    let read = sqlx::query("SELECT text, more FROM notes").fetch_one(&database.readers).await.unwrap();
    assert_eq!((read.get::<String, _>(0), read.get::<Option<String>, _>(1)), ("kept".into(), None));
    database.close().await;
    let error = open(&path, &migrator(&[V1])).await.unwrap_err();
    assert!(matches!(error, OpenError::Newer { .. }), "{error}");
    assert!(error.to_string().contains("newer version of flaghoist"));
}

#[tokio::test]
async fn deleted_text_is_gone_from_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.db");
    let database = open(&path, &migrator(&[V1])).await.unwrap();
    for sql in ["INSERT INTO notes (id, text) VALUES (1, 'a secret plan')", "DELETE FROM notes"] {
        sqlx::query(sql).execute(&database.writer).await.unwrap();
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&database.writer).await.unwrap();
    }
    let file = std::fs::read(&path).unwrap();
    assert!(!file.windows(13).any(|window| window == b"a secret plan"));
}

#[tokio::test]
async fn a_full_disk_is_a_passing_fault_and_the_store_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(&folder.path().join("test.db"), &migrator(&[V1])).await.unwrap();
    sqlx::query("PRAGMA max_page_count = 20").execute(&database.writer).await.unwrap();
    let insert = "INSERT INTO notes (text) VALUES (hex(zeroblob(1000000)))";
    let error = sqlx::query(insert).execute(&database.writer).await.unwrap_err();
    assert!(transient(&error), "{error}");
    assert_eq!(fault("writing a note", &error).code(), tonic::Code::Unavailable);
    sqlx::query("PRAGMA max_page_count = 100000").execute(&database.writer).await.unwrap();
    sqlx::query(insert).execute(&database.writer).await.unwrap();
    let error = sqlx::query("INSERT INTO nowhere VALUES (1)").execute(&database.writer).await.unwrap_err();
    assert!(!transient(&error), "{error}");
}

#[tokio::test]
async fn the_log_is_moved_into_the_file_beside_the_writer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.db");
    let database = open(&path, &migrator(&[V1])).await.unwrap();
    let before = std::fs::metadata(&path).unwrap().len();
    sqlx::query("INSERT INTO notes (text) VALUES (hex(zeroblob(100000)))").execute(&database.writer).await.unwrap();
    let moved = async {
        while std::fs::metadata(&path).unwrap().len() < before + 100_000 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), moved).await.expect("the checkpointer runs");
    drop(database);
}

#[tokio::test]
async fn a_copy_is_of_one_moment_and_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    let (path, to) = (folder.path().join("test.db"), folder.path().join("copy.db"));
    let database = open(&path, &migrator(&[V1])).await.unwrap();
    for sql in ["INSERT INTO notes (text) VALUES ('a deleted plan')", "DELETE FROM notes"] {
        sqlx::query(sql).execute(&database.writer).await.unwrap();
    }
    sqlx::query("INSERT INTO notes (text) VALUES ('committed')").execute(&database.writer).await.unwrap();
    let mut later = database.writer.begin().await.unwrap();
    sqlx::query("INSERT INTO notes (text) VALUES ('later')").execute(&mut *later).await.unwrap();
    copy(&path, &to).await.unwrap();
    later.commit().await.unwrap();

    let bytes = std::fs::read(&to).unwrap();
    assert!(!bytes.windows(14).any(|window| window == b"a deleted plan"));
    let copied = open(&to, &migrator(&[V1])).await.unwrap();
    let texts: Vec<String> = sqlx::query_scalar("SELECT text FROM notes").fetch_all(&copied.readers).await.unwrap();
    assert_eq!(texts, ["committed"]);
    assert_eq!(pragma(&copied.writer, "journal_mode").await, "wal");
    let error = copy(&path, &to).await.unwrap_err();
    assert!(matches!(error, CopyError::Copy { .. }), "never over something: {error}");
}

#[tokio::test]
async fn a_missing_folder_says_what_to_look_at() {
    let error = open(Path::new("/nonexistent/test.db"), &migrator(&[V1])).await.unwrap_err();
    assert!(error.to_string().contains("does the folder exist"), "{error}");
}
