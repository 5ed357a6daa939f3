//! Between rows and the domain.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use flaghoist_runtime::names::{ConversationId, UserId};
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{Arguments as _, AssertSqlSafe, Row as _};
use uuid::Uuid;

use crate::conversation::{Head, Kind, Member, Role};
use crate::event::{Digest, Event, EventKind, Message};

/// The most rows that one statement writes.
pub(super) const ROWS_MAX: usize = 1024;

/// A statement that writes many rows: for 1, 2, 4, … rows one text each, so that each is prepared once. Rows beyond those given
/// are NULL and change nothing.
#[derive(Debug)]
pub(super) struct ManyRows {
    columns: usize,
    texts: Vec<Arc<str>>,
}

impl ManyRows {
    /// Rows of `into`, a table and its columns; `after` says what happens where one is there.
    fn insert(into: &str, columns: usize, after: &str) -> Self {
        Self::new(&format!("INSERT INTO {into} SELECT * FROM"), columns, &format!("WHERE column1 IS NOT NULL {after}"))
    }

    /// The rows stand between `before` and `after`.
    fn new(before: &str, columns: usize, after: &str) -> Self {
        let row = format!("({}?)", "?,".repeat(columns - 1));
        let text = |rows: usize| {
            let mut values = row.clone();
            for _ in 1..rows {
                // Writing to a string does not fail.
                let _ok = write!(values, ",{row}");
            }
            format!("{before} (VALUES {values}) {after}").into()
        };
        Self { columns, texts: (0..=ROWS_MAX.ilog2()).map(|power| text(1 << power)).collect() }
    }

    /// Room for the values of `rows` rows.
    pub(super) fn arguments(&self, rows: usize) -> SqliteArguments {
        let mut arguments = SqliteArguments::default();
        arguments.reserve(rows * self.columns, 0);
        arguments
    }

    /// Writes `rows` rows, 1 to [`ROWS_MAX`].
    pub(super) async fn write(
        &self,
        connection: &mut SqliteConnection,
        rows: usize,
        arguments: SqliteArguments,
    ) -> Result<(), sqlx::Error> {
        sqlx::query_with(AssertSqlSafe(self.text(rows)), arguments).execute(connection).await?;
        Ok(())
    }

    /// The statement for `rows` rows.
    pub(super) fn text(&self, rows: usize) -> Arc<str> {
        self.texts[rows.next_power_of_two().ilog2() as usize].clone()
    }
}

/// Appends to the log.
pub(super) static LOG: LazyLock<ManyRows> = LazyLock::new(|| {
    ManyRows::insert(
        "log (no, conversation_no, seq, message_no, sent_no, kind, sender_id, request_key, request_id, request_digest, \
         target_seq, previous_edit_no, visible_to, body, created_at)",
        15,
        "",
    )
});

/// Writes members as they are now.
pub(super) static MEMBERS: LazyLock<ManyRows> = LazyLock::new(|| {
    ManyRows::insert(
        "members (conversation_no, user_id, role, joined_seq, joined_at, past, delivered_seq, read_seq, read_message_no, \
         sent_no, read_sent_no, watermark_at, hidden_seq)",
        13,
        "ON CONFLICT (conversation_no, user_id) DO UPDATE SET role = excluded.role, joined_seq = excluded.joined_seq, \
         joined_at = excluded.joined_at, past = excluded.past, delivered_seq = excluded.delivered_seq, \
         read_seq = excluded.read_seq, read_message_no = excluded.read_message_no, sent_no = excluded.sent_no, \
         read_sent_no = excluded.read_sent_no, watermark_at = excluded.watermark_at, hidden_seq = excluded.hidden_seq",
    )
});

/// Says where in the log events lie.
pub(super) static PLACES: LazyLock<ManyRows> =
    LazyLock::new(|| ManyRows::insert("places (conversation_no, seq, log_no)", 3, "ON CONFLICT DO NOTHING"));

/// Says where in the log requests lie.
pub(super) static REQUESTS: LazyLock<ManyRows> =
    LazyLock::new(|| ManyRows::insert("requests (key, log_no)", 2, "ON CONFLICT DO NOTHING"));

/// Says how far the logs of conversations go. Conversations are found by their number: the plan is looked at in a test.
pub(super) static HEADS: LazyLock<ManyRows> = LazyLock::new(|| {
    ManyRows::new(
        "UPDATE conversations SET last_seq = max(last_seq, t.column2), last_public_seq = max(last_public_seq, t.column3), \
         last_message_no = max(last_message_no, t.column4) FROM",
        4,
        "AS t WHERE no = t.column1",
    )
});

/// Says how many messages members have sent.
pub(super) static SENT: LazyLock<ManyRows> = LazyLock::new(|| {
    ManyRows::new(
        "UPDATE members SET sent_no = max(sent_no, t.column3) FROM",
        3,
        "AS t WHERE conversation_no = t.column1 AND user_id = t.column2",
    )
});

/// The columns of an event and of its newest edit, for [`message`] and [`event`].
macro_rules! select_events {
    ($rest:literal) => {
        concat!(
            "SELECT l.seq, l.message_no, l.kind, l.sender_id, l.request_id, l.request_digest, l.target_seq, l.visible_to, ",
            "l.body, l.created_at, l.deleted_at, e.body, e.created_at, l.no FROM ",
            $rest
        )
    };
}
pub(super) use select_events;

/// The columns of a conversation `c`, for [`head`].
macro_rules! select_heads {
    ($more:literal, $rest:literal) => {
        concat!(
            "SELECT c.no, c.id, c.kind, c.title, c.last_seq, c.last_public_seq, c.last_message_no, c.member_count, ",
            "c.deleted, c.created_at",
            $more,
            " FROM ",
            $rest
        )
    };
}
pub(super) use select_heads;

/// How many columns [`head`] reads.
pub(super) const HEAD_COLUMNS: usize = 10;

/// The columns of a member `m`, for [`member`].
macro_rules! member_columns {
    () => {
        concat!(
            "m.user_id, m.role, m.joined_seq, m.joined_at, m.past, m.delivered_seq, m.read_seq, m.read_message_no, ",
            "m.sent_no, m.read_sent_no, m.watermark_at, m.hidden_seq"
        )
    };
}
pub(super) use member_columns;

/// A number that is never negative in the tables.
pub(super) fn unsigned(row: &SqliteRow, column: usize) -> Result<u64, sqlx::Error> {
    Ok(row.try_get::<i64, _>(column)?.unsigned_abs())
}

pub(super) fn uuid(row: &SqliteRow, column: usize) -> Result<Uuid, sqlx::Error> {
    let bytes: &[u8] = row.try_get(column)?;
    Uuid::from_slice(bytes).map_err(|error| broken(column, error))
}

pub(super) fn broken(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: column.to_string(), source: Box::new(error) }
}

fn unknown(column: usize) -> sqlx::Error {
    broken(column, std::io::Error::other("not a number that this version knows"))
}

pub(super) fn event(row: &SqliteRow, conversation: ConversationId) -> Result<Event, sqlx::Error> {
    let digest: &[u8] = row.try_get(5)?;
    let visible_to: Option<&[u8]> = row.try_get(7)?;
    Ok(Event {
        conversation,
        seq: unsigned(row, 0)?,
        message_no: unsigned(row, 1)?,
        kind: EventKind::from_number(row.try_get(2)?).ok_or_else(|| unknown(2))?,
        actor: UserId(uuid(row, 3)?),
        request_id: row.try_get::<&str, _>(4)?.into(),
        digest: Digest(digest.try_into().map_err(|error| broken(5, error))?),
        target_seq: unsigned(row, 6)?,
        only_for: visible_to.map(Uuid::from_slice).transpose().map_err(|error| broken(7, error))?.map(UserId),
        body: Bytes::from(row.try_get::<Vec<u8>, _>(8)?),
        created_at: row.try_get(9)?,
        deleted_at: row.try_get(10)?,
    })
}

pub(super) fn message(row: &SqliteRow, conversation: ConversationId) -> Result<Message, sqlx::Error> {
    let body: Option<Vec<u8>> = row.try_get(11)?;
    let edit = match body {
        Some(body) => Some((body.into(), row.try_get(12)?)),
        None => None,
    };
    Ok(Message { event: event(row, conversation)?, edit })
}

pub(super) fn head(row: &SqliteRow) -> Result<Head, sqlx::Error> {
    Ok(Head {
        no: row.try_get(0)?,
        id: ConversationId(uuid(row, 1)?),
        kind: Kind::from_number(row.try_get(2)?).ok_or_else(|| unknown(2))?,
        title: row.try_get::<&str, _>(3)?.into(),
        last_seq: unsigned(row, 4)?,
        last_public_seq: unsigned(row, 5)?,
        last_message_no: unsigned(row, 6)?,
        member_count: u32::try_from(row.try_get::<i64, _>(7)?).map_err(|error| broken(7, error))?,
        deleted: row.try_get(8)?,
        created_at: row.try_get(9)?,
    })
}

/// A member, from the columns beginning with `at`.
pub(super) fn member(row: &SqliteRow, at: usize) -> Result<(UserId, Member), sqlx::Error> {
    let past: &str = row.try_get(at + 4)?;
    let member = Member {
        role: Role::from_number(row.try_get(at + 1)?),
        joined_seq: unsigned(row, at + 2)?,
        joined_at: row.try_get(at + 3)?,
        past: if past == "[]" {
            Vec::new()
        } else {
            serde_json::from_str(past).map_err(|error| broken(at + 4, error))?
        },
        delivered_seq: unsigned(row, at + 5)?,
        read_seq: unsigned(row, at + 6)?,
        read_message_no: unsigned(row, at + 7)?,
        sent_no: unsigned(row, at + 8)?,
        read_sent_no: unsigned(row, at + 9)?,
        watermark_at: row.try_get(at + 10)?,
        hidden_seq: unsigned(row, at + 11)?,
    };
    Ok((UserId(uuid(row, at)?), member))
}

/// Ids as a JSON array of hexadecimal texts, as `unhex` reads them.
pub(super) fn hex_array<'a>(ids: impl IntoIterator<Item = &'a Uuid>) -> String {
    let ids: Vec<String> = ids.into_iter().map(hex).collect();
    json(&ids)
}

/// An id as `unhex` reads it.
pub(super) fn hex(id: &Uuid) -> String {
    id.simple().to_string()
}

/// A JSON parameter. The values are lists of numbers and texts, which always can be written.
pub(super) fn json<T: serde::Serialize>(values: &[T]) -> String {
    serde_json::to_string(values).unwrap_or_else(|error| {
        flaghoist_runtime::fault::log_chain("writing a parameter", &error);
        "[]".into()
    })
}

/// A number as SQLite keeps it.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Rows of members, by conversation.
pub(super) type MembersByConversation = HashMap<i64, HashMap<UserId, Member>>;
