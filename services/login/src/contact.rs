//! Contacts: the email address and the phone number of a person, each read and normalised in one place.

use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

/// The longest email address (RFC 5321 §4.5.3.1.3 less its brackets).
const EMAIL_MAX_BYTES: usize = 254;
/// The longest part before the `@` (RFC 5321 §4.5.3.1.1).
const LOCAL_MAX_BYTES: usize = 64;
/// How many digits a phone number has (E.164: 15 at most; fewer than 7 are none that is called from abroad).
const PHONE_DIGITS: std::ops::RangeInclusive<usize> = 7..=15;
/// How many digits a code has.
const CODE_DIGITS: usize = 8;

/// A kind of contact.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub(crate) enum ContactKind {
    /// An email address.
    Email,
    /// A phone number.
    Phone,
}

/// A contact in its normal form.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Contact {
    pub(crate) kind: ContactKind,
    pub(crate) value: String,
}

/// The contacts of a person.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Contacts {
    /// Those that their owner has shown to read, and since when (milliseconds).
    pub(crate) verified: Vec<(Contact, i64)>,
    /// Those to which a code was sent that nobody has brought yet.
    pub(crate) pending: Vec<Contact>,
}

/// What was typed is no contact.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum BadContact {
    /// No email address.
    #[error("is not an email address like name@example.com, of ASCII letters and at most {EMAIL_MAX_BYTES} bytes")]
    Email,
    /// No phone number.
    #[error("is not a phone number like +49 30 123456, with its country code")]
    Phone,
}

impl ContactKind {
    /// As it is kept.
    pub(crate) fn number(self) -> i16 {
        match self {
            Self::Email => 1,
            Self::Phone => 2,
        }
    }

    /// The kind that is kept as this number.
    pub(crate) fn of_number(number: i16) -> Option<Self> {
        [Self::Email, Self::Phone].into_iter().find(|kind| kind.number() == number)
    }

    /// Its name in requests, figures and keys of attempts.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Phone => "phone",
        }
    }
}

impl Contact {
    /// Reads an email address or a phone number.
    pub(crate) fn read(kind: ContactKind, typed: &str) -> Result<Self, BadContact> {
        let value = match kind {
            ContactKind::Email => read_email(typed).ok_or(BadContact::Email)?,
            ContactKind::Phone => read_phone(typed).ok_or(BadContact::Phone)?,
        };
        Ok(Self { kind, value })
    }
}

impl Contacts {
    /// The one of a kind that is verified.
    pub(crate) fn verified(&self, kind: ContactKind) -> Option<&Contact> {
        self.verified.iter().map(|(contact, _)| contact).find(|contact| contact.kind == kind)
    }
}

/// Letters are lowered, the domain is written as the name service knows it. Only ASCII is taken before the `@`, so that no letter is
/// mistaken for another one of the same look, and a message goes where the owner reads it and nowhere else.
fn read_email(typed: &str) -> Option<String> {
    let (local, domain) = typed.trim().rsplit_once('@')?;
    let atom = |atom: &str| {
        !atom.is_empty()
            && atom.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte))
    };
    if local.len() > LOCAL_MAX_BYTES || !local.split('.').all(atom) {
        return None;
    }
    let url::Host::Domain(domain) = url::Host::parse(domain).ok()? else { return None };
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let email = format!("{}@{domain}", local.to_ascii_lowercase());
    let known = domain.contains('.') && domain.split('.').all(label) && email.len() <= EMAIL_MAX_BYTES;
    known.then_some(email)
}

/// What people write between the digits is left out.
fn read_phone(typed: &str) -> Option<String> {
    let digits = typed.trim().strip_prefix('+')?;
    if !digits.chars().all(|letter| letter.is_ascii_digit() || " -./()".contains(letter)) {
        return None;
    }
    let digits: String = digits.chars().filter(char::is_ascii_digit).collect();
    (PHONE_DIGITS.contains(&digits.len()) && !digits.starts_with('0')).then(|| format!("+{digits}"))
}

/// A code that was sent to a contact. It is wiped when dropped and never shown.
#[derive(Clone)]
pub(crate) struct ContactCode(SecretString);

impl ContactCode {
    /// A new one.
    pub(crate) fn generate() -> Self {
        let number = rand::random_range(0..10_u64.pow(8));
        Self(SecretString::from(format!("{number:0CODE_DIGITS$}")))
    }

    /// Reads eight ASCII digits, with or without spaces between them.
    pub(crate) fn read(typed: &str) -> Option<Self> {
        let digits: String = typed.chars().filter(|letter| !letter.is_whitespace()).collect();
        let right = digits.len() == CODE_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
        right.then(|| Self(SecretString::from(digits)))
    }

    /// The digits, for the one message that carries them.
    pub(crate) fn text(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for ContactCode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("ContactCode(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn email(typed: &str) -> Option<String> {
        Contact::read(ContactKind::Email, typed).ok().map(|contact| contact.value)
    }

    fn phone(typed: &str) -> Option<String> {
        Contact::read(ContactKind::Phone, typed).ok().map(|contact| contact.value)
    }

    #[test]
    fn an_address_has_one_form() {
        for (typed, read) in [
            ("  Alice.Liddell+chat@Example.COM ", "alice.liddell+chat@example.com"),
            ("bob@B\u{fc}cher.example", "bob@xn--bcher-kva.example"),
            ("o'hara@mail.example.org", "o'hara@mail.example.org"),
        ] {
            assert_eq!(email(typed).as_deref(), Some(read), "{typed}");
        }
        let long = format!("{}@{}.example", "a".repeat(64), vec!["b".repeat(60); 3].join("."));
        assert!(email(&long).is_none(), "{} bytes", long.len());
        for typed in [
            "",
            "alice",
            "@example.com",
            "alice@",
            "a b@example.com",
            "alice@example",
            "alice@[127.0.0.1]",
            "alice@127.0.0.1",
            ".alice@example.com",
            "a..b@example.com",
            "\"a b\"@example.com",
            "alice@exa mple.com",
            "a@b@example.com ",
            "al\u{131}ce@example.com",
            "alice@example.com\r\nBcc: eve@example.com",
            "alice@-example.com",
            "a\0@example.com",
            "alice@example..com",
            "alice@example.com.",
            "alice@_x.example.com",
        ] {
            assert!(email(typed).is_none(), "{typed:?}");
        }
        assert!(email(&format!("{}@example.com", "a".repeat(65))).is_none());
    }

    #[test]
    fn a_number_has_one_form() {
        assert_eq!(phone(" +49 (30) 123-456/7 ").as_deref(), Some("+49301234567"));
        for typed in [
            "",
            "+",
            "030 123456",
            "+0301234567",
            "+123456",
            "+1234567890123456",
            "+49x30123456",
            "+\u{661}234567",
            "+49\n30123456",
        ] {
            assert!(phone(typed).is_none(), "{typed:?}");
        }
    }

    #[test]
    fn a_code_is_eight_digits() {
        let code = ContactCode::generate();
        assert_eq!((code.text().len(), format!("{code:?}").as_str()), (8, "ContactCode(…)"));
        assert_eq!(
            ContactCode::read(&format!(" {} {} ", &code.text()[..4], &code.text()[4..])).unwrap().text(),
            code.text()
        );
        for typed in ["", "1234567", "123456789", "1234567a", "\u{661}234567", "-1234567"] {
            assert!(ContactCode::read(typed).is_none(), "{typed:?}");
        }
    }
}
