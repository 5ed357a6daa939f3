//! Passwords: what is taken as one, in which form it is hashed, and which are too easily guessed.
//!
//! A password is the text as typed, any Unicode with spaces and NUL, never cut. One normalisation is made before hashing:
//! NFC, so that a letter with an accent is the same however a keyboard composes it. Nothing else is changed.

use std::collections::HashSet;
use std::fmt;
use std::sync::LazyLock;

use secrecy::{ExposeSecret as _, SecretString};
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};
use zeroize::Zeroize as _;

/// The fewest characters (Unicode scalar values, once normalised) of a new password.
const LENGTH_MIN_CHARACTERS: usize = 8;
/// The most bytes of a password as it was sent.
const LENGTH_MAX_BYTES: usize = 1024;
/// How much of either end of a password is estimated. The time for that grows much faster than the text: 100
/// characters chosen for it take over two seconds, 24 less than a tenth of one.
const ESTIMATED_CHARACTERS_MAX: usize = 24;
/// The commonest passwords, sorted, one a line, in the form of [`common_form`].
const COMMON: &str = include_str!("password/common.txt");

/// A password as it is hashed. It is wiped when dropped and never shown.
#[derive(Clone)]
pub(crate) struct Password(SecretString);

/// Why something is not taken as a password.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum BadPassword {
    /// Fewer characters than a new password needs.
    #[error("is shorter than {LENGTH_MIN_CHARACTERS} characters")]
    Short,
    /// More bytes than are read.
    #[error("is longer than {LENGTH_MAX_BYTES} bytes")]
    Long,
    /// Too easily guessed; the text says why and what helps.
    #[error("{0}")]
    Weak(String),
}

impl Password {
    /// Reads a password as it was sent and wipes what was sent.
    pub(crate) fn read(mut typed: String) -> Result<Self, BadPassword> {
        if typed.len() > LENGTH_MAX_BYTES {
            typed.zeroize();
            return Err(BadPassword::Long);
        }
        if is_nfc_quick(typed.chars()) == IsNormalized::Yes {
            return Ok(Self(SecretString::from(typed)));
        }
        // NFC at most triples the bytes; with room from the start no copy is left behind by growing.
        let mut normal = String::with_capacity(typed.len() * 3);
        normal.extend(typed.nfc());
        typed.zeroize();
        Ok(Self(SecretString::from(normal)))
    }

    /// The bytes to hash.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.expose_secret().as_bytes()
    }

    /// Whether it may become someone's password. `score_min` is of zxcvbn's scale from 0 to 4; `about` is what
    /// an attacker knows of the person, their handle and name. Takes some milliseconds: not for a runtime thread.
    pub(crate) fn check_new(&self, score_min: u8, about: &[&str]) -> Result<(), BadPassword> {
        let text = self.0.expose_secret();
        if text.chars().count() < LENGTH_MIN_CHARACTERS {
            return Err(BadPassword::Short);
        }
        if is_common(text) {
            return Err(BadPassword::Weak(
                "is one of the commonest passwords; use a few unrelated words instead".into(),
            ));
        }
        // The whole is at least as hard to guess as any part of it.
        let beginning = estimate(text.chars(), about);
        let strong = |estimate: &zxcvbn::Entropy| estimate.score() as u8 >= score_min;
        let long = || text.chars().nth(ESTIMATED_CHARACTERS_MAX).is_some();
        if strong(&beginning) || (long() && strong(&estimate(last(text), about))) {
            Ok(())
        } else {
            Err(BadPassword::Weak(advice(&beginning)))
        }
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Password(…)")
    }
}

/// Estimates the beginning of a text.
fn estimate(text: impl Iterator<Item = char>, about: &[&str]) -> zxcvbn::Entropy {
    let mut part: String = text.take(ESTIMATED_CHARACTERS_MAX).collect();
    let estimate = zxcvbn::zxcvbn(&part, about);
    part.zeroize();
    estimate
}

/// The last characters of a text that has more than are estimated.
fn last(text: &str) -> std::str::Chars<'_> {
    let begin = text.char_indices().rev().nth(ESTIMATED_CHARACTERS_MAX - 1).map_or(0, |(index, _)| index);
    text[begin..].chars()
}

/// What is said of a weak password. It names kinds of patterns and never a part of the password.
fn advice(estimate: &zxcvbn::Entropy) -> String {
    let mut text = String::from("is too easily guessed.");
    if let Some(feedback) = estimate.feedback() {
        for sentence in feedback
            .warning()
            .iter()
            .map(ToString::to_string)
            .chain(feedback.suggestions().iter().map(ToString::to_string))
        {
            text.push(' ');
            text.push_str(&sentence);
        }
    }
    text
}

/// The form in which common passwords are compared: case and width make none of them uncommon.
fn common_form(text: &str) -> String {
    let composed: String = text.nfkc().collect();
    caseless::default_case_fold_str(&composed).nfkc().collect()
}

fn is_common(text: &str) -> bool {
    static SET: LazyLock<HashSet<&str>> = LazyLock::new(|| COMMON.lines().collect());
    // The longest common one is far shorter than this.
    if text.len() > 256 {
        return false;
    }
    let mut form = common_form(text);
    let common = SET.contains(form.as_str());
    form.zeroize();
    common
}

#[cfg(test)]
mod tests;
