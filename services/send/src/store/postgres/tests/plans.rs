//! Every statement, planned by the real server: hot ones find each row by an index whose condition names the column by which Citus
//! distributes the table, so that they go to the one shard that has it. `make citus-plan` runs these.

use flaghoist_backends::{Shards, statements_elsewhere};
use flaghoist_runtime::postgres::By;

use super::super::sql;
use super::*;

/// What distributes the tables.
const CITUS: &str = include_str!("../../../../migrations/citus.sql");

/// What is given in full, and must be found by an index, or the cost grows with the length of the log.
const EXACT: [&str; 4] = ["conversation_id", "request_id", "target_seq", "(seq "];

impl Place {
    fn shards(&self) -> Shards<'_> {
        Shards::new(self.postgres, &self.url, "send", CITUS)
    }
}

/// What is wrong with the plans of the hot statements.
async fn complaints(place: &Place) -> Vec<String> {
    let shards = place.shards();
    let mut complaints = Vec::new();
    for statement in sql::ALL.iter().filter(|statement| matches!(statement.by, By::Conversation | By::Person)) {
        complaints.extend(shards.complaints(&PLANNING, (statement.name, statement.text), &EXACT).await);
    }
    complaints
}

#[tokio::test]
async fn citus_every_hot_statement_names_the_distribution_column_of_each_table() {
    let Some(place) = Place::fresh().await else { return };
    let _pod = place.pod().await;
    let mut empty = complaints(&place).await;
    // The index of edits, as long as there is hardly one, is read whole instead.
    empty.retain(|complaint| !complaint.starts_with("ERASE_EDITS"));
    assert!(empty.is_empty(), "on empty tables\n{}", empty.join("\n"));
    // On the average a log is short; a plan that reads it whole would be ruinous for one that is not.
    place
        .sql(
            "INSERT INTO events (conversation_id, sender_id, seq, message_no, sent_no, created_at, kind, request_id,
                 request_digest, body)
             SELECT gen_random_uuid(), gen_random_uuid(), 1, 1, 1, 1, 1, 'r', 'd', 'b' FROM generate_series(1, 3000);
             INSERT INTO conversations (conversation_id, no, last_seq, last_public_seq, last_message_no, created_at,
                 member_count, kind, deleted, title)
             SELECT conversation_id, row_number() OVER (), 1, 1, 1, 1, 1, 1, false, '' FROM events;
             INSERT INTO members SELECT conversation_id, sender_id, 1, 1, 0, 0, 0, 1, 0, 0, 0, 1, '{}' FROM events;
             INSERT INTO events (conversation_id, sender_id, seq, message_no, sent_no, created_at, kind, request_id,
                 request_digest, body, target_seq)
             SELECT conversation_id, sender_id, 2, 1, 0, 1, 2, 'e', 'd', 'b', 1 FROM events LIMIT 500;
             ANALYZE",
        )
        .await;
    let short = complaints(&place).await;
    assert!(short.is_empty(), "where most logs are short\n{}", short.join("\n"));
}

#[tokio::test]
async fn citus_the_sweep_is_the_one_question_to_all_shards_and_reads_only_the_newest_part() {
    let Some(place) = Place::fresh().await else { return };
    let _pod = place.pod().await;
    let sweeps: Vec<_> = sql::ALL.iter().filter(|statement| statement.by == By::Sweep).collect();
    assert_eq!(sweeps.iter().map(|statement| statement.name).collect::<Vec<_>>(), ["CHANGED"]);
    let scanned = place.shards().scans(&PLANNING, sweeps[0].text).await;
    let mut found: Vec<_> = scanned.iter().map(|scan| (scan.table.as_str(), scan.condition.as_str())).collect();
    found.sort_unstable();
    let times = ["(created_at >= $1)", "(raised_at >= $1)"];
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].0 == "conversations" && found[0].1.contains("conversation_id"), "{found:?}");
    assert_eq!(found[1..], [("events", times[0]), ("receipts", times[1])]);
}

#[tokio::test]
async fn citus_every_table_carries_its_distribution_column_in_every_key() {
    let Some(place) = Place::fresh().await else { return };
    let _pod = place.pod().await;
    // Which epoch it is, and which migrations were made, is one row or few: they stay with the server that is asked.
    let broken = place.shards().broken_keys(&["_sqlx_migrations", "life"]).await;
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn citus_no_statement_is_written_elsewhere() {
    let found = statements_elsewhere(concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/postgres").as_ref());
    assert!(found.is_empty(), "put it into sql.rs: {}", found.join("\n"));
}
