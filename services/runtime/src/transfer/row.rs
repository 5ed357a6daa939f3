//! What a table is on both sides, and rows in one form for both: so they can be carried over, counted and compared.

use std::fmt::{self, Write as _};

use aws_lc_rs::digest::{Context, SHA256};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::sqlite::SqliteRow;
use sqlx::{Postgres, Row as _};

/// A table of a service.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Its name in PostgreSQL.
    pub name: &'static str,
    /// All its columns there.
    pub columns: &'static [Column],
    /// What its rows come from in SQLite: a table, with others that are joined from the left.
    pub from: &'static str,
    /// The order in which they are read: one that is the same each time.
    pub order: &'static str,
}

/// A column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    name: &'static str,
    kind: Kind,
    from: &'static str,
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `boolean`; 0 or 1 in SQLite.
    Flag,
    /// `smallint`
    Small,
    /// `integer`
    Int,
    /// `bigint`
    Big,
    /// `text`
    Text,
    /// `bytea`
    Bytes,
    /// `uuid`; its 16 bytes in SQLite.
    Id,
    /// `bigint[]`, one number after the other; in SQLite a JSON array of numbers that are not negative, or of arrays of such.
    Numbers,
}

impl Column {
    /// A column that has the same name on both sides.
    pub const fn same(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, from: name }
    }

    /// A column that is read in SQLite by an expression.
    pub const fn from(name: &'static str, kind: Kind, from: &'static str) -> Self {
        Self { name, kind, from }
    }
}

/// A value as both sides mean it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    Number(i64),
    Text(String),
    Bytes(Vec<u8>),
    Numbers(Vec<i64>),
}

impl Table {
    /// Its columns as `table.column`, so that a test can see whether one was forgotten.
    pub fn column_names(&self) -> impl Iterator<Item = String> {
        self.columns.iter().map(|column| format!("{}.{}", self.name, column.name))
    }

    /// Reads the table in SQLite, from the row on whose number is bound.
    pub(super) fn read_source(&self) -> String {
        let columns: Vec<&str> = self.columns.iter().map(|column| column.from).collect();
        format!("SELECT {} FROM {} ORDER BY {} LIMIT -1 OFFSET ?1", columns.join(", "), self.from, self.order)
    }

    /// Counts its rows in SQLite.
    pub(super) fn count_source(&self) -> String {
        format!("SELECT count(*) FROM {}", self.from)
    }

    /// Reads the table in PostgreSQL, in whatever order.
    pub(super) fn read_target(&self) -> String {
        let column = |column: &Column| match column.kind {
            Kind::Id => format!("uuid_send({})", column.name),
            _ => column.name.to_owned(),
        };
        let columns: Vec<String> = self.columns.iter().map(column).collect();
        format!("SELECT {} FROM {}", columns.join(", "), self.name)
    }

    /// Writes any number of rows: an array a column.
    pub(super) fn write_target(&self) -> String {
        let mut text = format!("INSERT INTO {} (", self.name);
        let (mut values, mut arrays, mut names) = (String::new(), String::new(), String::new());
        for (place, column) in self.columns.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            let (kind, value) = match column.kind {
                Kind::Flag => ("boolean", format!("c{place}")),
                Kind::Small => ("smallint", format!("c{place}")),
                Kind::Int => ("integer", format!("c{place}")),
                Kind::Big => ("bigint", format!("c{place}")),
                Kind::Text => ("text", format!("c{place}")),
                Kind::Bytes => ("bytea", format!("c{place}")),
                Kind::Id => ("bytea", format!("encode(c{place}, 'hex')::uuid")),
                // Arrays of different lengths are no parameter; their texts are.
                Kind::Numbers => ("text", format!("c{place}::bigint[]")),
            };
            // Writing to a string does not fail.
            let _ok = write!(text, "{comma}{}", column.name)
                .and_then(|()| write!(values, "{comma}{value}"))
                .and_then(|()| write!(arrays, "{comma}${}::{kind}[]", place + 1))
                .and_then(|()| write!(names, "{comma}c{place}"));
        }
        text + &format!(") SELECT {values} FROM unnest({arrays}) AS t ({names})")
    }

    /// A row of SQLite.
    pub(super) fn source_row(&self, row: &SqliteRow) -> Result<Vec<Value>, sqlx::Error> {
        let read = |(place, column): (usize, &Column)| {
            Ok(match column.kind {
                Kind::Flag | Kind::Small | Kind::Int | Kind::Big => {
                    row.try_get::<Option<i64>, _>(place)?.map_or(Value::Null, Value::Number)
                }
                Kind::Text => row.try_get::<Option<String>, _>(place)?.map_or(Value::Null, Value::Text),
                Kind::Bytes | Kind::Id => row.try_get::<Option<Vec<u8>>, _>(place)?.map_or(Value::Null, Value::Bytes),
                Kind::Numbers => match row.try_get::<Option<&str>, _>(place)? {
                    Some(text) => Value::Numbers(numbers(text)?),
                    None => Value::Null,
                },
            })
        };
        self.columns.iter().enumerate().map(read).collect()
    }

    /// A row of PostgreSQL.
    pub(super) fn target_row(&self, row: &PgRow) -> Result<Vec<Value>, sqlx::Error> {
        let read = |(place, column): (usize, &Column)| {
            Ok(match column.kind {
                Kind::Flag => {
                    row.try_get::<Option<bool>, _>(place)?.map_or(Value::Null, |flag| Value::Number(flag.into()))
                }
                Kind::Small => {
                    row.try_get::<Option<i16>, _>(place)?.map_or(Value::Null, |number| Value::Number(number.into()))
                }
                Kind::Int => {
                    row.try_get::<Option<i32>, _>(place)?.map_or(Value::Null, |number| Value::Number(number.into()))
                }
                Kind::Big => row.try_get::<Option<i64>, _>(place)?.map_or(Value::Null, Value::Number),
                Kind::Text => row.try_get::<Option<String>, _>(place)?.map_or(Value::Null, Value::Text),
                Kind::Bytes | Kind::Id => row.try_get::<Option<Vec<u8>>, _>(place)?.map_or(Value::Null, Value::Bytes),
                Kind::Numbers => row.try_get::<Option<Vec<i64>>, _>(place)?.map_or(Value::Null, Value::Numbers),
            })
        };
        self.columns.iter().enumerate().map(read).collect()
    }

    /// Gives rows to [`Table::write_target`]'s statement.
    pub(super) fn bind<'q>(
        &self,
        mut query: Query<'q, Postgres, PgArguments>,
        rows: &[Vec<Value>],
    ) -> Result<Query<'q, Postgres, PgArguments>, sqlx::Error> {
        for (place, column) in self.columns.iter().enumerate() {
            let values = rows.iter().map(|row| &row[place]);
            query = match column.kind {
                Kind::Flag => query.bind(values.map(flag).collect::<Result<Vec<_>, _>>()?),
                Kind::Small => query.bind(values.map(number::<i16>).collect::<Result<Vec<_>, _>>()?),
                Kind::Int => query.bind(values.map(number::<i32>).collect::<Result<Vec<_>, _>>()?),
                Kind::Big => query.bind(values.map(number::<i64>).collect::<Result<Vec<_>, _>>()?),
                Kind::Text | Kind::Numbers => query.bind(values.map(text).collect::<Vec<_>>()),
                Kind::Bytes | Kind::Id => query.bind(values.map(bytes).collect::<Vec<_>>()),
            };
        }
        Ok(query)
    }
}

/// The numbers in a JSON array of numbers, or of arrays of them, in order.
fn numbers(json: &str) -> Result<Vec<i64>, sqlx::Error> {
    let digits = json.split(|letter: char| !letter.is_ascii_digit()).filter(|digits| !digits.is_empty());
    digits.map(|digits| digits.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))).collect()
}

fn unfit(value: &Value) -> sqlx::Error {
    // Not the value: it may be a text.
    let what = match value {
        Value::Number(_) => "a number is too large for its column",
        _ => "a value is of another kind than its column",
    };
    sqlx::Error::Encode(what.into())
}

fn flag(value: &Value) -> Result<Option<bool>, sqlx::Error> {
    match value {
        Value::Null => Ok(None),
        Value::Number(0) => Ok(Some(false)),
        Value::Number(1) => Ok(Some(true)),
        other => Err(unfit(other)),
    }
}

fn number<N: TryFrom<i64>>(value: &Value) -> Result<Option<N>, sqlx::Error> {
    match value {
        Value::Null => Ok(None),
        Value::Number(number) => N::try_from(*number).map(Some).map_err(|_| unfit(value)),
        other => Err(unfit(other)),
    }
}

/// A text, or an array's text.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::Text(text) => Some(text.clone()),
        Value::Numbers(numbers) => {
            let numbers: Vec<String> = numbers.iter().map(i64::to_string).collect();
            Some(format!("{{{}}}", numbers.join(",")))
        }
        _ => None,
    }
}

fn bytes(value: &Value) -> Option<Vec<u8>> {
    if let Value::Bytes(bytes) = value { Some(bytes.clone()) } else { None }
}

/// How many rows a table has, and a digest over them that does not depend on their order: the sum of the SHA-256 of each row. It
/// tells what went wrong by itself, not what somebody made up for it.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many rows.
    pub rows: u64,
    /// The digest over them.
    pub digest: [u8; 32],
}

impl Tally {
    /// Counts a row.
    pub(super) fn add(&mut self, row: &[Value]) {
        let mut context = Context::new(&SHA256);
        for value in row {
            // A letter for the kind and, where it has none of its own, the length: no two rows read the same.
            match value {
                Value::Null => context.update(b"0"),
                Value::Number(number) => {
                    context.update(b"n");
                    context.update(&number.to_be_bytes());
                }
                Value::Text(text) => {
                    context.update(b"t");
                    context.update(&(text.len() as u64).to_be_bytes());
                    context.update(text.as_bytes());
                }
                Value::Bytes(bytes) => {
                    context.update(b"b");
                    context.update(&(bytes.len() as u64).to_be_bytes());
                    context.update(bytes);
                }
                Value::Numbers(numbers) => {
                    context.update(b"l");
                    context.update(&(numbers.len() as u64).to_be_bytes());
                    numbers.iter().for_each(|number| context.update(&number.to_be_bytes()));
                }
            }
        }
        self.rows += 1;
        let mut carry = 0;
        for (sum, byte) in self.digest.iter_mut().zip(context.finish().as_ref()).rev() {
            let wide = u16::from(*sum) + u16::from(*byte) + carry;
            [_, *sum] = wide.to_be_bytes();
            carry = wide >> 8;
        }
    }

    /// The beginning of the digest, for people.
    pub fn short(&self) -> String {
        self.digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} rows with digest {}…", self.rows, self.short())
    }
}

impl fmt::Debug for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(rows: &[Vec<Value>]) -> Tally {
        let mut tally = Tally::default();
        rows.iter().for_each(|row| tally.add(row));
        tally
    }

    #[test]
    fn a_digest_knows_any_change_and_no_order() {
        let text = |text: &str| Value::Text(text.into());
        let (one, two) = (vec![text("a"), text("b")], vec![Value::Null, Value::Number(7)]);
        assert_eq!(tally(&[one.clone(), two.clone()]), tally(&[two.clone(), one.clone()]));
        let same = tally(&[one.clone(), two.clone()]);
        for other in [
            vec![one.clone()],
            vec![one.clone(), one.clone()],
            vec![one.clone(), two.clone(), two.clone()],
            vec![vec![text("ab"), text("")], two.clone()],
            vec![vec![Value::Bytes(b"a".to_vec()), text("b")], two.clone()],
            vec![one.clone(), vec![Value::Number(0), Value::Number(7)]],
        ] {
            assert_ne!(tally(&other), same, "{other:?}");
        }
    }

    #[test]
    fn numbers_are_read_from_json_whatever_they_lie_in() {
        assert_eq!(numbers("[]").unwrap(), Vec::<i64>::new());
        assert_eq!(numbers("[[1,5],[9,12]]").unwrap(), [1, 5, 9, 12]);
        assert_eq!(numbers("[3, 4]").unwrap(), [3, 4]);
        assert!(numbers("[99999999999999999999]").is_err());
    }
}
