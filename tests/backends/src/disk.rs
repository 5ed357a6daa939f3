//! A small disk that can be filled.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::left_out;

/// A small file system in memory, unmounted at the end.
#[derive(Debug)]
pub struct SmallDisk {
    folder: PathBuf,
    _parent: TempDir,
}

impl SmallDisk {
    /// Mounts one of so many mebibytes for `test`. `None` where this user may not: that was said then.
    pub fn mount(test: &str, mebibytes: u32) -> Option<Self> {
        match Self::try_mount(mebibytes) {
            Ok(disk) => Some(disk),
            Err(reason) => {
                left_out(test, &format!("no small disk can be mounted: {reason}"));
                None
            }
        }
    }

    fn try_mount(mebibytes: u32) -> Result<Self, String> {
        let parent = tempfile::tempdir().map_err(|error| error.to_string())?;
        let folder = parent.path().join("disk");
        std::fs::create_dir(&folder).map_err(|error| error.to_string())?;
        let size = format!("size={mebibytes}m");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&folder).output();
        let mount = mount.map_err(|error| error.to_string())?;
        if mount.status.success() {
            Ok(Self { folder, _parent: parent })
        } else {
            Err(String::from_utf8_lossy(&mount.stderr).trim().to_owned())
        }
    }

    /// The folder that it is mounted on.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Takes all the space that is left.
    ///
    /// # Panics
    /// When not even an empty file can be made.
    pub fn fill(&self) {
        use std::io::Write as _;
        let mut ballast = std::fs::File::create(self.ballast()).expect("a file");
        while ballast.write_all(&[1; 4_096]).is_ok() {}
    }

    /// Gives back what [`SmallDisk::fill`] took.
    ///
    /// # Panics
    /// When it was not filled.
    pub fn free(&self) {
        std::fs::remove_file(self.ballast()).expect("the ballast is there");
    }

    fn ballast(&self) -> PathBuf {
        self.folder.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // One that stays mounted is gone with the machine.
        let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
    }
}
