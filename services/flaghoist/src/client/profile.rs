//! Who is signed in: one file a profile, in the user's configuration folder. The file holds tokens, so it is readable by
//! its owner only and replaced as a whole; whoever changes it holds the lock beside it, so that a `listen` and a `send`
//! that run side by side spend a refresh token once.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{env, fmt, process};

use flaghoist_proto::auth::v1::TokenSet;
use serde::{Deserialize, Serialize};

use crate::exit::{Exit, Failure};

/// How long another command may hold the lock before this one gives up.
const LOCK_WAIT: Duration = Duration::from_secs(30);
/// How often the lock is tried meanwhile.
const LOCK_POLL: Duration = Duration::from_millis(10);

/// What a profile remembers.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Profile {
    /// The server that the tokens belong to; they are sent to no other.
    pub(crate) server: String,
    /// The person, `users/{user}`.
    pub(crate) user: String,
    /// The person's handle.
    pub(crate) handle: String,
    /// The id of this profile as a device; kept over sign-outs, so that listening goes on where it stopped.
    pub(crate) device: String,
    /// The session and its tokens; none after `logout`.
    pub(crate) session: Option<Session>,
}

/// The tokens of a session.
#[derive(Clone, Deserialize, Serialize)]
pub(crate) struct Session {
    /// The resource name, `users/{user}/sessions/{session}`.
    pub(crate) name: String,
    /// The access token.
    pub(crate) access_token: String,
    /// When the access token was received, in seconds since 1970.
    pub(crate) obtained_at: u64,
    /// When the access token expires, in seconds since 1970.
    pub(crate) expires_at: u64,
    /// The refresh token, good for one use.
    pub(crate) refresh_token: String,
}

impl Session {
    /// The session `name` with the tokens that were just received.
    pub(crate) fn new(name: String, tokens: TokenSet) -> Self {
        Self {
            name,
            access_token: tokens.access_token,
            obtained_at: now(),
            expires_at: tokens.access_token_expire_time.map_or(0, |at| u64::try_from(at.seconds).unwrap_or(0)),
            refresh_token: tokens.refresh_token,
        }
    }

    /// How long the access token can be used without thinking of a fresh one: until 30 seconds before it expires, or,
    /// where tokens live shortly, for two thirds of its life.
    pub(crate) fn fresh_for(&self) -> Duration {
        let margin = (self.expires_at.saturating_sub(self.obtained_at) / 3).min(30);
        Duration::from_secs(self.expires_at.saturating_sub(margin).saturating_sub(now()))
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("name", &self.name)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A new id for a device.
pub(crate) fn new_device() -> String {
    format!("cli-{:016x}", rand::random::<u64>())
}

/// Where a profile lies, whether or not it exists.
#[derive(Clone, Debug)]
pub(crate) struct ProfileFile {
    folder: PathBuf,
    name: String,
}

impl ProfileFile {
    /// The file of the profile `name` in the configuration folder of the user who runs this.
    pub(crate) fn of_user(name: &str) -> Result<Self, Failure> {
        let absolute = |variable| env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
        let folder = absolute("XDG_CONFIG_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".config")))
            .ok_or_else(|| Failure::new(Exit::Usage, "no place for profiles: set HOME or XDG_CONFIG_HOME"))?;
        Self::within(folder.join("flaghoist"), name)
    }

    /// The file of the profile `name` in `folder`.
    pub(crate) fn within(folder: PathBuf, name: &str) -> Result<Self, Failure> {
        let plain = |character: char| character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-');
        if name.is_empty() || name.len() > 64 || name.starts_with('.') || !name.chars().all(plain) {
            return Err(Failure::new(
                Exit::Usage,
                format!("the profile name {name:?} will not do: 1 to 64 of letters, digits, `.`, `_` and `-`"),
            ));
        }
        Ok(Self { folder, name: name.to_owned() })
    }

    /// The name of the profile.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn path(&self) -> PathBuf {
        self.folder.join(format!("{}.json", self.name))
    }

    /// The profile, if there is one.
    pub(crate) fn read(&self) -> Result<Option<Profile>, Failure> {
        let path = self.path();
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| {
                Failure::new(
                    Exit::Occupied,
                    format!("{} is not a profile ({error}): remove it and sign in again", path.display()),
                )
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unusable(&path, &error)),
        }
    }

    /// Replaces the profile as a whole: whoever reads meanwhile, or after a crash, finds the old one or the new one.
    /// Asks for the lock, so that nobody can forget it.
    pub(crate) fn write(&self, profile: &Profile, _lock: &Lock) -> Result<(), Failure> {
        let path = self.path();
        let draft = self.folder.join(format!(".{}.{}.draft", self.name, process::id()));
        let text = serde_json::to_vec_pretty(profile).map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
        let written = (|| {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&draft, &path)?;
            File::open(&self.folder)?.sync_all()
        })();
        written.map_err(|error| {
            let _ = fs::remove_file(&draft);
            unusable(&path, &error)
        })
    }

    /// Waits until no other command changes the profile.
    pub(crate) async fn lock(&self) -> Result<Lock, Failure> {
        let path = self.folder.join(format!("{}.lock", self.name));
        let opened = (|| {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
            fs::set_permissions(&self.folder, Permissions::from_mode(0o700))?;
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)
        })();
        let file = opened.map_err(|error| unusable(&path, &error))?;
        let deadline = tokio::time::Instant::now() + LOCK_WAIT;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Lock { _file: file }),
                Err(TryLockError::WouldBlock) if tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(LOCK_POLL).await;
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(Failure::new(
                        Exit::TryLater,
                        format!("another flaghoist command holds {} for too long", path.display()),
                    ));
                }
                Err(TryLockError::Error(error)) => return Err(unusable(&path, &error)),
            }
        }
    }
}

/// The right to change a profile; given back when dropped or when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

fn unusable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Occupied, format!("cannot use {}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
