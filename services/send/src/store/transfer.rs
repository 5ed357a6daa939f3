//! Moving the store of one machine into a database that pods share: how each table of SQLite reads as one of PostgreSQL.
//!
//! What is read is the log and what the indexes say once all of it is folded, so the file is opened as the service itself opens it
//! first. Places in the log, which are numbers of rows there, become `seq`s; the notes about risen watermarks, kept for a minute,
//! stay behind. The epoch goes along, and with it every position and watermark that anybody has: the database becomes the same life
//! of the store.

use std::path::Path;

use flaghoist_runtime::place::SecretError;
use flaghoist_runtime::transfer::{Column, Hear, Kind, Moved, Table, Transfer, TransferError, transfer};
use sqlx::postgres::PgConnectOptions;

use super::{postgres, sqlite};
use crate::plan::Limits;

/// The tables, each in an order that does not change: by its key, or as it was written.
const TABLES: &[Table] = &[
    Table {
        name: "conversations",
        columns: &[
            Column::from("conversation_id", Kind::Id, "id"),
            Column::same("no", Kind::Big),
            Column::same("last_seq", Kind::Big),
            Column::same("last_public_seq", Kind::Big),
            Column::same("last_message_no", Kind::Big),
            Column::same("created_at", Kind::Big),
            Column::same("member_count", Kind::Int),
            Column::same("kind", Kind::Small),
            Column::same("deleted", Kind::Flag),
            Column::from("title", Kind::Bytes, "CAST(title AS BLOB)"),
        ],
        from: "conversations",
        order: "no",
    },
    Table {
        name: "members",
        columns: &[
            Column::from("conversation_id", Kind::Id, "c.id"),
            Column::from("user_id", Kind::Id, "m.user_id"),
            Column::from("joined_seq", Kind::Big, "m.joined_seq"),
            Column::from("joined_at", Kind::Big, "m.joined_at"),
            Column::from("delivered_seq", Kind::Big, "m.delivered_seq"),
            Column::from("read_seq", Kind::Big, "m.read_seq"),
            Column::from("read_message_no", Kind::Big, "m.read_message_no"),
            Column::from("sent_no", Kind::Big, "m.sent_no"),
            Column::from("read_sent_no", Kind::Big, "m.read_sent_no"),
            Column::from("watermark_at", Kind::Big, "m.watermark_at"),
            Column::from("hidden_seq", Kind::Big, "m.hidden_seq"),
            Column::from("role", Kind::Small, "m.role"),
            Column::from("past", Kind::Numbers, "m.past"),
        ],
        // From the left, so that a member of no conversation is an error and not left out.
        from: "members m LEFT JOIN conversations c ON c.no = m.conversation_no",
        order: "m.conversation_no, m.user_id",
    },
    Table {
        name: "memberships",
        columns: &[
            Column::from("user_id", Kind::Id, "s.user_id"),
            Column::from("conversation_no", Kind::Big, "s.conversation_no"),
            Column::from("conversation_id", Kind::Id, "c.id"),
        ],
        from: "memberships s LEFT JOIN conversations c ON c.no = s.conversation_no",
        order: "s.user_id, s.conversation_no",
    },
    Table {
        name: "people",
        columns: &[Column::same("user_id", Kind::Id), Column::same("conversation_count", Kind::Int)],
        from: "people",
        order: "user_id",
    },
    Table {
        name: "events",
        columns: &[
            Column::from("conversation_id", Kind::Id, "c.id"),
            Column::from("sender_id", Kind::Id, "l.sender_id"),
            Column::from("seq", Kind::Big, "l.seq"),
            Column::from("message_no", Kind::Big, "l.message_no"),
            Column::from("sent_no", Kind::Big, "l.sent_no"),
            Column::from("created_at", Kind::Big, "l.created_at"),
            Column::from("kind", Kind::Small, "l.kind"),
            Column::from("request_id", Kind::Bytes, "CAST(l.request_id AS BLOB)"),
            Column::from("request_digest", Kind::Bytes, "l.request_digest"),
            Column::from("body", Kind::Bytes, "l.body"),
            Column::from("target_seq", Kind::Big, "nullif(l.target_seq, 0)"),
            Column::from("edit_seq", Kind::Big, "e.seq"),
            Column::from("deleted_at", Kind::Big, "l.deleted_at"),
            Column::from("visible_to", Kind::Id, "l.visible_to"),
        ],
        from: "log l LEFT JOIN conversations c ON c.no = l.conversation_no LEFT JOIN log e ON e.no = l.edit_no",
        order: "l.no",
    },
];

/// Why the store was not moved.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The file of the store does not open.
    #[error(transparent)]
    Store(#[from] sqlite::StartError),
    /// The secret of the place cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// It opens, but is not moved.
    #[error(transparent)]
    Transfer(#[from] TransferError),
}

/// Moves the store in the file at `path`.
pub(crate) async fn migrate(
    path: &Path,
    target: &PgConnectOptions,
    installation: [u8; 32],
    hear: Hear<'_>,
) -> Result<Moved, MigrateError> {
    // Nothing is written through it, so no bound matters.
    let limits = Limits { group_members_max: 0, conversations_max: 0 };
    let source = sqlite::SqliteStore::open(path, limits).await?;
    let migrator = &postgres::MIGRATIONS;
    let plan = Transfer { service: "send", tables: TABLES, source: source.readers(), target, migrator, installation };
    let epoch = super::Store::epoch(&source);
    let moved = transfer(&plan, hear, async |connection| postgres::carry_on(connection, epoch).await).await;
    source.close().await;
    Ok(moved?)
}

#[cfg(test)]
mod tests;
