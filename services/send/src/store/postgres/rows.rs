//! Between rows and the domain.

use bytes::Bytes;
use flaghoist_runtime::names::{ConversationId, UserId};
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgRow, PgTypeInfo, PgValueRef, Postgres};
use sqlx::{Decode, Encode, Row as _, Type};
use uuid::Uuid;

use crate::conversation::{Head, Kind, Member, Role};
use crate::event::{Digest, Event, EventKind, Message};

/// An id as PostgreSQL's `uuid`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Id(pub(super) Uuid);

impl Type<Postgres> for Id {
    fn type_info() -> PgTypeInfo {
        // `uuid`; the numbers of the types in `pg_type.dat` never change.
        PgTypeInfo::with_oid(Oid(2950))
    }
}

impl PgHasArrayType for Id {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(2951))
    }
}

impl Encode<'_, Postgres> for Id {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buffer.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }
}

impl<'r> Decode<'r, Postgres> for Id {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        // Statements with parameters are answered in the binary form, and there are no others here.
        Ok(Self(Uuid::from_slice(value.as_bytes()?)?))
    }
}

impl From<UserId> for Id {
    fn from(id: UserId) -> Self {
        Self(id.0)
    }
}

impl From<ConversationId> for Id {
    fn from(id: ConversationId) -> Self {
        Self(id.0)
    }
}

/// How many columns [`head`] reads.
pub(super) const HEAD_COLUMNS: usize = 10;

/// How many columns [`member`] reads.
pub(super) const MEMBER_COLUMNS: usize = 12;

/// How many columns [`event`] reads.
pub(super) const EVENT_COLUMNS: usize = 13;

/// A number as the tables keep it.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number that is never negative in the tables.
pub(super) fn unsigned(row: &PgRow, column: usize) -> Result<u64, sqlx::Error> {
    Ok(row.try_get::<i64, _>(column)?.unsigned_abs())
}

pub(super) fn person(row: &PgRow, column: usize) -> Result<UserId, sqlx::Error> {
    Ok(UserId(row.try_get::<Id, _>(column)?.0))
}

pub(super) fn conversation(row: &PgRow, column: usize) -> Result<ConversationId, sqlx::Error> {
    Ok(ConversationId(row.try_get::<Id, _>(column)?.0))
}

fn broken(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: column.to_string(), source: Box::new(error) }
}

fn unknown(column: usize) -> sqlx::Error {
    broken(column, std::io::Error::other("not a number that this version knows"))
}

pub(super) fn kind(row: &PgRow, column: usize) -> Result<EventKind, sqlx::Error> {
    EventKind::from_number(row.try_get::<i16, _>(column)?.into()).ok_or_else(|| unknown(column))
}

/// A text that is kept as bytes.
fn text(row: &PgRow, column: usize) -> Result<&str, sqlx::Error> {
    std::str::from_utf8(row.try_get(column)?).map_err(|error| broken(column, error))
}

/// A conversation, from the columns beginning with `at`.
pub(super) fn head(row: &PgRow) -> Result<Head, sqlx::Error> {
    Ok(Head {
        no: row.try_get(0)?,
        id: conversation(row, 1)?,
        kind: Kind::from_number(row.try_get::<i16, _>(2)?.into()).ok_or_else(|| unknown(2))?,
        title: text(row, 3)?.into(),
        last_seq: unsigned(row, 4)?,
        last_public_seq: unsigned(row, 5)?,
        last_message_no: unsigned(row, 6)?,
        member_count: row.try_get::<i32, _>(7)?.unsigned_abs(),
        deleted: row.try_get(8)?,
        created_at: row.try_get(9)?,
    })
}

/// A member, from the columns beginning with `at`.
pub(super) fn member(row: &PgRow, at: usize) -> Result<(UserId, Member), sqlx::Error> {
    let past: Vec<i64> = row.try_get(at + 4)?;
    let member = Member {
        role: Role::from_number(row.try_get::<i16, _>(at + 1)?.into()),
        joined_seq: unsigned(row, at + 2)?,
        joined_at: row.try_get(at + 3)?,
        past: past.chunks_exact(2).map(|pair| (pair[0].unsigned_abs(), pair[1].unsigned_abs())).collect(),
        delivered_seq: unsigned(row, at + 5)?,
        read_seq: unsigned(row, at + 6)?,
        read_message_no: unsigned(row, at + 7)?,
        sent_no: unsigned(row, at + 8)?,
        read_sent_no: unsigned(row, at + 9)?,
        watermark_at: row.try_get(at + 10)?,
        hidden_seq: unsigned(row, at + 11)?,
    };
    Ok((person(row, at)?, member))
}

/// Earlier memberships as an array's text: an array of arrays of different lengths cannot be a parameter.
pub(super) fn past_text(past: &[(u64, u64)]) -> String {
    let ends: Vec<String> = past.iter().map(|(from, to)| format!("{from},{to}")).collect();
    format!("{{{}}}", ends.join(","))
}

pub(super) fn event(row: &PgRow) -> Result<Event, sqlx::Error> {
    let digest: &[u8] = row.try_get(6)?;
    Ok(Event {
        conversation: conversation(row, 0)?,
        seq: unsigned(row, 1)?,
        message_no: unsigned(row, 2)?,
        kind: kind(row, 3)?,
        actor: person(row, 4)?,
        request_id: text(row, 5)?.into(),
        digest: Digest(digest.try_into().map_err(|error| broken(6, error))?),
        target_seq: row.try_get::<Option<i64>, _>(7)?.map_or(0, i64::unsigned_abs),
        only_for: row.try_get::<Option<Id>, _>(8)?.map(|id| UserId(id.0)),
        body: Bytes::copy_from_slice(row.try_get(9)?),
        created_at: row.try_get(10)?,
        deleted_at: row.try_get(11)?,
    })
}

/// An event with its newest edit.
pub(super) fn message(row: &PgRow) -> Result<Message, sqlx::Error> {
    let body: Option<&[u8]> = row.try_get(EVENT_COLUMNS)?;
    let edit = match body {
        Some(body) => Some((Bytes::copy_from_slice(body), row.try_get(EVENT_COLUMNS + 1)?)),
        None => None,
    };
    Ok(Message { event: event(row)?, edit })
}
