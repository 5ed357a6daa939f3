//! Refresh tokens: what they look like and how one follows from the other.
//!
//! A token is 64 bytes, written as base64url: the session's id (16), a secret (32), and a tag (16) over both that only this
//! installation can make. The id says which row to look at, and the tag tells a token that was issued once from a guess:
//! so every old token of a family is recognised for as long as the family lives although only the digests of the last
//! two are stored, and nobody can end a session by knowing its id.

use std::fmt;

use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flaghoist_runtime::names::SessionId;
use uuid::Uuid;
use zeroize::{Zeroize as _, ZeroizeOnDrop};

const SESSION_BYTES: usize = 16;
const SECRET_BYTES: usize = 32;
const TAG_BYTES: usize = 16;
const SIGNED_BYTES: usize = SESSION_BYTES + SECRET_BYTES;
const TOKEN_BYTES: usize = SIGNED_BYTES + TAG_BYTES;

/// The length of a refresh token as text.
pub(crate) const TEXT_LEN: usize = 86;

/// A refresh token that this installation issued at some time.
#[derive(Clone, PartialEq, Eq, ZeroizeOnDrop)]
pub(crate) struct RefreshToken([u8; TOKEN_BYTES]);

impl RefreshToken {
    /// The session it was issued for.
    pub(crate) fn session(&self) -> SessionId {
        let mut id = [0; SESSION_BYTES];
        id.copy_from_slice(&self.0[..SESSION_BYTES]);
        SessionId(Uuid::from_bytes(id))
    }

    /// What the store keeps of it.
    pub(crate) fn digest(&self) -> Digest {
        Digest::of(&self.0)
    }

    /// The token as its owner keeps it.
    pub(crate) fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }
}

impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RefreshToken({}, …)", self.session())
    }
}

/// The SHA-256 of a secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Digest(pub(crate) [u8; 32]);

impl Digest {
    /// The digest of `secret`.
    pub(crate) fn of(secret: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, secret).as_ref());
        Self(bytes)
    }

    /// The digest that a store kept, if it is one.
    pub(crate) fn kept(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(…)")
    }
}

/// The keys that make and recognise refresh tokens, the same on every replica.
pub(crate) struct RefreshKeys {
    tags: hmac::Key,
    successors: hmac::Key,
}

impl RefreshKeys {
    /// Keys from two secrets of the installation.
    pub(crate) fn new(tags: &[u8; 32], successors: &[u8; 32]) -> Self {
        Self {
            tags: hmac::Key::new(hmac::HMAC_SHA256, tags),
            successors: hmac::Key::new(hmac::HMAC_SHA256, successors),
        }
    }

    /// The first token of a session: 256 random bits.
    pub(crate) fn first(&self, session: SessionId) -> RefreshToken {
        let mut secret = random_bytes::<SECRET_BYTES>();
        let token = self.assemble(session, &secret);
        secret.zeroize();
        token
    }

    /// The token that `token` is exchanged for, always the same one.
    pub(crate) fn successor(&self, token: &RefreshToken) -> RefreshToken {
        self.assemble(token.session(), hmac::sign(&self.successors, &token.0).as_ref())
    }

    /// Reads a token; none if it is not one that this installation issued.
    pub(crate) fn read(&self, text: &str) -> Option<RefreshToken> {
        if text.len() != TEXT_LEN {
            return None;
        }
        let mut bytes = [0; TOKEN_BYTES];
        let read = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        let token = RefreshToken(bytes);
        bytes.zeroize();
        let expected = self.tag(&token.0[..SIGNED_BYTES]);
        let genuine = aws_lc_rs::constant_time::verify_slices_are_equal(&expected, &token.0[SIGNED_BYTES..]).is_ok();
        (read == TOKEN_BYTES && genuine).then_some(token)
    }

    fn assemble(&self, session: SessionId, secret: &[u8]) -> RefreshToken {
        let mut bytes = [0; TOKEN_BYTES];
        bytes[..SESSION_BYTES].copy_from_slice(session.0.as_bytes());
        bytes[SESSION_BYTES..SIGNED_BYTES].copy_from_slice(secret);
        let tag = self.tag(&bytes[..SIGNED_BYTES]);
        bytes[SIGNED_BYTES..].copy_from_slice(&tag);
        let token = RefreshToken(bytes);
        bytes.zeroize();
        token
    }

    fn tag(&self, signed: &[u8]) -> [u8; TAG_BYTES] {
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&hmac::sign(&self.tags, signed).as_ref()[..TAG_BYTES]);
        tag
    }
}

impl fmt::Debug for RefreshKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefreshKeys").finish_non_exhaustive()
    }
}

/// Bytes from the system's random source.
pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system's random source answers");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> RefreshKeys {
        RefreshKeys::new(&[1; 32], &[2; 32])
    }

    #[test]
    fn a_token_is_read_back_and_has_one_successor() {
        let keys = keys();
        let session = SessionId(Uuid::now_v7());
        let first = keys.first(session);
        assert_eq!(first.text().len(), TEXT_LEN);
        assert_eq!(keys.read(&first.text()), Some(first.clone()));
        assert_eq!(first.session(), session);
        let next = keys.successor(&first);
        assert_eq!(next, keys.successor(&first));
        assert_ne!(next, first);
        assert_eq!(next.session(), session);
        assert_ne!(keys.first(session), keys.first(session));
    }

    #[test]
    fn a_token_that_was_not_issued_here_is_none() {
        let keys = keys();
        let text = keys.first(SessionId(Uuid::now_v7())).text();
        for index in 0..text.len() {
            let mut other = text.clone().into_bytes();
            other[index] = if other[index] == b'A' { b'B' } else { b'A' };
            assert_eq!(keys.read(std::str::from_utf8(&other).unwrap()), None, "byte {index}");
        }
        for garbage in ["", "x", &text[1..], &format!("{text}="), &"é".repeat(43), "a.b.c"] {
            assert_eq!(keys.read(garbage), None);
        }
        let elsewhere = RefreshKeys::new(&[3; 32], &[2; 32]);
        assert_eq!(elsewhere.read(&text), None);
    }

    #[test]
    fn case_98_debug_output_shows_no_secret() {
        let keys = keys();
        let token = keys.first(SessionId(Uuid::now_v7()));
        let shown = format!("{token:?} {keys:?} {:?}", token.digest());
        assert!(!shown.contains(&token.text()[30..50]));
        assert!(shown.contains("RefreshToken(") && shown.contains("Digest(…)"));
    }
}
