//! How a store in PostgreSQL is opened: what is refused, and what several pods and several versions may do at once.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use flaghoist_backends::{Link, Postgres, Stop};
use flaghoist_runtime::postgres::{self, OpenError};
use flaghoist_runtime::settings::{Reader, Setting};
use flaghoist_runtime::{Readiness, StoreAddress};
use sqlx::SqlSafeStr as _;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::postgres::PgConnectOptions;

const STORE: Setting = Setting { name: "FLAGHOIST_TEST_STORE", default: "sqlite", doc: "where" };

/// The first `count` versions of a schema.
fn schema(count: usize) -> Migrator {
    let steps = ["CREATE TABLE notes (text TEXT)", "ALTER TABLE notes ADD COLUMN author TEXT NOT NULL DEFAULT ''"];
    let migrations = steps.iter().take(count).enumerate().map(|(number, sql)| {
        let version = i64::try_from(number).expect("two versions") + 1;
        Migration::new(version, Cow::Borrowed("step"), MigrationType::Simple, sql.into_sql_str(), false)
    });
    Migrator::with_migrations(migrations.collect())
}

fn address(url: &str) -> PgConnectOptions {
    url.parse().expect("the harness gives addresses")
}

#[tokio::test]
async fn pods_that_start_together_make_the_tables_once_and_old_ones_go_on_beside_new_ones() {
    let Some(server) = Postgres::shared().await else { return };
    let url = server.database().await;
    let (address, first) = (address(&url), schema(1));
    let opened = futures_util::future::join_all((0..4).map(|_| postgres::open(&address, "notes", 2, &first))).await;
    let old = opened.into_iter().map(|pool| pool.expect("each pod starts")).next_back().expect("four pods");
    let new = postgres::open(&address, "notes", 2, &schema(2)).await.expect("a newer version starts");
    sqlx::query("INSERT INTO notes (text, author) VALUES ('new', 'she')").execute(&new).await.expect("new writes");
    sqlx::query("INSERT INTO notes (text) VALUES ('old')").execute(&old).await.expect("old goes on");
    // It is restarted beside the newer ones.
    let old = postgres::open(&address, "notes", 2, &first).await.expect("an older version starts on the newer schema");
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM notes").fetch_one(&old).await.expect("it reads");
    assert_eq!(count, 2);
    assert_eq!(
        server.sql(&url, "SELECT count(*) FROM notes.notes").await,
        "2",
        "the schema is named after the service"
    );
}

#[tokio::test]
async fn a_server_that_would_lose_answered_writes_is_refused() {
    let Some(server) = Postgres::start().await else { return };
    let url = server.database().await;
    let admin = server.superuser_url("postgres");
    server.sql(&admin, "ALTER SYSTEM SET fsync = off").await;
    server.sql(&admin, "SELECT pg_reload_conf()").await;
    while server.sql(&url, "SHOW fsync").await != "off" {
        tokio::task::yield_now().await;
    }
    let refused = postgres::open(&address(&url), "notes", 2, &schema(1)).await.expect_err("fsync is off");
    assert!(matches!(refused, OpenError::Forgetful { setting: "fsync", .. }), "{refused}");
    assert!(!refused.to_string().contains(server.password()));
}

#[tokio::test]
async fn a_server_that_forgets_by_default_is_told_not_to() {
    let Some(server) = Postgres::start().await else { return };
    let url = server.database().await;
    let admin = server.superuser_url("postgres");
    server.sql(&admin, "ALTER SYSTEM SET synchronous_commit = off").await;
    server.sql(&admin, "SELECT pg_reload_conf()").await;
    while server.sql(&url, "SHOW synchronous_commit").await != "off" {
        tokio::task::yield_now().await;
    }
    let pool = postgres::open(&address(&url), "notes", 2, &schema(1)).await.expect("it is asked for durable commits");
    let (commit, timeout): (String, String) =
        sqlx::query_as("SELECT current_setting('synchronous_commit'), current_setting('statement_timeout')")
            .fetch_one(&pool)
            .await
            .expect("it answers");
    assert_eq!((&*commit, &*timeout), ("on", "5s"));
}

#[tokio::test]
async fn a_database_that_cannot_hold_every_text_is_refused() {
    let Some(server) = Postgres::shared().await else { return };
    let admin = server.superuser_url("postgres");
    let name = format!("latin_{}", std::process::id());
    let make = format!("CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
    server.sql(&admin, &make).await;
    let refused = postgres::open(&address(&server.superuser_url(&name)), "notes", 2, &schema(1)).await;
    assert!(matches!(refused.expect_err("LATIN1"), OpenError::Encoding { encoding, .. } if encoding == "LATIN1"));
}

#[tokio::test]
async fn a_wrong_password_is_refused_at_once_and_a_server_that_is_away_is_waited_for() {
    let Some(server) = Postgres::start().await else { return };
    let url = server.database().await;
    let wrong = address(&url.replace(server.password(), "guessed"));
    let refused = postgres::open(&wrong, "notes", 2, &schema(1)).await.expect_err("the password is wrong");
    assert!(matches!(refused, OpenError::Open { .. }), "{refused}");

    server.stop(Stop::Fast).await;
    let (address, schema) = (address(&url), schema(1));
    let mut opening = std::pin::pin!(postgres::open(&address, "notes", 2, &schema));
    let waited = tokio::time::timeout(Duration::from_millis(200), &mut opening).await;
    assert!(waited.is_err(), "it waits");
    server.start_again().await;
    let pool = opening.await.expect("the server is back");

    let readiness = Readiness::new();
    postgres::watch(&pool, readiness.dependency("notes: PostgreSQL"));
    readiness.ready().await;
    server.stop(Stop::Fast).await;
    while readiness.is_ready() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(readiness.waiting_for(), ["notes: PostgreSQL"]);
    server.start_again().await;
    readiness.ready().await;
}

#[tokio::test]
async fn a_network_that_goes_silent_keeps_no_place_of_the_pool() {
    let Some(server) = Postgres::shared().await else { return };
    let url = server.database().await;
    let link = Link::new(([127, 0, 0, 1], server.port()).into());
    let through = address(&url).host("127.0.0.1").port(link.address().port());
    let pool = postgres::open(&through, "notes", 2, &schema(1)).await.expect("the network is there");
    let ask = async |patience| {
        let asking = sqlx::query("SELECT 1").execute(&pool);
        tokio::time::timeout(patience, asking).await.is_ok_and(|answer| answer.is_ok())
    };
    let (long, short) = (Duration::from_secs(20), Duration::from_millis(300));
    let (one, other) = tokio::join!(ask(long), ask(long));
    assert!(one && other && pool.size() == 2);
    // A connection on its way back is asked by the pool itself after us, without a limit (see `answers`): not what is cut here.
    while pool.num_idle() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    link.cut();
    // Two callers who give up: what becomes of their connections nobody is told.
    let (one, other) = tokio::join!(ask(short), ask(short));
    assert!(!one && !other);
    let began = tokio::time::Instant::now();
    while pool.size() > 0 {
        assert!(began.elapsed() < Duration::from_secs(20), "{} places are still taken", pool.size());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    link.mend();
    assert!(ask(long).await, "a new connection is made");
}

#[test]
fn an_address_is_read_and_never_shown_with_its_password() {
    let read = |text: &str| {
        let source = BTreeMap::from([(STORE.name, text)]);
        let mut reader = Reader::new(&source);
        let address = StoreAddress::read(&mut reader, &STORE);
        (format!("{address:?}"), reader.finish().map_err(|mistakes| mistakes.to_string()))
    };
    assert_eq!(read("sqlite"), ("Folder".to_owned(), Ok(())));
    let (shown, good) = read("postgres://chat:s3cret@db.example:5433/chat");
    assert_eq!((&*shown, good), ("Postgres(db.example:5433/chat)", Ok(())));
    for wrong in
        ["postgres://chat:s3cret@db.example", "mysql://chat:s3cret@db/chat", "postgres://chat:s3cret@db:x/chat"]
    {
        let (shown, refused) = read(wrong);
        let refused = refused.expect_err(wrong);
        assert!(refused.contains(STORE.name) && !refused.contains("s3cret") && !shown.contains("s3cret"), "{refused}");
    }
}
