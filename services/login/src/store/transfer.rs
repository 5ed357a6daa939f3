//! Moving the store of one machine into a database that pods share: how each table of SQLite reads as one of PostgreSQL.
//!
//! Buckets of calls and lanes are in the memory of the one process there, and are left behind; logins, enrolments, codes and links under
//! way are begun again, and people sign in to their account pages once more. Attempts at accounts go along: they
//! say from where people are known to sign in.

use std::path::Path;

use flaghoist_runtime::transfer::{Column, Hear, Kind, Moved, Table, Transfer, TransferError, transfer};
use sqlx::postgres::PgConnectOptions;

use super::{postgres, sqlite};

/// The tables, each in the order of its key.
const TABLES: &[Table] = &[
    Table {
        name: "accounts",
        columns: &[
            Column::same("user_id", Kind::Bytes),
            Column::same("handle", Kind::Text),
            Column::same("display_name", Kind::Text),
            Column::same("password_hash", Kind::Text),
            Column::same("credential_version", Kind::Big),
            Column::same("admin", Kind::Flag),
            Column::same("disabled", Kind::Flag),
            Column::same("deleting_at", Kind::Big),
            Column::same("created_at", Kind::Big),
            Column::same("postal_address", Kind::Text),
            Column::same("language", Kind::Text),
            Column::same("profile_version", Kind::Big),
            Column::same("profile_told", Kind::Big),
        ],
        from: "accounts",
        order: "user_id",
    },
    Table {
        name: "invitations",
        columns: &[
            Column::same("digest", Kind::Bytes),
            Column::same("created_at", Kind::Big),
            Column::same("expires_at", Kind::Big),
            Column::same("used_at", Kind::Big),
        ],
        from: "invitations",
        order: "digest",
    },
    Table {
        name: "attempts",
        columns: &[
            Column::same("account", Kind::Bytes),
            Column::same("address", Kind::Bytes),
            Column::same("count", Kind::Big),
            Column::same("next_at", Kind::Big),
            Column::same("known_at", Kind::Big),
            Column::same("updated_at", Kind::Big),
        ],
        from: "attempts",
        order: "account, address",
    },
    Table {
        name: "totp",
        columns: &[
            Column::same("user_id", Kind::Bytes),
            Column::same("secret", Kind::Bytes),
            Column::same("sealed_with", Kind::Text),
            Column::same("last_step", Kind::Big),
            Column::same("created_at", Kind::Big),
            Column::same("used_at", Kind::Big),
        ],
        from: "totp",
        order: "user_id",
    },
    Table {
        name: "security_keys",
        columns: &[
            Column::same("id", Kind::Bytes),
            Column::same("user_id", Kind::Bytes),
            Column::same("credential_id", Kind::Bytes),
            Column::same("name", Kind::Text),
            Column::same("passkey", Kind::Flag),
            Column::same("credential", Kind::Text),
            Column::same("counter", Kind::Big),
            Column::same("created_at", Kind::Big),
            Column::same("used_at", Kind::Big),
        ],
        from: "security_keys",
        order: "id",
    },
    Table {
        name: "recovery_codes",
        columns: &[
            Column::same("user_id", Kind::Bytes),
            Column::same("digest", Kind::Bytes),
            Column::same("created_at", Kind::Big),
        ],
        from: "recovery_codes",
        order: "user_id, digest",
    },
    Table {
        name: "erasures",
        columns: &[
            Column::same("id", Kind::Bytes),
            Column::same("user_id", Kind::Bytes),
            Column::same("created_at", Kind::Big),
            Column::same("finished_at", Kind::Big),
            Column::same("signed_out_at", Kind::Big),
            Column::same("step", Kind::Small),
            Column::same("step_token", Kind::Text),
            Column::same("counts", Kind::Text),
            Column::same("failures", Kind::Big),
            Column::same("next_at", Kind::Big),
            Column::same("revision", Kind::Big),
            Column::same("held_until", Kind::Big),
        ],
        from: "erasures",
        order: "id",
    },
    Table {
        name: "contacts",
        columns: &[
            Column::same("user_id", Kind::Bytes),
            Column::same("kind", Kind::Small),
            Column::same("value", Kind::Text),
            Column::same("verified_at", Kind::Big),
        ],
        from: "contacts",
        order: "user_id, kind",
    },
    Table {
        name: "outbox",
        columns: &[
            Column::same("id", Kind::Big),
            Column::same("user_id", Kind::Bytes),
            Column::same("message", Kind::Bytes),
            Column::same("sealed_with", Kind::Text),
            Column::same("tries", Kind::Big),
            Column::same("next_at", Kind::Big),
            Column::same("expires_at", Kind::Big),
        ],
        from: "outbox",
        order: "id",
    },
    Table {
        name: "login_events",
        columns: &[
            Column::same("id", Kind::Big),
            Column::same("user_id", Kind::Bytes),
            Column::same("kind", Kind::Small),
            Column::same("at", Kind::Big),
            Column::same("address", Kind::Text),
            Column::same("agent", Kind::Text),
            Column::same("device", Kind::Text),
            Column::same("amr", Kind::Text),
            Column::same("client_id", Kind::Text),
        ],
        from: "login_events",
        order: "id",
    },
    Table {
        name: "notices",
        columns: &[
            Column::same("id", Kind::Big),
            Column::same("user_id", Kind::Bytes),
            Column::same("kind", Kind::Small),
            Column::same("except_session", Kind::Text),
            Column::same("created_at", Kind::Big),
        ],
        from: "notices",
        order: "id",
    },
];

/// The tables whose ids the database counts.
const COUNTED: [&str; 3] = ["notices", "outbox", "login_events"];

/// Moves the store in the file at `path`; `key_check` is what pods with the same key file derive from it.
pub(crate) async fn migrate(
    path: &Path,
    target: &PgConnectOptions,
    installation: [u8; 32],
    key_check: [u8; 32],
    hear: Hear<'_>,
) -> Result<Moved, TransferError> {
    let source = flaghoist_runtime::sqlite::open(path, &sqlite::MIGRATOR).await?;
    let moved = move_from(&source.readers, target, installation, key_check, hear).await;
    source.close().await;
    moved
}

async fn move_from(
    source: &sqlx::SqlitePool,
    target: &PgConnectOptions,
    installation: [u8; 32],
    key_check: [u8; 32],
    hear: Hear<'_>,
) -> Result<Moved, TransferError> {
    // No id of a notice is used again, not even of one that is gone; nor of a message or an event.
    let mut last = Vec::new();
    for table in COUNTED {
        let seq: Option<i64> = sqlx::query_scalar("SELECT seq FROM sqlite_sequence WHERE name = ?1")
            .bind(table)
            .fetch_optional(source)
            .await
            .map_err(|source| TransferError::Read { service: "login", table: "sqlite_sequence", source })?;
        last.push((table, seq));
    }
    let plan =
        Transfer { service: "login", tables: TABLES, source, target, migrator: &postgres::MIGRATOR, installation };
    transfer(&plan, hear, async |connection| {
        sqlx::query("INSERT INTO key_check (derived) VALUES ($1) ON CONFLICT (only_row) DO UPDATE SET derived = excluded.derived")
            .bind(&key_check[..])
            .execute(&mut *connection)
            .await?;
        for (table, last) in &last {
            // Of nothing nothing is set.
            sqlx::query("SELECT setval(pg_get_serial_sequence($1, 'id'), $2)")
                .bind(*table)
                .bind((*last).filter(|last| *last > 0))
                .execute(&mut *connection)
                .await?;
        }
        Ok(())
    })
    .await
}

#[cfg(test)]
mod tests {
    use flaghoist_backends::Postgres;

    use super::*;

    #[tokio::test]
    async fn every_column_is_moved_or_left_behind_on_purpose() {
        let Some(postgres) = Postgres::shared().await else { return };
        let url = postgres.database().await;
        postgres::PostgresStore::open(&url.parse().unwrap(), 1).await.unwrap();
        let there = postgres
            .sql(
                &url,
                "SELECT table_name || '.' || column_name FROM information_schema.columns WHERE table_schema = 'login' \
                 AND table_name NOT IN ('_sqlx_migrations', 'buckets', 'lanes', 'key_check', 'logins', 'totp_enrolments', 'ceremonies', \
                 'account_sessions', 'contact_changes', 'password_resets')",
            )
            .await;
        let sorted = |mut names: Vec<String>| {
            names.sort_unstable();
            names
        };
        let moved = TABLES.iter().flat_map(Table::column_names).collect();
        assert_eq!(sorted(moved), sorted(there.lines().map(str::to_owned).collect()));
    }

    #[tokio::test]
    async fn pods_know_the_key_file_and_no_id_of_a_notice_is_used_again() {
        use flaghoist_runtime::names::UserId;
        use uuid::Uuid;

        use crate::store::Store as _;

        let Some(server) = Postgres::shared().await else { return };
        let (url, folder) = (server.database().await, tempfile::tempdir().unwrap());
        let path = folder.path().join("login.db");
        let old = sqlite::SqliteStore::open(&path).await.unwrap();
        let (told, untold) = (UserId(Uuid::now_v7()), UserId(Uuid::now_v7()));
        old.note_state(untold, 1).await.unwrap();
        for _ in 0..5 {
            old.note_state(told, 1).await.unwrap();
        }
        let (last, _) = old.notices(told).await.unwrap().remove(0);
        old.told(last).await.unwrap();
        old.close().await;

        migrate(&path, &url.parse().unwrap(), [1; 32], [2; 32], &mut |_| ()).await.unwrap();
        let new = postgres::PostgresStore::open(&url.parse().unwrap(), 2).await.unwrap();
        assert!(new.agrees(&[2; 32]).await.unwrap());
        assert!(!new.agrees(&[3; 32]).await.unwrap());
        assert_eq!(new.users_with_notices(10).await.unwrap(), [untold]);
        new.note_state(told, 2).await.unwrap();
        let (next, _) = new.notices(told).await.unwrap().remove(0);
        assert!(next > last, "{next} > {last}");
    }
}
