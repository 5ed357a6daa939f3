//! Point-in-time recovery: a base backup, the archived log, and the way back to a moment that was named.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::{Cluster, Postgres, READY_MAX, Stop, answer};
use crate::{blocking, pause};

impl Postgres {
    /// Has the server archive its log from now on, which takes a restart.
    pub async fn begin_archive(&self) {
        let cluster = Arc::clone(&self.cluster);
        blocking(move || {
            cluster.folder_of_its_own(&cluster.archive());
        })
        .await;
        let admin = self.superuser_url("postgres");
        let copy = format!("cp %p {}/%f", self.cluster.archive().display());
        self.sql(&admin, "ALTER SYSTEM SET archive_mode = on").await;
        self.sql(&admin, &format!("ALTER SYSTEM SET archive_command = '{copy}'")).await;
        self.stop(Stop::Fast).await;
        self.start_again().await;
    }

    /// Copies the whole cluster while it runs, by `pg_basebackup`.
    pub async fn base_backup(&self) {
        let cluster = Arc::clone(&self.cluster);
        let mut command = self.cluster.program("pg_basebackup");
        command.args(["--checkpoint=fast", "--dbname", &self.superuser_url("postgres"), "--pgdata"]);
        command.arg(cluster.base());
        blocking(move || answer(command)).await.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Names this moment; [`Postgres::recover`] leads back to it.
    pub async fn name_moment(&self, name: &str) {
        let admin = self.superuser_url("postgres");
        self.sql(&admin, &format!("SELECT pg_create_restore_point('{name}')")).await;
        self.sql(&admin, "SELECT pg_switch_wal()").await;
    }

    /// Puts the base backup in the place of the cluster, replays the archived log up to the moment of that name, and serves again.
    pub async fn recover(&self, name: &str) {
        // In order, so that the log is archived to its end.
        self.stop(Stop::Fast).await;
        let (cluster, name) = (Arc::clone(&self.cluster), name.to_owned());
        blocking(move || cluster.begin_recovery(&name)).await;
        self.start_again().await;
        let began = Instant::now();
        while self.sql(&self.superuser_url("postgres"), "SELECT pg_is_in_recovery()").await != "f" {
            assert!(began.elapsed() < READY_MAX, "PostgreSQL does not recover; its log:\n{}", self.log());
            blocking(pause).await;
        }
    }
}

impl Cluster {
    fn archive(&self) -> PathBuf {
        self.folder.path().join("archive")
    }

    fn base(&self) -> PathBuf {
        self.folder.path().join("base")
    }

    fn folder_of_its_own(&self, path: &Path) {
        fs::create_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        self.give(path);
    }

    /// Gives a file to whoever runs the server.
    fn give(&self, path: &Path) {
        if let Some((user, group)) = self.owner {
            chown(path, Some(user), Some(group)).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
    }

    fn begin_recovery(&self, name: &str) {
        let placed = fs::remove_dir_all(self.pgdata()).and_then(|()| fs::rename(self.base(), self.pgdata()));
        placed.unwrap_or_else(|error| panic!("the base backup does not get to its place: {error}"));
        let conf = self.pgdata().join("postgresql.auto.conf");
        let mut text = fs::read_to_string(&conf).unwrap_or_else(|error| panic!("{}: {error}", conf.display()));
        text.push_str(&format!(
            "restore_command = 'cp {}/%f %p'\nrecovery_target_name = '{name}'\nrecovery_target_action = 'promote'\n",
            self.archive().display()
        ));
        for (path, text) in [(conf, text), (self.pgdata().join("recovery.signal"), String::new())] {
            fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            self.give(&path);
        }
    }
}
