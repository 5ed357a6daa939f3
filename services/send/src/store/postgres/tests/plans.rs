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

/// The scans in a plan: the table, and the conditions by which an index finds its rows.
fn scans<'v>(node: &'v Value, table: Option<&'v str>, found: &mut Vec<(String, String)>) {
    match node {
        Value::Array(nodes) => nodes.iter().for_each(|node| scans(node, table, found)),
        Value::Object(fields) => {
            let text = |name: &str| fields.get(name).and_then(Value::as_str);
            let kind = text("Node Type").unwrap_or_default();
            let table = text("Relation Name").or(table);
            // A bitmap names the table above and the condition below.
            if kind.ends_with("Scan") && kind != "Bitmap Heap Scan" && (kind.contains("Index") || kind == "Seq Scan") {
                let condition = text("Index Cond").unwrap_or("none");
                found.push((table.unwrap_or_default().to_owned(), condition.to_owned()));
            }
            for child in fields.values().filter(|child| child.is_array() || child.is_object()) {
                scans(child, table, found);
            }
        }
        _ => {}
    }
}

#[tokio::test]
async fn citus_every_hot_statement_names_the_distribution_column_of_each_table() {
    let Some(place) = Place::fresh().await else { return };
    let _pod = place.pod().await;
    let distribution = distribution();
    let mut complaints = String::new();
    for statement in sql::ALL.iter().filter(|statement| matches!(statement.by, By::Conversation | By::Person)) {
        let mut found = Vec::new();
        scans(&plan(&place, statement).await, None, &mut found);
        for (table, condition) in &found {
            let column = distribution.iter().find(|(name, _)| name == table).map(|(_, column)| column.as_str());
            if !column.is_some_and(|column| condition.contains(column)) {
                writeln!(complaints, "{}: {table} is searched by {condition}", statement.name).unwrap();
            }
        }
        // An insertion goes where its rows say.
        if let Some(into) = statement.text.strip_prefix("INSERT INTO ") {
            let (table, rest) = into.split_once(' ').unwrap();
            let columns = rest.split_once('(').unwrap().1.split_once(')').unwrap().0;
            let column = distribution.iter().find(|(name, _)| name == table).map(|(_, column)| column.as_str());
            if !columns.split(", ").any(|named| Some(named) == column) {
                writeln!(complaints, "{}: the rows for {table} do not say their shard", statement.name).unwrap();
            }
        } else if found.is_empty() {
            writeln!(complaints, "{}: nothing is searched", statement.name).unwrap();
        }
    }
    assert!(complaints.is_empty(), "\n{complaints}");
}

#[tokio::test]
async fn citus_the_sweep_is_the_one_question_to_all_shards_and_reads_only_the_newest_part() {
    let Some(place) = Place::fresh().await else { return };
    let _pod = place.pod().await;
    let sweeps: Vec<_> = sql::ALL.iter().filter(|statement| statement.by == By::Sweep).collect();
    assert_eq!(sweeps.iter().map(|statement| statement.name).collect::<Vec<_>>(), ["CHANGED"]);
    let mut found = Vec::new();
    scans(&plan(&place, sweeps[0]).await, None, &mut found);
    found.sort();
    let found: Vec<_> = found.iter().map(|(table, condition)| (table.as_str(), condition.as_str())).collect();
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
