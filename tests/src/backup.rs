//! Backups of a world as an operator makes them, and putting them back: `flaghoist admin backup` for the files of SQLite, `pg_dump`
//! and `pg_restore` for databases.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::cluster::{Cluster, Service};
use crate::world::World;

/// Each before those that it asks, as `flaghoist admin backup` does it by itself.
const ORDER: [Service; 4] = [Service::Receiver, Service::Send, Service::Login, Service::Auth];

/// A backup. It is gone when this is dropped.
#[derive(Debug)]
pub struct Backup {
    folder: TempDir,
}

impl Backup {
    /// Where it lies.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("backup")
    }
}

impl World {
    /// Makes a backup while everything goes on.
    pub async fn backs_up(&self) -> Backup {
        let backup = Backup { folder: tempfile::tempdir().expect("a folder") };
        match self.cluster() {
            None => {
                let path = backup.path().to_string_lossy().into_owned();
                self.command(&["admin", "backup", &path]).await.unwrap_or_else(|said| panic!("admin backup: {said}"));
            }
            Some(cluster) => {
                std::fs::create_dir(backup.path()).expect("a folder of ours");
                for service in ORDER {
                    let to = dump_of(&backup.path(), service);
                    cluster.postgres().dump(cluster.database(service), &to).await;
                }
            }
        }
        backup
    }

    /// Stops everything, puts the backup in the place of what is stored, and starts again.
    pub async fn restores(&self, backup: &Backup) {
        self.stop().await;
        match self.cluster() {
            None => {
                std::fs::remove_dir_all(self.data()).expect("the data folder is ours");
                std::fs::create_dir(self.data()).expect("its place is free");
                for file in std::fs::read_dir(backup.path()).expect("the backup is there") {
                    let file = file.expect("it can be listed");
                    std::fs::copy(file.path(), self.data().join(file.file_name())).expect("copied");
                }
            }
            Some(cluster) => databases_from(cluster, &backup.path()).await,
        }
        self.start_again().await;
    }
}

async fn databases_from(cluster: &Cluster, folder: &Path) {
    for service in ORDER {
        cluster.postgres().renew_database(cluster.database(service)).await;
        cluster.postgres().restore(cluster.database(service), &dump_of(folder, service)).await;
    }
}

fn dump_of(folder: &Path, service: Service) -> PathBuf {
    folder.join(format!("{}.dump", service.name()))
}
