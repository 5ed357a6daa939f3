//! Secrets at rest: what a service must read again itself, such as a private key or the secret of a one-time password, is kept in its
//! store encrypted (AES-256-GCM) with a key that is not in the store.
//!
//! A sealing key has an id, which is kept with what it sealed, so a newer one can be put in front and the older ones left out once
//! everything was sealed anew.

use std::fmt;
use std::path::PathBuf;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::place::{Place, SecretError};

const NONCE_BYTES: usize = 12;

/// A secret, encrypted.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Nonce, ciphertext, tag.
    pub bytes: Vec<u8>,
    /// The id of the key that it was encrypted with.
    pub with: String,
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealed").field("with", &self.with).finish_non_exhaustive()
    }
}

/// Why a secret cannot be sealed or read.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// It was encrypted with another key.
    #[error(
        "{name} was encrypted with key {with}, but the key file gives {have}: is it the one that belongs to this store? Older \
         sealing keys are needed until everything was sealed anew"
    )]
    OtherKey {
        /// What was to be read.
        name: String,
        /// The id of the key that it was encrypted with.
        with: String,
        /// The id of the newest key that is there.
        have: String,
    },
    /// It does not decrypt.
    #[error("{name} cannot be decrypted: was the store damaged?")]
    Broken {
        /// What was to be read.
        name: String,
    },
    /// The cipher failed.
    #[error("cannot encrypt a secret")]
    Cipher,
}

/// Why there is nothing to seal with.
#[derive(Debug, thiserror::Error)]
pub enum SealerError {
    /// A key file cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The cipher failed.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// Encrypts and decrypts secrets. It has one key to encrypt with and may have older ones that still decrypt.
pub struct Sealer {
    newest: Cipher,
    older: Vec<Cipher>,
}

/// A key-encryption key.
struct Cipher {
    /// Tells which key was used and nothing about it.
    id: String,
    key: RandomizedNonceKey,
}

impl Cipher {
    fn new(key: &[u8; 32]) -> Result<Self, SealError> {
        let mut named = digest::Context::new(&digest::SHA256);
        named.update(b"the id of a sealing key");
        named.update(key);
        let id = URL_SAFE_NO_PAD.encode(&named.finish().as_ref()[..9]);
        let key = RandomizedNonceKey::new(&AES_256_GCM, key).map_err(|_| SealError::Cipher)?;
        Ok(Self { id, key })
    }

    fn seal(&self, name: &str, plain: &[u8]) -> Result<Sealed, SealError> {
        let mut text = plain.to_vec();
        let sealed = self.key.seal_in_place_append_tag(Aad::from(name.as_bytes()), &mut text);
        let nonce = sealed.map_err(|_| SealError::Cipher)?;
        Ok(Sealed { bytes: [nonce.as_ref().as_slice(), &text].concat(), with: self.id.clone() })
    }
}

/// The files that a setting of sealing keys names: separated by commas, the newest first.
pub fn files(text: &str) -> Vec<PathBuf> {
    text.split(',').map(str::trim).filter(|file| !file.is_empty()).map(PathBuf::from).collect()
}

impl Sealer {
    /// A sealer with one key.
    pub fn new(key: &[u8; 32]) -> Result<Self, SealError> {
        Ok(Self { newest: Cipher::new(key)?, older: Vec::new() })
    }

    /// The sealer of a service for one purpose: the newest of the sealing keys, the older ones for what they sealed, and the key file
    /// of the place as the oldest.
    pub fn of(place: &Place, files: &[PathBuf], purpose: &str) -> Result<Self, SealerError> {
        let mut sealer = Self::new(&place.secret()?.derive(purpose))?;
        for file in files.iter().rev() {
            let given = Place { secret_file: Some(file.clone()), ..place.clone() };
            sealer = sealer.renewed(&given.secret()?.derive(purpose))?;
        }
        Ok(sealer)
    }

    /// The same with a newer key, with which it encrypts from now on.
    pub fn renewed(self, key: &[u8; 32]) -> Result<Self, SealError> {
        let mut older = vec![self.newest];
        older.extend(self.older);
        Ok(Self { newest: Cipher::new(key)?, older })
    }

    /// The id of the key that it encrypts with.
    pub fn id(&self) -> &str {
        &self.newest.id
    }

    /// Encrypts a secret under its name, without which it cannot be read again: so none is taken for another.
    pub fn seal(&self, name: &str, plain: &[u8]) -> Result<Sealed, SealError> {
        self.newest.seal(name, plain)
    }

    /// The same secret, encrypted with the newest key; none if it is already.
    pub fn reseal(&self, name: &str, sealed: &Sealed) -> Result<Option<Sealed>, SealError> {
        if sealed.with == self.newest.id {
            return Ok(None);
        }
        Ok(Some(self.newest.seal(name, &self.open(name, sealed)?)?))
    }

    /// The secret that was sealed under `name`.
    pub fn open(&self, name: &str, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let mut ciphers = std::iter::once(&self.newest).chain(&self.older);
        let Some(cipher) = ciphers.find(|cipher| cipher.id == sealed.with) else {
            let (with, have) = (sealed.with.clone(), self.newest.id.clone());
            return Err(SealError::OtherKey { name: name.to_owned(), with, have });
        };
        let broken = || SealError::Broken { name: name.to_owned() };
        let (nonce, text) = sealed.bytes.split_at_checked(NONCE_BYTES).ok_or_else(broken)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| broken())?;
        let mut text = Zeroizing::new(text.to_vec());
        let opened = cipher.key.open_in_place(nonce, Aad::from(name.as_bytes()), &mut text);
        let length = opened.map_err(|_| broken())?.len();
        text.truncate(length);
        Ok(text)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("id", &self.newest.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_opens_under_its_name_with_its_key_alone() {
        let (one, other) = (Sealer::new(&[7; 32]).unwrap(), Sealer::new(&[8; 32]).unwrap());
        let sealed = one.seal("alice", b"secret").unwrap();
        assert!(!sealed.bytes.windows(6).any(|part| part == b"secret"));
        assert_eq!(one.open("alice", &sealed).unwrap().as_slice(), b"secret");
        assert!(matches!(one.open("bob", &sealed), Err(SealError::Broken { .. })));
        assert!(matches!(other.open("alice", &sealed), Err(SealError::OtherKey { .. })));
        let damaged = Sealed { bytes: sealed.bytes[..10].to_vec(), ..sealed.clone() };
        assert!(matches!(one.open("alice", &damaged), Err(SealError::Broken { .. })));
        let both = one.renewed(&[8; 32]).unwrap();
        let anew = both.reseal("alice", &sealed).unwrap().unwrap();
        assert_eq!(other.open("alice", &anew).unwrap().as_slice(), b"secret");
        assert_eq!(both.reseal("alice", &anew).unwrap(), None);
    }

    #[test]
    fn the_newest_file_seals_and_the_older_ones_open() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new(folder.path());
        let old = Sealer::of(&place, &[], "test").unwrap().seal("x", b"1").unwrap();
        let file = folder.path().join("new.key");
        std::fs::write(&file, [9; 32]).unwrap();
        let listed = files(&format!(" {} ,", file.display()));
        let sealer = Sealer::of(&place, &listed, "test").unwrap();
        assert_eq!(sealer.open("x", &old).unwrap().as_slice(), b"1");
        assert_ne!(sealer.seal("x", b"1").unwrap().with, old.with);
        assert!(matches!(Sealer::of(&place, &[folder.path().join("none")], "test"), Err(SealerError::Secret(_))));
    }
}
