//! Handles: the names by which people find one another, in one spelling however they were typed.
//!
//! A handle is normalised here and nowhere else: NFKC, case folding, NFKC once more; what is left must be 2 to 32 of
//! `a-z0-9._-`. So `John`, `JOHN` and the full-width form are one handle, and no handle can look like another by means of
//! letters from elsewhere.

use std::fmt;

use unicode_normalization::UnicodeNormalization;

/// The fewest characters of a handle.
const LENGTH_MIN: usize = 2;
/// The most characters of a handle.
const LENGTH_MAX: usize = 32;
/// What is read at all; anything longer cannot become a handle.
const TYPED_BYTES_MAX: usize = 512;

/// A handle in its normal form.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) struct Handle(String);

/// What was typed is no handle.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("is not a handle: 2 to 32 letters a-z, digits, `.`, `_` or `-`")]
pub struct BadHandle;

impl Handle {
    /// Reads a handle in any spelling.
    pub(crate) fn read(typed: &str) -> Result<Self, BadHandle> {
        if typed.len() > TYPED_BYTES_MAX {
            return Err(BadHandle);
        }
        let composed: String = typed.nfkc().collect();
        let normal: String = caseless::default_case_fold_str(&composed).nfkc().collect();
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        // The form is ASCII from here on, so bytes are characters.
        if (LENGTH_MIN..=LENGTH_MAX).contains(&normal.len()) && normal.bytes().all(allowed) {
            Ok(Self(normal))
        } else {
            Err(BadHandle)
        }
    }

    /// Reads a handle as people write it in a conversation, with or without a leading `@`.
    pub(crate) fn read_mention(typed: &str) -> Result<Self, BadHandle> {
        Self::read(typed.strip_prefix(['@', '\u{ff20}']).unwrap_or(typed))
    }

    /// A handle as the store gives it back.
    pub(crate) fn stored(normal: String) -> Self {
        Self(normal)
    }

    /// Stands for what was typed in place of a handle, where that is to be answered like a handle which nobody has.
    /// Its text is none that a handle can have, and one that every store takes: PostgreSQL takes no NUL.
    pub(crate) fn nobodys(typed: &str) -> Self {
        Self(format!("?{}", typed.replace('\0', "?")))
    }

    /// The normal form.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests;
