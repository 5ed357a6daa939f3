//! Moving the store of one machine into a database that pods share: how each table of SQLite reads as one of PostgreSQL.

use std::path::Path;

use flaghoist_runtime::transfer::{Column, Hear, Kind, Moved, Table, Transfer, TransferError, transfer};
use sqlx::SqlitePool;
use sqlx::postgres::PgConnectOptions;

use super::{postgres, sqlite};
use crate::MigrateError;
use crate::key::Sealer;

/// The tables, each in the order of its key. Sign-ins that are under way are left behind: who is at it begins again.
const TABLES: &[Table] = &[
    Table {
        name: "clients",
        columns: &[
            Column::same("client_id", Kind::Text),
            Column::same("display_name", Kind::Text),
            Column::same("secret_sha256", Kind::Bytes),
            Column::same("scopes", Kind::Text),
            Column::same("created_at", Kind::Big),
            Column::same("deleted_at", Kind::Big),
            Column::same("registration", Kind::Text),
            Column::same("previous_sha256", Kind::Bytes),
            Column::same("previous_until", Kind::Big),
        ],
        from: "clients",
        order: "client_id",
    },
    Table {
        name: "subjects",
        columns: &[
            Column::same("user_id", Kind::Bytes),
            Column::same("enabled", Kind::Flag),
            Column::same("admin", Kind::Flag),
            Column::same("erased_at", Kind::Big),
        ],
        from: "subjects",
        order: "user_id",
    },
    Table {
        name: "sessions",
        columns: &[
            Column::same("session_id", Kind::Bytes),
            Column::same("user_id", Kind::Bytes),
            Column::same("client_id", Kind::Text),
            Column::same("scopes", Kind::Text),
            Column::same("amr", Kind::Text),
            Column::same("label", Kind::Text),
            Column::same("authenticated_at", Kind::Big),
            Column::same("created_at", Kind::Big),
            Column::same("last_use_at", Kind::Big),
            Column::same("last_address", Kind::Text),
            Column::same("current_sha256", Kind::Bytes),
            Column::same("previous_sha256", Kind::Bytes),
            Column::same("rotated_at", Kind::Big),
            Column::same("claims", Kind::Text),
            Column::same("key_thumbprint", Kind::Text),
            Column::same("browser_sha256", Kind::Bytes),
        ],
        from: "sessions",
        order: "session_id",
    },
    Table {
        name: "revocations",
        columns: &[
            Column::same("revocation_no", Kind::Big),
            Column::same("kind", Kind::Text),
            Column::same("target", Kind::Text),
            Column::same("revoked_at", Kind::Big),
        ],
        from: "revocations",
        order: "revocation_no",
    },
    Table {
        name: "signing_keys",
        columns: &[
            Column::same("kid", Kind::Text),
            Column::same("public_key", Kind::Bytes),
            Column::same("sealed_private", Kind::Bytes),
            Column::same("sealed_with", Kind::Text),
            Column::same("published_at", Kind::Big),
            Column::same("activate_at", Kind::Big),
            Column::same("retire_at", Kind::Big),
            Column::same("remove_at", Kind::Big),
            Column::same("due_at", Kind::Big),
        ],
        from: "signing_keys",
        order: "kid",
    },
    Table {
        name: "id_token_keys",
        columns: &[
            Column::same("kid", Kind::Text),
            Column::same("algorithm", Kind::Text),
            Column::same("public_key", Kind::Bytes),
            Column::same("sealed_private", Kind::Bytes),
            Column::same("sealed_with", Kind::Text),
            Column::same("published_at", Kind::Big),
            Column::same("activate_at", Kind::Big),
            Column::same("retire_at", Kind::Big),
            Column::same("remove_at", Kind::Big),
            Column::same("due_at", Kind::Big),
        ],
        from: "id_token_keys",
        order: "kid",
    },
    Table {
        name: "codes",
        columns: &[
            Column::same("code_sha256", Kind::Bytes),
            Column::same("session_id", Kind::Bytes),
            Column::same("user_id", Kind::Bytes),
            Column::same("code", Kind::Text),
            Column::same("expires_at", Kind::Big),
            Column::same("used_at", Kind::Big),
            Column::same("browser_sha256", Kind::Bytes),
        ],
        from: "codes",
        order: "code_sha256",
    },
    Table {
        name: "browser_sessions",
        columns: &[
            Column::same("cookie_sha256", Kind::Bytes),
            Column::same("user_id", Kind::Bytes),
            Column::same("amr", Kind::Text),
            Column::same("authenticated_at", Kind::Big),
            Column::same("created_at", Kind::Big),
            Column::same("last_use_at", Kind::Big),
        ],
        from: "browser_sessions",
        order: "cookie_sha256",
    },
    Table {
        name: "consents",
        columns: &[
            Column::same("user_id", Kind::Bytes),
            Column::same("client_id", Kind::Text),
            Column::same("scopes", Kind::Text),
            Column::same("updated_at", Kind::Big),
        ],
        from: "consents",
        order: "user_id, client_id",
    },
    Table {
        name: "profiles",
        columns: &[
            Column::same("user_id", Kind::Bytes),
            Column::same("display_name", Kind::Text),
            Column::same("handle", Kind::Text),
            Column::same("email", Kind::Text),
            Column::same("email_verified", Kind::Flag),
            Column::same("phone_number", Kind::Text),
            Column::same("phone_number_verified", Kind::Flag),
            Column::same("address", Kind::Text),
        ],
        from: "profiles",
        order: "user_id",
    },
    Table {
        name: "used_ids",
        columns: &[Column::same("id_sha256", Kind::Bytes), Column::same("expires_at", Kind::Big)],
        from: "used_ids",
        order: "id_sha256",
    },
    Table {
        name: "registration_tokens",
        columns: &[
            Column::same("token_sha256", Kind::Bytes),
            Column::same("scopes", Kind::Text),
            Column::same("uses_left", Kind::Big),
            Column::same("expires_at", Kind::Big),
        ],
        from: "registration_tokens",
        order: "token_sha256",
    },
    Table {
        name: "device_codes",
        columns: &[
            Column::same("device_sha256", Kind::Bytes),
            Column::same("user_code_sha256", Kind::Bytes),
            Column::same("client_id", Kind::Text),
            Column::same("scopes", Kind::Text),
            Column::same("address", Kind::Text),
            Column::same("session_id", Kind::Bytes),
            Column::same("stage", Kind::Text),
            Column::same("user_id", Kind::Bytes),
            Column::same("amr", Kind::Text),
            Column::same("authenticated_at", Kind::Big),
            Column::same("interval_ms", Kind::Big),
            Column::same("next_poll_at", Kind::Big),
            Column::same("too_soon", Kind::Flag),
            Column::same("expires_at", Kind::Big),
        ],
        from: "device_codes",
        order: "device_sha256",
    },
    Table {
        name: "logout_notices",
        columns: &[
            Column::same("session_id", Kind::Bytes),
            Column::same("client_id", Kind::Text),
            Column::same("user_id", Kind::Bytes),
            Column::same("tries", Kind::Big),
            Column::same("next_try_at", Kind::Big),
        ],
        from: "logout_notices",
        order: "session_id",
    },
    Table {
        name: "audit_events",
        columns: &[
            Column::same("event_id", Kind::Bytes),
            Column::same("at", Kind::Big),
            Column::same("actor", Kind::Text),
            Column::same("subject", Kind::Text),
            Column::same("session_id", Kind::Bytes),
            Column::same("client_id", Kind::Text),
            Column::same("address", Kind::Text),
            Column::same("action", Kind::Text),
            Column::same("refused", Kind::Flag),
            Column::same("event_count", Kind::Big),
            Column::same("detail", Kind::Text),
        ],
        from: "audit_events",
        order: "event_id",
    },
];

/// Moves the store in the file at `path`, whose signing keys `sealer` must open.
pub(crate) async fn migrate(
    path: &Path,
    target: &PgConnectOptions,
    installation: [u8; 32],
    sealer: &Sealer,
    hear: Hear<'_>,
) -> Result<Moved, MigrateError> {
    let source = flaghoist_runtime::sqlite::open(path, &sqlite::MIGRATOR).await.map_err(TransferError::from)?;
    let moved = move_from(&source.readers, target, installation, sealer, hear).await;
    source.close().await;
    moved
}

async fn move_from(
    source: &SqlitePool,
    target: &PgConnectOptions,
    installation: [u8; 32],
    sealer: &Sealer,
    hear: Hear<'_>,
) -> Result<Moved, MigrateError> {
    let unread = |table| move |source| TransferError::Read { service: "auth", table, source };
    for key in sqlite::signing_keys(source).await.map_err(unread("signing_keys"))? {
        sealer.open(&key).map_err(MigrateError::from)?;
    }
    // No number of a revocation is used again, not even of one that is gone.
    let last_revocation: Option<i64> = sqlx::query_scalar("SELECT seq FROM sqlite_sequence WHERE name = 'revocations'")
        .fetch_optional(source)
        .await
        .map_err(unread("sqlite_sequence"))?;
    let plan =
        Transfer { service: "auth", tables: TABLES, source, target, migrator: &postgres::MIGRATOR, installation };
    let moved = transfer(&plan, hear, async |connection| {
        sqlx::query("UPDATE counters SET value = greatest(value, $1) WHERE name = 'revocations'")
            .bind(last_revocation.unwrap_or_default())
            .execute(connection)
            .await?;
        Ok(())
    });
    Ok(moved.await?)
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
                "SELECT table_name || '.' || column_name FROM information_schema.columns WHERE table_schema = 'auth' \
                 AND table_name NOT IN ('_sqlx_migrations', 'counters', 'audit_horizon', 'login_requests', 'pushed_requests', \
                 'code_guesses')",
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
    async fn another_key_file_is_refused_before_anything_is_written_and_revocations_are_numbered_on() {
        use std::time::SystemTime;

        use flaghoist_runtime::token::RevocationTarget;

        use crate::key::KeyTimes;
        use crate::moment::Moment;
        use crate::store::Store as _;

        let Some(server) = Postgres::shared().await else { return };
        let (url, folder) = (server.database().await, tempfile::tempdir().unwrap());
        let path = folder.path().join("auth.db");
        let (own, other) = (Sealer::new(&[1; 32]).unwrap(), Sealer::new(&[2; 32]).unwrap());
        let now = Moment::from(SystemTime::now());
        let old = sqlite::SqliteStore::open(&path).await.unwrap();
        let second = std::time::Duration::from_secs(1);
        let times = KeyTimes { period: 1000 * second, lead: 1000 * second, keep: 1000 * second };
        old.advance_keys(vec![own.generate(now).unwrap(), own.generate(now).unwrap()], &times, now).await.unwrap();
        for number in 0..3 {
            old.revoke(&RevocationTarget::Subject(number.to_string()), None, now).await.unwrap();
        }
        drop(old);
        let file = flaghoist_runtime::sqlite::open(&path, &sqlite::MIGRATOR).await.unwrap();
        sqlx::query("DELETE FROM revocations WHERE revocation_no = 3").execute(&file.writer).await.unwrap();
        file.close().await;

        let target = url.parse().unwrap();
        let refused = migrate(&path, &target, [1; 32], &other, &mut |_| ()).await.unwrap_err();
        assert!(matches!(refused, MigrateError::Keys(_)), "{refused}");
        assert_eq!(server.sql(&url, "SELECT to_regclass('auth.clients') IS NULL").await, "t");
        migrate(&path, &target, [1; 32], &own, &mut |_| ()).await.unwrap();
        let new = postgres::PostgresStore::open(&target, 2).await.unwrap();
        new.revoke(&RevocationTarget::Subject("new".into()), None, now).await.unwrap();
        let numbers: Vec<i64> =
            new.revocations(Moment(0), 0, 10).await.unwrap().iter().map(|revocation| revocation.no).collect();
        assert_eq!(numbers, [1, 2, 4]);
    }
}
