//! What a person has beside the password.

use std::time::SystemTime;

use flaghoist_runtime::seal::Sealed;

/// The second factors of a person. Recovery codes are none by themselves: they stand in for one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Factors {
    pub(crate) totp: Option<TotpTimes>,
    /// How many security keys and passkeys there are.
    pub(crate) keys: u32,
    /// How many are left.
    pub(crate) recovery_codes: u32,
}

/// An authenticator app as its owner sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TotpTimes {
    pub(crate) created_at: SystemTime,
    pub(crate) used_at: SystemTime,
}

/// An authenticator app as it is checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Totp {
    pub(crate) secret: Sealed,
    /// The step of the last code that was taken.
    pub(crate) last_step: i64,
}

/// A kind of second factor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FactorKind {
    /// A code of an authenticator app.
    Totp,
    /// A security key or a passkey.
    SecurityKey,
    /// A recovery code.
    RecoveryCode,
}

impl FactorKind {
    /// Its name in figures and in the keys of attempts.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Totp => "totp",
            Self::SecurityKey => "security_key",
            Self::RecoveryCode => "recovery_code",
        }
    }
}

impl Factors {
    /// What may be asked for after the password; nothing if that alone is enough.
    pub(crate) fn second(&self) -> Vec<FactorKind> {
        let mut kinds = Vec::new();
        if self.totp.is_some() {
            kinds.push(FactorKind::Totp);
        }
        if self.keys > 0 {
            kinds.push(FactorKind::SecurityKey);
        }
        if !kinds.is_empty() && self.recovery_codes > 0 {
            kinds.push(FactorKind::RecoveryCode);
        }
        kinds
    }
}

/// How someone proved who they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Proof {
    /// By the password.
    Password,
    /// By the password and a one-time code.
    PasswordAndCode,
    /// By the password and a security key.
    PasswordAndKey,
    /// By a passkey, which has asked for a PIN or a finger itself.
    Passkey,
}

impl Proof {
    /// The same in the words of RFC 8176, in which a recovery code is a one-time password.
    pub(crate) fn amr(self) -> Vec<String> {
        let words: &[&str] = match self {
            Self::Password => &["pwd"],
            Self::PasswordAndCode => &["pwd", "otp", "mfa"],
            // Whether a key is in hardware nobody vouches for.
            Self::PasswordAndKey => &["pwd", "pop", "mfa"],
            Self::Passkey => &["pop", "user", "mfa"],
        };
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    /// Whether it is good for an account that has a second factor.
    pub(crate) fn of_two(self) -> bool {
        self != Self::Password
    }
}
