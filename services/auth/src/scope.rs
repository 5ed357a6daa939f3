//! What a token allows: a set of the scopes that are known.

use std::fmt;
use std::ops::{BitAnd, BitOr, Sub};

use serde::{Deserialize, Serialize};

/// Every scope that is known, in the order in which they are written.
pub(crate) const KNOWN: [&str; 9] =
    ["chat.read", "chat.send", "admin", "openid", "profile", "offline_access", "email", "phone", "address"];

/// A set of known scopes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Scopes(u16);

/// A scope was named that is not known.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UnknownScope;

impl Scopes {
    /// No scope.
    pub(crate) const NONE: Self = Self(0);
    /// Every known scope.
    #[cfg(test)]
    pub(crate) const ALL: Self = Self((1 << KNOWN.len()) - 1);
    /// The scope `admin`.
    pub(crate) const ADMIN: Self = Self(1 << 2);
    /// The scope `openid`: an ID token, and userinfo.
    pub(crate) const OPENID: Self = Self(1 << 3);
    /// The scope `profile`: what the person is called.
    pub(crate) const PROFILE: Self = Self(1 << 4);
    /// The scope `offline_access`: to go on when the person has signed out of the browser.
    pub(crate) const OFFLINE_ACCESS: Self = Self(1 << 5);
    /// The scope `email`.
    pub(crate) const EMAIL: Self = Self(1 << 6);
    /// The scope `phone`.
    pub(crate) const PHONE: Self = Self(1 << 7);
    /// The scope `address`.
    pub(crate) const ADDRESS: Self = Self(1 << 8);
    /// What the API of the chat knows.
    pub(crate) const API: Self = Self(0b111);

    /// The one scope called `name`, if it is known.
    pub(crate) fn named(name: &str) -> Option<Self> {
        KNOWN.iter().position(|known| *known == name).map(|bit| Self(1 << bit))
    }

    /// Reads scopes separated by spaces. Every one must be known.
    pub(crate) fn parse(text: &str) -> Result<Self, UnknownScope> {
        words(text).try_fold(Self::NONE, |all, name| Ok(all | Self::named(name).ok_or(UnknownScope)?))
    }

    /// Reads scopes separated by spaces and leaves out what is not known: how a store of a newer version is read.
    pub(crate) fn known_of(text: &str) -> Self {
        Self::of(words(text))
    }

    /// Those of `names` that are known.
    pub(crate) fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        names.into_iter().filter_map(Self::named).fold(Self::NONE, |all, one| all | one)
    }

    /// Whether all of `other` are in this set.
    pub(crate) fn includes(self, other: Self) -> bool {
        self & other == other
    }

    /// Whether there is none.
    pub(crate) fn empty(self) -> bool {
        self == Self::NONE
    }

    /// The names in their order.
    pub(crate) fn names(self) -> impl Iterator<Item = &'static str> {
        KNOWN.into_iter().enumerate().filter(move |(bit, _)| self.0 & (1 << bit) != 0).map(|(_, name)| name)
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(' ').filter(|word| !word.is_empty())
}

impl BitAnd for Scopes {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl BitOr for Scopes {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Sub for Scopes {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// As OAuth writes them: separated by spaces.
impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.names().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            f.write_str(name)?;
        }
        Ok(())
    }
}

impl Serialize for Scopes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Scopes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::known_of(&String::deserialize(deserializer)?))
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scopes({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_read_and_written_alike_in_any_order() {
        let scopes = Scopes::parse("admin  chat.read").unwrap();
        assert_eq!(scopes.to_string(), "chat.read admin");
        assert_eq!(Scopes::parse(&scopes.to_string()), Ok(scopes));
        assert_eq!(Scopes::parse(""), Ok(Scopes::NONE));
        assert_eq!(Scopes::parse("chat.read chat.fly"), Err(UnknownScope));
        assert_eq!(Scopes::known_of("chat.read chat.fly").to_string(), "chat.read");
        assert!(Scopes::ALL.includes(scopes) && !scopes.includes(Scopes::ALL));
        assert_eq!((Scopes::API - Scopes::ADMIN).to_string(), "chat.read chat.send");
        let sign_in = Scopes::parse("offline_access profile openid address phone email").unwrap();
        assert_eq!(sign_in, Scopes::ALL - Scopes::API);
        assert!(sign_in.includes(Scopes::OPENID) && sign_in.includes(Scopes::PROFILE));
    }
}
