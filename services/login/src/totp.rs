//! One-time codes of an authenticator app (RFC 6238): SHA-1, six digits, 30 seconds, one step to either side for clocks that are a
//! little off. That a code works once is the store's part, which keeps the step that was matched last.

use std::fmt;

use flaghoist_runtime::names::UserId;
use flaghoist_runtime::seal::{SealError, Sealed, Sealer};
use secrecy::{ExposeSecret as _, SecretString};
use totp_rs::{Builder, Secret, Totp};
use zeroize::Zeroizing;

/// RFC 4226 §4 recommends 160 bits.
const SECRET_BYTES: usize = 20;
const DIGITS: usize = 6;

/// What an authenticator app and the store share. It is wiped when dropped and never shown.
pub(crate) struct TotpSecret(Zeroizing<[u8; SECRET_BYTES]>);

/// Six digits, as typed. They are wiped when dropped and never shown.
#[derive(Clone)]
pub(crate) struct TotpCode(SecretString);

impl TotpCode {
    /// Reads six ASCII digits.
    pub(crate) fn read(typed: String) -> Option<Self> {
        let typed = Zeroizing::new(typed);
        let digits = typed.len() == DIGITS && typed.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| Self(SecretString::from(typed.as_str())))
    }
}

impl TotpSecret {
    /// A new secret.
    pub(crate) fn generate() -> Self {
        Self(Zeroizing::new(rand::random()))
    }

    /// The secret of a person as the store keeps it.
    pub(crate) fn open(sealer: &Sealer, user: UserId, sealed: &Sealed) -> Result<Self, SealError> {
        let name = seal_name(user);
        let plain = sealer.open(&name, sealed)?;
        match <[u8; SECRET_BYTES]>::try_from(plain.as_slice()) {
            Ok(bytes) => Ok(Self(Zeroizing::new(bytes))),
            Err(_) => Err(SealError::Broken { name }),
        }
    }

    /// What the store keeps: nobody else's row can hold it.
    pub(crate) fn seal(&self, sealer: &Sealer, user: UserId) -> Result<Sealed, SealError> {
        sealer.seal(&seal_name(user), &self.0[..])
    }

    /// The same sealed with the newest key, if it is not already.
    pub(crate) fn reseal(&self, sealer: &Sealer, user: UserId, sealed: &Sealed) -> Result<Option<Sealed>, SealError> {
        if sealed.with == sealer.id() { Ok(None) } else { self.seal(sealer, user).map(Some) }
    }

    /// The step of a code, if it is one of those of `now_seconds` since 1970 or its neighbours.
    pub(crate) fn step_of(&self, code: &TotpCode, now_seconds: u64) -> Option<i64> {
        let step = self.generator("", "").check(code.0.expose_secret(), now_seconds)?;
        i64::try_from(step).ok()
    }

    /// The secret for those who type it into their app, in base 32.
    pub(crate) fn typed(&self) -> SecretString {
        SecretString::from(Secret::new_stack(*self.0).to_base32())
    }

    /// The same as an address that an app reads from a QR code; `host` is where the account is.
    pub(crate) fn uri(&self, host: &str, handle: &str) -> SecretString {
        let issuer = host.replace(':', " ");
        // Handles have no colon, and a label that has one is the only thing that is refused.
        SecretString::from(self.generator(&issuer, handle).to_url().unwrap_or_default())
    }

    /// A code, as an app would show it.
    #[cfg(test)]
    pub(crate) fn code(&self, at_seconds: u64) -> String {
        self.generator("", "").generate(at_seconds).to_string()
    }

    /// The secret that was typed into an app.
    #[cfg(test)]
    pub(crate) fn of_typed(typed: &str) -> Self {
        let secret = Secret::try_from_base32(typed).unwrap();
        Self(Zeroizing::new(secret.as_bytes().try_into().unwrap()))
    }

    /// SHA-1, six digits, 30 seconds and one step to either side are the builder's own settings.
    fn generator(&self, issuer: &str, handle: &str) -> Totp {
        let named = Builder::new().with_secret(Secret::new_stack(*self.0));
        named.with_issuer(Some(issuer)).with_account_name(handle).build_noncompliant()
    }
}

fn seal_name(user: UserId) -> String {
    format!("the TOTP secret of {}", user.name())
}

impl fmt::Debug for TotpSecret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("TotpSecret(…)")
    }
}

impl fmt::Debug for TotpCode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("TotpCode(…)")
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn code(text: &str) -> TotpCode {
        TotpCode::read(text.to_owned()).unwrap()
    }

    #[test]
    fn codes_are_those_of_rfc_6238() {
        let secret = TotpSecret(Zeroizing::new(*b"12345678901234567890"));
        // Appendix B has eight digits, of which an app shows the last six.
        for (at, eight) in [(59, "94287082"), (1_111_111_109, "07081804"), (20_000_000_000, "65353130")] {
            assert_eq!(secret.code(at), eight[2..]);
            assert_eq!(secret.step_of(&code(&eight[2..]), at), Some(i64::try_from(at).unwrap() / 30));
        }
    }

    #[test]
    fn case_83_a_code_is_good_one_step_to_either_side_and_no_further() {
        let secret = TotpSecret::generate();
        let now = 1_800_000_015;
        for steps in [-1_i64, 0, 1] {
            let at = now + steps * 30;
            let shown = secret.code(u64::try_from(at).unwrap());
            assert_eq!(secret.step_of(&code(&shown), u64::try_from(now).unwrap()), Some(at / 30), "{steps}");
        }
        for steps in [-2_i64, 2, -3, 3] {
            let shown = secret.code(u64::try_from(now + steps * 30).unwrap());
            // Of a million codes this one may be one of the three by chance.
            let near = [-1, 0, 1].map(|near: i64| secret.code(u64::try_from(now + near * 30).unwrap()));
            let chance = near.contains(&shown);
            assert!(chance || secret.step_of(&code(&shown), u64::try_from(now).unwrap()).is_none(), "{steps}");
        }
        for typed in ["12345", "1234567", "\u{661}\u{662}\u{663}", "+12345", "12345 ", "", "12e456", "\u{661}2345"] {
            assert!(TotpCode::read(typed.to_owned()).is_none(), "{typed}");
        }
    }

    #[test]
    fn a_secret_is_read_from_its_own_row_and_an_app_reads_the_address() {
        let sealer = Sealer::new(&[1; 32]).unwrap();
        let (alice, bob) = (UserId(Uuid::now_v7()), UserId(Uuid::now_v7()));
        let secret = TotpSecret::generate();
        let sealed = secret.seal(&sealer, alice).unwrap();
        assert!(!sealed.bytes.windows(SECRET_BYTES).any(|part| part == &secret.0[..]));
        assert_eq!(*TotpSecret::open(&sealer, alice, &sealed).unwrap().0, *secret.0);
        assert!(matches!(TotpSecret::open(&sealer, bob, &sealed), Err(SealError::Broken { .. })));
        let typed = secret.typed();
        assert_eq!(*TotpSecret::of_typed(typed.expose_secret()).0, *secret.0);
        let expected = format!(
            "otpauth://totp/chat.example.com%208443:alice?secret={}&issuer=chat.example.com%208443",
            typed.expose_secret()
        );
        assert_eq!(secret.uri("chat.example.com:8443", "alice").expose_secret(), expected);
        assert_eq!(format!("{secret:?} {:?}", code("123456")), "TotpSecret(…) TotpCode(…)");
    }
}
