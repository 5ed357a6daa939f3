//! Authorization codes: what one is good for, and whether who brings it may have that.

use std::fmt;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flaghoist_runtime::names::{SessionId, UserId};
use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

use crate::authorization::{AuthorizationRequest, Recognised};
use crate::moment::Moment;
use crate::refresh_token::{Digest, random_bytes};
use crate::scope::Scopes;

/// A secret of 256 random bits that a browser or a client holds. Only its digest is kept.
pub(crate) struct Secret(String);

impl Secret {
    /// A new one.
    pub(crate) fn random() -> Self {
        let mut bytes = random_bytes::<32>();
        let text = URL_SAFE_NO_PAD.encode(bytes);
        bytes.zeroize();
        Self(text)
    }

    /// What is kept of it.
    pub(crate) fn digest(&self) -> Digest {
        Digest::of(self.0.as_bytes())
    }

    /// The secret, for its one holder.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// What an authorization code is good for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Code {
    pub(crate) client_id: String,
    pub(crate) redirect_uri: String,
    pub(crate) code_challenge: Option<String>,
    pub(crate) nonce: Option<String>,
    pub(crate) scopes: Scopes,
    pub(crate) amr: Vec<String>,
    /// Milliseconds since 1970.
    pub(crate) authenticated_at_ms: i64,
    pub(crate) userinfo_claims: Vec<String>,
    pub(crate) id_token_claims: Vec<String>,
    /// The thumbprint of the key that whoever redeems it has to prove (`dpop_jkt`, RFC 9449 §10).
    #[serde(default)]
    pub(crate) key_thumbprint: Option<String>,
}

/// A code as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeptCode {
    /// The session that it gives; chosen with the code, so that a replay knows what to end.
    pub(crate) session: SessionId,
    pub(crate) user: UserId,
    pub(crate) code: Code,
    pub(crate) expires_at: Moment,
    /// The cookie of the browser in which the person was signed in: the session that it gives ends when they sign out there.
    pub(crate) browser: Option<Digest>,
}

/// A code as a client brings it.
#[derive(Debug)]
pub(crate) struct Redemption<'a> {
    pub(crate) client_id: &'a str,
    /// Where the code was sent to; `None` if the client does not say.
    pub(crate) redirect_uri: Option<&'a str>,
    /// Empty if none was sent.
    pub(crate) verifier: &'a str,
    /// The thumbprint of the key that was proven.
    pub(crate) key: Option<&'a str>,
}

impl Code {
    /// What `person` gives the client that sent `request`.
    pub(crate) fn new(client_id: &str, request: AuthorizationRequest, person: &Recognised) -> Self {
        Self {
            client_id: client_id.to_owned(),
            redirect_uri: request.redirect_uri,
            code_challenge: request.code_challenge,
            nonce: request.nonce,
            scopes: request.scopes,
            amr: person.amr.clone(),
            authenticated_at_ms: person.authenticated_at.0,
            userinfo_claims: request.userinfo_claims,
            id_token_claims: request.id_token_claims,
            key_thumbprint: request.key_thumbprint,
        }
    }

    /// Whether it is for whoever brings it.
    pub(crate) fn is_for(&self, redemption: &Redemption<'_>) -> bool {
        let proven = match &self.code_challenge {
            Some(challenge) => challenge_of(redemption.verifier).is_some_and(|answer| answer == *challenge),
            // Without a challenge a verifier says that the client had sent one, and someone has taken it out (RFC 9700 §4.8.2).
            None => redemption.verifier.is_empty(),
        };
        let holds_key = self.key_thumbprint.as_deref().is_none_or(|key| redemption.key == Some(key));
        // OAuth 2.1 sends no address any more, for the verifier says what it said; one that is sent is looked at.
        let same_address = match redemption.redirect_uri {
            Some(address) => address == self.redirect_uri,
            None => self.code_challenge.is_some(),
        };
        proven && holds_key && same_address && self.client_id == redemption.client_id
    }
}

/// The challenge that goes with a verifier (RFC 7636 §4.2, S256); none if it is no verifier.
fn challenge_of(verifier: &str) -> Option<String> {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    let good = (43..=128).contains(&verifier.len()) && verifier.bytes().all(letter);
    good.then(|| URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7636, appendix B.
    const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

    #[test]
    fn case_27_to_30_a_code_is_for_its_client_address_and_verifier() {
        let code = |code_challenge: Option<&str>| Code {
            client_id: "app".into(),
            redirect_uri: "https://app.example.com/cb".into(),
            code_challenge: code_challenge.map(str::to_owned),
            nonce: None,
            scopes: Scopes::OPENID,
            amr: Vec::new(),
            authenticated_at_ms: 0,
            userinfo_claims: Vec::new(),
            id_token_claims: Vec::new(),
            key_thumbprint: None,
        };
        let redirect_uri = Some("https://app.example.com/cb");
        let right = || Redemption { client_id: "app", redirect_uri, verifier: VERIFIER, key: None };
        let guarded = code(Some(CHALLENGE));
        assert!(guarded.is_for(&right()));
        for verifier in ["", CHALLENGE, &VERIFIER[1..], &format!("{VERIFIER}=")] {
            assert!(!guarded.is_for(&Redemption { verifier, ..right() }), "{verifier}");
        }
        assert!(!guarded.is_for(&Redemption { client_id: "other", ..right() }));
        assert!(!guarded.is_for(&Redemption { redirect_uri: Some("https://app.example.com/"), ..right() }));
        assert!(guarded.is_for(&Redemption { redirect_uri: None, ..right() }));
        assert!(code(None).is_for(&Redemption { verifier: "", ..right() }));
        assert!(!code(None).is_for(&right()), "a verifier where no challenge was");
        let bound = Code { key_thumbprint: Some("mine".into()), ..guarded.clone() };
        assert!(bound.is_for(&Redemption { key: Some("mine"), ..right() }));
        for key in [None, Some("other"), Some("")] {
            assert!(!bound.is_for(&Redemption { key, ..right() }), "{key:?}");
        }
        assert!(guarded.is_for(&Redemption { key: Some("any"), ..right() }), "no key was asked for");
    }
}
