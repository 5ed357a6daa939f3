//! Invitations: codes of 128 random bits with which one person may register. Only their digest is kept.

use std::fmt;

use aws_lc_rs::digest;
use secrecy::{ExposeSecret as _, SecretString};

use crate::letters;

/// 130 bits, the lowest two of which are zero.
const LETTERS: usize = 26;
/// A hyphen after so many letters, for those who copy it by hand.
const GROUP: usize = 5;

/// A code to hand to a person. It is never shown by `Debug`.
#[derive(Clone)]
pub(crate) struct Invitation(SecretString);

/// What the store keeps of a code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct InvitationDigest(pub(crate) [u8; 32]);

impl Invitation {
    /// A new code.
    pub(crate) fn generate() -> Self {
        Self(SecretString::from(letters::write(rand::random(), LETTERS, GROUP)))
    }

    /// Reads a code as typed: in any case, with or without hyphens and spaces, with letters mistaken for digits.
    pub(crate) fn read(typed: &str) -> Option<Self> {
        letters::read(typed, LETTERS).map(|code| Self(SecretString::from(code)))
    }

    /// The code itself, for the one answer that carries it.
    pub(crate) fn code(&self) -> &str {
        self.0.expose_secret()
    }

    /// What the store keeps. A plain digest will do: 128 random bits are not guessed.
    pub(crate) fn digest(&self) -> InvitationDigest {
        let mut context = digest::Context::new(&digest::SHA256);
        for group in self.0.expose_secret().split('-') {
            context.update(group.as_bytes());
        }
        let mut bytes = [0; 32];
        bytes.copy_from_slice(context.finish().as_ref());
        InvitationDigest(bytes)
    }
}

impl fmt::Debug for Invitation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Invitation(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_read_however_it_was_copied() {
        for _ in 0..100 {
            let invitation = Invitation::generate();
            let code = invitation.code();
            assert_eq!(code.len(), 31, "{code}");
            let sloppy = code.to_uppercase().replace('-', " ").replace('0', "O").replace('1', "l");
            for typed in [code.to_owned(), code.replace('-', ""), sloppy] {
                assert_eq!(Invitation::read(&typed).unwrap().digest(), invitation.digest(), "{typed}");
            }
            assert_ne!(Invitation::generate().digest(), invitation.digest());
        }
        for typed in ["", "abc", "uuuuu-uuuuu-uuuuu-uuuuu-uuuuu-u", &"0".repeat(27), &"é".repeat(26)] {
            assert!(Invitation::read(typed).is_none(), "{typed}");
        }
        assert_eq!(format!("{:?}", Invitation::generate()), "Invitation(…)");
    }
}
