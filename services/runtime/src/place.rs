//! Where a service keeps what is its own: a folder with its store, and the secret that keys are derived from.

use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::hkdf;
use zeroize::{Zeroize as _, ZeroizeOnDrop, Zeroizing};

/// The length of the secret.
const SECRET_BYTES: usize = 32;

/// A folder with `<service>.db` files and the key file `secret.key`, which pods that share a store are given instead.
#[derive(Clone, Debug)]
pub struct Place {
    /// The folder.
    pub data: PathBuf,
    /// A key file that all pods of an installation are given; it is read and never made. Without one, `secret.key` in the folder
    /// is used.
    pub secret_file: Option<PathBuf>,
}

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read or made.
    #[error("cannot read or make the key file {}: does the folder exist, and may this user write to it?", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file that was given cannot be read.
    #[error("cannot read the key file {}: is it there, and may this user read it?", path.display())]
    Given {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file does not hold a secret.
    #[error("the key file {} does not hold {SECRET_BYTES} bytes: restore it from a backup; what it encrypted cannot be read without it", path.display())]
    Length {
        /// The file.
        path: PathBuf,
    },
}

/// The secret of an installation. Keys for each purpose are derived from it.
#[derive(Clone, ZeroizeOnDrop)]
pub struct Secret([u8; SECRET_BYTES]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Secret")
    }
}

impl Place {
    /// A folder with a key file of its own.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self { data: data.into(), secret_file: None }
    }

    /// The key file of the folder itself.
    pub fn own_key_file(&self) -> PathBuf {
        self.data.join("secret.key")
    }

    /// The secret: of the key file that was given, or else of `secret.key`, made with mode 0600 if there is no such file.
    pub fn secret(&self) -> Result<Secret, SecretError> {
        let own = self.own_key_file();
        match &self.secret_file {
            Some(given) if *given != own => Secret::read(given),
            _ => {
                let bytes = match std::fs::File::open(&own) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => make(&self.data, &own),
                    opened => opened.and_then(read),
                };
                Secret::of(&bytes.map_err(|source| SecretError::File { path: own.clone(), source })?, own)
            }
        }
    }
}

/// Reads a key file, one byte more at most than it should hold.
fn read(file: std::fs::File) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_BYTES + 1));
    file.take(SECRET_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Makes a key file that is either whole or not there, and never replaces one that another process made meanwhile.
fn make(folder: &Path, path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(vec![0; SECRET_BYTES]);
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| io::Error::other("no randomness"))?;
    let draft = folder.join(format!(".secret.key.{}.{}", std::process::id(), uuid::Uuid::now_v7()));
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    let linked = file.write_all(&bytes).and_then(|()| file.sync_all()).and_then(|()| std::fs::hard_link(&draft, path));
    std::fs::remove_file(&draft)?;
    match linked {
        Ok(()) => std::fs::File::open(folder)?.sync_all().map(|()| bytes),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => std::fs::File::open(path).and_then(read),
        Err(error) => Err(error),
    }
}

impl Secret {
    /// A secret from elsewhere, for tests and for pods that are given it.
    pub fn from_bytes(bytes: [u8; SECRET_BYTES]) -> Self {
        Self(bytes)
    }

    /// The secret of a key file that was given; it is never made.
    pub fn read(path: &Path) -> Result<Self, SecretError> {
        let bytes = std::fs::File::open(path).and_then(read);
        let bytes = bytes.map_err(|source| SecretError::Given { path: path.to_owned(), source })?;
        Self::of(&bytes, path.to_owned())
    }

    fn of(bytes: &[u8], path: PathBuf) -> Result<Self, SecretError> {
        bytes.try_into().map(Self).map_err(|_| SecretError::Length { path })
    }

    /// The key for one purpose (HKDF-SHA-256).
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        let mut key = [0; 32];
        let info = [b"flaghoist/v1/".as_slice(), purpose.as_bytes()];
        let filled = hkdf::Salt::new(hkdf::HKDF_SHA256, &[])
            .extract(&self.0)
            .expand(&info, hkdf::HKDF_SHA256)
            .and_then(|okm| okm.fill(&mut key));
        if filled.is_err() {
            key.zeroize();
            // Only a length beyond what HKDF can give is an error, and 32 bytes are not.
            unreachable!("HKDF-SHA-256 gives 32 bytes");
        }
        key
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_secret_is_made_once_and_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new(folder.path());
        let (first, second) = (place.secret().unwrap(), place.secret().unwrap());
        assert_eq!(first.derive("pages"), second.derive("pages"));
        assert_ne!(first.derive("pages"), first.derive("keys"));
        let mode = std::fs::metadata(folder.path().join("secret.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(format!("{first:?}"), "Secret");
    }

    #[test]
    fn a_broken_key_file_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("secret.key"), "short").unwrap();
        let error = Place::new(folder.path()).secret().unwrap_err();
        assert!(matches!(error, SecretError::Length { .. }));
        assert_eq!(std::fs::read(folder.path().join("secret.key")).unwrap(), b"short");
    }

    #[test]
    fn a_key_file_that_was_given_is_read_and_never_made() {
        let folder = tempfile::tempdir().unwrap();
        let given = folder.path().join("given.key");
        let place = Place { secret_file: Some(given.clone()), ..Place::new(folder.path()) };
        assert!(matches!(place.secret().unwrap_err(), SecretError::Given { .. }));
        std::fs::write(&given, [7; 32]).unwrap();
        assert_eq!(place.secret().unwrap().derive("pages"), Secret::from_bytes([7; 32]).derive("pages"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing was made beside it");
    }

    #[test]
    fn a_missing_folder_says_what_to_look_at() {
        let error = Place::new("/nonexistent/flaghoist").secret().unwrap_err();
        assert!(error.to_string().contains("does the folder exist"));
    }
}
