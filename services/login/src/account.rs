//! What is kept about a person, and the rules of the name that others are shown.

use std::time::SystemTime;

use flaghoist_runtime::names::UserId;
use unicode_normalization::UnicodeNormalization as _;

use crate::handle::Handle;

/// The most characters of a display name.
const DISPLAY_NAME_MAX_CHARACTERS: usize = 64;

/// A person.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Account {
    pub(crate) user: UserId,
    pub(crate) handle: Handle,
    pub(crate) display_name: DisplayName,
    pub(crate) admin: bool,
    pub(crate) disabled: bool,
    pub(crate) created_at: SystemTime,
    /// Free text; empty where the person has not said.
    pub(crate) postal_address: String,
    /// A tag such as `zh-CN`; empty where the person has not said.
    pub(crate) language: String,
}

/// What a person changes of what they say of themselves; what is not there stays.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct AccountChange {
    pub(crate) display_name: Option<DisplayName>,
    pub(crate) postal_address: Option<String>,
    pub(crate) language: Option<String>,
}

/// What a sign-in needs to know of an account.
#[derive(Clone)]
pub(crate) struct Credentials {
    pub(crate) account: Account,
    /// argon2id in PHC form.
    pub(crate) password_hash: String,
    /// Rises whenever sessions opened before must not live on.
    pub(crate) version: i64,
    /// Whether the person has asked for deletion, which is not finished.
    pub(crate) deleting: bool,
    /// Whether the issuer has yet to be told something about the person.
    pub(crate) untold: bool,
    /// Whether the password alone does not do.
    pub(crate) second_factor: bool,
    /// Whether the person has a security key.
    pub(crate) security_key: bool,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Credentials")
            .field("account", &self.account)
            .field("version", &self.version)
            .field("deleting", &self.deleting)
            .field("untold", &self.untold)
            .field("second_factor", &self.second_factor)
            .field("security_key", &self.security_key)
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// Whether the person may sign in at all.
    pub(crate) fn usable(&self) -> bool {
        !self.account.disabled && !self.deleting
    }
}

/// An account that is to be made.
pub(crate) struct NewAccount {
    pub(crate) user: UserId,
    pub(crate) handle: Handle,
    pub(crate) display_name: DisplayName,
    pub(crate) password_hash: String,
    pub(crate) created_at: SystemTime,
}

impl std::fmt::Debug for NewAccount {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("NewAccount").field("user", &self.user).field("handle", &self.handle).finish_non_exhaustive()
    }
}

/// What people are shown of a person: one line of visible text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct DisplayName(String);

/// What was typed is no display name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("is not 1 to {DISPLAY_NAME_MAX_CHARACTERS} characters of text in one line")]
pub(crate) struct BadDisplayName;

impl DisplayName {
    /// Reads a name as typed: composed, without white space around it.
    pub(crate) fn read(typed: &str) -> Result<Self, BadDisplayName> {
        let composed: String = typed.trim().nfc().collect();
        let length = composed.chars().count();
        if !(1..=DISPLAY_NAME_MAX_CHARACTERS).contains(&length) || composed.chars().any(steers) {
            return Err(BadDisplayName);
        }
        Ok(Self(composed))
    }

    /// The handle, for those who gave no name.
    pub(crate) fn of_handle(handle: &Handle) -> Self {
        Self(handle.as_str().to_owned())
    }

    /// A name as the store gives it back.
    pub(crate) fn stored(name: String) -> Self {
        Self(name)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn into_string(self) -> String {
        self.0
    }
}

/// Control characters, line ends, and the marks that turn the direction of text that follows.
fn steers(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_display_name_is_one_line_of_text() {
        assert_eq!(DisplayName::read("  Zoe\u{308} 🦀 ").unwrap().as_str(), "Zo\u{eb} 🦀");
        for typed in ["", "  ", "a\nb", "a\0b", "\u{202e}evil", "a\u{2028}b", &"x".repeat(65)] {
            assert_eq!(DisplayName::read(typed), Err(BadDisplayName), "{typed:?}");
        }
    }
}
