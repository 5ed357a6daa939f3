//! What the tests of the stores rely on.

use super::{Postgres, Stop};

#[tokio::test]
async fn each_database_is_fresh_and_its_role_owns_it_and_no_more() {
    let Some(postgres) = Postgres::shared().await else { return };
    let (one, other) = (postgres.database().await, postgres.database().await);
    assert_ne!(one, other);
    postgres.sql(&one, "CREATE SCHEMA send; CREATE TABLE send.t AS SELECT 7 AS n").await;
    assert_eq!(postgres.sql(&one, "SELECT n, n + 1 FROM send.t").await, "7|8");
    assert!(postgres.try_sql(&other, "SELECT n FROM send.t").await.is_err());
    assert!(postgres.try_sql(&one, "CREATE ROLE another").await.is_err(), "it is no superuser");
    assert_eq!(postgres.sql(&one, "SHOW fsync").await, "on");
}

#[tokio::test]
async fn what_was_committed_outlives_a_crash_and_a_stop() {
    let Some(postgres) = Postgres::start().await else { return };
    let url = postgres.database().await;
    postgres.sql(&url, "CREATE TABLE t AS SELECT 7 AS n").await;
    postgres.crash().await;
    assert!(postgres.try_sql(&url, "SELECT n FROM t").await.is_err());
    postgres.start_again().await;
    assert_eq!(postgres.sql(&url, "SELECT n FROM t").await, "7");
    assert!(postgres.log().contains("automatic recovery"), "{}", postgres.log());
    postgres.stop(Stop::Fast).await;
    postgres.start_again().await;
    assert_eq!(postgres.sql(&url, "SELECT n FROM t").await, "7");
}

#[tokio::test]
async fn a_wrong_password_is_refused() {
    let Some(postgres) = Postgres::shared().await else { return };
    let url = postgres.database().await.replace(postgres.password(), "guessed");
    assert!(postgres.try_sql(&url, "SELECT 1").await.is_err());
}
