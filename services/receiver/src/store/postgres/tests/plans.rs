//! Every statement, planned by the real server: each finds its rows by an index whose condition names the person, by whom Citus
//! distributes the tables, so that it goes to the shards of those people. `make citus-plan` runs these.

use flaghoist_backends::{Shards, statements_elsewhere};
use flaghoist_runtime::postgres::By;

use super::super::sql;
use super::*;

/// What distributes the tables.
const CITUS: &str = include_str!("../../../../migrations/citus.sql");

/// What is given in full, and must be found by an index, or a person with many devices and conversations pays for it.
const EXACT: [&str; 3] = ["user_id", "device_id", "conversation_id"];

/// What is wrong with the plans of all statements that are part of a call.
async fn complaints(shards: &Shards<'_>, planning: &[(&str, &str)]) -> Vec<String> {
    let mut complaints = Vec::new();
    for statement in sql::ALL.iter().filter(|statement| statement.by == By::Person) {
        complaints.extend(shards.complaints(planning, (statement.name, statement.text), &EXACT).await);
    }
    complaints
}

#[tokio::test]
async fn citus_every_hot_statement_names_the_distribution_column_of_each_table() {
    let Some((server, url, _pods)) = pods(1).await else { return };
    let shards = Shards::new(server, &url, "receiver", CITUS);
    // Next to nothing is as quickly read from end to end.
    let empty = complaints(&shards, &[("enable_seqscan", "off")]).await;
    assert!(empty.is_empty(), "on empty tables\n{}", empty.join("\n"));
    shards
        .sql(
            "INSERT INTO devices SELECT decode(md5(n::text), 'hex'), 'phone', decode(md5('s' || n), 'hex'), 1, 1, 1
             FROM generate_series(1, 3000) AS n;
             INSERT INTO positions SELECT d.user_id, d.device_id, decode(md5('c' || n), 'hex'), 1, 1
             FROM devices AS d, generate_series(1, 10) AS n;
             ANALYZE devices, positions",
        )
        .await;
    let filled = complaints(&shards, &[]).await;
    assert!(filled.is_empty(), "on tables with rows\n{}", filled.join("\n"));
}

#[tokio::test]
async fn citus_only_the_hourly_look_for_unused_devices_does_not_name_the_person() {
    // It asks for the oldest of all, so no person can be named; what it finds is removed by statements that name them.
    let others: Vec<_> = sql::ALL.iter().filter(|statement| statement.by != By::Person).collect();
    let named: Vec<_> = others.iter().map(|statement| (statement.name, statement.by)).collect();
    assert_eq!(named, [("UNUSED", By::Rare)]);
    // And it would be noticed as part of a call.
    let Some((server, url, _pods)) = pods(1).await else { return };
    let shards = Shards::new(server, &url, "receiver", CITUS);
    let told = shards.complaints(&[], ("UNUSED", others[0].text), &EXACT).await;
    assert_eq!(told, ["UNUSED: devices is searched by none"]);
}

#[tokio::test]
async fn citus_every_table_carries_its_distribution_column_in_every_key() {
    let Some((server, url, _pods)) = pods(1).await else { return };
    // Which migrations were made stays with the server that is asked.
    let broken = Shards::new(server, &url, "receiver", CITUS).broken_keys(&["_sqlx_migrations"]).await;
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn citus_no_statement_is_written_elsewhere() {
    let found = statements_elsewhere(concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/postgres").as_ref());
    assert!(found.is_empty(), "put it into sql.rs: {}", found.join("\n"));
}
