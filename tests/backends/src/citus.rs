//! Whether statements find their rows in one shard, where Citus distributes the tables over several servers. Citus itself is not
//! needed: a plain server plans each statement, and a look into a table that is to go to one shard names the distribution column in
//! the condition by which an index finds the rows.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use crate::Postgres;

/// A look into a table.
#[derive(Clone, Debug)]
pub struct Scan {
    /// The table.
    pub table: String,
    /// By which an index finds the rows.
    pub condition: String,
    /// By which those are dropped that were found in vain.
    pub filter: String,
}

/// The tables of a service, and how they are distributed.
#[derive(Clone, Debug)]
pub struct Shards<'s> {
    server: &'s Postgres,
    url: &'s str,
    schema: &'s str,
    /// The distribution column of each table.
    distribution: Vec<(String, String)>,
}

impl<'s> Shards<'s> {
    /// The tables in `schema` of a database, as `citus` (the text of the service's `citus.sql`) distributes them.
    pub fn new(server: &'s Postgres, url: &'s str, schema: &'s str, citus: &str) -> Self {
        let calls = citus.lines().filter_map(|line| line.strip_prefix("SELECT create_distributed_table('"));
        let names = calls.filter_map(|call| {
            let mut parts = call.split('\'');
            Some((parts.next()?.to_owned(), parts.nth(1)?.to_owned()))
        });
        Self { server, url, schema, distribution: names.collect() }
    }

    /// Runs statements in the schema.
    pub async fn sql(&self, text: &str) -> String {
        self.server.sql(self.url, &format!("SET search_path = {}; {text}", self.schema)).await
    }

    fn column_of(&self, table: &str) -> Option<&str> {
        self.distribution.iter().find(|(name, _)| name == table).map(|(_, column)| column.as_str())
    }

    /// The looks into tables in the one plan that a pod has of a statement, `planning` being the settings of its connection.
    ///
    /// # Panics
    /// With the server's complaint about the statement.
    pub async fn scans(&self, planning: &[(&str, &str)], statement: &str) -> Vec<Scan> {
        let parameters = (1..).take_while(|number| statement.contains(&format!("${number}"))).count();
        let mut text = String::from("SET plan_cache_mode = force_generic_plan; ");
        for (setting, value) in planning {
            // Writing to a string does not fail.
            let _ok = write!(text, "SET {setting} = {value}; ");
        }
        let nulls = if parameters == 0 { String::new() } else { format!("({})", vec!["NULL"; parameters].join(", ")) };
        let _ok = write!(text, "PREPARE s AS {statement}; EXPLAIN (FORMAT JSON, COSTS OFF) EXECUTE s{nulls}");
        let plan = self.sql(&text).await;
        let plan: Value = serde_json::from_str(&plan).unwrap_or_else(|error| panic!("{error}: {plan}"));
        let mut found = Vec::new();
        scans(&plan, None, &mut found);
        found
    }

    /// What is wrong with a hot statement: a table that is not searched by its distribution column, a new row that does not say
    /// its shard, or one of the `exact` terms, which are given in full, in a filter: then the cost grows with what was found in vain.
    pub async fn complaints(
        &self,
        planning: &[(&str, &str)],
        (name, statement): (&str, &str),
        exact: &[&str],
    ) -> Vec<String> {
        let found = self.scans(planning, statement).await;
        let mut complaints = Vec::new();
        for Scan { table, condition, filter } in &found {
            if !self.column_of(table).is_some_and(|column| condition.contains(column)) {
                complaints.push(format!("{name}: {table} is searched by {condition}"));
            }
            if exact.iter().any(|given| filter.contains(given)) {
                complaints.push(format!("{name}: {table} is read by {condition} to find {filter}"));
            }
        }
        let mut inserts = statement.split("INSERT INTO ").skip(1).peekable();
        if inserts.peek().is_none() && found.is_empty() {
            complaints.push(format!("{name}: nothing is searched"));
        }
        for into in inserts {
            let table = into.split_whitespace().next().unwrap_or_default();
            let columns =
                into.split_once('(').and_then(|(_, rest)| rest.split_once(')')).map_or("", |(columns, _)| columns);
            if !columns.split(", ").any(|named| Some(named) == self.column_of(table)) {
                complaints.push(format!("{name}: the rows for {table} do not say their shard"));
            }
        }
        complaints
    }

    /// What is wrong with the tables themselves: one that is not distributed and not one of the `local` ones, or a unique key
    /// without the distribution column, which no cluster could keep.
    pub async fn broken_keys(&self, local: &[&str]) -> Vec<String> {
        let listed = format!(
            "SELECT relname FROM pg_class WHERE relnamespace = '{}'::regnamespace AND relkind = 'r' ORDER BY relname",
            self.schema
        );
        let listed = self.sql(&listed).await;
        let tables: Vec<&str> = listed.lines().filter(|table| !local.contains(table)).collect();
        let of_no_shard = tables.iter().filter(|table| self.column_of(table).is_none());
        let mut complaints: Vec<String> = of_no_shard.map(|table| format!("{table} is not distributed")).collect();
        for (table, column) in &self.distribution {
            if !tables.contains(&table.as_str()) {
                complaints.push(format!("there is no table {table}"));
                continue;
            }
            let keys = format!(
                "SELECT i.indexrelid::regclass FROM pg_index i WHERE i.indrelid = '{table}'::regclass AND i.indisunique \
                 AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = i.indexrelid AND a.attname = '{column}')"
            );
            complaints.extend(self.sql(&keys).await.lines().map(|key| format!("{key} of {table} lacks {column}")));
        }
        complaints
    }
}

/// Files of a store that hold the text of a statement: it belongs into `sql.rs`, where a test sees it.
///
/// Looked at are the files in `folder` and the one beside it of the same name; not those called `tests.rs`, and no folders.
///
/// # Panics
/// If the folder cannot be read.
pub fn statements_elsewhere(folder: &Path) -> Vec<String> {
    let within = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let files = within.filter_map(|file| Some(file.ok()?.path())).chain([folder.with_extension("rs")]);
    let source =
        |file: &Path| file.extension().is_some_and(|extension| extension == "rs") && !file.ends_with("tests.rs");
    let mut found = Vec::new();
    for file in files.filter(|file| source(file)) {
        let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        // However it is broken into lines.
        let text: String = text.split_whitespace().collect();
        let calls = ["query(\"", "query_as(\"", "query_scalar(\"", "raw_sql(\"", "query(concat!", "SqlSafe(\""];
        found.extend(
            calls.iter().filter(|call| text.contains(**call)).map(|call| format!("{}: {call}", file.display())),
        );
    }
    found
}

/// The scans in a plan.
fn scans(node: &Value, table: Option<&str>, found: &mut Vec<Scan>) {
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
