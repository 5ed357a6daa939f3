//! Proofs of possession at the endpoints that give tokens (DPoP, RFC 9449): the key that a client proves, to which its tokens are bound.

use axum::http::HeaderMap;
use flaghoist_runtime::token::proof::{PROOF_HEADER, Requested};
use flaghoist_runtime::token::{Proof, ProofError};

use super::Issuer;
use crate::access_token::Confirmation;
use crate::client::Client;
use crate::error::Error;
use crate::moment::Moment;
use crate::refresh_token::Digest;
use crate::store::grants::Once;

/// Who asks for tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker<'a> {
    pub(crate) client: &'a Client,
    /// Where the request comes from; empty if the listener did not say.
    pub(crate) address: &'a str,
    /// The proof of a key that came with the request, if one did. It is used up with what it gives, and not before: who brings nothing
    /// that is worth anything is nobody, and writes nothing.
    pub(crate) proof: Option<&'a Proof>,
}

impl<'a> Asker<'a> {
    /// A client at an address, with the proof of its key. One that is registered to prove one must.
    pub(crate) fn new(client: &'a Client, address: &'a str, proof: Option<&'a Proof>) -> Result<Self, Error> {
        if client.registration.dpop_bound && proof.is_none() {
            return Err(Error::ProofInvalid(ProofError::Missing));
        }
        Ok(Self { client, address, proof })
    }

    /// The thumbprint of the key that it proves, if any.
    pub(crate) fn key(&self) -> Option<&'a str> {
        self.proof.map(|proof| proof.thumbprint.as_str())
    }

    /// What is good once about its proof.
    pub(crate) fn once(&self) -> Option<Once> {
        self.proof.map(once)
    }

    /// What an access token is bound to.
    pub(crate) fn confirmation(&self) -> Option<Confirmation<'a>> {
        self.key().map(|jkt| Confirmation { jkt })
    }

    /// The key to which refresh tokens are bound: those of a public client, which could be used by whoever finds them otherwise. A
    /// confidential one proves itself at every refresh, and may take another key (RFC 9449 §5).
    pub(crate) fn refresh_key(&self) -> Option<&'a str> {
        self.key().filter(|_| !self.client.confidential())
    }
}

fn once(proof: &Proof) -> Once {
    let id = Digest::of(format!("dpop proof\n{}\n{}", proof.thumbprint, proof.id).as_bytes());
    Once { id, over_at: Moment(proof.over_at().saturating_mul(1000)) }
}

/// What is answered to a proof of this key that was used before.
pub(crate) fn replayed(key_thumbprint: Option<&str>) -> Error {
    tracing::warn!(target: "audit", event = "proof_replayed", key_thumbprint);
    Error::ProofInvalid(ProofError::Replayed)
}

impl Issuer {
    /// The proof among the headers of a request to `path` of the issuer. Nothing is written yet: a client that has to send it again with a
    /// nonce has lost nothing.
    pub(crate) fn read_proof(&self, headers: &HeaderMap, path: &str) -> Result<Option<Proof>, Error> {
        if !headers.contains_key(PROOF_HEADER) {
            return Ok(None);
        }
        self.read_proof_for(headers, &self.path_of(path))
    }

    /// The path that clients know of an endpoint: the issuer's address may have one itself.
    pub(crate) fn path_of(&self, endpoint: &str) -> String {
        let base = url::Url::parse(&self.url).map(|url| url.path().trim_end_matches('/').to_owned());
        base.unwrap_or_default() + endpoint
    }

    /// The same for a call over gRPC, whose path no gateway changes.
    pub(crate) fn read_proof_for(&self, headers: &HeaderMap, path: &str) -> Result<Option<Proof>, Error> {
        let now = self.clock.now();
        let requested = Requested { method: "POST", path, now: now.seconds() };
        let proof = Proof::among(headers, requested, &self.verifier.addresses()).map_err(Error::ProofInvalid)?;
        let fresh = |proof: &Proof| proof.nonce.as_ref().is_some_and(|nonce| self.nonces.good(nonce, now));
        if proof.as_ref().is_some_and(|proof| !fresh(proof)) {
            return Err(Error::ProofNonceRequired);
        }
        Ok(proof)
    }

    /// Uses the proof up that came with a request, if one did: right before what it gives, of somebody who has shown more than a client's id.
    /// Of any number of uses of one proof, on whatever pods, one comes to that.
    pub(crate) async fn use_proof(&self, proof: Option<&Proof>) -> Result<(), Error> {
        let Some(proof) = proof else { return Ok(()) };
        let Once { id, over_at } = once(proof);
        let first = self.store.use_once(id, over_at, self.clock.now()).await?;
        if first { Ok(()) } else { Err(replayed(Some(&proof.thumbprint))) }
    }

    /// The nonce for the next proof of whoever has sent one with `headers`.
    pub(crate) fn nonce_for(&self, headers: &HeaderMap) -> Option<String> {
        headers.contains_key(PROOF_HEADER).then(|| self.nonces.at(self.clock.now()))
    }
}
