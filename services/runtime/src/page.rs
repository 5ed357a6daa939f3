//! Page tokens: where a list goes on, sealed so that nobody can make or change one, and bound to the request it was given out for.

use aws_lc_rs::{constant_time, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::Code;

use crate::fault::{Fault, Reason};

/// How many bytes of the authentication code a token carries.
const MAC_BYTES: usize = 16;

/// The longest token that is looked at.
const TOKEN_MAX_BYTES: usize = 4096;

/// The key that page tokens are sealed with. All pods of a service share it.
pub struct PageKey(hmac::Key);

impl std::fmt::Debug for PageKey {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("PageKey")
    }
}

impl PageKey {
    /// The key made from `secret`.
    pub fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The token for `cursor`; `scope` is the method and the fixed parts of the request.
    pub fn seal<T: Serialize>(&self, scope: &str, cursor: &T) -> String {
        let mut sealed = vec![0; MAC_BYTES];
        if let Err(error) = serde_json::to_writer(&mut sealed, cursor) {
            // Only a cursor type that JSON cannot express; the list then just ends here.
            crate::fault::log_chain("writing a page token", &error);
            return String::new();
        }
        let mac = self.mac(scope, &sealed[MAC_BYTES..]);
        sealed[..MAC_BYTES].copy_from_slice(&mac.as_ref()[..MAC_BYTES]);
        URL_SAFE_NO_PAD.encode(sealed)
    }

    /// The cursor in `token`, if this key sealed it for the same `scope`.
    pub fn open<T: DeserializeOwned>(&self, scope: &str, token: &str) -> Result<T, Fault> {
        self.read(scope, token).ok_or_else(|| {
            let problem = "is not one that this method gave out for this request";
            Fault::new(Code::InvalidArgument, Reason::PageTokenInvalid, format!("page_token {problem}"))
                .violation("page_token", problem)
        })
    }

    fn read<T: DeserializeOwned>(&self, scope: &str, token: &str) -> Option<T> {
        if token.len() > TOKEN_MAX_BYTES {
            return None;
        }
        let sealed = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (mac, cursor) = sealed.split_at_checked(MAC_BYTES)?;
        constant_time::verify_slices_are_equal(&self.mac(scope, cursor).as_ref()[..MAC_BYTES], mac).ok()?;
        serde_json::from_slice(cursor).ok()
    }

    fn mac(&self, scope: &str, cursor: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.0);
        // The length keeps scope and cursor apart.
        context.update(&(scope.len() as u64).to_be_bytes());
        context.update(scope.as_bytes());
        context.update(cursor);
        context.sign()
    }
}

/// How long a page is: `default` if nothing was asked for, `max` at most.
pub fn page_size(asked: i32, default: u32, max: u32) -> u32 {
    match u32::try_from(asked) {
        Ok(0) | Err(_) => default.min(max),
        Ok(asked) => asked.min(max),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_token_opens_only_unaltered_and_for_its_request(
            cursor in any::<(u64, String)>(), scope in ".{0,40}", other in ".{0,40}", at in any::<prop::sample::Index>(), bit in 0..8u8,
        ) {
            let key = PageKey::new(b"secret");
            let token = key.seal(&scope, &cursor);
            prop_assert_eq!(key.open::<(u64, String)>(&scope, &token).unwrap(), cursor);
            if other != scope {
                prop_assert!(key.open::<(u64, String)>(&other, &token).is_err());
            }
            prop_assert!(PageKey::new(b"other").open::<(u64, String)>(&scope, &token).is_err());
            let mut altered = token.clone().into_bytes();
            let at = at.index(altered.len());
            altered[at] ^= 1 << bit;
            if let Ok(altered) = String::from_utf8(altered) {
                let fault = key.open::<(u64, String)>(&scope, &altered).unwrap_err();
                prop_assert_eq!(fault.reason(), Reason::PageTokenInvalid);
            }
        }

        #[test]
        fn no_text_makes_opening_panic(token in ".{0,200}") {
            prop_assert!(PageKey::new(b"secret").open::<u64>("scope", &token).is_err());
        }
    }

    #[test]
    fn a_page_has_its_bounds() {
        assert_eq!(
            [page_size(0, 50, 200), page_size(-1, 50, 200), page_size(7, 50, 200), page_size(500, 50, 200)],
            [50, 50, 7, 200]
        );
    }
}
