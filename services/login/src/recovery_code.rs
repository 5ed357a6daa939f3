//! Recovery codes: ten of them stand in for any other second factor, each once. Only digests are kept.

use std::fmt;

use aws_lc_rs::digest;
use flaghoist_runtime::names::UserId;
use secrecy::{ExposeSecret as _, SecretString};

use crate::letters;

/// How many there are.
pub(crate) const CODES: usize = 10;
/// 80 bits: not to be guessed, not even by who has the digests, ten times as many or not.
const LETTERS: usize = 16;
/// A hyphen after so many letters.
const GROUP: usize = 4;

/// A code, without its hyphens. It is never shown by `Debug`.
#[derive(Clone)]
pub(crate) struct RecoveryCode(SecretString);

/// What the store keeps of a code of one person.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RecoveryDigest(pub(crate) [u8; 32]);

impl RecoveryCode {
    /// Ten new codes of a person: as they are written down, and what the store keeps of them.
    pub(crate) fn generate(user: UserId) -> (Vec<SecretString>, Vec<RecoveryDigest>) {
        let codes = (0..CODES).map(|_| {
            let written = letters::write(rand::random(), LETTERS, GROUP);
            let digest = Self(SecretString::from(written.replace('-', ""))).digest(user);
            (SecretString::from(written), digest)
        });
        codes.unzip()
    }

    /// Reads a code as typed.
    pub(crate) fn read(typed: &str) -> Option<Self> {
        letters::read(typed, LETTERS).map(|code| Self(SecretString::from(code)))
    }

    /// What the store keeps of it, if it is this person's.
    pub(crate) fn digest(&self, user: UserId) -> RecoveryDigest {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"flaghoist recovery code");
        context.update(user.0.as_bytes());
        context.update(self.0.expose_secret().as_bytes());
        let mut bytes = [0; 32];
        bytes.copy_from_slice(context.finish().as_ref());
        RecoveryDigest(bytes)
    }
}

impl fmt::Debug for RecoveryCode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("RecoveryCode(…)")
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn case_84_a_code_is_one_persons_however_it_was_copied() {
        let (alice, bob) = (UserId(Uuid::now_v7()), UserId(Uuid::now_v7()));
        let (codes, digests) = RecoveryCode::generate(alice);
        assert_eq!((codes.len(), digests.len()), (CODES, CODES));
        for (code, digest) in codes.iter().zip(&digests) {
            let code = code.expose_secret();
            assert_eq!(code.len(), 19, "{code}");
            for typed in [code.to_owned(), code.to_uppercase().replace('-', " "), code.replace('-', "")] {
                assert_eq!(RecoveryCode::read(&typed).unwrap().digest(alice), *digest);
                assert_ne!(RecoveryCode::read(&typed).unwrap().digest(bob), *digest);
            }
            assert_eq!(digests.iter().filter(|other| *other == digest).count(), 1);
        }
        for typed in ["", "123456", &"u".repeat(16), &"0".repeat(17), "\u{661}".repeat(16).as_str()] {
            assert!(RecoveryCode::read(typed).is_none(), "{typed}");
        }
    }
}
