//! Every statement, planned by the real server: hot ones find each row by an index whose condition names the column by which Citus
//! distributes the table, so that they go to the one shard that has it. `make citus-plan` runs these.

use std::fmt::Write as _;

use serde_json::Value;

use super::super::sql::{self, By, Statement};
use super::*;

/// What distributes the tables.
const CITUS: &str = include_str!("../../../../migrations/citus.sql");

/// The tables and their distribution columns, as `citus.sql` has them.
fn distribution() -> Vec<(String, String)> {
    let calls = CITUS.lines().filter_map(|line| line.strip_prefix("SELECT create_distributed_table('"));
    let names = calls.map(|call| {
        let mut parts = call.split('\'');
        (parts.next().unwrap().to_owned(), parts.nth(1).unwrap().to_owned())
    });
    names.collect()
}

/// The plan that a pod has of a statement.
async fn plan(place: &Place, statement: &Statement) -> Value {
    let parameters = (1..).take_while(|number| statement.text.contains(&format!("${number}"))).count();
    let mut text = String::new();
    for (setting, value) in PLANNING {
        write!(text, "SET {setting} = {value}; ").unwrap();
    }
    let nulls = if parameters == 0 { String::new() } else { format!("({})", vec!["NULL"; parameters].join(", ")) };
    write!(text, "PREPARE s AS {}; EXPLAIN (FORMAT JSON, COSTS OFF) EXECUTE s{nulls}", statement.text).unwrap();
    serde_json::from_str(&place.sql(&text).await).unwrap()
}

/// A look into a table.
struct Scan {
    table: String,
    /// By which an index finds the rows.
    condition: String,
    /// By which those are dropped that were found in vain.
    filter: String,
}

/// The scans in a plan.
fn scans<'v>(node: &'v Value, table: Option<&'v str>, found: &mut Vec<Scan>) {
    match node {
        Value::Array(nodes) => nodes.iter().for_each(|node| scans(node, table, found)),
        Value::Object(fields) => {
            let text = |name: &str| fields.get(name).and_then(Value::as_str);
            let kind = text("Node Type").unwrap_or_default();
            let table = text("Relation Name").or(table);
            // A bitmap names the table above and the condition below.
            if kind.ends_with("Scan") && kind != "Bitmap Heap Scan" && (kind.contains("Index") || kind == "Seq Scan") {
                let filter = text("Filter").unwrap_or_default().to_owned();
                let condition = text("Index Cond").unwrap_or("none").to_owned();
                found.push(Scan { table: table.unwrap_or_default().to_owned(), condition, filter });
            }
            for child in fields.values().filter(|child| child.is_array() || child.is_object()) {
                scans(child, table, found);
            }
        }
        _ => {}
    }
}

/// What is wrong with the plans of the hot statements.
async fn complaints(place: &Place) -> String {
    let distribution = distribution();
    let column_of =
        |table: &str| distribution.iter().find(|(name, _)| name == table).map(|(_, column)| column.as_str());
    let mut complaints = String::new();
    for statement in sql::ALL.iter().filter(|statement| matches!(statement.by, By::Conversation | By::Person)) {
        let mut found = Vec::new();
        scans(&plan(place, statement).await, None, &mut found);
        for Scan { table, condition, filter } in &found {
            if !column_of(table).is_some_and(|column| condition.contains(column)) {
                writeln!(complaints, "{}: {table} is searched by {condition}", statement.name).unwrap();
            }
            // What is given exactly must be found by an index, or the cost grows with the length of the log.
            if ["conversation_id", "request_id", "target_seq", "(seq "].iter().any(|given| filter.contains(given)) {
                writeln!(complaints, "{}: {table} is read by {condition} to find {filter}", statement.name).unwrap();
            }
        }
        // An insertion goes where its rows say.
        if let Some(into) = statement.text.strip_prefix("INSERT INTO ") {
            let (table, rest) = into.split_once(' ').unwrap();
            let columns = rest.split_once('(').unwrap().1.split_once(')').unwrap().0;
            if !columns.split(", ").any(|named| Some(named) == column_of(table)) {
                writeln!(complaints, "{}: the rows for {table} do not say their shard", statement.name).unwrap();
            }
        } else if found.is_empty() {
            writeln!(complaints, "{}: nothing is searched", statement.name).unwrap();
        }
    }
    complaints
}

#[tokio::test]
async fn citus_every_hot_statement_names_the_distribution_column_of_each_table() {
    let Some(place) = Place::fresh().await else { return };
    let _pod = place.pod().await;
    let empty = complaints(&place).await;
    // The index of edits, as long as there is hardly one, is read whole instead.
    let empty: Vec<&str> = empty.lines().filter(|complaint| !complaint.starts_with("ERASE_EDITS")).collect();
    let empty = empty.join("\n");
    assert!(empty.is_empty(), "on empty tables\n{empty}");
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
    assert!(short.is_empty(), "where most logs are short\n{short}");
}

#[tokio::test]
async fn citus_the_sweep_is_the_one_question_to_all_shards_and_reads_only_the_newest_part() {
    let Some(place) = Place::fresh().await else { return };
    let _pod = place.pod().await;
    let sweeps: Vec<_> = sql::ALL.iter().filter(|statement| statement.by == By::Sweep).collect();
    assert_eq!(sweeps.iter().map(|statement| statement.name).collect::<Vec<_>>(), ["CHANGED"]);
    let mut scanned = Vec::new();
    scans(&plan(&place, sweeps[0]).await, None, &mut scanned);
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
    let tables = place
        .sql(
            "SELECT relname FROM pg_class WHERE relnamespace = 'send'::regnamespace AND relkind = 'r' ORDER BY relname",
        )
        .await;
    let local = ["_sqlx_migrations", "life"];
    let tables: Vec<&str> = tables.lines().filter(|table| !local.contains(table)).collect();
    let mut distributed: Vec<String> = distribution().into_iter().map(|(table, _)| table).collect();
    distributed.sort();
    assert_eq!(tables, distributed);
    for (table, column) in distribution() {
        let keys = format!(
            "SELECT i.indexrelid::regclass FROM pg_index i WHERE i.indrelid = '{table}'::regclass AND i.indisunique AND NOT EXISTS \
             (SELECT FROM pg_attribute a WHERE a.attrelid = i.indexrelid AND a.attname = '{column}')"
        );
        assert_eq!(place.sql(&keys).await, "", "keys of {table} without {column}");
    }
}

#[test]
fn citus_no_statement_is_written_elsewhere() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/postgres");
    for file in std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()) {
        if file.extension().is_some_and(|extension| extension == "rs") && !file.ends_with("tests.rs") {
            let text = std::fs::read_to_string(&file).unwrap();
            for call in ["query(\"", "query_as(\"", "query_scalar(\"", "raw_sql(\""] {
                assert!(!text.contains(call), "{}: put it into sql.rs", file.display());
            }
        }
    }
}
