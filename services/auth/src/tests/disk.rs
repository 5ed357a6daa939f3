//! A full disk: what cannot be stored is not answered, and the issuer goes on when there is space again.

use std::path::PathBuf;
use std::process::Command;

use super::*;

/// A small file system that can be filled, unmounted at the end.
struct SmallDisk {
    folder: PathBuf,
    _parent: TempDir,
}

impl SmallDisk {
    fn mount() -> Result<Self, String> {
        let parent = tempfile::tempdir().map_err(|error| error.to_string())?;
        let folder = parent.path().join("disk");
        std::fs::create_dir(&folder).map_err(|error| error.to_string())?;
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(&folder).output();
        let mount = mount.map_err(|error| error.to_string())?;
        if mount.status.success() {
            Ok(Self { folder, _parent: parent })
        } else {
            Err(String::from_utf8_lossy(&mount.stderr).into_owned())
        }
    }

    /// Takes all the space that is left.
    fn fill(&self) {
        use std::io::Write as _;
        let mut ballast = std::fs::File::create(self.folder.join("ballast")).unwrap();
        while ballast.write_all(&[1; 4096]).is_ok() {}
    }

    fn free(&self) {
        std::fs::remove_file(self.folder.join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _unmounted = Command::new("umount").arg("-l").arg(&self.folder).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_01_on_a_full_disk_nothing_is_answered_that_is_not_stored() {
    let disk = match SmallDisk::mount() {
        Ok(disk) => disk,
        Err(reason) => {
            flaghoist_backends::left_out("a full disk under auth", &format!("no small disk can be mounted: {reason}"));
            return;
        }
    };
    let mut world = World::at(Place::new(&disk.folder), None, Settings::default(), Clock::default()).await;
    let user = somebody();
    let (_, mut good) = world.sign_in(user).await;
    let (gone_session, gone) = world.sign_in(user).await;
    let mut answered = Vec::new();
    disk.fill();
    // What the log has in reserve still takes a few.
    let mut unavailable = 0;
    for _ in 0..5000 {
        match world.try_sign_in(somebody(), "flaghoist-cli", &["chat.read"]).await {
            Ok((_, tokens)) => answered.push(tokens),
            Err(status) => {
                let reason = reason_of(&status);
                assert_eq!((status.code(), reason), (Code::Unavailable, Some(Reason::Unavailable)), "{status:?}");
                unavailable += 1;
            }
        }
        if unavailable == 10 {
            break;
        }
    }
    assert_eq!(unavailable, 10, "the disk never got full");
    let full = (Code::Unavailable, Reason::Unavailable);
    // A refresh is small: the last pages may be enough for one.
    while let Ok(tokens) = world.refresh(&good.refresh_token).await {
        good = tokens;
    }
    refused(world.refresh(&good.refresh_token).await, full.0, full.1);
    refused(world.revoke(cli(), &gone.refresh_token).await, full.0, full.1);
    world.context.verifier.verify(&gone.access_token).expect("what is not stored is not done either");
    let state = SetSubjectStateRequest { user: user.name(), enabled: false, admin: false };
    refused(world.subjects().set_subject_state(state).await, full.0, full.1);
    // Reading goes on.
    let listed = world.sessions(&good.access_token).list_sessions(ListSessionsRequest::default()).await.unwrap();
    assert_eq!(listed.into_inner().sessions.len(), 2);

    disk.free();
    eventually("refreshes are answered again", Duration::from_secs(20), async || {
        match world.refresh(&good.refresh_token).await {
            Ok(tokens) => {
                good = tokens;
                true
            }
            Err(status) => {
                assert_eq!(status.code(), Code::Unavailable, "{status:?}");
                false
            }
        }
    })
    .await;
    world.revoke(cli(), &gone.refresh_token).await.unwrap();
    world = world.restarted().await;
    for tokens in answered.iter().chain([&good]) {
        world.refresh(&tokens.refresh_token).await.expect("what was answered is stored");
    }
    refused(world.refresh(&gone.refresh_token).await, Code::Unauthenticated, Reason::GrantInvalid);
    assert!(!gone_session.name.is_empty());
}
