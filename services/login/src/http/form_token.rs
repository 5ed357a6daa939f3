//! What makes a form one that this browser was given: a cookie with random bytes, and in the form a keyed digest of it and of what the
//! form is for. Nothing is stored, and every pod reads what another has made.

use aws_lc_rs::{constant_time, hmac};

const COOKIE_BYTES: usize = 16;

/// Makes and reads the tokens of forms.
pub(crate) struct FormKey(hmac::Key);

impl FormKey {
    /// The key that all pods share.
    pub(crate) fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// A value for the cookie of a browser that has none.
    pub(crate) fn cookie() -> String {
        hex(&rand::random::<[u8; COOKIE_BYTES]>())
    }

    /// Whether `cookie` looks like one that was made here.
    pub(crate) fn made_here(cookie: &str) -> bool {
        cookie.len() == 2 * COOKIE_BYTES && cookie.bytes().all(|byte| byte.is_ascii_hexdigit())
    }

    /// The token of a form that answers `challenge`, for the browser with this cookie.
    pub(crate) fn token(&self, cookie: &str, challenge: &str) -> String {
        hex(hmac::sign(&self.0, signed(cookie, challenge).as_bytes()).as_ref())
    }

    /// A value for one purpose that only who has the secret of a cookie is given. `purpose` is a word, which no cookie is.
    pub(crate) fn derived(&self, purpose: &str, secret: &str) -> String {
        hex(hmac::sign(&self.0, format!("{purpose} {secret}").as_bytes()).as_ref())
    }

    /// Whether `given` is that.
    pub(crate) fn is_derived(&self, purpose: &str, secret: &str, given: &str) -> bool {
        constant_time::verify_slices_are_equal(self.derived(purpose, secret).as_bytes(), given.as_bytes()).is_ok()
    }

    /// Whether `token` is that of a form.
    pub(crate) fn opens(&self, cookie: &str, challenge: &str, token: &str) -> bool {
        let expected = self.token(cookie, challenge);
        Self::made_here(cookie) && constant_time::verify_slices_are_equal(expected.as_bytes(), token.as_bytes()).is_ok()
    }
}

impl std::fmt::Debug for FormKey {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("FormKey")
    }
}

/// The cookie has a length of its own, so no two pairs read alike.
fn signed(cookie: &str, challenge: &str) -> String {
    format!("{cookie} {challenge}")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_22_a_form_opens_for_its_browser_and_its_challenge_alone() {
        let (key, other) = (FormKey::new(b"key"), FormKey::new(b"other"));
        let (mine, yours) = (FormKey::cookie(), FormKey::cookie());
        let token = key.token(&mine, "challenge");
        assert!(key.opens(&mine, "challenge", &token));
        assert!(!key.opens(&yours, "challenge", &token));
        assert!(!key.opens(&mine, "another", &token));
        assert!(!key.opens(&mine, "challenge", "") && !key.opens("", "challenge", &key.token("", "challenge")));
        assert!(!other.opens(&mine, "challenge", &token));
    }
}
