//! The secret by which a login in steps is named: 256 random bits. Only its digest is kept.

use std::fmt;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret as _, SecretString};

const BYTES: usize = 32;

/// The secret, as text. It is never shown by `Debug`.
#[derive(Clone)]
pub(crate) struct LoginToken(SecretString);

/// What the store keeps of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct LoginDigest(pub(crate) [u8; 32]);

impl LoginToken {
    /// A new one.
    pub(crate) fn generate() -> Self {
        Self(SecretString::from(URL_SAFE_NO_PAD.encode(rand::random::<[u8; BYTES]>())))
    }

    /// Takes the text that a caller brings; what is none finds no login.
    pub(crate) fn read(text: String) -> Self {
        Self(SecretString::from(text))
    }

    /// The text, for the one answer that carries it.
    pub(crate) fn text(&self) -> &str {
        self.0.expose_secret()
    }

    /// What the store keeps. A plain digest will do: 256 random bits are not guessed.
    pub(crate) fn digest(&self) -> LoginDigest {
        LoginDigest(sha256(self.text().as_bytes()))
    }
}

impl fmt::Debug for LoginToken {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("LoginToken(…)")
    }
}

/// The digest of something that is not to be kept itself.
pub(crate) fn sha256(text: &[u8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, text).as_ref());
    bytes
}
